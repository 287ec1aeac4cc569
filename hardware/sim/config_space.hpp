// sim/config_space.hpp -- the function's PCI configuration space.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cxlspeckv/block.hpp"

namespace speckv::sim {

class ConfigSpace {
 public:
  static constexpr std::size_t kBytes = 4096;

  ConfigSpace();
  // As after a reset.
  void reset();

  // REQUIRES: offset + size <= kBytes
  Bytes read(std::size_t offset, std::size_t size) const noexcept {
    return Bytes(bytes_).subspan(offset, size);
  }
  // What is read-only stays. True: the write asks for a reset of the function.
  bool write(std::size_t offset, Bytes value) noexcept;

  // Whether the function may reach memory, and raise interrupts.
  bool is_bus_master() const noexcept;

 private:
  void put(std::size_t offset, std::size_t size, std::uint64_t value) noexcept;
  void allow(std::size_t offset, std::size_t size, std::uint64_t mask) noexcept;
  void describe() noexcept;
  void describe_capabilities() noexcept;
  void describe_errors() noexcept;

  std::array<std::byte, kBytes> bytes_{}, writable_{};
};

}  // namespace speckv::sim

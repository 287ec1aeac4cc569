// engine/memory.hpp -- the bytes that descriptors can name, and every way to them.
//
// Device memory with its fast buffer and its poison, host memory behind a port, and the
// region table in front of both. Nothing outside a checked range is ever touched. One
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "cxlspeckv/block.hpp"

#include "engine/counters.hpp"

namespace speckv::engine {

// What a card reaches through its bus: host memory, and interrupts.
class HostPort {
 public:
  // The host memory at a bus address: as much of [address, address + length) as lies
  // together, at least one byte; empty if the card may not read (or write) there.
  virtual MutableBytes view(std::uint64_t address, std::uint64_t length,
                            bool writing) noexcept = 0;
  virtual void interrupt(std::uint32_t vector) noexcept = 0;

 protected:
  ~HostPort() = default;
};

// An entry of the region table.
struct Region {
  std::uint64_t base = 0, length = 0;
  std::uint32_t control = 0;
  bool is(Field bit) const noexcept { return bit.get(control) != 0; }
};

// A checked range of a region.
struct Place {
  Region region{};
  std::uint64_t offset = 0, length = 0;
};

class Memory {
 public:
  // `buffer_bytes`: of the fast buffer; rounded down to whole lines. `shared`: others may
  // store to `device` at any time.
  Memory(MutableBytes device, std::uint64_t buffer_bytes, bool shared, HostPort& port,
         Counters& counters);

  // The range, if that tenant may read (or write) it. REQUIRES: id < regions.size()
  static std::optional<Place> check(const std::vector<Region>& regions, std::uint32_t id,
                                    std::uint32_t tenant, std::uint64_t offset,
                                    std::uint64_t length, bool writing) noexcept;

  // ok, poison or bus_error. `crc` continues a CRC-32C over what was read or moved.
  Answer read(const Place& from, MutableBytes to);
  Answer write(const Place& to, Bytes from);
  Answer copy(const Place& from, const Place& to, std::uint32_t& crc);
  Answer fill(const Place& to, std::uint64_t pattern);
  Answer prefetch(const Place& from);

  // Empties the fast buffer and forgets poison and faults; the bytes stay.
  void forget() noexcept;
  void poison(std::uint64_t address) noexcept;
  void fail_next(bool writing) noexcept { (writing ? fail_write_ : fail_read_) = true; }

  std::uint64_t bytes() const noexcept { return device_.size(); }
  std::uint64_t buffer_bytes() const noexcept { return buffer_.size(); }
  static constexpr std::uint64_t kLine = 4096;    // of the fast buffer
  static constexpr std::uint64_t kPoisoned = 64;  // bytes poisoned together

 private:
  struct Run {
    MutableBytes bytes{};
    Answer answer = Answer::ok;
  };
  // As much of the place from `at` on as can be read (or written) in one piece.
  Run run(const Place& place, std::uint64_t at, bool writing);
  Run device_run(const Place& place, std::uint64_t at, bool writing);
  Run host_run(const Place& place, std::uint64_t at, bool writing);
  bool inside(std::uint64_t address, std::uint64_t length) const noexcept;
  bool poisoned(std::uint64_t address, std::uint64_t length) const noexcept;
  bool holds(std::uint64_t line) const noexcept;
  void written(std::uint64_t address, std::uint64_t length) noexcept;

  const MutableBytes device_;
  const bool shared_;
  HostPort& port_;
  Counters& counters_;
  std::vector<std::byte> buffer_;
  std::vector<std::uint64_t> tags_;  // by line of the buffer: device line + 1, or 0
  std::size_t lines_ = 0;            // tags that are not 0
  // Device addresses / kPoisoned. More than fit are injected in vain.
  std::array<std::uint64_t, 64> poison_{};
  std::size_t poison_count_ = 0;
  bool fail_read_ = false, fail_write_ = false;
};

}  // namespace speckv::engine

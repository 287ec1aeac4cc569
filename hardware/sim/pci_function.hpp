// sim/pci_function.hpp -- a card as a PCI function: BARs, configuration, DMA, MSI-X,
// reset.
//
// What a bus would tell a card, without the protocol that tells it. One thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "engine/contract.hpp"
#include "sim/card.hpp"
#include "sim/config_space.hpp"
#include "sim/file.hpp"
#include "sim/host_memory.hpp"

namespace speckv::sim {

class PciFunction final : private engine::HostPort {
 public:
  // Makes the card that stands on this function's bus, with that memory.
  using MakeCard =
      std::function<std::unique_ptr<Card>(MutableBytes memory, engine::HostPort& port)>;
  // `memory`: a file of `memory_bytes`, a multiple of 4096, which is the memory BAR.
  // nullptr: it cannot be mapped.
  static std::unique_ptr<PciFunction> create(File memory, std::uint64_t memory_bytes,
                                             const MakeCard& make_card);
  ~PciFunction();

  const File& memory_file() const noexcept { return memory_file_; }
  MutableBytes memory() const noexcept { return memory_; }
  // Whether others may store to the memory BAR where nobody sees it: then its file is for
  // all.
  bool memory_is_shared() const { return !card_->snoops(); }
  HostMemory& host_memory() noexcept { return host_memory_; }

  // Reads and writes of any size and place in BAR0. What is not a whole word changes
  // nothing. REQUIRES: inside of the BAR.
  void read_registers(std::uint64_t offset, MutableBytes to);
  void write_registers(std::uint64_t offset, Bytes from);
  // REQUIRES: inside of the memory BAR.
  void write_memory(std::uint64_t offset, Bytes from);
  // REQUIRES: inside of the configuration space.
  void read_config(std::size_t offset, MutableBytes to) const noexcept;
  void write_config(std::size_t offset, Bytes from);

  // Where a vector's interrupts go; a closed file: nowhere. REQUIRES: vector < kVectors
  void route(std::uint32_t vector, File eventfd) noexcept;
  // Works for a moment. True: there is more to do.
  bool run() { return !pulled_ && card_->run(); }
  void reset();
  // As if it was pulled out of its slot, for good: what is read is all ones, and nothing
  // else happens any more. Any thread, and signal handlers.
  void pull() noexcept { pulled_ = true; }

  // Accesses of host memory that the guest did not allow.
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  PciFunction(File memory_file, MutableBytes memory, const MakeCard& make_card);
  MutableBytes view(std::uint64_t address, std::uint64_t length,
                    bool writing) noexcept override;
  void interrupt(std::uint32_t vector) noexcept override;

  const File memory_file_;
  const MutableBytes memory_;
  ConfigSpace config_;
  HostMemory host_memory_;
  std::array<File, engine::kVectors> eventfds_{};
  std::uint64_t refused_ = 0;
  std::atomic<bool> pulled_{false};
  const std::unique_ptr<Card> card_;
};

}  // namespace speckv::sim

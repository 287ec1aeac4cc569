// support/engine_under_test.hpp -- an engine as its driver sees it.
//
// tests/conformance/engine_conformance.cpp is written against this: an engine that is to
// keep docs/queue-protocol.md needs an EngineUnderTest. Those that show their registers
// (the model, the software engine, RTL in simulation) only need a Bar0. One thread, but
// for queues: each of them belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cxlspeckv/block.hpp"

#include "engine/contract.hpp"

namespace speckv::test {

// What an engine says of itself.
struct EngineFacts {
  std::uint64_t features = 0, codecs = 0, memory = 0;
  std::uint32_t opcodes = 0, max_length = 0, max_layer = 0, block_tokens = 0;
  bool has(std::uint64_t feature) const noexcept { return (features & feature) != 0; }
  bool can(engine::Opcode opcode) const noexcept {
    return (opcodes >> static_cast<unsigned>(opcode) & 1) != 0;
  }
};

struct Access {
  bool read = true, write = true;
};

class QueueUnderTest {
 public:
  virtual ~QueueUnderTest() = default;
  virtual std::uint32_t depth() const = 0;
  // Takes what fits and rings the doorbell; returns how many.
  virtual std::size_t submit(std::span<const engine::Descriptor> batch) = 0;
  // What has completed, without waiting; or after waiting for at least one, which is a
  // failure if none comes within half a minute.
  virtual std::vector<engine::CompletionEntry> poll() = 0;
  virtual std::vector<engine::CompletionEntry> wait() = 0;
  // The step doorbell.
  virtual void step(std::uint32_t step) = 0;
};

// Registers and interrupts of an engine that shows them.
class Bar0 {
 public:
  virtual ~Bar0() = default;
  virtual std::uint32_t read32(std::uint32_t offset) = 0;
  virtual void write32(std::uint32_t offset, std::uint32_t value) = 0;
  // Zeroed host memory, 4096-byte aligned, that lives as long as this; and the bus
  // address of any byte in it.
  virtual MutableBytes allocate(std::size_t bytes) = 0;
  virtual std::uint64_t bus_address(const std::byte* at) = 0;
  // The doorbell page where it is memory; nullptr: only write32() reaches it.
  virtual std::byte* doorbell_page(std::uint32_t queue) = 0;
  virtual void kick() = 0;
  // Interrupts of a vector so far.
  virtual std::uint64_t interrupts(std::uint32_t vector) = 0;
  // Lets the engine work, or sleeps, until the vector has had more than `seen`
  // interrupts. False: half a minute has passed.
  virtual bool wait_interrupt(std::uint32_t vector, std::uint64_t seen) = 0;
  // Lets the engine work (a moment; a model that only works when asked: all there is).
  virtual void run() = 0;
};

class EngineUnderTest {
 public:
  virtual ~EngineUnderTest() = default;
  virtual EngineFacts facts() = 0;
  // Host memory that outlives the engine's use of it.
  virtual MutableBytes allocate(std::size_t bytes) = 0;
  virtual std::uint32_t host_region(std::uint32_t tenant, MutableBytes memory,
                                    Access access = {}) = 0;
  virtual std::uint32_t card_region(std::uint32_t tenant, std::uint64_t offset,
                                    std::uint64_t length, Access access = {}) = 0;
  // Whether Access{false, true} can be had: the kernel interface does not offer it.
  virtual bool has_write_only_regions() const { return true; }
  virtual void drop_region(std::uint32_t id) = 0;
  virtual std::unique_ptr<QueueUnderTest> open_queue(std::uint32_t tenant,
                                                     std::uint32_t depth_log2) = 0;
  virtual Bar0* bar0() { return nullptr; }
};

// The driver's part for an engine that shows its registers.
std::unique_ptr<EngineUnderTest> engine_on(std::unique_ptr<Bar0> bar0);

// The model, which works when it is asked to, and the same with a thread of its own.
std::unique_ptr<Bar0> model_bar0(std::uint64_t memory_bytes);
// The model without its optional parts: no fast buffer, no directory, no PREDICT.
std::unique_ptr<Bar0> bare_model_bar0(std::uint64_t memory_bytes);
std::unique_ptr<Bar0> soft_bar0(std::uint64_t memory_bytes);
// The model as a PCI function behind a socket of vfio-user: hardware/sim.
std::unique_ptr<Bar0> vfio_user_bar0(std::uint64_t memory_bytes);

// Registers by window.
constexpr std::uint32_t queue_register(std::uint32_t queue, std::uint32_t offset) {
  return engine::kQueueWindow + queue * engine::kQueueStride + offset;
}
constexpr std::uint32_t region_register(std::uint32_t region, std::uint32_t offset) {
  return engine::kRegionWindow + region * engine::kRegionStride + offset;
}
constexpr std::uint32_t doorbell_register(std::uint32_t queue, std::uint32_t offset) {
  return engine::kDoorbellWindow + queue * engine::kDoorbellStride + offset;
}
std::uint64_t read64(Bar0& bar0, std::uint32_t offset);
void write64(Bar0& bar0, std::uint32_t offset, std::uint64_t value);

}  // namespace speckv::test

// cxlspeckv/device.hpp -- somewhere bytes can be put.
//
// Two kinds. A *memory* device is mapped: the store copies and encodes on the calling
// thread, straight into memory(). A *queue* device is reached by transfers through queue
// pairs. The library implements none of them: host/ does (open_device()), and tests bring
// their own.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

namespace speckv {

// ---- Memory is named by region and offset, never by address ------------------------

// Given out by whoever keeps the region table (BlockStore::attach); 0 is never valid.
enum class RegionId : std::uint32_t {};

// A run of bytes in registered memory: host memory, a GPU's, or a card's own.
struct Segment {
  RegionId region{};
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// ---- Device ------------------------------------------------------------------------

struct DeviceInfo {
  std::string name{};           // the URI that opened it: "file:/path?size=8G"
  std::uint64_t capacity = 0;   // in bytes, a multiple of `alignment`
  std::uint32_t alignment = 1;  // of every device offset, length and memory address
  bool memory = false;          // mapped: memory() is the whole device
  bool persistent = false;      // flushed bytes survive the process, and a power cut
  bool shared = false;          // another process that opens the name sees the same bytes
  bool simulated = false;       // stands in for hardware that is not there
  int numa_node = -1;           // of memory devices that are bound to one
  std::string note{};           // what a person should know: "io_uring is refused: ..."
  // A transfer that is not answered by then counts as lost, and the tier is fenced.
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);
};

// One unit of work of a queue. `memory` is lent until the completion with `tag`.
struct Transfer {
  enum class Op : std::uint8_t {
    read,   // device -> memory
    write,  // memory -> device
    flush,  // every write completed before this was submitted becomes durable
  };

  Op op = Op::read;
  std::uint64_t offset = 0;  // on the device; the length is that of `memory`
  Segment memory{};
  std::uint64_t tag = 0;  // the caller's own
};

struct Completion {
  std::uint64_t tag = 0;
  Code code = Code::ok;  // invalid_argument: misaligned, outside the device or its region
};

// A queue pair: one thread, hence no locks (wake() apart). Destroying one waits for what
// it accepted, at most DeviceInfo::timeout.
class Queue {
 public:
  virtual ~Queue() = default;

  // Takes transfers from the front of `batch` until the queue is full, rings the doorbell
  // once, and returns how many it took. A bad transfer is taken and completes with a
  // code.
  virtual std::size_t submit(std::span<const Transfer> batch) noexcept = 0;

  // Moves what has completed into `out` without blocking; returns how many. Every
  // accepted transfer completes exactly once, in any order.
  virtual std::size_t poll(std::span<Completion> out) noexcept = 0;

  // Sleeps until poll() has something, wake() was called since the last wait, or
  // `at_most` has passed.
  virtual void wait(std::chrono::nanoseconds at_most) noexcept = 0;

  // Ends the wait() in progress, or the next one. Any thread.
  virtual void wake() noexcept = 0;
};

// Shared and, apart from its region table, immutable once opened: any thread may use it.
class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const noexcept = 0;

  // The mapped bytes of a memory device; empty for a queue device.
  virtual MutableBytes memory() noexcept { return {}; }

  // Makes host memory nameable in transfers. invalid_argument: the id is taken or 0.
  virtual Status attach(RegionId region, MutableBytes memory) = 0;
  // not_found: no such region. REQUIRES: nothing in flight on it.
  virtual Status detach(RegionId region) = 0;

  // depth: transfers in flight, 1..4096. Memory devices have queues too (a flush of a
  // persistent one goes through them).
  virtual Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) = 0;
};

}  // namespace speckv

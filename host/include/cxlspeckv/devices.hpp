// cxlspeckv/devices.hpp -- the doors to the machine: devices by name, shared memory.
//
// Device names are URIs (docs/operations.md has the grammar):
//   dram:4G              anonymous memory, huge pages where the kernel gives them
//   numa:1?size=4G       memory of one NUMA node: a CXL expander shows up as one
//   dax:/path?size=8G    a devdax device, or any file that can be mapped; persistent
//   file:/path?size=8G   a file or block device through io_uring and O_DIRECT; persistent
//   shm:/name?size=4G    shared memory, seen by every process that opens the name
//   soft:?size=1G        the card's engine in software; sim: its RTL, where linked in
//   cxl:/dev/speckv0     memory of a card, through its driver; size=: what is left of it
// Sizes take K, M, G, T (powers of 1024); what exists may be opened without one.
// Parameters of all: throttle=PRESET (see throttled()), timeout=SECONDS; of file:
// direct=0|1, engine=uring|pread. Unknown schemes and parameters are invalid_argument.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cxlspeckv/device.hpp"
#include "cxlspeckv/operation.hpp"
#include "cxlspeckv/store.hpp"

namespace speckv {

// Who else may have what is behind a file: or dax: device open. shm: is always shared.
enum class DeviceUse : std::uint8_t {
  own,   // nobody, until the device is closed, or its process ends
  look,  // anybody: nothing is created, enlarged or locked, and nothing may be written
};

// Any thread. A device outlives its queues.
// no_space: a disk or node without room for the size. busy: somebody else has it. What is
// refused leaves nothing behind.
Result<std::shared_ptr<Device>> open_device(std::string_view uri,
                                            DeviceUse use = DeviceUse::own);

// "4G" -> 4294967296. invalid_argument: not a size, or not below 2^63.
Result<std::uint64_t> parse_size(std::string_view text);

// What a link costs: every transfer takes at least `latency`, and bytes flow at
// `bandwidth` in total. Virtual time is not used: transfers really take that long.
struct LinkModel {
  std::chrono::nanoseconds latency{0};
  double bytes_per_second = 0;  // 0: unlimited
};
// As `throttle` of a device name takes it: "dram", "cxl", "cxl-far", "nvme", "gbe".
Result<LinkModel> find_link_model(std::string_view preset);

// `inner` behind that link. Always a queue device, even where `inner` is memory.
std::shared_ptr<Device> throttled(std::shared_ptr<Device> inner, LinkModel link);

// The index memory of a store shared by name: a mapping that every process which opens
// `name` ("shm:/kv", or the path of a pool file, however spelled) sees, and a claim on an
// owner id that the kernel drops when this process dies, however it dies. (A child of
// fork() inherits the claim: it lasts until both have let go.) `bytes` as in
// index_bytes(). IndexMemory::fresh is true for one opener, which formats it and stores a
// first word that is not 0 last of all; should it die before, the next to find nobody
// attached is fresh. invalid_argument: exists with another size. busy: 64 processes are
// attached. not_found: no such pool file. corrupted: its header is not ours.
Result<IndexMemory> open_index_memory(std::string_view name, std::uint64_t bytes);
// The first `bytes` of it as they are now, without attaching, and how many processes are
// attached. not_found: nobody ever opened the name, or it was removed.
struct IndexSnapshot {
  std::vector<std::byte> bytes{};
  std::uint32_t processes = 0;
};
Result<IndexSnapshot> peek_index_memory(std::string_view name, std::size_t bytes);
// Forgets the name; attached processes keep what they have.
Status remove_index_memory(std::string_view name);

// A CompletionQueue with an eventfd that becomes readable when it holds entries. One
// thread reads; drain() rearms it.
class EventfdCompletionQueue {
 public:
  static Result<std::unique_ptr<EventfdCompletionQueue>> create();
  ~EventfdCompletionQueue();
  int fd() const noexcept { return fd_; }
  CompletionQueue& queue() noexcept { return queue_; }
  // Takes entries, and clears the eventfd once none are left.
  std::size_t drain(std::span<CompletionQueue::Entry> out);

 private:
  explicit EventfdCompletionQueue(int fd) noexcept;
  int fd_;
  CompletionQueue queue_;
};

}  // namespace speckv

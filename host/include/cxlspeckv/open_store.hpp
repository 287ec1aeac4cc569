// cxlspeckv/open_store.hpp -- a store described in names, opened in one call.
//
// What the C API, speckvctl, the demo and bindings have in common: tiers by URI, codecs
// and policies by name, and a store that is shared by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cxlspeckv/inspect.hpp"
#include "cxlspeckv/store.hpp"

namespace speckv {

struct CodecConfig {
  LayerRange layers{};
  std::string codec{};
};

struct TierConfig {
  std::string device{};               // URI, as open_device() takes it
  std::string codec{};                // "": raw
  std::vector<CodecConfig> layers{};  // exceptions to `codec`; the last match counts
  std::string policy{};               // "": lru
  std::string name{};          // "": the URI's scheme and the tier's number, "dram0"
  std::uint64_t capacity = 0;  // bytes of the device to use; 0: all of it
  Admission admission = Admission::always;
};

struct StoreConfig {
  std::vector<BlockLayout> layouts{};
  std::vector<TierConfig> tiers{};  // fastest first
  // "": private: a pool of its is busy for others. Else the store of that name, shared by
  // every process that opens it with equal layouts, tiers and profile: "shm:/kv", or the
  // path of a pool file. Its "dram:" tiers are then shared memory that lasts until
  // remove_store().
  std::string name{};
  std::vector<std::byte> profile{};
  std::uint64_t max_blocks = 0;
  Clock* clock = nullptr;
  EventSink* events = nullptr;
  LogSink log{};
};

// Opens the devices, the shared index if there is a name, and the store. What is refused
// leaves files and shared memory as they were. A device's note goes to the log. Any
// thread.
Result<std::unique_ptr<BlockStore>> open_store(const StoreConfig& config);

// May look at the devices, wrap them, or choose layouts that suit them; may refuse.
using AdjustOptions = std::function<Status(StoreOptions&)>;

// open_store(), with the options as `adjust` leaves them: it is called once, when the
// devices of the tiers are open (not those of a named store's "dram:" tiers).
Result<std::unique_ptr<BlockStore>> open_store(const StoreConfig& config,
                                               const AdjustOptions& adjust);

// What its index says of a store of that name, whether or not it is open anywhere: a look
// that changes nothing. not_found: there is none.
Result<StoreInfo> inspect_store(const std::string& name);

// Forgets a shared store: its index and its tiers in memory, not its pool files.
// Processes that have it open keep what they have. not_found: there is none.
Status remove_store(const std::string& name);

}  // namespace speckv

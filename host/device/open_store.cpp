#include "cxlspeckv/open_store.hpp"

#include <utility>

#include <sys/mman.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/guarded.hpp"

#include "device/index_memory.hpp"
#include "device/store_opening.hpp"

namespace speckv {

Result<std::unique_ptr<BlockStore>> open_store(const StoreConfig& config) {
  return open_store(config, [](StoreOptions&) { return Status(); });
}

Result<std::unique_ptr<BlockStore>> open_store(const StoreConfig& config,
                                               const AdjustOptions& adjust) {
  return guarded([&]() -> Result<std::unique_ptr<BlockStore>> {
    StoreOpening opening(config);
    if (Status ready = opening.run(adjust); !ready.ok()) return ready;
    auto store = BlockStore::open(opening.take_options());
    if (store.ok()) opening.keep();
    return store;
  });
}

Result<StoreInfo> inspect_store(const std::string& name) {
  return guarded([&]() -> Result<StoreInfo> {
    auto front = peek_index_memory(name, index_front_bytes());
    if (!front) return front.error();
    auto info = inspect_index(front->bytes);
    if (info) info->processes = front->processes;
    return info;
  });
}

Status remove_store(const std::string& name) {
  return guarded([&]() -> Status {
    auto index = index_file(name);
    if (!index) return index.error();
    for (std::size_t tier = 0; tier < kMaxTiers; ++tier) {
      (void)::shm_unlink(shared_segment(*index, tier).c_str());  // most never existed
    }
    return remove_index_memory(name);
  });
}

}  // namespace speckv

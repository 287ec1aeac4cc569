// device/store_opening.hpp -- one open of a store, from its description to its devices.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "cxlspeckv/open_store.hpp"

#include "device/open.hpp"

namespace speckv {

// Where tier `number` of a named store keeps what would else be one process's memory: a
// name for shm_open(), beside the index_file() of the store.
std::string shared_segment(const std::string& index, std::size_t number);

// What it makes and locks on the way goes back to what it was unless keep() says that the
// open succeeded. One thread.
class StoreOpening {
 public:
  explicit StoreOpening(const StoreConfig& config) : config_(config) {}
  ~StoreOpening();
  StoreOpening(const StoreOpening&) = delete;
  StoreOpening& operator=(const StoreOpening&) = delete;

  // Looks up the names, opens the devices and, if the store has a name, its index. A
  // store's own shared memory comes last: only once it is clear that the index describes
  // a store like this one.
  Status run(const AdjustOptions& adjust);
  // REQUIRES: run() succeeded.
  StoreOptions take_options() { return std::move(options_); }
  void keep() noexcept { kept_ = true; }

 private:
  bool is_deferred(std::size_t tier) const;
  Status describe_tiers();
  Status open_devices();
  Status open_index();
  Status open_segments();
  Status open_tier(std::size_t tier, const std::string& uri);

  const StoreConfig& config_;
  StoreOptions options_{};
  Opening opening_{};
  std::size_t first_segment_ =
      0;                 // of opening_.claims: from here on, of this store alone
  IndexMemory index_{};  // a copy: the store takes the other, succeed or fail
  bool kept_ = false;
};

}  // namespace speckv

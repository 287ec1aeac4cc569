// host/demo/cache.hpp -- a BlockStore on devices that count for themselves.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cxlspeckv/store.hpp"

namespace speckv::demo {

// What passed through the queues of a device: the demo holds the store's own statistics
// against it.
struct DeviceBytes {
  std::atomic<std::uint64_t> written{0}, read{0};
};
std::shared_ptr<Device> counted(std::shared_ptr<Device> inner, DeviceBytes& bytes);

struct CacheOptions {
  std::vector<std::string> tiers{};  // URIs, fastest first
  const Codec* codec = nullptr;      // of every tier but the first, which stays plain
};

// A store of kv_layout() blocks. Any thread.
class Cache {
 public:
  // The store's or a device's error, which names the URI.
  static Result<std::unique_ptr<Cache>> open(const CacheOptions& options);

  BlockStore& store() noexcept { return *store_; }
  // Part of every key, and no other cache's: blocks that an earlier run left in a pool,
  // with another codec perhaps, must not stand in for this one's.
  const std::string& salt() const noexcept { return salt_; }
  const std::string& tier_name(std::size_t tier) const noexcept { return names_[tier]; }
  // A queue device's bytes pass through transfers; a memory device's do not, and are
  // nobody else's to count.
  bool counted(std::size_t tier) const noexcept { return !memory_[tier]; }
  const DeviceBytes& device_bytes(std::size_t tier) const noexcept {
    return *bytes_[tier];
  }

 private:
  Cache();
  std::string salt_;
  std::vector<std::string> names_{};
  std::vector<bool> memory_{};
  std::vector<std::unique_ptr<DeviceBytes>> bytes_{};
  std::unique_ptr<BlockStore> store_{};  // last: it uses the others until it is gone
};

// Bytes of fast memory that hold `blocks` blocks with what the store keeps beside them.
std::uint64_t bytes_for(std::uint64_t blocks) noexcept;
// Blocks that so many bytes hold.
std::uint64_t blocks_in(std::uint64_t bytes) noexcept;

// A pool file for the demo's own use, in a folder that is on a disk if there is one. Its
// name is removed when this goes: at once after opening, so that no way to end leaves it.
class TemporaryPool {
 public:
  static Result<TemporaryPool> create(std::uint64_t bytes);
  TemporaryPool(TemporaryPool&& other) noexcept;
  TemporaryPool& operator=(TemporaryPool&&) = delete;
  ~TemporaryPool();
  const std::string& uri() const noexcept { return uri_; }

 private:
  TemporaryPool(std::string path, std::uint64_t bytes);
  std::string path_, uri_;
};

}  // namespace speckv::demo

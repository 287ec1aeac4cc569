// store/tier_state.hpp -- a Tier at work: its device, extents, policy, codecs and
// counters.
//
// Any thread. The extents, the policy and the nodes' states are guarded by the tier's
// lock in the mapping (TierLock), which is taken after a shard's and never held across
// I/O.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cxlspeckv/store.hpp"

#include "base/mutex.hpp"
#include "codec/frame.hpp"
#include "store/extents.hpp"
#include "store/mapping.hpp"

namespace speckv {

// The codec of every layer of every layout, replaced as a whole when it changes.
struct CodecTable {
  std::vector<std::vector<const Codec*>> of_layout;
  LayerCodecs codecs(std::uint16_t layout) const noexcept {
    return LayerCodecs(std::span<const Codec* const>(of_layout[layout]));
  }
  bool all_raw(std::uint16_t layout) const noexcept {
    return std::all_of(of_layout[layout].begin(), of_layout[layout].end(),
                       [](const Codec* codec) { return codec->id() == CodecId::raw; });
  }
};

// Whether the layers are some layout's: a choice for layers that none has is a mistake.
bool any_has(const std::vector<BlockLayout>& layouts, LayerRange layers) noexcept;
Status no_such_layers();

// How a tier's device is cut up. A persistent device keeps a pool's records before its
// data.
struct TierGeometry {
  std::uint64_t unit = 64;         // bytes; every extent is a multiple
  std::uint32_t units = 0;         // of data
  std::uint32_t nodes = 0;         // records of extents
  std::uint64_t data_offset = 0;   // of unit 0 on the device
  std::uint64_t table_offset = 0;  // persistent: of the record table
};

// What is counted, as it stands now.
TierStats read_counters(const TierCounters& counters) noexcept;

class TierState {
 public:
  TierState(std::uint32_t number, Tier config, const TierGeometry& geometry,
            const std::vector<BlockLayout>& layouts);

  // Gives the tier its part of the mapping; formats it if that is fresh.
  void bind(Mapping& mapping) noexcept;

  const std::uint32_t number;
  const std::string name;
  const std::shared_ptr<Device> device;
  const Admission admission;
  const TierGeometry geometry;
  const bool memory;
  const bool persistent;

  std::uint64_t device_offset(const Node& node) const noexcept {
    return geometry.data_offset + std::uint64_t{node.offset} * geometry.unit;
  }
  // Where a node's bytes are mapped. REQUIRES: memory.
  MutableBytes bytes_of(const Node& node) const noexcept {
    return device->memory().subspan(device_offset(node), node.units * geometry.unit);
  }
  // 0 if the size can never fit.
  std::uint32_t units_for(std::uint64_t bytes) const noexcept;
  std::uint64_t plain_bytes(std::uint16_t layout) const noexcept {
    return layouts_[layout].bytes();
  }
  std::uint64_t capacity() const noexcept { return geometry.units * geometry.unit; }

  Node& node(std::uint32_t index) const noexcept { return nodes_[index]; }
  TierCounters& counters() const noexcept { return header_->counters; }
  TierHeader& header() const noexcept { return *header_; }

  std::shared_ptr<const CodecTable> codecs() const SPECKV_EXCLUDES(codec_mutex_);
  void set_codec(const Codec& codec, LayerRange layers) SPECKV_EXCLUDES(codec_mutex_);

  // A tier that fails is fenced: its blocks count as misses until a probe succeeds.
  bool fenced() const noexcept { return fenced_.load(std::memory_order_relaxed); }
  void set_fenced(bool fenced) noexcept {
    fenced_.store(fenced, std::memory_order_relaxed);
  }

  // Under TierLock.
  Extents& extents() noexcept { return *extents_; }
  Policy& policy() noexcept { return *policy_; }
  // Extents, and the policy's order, again from the nodes.
  void rebuild() noexcept;

 private:
  friend class TierLock;
  const std::vector<BlockLayout>& layouts_;
  std::unique_ptr<Policy> policy_;
  MutableBytes policy_state_{};
  Mapping* mapping_ = nullptr;
  TierHeader* header_ = nullptr;
  Node* nodes_ = nullptr;
  std::optional<Extents> extents_;
  std::atomic<bool> fenced_{false};
  mutable Mutex codec_mutex_;
  std::shared_ptr<const CodecTable> codecs_ SPECKV_GUARDED_BY(codec_mutex_);
};

// Holds a tier's lock, and repairs the tier first if the last holder died with it.
class SPECKV_SCOPED TierLock {
 public:
  explicit TierLock(TierState& tier) SPECKV_ACQUIRE(tier.header_->lock)
      : lock_(tier.header_->lock) {
    if (lock_.lock(tier.mapping_->self())) tier.rebuild();
  }
  ~TierLock() SPECKV_RELEASE() { lock_.unlock(); }
  TierLock(const TierLock&) = delete;
  TierLock& operator=(const TierLock&) = delete;

 private:
  RobustLock& lock_;
};

}  // namespace speckv

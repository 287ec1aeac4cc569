// predict/recent_table.hpp -- a map of a fixed number of keys that forgets the one that
// was touched longest ago. Nothing is allocated after it was made. One thread.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace speckv::predict {

template <class T>
class RecentTable {
 public:
  // REQUIRES: 1 <= capacity < 2^31.
  explicit RecentTable(std::uint32_t capacity)
      : slots_(capacity), buckets_(std::bit_ceil(capacity), kNone) {}

  std::uint32_t size() const noexcept { return used_ - free_count_; }

  T* find(std::uint64_t key) noexcept {
    const std::uint32_t at = slot_of(key);
    return at == kNone ? nullptr : &slots_[at].value;
  }
  const T* find(std::uint64_t key) const noexcept {
    const std::uint32_t at = slot_of(key);
    return at == kNone ? nullptr : &slots_[at].value;
  }

  // The value of the key, which becomes the most recent; `fresh`: it was not there, and
  // is what `blank` is.
  T& touch(std::uint64_t key, const T& blank, bool& fresh) noexcept {
    std::uint32_t at = slot_of(key);
    fresh = at == kNone;
    if (fresh) {
      if (size() == slots_.size()) erase(slots_[oldest_].key);
      at = free_ != kNone ? std::exchange(free_, slots_[free_].chain) : used_++;
      if (free_count_ > 0) --free_count_;
      slots_[at].key = key;
      slots_[at].value = blank;
      slots_[at].chain = std::exchange(bucket(key), at);
    } else {
      unlink(at);
    }
    slots_[at].newer = kNone;
    slots_[at].older = std::exchange(newest_, at);
    (slots_[at].older == kNone ? oldest_ : slots_[slots_[at].older].newer) = at;
    return slots_[at].value;
  }

  void erase(std::uint64_t key) noexcept {
    std::uint32_t* link = &bucket(key);
    while (*link != kNone && slots_[*link].key != key)
      link = &slots_[*link].chain;
    if (*link == kNone) return;
    const std::uint32_t at = std::exchange(*link, slots_[*link].chain);
    unlink(at);
    slots_[at].chain = std::exchange(free_, at);
    ++free_count_;
  }

  // The one touched longest ago. REQUIRES: size() > 0.
  std::pair<std::uint64_t, T*> oldest() noexcept {
    return {slots_[oldest_].key, &slots_[oldest_].value};
  }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Slot {
    std::uint64_t key = 0;
    std::uint32_t chain = kNone, older = kNone, newer = kNone;
    T value{};
  };

  std::size_t hash(std::uint64_t key) const noexcept {
    key = (key ^ key >> 32) * 0x9E3779B97F4A7C15;
    return (key >> 32) & (buckets_.size() - 1);
  }
  std::uint32_t& bucket(std::uint64_t key) noexcept { return buckets_[hash(key)]; }
  std::uint32_t slot_of(std::uint64_t key) const noexcept {
    std::uint32_t at = buckets_[hash(key)];
    while (at != kNone && slots_[at].key != key)
      at = slots_[at].chain;
    return at;
  }
  void unlink(std::uint32_t at) noexcept {
    const Slot& slot = slots_[at];
    (slot.older == kNone ? oldest_ : slots_[slot.older].newer) = slot.newer;
    (slot.newer == kNone ? newest_ : slots_[slot.newer].older) = slot.older;
  }

  std::vector<Slot> slots_;
  std::vector<std::uint32_t> buckets_;
  std::uint32_t used_ = 0, free_ = kNone, free_count_ = 0;
  std::uint32_t oldest_ = kNone, newest_ = kNone;
};

}  // namespace speckv::predict

// prefetch/ghost.hpp -- what tiers would hold if nothing were fetched ahead: counts of
// bytes a session and tier, and what each request would have waited for.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

namespace speckv::prefetch {

inline constexpr std::uint32_t kMostTiers = 8;

struct TierView {
  std::uint64_t capacity = 0;  // bytes
  double bytes_per_second =
      0;  // at which it is read; of the first: at which it is filled
};

// Sessions are small dense numbers. Not thread-safe.
class Ghost {
 public:
  // Larger is kept longer.
  using Order = std::function<double(std::uint32_t session, std::uint32_t tier)>;

  explicit Ghost(std::vector<TierView> tiers) : tiers_(std::move(tiers)) {}

  // A request of the session: its chain of `bytes`, of which `shared` may be there, comes
  // to the first tier. The seconds that it waits for those which are not.
  double arrived(std::uint32_t session, double bytes, double shared, const Order& order);
  // Bytes of the last such chain that might have been in the first tier and were not.
  double missed() const noexcept { return missed_; }
  void set_capacity(std::uint32_t tier, std::uint64_t bytes) noexcept {
    tiers_[tier].capacity = bytes;
  }
  // It is done: its blocks may go.
  void completed(std::uint32_t session) { grow(session).active = false; }

 private:
  struct Held {
    std::array<double, kMostTiers> bytes{};
    std::array<std::uint32_t, kMostTiers> listed{};  // place in its list, + 1
    bool active = false;
  };
  Held& grow(std::uint32_t session);
  void add(std::uint32_t session, std::uint32_t tier, double bytes);
  void make_room(std::uint32_t tier, const Order& order);

  std::vector<TierView> tiers_;
  std::vector<Held> held_;
  std::array<double, kMostTiers> used_{};
  std::array<std::vector<std::uint32_t>, kMostTiers> lists_;
  double missed_ = 0;
};

}  // namespace speckv::prefetch

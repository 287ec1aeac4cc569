#include "prefetch/ghost.hpp"

#include <algorithm>

namespace speckv::prefetch {
namespace {

constexpr double kNothing = 0.5;  // bytes: what is left by rounding

}  // namespace

Ghost::Held& Ghost::grow(std::uint32_t session) {
  if (held_.size() <= session) held_.resize(session + 1);
  return held_[session];
}

void Ghost::add(std::uint32_t session, std::uint32_t tier, double bytes) {
  Held& held = held_[session];
  held.bytes[tier] += bytes;
  used_[tier] += bytes;
  std::vector<std::uint32_t>& list = lists_[tier];
  if (held.bytes[tier] > kNothing && held.listed[tier] == 0) {
    list.push_back(session);
    held.listed[tier] = static_cast<std::uint32_t>(list.size());
  } else if (held.bytes[tier] <= kNothing && held.listed[tier] != 0) {
    const std::uint32_t place = held.listed[tier] - 1, moved = list.back();
    list[place] = moved;
    held_[moved].listed[tier] = place + 1;
    list.pop_back();
    held.listed[tier] = 0;
    held.bytes[tier] = 0;
  }
}

double Ghost::arrived(std::uint32_t session, double bytes, double shared,
                      const Order& order) {
  Held& held = grow(session);
  held.active = true;
  double left = shared - std::min(shared, held.bytes[0]), seconds = 0, loaded = 0;
  missed_ = left;
  for (std::uint32_t t = 1; t < tiers_.size(); ++t) {
    const double part = std::min(left, held.bytes[t]);
    seconds = std::max(seconds, part / tiers_[t].bytes_per_second);
    loaded += part;
    left -= part;
  }
  seconds = std::max(seconds, loaded / tiers_[0].bytes_per_second);
  for (std::uint32_t t = 0; t < tiers_.size(); ++t)
    add(session, t, (t == 0 ? bytes : 0) - held_[session].bytes[t]);
  for (std::uint32_t t = 0; t < tiers_.size(); ++t)
    make_room(t, order);
  return seconds;
}

void Ghost::make_room(std::uint32_t tier, const Order& order) {
  const auto capacity = static_cast<double>(tiers_[tier].capacity);
  while (used_[tier] > capacity + kNothing) {
    std::uint32_t worst = 0;
    double least = 1e300;
    for (const std::uint32_t session : lists_[tier]) {
      if (held_[session].active) continue;
      const double kept = order(session, tier);
      if (kept < least) {
        least = kept;
        worst = session;
      }
    }
    if (least == 1e300) return;
    const double part = std::min(held_[worst].bytes[tier], used_[tier] - capacity);
    add(worst, tier, -part);
    if (tier + 1 < tiers_.size()) add(worst, tier + 1, part);
  }
}

}  // namespace speckv::prefetch

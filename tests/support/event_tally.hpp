// support/event_tally.hpp -- counts a store's events by itself, for comparison with the
// numbers that the store keeps (R-TIER 03). Any thread.
#pragma once

#include <array>
#include <atomic>
#include <string>

#include "cxlspeckv/metrics.hpp"
#include "cxlspeckv/store.hpp"

namespace speckv::test {

class EventTally final : public EventSink {
 public:
  void event(const Event& event) noexcept override {
    ++counts_[event.tier][static_cast<std::size_t>(event.kind)];
  }
  std::uint64_t count(Event::Kind kind, std::size_t tier) const {
    return counts_[tier][static_cast<std::size_t>(kind)];
  }

  // "" or which numbers of which tiers disagree.
  std::string differs_from(const BlockStore& store) const {
    std::string text;
    for (std::size_t t = 0; t < store.tier_count(); ++t)
      text += differs_from(store.stats(t), t);
    return text;
  }

 private:
  std::string differs_from(const TierStats& stats, std::size_t tier) const {
    std::string text;
    const auto compare = [&](const char* what, std::uint64_t theirs, Event::Kind kind) {
      if (theirs == count(kind, tier)) return;
      text += "tier " + std::to_string(tier) + " " + what + ": " +
              std::to_string(theirs) + " counted, " + std::to_string(count(kind, tier)) +
              " events; ";
    };
    compare("hits", stats.hits, Event::Kind::load);
    compare("evictions", stats.evictions, Event::Kind::evict);
    compare("demotions", stats.demotions_in, Event::Kind::demote);
    compare("promotions", stats.promotions_in, Event::Kind::promote);
    compare("corrupted", stats.corrupted, Event::Kind::corrupted);
    return text;
  }

  static constexpr std::size_t kKinds = static_cast<std::size_t>(Event::Kind::fence) + 1;
  std::array<std::array<std::atomic<std::uint64_t>, kKinds>, kMaxTiers> counts_{};
};

}  // namespace speckv::test

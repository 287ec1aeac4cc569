// codec/slot_plan.hpp -- how many bytes each head of each layer gets, for a budget or for
// a loss (internal).
//
// A profile's losses say what K or V of a head costs at slots of some sizes. Curves
// through them are made convex, so that taking the 128 bytes that win most, again and
// again, is best for every budget: each step taken wins at least Lagrange's multiplier,
// no other one more. In whole numbers: the same plan on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/profile.hpp"

namespace speckv {

// What a writer of hxp keeps to.
struct SlotTarget {
  enum class Kind : std::uint8_t {
    table,            // the profile's slots for `value` bytes of 8192 values
    slot,             // `value` bytes of 8192 values, everywhere
    bytes_per_token,  // at most `value`, of all layers and heads
    loss,             // the fewest bytes that lose at most `value` millionths of KIVI-4
  };
  Kind kind = Kind::table;
  std::uint32_t value = 0;

  bool operator==(const SlotTarget&) const = default;
  bool operator<(const SlotTarget& other) const noexcept {
    return kind != other.kind ? kind < other.kind : value < other.value;
  }
};

// "hxp?slot=4096", "hxp?bytes_per_token=5760", "hxp?loss=0.36"; nullopt: nothing of that.
std::optional<SlotTarget> parse_slot_target(std::string_view name);
// The one name of a target that is no table.
std::string name_of(const SlotTarget& target);

// The codec that keeps to such a target; nullptr: no such name.
const Codec* targeted_hxp_codec(std::string_view name) noexcept;

// nullptr: not a codec of hxp.
const SlotTarget* slot_target_of(const Codec& codec) noexcept;

// What one head's K or V loses, by the steps of kSlotStep that its slot is above
// kLeastSlot.
struct LossCurve {
  static constexpr std::uint32_t kSteps =
      (ModelProfile::kMostSlot - ModelProfile::kLeastSlot) / ModelProfile::kSlotStep;
  static constexpr int kOneBits = 36;  // 2^36: what KIVI-4 loses in the whole model

  std::uint64_t first = 0;                  // at kLeastSlot; at most 2^42
  std::array<std::uint64_t, kSteps> won{};  // by each step more; none above the last
  std::uint64_t at(std::uint32_t steps) const noexcept;
};

// From logarithms at some sizes, in 256ths of an octave; between them linear, beyond
// them as at the ends. REQUIRES: sizes are 2 or more, ascending, logs as many.
LossCurve loss_curve(std::span<const std::uint32_t> sizes,
                     std::span<const std::int32_t> logs) noexcept;

struct Allocation {
  std::vector<std::uint8_t> steps{};  // by curve
  std::uint64_t taken = 0;            // their sum
  std::uint64_t loss = 0;             // in all
};

// The least loss of at most `most` steps; no more of them once it is at most `enough`,
// or nothing wins any more.
Allocation allocate_steps(std::span<const LossCurve> curves, std::uint64_t most,
                          std::uint64_t enough);

// By ModelProfile::index().
struct PlannedSlots {
  std::vector<std::uint16_t> slots{};
  std::uint64_t bytes = 0;  // their sum
  std::uint64_t loss = 0;
};

// Whether its losses can be used: there are some, and what codecs read unchecked is
// sound.
bool has_losses(const ModelProfile& profile) noexcept;

// REQUIRES: has_losses(profile), head < profile.heads()
LossCurve curve_of(const ModelProfile& profile, std::uint64_t head) noexcept;

// For bytes_per_token and loss; remembered, so that only the first call takes long (some
// microseconds a head). Any thread. REQUIRES: has_losses(profile)
std::shared_ptr<const PlannedSlots> plan_slots(const ModelProfile& profile,
                                               const SlotTarget& target);

}  // namespace speckv

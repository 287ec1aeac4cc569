#include "codec/slot_plan.hpp"

#include <algorithm>
#include <queue>
#include <utility>

#include "base/mutex.hpp"

namespace speckv {
namespace {

constexpr int kOctave = 256;  // of a logarithm
constexpr int kHighest = 6 * kOctave;

// 2^(parts / 256) * 2^30, below an octave.
constexpr std::uint64_t significand(std::uint32_t parts) noexcept {
  // 2^(1/2), 2^(1/4) ... 2^(1/256), times 2^30
  constexpr std::uint64_t kRoots[] = {1518500250, 1276901417, 1170923762, 1121280436,
                                      1097253708, 1085434106, 1079572136, 1076653033};
  std::uint64_t product = 1ULL << 30;
  for (std::uint32_t i = 0; i < 8; ++i)
    if ((parts >> (7 - i) & 1) != 0) product = product * kRoots[i] >> 30;
  return product;
}

// In units of 2^-kOneBits; at most 2^42, so that all of a model's fit into 64 bits.
std::uint64_t power(std::int64_t log) noexcept {
  log = std::min<std::int64_t>(log, kHighest);
  const auto octave = static_cast<int>(log >> 8) + LossCurve::kOneBits - 30;
  const std::uint64_t parts = significand(static_cast<std::uint32_t>(log & 255));
  if (octave >= 0) return parts << octave;
  return octave > -32 ? parts >> -octave : 0;
}

constexpr std::int64_t floor_div(std::int64_t n, std::int64_t d) noexcept {
  return n / d - (n % d < 0 ? 1 : 0);  // d > 0
}

std::int64_t log_at(std::uint32_t slot, std::span<const std::uint32_t> sizes,
                    std::span<const std::int32_t> logs) noexcept {
  if (slot <= sizes.front()) return logs.front();
  for (std::size_t i = 1; i < sizes.size(); ++i) {
    if (slot > sizes[i]) continue;
    const std::int64_t rise = std::int64_t{logs[i]} - logs[i - 1];
    return logs[i - 1] + floor_div(rise * (slot - sizes[i - 1]), sizes[i] - sizes[i - 1]);
  }
  return logs.back();
}

struct Step {
  std::uint64_t won;
  std::uint64_t curve;
  bool operator<(const Step& other) const noexcept {  // of equals the first curve's
    return won != other.won ? won < other.won : curve > other.curve;
  }
};

PlannedSlots make_plan(const ModelProfile& profile, const SlotTarget& target) {
  std::vector<LossCurve> curves(profile.heads());
  for (std::uint64_t head = 0; head < curves.size(); ++head)
    curves[head] = curve_of(profile, head);
  std::uint64_t most = ~0ULL, enough = 0;
  if (target.kind == SlotTarget::Kind::loss) {
    enough = (std::uint64_t{target.value} << LossCurve::kOneBits) / 1'000'000;
  } else {
    const std::uint64_t budget =
        std::uint64_t{target.value} * 8192 / profile.shape().head_dim;
    const std::uint64_t least = curves.size() * ModelProfile::kLeastSlot;
    most = budget > least ? (budget - least) / ModelProfile::kSlotStep : 0;
  }
  const Allocation found = allocate_steps(curves, most, enough);
  PlannedSlots plan;
  plan.loss = found.loss;
  plan.slots.reserve(curves.size());
  for (const std::uint8_t steps : found.steps) {
    const std::uint32_t slot = ModelProfile::kLeastSlot + steps * ModelProfile::kSlotStep;
    plan.slots.push_back(static_cast<std::uint16_t>(slot));
    plan.bytes += slot;
  }
  return plan;
}

// The plans that writers use now: a store has one a tier, and those before a change.
class Plans {
 public:
  std::shared_ptr<const PlannedSlots> find(const ModelProfile& profile,
                                           const SlotTarget& target)
      SPECKV_EXCLUDES(mutex_) {
    const Key key{profile.shape(), profile.checksum(), profile.losses_checksum(), target};
    const MutexLock lock(mutex_);
    for (const Entry& entry : entries_)
      if (entry.plan != nullptr && entry.key == key) return entry.plan;
    auto plan = std::make_shared<const PlannedSlots>(make_plan(profile, target));
    entries_[next_++ % std::size(entries_)] = {key, plan};
    return plan;
  }

 private:
  struct Key {
    ProfileShape shape{};
    std::uint32_t checksum = 0, losses_checksum = 0;
    SlotTarget target{};
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    Key key{};
    std::shared_ptr<const PlannedSlots> plan{};
  };
  Mutex mutex_;
  std::array<Entry, 32> entries_ SPECKV_GUARDED_BY(mutex_){};
  std::size_t next_ SPECKV_GUARDED_BY(mutex_) = 0;
};

}  // namespace

std::uint64_t LossCurve::at(std::uint32_t steps) const noexcept {
  std::uint64_t loss = first;
  for (std::uint32_t i = 0; i < std::min(steps, kSteps); ++i)
    loss -= won[i];
  return loss;
}

LossCurve loss_curve(std::span<const std::uint32_t> sizes,
                     std::span<const std::int32_t> logs) noexcept {
  std::uint64_t loss[LossCurve::kSteps + 1];
  for (std::uint32_t i = 0; i <= LossCurve::kSteps; ++i)
    loss[i] = power(
        log_at(ModelProfile::kLeastSlot + i * ModelProfile::kSlotStep, sizes, logs));
  LossCurve curve;
  curve.first = loss[0];
  // From each corner of the convex curve below them all to the next: where most is won a
  // step, the farther of equals.
  for (std::uint32_t at = 0; at < LossCurve::kSteps;) {
    std::uint64_t most = 0, steps = 1;  // won, in how many
    for (std::uint32_t to = at + 1; to <= LossCurve::kSteps; ++to) {
      if (loss[to] >= loss[at]) continue;
      const std::uint64_t won = loss[at] - loss[to];
      if (won * steps < most * (to - at)) continue;
      most = won;
      steps = to - at;
    }
    if (most < steps) break;
    for (const auto end = at + steps; at < end; ++at)
      curve.won[at] = most / steps;
  }
  return curve;
}

Allocation allocate_steps(std::span<const LossCurve> curves, std::uint64_t most,
                          std::uint64_t enough) {
  Allocation found;
  found.steps.resize(curves.size());
  std::vector<Step> first;
  first.reserve(curves.size());
  for (std::uint64_t i = 0; i < curves.size(); ++i) {
    first.push_back({curves[i].won[0], i});
    found.loss += curves[i].first;
  }
  std::priority_queue<Step> best(std::less<Step>(), std::move(first));
  while (!best.empty() && found.taken < most && found.loss > enough) {
    const Step step = best.top();
    if (step.won == 0) break;
    best.pop();
    ++found.taken;
    found.loss -= step.won;
    const std::uint32_t next = ++found.steps[step.curve];
    if (next < LossCurve::kSteps) best.push({curves[step.curve].won[next], step.curve});
  }
  return found;
}

bool has_losses(const ModelProfile& profile) noexcept {
  const std::uint32_t count = profile.shape().sizes;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t size = profile.size(i);
    if (size < ModelProfile::kLeastSlot || size > ModelProfile::kMostSlot ||
        (i > 0 && size <= profile.size(i - 1)))
      return false;
  }
  return count >= ModelProfile::kLeastLossSizes;
}

LossCurve curve_of(const ModelProfile& profile, std::uint64_t head) noexcept {
  std::uint32_t sizes[ModelProfile::kMostLossSizes];
  std::int32_t logs[ModelProfile::kMostLossSizes];
  const std::uint32_t count = profile.shape().sizes;
  for (std::uint32_t i = 0; i < count; ++i) {
    sizes[i] = profile.size(i);
    logs[i] = profile.loss(head, i);
  }
  return loss_curve(std::span(sizes).first(count), std::span(logs).first(count));
}

std::shared_ptr<const PlannedSlots> plan_slots(const ModelProfile& profile,
                                               const SlotTarget& target) {
  static Plans& plans = *new Plans;  // for threads that outlive static objects
  return plans.find(profile, target);
}

}  // namespace speckv

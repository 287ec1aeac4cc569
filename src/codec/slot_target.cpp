// What the names of hxp codecs ask for, and whether a profile can do it.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "codec/builtin.hpp"
#include "codec/slot_plan.hpp"

namespace speckv {
namespace {

using Kind = SlotTarget::Kind;

constexpr std::string_view kSlot = "hxp?slot=", kBytes = "hxp?bytes_per_token=",
                           kLoss = "hxp?loss=";
constexpr std::uint32_t kMostBytes = 1U << 30, kMillion = 1'000'000,
                        kMostLoss = 64 * kMillion, kDecimals = 6;

// Digits alone: no sign, no space, none left over.
std::optional<std::uint32_t> whole(std::string_view text) noexcept {
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

// "0.36" in millionths.
std::optional<std::uint32_t> millionths(std::string_view text) {
  const std::size_t point = std::min(text.find('.'), text.size());
  std::string digits(text.substr(0, point));
  std::string_view decimals;
  if (point < text.size()) {
    decimals = text.substr(point + 1);
    if (decimals.empty() || decimals.size() > kDecimals) return std::nullopt;
  }
  if (digits.empty()) return std::nullopt;
  digits += decimals;
  digits.append(kDecimals - decimals.size(), '0');
  return whole(digits);
}

std::string decimal(std::uint32_t of_a_million) {
  std::string text = std::to_string(of_a_million / kMillion);
  std::string rest = std::to_string(of_a_million % kMillion + kMillion);
  rest[0] = '.';
  while (rest.back() == '0')
    rest.pop_back();
  return rest.size() == 1 ? text : text + rest;
}

std::uint64_t heads_of(const BlockLayout& layout) noexcept {
  return layout.layers * layer_units(layout);
}

Status cannot(std::string_view name, const std::string& why) {
  return {Code::invalid_argument, "codec \"" + std::string(name) + "\": " + why};
}

Status check_bytes(std::string_view name, std::uint32_t bytes, std::uint64_t values) {
  const std::uint64_t least = (values * ModelProfile::kLeastSlot + 8191) / 8192,
                      most = values * ModelProfile::kMostSlot / 8192;
  if (bytes >= least && bytes <= most) return {};
  return cannot(name, "a token takes " + std::to_string(least) + " to " +
                          std::to_string(most) + " bytes");
}

// Millionths of KIVI-4's, rounded up.
std::uint32_t millionths_of(std::uint64_t loss) noexcept {
  const double exact = std::ceil(
      std::ldexp(static_cast<double>(loss), -LossCurve::kOneBits) * double{kMillion});
  return static_cast<std::uint32_t>(std::min(exact, double{UINT32_MAX}));
}

Status check_loss(std::string_view name, const SlotTarget& target,
                  const PlannedSlots& plan) {
  const std::uint32_t least = millionths_of(plan.loss);
  if (least <= target.value) return {};
  return cannot(name, "under this profile the loss is at least " + decimal(least));
}

// The predicted loss of slots that are no plan; between two steps, as at the lower one.
std::uint64_t loss_of(const ModelProfile& profile, std::span<const std::uint16_t> slots) {
  std::uint64_t loss = 0;
  for (std::uint64_t i = 0; i < slots.size(); ++i) {
    const std::uint32_t above =
        std::clamp<std::uint32_t>(slots[i], ModelProfile::kLeastSlot,
                                  ModelProfile::kMostSlot) -
        ModelProfile::kLeastSlot;
    loss += curve_of(profile, i).at(above / ModelProfile::kSlotStep);
  }
  return loss;
}

PlannedSlots slots_as_named(const ModelProfile& profile, const SlotTarget& target) {
  PlannedSlots plan;
  plan.slots.assign(profile.heads(), static_cast<std::uint16_t>(target.value));
  for (std::uint32_t i = 0; target.kind == Kind::table && i < profile.shape().targets;
       ++i) {
    if (profile.target(i) != target.value) continue;
    for (std::uint64_t head = 0; head < plan.slots.size(); ++head)
      plan.slots[head] = static_cast<std::uint16_t>(profile.slot(i, head));
  }
  for (const std::uint16_t slot : plan.slots)
    plan.bytes += slot;
  plan.loss = loss_of(profile, plan.slots);
  return plan;
}

}  // namespace

std::optional<SlotTarget> parse_slot_target(std::string_view name) {
  const auto starts = [&](std::string_view with) {
    if (!name.starts_with(with)) return false;
    name.remove_prefix(with.size());
    return true;
  };
  if (starts(kSlot)) {
    const auto slot = whole(name);
    if (!slot || *slot < ModelProfile::kLeastSlot || *slot > ModelProfile::kMostSlot ||
        *slot % ModelProfile::kSlotStep != 0)
      return std::nullopt;
    return SlotTarget{Kind::slot, *slot};
  }
  if (starts(kBytes)) {
    const auto bytes = whole(name);
    if (!bytes || *bytes == 0 || *bytes > kMostBytes) return std::nullopt;
    return SlotTarget{Kind::bytes_per_token, *bytes};
  }
  if (starts(kLoss)) {
    const auto loss = millionths(name);
    if (!loss || *loss == 0 || *loss > kMostLoss) return std::nullopt;
    return SlotTarget{Kind::loss, *loss};
  }
  return std::nullopt;
}

std::string name_of(const SlotTarget& target) {
  switch (target.kind) {
    case Kind::table:
      break;
    case Kind::slot:
      return std::string(kSlot) + std::to_string(target.value);
    case Kind::bytes_per_token:
      return std::string(kBytes) + std::to_string(target.value);
    case Kind::loss:
      return std::string(kLoss) + decimal(target.value);
  }
  return "hxp" + std::to_string(target.value);
}

Status check_profile_for(const Codec& codec, Bytes file,
                         std::span<const BlockLayout> layouts) {
  const SlotTarget* const target = slot_target_of(codec);
  if (target == nullptr) return {};
  if (target->kind == Kind::bytes_per_token) {
    Status wrong;  // of the last layout, where all are wrong
    for (const BlockLayout& layout : layouts) {
      if (!codec.supports(coded_layout(layout))) continue;  // it is written raw
      wrong =
          check_bytes(codec.name(), target->value, heads_of(layout) * layout.head_dim);
      if (wrong.ok()) break;
    }
    return wrong;
  }
  if (target->kind != Kind::loss) return {};
  ModelProfile profile;
  if (!profile.open(file) || !has_losses(profile))
    return cannot(codec.name(), "needs a profile of the model that has losses");
  return check_loss(codec.name(), *target, *plan_slots(profile, *target));
}

Result<SlotPlan> profile_plan(Bytes file, std::string_view codec) {
  const auto read = read_profile(file);
  if (!read) return read.error();
  const ModelProfile& profile = *read;
  const Codec* const found = find_codec(codec);
  const SlotTarget* const target = found != nullptr ? slot_target_of(*found) : nullptr;
  if (target == nullptr)
    return Status{Code::not_found, "no hxp codec \"" + std::string(codec) + "\""};
  if (!has_losses(profile)) return Status{Code::unsupported, "the profile has no losses"};
  const std::uint64_t channels = profile.shape().head_dim;
  const bool by_slots = target->kind == Kind::table || target->kind == Kind::slot;
  const PlannedSlots plan =
      by_slots ? slots_as_named(profile, *target) : *plan_slots(profile, *target);
  Status met;
  if (target->kind == Kind::loss) met = check_loss(codec, *target, plan);
  if (target->kind == Kind::bytes_per_token)
    met = check_bytes(codec, target->value, profile.heads() * channels);
  if (!met.ok()) return met;
  return SlotPlan{
      .slots = plan.slots,
      .bytes_per_token = static_cast<double>(plan.bytes * channels) / 8192,
      .loss = std::ldexp(static_cast<double>(plan.loss), -LossCurve::kOneBits)};
}

}  // namespace speckv

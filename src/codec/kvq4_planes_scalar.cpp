// The definition of kvq4's second plane. Whole numbers: a sixteenth of a step has more
// bits than a float's product.
#include <algorithm>

#include "codec/kvq4_group.hpp"
#include "codec/kvq4_plane_loops.hpp"

namespace speckv {
namespace {

using namespace kvq4;

// The group that a value belongs to.
std::uint64_t group_of(const Kvq4Shape& shape, bool keys, std::uint32_t t,
                       std::uint32_t c) noexcept {
  return keys ? c : t * std::uint64_t{shape.channels / shape.group} + c / shape.group;
}

// A nibble of a plane, and how far it is from zero with its group's.
std::int32_t nibble(const std::byte* row, std::uint32_t c) noexcept {
  return std::to_integer<std::int32_t>(row[c / 2]) >> c % 2 * 4 & Kvq4Shape::kTop;
}
struct Step {
  Parameters of;
  std::int32_t whole;  // steps
};
Step step_at(const Kvq4Shape& shape, bool keys, const std::byte* unit, std::uint32_t t,
             std::uint32_t c) noexcept {
  const Parameters p =
      get(unit + group_of(shape, keys, t, c) * Kvq4Shape::kParameterBytes);
  const std::uint64_t parameters =
      padded(keys ? shape.key_parameters() : shape.value_parameters());
  return {p, nibble(unit + parameters + t * shape.row_bytes(), c) - p.zero};
}

template <class F>
std::int32_t rest(std::uint32_t bits, const Step& step) noexcept {
  Scaled by = inverse<F>(step.of.scale);
  by.exponent += 4;
  const std::int32_t parts = signed_times<F>(bits, by);
  return std::clamp(parts - kPlaneParts * step.whole + kPlaneMiddle, 0, Kvq4Shape::kTop);
}

template <class F>
void encode(const Kvq4Shape& shape, bool keys, const std::byte* plain,
            const std::byte* unit, std::byte* second) noexcept {
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::byte* const row = plain + t * shape.stride;
    std::byte* const to = second + t * shape.row_bytes();
    const auto at = [&](std::uint32_t c) {
      return rest<F>(load_le<std::uint16_t>(row + 2 * c),
                     step_at(shape, keys, unit, t, c));
    };
    for (std::uint32_t c = 0; c < shape.channels; c += 2)
      to[c / 2] = static_cast<std::byte>(at(c) | at(c + 1) << 4);
  }
}

template <class F>
void decode(const Kvq4Shape& shape, bool keys, const std::byte* unit,
            const std::byte* second, std::byte* plain) noexcept {
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    std::byte* const row = plain + t * shape.stride;
    const std::byte* const rests = second + t * shape.row_bytes();
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const Step step = step_at(shape, keys, unit, t, c);
      Scaled part = unpack<F>(step.of.scale);
      part.exponent -= 4;
      const std::int32_t parts =
          kPlaneParts * step.whole + nibble(rests, c) - kPlaneMiddle;
      store_le(row + 2 * c, product<F>(parts, part));
    }
  }
}

}  // namespace

namespace codec_detail {
const PlaneLoops kPlanesScalarF16{encode<F16>, decode<F16>};
const PlaneLoops kPlanesScalarBf16{encode<Bf16>, decode<Bf16>};
}  // namespace codec_detail

}  // namespace speckv

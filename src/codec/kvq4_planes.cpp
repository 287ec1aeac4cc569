// Whole numbers throughout: a sixteenth of a step has more bits than a float's product.
#include "cxlspeckv/kvq4_planes.hpp"

#include <algorithm>
#include <cstring>

#include "codec/kvq4_group.hpp"

namespace speckv {
namespace {

using namespace kvq4;

constexpr std::int32_t kParts = 16, kMiddle = 8;  // of a step; of a step at its centre

// Where a unit lies in both planes.
struct Unit {
  Kvq4Shape shape;
  bool keys;
  std::uint64_t rows;           // its plain values, from the layer's start
  std::uint64_t first, second;  // its bytes, from the planes' starts

  std::uint64_t parameters() const noexcept {
    return keys ? shape.key_parameters() : shape.value_parameters();
  }
  std::uint64_t nibbles() const noexcept { return first + padded(parameters()); }
  std::uint64_t end() const noexcept { return nibbles() + padded(shape.nibbles()); }
  // The group that a value belongs to.
  std::uint64_t group_of(std::uint32_t t, std::uint32_t c) const noexcept {
    return keys ? c : t * std::uint64_t{shape.channels / shape.group} + c / shape.group;
  }
};

bool takes(const BlockLayout& layout) noexcept {
  return layout.kv_heads >= 1 && layout.head_dim >= 1 && kvq4_codec().supports(layout);
}

// Calls visit(unit) for each, until one is not ok.
template <class Visit>
Code for_units(const BlockLayout& layout, const Visit& visit) noexcept {
  const std::uint64_t keys =
      layout.kind == BlockLayout::Kind::latent ? 0 : layout.kv_heads;
  Unit unit{kvq4_shape(layout), false, 0, 0, 0};
  for (std::uint64_t u = 0; u < layer_units(layout); ++u) {
    unit.keys = u < keys;
    unit.rows = unit_rows(layout, u).first;
    if (const Code code = visit(unit); code != Code::ok) return code;
    unit.first = unit.end();
    unit.second += padded(unit.shape.nibbles());
  }
  return Code::ok;
}

std::uint64_t first_plane_bytes(const BlockLayout& layout) noexcept {
  std::uint64_t bytes = 0;
  (void)for_units(layout, [&](const Unit& unit) noexcept {
    bytes = unit.end();
    return Code::ok;
  });
  return bytes;
}

template <class F>
bool is_sound(const Parameters& p) noexcept {
  return p.scale != 0 && p.scale < F::kInfinity && p.zero >= -Kvq4Shape::kMaxZero &&
         p.zero <= Kvq4Shape::kMaxZero;
}
bool are_sound(const BlockLayout& layout, const Unit& unit,
               const std::byte* first) noexcept {
  for (std::uint64_t at = 0; at < unit.parameters(); at += Kvq4Shape::kParameterBytes) {
    const Parameters p = get(first + unit.first + at);
    if (!(layout.dtype == DType::f16 ? is_sound<F16>(p) : is_sound<Bf16>(p)))
      return false;
  }
  return true;
}
bool is_padded(const Unit& unit, Bytes first, Bytes second) noexcept {
  const std::uint64_t nibbles = unit.shape.nibbles(), all = padded(nibbles);
  return all_zero(first.subspan(unit.first, padded(unit.parameters()))
                      .subspan(unit.parameters())) &&
         all_zero(first.subspan(unit.nibbles(), all).subspan(nibbles)) &&
         all_zero(second.subspan(unit.second, all).subspan(nibbles));
}

// A nibble of a plane, and how far it is from zero with its group's.
std::int32_t nibble(const std::byte* row, std::uint32_t c) noexcept {
  return std::to_integer<std::int32_t>(row[c / 2]) >> c % 2 * 4 & Kvq4Shape::kTop;
}
struct Step {
  Parameters of;
  std::int32_t whole;  // steps
};
Step step_at(const Unit& unit, const std::byte* first, std::uint32_t t,
             std::uint32_t c) noexcept {
  const Parameters p =
      get(first + unit.first + unit.group_of(t, c) * Kvq4Shape::kParameterBytes);
  return {p, nibble(first + unit.nibbles() + t * unit.shape.row_bytes(), c) - p.zero};
}

template <class F>
void encode(const Unit& unit, const std::byte* plain, const std::byte* first,
            std::byte* second) noexcept {
  for (std::uint32_t t = 0; t < unit.shape.tokens; ++t) {
    const std::byte* const row = plain + unit.rows + t * unit.shape.stride;
    std::byte* const to = second + unit.second + t * unit.shape.row_bytes();
    for (std::uint32_t c = 0; c < unit.shape.channels; ++c) {
      const Step step = step_at(unit, first, t, c);
      Scaled by = inverse<F>(step.of.scale);
      by.exponent += 4;
      const std::int32_t parts = signed_times<F>(load_le<std::uint16_t>(row + 2 * c), by);
      const std::int32_t rest =
          std::clamp(parts - kParts * step.whole + kMiddle, 0, Kvq4Shape::kTop);
      to[c / 2] |= static_cast<std::byte>(rest << c % 2 * 4);
    }
  }
}

template <class F>
void decode(const Unit& unit, const std::byte* first, const std::byte* second,
            std::byte* plain) noexcept {
  for (std::uint32_t t = 0; t < unit.shape.tokens; ++t) {
    std::byte* const row = plain + unit.rows + t * unit.shape.stride;
    const std::byte* const rests = second + unit.second + t * unit.shape.row_bytes();
    for (std::uint32_t c = 0; c < unit.shape.channels; ++c) {
      const Step step = step_at(unit, first, t, c);
      Scaled part = unpack<F>(step.of.scale);
      part.exponent -= 4;
      const std::int32_t parts = kParts * step.whole + nibble(rests, c) - kMiddle;
      store_le(row + 2 * c, product<F>(parts, part));
    }
  }
}

}  // namespace

std::uint64_t second_plane_bytes(const BlockLayout& layout) noexcept {
  if (!takes(layout)) return 0;
  return layer_units(layout) * padded(kvq4_shape(layout).nibbles());
}

Code encode_second_plane(const BlockLayout& layout, Bytes plain, Bytes first,
                         MutableBytes second) noexcept {
  if (!takes(layout)) return Code::unsupported;
  if (plain.size() != layout.layer_bytes() || second.size() != second_plane_bytes(layout))
    return Code::invalid_argument;
  if (first.size() != first_plane_bytes(layout)) return Code::corrupted;
  std::memset(second.data(), 0, second.size());
  return for_units(layout, [&](const Unit& unit) noexcept {
    if (!are_sound(layout, unit, first.data())) return Code::corrupted;
    const auto encode_unit = layout.dtype == DType::f16 ? encode<F16> : encode<Bf16>;
    encode_unit(unit, plain.data(), first.data(), second.data());
    return Code::ok;
  });
}

Code decode_planes(const BlockLayout& layout, Bytes first, Bytes second,
                   MutableBytes plain) noexcept {
  if (!takes(layout)) return Code::unsupported;
  if (plain.size() != layout.layer_bytes()) return Code::invalid_argument;
  if (first.size() != first_plane_bytes(layout) ||
      second.size() != second_plane_bytes(layout))
    return Code::corrupted;
  return for_units(layout, [&](const Unit& unit) noexcept {
    if (!is_padded(unit, first, second) || !are_sound(layout, unit, first.data()))
      return Code::corrupted;
    const auto decode_unit = layout.dtype == DType::f16 ? decode<F16> : decode<Bf16>;
    decode_unit(unit, first.data(), second.data(), plain.data());
    return Code::ok;
  });
}

}  // namespace speckv

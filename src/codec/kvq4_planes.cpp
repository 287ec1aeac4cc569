// Where the two planes' units lie, and whether they are sound.
#include "cxlspeckv/kvq4_planes.hpp"

#include <cstring>

#include "codec/kernels.hpp"
#include "codec/kvq4_group.hpp"

namespace speckv {
namespace {

using namespace kvq4;

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
    codec_kernel()
        .of(layout.dtype)
        .planes->encode(unit.shape, unit.keys, plain.data() + unit.rows,
                        first.data() + unit.first, second.data() + unit.second);
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
    codec_kernel()
        .of(layout.dtype)
        .planes->decode(unit.shape, unit.keys, first.data() + unit.first,
                        second.data() + unit.second, plain.data() + unit.rows);
    return Code::ok;
  });
}

}  // namespace speckv

#include "codec/int8.hpp"

#include <algorithm>
#include <cstring>

#include "base/endian.hpp"
#include "codec/builtin.hpp"
#include "codec/number.hpp"

namespace speckv {
namespace {

using namespace number;

constexpr std::uint32_t kSteps = 127;

// The largest magnitude of a row; for these formats they compare like whole numbers.
std::uint32_t largest(const std::byte* row, std::size_t channels) noexcept {
  std::uint16_t most = 0;
  for (std::size_t i = 0; i < channels; ++i) {
    const auto magnitude = load_le<std::uint16_t>(row + 2 * i) & kMagnitude;
    most = std::max(most, static_cast<std::uint16_t>(magnitude));
  }
  return most;
}

// amax / 127 to nearest even; among the subnormal numbers, where that could lose most of
// the range, rounded up.
template <class F>
std::uint32_t row_scale(std::uint32_t amax) noexcept {
  const Scaled a = unpack<F>(amax);
  const auto scale = divide<F>(a.significand, a.exponent, kSteps, Rounding::nearest_even);
  if (scale >> F::kMantissa != 0) return scale;
  return divide<F>(a.significand, a.exponent, kSteps, Rounding::up);
}

template <class F>
bool quantise(const std::byte* row, std::size_t channels, std::byte* scale,
              std::int8_t* values) noexcept {
  const std::uint32_t amax = largest(row, channels);
  if (amax >= F::kInfinity) return false;
  const std::uint32_t s = row_scale<F>(amax);
  store_le(scale, static_cast<std::uint16_t>(s));
  if (s == 0) {
    std::memset(values, 0, channels);
    return true;
  }
  const Scaled inv = inverse<F>(s);
  constexpr std::int32_t kLimit = kSteps;
  for (std::size_t i = 0; i < channels; ++i) {
    const std::int32_t n = signed_times<F>(load_le<std::uint16_t>(row + 2 * i), inv);
    values[i] = static_cast<std::int8_t>(std::clamp(n, -kLimit, kLimit));
  }
  return true;
}

template <class F>
bool restore(const std::byte* scale, const std::int8_t* values, std::size_t channels,
             std::byte* row) noexcept {
  const std::uint32_t bits = load_le<std::uint16_t>(scale);
  if (bits >= F::kInfinity) return false;  // the sign bit included
  const Scaled s = unpack<F>(bits);
  const bool normal = bits >> F::kMantissa != 0;
  bool sound = true;
  for (std::size_t i = 0; i < channels; ++i) {
    const std::int8_t n = values[i];
    sound = sound && n != INT8_MIN;
    store_le(row + 2 * i, normal ? normal_product<F>(n, s) : product<F>(n, s));
  }
  return sound;
}

// A unit: `tokens` scales, then `tokens` rows of values, each part padded to 64 bytes.
struct Unit {
  std::uint64_t scales, values, bytes;
};
Unit unit_of(const BlockLayout& layout) noexcept {
  const std::uint64_t scales = std::uint64_t{layout.tokens} * 2;
  const std::uint64_t values = std::uint64_t{layout.tokens} * layout.head_dim;
  return {scales, values, padded(scales) + padded(values)};
}

class Int8 final : public Codec {
 public:
  CodecId id() const noexcept override { return CodecId::int8; }
  std::string_view name() const noexcept override { return "int8"; }
  bool supports(const BlockLayout& layout) const noexcept override {
    return is_16_bit(layout.dtype) && max_layer_bytes(layout) <= UINT32_MAX;
  }
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    return layer_units(layout) * unit_of(layout).bytes;
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override {
    const BlockLayout& layout = context.layout;
    const Unit unit = unit_of(layout);
    const std::uint64_t units = layer_units(layout);
    for (std::uint64_t u = 0; u < units; ++u) {
      std::byte* scales = out.data() + u * unit.bytes;
      std::byte* values = scales + padded(unit.scales);
      std::memset(scales + unit.scales, 0, padded(unit.scales) - unit.scales);
      std::memset(values + unit.values, 0, padded(unit.values) - unit.values);
      const UnitRows rows = unit_rows(layout, u);
      const std::byte* row = plain.data() + rows.first;
      for (std::uint32_t t = 0; t < layout.tokens; ++t, row += rows.stride) {
        auto* to =
            reinterpret_cast<std::int8_t*>(values) + std::uint64_t{t} * layout.head_dim;
        if (!int8_row(layout.dtype, row, layout.head_dim, scales + 2 * t, to)) {
          return Status{Code::unsupported, "not finite"};
        }
      }
    }
    return static_cast<std::size_t>(units * unit.bytes);
  }

  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override {
    const BlockLayout& layout = context.layout;
    const Unit unit = unit_of(layout);
    const std::uint64_t units = layer_units(layout);
    if (!supports(layout) || encoded.size() != units * unit.bytes) return Code::corrupted;
    bool sound = true;
    for (std::uint64_t u = 0; u < units; ++u) {
      const Bytes part = encoded.subspan(u * unit.bytes, unit.bytes);
      const Bytes values = part.subspan(padded(unit.scales));
      sound = sound && all_zero(values.subspan(unit.values)) &&
              all_zero(part.first(padded(unit.scales)).subspan(unit.scales));
      const auto* from = reinterpret_cast<const std::int8_t*>(values.data());
      const UnitRows rows = unit_rows(layout, u);
      std::byte* row = plain.data() + rows.first;
      for (std::uint32_t t = 0; t < layout.tokens; ++t, row += rows.stride) {
        sound = int8_restore(layout.dtype, part.data() + 2 * t,
                             from + std::uint64_t{t} * layout.head_dim, layout.head_dim,
                             row) &&
                sound;
      }
    }
    return sound ? Code::ok : Code::corrupted;
  }
};

}  // namespace

bool int8_row(DType dtype, const std::byte* row, std::size_t channels, std::byte* scale,
              std::int8_t* values) noexcept {
  return dtype == DType::f16 ? quantise<F16>(row, channels, scale, values)
                             : quantise<Bf16>(row, channels, scale, values);
}

bool int8_restore(DType dtype, const std::byte* scale, const std::int8_t* values,
                  std::size_t channels, std::byte* row) noexcept {
  return dtype == DType::f16 ? restore<F16>(scale, values, channels, row)
                             : restore<Bf16>(scale, values, channels, row);
}

const Codec& int8_codec() noexcept {
  static const Int8 codec;
  return codec;
}

}  // namespace speckv

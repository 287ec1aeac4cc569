// kvq4: four bits a value, asymmetric: K in groups of one channel over the tokens of the
// block, V (and latent rows) in groups of one token over its channels.
//
// Parameters of a group: a scale (of the layer's own dtype) and a zero (int16). A value
// is (q - zero) * scale, which is exact before its one rounding: 13 bits times 11.
#include <array>
#include <cstring>

#include "base/endian.hpp"
#include "codec/builtin.hpp"
#include "codec/number.hpp"

namespace speckv {
namespace {

using namespace number;

constexpr std::int32_t kTop = 15;
constexpr std::int32_t kMaxZero = 8176;  // so that |q - zero| stays within 13 bits
constexpr std::uint64_t kParameterBytes = 4;
constexpr std::uint32_t kStrip = 64;  // channels of K worked on side by side
constexpr std::uint32_t kStep = 16;   // head_dim is a multiple of it

struct Parameters {
  std::uint32_t scale = 0;
  std::int32_t zero = 0;
};

void put(std::byte* at, const Parameters& p) noexcept {
  store_le(at, static_cast<std::uint16_t>(p.scale));
  store_le(at + 2, static_cast<std::int16_t>(p.zero));
}
Parameters get(const std::byte* at) noexcept {
  return {load_le<std::uint16_t>(at), load_le<std::int16_t>(at + 2)};
}

// The value's place in the order of numbers; both zeros share one.
std::int32_t rank(std::uint32_t bits) noexcept {
  const auto magnitude = static_cast<std::int32_t>(bits & kMagnitude);
  const auto minus = -static_cast<std::int32_t>((bits & kSign) >> 15);
  return (magnitude ^ minus) - minus;
}

// Smallest and largest rank of a group.
struct Extent {
  std::int32_t low = INT32_MAX, high = INT32_MIN;
  void add(std::uint32_t bits) noexcept {
    const std::int32_t r = rank(bits);
    low = std::min(low, r);
    high = std::max(high, r);
  }
  std::uint32_t largest() const noexcept {
    return static_cast<std::uint32_t>(std::max(-low, high));
  }
};

// high - low, in units of 2^(exponent - 40), where `exponent` is that of the larger. What
// lies below one unit counts as one: rounded up to a scale, the quotient is the exact
// one's.
template <class F>
std::uint64_t range(const Extent& x, int exponent) noexcept {
  const auto fixed = [exponent](std::int32_t r) {
    const Scaled s = unpack<F>(static_cast<std::uint32_t>(r < 0 ? -r : r));
    const std::uint64_t wide = std::uint64_t{s.significand} << 40;
    const int shift = exponent - s.exponent;
    const auto size = static_cast<std::int64_t>(
        shift > 0 ? shift_right(wide, shift, Rounding::up) : wide);
    return r < 0 ? -size : size;
  };
  return static_cast<std::uint64_t>(fixed(x.high) - fixed(x.low));
}

// A fifteenth of the range, rounded up, but at least the spacing of numbers near the
// largest: |zero| then stays below 2^(mantissa + 1), and a constant group is exact.
template <class F>
std::uint32_t group_scale(const Extent& x) noexcept {
  const int exponent = unpack<F>(x.largest()).exponent;
  const auto fifteenth =
      divide<F>(range<F>(x, exponent), exponent - 40, kTop, Rounding::up);
  return std::max(fifteenth, pack<F>(1, exponent, Rounding::up));
}

// What one group's values are multiplied and shifted by.
struct Quantiser {
  Scaled inverse{};
  std::int32_t zero = 0;
};

// REQUIRES: x.largest() < F::kInfinity.
template <class F>
Parameters parameters(const Extent& x, Quantiser& quantiser) noexcept {
  const std::uint32_t scale = group_scale<F>(x);
  quantiser.inverse = inverse<F>(scale);
  const auto size = static_cast<std::uint32_t>(x.low < 0 ? -x.low : x.low);
  const std::int32_t n = times<F>(size, quantiser.inverse);
  quantiser.zero = x.low < 0 ? n : -n;
  return {scale, quantiser.zero};
}

template <class F>
std::uint32_t quantise(std::uint32_t bits, const Quantiser& by) noexcept {
  const std::int32_t q = signed_times<F>(bits, by.inverse) + by.zero;
  return static_cast<std::uint32_t>(std::clamp(q, 0, kTop));
}

// The sixteen values of a group.
using Levels = std::array<std::uint16_t, 16>;

// False: no encoder writes such parameters.
template <class F>
bool levels(const Parameters& p, Levels& out) noexcept {
  if (p.scale == 0 || p.scale >= F::kInfinity) return false;
  if (p.zero < -kMaxZero || p.zero > kMaxZero) return false;
  const Scaled scale = unpack<F>(p.scale);
  for (std::int32_t q = 0; q <= kTop; ++q) {
    out[static_cast<std::size_t>(q)] = product<F>(q - p.zero, scale);
  }
  return true;
}

std::uint32_t at(const std::byte* values, std::uint64_t i) noexcept {
  return load_le<std::uint16_t>(values + 2 * i);
}

// ---- Units -------------------------------------------------------------------------

// Extents of a unit and where its parts lie.
struct Shape {
  std::uint32_t tokens, channels;
  std::uint64_t stride;  // plain bytes from a token to the next
  std::uint32_t group;   // channels of a V group
  std::uint64_t row_bytes() const noexcept { return channels / 2; }
  std::uint64_t key_parameters() const noexcept { return channels * kParameterBytes; }
  std::uint64_t value_parameters() const noexcept {
    return std::uint64_t{tokens} * (channels / group) * kParameterBytes;
  }
  std::uint64_t nibbles() const noexcept { return tokens * row_bytes(); }
  // Where the plain values of V group `g` start.
  std::uint64_t group_at(std::uint64_t g) const noexcept {
    const std::uint64_t groups = channels / group;
    return g / groups * stride + g % groups * group * 2;
  }
};

// Up to 256 channels are one group; longer rows (latent caches) have groups of 64.
Shape shape_of(const BlockLayout& layout) noexcept {
  return {layout.tokens, layout.head_dim, unit_rows(layout, 0).stride,
          layout.head_dim <= 256 ? layout.head_dim : 64};
}

// Channels [first, first + width) of a K unit. False: a NaN or an infinity.
template <class F>
bool encode_key_strip(const Shape& shape, std::uint32_t first, std::uint32_t width,
                      const std::byte* plain, std::byte* out) noexcept {
  std::array<Extent, kStrip> extents{};
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::byte* row = plain + t * shape.stride + 2ULL * first;
    for (std::uint32_t c = 0; c < width; ++c)
      extents[c].add(at(row, c));
  }
  std::array<Quantiser, kStrip> by{};
  for (std::uint32_t c = 0; c < width; ++c) {
    if (extents[c].largest() >= F::kInfinity) return false;
    put(out + (first + c) * kParameterBytes, parameters<F>(extents[c], by[c]));
  }
  std::byte* nibbles = out + padded(shape.key_parameters()) + first / 2;
  for (std::uint32_t t = 0; t < shape.tokens; ++t, nibbles += shape.row_bytes()) {
    const std::byte* row = plain + t * shape.stride + 2ULL * first;
    for (std::uint32_t c = 0; c < width; c += 2) {
      const std::uint32_t low = quantise<F>(at(row, c), by[c]);
      const std::uint32_t high = quantise<F>(at(row, c + 1), by[c + 1]);
      nibbles[c / 2] = static_cast<std::byte>(low | high << 4);
    }
  }
  return true;
}

template <class F>
bool encode_keys(const Shape& shape, const std::byte* plain, std::byte* out) noexcept {
  for (std::uint32_t c = 0; c < shape.channels; c += kStrip) {
    const std::uint32_t width = std::min(kStrip, shape.channels - c);
    if (!encode_key_strip<F>(shape, c, width, plain, out)) return false;
  }
  return true;
}

template <class F>
bool encode_values(const Shape& shape, const std::byte* first, std::byte* out) noexcept {
  std::byte* nibbles = out + padded(shape.value_parameters());
  const std::uint64_t groups = shape.value_parameters() / kParameterBytes;
  for (std::uint64_t g = 0; g < groups; ++g) {
    const std::byte* plain = first + shape.group_at(g);
    Extent extent;
    for (std::uint32_t c = 0; c < shape.group; ++c)
      extent.add(at(plain, c));
    if (extent.largest() >= F::kInfinity) return false;
    Quantiser by;
    put(out + g * kParameterBytes, parameters<F>(extent, by));
    for (std::uint32_t c = 0; c < shape.group; c += 2) {
      const std::uint32_t low = quantise<F>(at(plain, c), by);
      const std::uint32_t high = quantise<F>(at(plain, c + 1), by);
      *nibbles++ = static_cast<std::byte>(low | high << 4);
    }
  }
  return true;
}

template <class F>
bool decode_keys(const Shape& shape, const std::byte* in, std::byte* plain) noexcept {
  std::array<Levels, kStrip> table;
  for (std::uint32_t first = 0; first < shape.channels; first += kStrip) {
    const std::uint32_t width = std::min(kStrip, shape.channels - first);
    for (std::uint32_t c = 0; c < width; ++c) {
      if (!levels<F>(get(in + (first + c) * kParameterBytes), table[c])) return false;
    }
    const std::byte* nibbles = in + padded(shape.key_parameters()) + first / 2;
    for (std::uint32_t t = 0; t < shape.tokens; ++t, nibbles += shape.row_bytes()) {
      std::byte* row = plain + t * shape.stride + 2ULL * first;
      for (std::uint32_t c = 0; c < width; c += 2) {
        const auto pair = std::to_integer<std::uint32_t>(nibbles[c / 2]);
        store_le(row + 2 * c, table[c][pair & 15]);
        store_le(row + 2 * c + 2, table[c + 1][pair >> 4]);
      }
    }
  }
  return true;
}

template <class F>
bool decode_values(const Shape& shape, const std::byte* in, std::byte* first) noexcept {
  const std::byte* nibbles = in + padded(shape.value_parameters());
  const std::uint64_t groups = shape.value_parameters() / kParameterBytes;
  Levels table;
  for (std::uint64_t g = 0; g < groups; ++g) {
    if (!levels<F>(get(in + g * kParameterBytes), table)) return false;
    std::byte* plain = first + shape.group_at(g);
    for (std::uint32_t c = 0; c < shape.group; c += 2, plain += 4) {
      const auto pair = std::to_integer<std::uint32_t>(*nibbles++);
      store_le(plain, table[pair & 15]);
      store_le(plain + 2, table[pair >> 4]);
    }
  }
  return true;
}

// ---- The codec ---------------------------------------------------------------------

class Kvq4 final : public Codec {
 public:
  CodecId id() const noexcept override { return CodecId::kvq4; }
  std::string_view name() const noexcept override { return "kvq4"; }

  bool supports(const BlockLayout& layout) const noexcept override {
    const std::uint32_t d = layout.head_dim;
    return is_16_bit(layout.dtype) && layout.tokens >= 16 && layout.tokens <= 256 &&
           d <= 1024 && d % (d <= 256 ? kStep : kStrip) == 0;
  }

  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    std::uint64_t bytes = 0;
    for (const Part& part : parts(layout))
      bytes += part.units * part.bytes;
    return bytes;
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override {
    const BlockLayout& layout = context.layout;
    const Shape shape = shape_of(layout);
    std::byte* to = out.data();
    std::uint64_t unit = 0;
    for (const Part& part : parts(layout)) {
      for (std::uint64_t u = 0; u < part.units; ++u, ++unit, to += part.bytes) {
        std::memset(to + part.parameters, 0, padded(part.parameters) - part.parameters);
        std::memset(to + part.bytes - part.tail, 0, part.tail);
        const auto encode_unit =
            layout.dtype == DType::f16 ? part.encode_f16 : part.encode_bf16;
        if (!encode_unit(shape, plain.data() + unit_rows(layout, unit).first, to)) {
          return Status{Code::unsupported, "not finite"};
        }
      }
    }
    return static_cast<std::size_t>(to - out.data());
  }

  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override {
    const BlockLayout& layout = context.layout;
    if (!supports(layout) || encoded.size() != max_layer_bytes(layout)) {
      return Code::corrupted;
    }
    const Shape shape = shape_of(layout);
    std::uint64_t number = 0;
    for (const Part& part : parts(layout)) {
      for (std::uint64_t u = 0; u < part.units; ++u, ++number) {
        const Bytes unit = encoded.first(part.bytes);
        encoded = encoded.subspan(part.bytes);
        const auto decode_unit =
            layout.dtype == DType::f16 ? part.decode_f16 : part.decode_bf16;
        const Bytes gap = unit.first(padded(part.parameters)).subspan(part.parameters);
        if (!all_zero(gap) || !all_zero(unit.last(part.tail)) ||
            !decode_unit(shape, unit.data(),
                         plain.data() + unit_rows(layout, number).first)) {
          return Code::corrupted;
        }
      }
    }
    return Code::ok;
  }

 private:
  using EncodeUnit = bool (*)(const Shape&, const std::byte*, std::byte*) noexcept;
  // The units of K, or of V: how many, how large, and how to do one.
  struct Part {
    std::uint64_t units, parameters, tail, bytes;
    EncodeUnit encode_f16, encode_bf16, decode_f16, decode_bf16;
  };
  static std::array<Part, 2> parts(const BlockLayout& layout) noexcept {
    const Shape shape = shape_of(layout);
    const std::uint64_t nibbles = padded(shape.nibbles());
    const std::uint64_t tail = nibbles - shape.nibbles();
    const std::uint64_t keys = shape.key_parameters(), values = shape.value_parameters();
    const std::uint64_t key_units =
        layout.kind == BlockLayout::Kind::latent ? 0 : layout.kv_heads;
    return {{{key_units, keys, tail, padded(keys) + nibbles, encode_keys<F16>,
              encode_keys<Bf16>, decode_keys<F16>, decode_keys<Bf16>},
             {layout.kv_heads, values, tail, padded(values) + nibbles, encode_values<F16>,
              encode_values<Bf16>, decode_values<F16>, decode_values<Bf16>}}};
  }
};

}  // namespace

const Codec& kvq4_codec() noexcept {
  static const Kvq4 codec;
  return codec;
}

}  // namespace speckv

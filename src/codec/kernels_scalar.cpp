// The definition of the lossy codecs' arithmetic: whole numbers, one value at a time.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/endian.hpp"
#include "codec/kernels.hpp"
#include "codec/kvq4_group.hpp"
#include "codec/number.hpp"

namespace speckv {
namespace {

using namespace number;
using namespace kvq4;

// ---- kvq4: q = round(value / scale) + zero, asymmetric, a group at a time -----------

constexpr std::int32_t kTop = Kvq4Shape::kTop, kMaxZero = Kvq4Shape::kMaxZero;
constexpr std::uint64_t kParameterBytes = Kvq4Shape::kParameterBytes;
constexpr std::uint32_t kStrip = 64;  // channels of K worked on side by side

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

// Channels [first, first + width) of a K unit. False: a NaN or an infinity.
template <class F>
bool encode_key_strip(const Kvq4Shape& shape, std::uint32_t first, std::uint32_t width,
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
bool encode_keys(const Kvq4Shape& shape, const std::byte* plain,
                 std::byte* out) noexcept {
  for (std::uint32_t c = 0; c < shape.channels; c += kStrip) {
    const std::uint32_t width = std::min(kStrip, shape.channels - c);
    if (!encode_key_strip<F>(shape, c, width, plain, out)) return false;
  }
  return true;
}

template <class F>
bool encode_values(const Kvq4Shape& shape, const std::byte* first,
                   std::byte* out) noexcept {
  std::byte* nibbles = out + padded(shape.value_parameters());
  const std::uint64_t groups = shape.value_groups();
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
bool decode_keys(const Kvq4Shape& shape, const std::byte* in, std::byte* plain,
                 bool /*stream*/) noexcept {
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
bool decode_values(const Kvq4Shape& shape, const std::byte* in, std::byte* first,
                   bool /*stream*/) noexcept {
  const std::byte* nibbles = in + padded(shape.value_parameters());
  const std::uint64_t groups = shape.value_groups();
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

// ---- int8: round(value / scale), symmetric, a row at a time --------------------------

// The largest magnitude of a row; for these formats they compare like whole numbers.
std::uint32_t largest(const std::byte* row, std::size_t channels) noexcept {
  std::uint16_t most = 0;
  for (std::size_t i = 0; i < channels; ++i) {
    const auto magnitude = load_le<std::uint16_t>(row + 2 * i) & kMagnitude;
    most = std::max(most, static_cast<std::uint16_t>(magnitude));
  }
  return most;
}

template <class F>
bool encode_row(const std::byte* row, std::size_t channels, std::byte* scale,
                std::int8_t* values) noexcept {
  const std::uint32_t amax = largest(row, channels);
  if (amax >= F::kInfinity) return false;
  const std::uint32_t s = int8_scale<F>(amax);
  store_le(scale, static_cast<std::uint16_t>(s));
  if (s == 0) {
    std::memset(values, 0, channels);
    return true;
  }
  const Scaled inv = inverse<F>(s);
  constexpr std::int32_t kLimit = kInt8Steps;
  for (std::size_t i = 0; i < channels; ++i) {
    const std::int32_t n = signed_times<F>(load_le<std::uint16_t>(row + 2 * i), inv);
    values[i] = static_cast<std::int8_t>(std::clamp(n, -kLimit, kLimit));
  }
  return true;
}

template <class F>
bool decode_row(const std::byte* scale, const std::int8_t* values, std::size_t channels,
                std::byte* row, bool /*stream*/) noexcept {
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

void settle() noexcept {}  // nothing is streamed

template <class F>
constexpr CodecLoops kLoops{
    encode_keys<F>,
    encode_values<F>,
    decode_keys<F>,
    decode_values<F>,
    encode_row<F>,
    decode_row<F>,
    settle,
    F::kMantissa == 10 ? &codec_detail::kRtScalarF16 : &codec_detail::kRtScalarBf16,
    F::kMantissa == 10 ? &codec_detail::kHxScalarF16 : &codec_detail::kHxScalarBf16,
    F::kMantissa == 10 ? &codec_detail::kHxpScalarF16 : &codec_detail::kHxpScalarBf16,
    F::kMantissa == 10 ? &codec_detail::kPlanesScalarF16
                       : &codec_detail::kPlanesScalarBf16};

bool always() noexcept {
  return true;
}

}  // namespace

namespace codec_detail {
const CodecKernel kScalar{"scalar", always, kLoops<F16>, kLoops<Bf16>, &kLosslessScalar};
}

}  // namespace speckv

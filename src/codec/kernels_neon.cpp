// The lossy codecs on NEON: 16 channels at a time, the definition's bits. Scales and
// zeros are computed by the definition, a group at a time.
#include "codec/neon256_floats.hpp"

#if defined(__aarch64__)

#include <cstring>

#include "base/endian.hpp"
#include "codec/kvq4_floats.hpp"

namespace speckv {
namespace {

using namespace number;
using namespace codec_detail;
using neon256::narrow;

constexpr std::uint32_t kLanes = 16;  // channels that are worked on together

inline uint16x8_t load8(const std::byte* from) noexcept {
  return vreinterpretq_u16_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(from)));
}
inline void store8(std::byte* to, uint16x8_t x) noexcept {
  vst1q_u8(reinterpret_cast<std::uint8_t*>(to), vreinterpretq_u8_u16(x));
}

// ---- 16-bit formats ------------------------------------------------------------------

struct Eight {
  float32x4_t low, high;
};

// Exact: of a finite number FCVTL depends on no mode.
template <class F>
inline Eight widen(uint16x8_t x) noexcept {
  if constexpr (kIsF16<F>) {
    const float16x8_t halves = vreinterpretq_f16_u16(x);
    return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
  } else {
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(x), 16)),
            vreinterpretq_f32_u32(vshll_high_n_u16(x, 16))};
  }
}

// Eight whole numbers times a scale, as plain values.
template <class F>
inline uint16x8_t restore(int16x8_t n, float32x4_t low_scale,
                          float32x4_t high_scale) noexcept {
  const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(n)));
  const float32x4_t high = vcvtq_f32_s32(vmovl_high_s16(n));
  return vcombine_u16(narrow<F>(vmulq_f32(low, low_scale)),
                      narrow<F>(vmulq_f32(high, high_scale)));
}

// Eight values times inverses, to the nearest whole number, shifted, saturated.
template <class F>
inline int16x8_t whole(uint16x8_t plain, const float32x4_t (&by)[2],
                       const int32x4_t (&zero)[2]) noexcept {
  const Eight x = widen<F>(plain);
  const int32x4_t low = vaddq_s32(vcvtnq_s32_f32(vmulq_f32(x.low, by[0])), zero[0]);
  const int32x4_t high = vaddq_s32(vcvtnq_s32_f32(vmulq_f32(x.high, by[1])), zero[1]);
  return vqmovn_high_s32(vqmovn_s32(low), high);
}

// ---- kvq4 ----------------------------------------------------------------------------

// The place of each value in the order of numbers.
inline int16x8_t ranks(const std::byte* plain) noexcept {
  const int16x8_t bits = vreinterpretq_s16_u16(load8(plain));
  const int16x8_t minus = vshrq_n_s16(bits, 15);
  const int16x8_t magnitude = vandq_s16(bits, vdupq_n_s16(kMagnitude));
  return vsubq_s16(veorq_s16(magnitude, minus), minus);
}

// Parameters of sixteen channels, or of one group for all of them.
struct Sixteen {
  float32x4_t by[4];
  int32x4_t zero[4];

  explicit Sixteen(const kvq4::Floats<kLanes>& group) noexcept {
    for (std::size_t i = 0; i < 4; ++i) {
      by[i] = vld1q_f32(group.by + 4 * i);
      zero[i] = vld1q_s32(group.zero + 4 * i);
    }
  }
  Sixteen(float scale, std::int32_t shift) noexcept {
    for (std::size_t i = 0; i < 4; ++i) {
      by[i] = vdupq_n_f32(scale);
      zero[i] = vdupq_n_s32(shift);
    }
  }
};

// Sixteen values to eight bytes of nibbles.
template <class F>
inline void quantise(const std::byte* plain, const Sixteen& s,
                     std::byte* nibbles) noexcept {
  const int16x8_t low =
      whole<F>(load8(plain), {s.by[0], s.by[1]}, {s.zero[0], s.zero[1]});
  const int16x8_t high =
      whole<F>(load8(plain + 16), {s.by[2], s.by[3]}, {s.zero[2], s.zero[3]});
  const uint8x16_t q =
      vminq_u8(vqmovun_high_s16(vqmovun_s16(low), high), vdupq_n_u8(Kvq4Shape::kTop));
  const uint8x16_t pairs = vsliq_n_u8(vuzp1q_u8(q, q), vuzp2q_u8(q, q), 4);
  vst1_u8(reinterpret_cast<std::uint8_t*>(nibbles), vget_low_u8(pairs));
}

template <class F>
bool encode_keys(const Kvq4Shape& shape, const std::byte* plain,
                 std::byte* unit) noexcept {
  for (std::uint32_t c = 0; c < shape.channels; c += kLanes) {
    const std::byte* const from = plain + 2ULL * c;
    int16x8_t low[2] = {vdupq_n_s16(INT16_MAX), vdupq_n_s16(INT16_MAX)};
    int16x8_t high[2] = {vdupq_n_s16(INT16_MIN), vdupq_n_s16(INT16_MIN)};
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      for (std::size_t i = 0; i < 2; ++i) {
        const int16x8_t r = ranks(from + t * shape.stride + 16 * i);
        low[i] = vminq_s16(low[i], r);
        high[i] = vmaxq_s16(high[i], r);
      }
    }
    std::int16_t least[kLanes], most[kLanes];
    std::memcpy(least, low, sizeof low);
    std::memcpy(most, high, sizeof high);
    kvq4::Floats<kLanes> group;
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      const Sound sound = kvq4::quantiser<F>({least[i], most[i]},
                                             unit + (c + i) * Kvq4Shape::kParameterBytes,
                                             group.by[i], group.zero[i]);
      if (sound == Sound::no) return false;
      if (sound == Sound::ask) return exact<F>().kvq4_encode_keys(shape, plain, unit);
    }
    const Sixteen s(group);
    std::byte* to = unit + padded(shape.key_parameters()) + c / 2;
    for (std::uint32_t t = 0; t < shape.tokens; ++t, to += shape.row_bytes())
      quantise<F>(from + t * shape.stride, s, to);
  }
  return true;
}

inline kvq4::Extent extent(const std::byte* row, std::uint32_t channels) noexcept {
  int16x8_t low = vdupq_n_s16(INT16_MAX), high = vdupq_n_s16(INT16_MIN);
  for (std::uint32_t c = 0; c < channels; c += 8) {
    const int16x8_t r = ranks(row + 2ULL * c);
    low = vminq_s16(low, r);
    high = vmaxq_s16(high, r);
  }
  return {vminvq_s16(low), vmaxvq_s16(high)};
}

template <class F>
bool encode_values(const Kvq4Shape& shape, const std::byte* plain,
                   std::byte* unit) noexcept {
  std::byte* nibbles = unit + padded(shape.value_parameters());
  for (std::uint64_t g = 0; g < shape.value_groups(); ++g) {
    const std::byte* const row = plain + shape.group_at(g);
    float scale = 0;
    std::int32_t shift = 0;
    const Sound sound = kvq4::quantiser<F>(
        extent(row, shape.group), unit + g * Kvq4Shape::kParameterBytes, scale, shift);
    if (sound == Sound::no) return false;
    if (sound == Sound::ask) return exact<F>().kvq4_encode_values(shape, plain, unit);
    const Sixteen s(scale, shift);
    for (std::uint32_t c = 0; c < shape.group; c += kLanes, nibbles += kLanes / 2)
      quantise<F>(row + 2ULL * c, s, nibbles);
  }
  return true;
}

// The sixteen nibbles of eight bytes, as bytes in order.
inline uint8x16_t spread(const std::byte* nibbles) noexcept {
  const uint8x8_t bytes = vld1_u8(reinterpret_cast<const std::uint8_t*>(nibbles));
  const uint8x8_t low = vand_u8(bytes, vdup_n_u8(15)), high = vshr_n_u8(bytes, 4);
  return vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high));
}

// Sixteen numbers of four bits to plain values, in two halves.
template <class F>
inline uint16x8x2_t restore(uint8x16_t q, const Sixteen& s) noexcept {
  const auto shifted = [](int16x8_t n, int32x4_t low, int32x4_t high) noexcept {
    return vsubq_s16(n, vmovn_high_s32(vmovn_s32(low), high));
  };
  const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(q)));
  const int16x8_t high = vreinterpretq_s16_u16(vmovl_high_u8(q));
  return {{restore<F>(shifted(low, s.zero[0], s.zero[1]), s.by[0], s.by[1]),
           restore<F>(shifted(high, s.zero[2], s.zero[3]), s.by[2], s.by[3])}};
}

template <class F>
bool decode_keys(const Kvq4Shape& shape, const std::byte* unit, std::byte* plain,
                 bool stream) noexcept {
  for (std::uint32_t c = 0; c < shape.channels; c += kLanes) {
    kvq4::Floats<kLanes> group;
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      const Sound sound = kvq4::restorer<F>(unit + (c + i) * Kvq4Shape::kParameterBytes,
                                            group.by[i], group.zero[i]);
      if (sound == Sound::no) return false;
      if (sound == Sound::ask)
        return exact<F>().kvq4_decode_keys(shape, unit, plain, stream);
    }
    const Sixteen s(group);
    const std::byte* from = unit + padded(shape.key_parameters()) + c / 2;
    std::byte* row = plain + 2ULL * c;
    for (std::uint32_t t = 0; t < shape.tokens; ++t) {
      const uint16x8x2_t x = restore<F>(spread(from), s);
      store8(row, x.val[0]);
      store8(row + 16, x.val[1]);
      from += shape.row_bytes();
      row += shape.stride;
    }
  }
  return true;
}

// A group of values has one scale, hence sixteen possible values: two tables of bytes.
template <class F>
bool decode_values(const Kvq4Shape& shape, const std::byte* unit, std::byte* plain,
                   bool stream) noexcept {
  constexpr std::uint8_t kSteps[kLanes] = {0, 1, 2,  3,  4,  5,  6,  7,
                                           8, 9, 10, 11, 12, 13, 14, 15};
  const std::byte* nibbles = unit + padded(shape.value_parameters());
  for (std::uint64_t g = 0; g < shape.value_groups(); ++g) {
    float by = 0;
    std::int32_t shift = 0;
    const Sound sound =
        kvq4::restorer<F>(unit + g * Kvq4Shape::kParameterBytes, by, shift);
    if (sound == Sound::no) return false;
    if (sound == Sound::ask)
      return exact<F>().kvq4_decode_values(shape, unit, plain, stream);
    const uint16x8x2_t levels = restore<F>(vld1q_u8(kSteps), Sixteen(by, shift));
    const uint8x16_t a = vreinterpretq_u8_u16(levels.val[0]);
    const uint8x16_t b = vreinterpretq_u8_u16(levels.val[1]);
    const uint8x16_t lower = vuzp1q_u8(a, b), upper = vuzp2q_u8(a, b);
    std::byte* row = plain + shape.group_at(g);
    for (std::uint32_t c = 0; c < shape.group; c += kLanes, nibbles += kLanes / 2) {
      const uint8x16_t q = spread(nibbles);
      vst2q_u8(reinterpret_cast<std::uint8_t*>(row + 2ULL * c),
               {{vqtbl1q_u8(lower, q), vqtbl1q_u8(upper, q)}});
    }
  }
  return true;
}

// ---- int8: rows of whole vectors; others are too short to matter ---------------------

template <class F>
bool encode_row(const std::byte* row, std::size_t channels, std::byte* scale,
                std::int8_t* values) noexcept {
  if (channels % kLanes != 0) return exact<F>().int8_encode(row, channels, scale, values);
  uint16x8_t most = vdupq_n_u16(0);
  for (std::size_t c = 0; c < channels; c += 8)
    most = vmaxq_u16(most, vandq_u16(load8(row + 2 * c), vdupq_n_u16(kMagnitude)));
  const std::uint32_t amax = vmaxvq_u16(most);
  if (amax >= F::kInfinity) return false;
  const std::uint32_t s = int8_scale<F>(amax);
  if (s == 0 || is_unusual<F>(s))
    return exact<F>().int8_encode(row, channels, scale, values);
  store_le(scale, static_cast<std::uint16_t>(s));
  const float32x4_t by = vdupq_n_f32(as_float(inverse<F>(s)));
  const int32x4_t zero = vdupq_n_s32(0);
  for (std::size_t c = 0; c < channels; c += kLanes) {
    const int16x8_t low = whole<F>(load8(row + 2 * c), {by, by}, {zero, zero});
    const int16x8_t high = whole<F>(load8(row + 2 * c + 16), {by, by}, {zero, zero});
    const int8x16_t n = vqmovn_high_s16(vqmovn_s16(low), high);
    vst1q_s8(values + c, vmaxq_s8(n, vdupq_n_s8(-127)));
  }
  return true;
}

template <class F>
bool decode_row(const std::byte* scale, const std::int8_t* values, std::size_t channels,
                std::byte* row, bool stream) noexcept {
  const std::uint32_t bits = load_le<std::uint16_t>(scale);
  if (bits >= F::kInfinity) return false;
  if (channels % kLanes != 0 || bits == 0 || is_unusual<F>(bits))
    return exact<F>().int8_decode(scale, values, channels, row, stream);
  const float32x4_t by = vdupq_n_f32(as_float(unpack<F>(bits)));
  int8x16_t least = vdupq_n_s8(0);
  for (std::size_t c = 0; c < channels; c += kLanes) {
    const int8x16_t n = vld1q_s8(values + c);
    least = vminq_s8(least, n);
    store8(row + 2 * c, restore<F>(vmovl_s8(vget_low_s8(n)), by, by));
    store8(row + 2 * c + 16, restore<F>(vmovl_high_s8(n), by, by));
  }
  return vminvq_s8(least) != INT8_MIN;
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
    kIsF16<F> ? &codec_detail::kRt256F16 : &codec_detail::kRt256Bf16,
    kIsF16<F> ? &codec_detail::kHx256F16 : &codec_detail::kHx256Bf16,
    kIsF16<F> ? &codec_detail::kHxp256F16 : &codec_detail::kHxp256Bf16,
    kIsF16<F> ? &codec_detail::kPlanes256F16 : &codec_detail::kPlanes256Bf16};

bool always() noexcept {  // part of every 64-bit Arm
  return true;
}

}  // namespace

namespace codec_detail {
const CodecKernel kNeon{"neon", always, kLoops<F16>, kLoops<Bf16>, &kLosslessNeon};
}

}  // namespace speckv

#endif

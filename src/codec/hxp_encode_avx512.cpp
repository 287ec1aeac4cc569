// Encoding an hxp unit with AVX-512 and VBMI: the loops of hxp_encoder.hpp, 64 symbols at
// a time.
#include "codec/hxp_avx512.hpp"

#if defined(__x86_64__)

#include <cstring>

#include "codec/hx_words_avx512.hpp"
#include "codec/hxp_costs_avx512.hpp"
#include "codec/hxp_encoder.hpp"

namespace speckv::hxp512 {
namespace {

template <class F>
class Loops : public hxp::EncoderState {
 public:
  Loops(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
        MutableBytes unit, hxp::Scratch& scratch) noexcept
      : EncoderState(shape, place, plain, unit, scratch) {}

  SPECKV_VBMI std::uint32_t largest_of(const std::byte* plain) const noexcept {
    const __m512i magnitude = _mm512_set1_epi32(number::kMagnitude);
    __m512i largest = _mm512_setzero_si512();
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      for (std::uint32_t c = 0; c < shape_.channels; c += kLanes)
        largest = _mm512_max_epi32(
            largest,
            _mm512_and_si512(_mm512_cvtepu16_epi32(bits_at(plain, t, c)), magnitude));
    }
    return static_cast<std::uint32_t>(_mm512_reduce_max_epi32(largest));
  }
  SPECKV_VBMI_INLINE __m256i bits_at(const std::byte* plain, std::uint32_t t,
                                     std::uint32_t c) const {
    return _mm256_loadu_si256(
        reinterpret_cast<const __m256i*>(plain + t * shape_.stride + 2 * c));
  }
  SPECKV_VBMI void take(const std::byte* plain, rt::Work& work) const noexcept {
    const __m512 scale = _mm512_set1_ps(fixed_scale(work.exponent));
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      for (std::uint32_t c = 0; c < shape_.channels; c += kLanes)
        _mm512_storeu_si512(work.x + at(t, c),
                            fixed_point<F>(bits_at(plain, t, c), scale));
    }
  }

  // All sums are whole numbers below 2^53.
  SPECKV_VBMI hxp::TokenSums sums_of_token(const std::int32_t* keys,
                                           const std::int32_t* values) const noexcept {
    const std::uint32_t d = shape_.channels;
    __m512d sum[4];
    for (__m512d& each : sum)
      each = _mm512_setzero_pd();
    for (std::uint32_t c = 0; c < d; c += 8) {
      const __m512d k = whole(keys + c), v = whole(values + c);
      sum[0] = _mm512_fmadd_pd(k, k, sum[0]);
      sum[1] = _mm512_fmadd_pd(v, v, sum[1]);
      sum[2] = _mm512_fmadd_pd(k, whole(weight_ + c), sum[2]);
      sum[3] = _mm512_fmadd_pd(v, whole(weight_ + d + c), sum[3]);
    }
    return {static_cast<std::uint64_t>(_mm512_reduce_add_pd(sum[0])),
            static_cast<std::uint64_t>(_mm512_reduce_add_pd(sum[1])),
            static_cast<std::int64_t>(_mm512_reduce_add_pd(sum[2])),
            static_cast<std::int64_t>(_mm512_reduce_add_pd(sum[3]))};
  }

  // Offsets of all tokens (of V, for all), and the deviations from them, which take the
  // place of the other unit's numbers.
  SPECKV_VBMI void find_deviations() noexcept {
    const hxp::Offsets offsets(place_.block.profile, place_.head);
    const std::int32_t* const mean = offsets.means();
    std::copy_n(mean, shape_.channels, mean_);
    const std::uint32_t pairs = shape_.keys ? place_.block.profile.shape().pairs : 0;
    if (shape_.keys) fill(place_.block, shape_.tokens, s_.waves);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      for (std::uint32_t i = 0; i < pairs; i += 8) {
        const Turned both = turned(mean, s_.waves, t, i);
        deviate(at(t, i), both.low);
        deviate(at(t, pairs + i), both.high);
      }
      for (std::uint32_t c = 2 * pairs; c < shape_.channels; c += 8)
        deviate(at(t, c), whole(mean + c));
    }
  }
  SPECKV_VBMI_INLINE void deviate(std::size_t i, __m512d offset) {
    const int down = std::clamp(hxp::kOffsetBits + s_.own.exponent, -1000, 1000);
    const __m512d scale = _mm512_set1_pd(
        std::bit_cast<double>(static_cast<std::uint64_t>(1023 - down) << 52));
    const __m512d most = _mm512_set1_pd(1 << 20);
    __m512d n = floor_of(_mm512_fmadd_pd(offset, scale, _mm512_set1_pd(0.5)));
    n = _mm512_min_pd(n, most);
    n = _mm512_max_pd(n, _mm512_sub_pd(_mm512_setzero_pd(), most));
    const __m512d x = _mm512_sub_pd(whole(s_.own.x + i), n);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(s_.other.x + i),
                        _mm512_cvtpd_epi32(x));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(s_.offset + i),
                        _mm512_cvtpd_epi32(offset));
  }

  SPECKV_VBMI std::uint64_t energy_of(const std::int32_t* deviations) const noexcept {
    __m512d energy = _mm512_setzero_pd();
    for (std::uint32_t c = 0; c < shape_.channels; c += 8) {
      const __m512d x = whole(deviations + c);
      energy = _mm512_fmadd_pd(x, x, energy);
    }
    return static_cast<std::uint64_t>(_mm512_reduce_add_pd(energy));
  }

  SPECKV_VBMI void sum_classes(std::int64_t* log) const noexcept {
    for (std::uint32_t c = 0; c < shape_.channels; c += kLanes) {
      __m512i even[kClasses], odd[kClasses];
      for (std::uint32_t v = 0; v < kClasses; ++v)
        even[v] = odd[v] = _mm512_setzero_si512();
      for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
        const double finer =
            as_float(log_scale::power64(HxpShape::kGainStep * std::int32_t{gain_[t]}));
        const std::int32_t* const x = s_.other.x + at(t, c);
        const __m256i a = scaled_down(whole(x), finer),
                      b = scaled_down(whole(x + 8), finer);
        const __m512i n = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
        const __m512i high = _mm512_srli_epi64(n, 32);
        const std::uint32_t v = order_.class_of[t];
        even[v] = _mm512_add_epi64(even[v], _mm512_mul_epi32(n, n));
        odd[v] = _mm512_add_epi64(odd[v], _mm512_mul_epi32(high, high));
      }
      for (std::uint32_t v = 0; v < kClasses; ++v) {
        alignas(64) std::uint64_t energy[kLanes];
        _mm512_store_si512(energy, even[v]);
        _mm512_store_si512(energy + 8, odd[v]);
        for (const std::uint64_t each : energy)
          log[v] += log_scale::log2_of(each) - tokens_log_[v];
      }
    }
  }
  SPECKV_VBMI_INLINE static __m256i scaled_down(__m512d x, double by) {
    return _mm512_cvt_roundpd_epi32(_mm512_mul_pd(x, _mm512_set1_pd(by)),
                                    _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  }

  SPECKV_VBMI std::int32_t finest() const noexcept {
    __m512i least = _mm512_set1_epi32(INT32_MIN);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      const __m512i finer = _mm512_set1_epi32(-hxp::log_of(0, 0, gain_[t]));
      for (std::uint32_t c = 0; c < shape_.channels; c += kLanes) {
        const __m512i x = _mm512_abs_epi32(_mm512_loadu_si512(s_.own.x + at(t, c)));
        // Of a whole number below 2^24, from its exponent as a float.
        const __m512i width = _mm512_max_epi32(
            _mm512_sub_epi32(
                _mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(x)), 23),
                _mm512_set1_epi32(126)),
            _mm512_setzero_si512());
        const __m512i own =
            _mm512_sub_epi32(finer, _mm512_slli_epi32(_mm512_load_si512(step_ + c), 2));
        least =
            _mm512_max_epi32(least, _mm512_add_epi32(_mm512_slli_epi32(width, 6), own));
      }
    }
    return _mm512_reduce_max_epi32(least);
  }

  // Values and offsets by channels, in the order of places.
  SPECKV_VBMI void prepare() noexcept {
    for (std::uint32_t i = 0; i < shape_.tokens; ++i) {
      const std::uint32_t v = class_at(i);
      places_.class_at[i] = static_cast<std::uint16_t>(v);
      __mmask16& lanes = lanes_of_[i / kLanes][v];
      lanes = static_cast<__mmask16>(lanes | 1U << i % kLanes);
      places_.known[i / 32] |= 1U << i % 32;
    }
    find_costs(offset_, costs_, of_table_);
    (void)turn_values(
        shape_.tokens, shape_.channels, columns_, s_.bits,
        [this](std::uint32_t i) { return plain_ + order_.token[i] * shape_.stride; });
    std::memset(s_.numbers, 0, shape_.channels * columns_ * sizeof *s_.numbers);
    for (std::uint32_t first = 0; shape_.keys && first < shape_.tokens; first += kLanes) {
      for (std::uint32_t c = 0; c < shape_.channels; c += kLanes) {
        __m512i x[kLanes];
#pragma GCC unroll 16
        for (std::uint32_t i = 0; i < kLanes; ++i) {
          const std::uint32_t t = order_.token[std::min(first + i, shape_.tokens - 1)];
          x[i] = _mm512_loadu_si512(s_.offset + at(t, c));
        }
        transpose(x);
#pragma GCC unroll 16
        for (std::uint32_t i = 0; i < kLanes; ++i)
          _mm512_store_si512(s_.turned + (c + i) * columns_ + first, x[i]);
      }
    }
  }

  SPECKV_VBMI void quantise() noexcept {
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      std::uint32_t size[kClasses];
      quantise_one(c, size);
    }
  }
  SPECKV_VBMI std::uint64_t price() noexcept {
    std::uint64_t cost = 0;
    for (std::uint32_t c = 0; c < shape_.channels && !is_over(cost); ++c) {
      std::uint32_t size[kClasses];
      quantise_one(c, size);
      cost += choose_table(c, size);
    }
    return cost;
  }

  // size: of each class the sum of magnitudes.
  SPECKV_VBMI_INLINE void quantise_one(std::uint32_t c, std::uint32_t* size) {
    // By gain.
    const __m512i logs = _mm512_sub_epi32(
        _mm512_set1_epi32(log_ + 4 * step_[c]),
        _mm512_mullo_epi32(
            _mm512_set1_epi32(HxpShape::kGainStep),
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
    const __m512 inverses = inverse_of(logs);
    __m512i means = _mm512_setzero_si512();
    if (!shape_.keys) {
      const __m512d offset = _mm512_set1_pd(mean_[c]);
      means = steps_of_both(offset, offset, inverses);
    }
    __m512i sum[kClasses];
#pragma GCC unroll 4
    for (__m512i& each : sum)
      each = _mm512_setzero_si512();
    for (std::uint32_t first = 0; first < shape_.tokens; first += kLanes) {
      const std::size_t i = std::size_t{c} * columns_ + first;
      const __m512i gains = _mm512_load_si512(gain_at_ + first);
      const __m512 inverse = _mm512_permutexvar_ps(gains, inverses);
      const __m512 value =
          widen<F>(_mm256_load_si256(reinterpret_cast<const __m256i*>(s_.bits + i)));
      const __m512i n = _mm512_cvt_roundps_epi32(_mm512_mul_ps(value, inverse), kNearest);
      const __m512i mean = shape_.keys ? steps_of_both(whole(s_.turned + i),
                                                       whole(s_.turned + i + 8), inverse)
                                       : _mm512_permutexvar_epi32(gains, means);
      const __m512i x =
          _mm512_maskz_sub_epi32(first_lanes(shape_.tokens - first), n, mean);
      _mm256_store_si256(reinterpret_cast<__m256i*>(s_.numbers + i),
                         _mm512_cvtepi32_epi16(x));
      const __m512i magnitude = _mm512_abs_epi32(x);
#pragma GCC unroll 4
      for (std::uint32_t v = 0; v < kClasses; ++v)
        sum[v] = _mm512_mask_add_epi32(sum[v], lanes_of_[first / kLanes][v], sum[v],
                                       magnitude);
    }
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[0], sum[1]),
                                       _mm512_unpackhi_epi32(sum[0], sum[1]));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[2], sum[3]),
                                       _mm512_unpackhi_epi32(sum[2], sum[3]));
    const __m512i ab =
        _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(ab), _mm512_extracti64x4_epi64(ab, 1));
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(size),
        _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
  }
  SPECKV_VBMI_INLINE static __m512i steps_of_both(__m512d low, __m512d high,
                                                  __m512 inverse) {
    const __m256i a = steps_of(low, _mm512_cvtps_pd(_mm512_castps512_ps256(inverse)));
    const __m256i b = steps_of(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(inverse, 1)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  }

  // The cheapest of five tables around that of the mean sizes. Returns its bits.
  SPECKV_VBMI_INLINE std::uint32_t choose_table(std::uint32_t c,
                                                const std::uint32_t* size) {
    const std::int32_t middle =
        hxp::middle_table(offset_, [&](std::uint32_t v) SPECKV_VBMI {
          return size[v] == 0
                     ? 0
                     : log_scale::log2_of(size[v]) - tokens_log_[v] + hxp::kMeanToTable;
        });
    constexpr std::uint32_t kTried = 5;
    std::uint32_t table[kTried];
    __m512i sum[kTried];
#pragma GCC unroll 5
    for (std::uint32_t k = 0; k < kTried; ++k) {
      table[k] = static_cast<std::uint32_t>(
          std::clamp(middle - 2 + static_cast<std::int32_t>(k), 0, 15));
      sum[k] = _mm512_setzero_si512();
      for (std::uint32_t first = 0; first < columns_; first += kBlock) {
        const ClassCosts& costs = of_table_[table[k]];
        const __m512i bits = places_.look_up(costs.cost, costs, numbers(c), first);
        sum[k] = _mm512_add_epi64(sum[k], _mm512_sad_epu8(bits, _mm512_setzero_si512()));
      }
    }
    // No sum reaches 2^16.
    const __m512i four = _mm512_or_si512(
        _mm512_or_si512(sum[0], _mm512_slli_epi64(sum[1], 16)),
        _mm512_or_si512(_mm512_slli_epi64(sum[2], 32), _mm512_slli_epi64(sum[3], 48)));
    const auto sums = static_cast<std::uint64_t>(_mm512_reduce_add_epi64(four));
    const auto last = static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum[4]));
    // Each with its table below it, so that of equals the lower comes first.
    const auto place = [&](std::uint32_t k) {
      const std::uint64_t bits = k < 4 ? sums >> 16 * k & 0xFFFF : last;
      return static_cast<std::uint32_t>(bits) * kTables + table[k];
    };
    const std::uint32_t best =
        std::min({place(0), place(1), place(2), place(3), place(4)});
    trial_.table[c] = static_cast<std::uint8_t>(best % kTables);
    return best / kTables;
  }

  // What each place takes of the words.
  SPECKV_VBMI void find_lengths(std::uint16_t* lengths) const noexcept {
    const __m512i none = _mm512_setzero_si512();
    for (std::uint32_t first = 0; first < columns_; first += kBlock) {
      __m512i low = none, high = none;
      for (std::uint32_t c = 0; c < shape_.channels; ++c) {
        const ClassCosts& costs = of_table_[trial_.table[c]];
        const __m512i bits = places_.look_up(costs.length, costs, numbers(c), first);
        low = _mm512_add_epi16(low, _mm512_unpacklo_epi8(bits, none));
        high = _mm512_add_epi16(high, _mm512_unpackhi_epi8(bits, none));
      }
      _mm512_store_si512(lengths + first, low);
      _mm512_store_si512(lengths + first + 32, high);
    }
  }

  void write(std::byte* words) noexcept {
    write_words(all_numbers(), words, trial_.words, s_.coded,
                [this](std::uint32_t group, std::uint32_t c, LaneTable* of) {
                  std::uint32_t count = 0;
                  for (std::uint32_t v = 0; v < kClasses; ++v) {
                    if (lanes_of_[group][v] == 0) continue;
                    of[count++] = {costs_ + hxp::table_for(trial_.table[c], offset_[v]),
                                   lanes_of_[group][v]};
                  }
                  return count;
                });
  }

 protected:
  const Costs* const costs_ = costs();

 private:
  // The classes of places, and which lanes have each.
  Places places_;
  __mmask16 lanes_of_[HxShape::kMostTokens / kLanes][kClasses] = {};
  ClassCosts of_table_[kTables];
};

}  // namespace

template <class F>
bool encode(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
            const std::byte* other, MutableBytes unit, hxp::Scratch& scratch) noexcept {
  if (is_usable())
    return hxp::encode_with<F, Loops<F>>(shape, place, plain, other, unit, scratch);
  return hxp::encode_unit<F>(shape, place, plain, other, unit, scratch);
}
template bool encode<number::F16>(const HxpShape&, const HxpPlace&, const std::byte*,
                                  const std::byte*, MutableBytes, hxp::Scratch&) noexcept;
template bool encode<number::Bf16>(const HxpShape&, const HxpPlace&, const std::byte*,
                                   const std::byte*, MutableBytes,
                                   hxp::Scratch&) noexcept;

}  // namespace speckv::hxp512

#endif

// Encoding an hx unit with AVX-512 and VBMI: the loops of hx_encoder.hpp, 32 tokens a
// register.
#include "codec/hx_vectors.hpp"

#if defined(__x86_64__)

#include "codec/hx_encoder.hpp"
#include "codec/hx_words_avx512.hpp"

namespace speckv::hx512 {
namespace {

template <class F>
class Loops : public hx::EncoderState {
 public:
  Loops(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept
      : EncoderState(shape, plain, unit) {
    for (std::uint32_t t = 0; t < columns_; t += 32) {
      const std::uint32_t left = shape.tokens - t;
      masks_[t / 32] = left >= 32 ? kAllWords : (1U << left) - 1;
    }
  }

  std::uint32_t turn() noexcept {
    return turn_values(shape_.tokens, shape_.channels, columns_, bits_,
                       [this](std::uint32_t t) { return plain_ + t * shape_.stride; });
  }

  SPECKV_VBMI void sum_up() noexcept {
    const __m512 scale = _mm512_set1_ps(fixed_scale(sums_.exponent));
    alignas(64) __m512i most_of[HxShape::kMostTokens / kLanes];
    alignas(64) __m512i even_of[HxShape::kMostTokens / kLanes];
    alignas(64) __m512i odd_of[HxShape::kMostTokens / kLanes];
    for (std::uint32_t g = 0; g < groups_; ++g)
      most_of[g] = even_of[g] = odd_of[g] = _mm512_setzero_si512();
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      __m512i sum = _mm512_setzero_si512(), energy = _mm512_setzero_si512();
      for (std::uint32_t g = 0; g < groups_; ++g) {
        const __m512i x = fixed_point<F>(
            _mm256_load_si256(
                reinterpret_cast<const __m256i*>(bits_ + c * columns_ + g * kLanes)),
            scale);
        const __m512i high = _mm512_srli_epi64(x, 32);
        const __m512i even = _mm512_mul_epi32(x, x), odd = _mm512_mul_epi32(high, high);
        sum = _mm512_add_epi32(sum, x);
        energy = _mm512_add_epi64(energy, _mm512_add_epi64(even, odd));
        most_of[g] = _mm512_max_epi32(most_of[g], _mm512_abs_epi32(x));
        even_of[g] = _mm512_add_epi64(even_of[g], even);
        odd_of[g] = _mm512_add_epi64(odd_of[g], odd);
      }
      auto squares = static_cast<std::uint64_t>(_mm512_reduce_add_epi64(energy));
      if (shape_.keys)  // of what is left without the mean, from the same sums
        squares += take_mean(c, _mm512_reduce_add_epi32(sum));
      sums_.channel_logs += log_scale::log2_of(squares) - tokens_log_;
    }
    for (std::uint32_t g = 0; g < groups_; ++g) {
      alignas(64) std::uint32_t largest[kLanes];
      alignas(64) std::uint64_t even[kLanes / 2], odd[kLanes / 2];
      _mm512_store_si512(largest, most_of[g]);
      _mm512_store_si512(even, even_of[g]);
      _mm512_store_si512(odd, odd_of[g]);
      for (std::uint32_t i = 0; i < kLanes && g * kLanes + i < shape_.tokens; ++i) {
        sums_.most[g * kLanes + i] = largest[i];
        sums_.energy[g * kLanes + i] = i % 2 == 0 ? even[i / 2] : odd[i / 2];
      }
    }
  }

  // Means in steps, rounded half up: rt::mean_steps64() in binary64, where all but the
  // quotient is exact, and the quotient too far from a whole number to become one.
  SPECKV_VBMI void find_means() noexcept {
    const number::Scaled step = log_scale::power64(log_);
    const int down = std::clamp(step.exponent - sums_.exponent, -40, 24);
    const __m512d twice = _mm512_set1_pd(
        std::bit_cast<double>(static_cast<std::uint64_t>(1023 + 1 - down) << 52));
    const __m512d b = _mm512_set1_pd(step.significand);
    __mmask8 wide = 0;
    for (std::uint32_t c = 0; c < shape_.channels; c += 8) {
      const __m512d a = _mm512_cvtepi32_pd(
          _mm256_load_si256(reinterpret_cast<const __m256i*>(plain_mean_ + c)));
      const __m512d sum = _mm512_add_pd(_mm512_mul_pd(a, twice), b);
      const __m512d steps =
          _mm512_roundscale_pd(_mm512_div_pd(sum, _mm512_add_pd(b, b)),
                               _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
      const __m256i n = _mm512_cvtpd_epi32(steps);
      wide = static_cast<__mmask8>(
          wide | _mm256_cmpgt_epi32_mask(n, _mm256_set1_epi32(INT8_MAX)) |
          _mm256_cmplt_epi32_mask(n, _mm256_set1_epi32(INT8_MIN)));
      _mm_store_si128(reinterpret_cast<__m128i*>(mean_ + c), _mm256_cvtepi32_epi16(n));
    }
    wide_ = wide != 0;
  }

  SPECKV_VBMI void quantise(const float* inverse, std::uint32_t* size) noexcept {
    for (std::uint32_t c = 0; c < shape_.channels; ++c)
      size[c] = quantise_one(c, inverse);
  }
  // Returns the sum of magnitudes.
  SPECKV_VBMI_INLINE std::uint32_t quantise_one(std::uint32_t c, const float* inverse) {
    const std::uint32_t columns = columns_;
    const __m512i mean = _mm512_set1_epi16(mean_[c]);
    __m512i sum = _mm512_setzero_si512();
    for (std::uint32_t t = 0; t < columns; t += 32) {
      const std::uint32_t at = c * columns + t;
      const __m512i bits = _mm512_load_si512(bits_ + at);
      const __m512 low = widen<F>(_mm512_castsi512_si256(bits));
      const __m512 high = widen<F>(_mm512_extracti64x4_epi64(bits, 1));
      const __m512i a = _mm512_cvt_roundps_epi32(
          _mm512_mul_ps(low, _mm512_load_ps(inverse + t)), kNearest);
      const __m512i b = _mm512_cvt_roundps_epi32(
          _mm512_mul_ps(high, _mm512_load_ps(inverse + t + 16)), kNearest);
      const __m512i n = lower_halves(a, b);
      const __m512i x = _mm512_maskz_sub_epi16(masks_[t / 32], n, mean);
      _mm512_store_si512(x_ + at, x);
      sum = _mm512_add_epi32(
          sum, _mm512_madd_epi16(_mm512_abs_epi16(x), _mm512_set1_epi16(1)));
    }
    return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(sum));
  }
  SPECKV_VBMI std::uint64_t choose_tables(const std::uint32_t* size) noexcept {
    std::uint64_t cost = 0;
    for (std::uint32_t c = 0; c < shape_.channels && !is_over(cost); ++c)
      cost += choose_table(c, size[c]);
    return cost;
  }
  // The cheapest of three tables around that of the mean size. Returns its bits. Without
  // a branch: which one it is cannot be foretold.
  SPECKV_VBMI_INLINE std::uint32_t choose_table(std::uint32_t c, std::uint32_t size) {
    const std::uint32_t columns = columns_;
    const Costs* const all = costs_;
    const std::int32_t middle = middle_table(size, log2_of(std::max(size, 1U)));
    const std::int32_t tables[3] = {std::max(middle - 1, 0), middle,
                                    std::min(middle + 1, 15)};
    __m512i bits[3];
#pragma GCC unroll 3
    for (std::size_t k = 0; k < 3; ++k) {
      const Costs& costs = all[tables[k]];
      const __m512i table = _mm512_load_si512(costs.cost);
      bits[k] = _mm512_setzero_si512();
      for (std::uint32_t t = 0; t < columns; t += 32) {
        const __m512i x = _mm512_load_si512(x_ + c * columns + t);
        bits[k] = _mm512_add_epi16(
            bits[k],
            _mm512_maskz_permutexvar_epi16(masks_[t / 32], symbols(x, costs.raw), table));
      }
      bits[k] = _mm512_madd_epi16(bits[k], _mm512_set1_epi16(1));
    }
    // The three sums side by side.
    const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(bits[0], bits[1]),
                                       _mm512_unpackhi_epi32(bits[0], bits[1]));
    const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(bits[2], bits[2]),
                                       _mm512_unpackhi_epi32(bits[2], bits[2]));
    const __m512i ab =
        _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(ab), _mm512_extracti64x4_epi64(ab, 1));
    const __m128i sums =
        _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    // Each with its place below it, so that of equals the lower comes first.
    const auto at = [&](std::int32_t sum, std::int32_t place) {
      return static_cast<std::uint32_t>(sum * 16 + tables[place]);
    };
    const std::uint32_t best =
        std::min({at(_mm_extract_epi32(sums, 0), 0), at(_mm_extract_epi32(sums, 1), 1),
                  at(_mm_extract_epi32(sums, 2), 2)});
    table_[c] = static_cast<std::uint8_t>(best % 16);
    return best / 16;
  }

  // What each token takes of the words.
  SPECKV_VBMI void find_lengths(std::uint16_t* lengths) const noexcept {
    for (std::uint32_t t = 0; t < shape_.tokens; t += 32) {
      __m512i sum = _mm512_setzero_si512();
      for (std::uint32_t c = 0; c < shape_.channels; ++c) {
        const Costs& costs = costs_[table_[c]];
        const __m512i x = _mm512_load_si512(x_ + c * columns_ + t);
        sum = _mm512_add_epi16(
            sum, _mm512_maskz_permutexvar_epi16(masks_[t / 32], symbols(x, costs.raw),
                                                _mm512_load_si512(costs.length)));
      }
      _mm512_store_si512(lengths + t, sum);
    }
  }

  void write(std::byte* words) noexcept {
    write_words(numbers(), words, words_, coded_,
                [this](std::uint32_t /*group*/, std::uint32_t c, LaneTable* of) {
                  of[0] = {&costs_[table_[c]], 0xFFFF};
                  return 1U;
                });
  }

 protected:
  const Costs* const costs_ = costs();

 private:
  // Of each 32 columns, those that have a token.
  __mmask32 masks_[HxShape::kMostTokens / 32];
};

}  // namespace

template <class F>
bool encode(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept {
  if (is_usable()) return hx::encode_with<F, Loops<F>>(shape, plain, unit);
  return hx::encode_unit<F>(shape, plain, unit);
}
template bool encode<number::F16>(const HxShape&, const std::byte*,
                                  MutableBytes) noexcept;
template bool encode<number::Bf16>(const HxShape&, const std::byte*,
                                   MutableBytes) noexcept;

}  // namespace speckv::hx512

#endif

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
  SPECKV_VBMI Loops(const HxShape& shape, const std::byte* plain,
                    MutableBytes unit) noexcept
      : EncoderState(shape, plain, unit) {
    for (std::uint32_t t = 0; t < columns_; t += 32) {
      const std::uint32_t left = shape.tokens - t;
      masks_[t / 32] = left >= 32 ? kAllWords : (1U << left) - 1;
    }
    for (std::uint32_t t = 0; t < columns_; t += kBlock) {
      const __mmask32 high = t + 32 < columns_ ? masks_[t / 32 + 1] : 0;
      known_[t / kBlock] = _mm512_movepi8_mask(
          _mm512_packs_epi16(_mm512_movm_epi16(masks_[t / 32]), _mm512_movm_epi16(high)));
    }
  }

  std::uint32_t turn() noexcept {
    return turn_values(shape_.tokens, shape_.channels, columns_, bits_,
                       [this](std::uint32_t t) { return plain_ + t * shape_.stride; });
  }

  void sum_up() noexcept { shape_.keys ? sum_up_as<true>() : sum_up_as<false>(); }
  template <bool keys>
  SPECKV_VBMI void sum_up_as() noexcept {
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
        energy = _mm512_add_epi64(energy, _mm512_add_epi64(even, odd));
        most_of[g] = _mm512_max_epi32(most_of[g], _mm512_abs_epi32(x));
        if constexpr (keys) {
          sum = _mm512_add_epi32(sum, x);
        } else {
          even_of[g] = _mm512_add_epi64(even_of[g], even);
          odd_of[g] = _mm512_add_epi64(odd_of[g], odd);
        }
      }
      auto squares = static_cast<std::uint64_t>(_mm512_reduce_add_epi64(energy));
      if constexpr (keys)  // of what is left without the mean, from the same sums
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

  SPECKV_VBMI void quantise(const float* inverse) noexcept {
    for (std::uint32_t c = 0; c < shape_.channels; ++c)
      (void)quantise_one(c, inverse);
  }
  // Sixteen channels at a time, whose sums are found together.
  SPECKV_VBMI std::uint64_t price(const float* inverse) noexcept {
    std::uint64_t cost = 0;
    for (std::uint32_t c = 0; c < shape_.channels && !is_over(cost); c += kLanes) {
      __m512i sum[kLanes];
      for (std::uint32_t i = 0; i < kLanes; ++i)
        sum[i] = quantise_one(c + i, inverse);
      cost += choose_tables(c, sums_of_sixteen(sum));
    }
    return cost;
  }
  // Returns sums of magnitudes.
  SPECKV_VBMI_INLINE __m512i quantise_one(std::uint32_t c, const float* inverse) {
    const __m512i mean = _mm512_set1_epi16(mean_[c]);
    __m512i sum = _mm512_setzero_si512();
    for (std::uint32_t t = 0; t < columns_; t += kBlock) {
      __m512i x[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 2
      for (std::uint32_t h = 0; h < 2; ++h) {
        const std::uint32_t first = t + 32 * h, at = c * columns_ + first;
        if (first >= columns_) break;
        const auto whole_of = [&](std::uint32_t k) SPECKV_VBMI {
          const __m256i bits =
              _mm256_load_si256(reinterpret_cast<const __m256i*>(bits_ + at + k));
          return _mm512_cvt_roundps_epi32(
              _mm512_mul_ps(widen<F>(bits), _mm512_load_ps(inverse + first + k)),
              kNearest);
        };
        const __m512i n = lower_halves(whole_of(0), whole_of(kLanes));
        x[h] = _mm512_maskz_sub_epi16(masks_[first / 32], n, mean);
        _mm512_store_si512(x_ + at, x[h]);
        sum = _mm512_add_epi32(
            sum, _mm512_madd_epi16(_mm512_abs_epi16(x[h]), _mm512_set1_epi16(1)));
      }
      _mm512_store_si512(near_ + block(c, t), near_of(x[0], x[1]));
    }
    return sum;
  }
  std::size_t block(std::uint32_t c, std::uint32_t t) const noexcept {
    return (std::size_t{c} * ((columns_ + kBlock - 1) / kBlock) + t / kBlock) * kBlock;
  }
  // The numbers of a block as the table wants them.
  SPECKV_VBMI_INLINE __m512i near_at(const Costs& table, std::uint32_t c,
                                     std::uint32_t t) const {
    if (table.down == 0) [[likely]]
      return _mm512_load_si512(near_ + block(c, t));
    const std::int16_t* const from = x_ + c * columns_ + t;
    const __m128i down = _mm_cvtsi32_si128(static_cast<int>(table.down));
    const __m512i high =
        t + 32 < columns_ ? _mm512_load_si512(from + 32) : _mm512_setzero_si512();
    return near_of(_mm512_sra_epi16(_mm512_load_si512(from), down),
                   _mm512_sra_epi16(high, down));
  }

  // Of sixteen channels the cheapest of three tables around that of the mean size: of
  // each the bits and below them the table, so that of equals the lower is the least.
  SPECKV_VBMI_INLINE std::uint64_t choose_tables(std::uint32_t first, __m512i size) {
    const __m512i zero = _mm512_setzero_si512(), top = _mm512_set1_epi32(15);
    __m512i middle = _mm512_add_epi32(log2_of(size), _mm512_set1_epi32(29 - tokens_log_));
    middle = _mm512_srai_epi32(
        _mm512_add_epi32(_mm512_mullo_epi32(middle, _mm512_set1_epi32(10)),
                         _mm512_set1_epi32(32)),
        6);
    middle = _mm512_maskz_min_epi32(_mm512_test_epi32_mask(size, size),
                                    _mm512_max_epi32(middle, zero), top);
    alignas(64) std::uint32_t table[3][kLanes];
    const __m512i one = _mm512_set1_epi32(1);
    _mm512_store_si512(table[0], _mm512_max_epi32(_mm512_sub_epi32(middle, one), zero));
    _mm512_store_si512(table[1], middle);
    _mm512_store_si512(table[2], _mm512_min_epi32(_mm512_add_epi32(middle, one), top));
    __m512i total = zero;
    for (std::uint32_t half = 0; half < kLanes; half += 8) {
      __m512i bits[8];  // three sums, of 16 bits each
      for (std::uint32_t i = 0; i < 8; ++i)
        bits[i] = price_one(first + half + i, table[0][half + i], table[1][half + i],
                            table[2][half + i]);
      const __m512i all = sums_of_eight(bits);
      __m512i best = _mm512_set1_epi64(-1);
#pragma GCC unroll 3
      for (unsigned k = 0; k < 3; ++k) {
        const __m512i sum =
            _mm512_and_si512(_mm512_srli_epi64(all, 16 * k), _mm512_set1_epi64(0xFFFF));
        const __m512i which = _mm512_cvtepu32_epi64(
            _mm256_load_si256(reinterpret_cast<const __m256i*>(table[k] + half)));
        best = _mm512_min_epu64(best, _mm512_or_si512(_mm512_slli_epi64(sum, 4), which));
      }
      total = _mm512_add_epi64(total, _mm512_srli_epi64(best, 4));
      _mm_storel_epi64(
          reinterpret_cast<__m128i*>(trial_.table + first + half),
          _mm512_cvtepi64_epi8(_mm512_and_si512(best, _mm512_set1_epi64(15))));
    }
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(total));
  }
  // What a channel's numbers cost under three tables, in eight parts.
  SPECKV_VBMI_INLINE __m512i price_one(std::uint32_t c, std::uint32_t low,
                                       std::uint32_t middle, std::uint32_t high) {
    __m512i bits = _mm512_setzero_si512();
    for (std::uint32_t t = 0; t < columns_; t += kBlock) {
      const __mmask64 known = known_[t / kBlock];
      const auto sum = [&](std::uint32_t table) SPECKV_VBMI {
        const Costs& costs = costs_[table];
        return _mm512_sad_epu8(look_up(costs.near_cost, near_at(costs, c, t), known),
                               _mm512_setzero_si512());
      };
      const __m512i two = _mm512_or_si512(sum(low), _mm512_slli_epi64(sum(middle), 16));
      bits =
          _mm512_add_epi64(bits, _mm512_or_si512(two, _mm512_slli_epi64(sum(high), 32)));
    }
    return bits;
  }

  // What each token takes of the words. Bytes have room for those of sixteen channels.
  SPECKV_VBMI void find_lengths(std::uint16_t* lengths) const noexcept {
    const __m512i none = _mm512_setzero_si512();
    for (std::uint32_t t = 0; t < columns_; t += kBlock) {
      __m512i low = none, high = none;
      for (std::uint32_t first = 0; first < shape_.channels; first += kLanes) {
        __m512i sum = none;
        for (std::uint32_t c = first; c < first + kLanes; ++c) {
          const Costs& costs = costs_[trial_.table[c]];
          sum = _mm512_add_epi8(
              sum, look_up(costs.near_length, near_at(costs, c, t), known_[t / kBlock]));
        }
        low = _mm512_add_epi16(low, _mm512_unpacklo_epi8(sum, none));
        high = _mm512_add_epi16(high, _mm512_unpackhi_epi8(sum, none));
      }
      _mm512_store_si512(lengths + t, low);
      if (t + 32 < columns_) _mm512_store_si512(lengths + t + 32, high);
    }
  }

  void write(std::byte* words) noexcept {
    write_words(numbers(), words, trial_.words, coded_,
                [this](std::uint32_t /*group*/, std::uint32_t c, LaneTable* of) {
                  of[0] = {&costs_[trial_.table[c]], 0xFFFF};
                  return 1U;
                });
  }

 protected:
  const Costs* const costs_ = costs();

 private:
  static constexpr std::uint32_t kBlock = 64;  // tokens that are looked up together

  // Of each 32 columns, those that have a token; of each block's numbers as bytes, too.
  __mmask32 masks_[HxShape::kMostTokens / 32];
  __mmask64 known_[HxShape::kMostTokens / kBlock];
  alignas(64) std::int8_t near_[kMostColumns];  // [channel][token]
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

// Encoding an hx unit with vectors of 256 bits: the loops of hx_encoder.hpp, 16 tokens a
// register, 32 of their symbols.
#include "codec/hx_words_256.hpp"

#if defined(SPECKV_256)

#include "codec/hx_encoder.hpp"

namespace speckv::hx256 {
namespace {

template <class F>
class Loops : public hx::EncoderState {
 public:
  Loops(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept
      : EncoderState(shape, plain, unit) {
    std::fill_n(known_, shape.tokens, std::int16_t{-1});
  }

  std::uint32_t turn() noexcept {
    return turn_values(shape_.tokens, shape_.channels, columns_, bits_,
                       [this](std::uint32_t t) { return plain_ + t * shape_.stride; });
  }

  SPECKV_256 void sum_up() noexcept {
    const __m256 scale = _mm256_set1_ps(fixed_scale(sums_.exponent));
    const __m256i none = _mm256_setzero_si256();
    __m256i most_of[HxShape::kMostTokens / 8], even_of[HxShape::kMostTokens / 8],
        odd_of[HxShape::kMostTokens / 8];
    const std::uint32_t parts = 2 * groups_;
    for (std::uint32_t g = 0; g < parts; ++g)
      most_of[g] = even_of[g] = odd_of[g] = none;
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      __m256i sum = none, energy = none;
      for (std::uint32_t g = 0; g < parts; ++g) {
        const auto* const from =
            reinterpret_cast<const std::byte*>(bits_ + c * columns_ + 8 * g);
        const __m256i x = fixed_point<F>(load16(from), scale);
        const __m256i high = _mm256_srli_epi64(x, 32);
        const __m256i even = _mm256_mul_epi32(x, x), odd = _mm256_mul_epi32(high, high);
        sum = _mm256_add_epi32(sum, x);
        energy = _mm256_add_epi64(energy, _mm256_add_epi64(even, odd));
        most_of[g] = _mm256_max_epi32(most_of[g], _mm256_abs_epi32(x));
        even_of[g] = _mm256_add_epi64(even_of[g], even);
        odd_of[g] = _mm256_add_epi64(odd_of[g], odd);
      }
      auto squares = static_cast<std::uint64_t>(sum_of_quarters(energy));
      if (shape_.keys)  // of what is left without the mean, from the same sums
        squares += take_mean(c, sum_of_eighths(sum));
      sums_.channel_logs += log_scale::log2_of(squares) - tokens_log_;
    }
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      alignas(32) std::uint32_t most[8];
      alignas(32) std::uint64_t even[4], odd[4];
      store(most, most_of[t / 8]);
      store(even, even_of[t / 8]);
      store(odd, odd_of[t / 8]);
      sums_.most[t] = most[t % 8];
      sums_.energy[t] = t % 2 == 0 ? even[t % 8 / 2] : odd[t % 8 / 2];
    }
  }
  SPECKV_256_INLINE static void store(void* to, __m256i x) {
    _mm256_store_si256(static_cast<__m256i*>(to), x);
  }

  // Means in steps, rounded half up: rt::mean_steps64() in binary64, where all but the
  // quotient is exact, and the quotient too far from a whole number to become one.
  SPECKV_256 void find_means() noexcept {
    const number::Scaled step = log_scale::power64(log_);
    const int down = std::clamp(step.exponent - sums_.exponent, -40, 24);
    const __m256d twice = _mm256_set1_pd(
        std::bit_cast<double>(static_cast<std::uint64_t>(1023 + 1 - down) << 52));
    const __m256d b = _mm256_set1_pd(step.significand);
    __m128i wide = _mm_setzero_si128();
    for (std::uint32_t c = 0; c < shape_.channels; c += 4) {
      const __m256d a = _mm256_cvtepi32_pd(
          _mm_load_si128(reinterpret_cast<const __m128i*>(plain_mean_ + c)));
      const __m256d sum = _mm256_add_pd(_mm256_mul_pd(a, twice), b);
      const __m128i n =
          _mm256_cvtpd_epi32(_mm256_floor_pd(_mm256_div_pd(sum, _mm256_add_pd(b, b))));
      wide = _mm_or_si128(wide, _mm_cmpgt_epi32(n, _mm_set1_epi32(INT8_MAX)));
      wide = _mm_or_si128(wide, _mm_cmplt_epi32(n, _mm_set1_epi32(INT8_MIN)));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(mean_ + c), _mm_packs_epi32(n, n));
    }
    wide_ = _mm_movemask_epi8(wide) != 0;
  }

  SPECKV_256 void quantise(const float* inverse) noexcept {
    for (std::uint32_t c = 0; c < shape_.channels; ++c)
      (void)quantise_one(c, inverse);
  }
  SPECKV_256 std::uint64_t price(const float* inverse) noexcept {
    std::uint64_t cost = 0;
    for (std::uint32_t c = 0; c < shape_.channels && !is_over(cost); ++c)
      cost += choose_table(c, quantise_one(c, inverse));
    return cost;
  }
  // Returns the sum of magnitudes.
  SPECKV_256_INLINE std::uint32_t quantise_one(std::uint32_t c, const float* inverse) {
    const __m256i mean = _mm256_set1_epi16(mean_[c]);
    __m256i sum = _mm256_setzero_si256();
    for (std::uint32_t t = 0; t < columns_; t += kLanes) {
      const std::uint32_t at = c * columns_ + t;
      const auto* const from = reinterpret_cast<const std::byte*>(bits_ + at);
      const __m256i n =
          words(whole<F>(load16(from), _mm256_load_ps(inverse + t)),
                whole<F>(load16(from + 16), _mm256_load_ps(inverse + t + 8)));
      const __m256i known =
          _mm256_load_si256(reinterpret_cast<const __m256i*>(known_ + t));
      const __m256i x = _mm256_and_si256(known, _mm256_sub_epi16(n, mean));
      store(x_ + at, x);
      sum = _mm256_add_epi32(
          sum, _mm256_madd_epi16(_mm256_abs_epi16(x), _mm256_set1_epi16(1)));
    }
    return static_cast<std::uint32_t>(sum_of_eighths(sum));
  }
  // The cheapest of three tables around that of the mean size. Returns its bits.
  SPECKV_256_INLINE std::uint32_t choose_table(std::uint32_t c, std::uint32_t size) {
    const std::int32_t middle = middle_table(size);
    std::uint32_t table[3];
    __m256i sum[3];
#pragma GCC unroll 3
    for (std::uint32_t k = 0; k < 3; ++k) {
      table[k] = static_cast<std::uint32_t>(
          std::clamp(middle - 1 + static_cast<std::int32_t>(k), 0, 15));
      const Costs& costs = costs_[table[k]];
      sum[k] = _mm256_setzero_si256();
      for (std::uint32_t t = 0; t < columns_; t += 32) {
        const __m256i symbol = symbols(costs, costs, x_ + c * columns_ + t);
        sum[k] = _mm256_add_epi64(sum[k],
                                  _mm256_sad_epu8(look_up(costs.cost, costs.cost, symbol),
                                                  _mm256_setzero_si256()));
      }
    }
    // No sum reaches 2^16.
    const auto sums = static_cast<std::uint64_t>(sum_of_quarters(_mm256_or_si256(
        sum[0],
        _mm256_or_si256(_mm256_slli_epi64(sum[1], 16), _mm256_slli_epi64(sum[2], 32)))));
    // Each less what the zeros behind the last token cost, and with its table below it,
    // so that of equals the lower comes first.
    const auto at = [&](std::uint32_t k) {
      const auto bits = static_cast<std::uint32_t>(sums >> 16 * k & 0xFFFF);
      const std::uint32_t behind =
          (columns_ - shape_.tokens) * costs_[table[k]].cost[Table::kBias];
      return (bits - behind) * 16 + table[k];
    };
    const std::uint32_t best = std::min({at(0), at(1), at(2)});
    trial_.table[c] = static_cast<std::uint8_t>(best % 16);
    return best / 16;
  }

  SPECKV_256 void find_lengths(std::uint16_t* lengths) const noexcept {
    for (std::uint32_t t = 0; t < columns_; t += 32) {
      __m256i low = _mm256_setzero_si256(), high = low;
      for (std::uint32_t c = 0; c < shape_.channels; ++c) {
        const Costs& costs = costs_[trial_.table[c]];
        const __m256i bits = look_up(costs.length, costs.length,
                                     symbols(costs, costs, x_ + c * columns_ + t));
        low = _mm256_add_epi16(low, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bits)));
        high = _mm256_add_epi16(high,
                                _mm256_cvtepu8_epi16(_mm256_extracti128_si256(bits, 1)));
      }
      store(lengths + t, low);
      store(lengths + t + 16, high);
    }
  }

  void write(std::byte* words) noexcept {
    write_words(numbers(), words, trial_.words, coded_,
                [this](std::uint32_t group, std::uint32_t c, LaneTable* of) SPECKV_256 {
                  const auto* const lanes =
                      reinterpret_cast<const __m256i*>(known_ + group * kLanes);
                  of[0] = {&costs_[trial_.table[c]], _mm256_load_si256(lanes)};
                  return 1U;
                });
  }

 protected:
  const Costs* const costs_ = costs();

 private:
  // -1 for a column that has a token.
  alignas(32) std::int16_t known_[HxShape::kMostTokens + 32] = {};
};

}  // namespace

template <class F>
bool encode(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept {
  return hx::encode_with<F, Loops<F>>(shape, plain, unit);
}
template bool encode<number::F16>(const HxShape&, const std::byte*,
                                  MutableBytes) noexcept;
template bool encode<number::Bf16>(const HxShape&, const std::byte*,
                                   MutableBytes) noexcept;

}  // namespace speckv::hx256

#endif

// Encoding an hx unit with AVX-512 and VBMI: sums in one pass, quantising and counting by
// channels, a token a lane; then the words, from the last to the first.
#include "codec/hx_vectors.hpp"

#if defined(__x86_64__)

#include <cstring>

#include "codec/hx_encode.hpp"

namespace speckv::hx512 {
namespace {

using hx::Sums;
using hx::Table;

// Of 32 symbols, as vectors take them.
struct Costs {
  alignas(64) std::uint16_t cost[32];    // bits, of escapes all
  alignas(64) std::uint16_t length[32];  // bits in the words
  // In the words: bits 0 to 6 the code, 11 to 14 the length, 15 set for an escape.
  alignas(64) std::uint16_t code[32];
  std::uint32_t raw;
  std::int32_t most;
};
constexpr int kLengthAt = 11;
constexpr std::uint16_t kEscaped = 0x8000;

const Costs* costs() noexcept {
  static const std::array<Costs, 16> made = [] {
    std::array<Costs, 16> all;
    for (std::size_t j = 0; j < all.size(); ++j) {
      const Table& table = hx::tables()[j];
      all[j].raw = table.raw;
      all[j].most = static_cast<std::int32_t>(table.most);
      for (std::uint32_t s = 0; s < 32; ++s) {
        const bool escaped = s == Table::kEscape || table.code_length[s] == 0;
        const std::uint32_t as = escaped ? Table::kEscape : s;
        const std::uint32_t length = table.code_length[as] + table.raw;
        all[j].cost[s] = table.cost[s];
        all[j].length[s] = static_cast<std::uint16_t>(length);
        all[j].code[s] = static_cast<std::uint16_t>(table.code[as] | length << kLengthAt |
                                                    (escaped ? kEscaped : 0U));
      }
    }
    return all;
  }();
  return made.data();
}

// Symbols of 32 numbers.
SPECKV_VBMI_INLINE __m512i symbols(__m512i x, std::uint32_t raw) {
  const __m512i upper =
      _mm512_add_epi16(_mm512_sra_epi16(x, _mm_cvtsi32_si128(static_cast<int>(raw))),
                       _mm512_set1_epi16(static_cast<short>(Table::kBias)));
  return _mm512_min_epu16(upper, _mm512_set1_epi16(static_cast<short>(Table::kEscape)));
}

// log_scale::log2_of() without its loop. REQUIRES: value > 0.
SPECKV_VBMI_INLINE std::int32_t log2_of(std::uint32_t value) {
  alignas(64) static constexpr std::int32_t kSteps[16] = {
      log_scale::significand(0),  log_scale::significand(1),  log_scale::significand(2),
      log_scale::significand(3),  log_scale::significand(4),  log_scale::significand(5),
      log_scale::significand(6),  log_scale::significand(7),  log_scale::significand(8),
      log_scale::significand(9),  log_scale::significand(10), log_scale::significand(11),
      log_scale::significand(12), log_scale::significand(13), log_scale::significand(14),
      log_scale::significand(15)};
  const int octave = static_cast<int>(std::bit_width(value)) - 1;
  const std::uint64_t m = std::uint64_t{value} << 32 >> (32 + octave - log_scale::kBits);
  const __mmask16 reached = _mm512_cmple_epi32_mask(
      _mm512_load_si512(kSteps), _mm512_set1_epi32(static_cast<std::int32_t>(m)));
  return octave * 16 + __builtin_popcount(reached) - 1;
}

template <class F>
class Encoder {
 public:
  // NOLINTNEXTLINE(clang-analyzer-optin.*): the large arrays are filled before use
  Encoder(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept
      : shape_(shape),
        plain_(plain),
        unit_(unit),
        columns_((shape.tokens + 31) / 32 * 32),
        groups_((shape.tokens + kLanes - 1) / kLanes) {
    for (std::uint32_t t = 0; t < columns_; t += 32) {
      const std::uint32_t left = shape.tokens - t;
      masks_[t / 32] = left >= 32 ? kAllWords : (1U << left) - 1;
    }
  }

  enum class Outcome { done, not_finite, unusual };

  SPECKV_VBMI Outcome run() noexcept {
    const std::uint32_t most = turn();
    if (most >= F::kInfinity) return Outcome::not_finite;
    const std::uint32_t top = std::max(most >> F::kMantissa, 1U);
    constexpr int kLift = 18 - (F::kMantissa + 1);  // fixed-point values have 18 bits
    if (!has_fixed_point<F>(top)) return Outcome::unusual;
    sums_.exponent = static_cast<std::int32_t>(top) - 1 + F::kLeast - kLift;
    sum_up();
    hx::choose_gains(shape_, sums_, gain_);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t)
      most_gain_ = std::max(most_gain_, gain_[t]);
    if (!hx::search(first_guess(shape_, sums_, gain_), least_log(shape_, sums_, gain_),
                    [this](std::int32_t log) noexcept { return fits(log); }))
      return unusual_ ? Outcome::unusual : Outcome::not_finite;
    if (unusual_) return Outcome::unusual;
    hx::write_parameters(shape_, {log_, wide_, words_, escapes_, table_, mean_, gain_},
                         unit_);
    write_words();
    return Outcome::done;
  }

 private:
  static constexpr std::uint32_t kMostColumns = 2 * HxShape::kMostValues;

  // The plain values by channels, a token a lane, zeros behind the last token. Returns
  // the largest magnitude.
  SPECKV_VBMI std::uint32_t turn() noexcept {
    const __m512i apart = _mm512_load_si512(kApart);
    __m512i most = _mm512_setzero_si512();
    for (std::uint32_t first = 0; first < columns_; first += kLanes) {
      const std::uint32_t tokens =
          first < shape_.tokens ? std::min(kLanes, shape_.tokens - first) : 0;
      for (std::uint32_t c = 0; c < shape_.channels; c += 32) {
        const __mmask32 words = shape_.channels - c < 32 ? kHalfWords : kAllWords;
        __m512i x[16];
#pragma GCC unroll 16
        for (std::uint32_t t = 0; t < 16; ++t) {
          x[t] = _mm512_setzero_si512();
          if (t < tokens)
            x[t] = _mm512_maskz_loadu_epi16(words,
                                            plain_ + (first + t) * shape_.stride + 2 * c);
          most = _mm512_max_epu16(
              most, _mm512_and_si512(x[t], _mm512_set1_epi16(number::kMagnitude)));
        }
        transpose(x);
#pragma GCC unroll 16
        for (std::uint32_t i = 0; i < 16; ++i) {
          if (c + 2 * i >= shape_.channels) break;
          const __m512i two = _mm512_permutexvar_epi16(apart, x[i]);
          std::uint16_t* const to = bits_ + (c + 2 * i) * columns_ + first;
          _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(two));
          _mm256_store_si256(reinterpret_cast<__m256i*>(to + columns_),
                             _mm512_extracti64x4_epi64(two, 1));
        }
      }
    }
    const __m512i low = _mm512_and_si512(most, _mm512_set1_epi32(0xFFFF));
    return static_cast<std::uint32_t>(
        _mm512_reduce_max_epi32(_mm512_max_epi32(low, _mm512_srli_epi32(most, 16))));
  }

  SPECKV_VBMI void sum_up() noexcept {
    const __m512 scale = _mm512_set1_ps(fixed_scale(sums_.exponent));
    const auto tokens = static_cast<std::int32_t>(shape_.tokens);
    tokens_log_ = log_scale::log2_of(shape_.tokens);
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
      if (shape_.keys) {  // of what is left without the mean, from the same sums
        const std::int32_t total = _mm512_reduce_add_epi32(sum);
        const std::int32_t up = total + tokens / 2;
        const std::int32_t mean = up / tokens - (up % tokens < 0 ? 1 : 0);
        plain_mean_[c] = mean;
        squares += static_cast<std::uint64_t>(
            std::int64_t{mean} * (std::int64_t{tokens} * mean - 2 * std::int64_t{total}));
      }
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

  // Quantises by the step, chooses the tables, and counts.
  SPECKV_VBMI bool fits(std::int32_t log) noexcept {
    log_ = log;
    const std::int32_t least = log - 4 * std::int32_t{most_gain_};
    if (unusual_ || log >= 6400 || least <= -6400) {
      unusual_ = true;
      return true;  // ends the search
    }
    find_means();
    alignas(64) float inverse[HxShape::kMostTokens + 32] = {};
    for (std::uint32_t t = 0; t < shape_.tokens; ++t)
      inverse[t] = as_float(log_scale::inverse64(log - 4 * std::int32_t{gain_[t]}));
    std::uint32_t size[HxShape::kMostChannels];
    for (std::uint32_t c = 0; c < shape_.channels; ++c)
      size[c] = quantise(c, inverse);
    std::uint64_t cost = 0;
    for (std::uint32_t c = 0; c < shape_.channels; ++c)
      cost += choose_table(c, size[c]);
    if (shape_.words(wide_) + cost / 8 > shape_.slot) return false;
    count_words(cost);
    return shape_.words(wide_) + 2 * (words_ + escapes_) <= shape_.slot;
  }

  // Means in steps, rounded half up: rt::mean_steps64() in binary64, where all but the
  // quotient is exact, and the quotient too far from a whole number to become one.
  SPECKV_VBMI void find_means() noexcept {
    wide_ = false;
    if (!shape_.keys) return;
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

  // Returns the sum of magnitudes.
  SPECKV_VBMI_INLINE std::uint32_t quantise(std::uint32_t c, const float* inverse) {
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
  // The cheapest of three tables around that of the mean size. Returns its bits. Without
  // a branch: which one it is cannot be foretold.
  SPECKV_VBMI_INLINE std::uint32_t choose_table(std::uint32_t c, std::uint32_t size) {
    const std::uint32_t columns = columns_;
    const Costs* const all = costs_;
    // log2(1.2533 mean / 0.35) / 0.4, from sixteenths.
    const std::int32_t log = size == 0 ? 0 : log2_of(size) - tokens_log_ + 29;
    const std::int32_t middle = std::clamp((log * 10 + 32) >> 6, 0, 15);
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

  // How many words the lanes take as a decoder asks for them: before a number it needs as
  // many as hold what is taken and the table's longest code. Each number takes a bit at
  // least, so that the last few decide.
  void count_words(std::uint64_t cost) noexcept {
    alignas(64) std::uint16_t lengths[HxShape::kMostTokens + 32];
    find_lengths(lengths);
    std::uint64_t taken = 0;
    words_ = 0;
    for (std::uint32_t i = 0; i < std::min(kLanes, shape_.tokens); ++i) {
      std::int32_t total = 0;
      std::uint32_t last = i;
      for (std::uint32_t t = i; t < shape_.tokens; t += kLanes) {
        total += lengths[t];
        last = t;
      }
      taken += static_cast<std::uint32_t>(total);
      std::int32_t need = 0;
      for (std::uint32_t c = shape_.channels; c-- > shape_.channels - kDeciding;) {
        const Costs& table = costs_[table_[c]];
        total -= table.length[symbol_at(table, c, last)];
        need = std::max(need, total + table.most);
      }
      words_ += static_cast<std::uint32_t>(need + 15) / 16;
    }
    escapes_ = (cost - taken) / 16;
  }
  static constexpr std::uint32_t kDeciding = 12;  // more bits than a code has

  std::uint32_t symbol_at(const Costs& table, std::uint32_t c,
                          std::uint32_t t) const noexcept {
    const std::int32_t x = x_[c * columns_ + t];
    const auto upper =
        static_cast<std::uint32_t>((x >> table.raw) + std::int32_t{Table::kBias});
    return std::min(upper, Table::kEscape);
  }

  // Forward for what a decoder asks for, and when; then back, where each lane gives up
  // what a decoder has too much.
  SPECKV_VBMI void write_words() noexcept {
    std::byte* const first_word = unit_.data() + shape_.words(wide_);
    __m512i count = forward(first_word + 2 * words_);
    __m512i held = _mm512_setzero_si512();
    std::byte* word = first_word + 2 * words_;
    for (std::uint32_t step = groups_ * shape_.channels; step-- > 0;) {
      const __m512i coded = _mm512_cvtepu16_epi32(
          _mm256_load_si256(reinterpret_cast<const __m256i*>(coded_[step])));
      const __m512i length =
          _mm512_and_si512(_mm512_srli_epi32(coded, kLengthAt), _mm512_set1_epi32(15));
      const __m512i bits =
          _mm512_and_si512(coded, _mm512_set1_epi32((1 << kLengthAt) - 1));
      held = _mm512_or_si512(_mm512_sllv_epi32(held, length), bits);
      count = _mm512_add_epi32(count, length);
      const __mmask16 pulled = pulls_[step];
      const __m512i left = _mm512_sub_epi32(count, _mm512_set1_epi32(16));
      const __m512i out = _mm512_srlv_epi32(held, left);
      const __m512i kept =
          _mm512_andnot_si512(_mm512_sllv_epi32(_mm512_set1_epi32(-1), left), held);
      held = _mm512_mask_mov_epi32(held, pulled, kept);
      count = _mm512_mask_mov_epi32(count, pulled, left);
      const auto n = static_cast<unsigned>(__builtin_popcount(pulled));
      word -= 2 * n;
      _mm256_mask_storeu_epi16(
          word, static_cast<__mmask16>((1U << n) - 1),
          _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(pulled, out)));
    }
  }

  // Codes every number, writes the escapes, and returns what the lanes have left over.
  SPECKV_VBMI __m512i forward(std::byte* escape) noexcept {
    __m256i count = _mm256_setzero_si256();
    std::uint32_t step = 0;
    for (std::uint32_t g = 0; g < groups_; ++g) {
      const __mmask16 lanes = first_lanes(shape_.tokens - g * kLanes);
      for (std::uint32_t c = 0; c < shape_.channels; ++c, ++step) {
        const Costs& table = costs_[table_[c]];
        const std::int16_t* const from = x_ + c * columns_ + g * kLanes;
        const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
        const __m128i raw = _mm_cvtsi32_si128(static_cast<int>(table.raw));
        const __m256i symbol = _mm256_min_epu16(
            _mm256_add_epi16(_mm256_sra_epi16(x, raw),
                             _mm256_set1_epi16(static_cast<short>(Table::kBias))),
            _mm256_set1_epi16(static_cast<short>(Table::kEscape)));
        const __m256i entry = _mm256_maskz_permutex2var_epi16(
            lanes, _mm256_load_si256(reinterpret_cast<const __m256i*>(table.code)),
            symbol, _mm256_load_si256(reinterpret_cast<const __m256i*>(table.code + 16)));
        const __m256i length =
            _mm256_and_si256(_mm256_srli_epi16(entry, kLengthAt), _mm256_set1_epi16(15));
        const __mmask16 escaped = _mm256_movepi16_mask(entry);
        const __m256i low = _mm256_and_si256(
            x, _mm256_set1_epi16(static_cast<short>((1 << table.raw) - 1)));
        const __m256i shift =
            _mm256_sub_epi16(length, _mm256_set1_epi16(static_cast<short>(table.raw)));
        const __mmask16 plain = static_cast<__mmask16>(lanes & ~escaped);
        _mm256_store_si256(
            reinterpret_cast<__m256i*>(coded_[step]),
            _mm256_or_si256(entry, _mm256_maskz_sllv_epi16(plain, low, shift)));
        const __mmask16 pull = _mm256_mask_cmplt_epi16_mask(
            lanes, count, _mm256_set1_epi16(static_cast<short>(table.most)));
        pulls_[step] = pull;
        count = _mm256_sub_epi16(
            _mm256_mask_add_epi16(count, pull, count, _mm256_set1_epi16(16)), length);
        for (std::uint32_t rest = escaped; rest != 0; rest &= rest - 1, escape += 2)
          store_le(escape, from[std::countr_zero(rest)]);
      }
    }
    return _mm512_cvtepi16_epi32(count);
  }

  const HxShape& shape_;
  const std::byte* plain_;
  MutableBytes unit_;
  const Costs* const costs_ = costs();
  const std::uint32_t columns_, groups_;  // columns_: tokens, to a multiple of 32
  // Of each 32 columns, those that have a token.
  __mmask32 masks_[HxShape::kMostTokens / 32];
  Sums sums_;
  bool unusual_ = false, wide_ = false;
  std::int32_t log_ = 0, tokens_log_ = 0;
  std::uint64_t words_ = 0, escapes_ = 0;
  std::uint8_t most_gain_ = 0;
  std::uint8_t gain_[HxShape::kMostTokens];
  std::uint8_t table_[HxShape::kMostChannels];
  alignas(64) std::int16_t mean_[HxShape::kMostChannels] = {};
  alignas(64) std::int32_t plain_mean_[HxShape::kMostChannels];
  alignas(64) std::uint16_t bits_[kMostColumns];  // [channel][token]
  alignas(64) std::int16_t x_[kMostColumns];      // [channel][token]
  alignas(64) std::uint16_t coded_[HxShape::kMostValues / 16 + 1024][kLanes];
  std::uint16_t pulls_[HxShape::kMostValues / 16 + 1024];
};

}  // namespace

template <class F>
bool encode(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept {
  if (is_usable()) {
    using Outcome = typename Encoder<F>::Outcome;
    const Outcome outcome = Encoder<F>(shape, plain, unit).run();
    if (outcome != Outcome::unusual) return outcome == Outcome::done;
  }
  return hx::encode_unit<F>(shape, plain, unit);
}
template bool encode<number::F16>(const HxShape&, const std::byte*,
                                  MutableBytes) noexcept;
template bool encode<number::Bf16>(const HxShape&, const std::byte*,
                                   MutableBytes) noexcept;

}  // namespace speckv::hx512

#endif

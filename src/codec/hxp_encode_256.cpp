// Encoding an hxp unit with vectors of 256 bits: the loops of hxp_encoder.hpp, 16 places
// a register, 32 of their symbols.
#include "codec/hx_words_256.hpp"

#if defined(SPECKV_256)

#include "codec/hxp_256.hpp"
#include "codec/hxp_encoder.hpp"

namespace speckv::hxp256 {

using namespace hx256;

namespace {

SPECKV_256_INLINE __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
SPECKV_256_INLINE void store(void* to, __m256i x) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), x);
}
SPECKV_256_INLINE __m256i both(__m128i low, __m128i high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
// Products of eight numbers, in 64 bits: of two pairs of four lanes.
SPECKV_256_INLINE __m256i products(__m256i a, __m256i b) {
  return _mm256_add_epi64(
      _mm256_mul_epi32(a, b),
      _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)));
}
// Of eight registers with eight numbers, rows for columns.
SPECKV_256_INLINE void turn_numbers(__m256i* x) {
  __m256i y[8];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 8; i += 2) {
    y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 2
  for (std::size_t i = 0; i < 8; i += 4) {
    x[i] = _mm256_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm256_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm256_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm256_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    const __m256i low = x[i], high = x[4 + i];
    x[i] = _mm256_permute2x128_si256(low, high, 0x20);
    x[4 + i] = _mm256_permute2x128_si256(low, high, 0x31);
  }
}

// Numbers by gain, of which there are 16.
struct ByGain {
  __m256i low, high;

  SPECKV_256_INLINE __m256i at(__m256i gains) const {
    const __m256 a = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(low, gains)),
                 b = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(high, gains));
    const __m256 is_high = _mm256_castsi256_ps(_mm256_slli_epi32(gains, 28));
    return _mm256_castps_si256(_mm256_blendv_ps(a, b, is_high));
  }
};

template <class F>
class Loops : public hxp::EncoderState {
 public:
  Loops(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
        MutableBytes unit, hxp::Scratch& scratch) noexcept
      : EncoderState(shape, place, plain, unit, scratch) {}

  SPECKV_256 std::uint32_t largest_of(const std::byte* plain) const noexcept {
    __m256i most = _mm256_setzero_si256();
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      for (std::uint32_t c = 0; c < shape_.channels; c += kLanes)
        most = _mm256_max_epu16(most,
                                _mm256_and_si256(load(plain + t * shape_.stride + 2 * c),
                                                 _mm256_set1_epi16(number::kMagnitude)));
    }
    return largest(most);
  }
  SPECKV_256 void take(const std::byte* plain, rt::Work& work) const noexcept {
    const __m256 scale = _mm256_set1_ps(fixed_scale(work.exponent));
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      for (std::uint32_t c = 0; c < shape_.channels; c += 8)
        store(work.x + at(t, c),
              fixed_point<F>(load16(plain + t * shape_.stride + 2 * c), scale));
    }
  }

  SPECKV_256 hxp::TokenSums sums_of_token(const std::int32_t* keys,
                                          const std::int32_t* values) const noexcept {
    const std::uint32_t d = shape_.channels;
    __m256i sum[4];
    for (__m256i& each : sum)
      each = _mm256_setzero_si256();
    for (std::uint32_t c = 0; c < d; c += 8) {
      const __m256i k = load(keys + c), v = load(values + c);
      sum[0] = _mm256_add_epi64(sum[0], products(k, k));
      sum[1] = _mm256_add_epi64(sum[1], products(v, v));
      sum[2] = _mm256_add_epi64(sum[2], products(k, load(weight_ + c)));
      sum[3] = _mm256_add_epi64(sum[3], products(v, load(weight_ + d + c)));
    }
    return {static_cast<std::uint64_t>(sum_of_quarters(sum[0])),
            static_cast<std::uint64_t>(sum_of_quarters(sum[1])), sum_of_quarters(sum[2]),
            sum_of_quarters(sum[3])};
  }

  // Offsets of all tokens (of V, for all), and the deviations from them, which take the
  // place of the other unit's numbers.
  SPECKV_256 void find_deviations() noexcept {
    const hxp::Offsets offsets(place_.block.profile, place_.head);
    const std::int32_t* const mean = offsets.means();
    std::copy_n(mean, shape_.channels, mean_);
    const std::uint32_t pairs = shape_.keys ? place_.block.profile.shape().pairs : 0;
    if (shape_.keys) fill(place_.block, shape_.tokens, s_.waves);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      for (std::uint32_t i = 0; i < pairs; i += 4) {
        const Turned both = turned(mean, s_.waves, t, i);
        deviate(at(t, i), both.low);
        deviate(at(t, pairs + i), both.high);
      }
      for (std::uint32_t c = 2 * pairs; c < shape_.channels; c += 4)
        deviate(at(t, c), whole(mean + c));
    }
  }
  SPECKV_256_INLINE void deviate(std::size_t i, __m256d offset) {
    const int down = std::clamp(hxp::kOffsetBits + s_.own.exponent, -1000, 1000);
    const __m256d scale = _mm256_set1_pd(
        std::bit_cast<double>(static_cast<std::uint64_t>(1023 - down) << 52));
    constexpr double kMost = 1 << 20;
    __m256d n = halves_up(_mm256_mul_pd(offset, scale));
    n = _mm256_min_pd(n, _mm256_set1_pd(kMost));
    n = _mm256_max_pd(n, _mm256_set1_pd(-kMost));
    const __m256d x = _mm256_sub_pd(whole(s_.own.x + i), n);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(s_.other.x + i), _mm256_cvtpd_epi32(x));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(s_.offset + i),
                     _mm256_cvtpd_epi32(offset));
  }

  SPECKV_256 std::uint64_t energy_of(const std::int32_t* deviations) const noexcept {
    __m256i energy = _mm256_setzero_si256();
    for (std::uint32_t c = 0; c < shape_.channels; c += 8) {
      const __m256i x = load(deviations + c);
      energy = _mm256_add_epi64(energy, products(x, x));
    }
    return static_cast<std::uint64_t>(sum_of_quarters(energy));
  }

  SPECKV_256 void sum_classes(std::int64_t* log) const noexcept {
    for (std::uint32_t c = 0; c < shape_.channels; c += 4) {
      __m256i energy[kClasses];
      for (__m256i& each : energy)
        each = _mm256_setzero_si256();
      for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
        const __m256d finer = _mm256_set1_pd(
            as_float(log_scale::power64(HxpShape::kGainStep * std::int32_t{gain_[t]})));
        const __m256d x =
            _mm256_floor_pd(_mm256_mul_pd(whole(s_.other.x + at(t, c)), finer));
        const __m256i n = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(x));
        __m256i& sum = energy[order_.class_of[t]];
        sum = _mm256_add_epi64(sum, _mm256_mul_epi32(n, n));
      }
      for (std::uint32_t v = 0; v < kClasses; ++v) {
        std::uint64_t each[4];
        store(each, energy[v]);
        for (const std::uint64_t of_channel : each)
          log[v] += log_scale::log2_of(of_channel) - tokens_log_[v];
      }
    }
  }

  SPECKV_256 std::int32_t finest() const noexcept {
    __m256i most = _mm256_set1_epi32(INT32_MIN);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      const __m256i finer = _mm256_set1_epi32(-hxp::log_of(0, 0, gain_[t]));
      for (std::uint32_t c = 0; c < shape_.channels; c += 8) {
        // Of a whole number below 2^24, from its exponent as a float.
        const __m256 x = _mm256_cvtepi32_ps(_mm256_abs_epi32(load(s_.own.x + at(t, c))));
        const __m256i width = _mm256_max_epi32(
            _mm256_sub_epi32(_mm256_srli_epi32(_mm256_castps_si256(x), 23),
                             _mm256_set1_epi32(126)),
            _mm256_setzero_si256());
        const __m256i own =
            _mm256_sub_epi32(finer, _mm256_slli_epi32(load(step_ + c), 2));
        most = _mm256_max_epi32(most, _mm256_add_epi32(_mm256_slli_epi32(width, 6), own));
      }
    }
    std::int32_t all[8];
    store(all, most);
    return *std::max_element(all, all + 8);
  }

  SPECKV_256 void prepare() noexcept {
    for (std::uint32_t j = 0; j < kTables; ++j) {
      for (std::uint32_t v = 0; v < kClasses; ++v)
        of_table_[j][v] = costs_ + hxp::table_for(j, offset_[v]);
    }
    for (std::uint32_t i = 0; i < shape_.tokens; ++i)
      lanes_of_[i / kLanes][class_at(i)][i % kLanes] = known_[i] = -1;
    for (std::uint32_t group = 0; group < columns_ / kLanes; ++group)
      find_classes(group);
    for (std::uint32_t block = 0; block < columns_ / 32; ++block)
      find_looks(block);
    (void)turn_values(
        shape_.tokens, shape_.channels, columns_, s_.bits,
        [this](std::uint32_t i) { return plain_ + order_.token[i] * shape_.stride; });
    if (shape_.keys) turn_offsets();
  }

  SPECKV_256 void quantise() noexcept {
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      std::uint32_t size[kClasses];
      quantise_one(c, size);
    }
  }
  SPECKV_256 std::uint64_t price() noexcept {
    std::uint64_t cost = 0;
    for (std::uint32_t c = 0; c < shape_.channels && !is_over(cost); ++c) {
      std::uint32_t size[kClasses];
      quantise_one(c, size);
      cost += choose_table(c, size);
    }
    return cost;
  }

  SPECKV_256 void find_lengths(std::uint16_t* lengths) const noexcept {
    for (std::uint32_t first = 0; first < columns_; first += 32) {
      __m256i low = _mm256_setzero_si256(), high = low;
      for (std::uint32_t c = 0; c < shape_.channels; ++c) {
        const auto& table = of_table_[trial_.table[c]];
        for (std::uint32_t k = 0; k < looks_[first / 32]; ++k) {
          const __m256i bits =
              look<&Costs::length>(table, look_[first / 32][k], numbers(c) + first);
          low = _mm256_add_epi16(low, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bits)));
          high = _mm256_add_epi16(
              high, _mm256_cvtepu8_epi16(_mm256_extracti128_si256(bits, 1)));
        }
      }
      store(lengths + first, low);
      store(lengths + first + kLanes, high);
    }
  }

  void write(std::byte* words) noexcept {
    write_words(all_numbers(), words, trial_.words, s_.coded,
                [this](std::uint32_t group, std::uint32_t c, LaneTable* of) SPECKV_256 {
                  for (std::uint32_t k = 0; k < classes_[group]; ++k) {
                    const std::uint32_t v = class_[group][k];
                    of[k] = {of_table_[trial_.table[c]][v], load(lanes_of_[group][v])};
                  }
                  return std::uint32_t{classes_[group]};
                });
  }

 protected:
  const Costs* const costs_ = costs();

 private:
  static constexpr std::uint32_t kGroups = HxShape::kMostTokens / kLanes;
  using ClassTables = const Costs* [kClasses];

  // 32 places are looked up as often as a half of them has classes: one of each half.
  struct Look {
    std::uint8_t low, high;  // the classes
    alignas(32) std::uint8_t places[32];
  };
  template <auto bytes>
  SPECKV_256_INLINE static __m256i look(const ClassTables& table, const Look& by,
                                        const std::int16_t* numbers) {
    const Costs &low = *table[by.low], &high = *table[by.high];
    return _mm256_and_si256(load(by.places), hx256::look_up(low.*bytes, high.*bytes,
                                                            symbols(low, high, numbers)));
  }

  void find_classes(std::uint32_t group) noexcept {
    classes_[group] = 0;
    for (std::uint32_t v = 0; v < kClasses; ++v) {
      const std::int16_t* const lanes = lanes_of_[group][v];
      if (std::any_of(lanes, lanes + kLanes, [](std::int16_t x) { return x != 0; }))
        class_[group][classes_[group]++] = static_cast<std::uint8_t>(v);
    }
  }
  void find_looks(std::uint32_t block) noexcept {
    const std::uint32_t low = 2 * block, high = low + 1;
    looks_[block] = std::max(classes_[low], classes_[high]);
    for (std::uint32_t k = 0; k < looks_[block]; ++k) {
      Look& to = look_[block][k];
      to.low = to.high = 0;
      if (k < classes_[low]) to.low = class_[low][k];
      if (k < classes_[high]) to.high = class_[high][k];
      for (std::uint32_t i = 0; i < kLanes; ++i) {
        to.places[i] =
            static_cast<std::uint8_t>(k < classes_[low] ? lanes_of_[low][to.low][i] : 0);
        to.places[kLanes + i] = static_cast<std::uint8_t>(
            k < classes_[high] ? lanes_of_[high][to.high][i] : 0);
      }
    }
  }

  SPECKV_256 void turn_offsets() noexcept {
    for (std::uint32_t first = 0; first < shape_.tokens; first += 8) {
      for (std::uint32_t c = 0; c < shape_.channels; c += 8) {
        __m256i x[8];
#pragma GCC unroll 8
        for (std::uint32_t i = 0; i < 8; ++i) {
          const std::uint32_t t = order_.token[std::min(first + i, shape_.tokens - 1)];
          x[i] = load(s_.offset + at(t, c));
        }
        turn_numbers(x);
#pragma GCC unroll 8
        for (std::uint32_t i = 0; i < 8; ++i)
          store(s_.turned + (c + i) * columns_ + first, x[i]);
      }
    }
  }

  // size: of each class the sum of magnitudes.
  SPECKV_256_INLINE void quantise_one(std::uint32_t c, std::uint32_t* size) {
    const auto inverses = [&](std::int32_t first) SPECKV_256 {
      const __m256i gain = _mm256_add_epi32(_mm256_set1_epi32(first),
                                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
      return inverse_of(_mm256_sub_epi32(
          _mm256_set1_epi32(log_ + 4 * step_[c]),
          _mm256_mullo_epi32(_mm256_set1_epi32(HxpShape::kGainStep), gain)));
    };
    const __m256 low = inverses(0), high = inverses(8);
    const ByGain inverse{_mm256_castps_si256(low), _mm256_castps_si256(high)};
    ByGain mean{};
    if (!shape_.keys) {
      const __m256d offset = _mm256_set1_pd(mean_[c]);
      mean = {steps_of_both(offset, offset, low), steps_of_both(offset, offset, high)};
    }
    const auto number = [&](std::size_t i, std::uint32_t place) SPECKV_256 {
      const __m256i gains = load(gain_at_ + place);
      const __m256 by = _mm256_castsi256_ps(inverse.at(gains));
      const __m256i n = vector256::whole<F>(
          load16(reinterpret_cast<const std::byte*>(s_.bits + i)), by);
      const __m256i less =
          shape_.keys ? steps_of_both(whole(s_.turned + i), whole(s_.turned + i + 4), by)
                      : mean.at(gains);
      return _mm256_sub_epi32(n, less);
    };
    __m256i sum[kClasses];
#pragma GCC unroll 4
    for (__m256i& each : sum)
      each = _mm256_setzero_si256();
    for (std::uint32_t first = 0; first < columns_; first += kLanes) {
      const std::size_t i = std::size_t{c} * columns_ + first;
      const std::uint32_t group = first / kLanes;
      if (classes_[group] == 0) {
        store(s_.numbers + i, _mm256_setzero_si256());
        continue;
      }
      const __m256i x = _mm256_and_si256(
          load(known_ + first), words(number(i, first), number(i + 8, first + 8)));
      store(s_.numbers + i, x);
      const __m256i magnitude = _mm256_abs_epi16(x);
      for (std::uint32_t k = 0; k < classes_[group]; ++k) {
        const std::uint32_t v = class_[group][k];
        const __m256i mine = _mm256_and_si256(magnitude, load(lanes_of_[group][v]));
        sum[v] = _mm256_add_epi32(sum[v], _mm256_madd_epi16(mine, _mm256_set1_epi16(1)));
      }
    }
    for (std::uint32_t v = 0; v < kClasses; ++v)
      size[v] = static_cast<std::uint32_t>(sum_of_eighths(sum[v]));
  }
  SPECKV_256_INLINE static __m256i steps_of_both(__m256d low, __m256d high,
                                                 __m256 inverse) {
    return both(steps_of(low, _mm256_cvtps_pd(_mm256_castps256_ps128(inverse))),
                steps_of(high, _mm256_cvtps_pd(_mm256_extractf128_ps(inverse, 1))));
  }

  // The cheapest of five tables around that of the mean sizes. Returns its bits.
  SPECKV_256_INLINE std::uint32_t choose_table(std::uint32_t c,
                                               const std::uint32_t* size) {
    const std::int32_t middle =
        hxp::middle_table(offset_, [&](std::uint32_t v) SPECKV_256 {
          return size[v] == 0
                     ? 0
                     : log_scale::log2_of(size[v]) - tokens_log_[v] + hxp::kMeanToTable;
        });
    constexpr std::uint32_t kTried = 5;
    std::uint32_t table[kTried];
    __m256i sum[kTried];
#pragma GCC unroll 5
    for (std::uint32_t k = 0; k < kTried; ++k) {
      table[k] = static_cast<std::uint32_t>(
          std::clamp(middle - 2 + static_cast<std::int32_t>(k), 0, 15));
      sum[k] = _mm256_setzero_si256();
    }
    for (std::uint32_t first = 0; first < columns_; first += 32) {
      for (std::uint32_t l = 0; l < looks_[first / 32]; ++l) {
#pragma GCC unroll 5
        for (std::uint32_t k = 0; k < kTried; ++k) {
          const __m256i bits = look<&Costs::cost>(
              of_table_[table[k]], look_[first / 32][l], numbers(c) + first);
          sum[k] =
              _mm256_add_epi64(sum[k], _mm256_sad_epu8(bits, _mm256_setzero_si256()));
        }
      }
    }
    // No sum reaches 2^16.
    const __m256i four = _mm256_or_si256(
        _mm256_or_si256(sum[0], _mm256_slli_epi64(sum[1], 16)),
        _mm256_or_si256(_mm256_slli_epi64(sum[2], 32), _mm256_slli_epi64(sum[3], 48)));
    const auto sums = static_cast<std::uint64_t>(sum_of_quarters(four));
    const auto last = static_cast<std::uint64_t>(sum_of_quarters(sum[4]));
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

  ClassTables of_table_[kTables];
  // By groups of kLanes places: -1 for who has a class; which there are. By blocks of 32.
  alignas(32) std::int16_t lanes_of_[kGroups][kClasses][kLanes] = {};
  alignas(32) std::int16_t known_[HxShape::kMostTokens] = {};
  std::uint8_t classes_[kGroups], class_[kGroups][kClasses];
  std::uint8_t looks_[kGroups / 2];
  Look look_[kGroups / 2][kClasses];
};

}  // namespace

template <class F>
bool encode(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
            const std::byte* other, MutableBytes unit, hxp::Scratch& scratch) noexcept {
  return hxp::encode_with<F, Loops<F>>(shape, place, plain, other, unit, scratch);
}
template bool encode<number::F16>(const HxpShape&, const HxpPlace&, const std::byte*,
                                  const std::byte*, MutableBytes, hxp::Scratch&) noexcept;
template bool encode<number::Bf16>(const HxpShape&, const HxpPlace&, const std::byte*,
                                   const std::byte*, MutableBytes,
                                   hxp::Scratch&) noexcept;

}  // namespace speckv::hxp256

#endif

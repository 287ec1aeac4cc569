// The INT8 LSTM with AVX2. vpmaddubsw saturates, but not for |x| times w with x's sign:
// two such products are at most 32,258.
#include "predict/lstm_kernels.hpp"

#if defined(__x86_64__)

#include <cstring>

#include <immintrin.h>

#include "predict/int8_arithmetic.hpp"

#define SPECKV_AVX2 __attribute__((target("avx2")))
#define SPECKV_AVX2_INLINE SPECKV_AVX2 __attribute__((always_inline)) inline

namespace speckv::predict {
namespace {

bool usable() noexcept {
  return __builtin_cpu_supports("avx2") != 0;
}

SPECKV_AVX2_INLINE __m256i load(const void* from) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
SPECKV_AVX2_INLINE void store(void* to, __m256i value) noexcept {
  _mm256_storeu_si256(static_cast<__m256i*>(to), value);
}

SPECKV_AVX2 void affine(const Int8Matrix& matrix, const std::int8_t* in,
                        std::int32_t* out) noexcept {
  constexpr std::uint32_t kLanes = 8, kSums = Int8Matrix::kPanel / kLanes;
  const auto* line = reinterpret_cast<const std::int8_t*>(matrix.lines.data());
  const __m256i one = _mm256_set1_epi16(1);
  const __m256i half = _mm256_set1_epi32(1 << (matrix.shift - 1));
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(matrix.shift));
  for (std::uint32_t row = 0; row < matrix.padded_rows(); row += Int8Matrix::kPanel) {
    __m256i sum[kSums] = {};
    for (std::uint32_t c = 0; c < matrix.columns;
         c += 4, line += 4 * Int8Matrix::kPanel) {
      std::int32_t four;
      std::memcpy(&four, in + c, sizeof four);
      const __m256i x = _mm256_set1_epi32(four), size = _mm256_abs_epi8(x);
#pragma GCC unroll 8
      for (std::uint32_t i = 0; i < kSums; ++i) {
        const __m256i w = _mm256_sign_epi8(load(line + 32 * i), x);
        sum[i] = _mm256_add_epi32(sum[i],
                                  _mm256_madd_epi16(_mm256_maddubs_epi16(size, w), one));
      }
    }
#pragma GCC unroll 8
    for (std::uint32_t i = 0; i < kSums; ++i) {
      const std::uint32_t r = row + kLanes * i;
      const __m256i all = _mm256_add_epi32(
          _mm256_mullo_epi32(sum[i], load(&matrix.multiplier[r])), load(&matrix.bias[r]));
      store(out + r, _mm256_sra_epi32(_mm256_add_epi32(all, half), shift));
    }
  }
}

// The sigmoid's table, a value and the step to the next in a word.
struct Words {
  std::int32_t at[64];
};
constexpr Words words() noexcept {
  Words w{};
  for (std::size_t i = 0; i < 64; ++i) {
    const std::int32_t step = int8::kSigmoid[i + 1] - int8::kSigmoid[i];
    w.at[i] = int8::kSigmoid[i] | step << 16;
  }
  return w;
}
constexpr Words kWords = words();

// x within -kMost..kMost, 16 of them.
SPECKV_AVX2_INLINE __m256i sigmoid(__m256i x) noexcept {
  const __m256i size = _mm256_abs_epi16(x);
  const __m256i index = _mm256_srli_epi16(size, 9);
  const __m256i part =
      _mm256_slli_epi16(_mm256_and_si256(size, _mm256_set1_epi16(511)), 6);
  const __m256i none = _mm256_setzero_si256(), low = _mm256_set1_epi32(0xFFFF);
  const __m256i a =
      _mm256_i32gather_epi32(kWords.at, _mm256_unpacklo_epi16(index, none), 4);
  const __m256i b =
      _mm256_i32gather_epi32(kWords.at, _mm256_unpackhi_epi16(index, none), 4);
  const __m256i base =
      _mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
  const __m256i step =
      _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
  const __m256i y = _mm256_add_epi16(base, _mm256_mulhrs_epi16(step, part));
  const __m256i other =
      _mm256_sub_epi16(_mm256_set1_epi16(static_cast<short>(0x8000)), y);
  return _mm256_blendv_epi8(y, other, _mm256_srai_epi16(x, 15));
}

SPECKV_AVX2_INLINE __m256i least(__m256i x) noexcept {  // -32768 becomes -32767
  return _mm256_max_epi16(x, _mm256_set1_epi16(-32767));
}

SPECKV_AVX2_INLINE __m256i tanh(__m256i x) noexcept {
  const __m256i y = sigmoid(least(_mm256_adds_epi16(x, x)));
  return _mm256_xor_si256(_mm256_add_epi16(y, y),
                          _mm256_set1_epi16(static_cast<short>(0x8000)));
}

SPECKV_AVX2_INLINE __m256i gate(const std::int32_t* from) noexcept {
  const __m256i packed = _mm256_packs_epi32(load(from), load(from + 8));
  return least(_mm256_permute4x64_epi64(packed, 0xD8));
}

SPECKV_AVX2 void cells(const std::int32_t* gates, std::int16_t* c,
                       std::int8_t* h) noexcept {
  for (std::uint32_t k = 0; k < kHidden; k += 16) {
    const __m256i i = sigmoid(gate(gates + k));
    const __m256i f = sigmoid(gate(gates + kHidden + k));
    const __m256i g = tanh(gate(gates + 2 * kHidden + k));
    const __m256i o = sigmoid(gate(gates + 3 * kHidden + k));
    const __m256i kept = _mm256_mulhrs_epi16(f, load(c + k));
    const __m256i added = _mm256_srai_epi16(
        _mm256_add_epi16(_mm256_mulhrs_epi16(i, g), _mm256_set1_epi16(4)), 3);
    const __m256i now = least(_mm256_adds_epi16(kept, added));
    store(c + k, now);
    const __m256i wide = _mm256_mulhrs_epi16(o, tanh(now));
    const __m256i rounded = _mm256_max_epi16(
        _mm256_srai_epi16(_mm256_adds_epi16(wide, _mm256_set1_epi16(128)), 8),
        _mm256_set1_epi16(-127));
    const __m256i bytes =
        _mm256_permute4x64_epi64(_mm256_packs_epi16(rounded, rounded), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(h + k), _mm256_castsi256_si128(bytes));
  }
}

SPECKV_AVX2 std::uint32_t weigh(const std::int32_t* logits, std::size_t count,
                                std::int32_t most, std::uint32_t* weights) noexcept {
  constexpr std::size_t kLanes = 8;
  alignas(32) std::uint32_t sums[kLanes];
  __m256i sum = _mm256_setzero_si256();
  std::size_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    const __m256i below = _mm256_sub_epi32(_mm256_set1_epi32(most), load(logits + k));
    const __m256i whole = _mm256_srli_epi32(below, int8::kFraction);
    const __m256i i =
        _mm256_and_si256(_mm256_srli_epi32(below, 7), _mm256_set1_epi32(31));
    const __m256i part = _mm256_and_si256(below, _mm256_set1_epi32(127));
    const __m256i base = _mm256_i32gather_epi32(int8::kPower.data(), i, 4);
    const __m256i next = _mm256_i32gather_epi32(int8::kPower.data() + 1, i, 4);
    const __m256i off = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_mullo_epi32(_mm256_sub_epi32(base, next), part),
                         _mm256_set1_epi32(64)),
        7);
    // A shift by 32 and more gives 0, one by 16 and more does for 16 bits.
    const __m256i w = _mm256_srlv_epi32(_mm256_sub_epi32(base, off), whole);
    const __m256i far = _mm256_cmpgt_epi32(whole, _mm256_set1_epi32(15));
    const __m256i kept = _mm256_andnot_si256(far, w);
    store(weights + k, kept);
    sum = _mm256_add_epi32(sum, kept);
  }
  store(sums, sum);
  std::uint32_t all =
      lstm_detail::kScalar.weigh(logits + k, count - k, most, weights + k);
  for (const std::uint32_t s : sums)
    all += s;
  return all;
}

}  // namespace

namespace lstm_detail {
const LstmKernel kAvx2 = {"avx2", usable, affine, cells, weigh};
}  // namespace lstm_detail

}  // namespace speckv::predict

#endif

// The INT8 LSTM with AVX-512 VNNI: four products a lane and instruction.
#include "predict/lstm_kernels.hpp"

#if defined(__x86_64__)

// g++ 12 calls its own intrinsics' undefined operands uninitialized (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <cstring>

#include <immintrin.h>

#include "predict/int8_arithmetic.hpp"

#define SPECKV_VNNI \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define SPECKV_VNNI_INLINE SPECKV_VNNI __attribute__((always_inline)) inline

namespace speckv::predict {
namespace {

bool usable() noexcept {
  return __builtin_cpu_supports("avx512f") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0;
}

// vpdpbusd takes unsigned inputs: 128 is added to them, and `start` takes it off again.
SPECKV_VNNI void affine(const Int8Matrix& matrix, const std::int8_t* in,
                        std::int32_t* out) noexcept {
  alignas(64) std::uint32_t fours[2 * kHidden / 4];
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  for (std::uint32_t c = 0; c < matrix.columns; c += 64) {
    const std::uint32_t left = matrix.columns - c;
    const __mmask64 lanes = left >= 64 ? ~0ULL : (1ULL << left) - 1;
    const __m512i x = _mm512_maskz_loadu_epi8(lanes, in + c);
    _mm512_mask_storeu_epi8(fours + c / 4, lanes, _mm512_xor_si512(x, flip));
  }
  const auto* line = reinterpret_cast<const __m512i*>(matrix.lines.data());
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(matrix.shift));
  for (std::uint32_t row = 0; row < matrix.padded_rows(); row += Int8Matrix::kPanel) {
    __m512i sum[4] = {}, odd[4] = {};
    for (std::uint32_t c = 0; c < matrix.columns / 4; c += 2, line += 8) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(fours[c]));
      const __m512i y = _mm512_set1_epi32(static_cast<int>(fours[c + 1]));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        sum[i] = _mm512_dpbusd_epi32(sum[i], x, _mm512_load_si512(line + i));
        odd[i] = _mm512_dpbusd_epi32(odd[i], y, _mm512_load_si512(line + 4 + i));
      }
    }
#pragma GCC unroll 4
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::uint32_t r = row + 16 * i;
      const __m512i all = _mm512_mullo_epi32(_mm512_add_epi32(sum[i], odd[i]),
                                             _mm512_loadu_si512(&matrix.multiplier[r]));
      const __m512i moved = _mm512_add_epi32(all, _mm512_loadu_si512(&matrix.start[r]));
      _mm512_store_si512(out + r, _mm512_sra_epi32(moved, shift));
    }
  }
}

struct Tables {
  __m512i low, high, step_low, step_high;  // of the sigmoid, and its differences
};

SPECKV_VNNI_INLINE Tables tables() noexcept {
  alignas(64) std::int16_t step[64];
  const __m512i low = _mm512_loadu_si512(int8::kSigmoid.data());
  const __m512i high = _mm512_loadu_si512(int8::kSigmoid.data() + 32);
  _mm512_store_si512(
      step, _mm512_sub_epi16(_mm512_loadu_si512(int8::kSigmoid.data() + 1), low));
  _mm512_store_si512(
      step + 32, _mm512_sub_epi16(_mm512_loadu_si512(int8::kSigmoid.data() + 33), high));
  return {low, high, _mm512_load_si512(step), _mm512_load_si512(step + 32)};
}

// x within -kMost..kMost. 32768 - y is at most 32757, so it has 16 bits.
SPECKV_VNNI_INLINE __m512i sigmoid(const Tables& t, __m512i x) noexcept {
  const __m512i size = _mm512_abs_epi16(x);
  const __m512i i = _mm512_srli_epi16(size, 9);
  const __m512i part =
      _mm512_slli_epi16(_mm512_and_si512(size, _mm512_set1_epi16(511)), 6);
  const __m512i base = _mm512_permutex2var_epi16(t.low, i, t.high);
  const __m512i step = _mm512_permutex2var_epi16(t.step_low, i, t.step_high);
  const __m512i y = _mm512_add_epi16(base, _mm512_mulhrs_epi16(step, part));
  const __m512i whole = _mm512_set1_epi16(static_cast<short>(0x8000));
  return _mm512_mask_sub_epi16(y, _mm512_movepi16_mask(x), whole, y);
}

SPECKV_VNNI_INLINE __m512i least(__m512i x) noexcept {  // -32768 becomes -32767
  return _mm512_max_epi16(x, _mm512_set1_epi16(-32767));
}

SPECKV_VNNI_INLINE __m512i tanh(const Tables& t, __m512i x) noexcept {
  const __m512i y = sigmoid(t, least(_mm512_adds_epi16(x, x)));
  return _mm512_xor_si512(_mm512_add_epi16(y, y),
                          _mm512_set1_epi16(static_cast<short>(0x8000)));
}

SPECKV_VNNI_INLINE __m512i gate(const std::int32_t* from) noexcept {
  const __m256i a = _mm512_cvtsepi32_epi16(_mm512_load_si512(from));
  const __m256i b = _mm512_cvtsepi32_epi16(_mm512_load_si512(from + 16));
  return least(_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
}

SPECKV_VNNI void cells(const std::int32_t* gates, std::int16_t* c,
                       std::int8_t* h) noexcept {
  const Tables t = tables();
  for (std::uint32_t k = 0; k < kHidden; k += 32) {
    const __m512i i = sigmoid(t, gate(gates + k));
    const __m512i f = sigmoid(t, gate(gates + kHidden + k));
    const __m512i g = tanh(t, gate(gates + 2 * kHidden + k));
    const __m512i o = sigmoid(t, gate(gates + 3 * kHidden + k));
    const __m512i kept = _mm512_mulhrs_epi16(f, _mm512_load_si512(c + k));
    const __m512i added = _mm512_srai_epi16(
        _mm512_add_epi16(_mm512_mulhrs_epi16(i, g), _mm512_set1_epi16(4)), 3);
    const __m512i now = least(_mm512_adds_epi16(kept, added));
    _mm512_store_si512(c + k, now);
    const __m512i wide = _mm512_mulhrs_epi16(o, tanh(t, now));
    const __m512i rounded =
        _mm512_srai_epi16(_mm512_adds_epi16(wide, _mm512_set1_epi16(128)), 8);
    const __m512i kept_h = _mm512_max_epi16(rounded, _mm512_set1_epi16(-127));
    _mm256_store_si256(reinterpret_cast<__m256i*>(h + k), _mm512_cvtepi16_epi8(kept_h));
  }
}

SPECKV_VNNI std::uint32_t weigh(const std::int32_t* logits, std::size_t count,
                                std::int32_t most, std::uint32_t* weights) noexcept {
  const __m512i low = _mm512_loadu_si512(int8::kPower.data());
  const __m512i high = _mm512_loadu_si512(int8::kPower.data() + 16);
  const __m512i low_next = _mm512_loadu_si512(int8::kPower.data() + 1);
  const __m512i high_next = _mm512_loadu_si512(int8::kPower.data() + 17);
  __m512i sum = _mm512_setzero_si512();
  for (std::size_t k = 0; k < count; k += 16) {
    const std::size_t left = count - k;
    const auto lanes = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1U << left) - 1);
    const __m512i below = _mm512_sub_epi32(_mm512_set1_epi32(most),
                                           _mm512_maskz_loadu_epi32(lanes, logits + k));
    const __m512i whole = _mm512_srli_epi32(below, int8::kFraction);
    const __m512i i = _mm512_srli_epi32(below, 7);
    const __m512i part = _mm512_and_si512(below, _mm512_set1_epi32(127));
    const __m512i base = _mm512_permutex2var_epi32(low, i, high);
    const __m512i step =
        _mm512_sub_epi32(base, _mm512_permutex2var_epi32(low_next, i, high_next));
    const __m512i off = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_mullo_epi32(step, part), _mm512_set1_epi32(64)), 7);
    const __m512i y = _mm512_srlv_epi32(_mm512_sub_epi32(base, off), whole);
    const __mmask16 near =
        _mm512_mask_cmple_epu32_mask(lanes, whole, _mm512_set1_epi32(15));
    const __m512i w = _mm512_maskz_mov_epi32(near, y);
    _mm512_mask_storeu_epi32(weights + k, lanes, w);
    sum = _mm512_add_epi32(sum, w);
  }
  return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(sum));
}

}  // namespace

namespace lstm_detail {
const LstmKernel kAvx512Vnni = {"avx512vnni", usable, affine, cells, weigh};
}  // namespace lstm_detail

}  // namespace speckv::predict

#endif

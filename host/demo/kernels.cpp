#include "kernels.hpp"

#include <bit>
#include <cmath>

#if defined(__x86_64__)
#if !defined(__clang__)
// g++ 12 takes the "undefined" vectors of its own header for mistakes of ours.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#define SPECKV_X86 1
#else
#define SPECKV_X86 0
#endif

// Functions between these two are compiled for an instruction set that the rest of the
// program does not assume. A region, not a flag for the file: inline functions of other
// headers must not be compiled for it.
#if defined(__clang__)
#define SPECKV_PRAGMA(text) _Pragma(#text)
#define SPECKV_TARGET_BEGIN(set) \
  SPECKV_PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define SPECKV_TARGET_END SPECKV_PRAGMA(clang attribute pop)
#define SPECKV_UNROLL _Pragma("unroll")
#else
#define SPECKV_PRAGMA(text) _Pragma(#text)
#define SPECKV_TARGET_BEGIN(set) \
  SPECKV_PRAGMA(GCC push_options) SPECKV_PRAGMA(GCC target(set))
#define SPECKV_TARGET_END SPECKV_PRAGMA(GCC pop_options)
#define SPECKV_UNROLL _Pragma("GCC unroll 16")
#endif

namespace speckv::demo {
namespace {

constexpr std::size_t kBurnOperations = 2 * 64 * 4;

float to_float(Half half) noexcept {
  const std::uint32_t sign = std::uint32_t{half & 0x8000U} << 16;
  const std::uint32_t rest = half & 0x7FFFU;
  if (rest >= 0x7C00U)
    return std::bit_cast<float>(sign | 0x7F800000U | (rest & 0x3FFU) << 13);
  // As a float the exponent is 112 too small; multiplying by 2^112 is exact, denormals
  // too.
  const float magnitude = std::bit_cast<float>(rest << 13) * 0x1p112F;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

Half to_half(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000U;
  const std::uint32_t rest = bits & 0x7FFFFFFFU;
  if (rest > 0x7F800000U) return static_cast<Half>(sign | 0x7E00U);
  if (rest >= 0x477FF000U)
    return static_cast<Half>(sign | 0x7C00U);  // rounds to 2^16: inf
  if (rest < 0x38800000U) {
    // Denormal: adding 0.5 shifts the value to the units of 2^-24, rounding as it should.
    const float shifted = std::bit_cast<float>(rest) + 0.5F;
    return static_cast<Half>(sign |
                             (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U));
  }
  const std::uint32_t rounded = rest + 0xFFFU + (rest >> 13 & 1U);
  return static_cast<Half>(sign | ((rounded - 0x38000000U) >> 13));
}

// The definition, eight lanes wide so that a compiler can use what vectors there are.
namespace portable {

struct Simd {
  static constexpr const char* kName = "portable";
  static constexpr std::size_t kLanes = 8;
  static constexpr std::size_t kTileRows = 4, kTileVectors = 2, kFewRowsVectors = 2;
  struct Vector {
    float lane[kLanes];
  };

  template <class Function>
  static Vector each(Function function) {
    Vector out;
    for (std::size_t i = 0; i < kLanes; ++i)
      out.lane[i] = function(i);
    return out;
  }
  static Vector load(const float* p) {
    return each([p](std::size_t i) { return p[i]; });
  }
  static Vector load_half(const Half* p) {
    return each([p](std::size_t i) { return to_float(p[i]); });
  }
  static void store(float* p, const Vector& v) {
    for (std::size_t i = 0; i < kLanes; ++i)
      p[i] = v.lane[i];
  }
  static void store_half(Half* p, const Vector& v) {
    for (std::size_t i = 0; i < kLanes; ++i)
      p[i] = to_half(v.lane[i]);
  }
  static Vector set(float x) {
    return each([x](std::size_t) { return x; });
  }
  static Vector add(const Vector& a, const Vector& b) {
    return each([&](std::size_t i) { return a.lane[i] + b.lane[i]; });
  }
  static Vector sub(const Vector& a, const Vector& b) {
    return each([&](std::size_t i) { return a.lane[i] - b.lane[i]; });
  }
  static Vector mul(const Vector& a, const Vector& b) {
    return each([&](std::size_t i) { return a.lane[i] * b.lane[i]; });
  }
  static Vector div(const Vector& a, const Vector& b) {
    return each([&](std::size_t i) { return a.lane[i] / b.lane[i]; });
  }
  static Vector max(const Vector& a, const Vector& b) {
    return each(
        [&](std::size_t i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Vector min(const Vector& a, const Vector& b) {
    return each(
        [&](std::size_t i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Vector fma(const Vector& a, const Vector& b, const Vector& c) {
#if defined(FP_FAST_FMAF)
    return each([&](std::size_t i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
#else
    return each([&](std::size_t i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
#endif
  }
  static Vector round(const Vector& a) {
    // Adding 1.5 * 2^23 leaves no bits below one: the sum is rounded to even.
    return each([&](std::size_t i) { return (a.lane[i] + 0x1.8p23F) - 0x1.8p23F; });
  }
  static Vector power_of_two(const Vector& n) {
    return each([&](std::size_t i) {
      return std::bit_cast<float>((static_cast<std::int32_t>(n.lane[i]) + 127) << 23);
    });
  }
  static void transpose_16x16(const Half* in, std::size_t in_stride, float* out,
                              std::size_t out_stride) {
    for (std::size_t r = 0; r < 16; ++r) {
      for (std::size_t c = 0; c < 16; ++c)
        out[c * out_stride + r] = to_float(in[r * in_stride + c]);
    }
  }
};

#include "kernels_body.inc"  // NOLINT(readability-duplicate-include): once a set

}  // namespace portable

#if SPECKV_X86

SPECKV_TARGET_BEGIN("avx2,fma,f16c")
namespace avx2 {

struct Simd {
  static constexpr const char* kName = "avx2";
  static constexpr std::size_t kLanes = 8;
  // 16 registers: eight sums, two weights, one value.
  static constexpr std::size_t kTileRows = 4, kTileVectors = 2, kFewRowsVectors = 4;
  using Vector = __m256;

  static Vector load(const float* p) { return _mm256_loadu_ps(p); }
  static Vector load_half(const Half* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  static void store_half(Half* p, Vector v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  static Vector set(float x) { return _mm256_set1_ps(x); }
  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector div(Vector a, Vector b) { return _mm256_div_ps(a, b); }
  static Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  static Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector round(Vector a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Vector power_of_two(Vector n) {
    const __m256i biased =
        _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
  }
  static void transpose_16x16(const Half* in, std::size_t in_stride, float* out,
                              std::size_t out_stride) {
    for (std::size_t r = 0; r < 16; ++r) {
      float row[16];
      store(row, load_half(in + r * in_stride));
      store(row + 8, load_half(in + r * in_stride + 8));
      for (std::size_t c = 0; c < 16; ++c)
        out[c * out_stride + r] = row[c];
    }
  }
};

#include "kernels_body.inc"  // NOLINT(readability-duplicate-include): once a set

}  // namespace avx2
SPECKV_TARGET_END

SPECKV_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
namespace avx512 {

struct Simd {
  static constexpr const char* kName = "avx512";
  static constexpr std::size_t kLanes = 16;
  // 32 registers: sixteen sums suffice to keep two units busy, and 64 rows are eight
  // tiles.
  static constexpr std::size_t kTileRows = 8, kTileVectors = 2, kFewRowsVectors = 4;
  using Vector = __m512;

  static Vector load(const float* p) { return _mm512_loadu_ps(p); }
  static Vector load_half(const Half* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  static void store_half(Half* p, Vector v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  static Vector set(float x) { return _mm512_set1_ps(x); }
  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector div(Vector a, Vector b) { return _mm512_div_ps(a, b); }
  static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  static Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static Vector round(Vector a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Vector power_of_two(Vector n) {
    const __m512i biased =
        _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
  }

  // A transpose of 16 rows is four rounds of pairing rows 8, 4, 2 and 1 apart; each round
  // interleaves 32-bit lanes of two vectors: even outputs from the lower halves, odd ones
  // from the upper.
  static void transpose_16x16(const Half* in, std::size_t in_stride, float* out,
                              std::size_t out_stride) {
    const __m512i lower =
        _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i upper =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    Vector row[16];
    Vector next[16];
    SPECKV_UNROLL
    for (std::size_t r = 0; r < 16; ++r)
      row[r] = load_half(in + r * in_stride);
    SPECKV_UNROLL
    for (int round = 0; round < 4; ++round) {
      SPECKV_UNROLL
      for (std::size_t r = 0; r < 8; ++r) {
        next[2 * r] = _mm512_permutex2var_ps(row[r], lower, row[r + 8]);
        next[2 * r + 1] = _mm512_permutex2var_ps(row[r], upper, row[r + 8]);
      }
      SPECKV_UNROLL
      for (std::size_t r = 0; r < 16; ++r)
        row[r] = next[r];
    }
    SPECKV_UNROLL
    for (std::size_t r = 0; r < 16; ++r)
      store(out + r * out_stride, row[r]);
  }
};

#include "kernels_body.inc"  // NOLINT(readability-duplicate-include): once a set

}  // namespace avx512
SPECKV_TARGET_END

#endif  // SPECKV_X86

bool runs(const Kernels& set) noexcept {
#if SPECKV_X86
  if (&set == &avx512::kTable) {
    return __builtin_cpu_supports("avx512f") != 0 &&
           __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 &&
           __builtin_cpu_supports("avx512vl") != 0;
  }
  if (&set == &avx2::kTable) {
    // Every processor with both has f16c as well, which clang 14 cannot be asked about.
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  }
#endif
  return &set == &portable::kTable;
}

// Best first.
constexpr const Kernels* kSets[] = {
#if SPECKV_X86
    &avx512::kTable, &avx2::kTable,
#endif
    &portable::kTable};

}  // namespace

const Kernels& best_kernels() noexcept {
  for (const Kernels* set : kSets) {
    if (runs(*set)) return *set;
  }
  return portable::kTable;
}

const Kernels* find_kernels(std::string_view name) noexcept {
  for (const Kernels* set : kSets) {
    if (name == set->name && runs(*set)) return set;
  }
  return nullptr;
}

}  // namespace speckv::demo

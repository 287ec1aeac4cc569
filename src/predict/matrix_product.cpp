#include "predict/matrix_product.hpp"

#include <algorithm>
#include <cstring>

namespace speckv::predict {
namespace {

using Lanes = float __attribute__((vector_size(64)));
constexpr std::size_t kLanes = 16, kRows = 4, kStrip = 2 * kLanes;

__attribute__((always_inline)) inline void load(const float* from, Lanes& to) {
  std::memcpy(&to, from, sizeof to);
}

// kRows rows of c, a strip of its columns at a time; what is left over, number by number.
__attribute__((always_inline)) inline void product(std::size_t rows, std::size_t columns,
                                                   std::size_t inner, const float* a,
                                                   const float* b, float* c) {
  std::size_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    for (std::size_t column = 0; column + kStrip <= columns; column += kStrip) {
      Lanes sum[kRows][2] = {};
      for (std::size_t k = 0; k < inner; ++k) {
        Lanes left, right;
        load(b + k * columns + column, left);
        load(b + k * columns + column + kLanes, right);
        for (std::size_t r = 0; r < kRows; ++r) {
          const float factor = a[(row + r) * inner + k];
          sum[r][0] += factor * left;
          sum[r][1] += factor * right;
        }
      }
      for (std::size_t r = 0; r < kRows; ++r) {
        float* to = c + (row + r) * columns + column;
        for (std::size_t half = 0; half < 2; ++half, to += kLanes) {
          Lanes value;
          load(to, value);
          value += sum[r][half];
          std::memcpy(to, &value, sizeof value);
        }
      }
    }
  }
  const std::size_t whole = columns / kStrip * kStrip;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t column = r < row ? whole : 0; column < columns; ++column) {
      float sum = 0;
      for (std::size_t k = 0; k < inner; ++k)
        sum += a[r * inner + k] * b[k * columns + column];
      c[r * columns + column] += sum;
    }
  }
}

using Product = void (*)(std::size_t, std::size_t, std::size_t, const float*,
                         const float*, float*);

void any(std::size_t rows, std::size_t columns, std::size_t inner, const float* a,
         const float* b, float* c) {
  product(rows, columns, inner, a, b, c);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void avx512(std::size_t rows, std::size_t columns,
                                               std::size_t inner, const float* a,
                                               const float* b, float* c) {
  product(rows, columns, inner, a, b, c);
}
__attribute__((target("avx2"))) void avx2(std::size_t rows, std::size_t columns,
                                          std::size_t inner, const float* a,
                                          const float* b, float* c) {
  product(rows, columns, inner, a, b, c);
}
#endif

Product best() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") != 0) return avx512;
  if (__builtin_cpu_supports("avx2") != 0) return avx2;
#endif
  return any;
}

}  // namespace

void add_product(std::size_t rows, std::size_t columns, std::size_t inner, const float* a,
                 const float* b, float* c) noexcept {
  static const Product run = best();
  run(rows, columns, inner, a, b, c);
}

std::vector<float> transposed(const float* a, std::size_t rows, std::size_t columns) {
  std::vector<float> to(rows * columns);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c)
      to[c * rows + r] = a[r * columns + c];
  }
  return to;
}

}  // namespace speckv::predict

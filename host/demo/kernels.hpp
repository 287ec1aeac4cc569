// host/demo/kernels.hpp -- the inner loops of the demo's transformer.
//
// Written once (kernels_body.inc) and compiled for several instruction sets, of which the
// best that the machine has is chosen when the program starts. Every sum has one order
// that depends on nothing but its length: an output is a chain of fused multiply-adds
// over rising k, whether it is computed alone or among a hundred. So a token's values do
// not depend on who shared its batch, nor on the instruction set (where that has fused
// multiply-adds).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace speckv::demo {

using Half = std::uint16_t;  // the bits of an IEEE binary16 value

// Matrices are cut into panels of this many columns, [k][column]: a panel's k-th row is
// one cache line of halves per 32 columns, and loads as whole vectors on every
// instruction set.
inline constexpr std::size_t kPanel = 64;

// `stride`s count values, not bytes. All depths and lengths but `tokens` and `rows` are
// multiples of 16.
struct Kernels {
  const char* name;

  // out[r][0..64) = sum over k < depth of x[r][k] * panel[k][0..64), or += if `add`.
  void (*multiply)(const float* x, std::size_t x_stride, std::size_t rows,
                   const float* panel, std::size_t panel_stride, std::size_t depth,
                   float* out, std::size_t out_stride, bool add);
  // The same bits from a panel of halves: for few rows, where widening it would cost
  // more.
  void (*multiply_half)(const float* x, std::size_t x_stride, std::size_t rows,
                        const Half* panel, std::size_t panel_stride, std::size_t depth,
                        float* out, std::size_t out_stride, bool add);

  void (*widen)(const Half* in, std::size_t count, float* out);
  void (*narrow)(const float* in, std::size_t count,
                 Half* out);  // to nearest, ties to even
  // out[c][t] = in[t][c] for 64 tokens t of `channels` channels c.
  void (*transpose_keys)(const Half* in, std::size_t channels, float* out);

  // One step of a softmax that sees 64 scores at a time: turns s[0, tokens) into weights
  // relative to the largest score so far, zeroes the rest, and keeps `maximum` and
  // `total`. Returns what earlier weights must be multiplied with.
  float (*softmax_step)(float* s, std::size_t tokens, float scale, float* maximum,
                        float* total);
  void (*scale)(float* x, std::size_t count, float factor);

  void (*rms_norm)(const float* x, const float* gain, std::size_t count, float* out);
  // out = gate / (1 + exp(-gate)) * up
  void (*gated)(const float* gate, const float* up, std::size_t count, float* out);

  // Fused multiply-adds on registers only, `count` times 2 * 64 * 4 operations: the peak.
  float (*burn)(std::size_t count);
};

// The fastest set that this machine runs.
const Kernels& best_kernels() noexcept;
// "avx512", "avx2" or "portable"; nullptr: no such set, or not on this machine.
const Kernels* find_kernels(std::string_view name) noexcept;

}  // namespace speckv::demo

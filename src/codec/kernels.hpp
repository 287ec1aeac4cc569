// codec/kernels.hpp -- the inner loops of the lossy codecs, one set per instruction set.
//
// "scalar" is the definition, in integers (codec/number.hpp); every other set gives the
// same bits for all input, whatever the rounding or denormal mode of the caller's thread:
// it uses floating point only where the result is exact or the instruction itself names
// the rounding, and hands what lies outside that range to the definition.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "cxlspeckv/block.hpp"

#include "codec/hx.hpp"
#include "codec/hxp.hpp"
#include "codec/kvq4.hpp"
#include "codec/kvq4_plane_loops.hpp"
#include "codec/lossless.hpp"
#include "codec/rt.hpp"

namespace speckv {

// What there is per dtype. No function reads or writes outside what it is given.
struct CodecLoops {
  // A unit of kvq4, its gaps and tail aside. Encoding: false for a NaN or an infinity.
  // Decoding: false for parameters that no encoder writes.
  using Kvq4Encode = bool (*)(const Kvq4Shape&, const std::byte* plain,
                              std::byte* unit) noexcept;
  // `stream`: the values may bypass the caches.
  using Kvq4Decode = bool (*)(const Kvq4Shape&, const std::byte* unit, std::byte* plain,
                              bool stream) noexcept;
  Kvq4Encode kvq4_encode_keys, kvq4_encode_values;
  Kvq4Decode kvq4_decode_keys, kvq4_decode_values;

  // Writes a row's scale (2 bytes) and its values in -127..127. False: the row holds a
  // NaN or an infinity, and nothing was written.
  bool (*int8_encode)(const std::byte* row, std::size_t channels, std::byte* scale,
                      std::int8_t* values) noexcept;
  // The reverse. False: the scale is negative or not finite, or a value is -128.
  bool (*int8_decode)(const std::byte* scale, const std::int8_t* values,
                      std::size_t channels, std::byte* row, bool stream) noexcept;
  // Ends what was streamed: after it the values are seen like any others.
  void (*settle)() noexcept;

  const RtLoops* rt;
  const HxLoops* hx;
  const HxpLoops* hxp;
  const PlaneLoops* planes;  // of kvq4
};

// Immutable.
struct CodecKernel {
  std::string_view name;  // "scalar", "avx2", "avx512", "neon"
  bool (*usable)() noexcept;
  CodecLoops f16, bf16;
  const LosslessLoops* lossless;
  // REQUIRES: dtype is one of the two.
  const CodecLoops& of(DType dtype) const noexcept {
    return dtype == DType::f16 ? f16 : bf16;
  }
};

// In order of preference; the last, "scalar", is always usable.
std::span<const CodecKernel> codec_kernels() noexcept;
// The one in use: the first usable, or the one named by set_codec_kernel().
const CodecKernel& codec_kernel() noexcept;
// For tests and benchmarks: from now on, in the whole process. "" goes back to the first
// usable. False, and nothing changes: no such kernel, or this machine cannot run it.
bool set_codec_kernel(std::string_view name) noexcept;

namespace codec_detail {
extern const CodecKernel kScalar;
#if defined(__x86_64__)
extern const CodecKernel kAvx2, kAvx512;
#elif defined(__aarch64__)
extern const CodecKernel kNeon;
#endif
}  // namespace codec_detail

}  // namespace speckv

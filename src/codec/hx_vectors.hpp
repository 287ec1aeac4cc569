// codec/hx_vectors.hpp -- what the AVX-512 encoder and decoder of hx share (internal).
#pragma once

#include "codec/avx512_turn.hpp"

#if defined(__x86_64__)

#include "codec/hx.hpp"

#define SPECKV_VBMI \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,f16c,popcnt")))
#define SPECKV_VBMI_INLINE SPECKV_VBMI __attribute__((always_inline)) inline

namespace speckv::hx512 {

using namespace avx512;

inline bool is_usable() noexcept {
  static const bool usable = __builtin_cpu_supports("avx512vbmi") != 0;
  return usable;
}

// As HxLoops::encode.
template <class F>
bool encode(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept;

}  // namespace speckv::hx512

#endif

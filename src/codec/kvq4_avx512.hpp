// codec/kvq4_avx512.hpp -- encoding kvq4 with AVX-512, apart from all other loops
// (internal).
#pragma once

#include "codec/avx512.hpp"

#if defined(__x86_64__)

namespace speckv::kvq4_512 {

// As CodecLoops has them.
template <class F>
SPECKV_AVX512 bool encode_keys(const Kvq4Shape& shape, const std::byte* plain,
                               std::byte* unit) noexcept;
template <class F>
SPECKV_AVX512 bool encode_values(const Kvq4Shape& shape, const std::byte* plain,
                                 std::byte* unit) noexcept;

}  // namespace speckv::kvq4_512

#endif

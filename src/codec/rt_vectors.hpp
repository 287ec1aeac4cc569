// codec/rt_vectors.hpp -- the two halves of encoding an rt unit with AVX-512, apart so
// that each is compiled for what it depends on only (internal).
#pragma once

#include "codec/fixed_unit.hpp"

#if defined(__x86_64__)

namespace speckv::rt512 {

// The coefficients of a unit. False: a NaN or an infinity.
template <class F>
bool prepare(const RtShape& shape, const std::byte* plain, rt::Work& work) noexcept;

// All of a unit but its checksum.
template <std::uint32_t rate>
void write(const RtShape& shape, const rt::Work& work, std::byte* unit) noexcept;

template <class F, std::uint32_t rate>
bool encode(const RtShape& shape, const std::byte* plain, std::byte* unit) noexcept {
  rt::Work work;
  if (!prepare<F>(shape, plain, work)) return false;
  write<rate>(shape, work, unit);
  return true;
}

}  // namespace speckv::rt512

#endif

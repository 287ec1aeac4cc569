// codec/kvq4_floats.hpp -- a kvq4 group's parameters for kernels that go on with floats
// (internal).
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/kernels_float.hpp"
#include "codec/kvq4_group.hpp"

namespace speckv::kvq4 {

using codec_detail::Sound;

// Of as many channels as a kernel works on together.
template <std::size_t lanes>
struct Floats {
  alignas(32) float by[lanes];
  alignas(32) std::int32_t zero[lanes];
};

// A group's parameters, stored, and where floats can go on with them.
template <class F>
Sound quantiser(Extent x, std::byte* stored, float& by, std::int32_t& zero) noexcept {
  if (x.largest() >= F::kInfinity) return Sound::no;
  Quantiser exactly;
  const Parameters p = parameters<F>(x, exactly);
  if (codec_detail::is_unusual<F>(p.scale)) return Sound::ask;
  put(stored, p);
  by = codec_detail::as_float(exactly.inverse);
  zero = p.zero;
  return Sound::yes;
}

// Stored parameters, checked.
template <class F>
Sound restorer(const std::byte* stored, float& scale, std::int32_t& zero) noexcept {
  const Parameters p = get(stored);
  if (p.scale == 0 || p.scale >= F::kInfinity) return Sound::no;
  if (p.zero < -Kvq4Shape::kMaxZero || p.zero > Kvq4Shape::kMaxZero) return Sound::no;
  if (codec_detail::is_unusual<F>(p.scale)) return Sound::ask;
  scale = codec_detail::as_float(unpack<F>(p.scale));
  zero = p.zero;
  return Sound::yes;
}

}  // namespace speckv::kvq4

// codec/rt_loops.hpp -- rt by its definition's own code, for the instruction set that
// SPECKV_RT_TARGET names (internal). Included by one source of each.
#pragma once

#include "codec/rt_decode.hpp"
#include "codec/rt_encode.hpp"
#include "codec/rt_write.hpp"

namespace speckv {
namespace {

// Apart, so that each is compiled for what it depends on only.
template <class F>
SPECKV_RT_TARGET bool prepare(const RtShape& shape, const std::byte* plain,
                              rt::Work& work) noexcept {
  return rt::prepare_unit<F>(shape, plain, work);
}
template <std::uint32_t rate>
SPECKV_RT_TARGET void write(const RtShape& shape, const rt::Work& work,
                            std::byte* unit) noexcept {
  rt::write_unit<rate>(shape, work, unit, [&](std::int32_t top, std::uint32_t first) {
    rt::encode_rows<rate>(shape, work, top, first, unit);
  });
}
template <class F, std::uint32_t rate>
bool encode(const RtShape& shape, const std::byte* plain, std::byte* unit) noexcept {
  rt::Work work;
  if (!prepare<F>(shape, plain, work)) return false;
  write<rate>(shape, work, unit);
  return true;
}
template <class F, std::uint32_t rate>
bool decode_as_defined(const RtShape& shape, Bytes unit, std::byte* plain,
                       bool /*stream*/) noexcept {
  return rt::decode_unit<F, rate>(shape, unit, plain);
}

template <class F>
constexpr RtLoops kLoopsAsDefined{
    {encode<F, 2>, encode<F, 3>, encode<F, 4>},
    {decode_as_defined<F, 2>, decode_as_defined<F, 3>, decode_as_defined<F, 4>}};

}  // namespace
}  // namespace speckv

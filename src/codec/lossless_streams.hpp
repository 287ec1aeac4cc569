// codec/lossless_streams.hpp -- the loops over streams of `lossless`, compiled for the
// instruction set of the file that includes this (internal).
//
// SPECKV_STREAMS_TARGET is its target attribute, or nothing.
#pragma once

#include "codec/lossless_loops.hpp"

namespace speckv {
namespace {

SPECKV_STREAMS_TARGET inline void read(const lossless::Source& from,
                                       std::size_t n) noexcept {
  lossless::read_streams<1>({from}, n);
}
SPECKV_STREAMS_TARGET inline void read_two(const lossless::Source& a,
                                           const lossless::Source& b,
                                           std::size_t n) noexcept {
  lossless::read_streams<2>({a, b}, n);
}
SPECKV_STREAMS_TARGET inline void write(const lossless::EncodeTable& table,
                                        const std::uint8_t (*from)[lossless::kStrip],
                                        std::size_t n,
                                        lossless::OutStream* out) noexcept {
  lossless::write_streams(table, from, n, out);
}

}  // namespace
}  // namespace speckv

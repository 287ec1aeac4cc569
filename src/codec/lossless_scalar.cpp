// lossless by its definition, whatever the instruction set.
#include "codec/lossless_loops.hpp"

namespace speckv {
namespace {

void read(const lossless::Source& from, std::size_t n) noexcept {
  lossless::read_streams<1>({from}, n);
}
void read_two(const lossless::Source& a, const lossless::Source& b,
              std::size_t n) noexcept {
  lossless::read_streams<2>({a, b}, n);
}
void write(const lossless::EncodeTable& table,
           const std::uint8_t (*from)[lossless::kStrip], std::size_t n,
           lossless::OutStream* out) noexcept {
  lossless::write_streams(table, from, n, out);
}

}  // namespace

namespace codec_detail {
const LosslessLoops kLosslessScalar{
    {lossless::split<std::uint8_t>, lossless::split<std::uint16_t>,
     lossless::split<std::uint32_t>},
    {lossless::merge<std::uint8_t>, lossless::merge<std::uint16_t>,
     lossless::merge<std::uint32_t>},
    read,
    read_two,
    write};
}  // namespace codec_detail

}  // namespace speckv

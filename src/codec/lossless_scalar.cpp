// lossless by its definition, whatever the instruction set.
#define SPECKV_STREAMS_TARGET
#include "codec/lossless_streams.hpp"

namespace speckv {

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

// rt by its definition, whatever the instruction set.
#define SPECKV_RT_TARGET
#include "codec/rt_loops.hpp"

namespace speckv::codec_detail {

const RtLoops kRtScalarF16 = kLoopsAsDefined<number::F16>;
const RtLoops kRtScalarBf16 = kLoopsAsDefined<number::Bf16>;

}  // namespace speckv::codec_detail

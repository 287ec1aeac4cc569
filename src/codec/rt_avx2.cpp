// rt with AVX2: the definition's own code, whose encoder the compiler turns into vectors.
#if defined(__x86_64__)

#define SPECKV_RT_TARGET __attribute__((target("avx2")))
#include "codec/rt_loops.hpp"

namespace speckv::codec_detail {

const RtLoops kRtAvx2F16 = kLoopsAsDefined<number::F16>;
const RtLoops kRtAvx2Bf16 = kLoopsAsDefined<number::Bf16>;

}  // namespace speckv::codec_detail

#endif

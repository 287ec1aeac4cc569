// lossless with NEON: 16 values at a time between planes and values, which its
// interleaving loads and stores take apart and put together.
#if defined(__aarch64__)
#include <arm_neon.h>

#define SPECKV_STREAMS_TARGET
#include "codec/lossless_streams.hpp"

namespace speckv {
namespace {

constexpr std::size_t kLanes = 16;

// Bytes of `width` values by significance, the lowest first, with the sign bit turned
// from the top to the bottom: it goes round through the planes.
template <std::size_t width, class Planes>
inline void sign_down(Planes& x) noexcept {
  const uint8x16_t sign = vshrq_n_u8(x.val[width - 1], 7);
  for (std::size_t i = width; --i > 0;)
    x.val[i] = vsliq_n_u8(vshrq_n_u8(x.val[i - 1], 7), x.val[i], 1);
  x.val[0] = vsliq_n_u8(sign, x.val[0], 1);
}
template <std::size_t width, class Planes>
inline void sign_up(Planes& x) noexcept {
  const uint8x16_t sign = vshlq_n_u8(x.val[0], 7);
  for (std::size_t i = 0; i + 1 < width; ++i)
    x.val[i] = vsriq_n_u8(vshlq_n_u8(x.val[i + 1], 7), x.val[i], 1);
  x.val[width - 1] = vsriq_n_u8(sign, x.val[width - 1], 1);
}

void split16(const std::byte* row, std::size_t n, std::uint8_t* const* planes) noexcept {
  std::size_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    uint8x16x2_t x = vld2q_u8(reinterpret_cast<const std::uint8_t*>(row + 2 * c));
    sign_down<2>(x);
    for (std::size_t p = 0; p < 2; ++p)
      vst1q_u8(planes[p] + c, x.val[1 - p]);
  }
  lossless::split_values<std::uint16_t>(row, c, n, planes);
}

void merge16(const std::uint8_t* const* planes, std::size_t n, std::byte* row) noexcept {
  std::size_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    uint8x16x2_t x{{vld1q_u8(planes[1] + c), vld1q_u8(planes[0] + c)}};
    sign_up<2>(x);
    vst2q_u8(reinterpret_cast<std::uint8_t*>(row + 2 * c), x);
  }
  lossless::merge_values<std::uint16_t>(planes, c, n, row);
}

void split32(const std::byte* row, std::size_t n, std::uint8_t* const* planes) noexcept {
  std::size_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    uint8x16x4_t x = vld4q_u8(reinterpret_cast<const std::uint8_t*>(row + 4 * c));
    sign_down<4>(x);
    for (std::size_t p = 0; p < 4; ++p)
      vst1q_u8(planes[p] + c, x.val[3 - p]);
  }
  lossless::split_values<std::uint32_t>(row, c, n, planes);
}

void merge32(const std::uint8_t* const* planes, std::size_t n, std::byte* row) noexcept {
  std::size_t c = 0;
  for (; c + kLanes <= n; c += kLanes) {
    uint8x16x4_t x{{vld1q_u8(planes[3] + c), vld1q_u8(planes[2] + c),
                    vld1q_u8(planes[1] + c), vld1q_u8(planes[0] + c)}};
    sign_up<4>(x);
    vst4q_u8(reinterpret_cast<std::uint8_t*>(row + 4 * c), x);
  }
  lossless::merge_values<std::uint32_t>(planes, c, n, row);
}

}  // namespace

namespace codec_detail {
const LosslessLoops kLosslessNeon{{lossless::split<std::uint8_t>, split16, split32},
                                  {lossless::merge<std::uint8_t>, merge16, merge32},
                                  read,
                                  read_two,
                                  write};
}  // namespace codec_detail

}  // namespace speckv

#endif

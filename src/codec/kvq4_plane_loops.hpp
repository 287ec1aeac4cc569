// codec/kvq4_plane_loops.hpp -- a unit of kvq4 and its second plane (internal).
#pragma once

#include <cstddef>

#include "codec/kvq4.hpp"

namespace speckv {

// Of units whose parameters are sound. `unit`: all of the first plane's; `second`: the
// nibbles beside it.
struct PlaneLoops {
  void (*encode)(const Kvq4Shape& shape, bool keys, const std::byte* plain,
                 const std::byte* unit, std::byte* second) noexcept;
  void (*decode)(const Kvq4Shape& shape, bool keys, const std::byte* unit,
                 const std::byte* second, std::byte* plain) noexcept;
};

// A sixteenth of a step is one; a nibble of the second plane is 8 at a step's centre.
inline constexpr std::int32_t kPlaneParts = 16, kPlaneMiddle = 8;

namespace codec_detail {
extern const PlaneLoops kPlanesScalarF16, kPlanesScalarBf16, kPlanes256F16,
    kPlanes256Bf16;
}  // namespace codec_detail

}  // namespace speckv

// engine/coded_checksum.hpp -- the checksum of coded bytes that completions tell of, and
// that CHECK asks for.
#pragma once

#include <cstdint>

#include "base/checksum.hpp"

namespace speckv::engine {

inline std::uint32_t coded_checksum(Bytes coded) noexcept {
  return crc32c(0, coded);
}

}  // namespace speckv::engine

// CRC-32C on 64-bit Arm: the crc32c instructions of ARMv8.
#include "base/crc32c.hpp"

#if SPECKV_CRC32C_ARM

#include <arm_acle.h>
#include <arm_neon.h>

#define SPECKV_CRC_TARGET __attribute__((target("+crc+crypto")))

namespace speckv::crc32c_detail {
namespace {

using Running = std::uint32_t;

SPECKV_CRC_TARGET inline Running step(Running c, std::uint64_t bytes) noexcept {
  return __crc32cd(c, bytes);
}
SPECKV_CRC_TARGET inline Running step(Running c, std::uint8_t byte) noexcept {
  return __crc32cb(c, byte);
}
SPECKV_CRC_TARGET inline std::uint64_t times(Running a, std::uint32_t b) noexcept {
  return static_cast<std::uint64_t>(vmull_p64(a, b));
}

}  // namespace
}  // namespace speckv::crc32c_detail

#include "base/crc32c_lanes.hpp"

namespace speckv::crc32c_detail {
namespace {

// Checks a stretch, which brings it to the first-level cache, and copies it from there.
SPECKV_CRC_TARGET std::uint32_t armv8_copy(std::uint32_t crc, std::byte* to,
                                           const std::byte* from, std::size_t size,
                                           bool /*stream*/) noexcept {
  std::uint32_t c = ~crc;
  for (; size >= 3 * kLane; size -= 3 * kLane, from += 3 * kLane, to += 3 * kLane) {
    c = three_lanes(c, from, size);
    std::memcpy(to, from, 3 * kLane);
  }
  return ~short_run<Store::cached>(c, to, from, size);
}

// The kernel lets programs read this register
// (Documentation/arm64/cpu-feature-registers): bits 4 to 7 tell of PMULL, bits 16 to 19
// of the crc32 instructions.
bool armv8_usable() noexcept {
  std::uint64_t features = 0;
  asm("mrs %0, ID_AA64ISAR0_EL1" : "=r"(features));
  return (features >> 4 & 15) >= 2 && (features >> 16 & 15) >= 1;
}

}  // namespace

constinit const ChecksumKernel kArmv8{"armv8", armv8_usable, lanes_crc, armv8_copy};

}  // namespace speckv::crc32c_detail

#endif

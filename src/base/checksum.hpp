// base/checksum.hpp -- CRC-32C, alone and fused into a copy.
//
// The polynomial of RFC 3720 (0x1EDC6F41, reflected). `crc` continues a running value:
// start from 0, feed the pieces in order. Every instruction set gives the same value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "cxlspeckv/block.hpp"

namespace speckv {

// How to do it on one instruction set. Immutable.
struct ChecksumKernel {
  std::string_view name;  // "scalar", "sse42", "vpclmul512", "armv8"
  bool (*usable)() noexcept;
  std::uint32_t (*crc)(std::uint32_t crc, const std::byte* data,
                       std::size_t size) noexcept;
  // Copies and checks in one pass over the bytes. Uses non-temporal stores where the
  // whole copy is larger than a cache is worth (`stream`). The ranges must not overlap.
  std::uint32_t (*copy)(std::uint32_t crc, std::byte* to, const std::byte* from,
                        std::size_t size, bool stream) noexcept;
};

// In order of preference; the last, "scalar", is the definition and always usable.
std::span<const ChecksumKernel> checksum_kernels() noexcept;
// The one in use: the first usable, or the one named by set_checksum_kernel().
const ChecksumKernel& checksum_kernel() noexcept;
// For tests and benchmarks: from now on, in the whole process. "" goes back to the first
// usable. False, and nothing changes: no such kernel, or this machine cannot run it.
bool set_checksum_kernel(std::string_view name) noexcept;

inline std::uint32_t crc32c(std::uint32_t crc, Bytes data) noexcept {
  return checksum_kernel().crc(crc, data.data(), data.size());
}
inline std::uint32_t copy_crc32c(std::uint32_t crc, std::byte* to, Bytes from,
                                 bool stream) noexcept {
  return checksum_kernel().copy(crc, to, from.data(), from.size(), stream);
}

}  // namespace speckv

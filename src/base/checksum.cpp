#include "base/checksum.hpp"

#include <atomic>
#include <cstring>

#include "base/crc32c.hpp"
#include "base/endian.hpp"

namespace speckv {
namespace {

using namespace crc32c_detail;

constexpr Tables kTables = make_tables();

// Eight bytes a step ("slicing by eight"): the definition of every other kernel.
std::uint32_t scalar_crc(std::uint32_t crc, const std::byte* data,
                         std::size_t size) noexcept {
  std::uint32_t c = ~crc;
  for (; size >= 8; size -= 8, data += 8) {
    const std::uint64_t v = load_le<std::uint64_t>(data) ^ c;
    c = 0;
    for (unsigned k = 0; k < 8; ++k)
      c ^= kTables[7 - k][(v >> (8 * k)) & 0xFF];
  }
  for (; size > 0; --size, ++data) {
    c = (c >> 8) ^ kTables[0][(c ^ std::to_integer<std::uint32_t>(*data)) & 0xFF];
  }
  return ~c;
}

std::uint32_t scalar_copy(std::uint32_t crc, std::byte* to, const std::byte* from,
                          std::size_t size, bool /*stream*/) noexcept {
  if (size == 0) return crc;
  std::memcpy(to, from, size);
  return scalar_crc(crc, from, size);
}

bool always() noexcept {
  return true;
}

constexpr ChecksumKernel kScalar{"scalar", always, scalar_crc, scalar_copy};

const ChecksumKernel& best() noexcept {
  static const ChecksumKernel& kernel = [&]() -> const ChecksumKernel& {
    for (const ChecksumKernel& candidate : checksum_kernels()) {
      if (candidate.usable()) return candidate;
    }
    return kScalar;
  }();
  return kernel;
}

// What set_checksum_kernel() named. Kernels are constants, hence nothing to publish.
std::atomic<const ChecksumKernel*> chosen{nullptr};

}  // namespace

std::span<const ChecksumKernel> checksum_kernels() noexcept {
#if SPECKV_CRC32C_X86
  static const ChecksumKernel kernels[] = {kVpclmul512, kSse42, kScalar};
#elif SPECKV_CRC32C_ARM
  static const ChecksumKernel kernels[] = {kArmv8, kScalar};
#else
  static const ChecksumKernel kernels[] = {kScalar};
#endif
  return kernels;
}

const ChecksumKernel& checksum_kernel() noexcept {
  const ChecksumKernel* kernel = chosen.load(std::memory_order_relaxed);
  return kernel != nullptr ? *kernel : best();
}

bool set_checksum_kernel(std::string_view name) noexcept {
  if (name.empty()) {
    chosen.store(nullptr, std::memory_order_relaxed);
    return true;
  }
  for (const ChecksumKernel& kernel : checksum_kernels()) {
    if (kernel.name != name || !kernel.usable()) continue;
    chosen.store(&kernel, std::memory_order_relaxed);
    return true;
  }
  return false;
}

}  // namespace speckv

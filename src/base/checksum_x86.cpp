// CRC-32C on x86-64: the crc32 instruction, and folding by carry-less multiplication.
#include "base/crc32c.hpp"

#if SPECKV_CRC32C_X86

#include <immintrin.h>

#define SPECKV_SSE42 __attribute__((target("sse4.2,pclmul")))
#define SPECKV_CRC_TARGET SPECKV_SSE42

namespace speckv::crc32c_detail {
namespace {

// ---- The crc32 instruction ---------------------------------------------------------

using Running = std::uint64_t;  // as the instruction has it: narrowing costs a clock

SPECKV_SSE42 inline Running step(Running c, std::uint64_t bytes) noexcept {
  return _mm_crc32_u64(c, bytes);
}
SPECKV_SSE42 inline Running step(Running c, std::uint8_t byte) noexcept {
  return _mm_crc32_u8(static_cast<std::uint32_t>(c), byte);
}
SPECKV_SSE42 inline std::uint64_t times(Running a, std::uint32_t b) noexcept {
  const __m128i product = _mm_clmulepi64_si128(
      _mm_cvtsi64_si128(static_cast<long long>(a)), _mm_cvtsi64_si128(b), 0);
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(product));
}

}  // namespace
}  // namespace speckv::crc32c_detail

#include "base/crc32c_lanes.hpp"

namespace speckv::crc32c_detail {
namespace {

// REQUIRES: `to` 16-byte aligned, size a multiple of 64.
SPECKV_SSE42 void stream_out(std::byte* to, const std::byte* from,
                             std::size_t size) noexcept {
  for (std::size_t i = 0; i < size; i += 64) {
    for (std::size_t j = i; j < i + 64; j += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + j),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + j)));
    }
  }
}

// Checks a stretch, which brings it to the first-level cache, and copies it from there.
SPECKV_SSE42 std::uint32_t sse42_copy(std::uint32_t crc, std::byte* to,
                                      const std::byte* from, std::size_t size,
                                      bool stream) noexcept {
  std::uint32_t c = ~crc;
  if (stream) {
    const std::size_t head =
        std::min<std::size_t>(size, (0 - reinterpret_cast<std::uintptr_t>(to)) & 63);
    c = short_run<Store::cached>(c, to, from, head);
    to += head, from += head, size -= head;
  }
  for (; size >= 3 * kLane; size -= 3 * kLane, from += 3 * kLane, to += 3 * kLane) {
    c = three_lanes(c, from, size);
    if (stream) {
      stream_out(to, from, 3 * kLane);
    } else {
      std::memcpy(to, from, 3 * kLane);
    }
  }
  if (stream) _mm_sfence();
  return ~short_run<Store::cached>(c, to, from, size);
}

bool sse42_usable() noexcept {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

// ---- AVX-512 and VPCLMULQDQ --------------------------------------------------------

#define SPECKV_AVX512 __attribute__((target("sse4.2,pclmul,avx512f,vpclmulqdq")))

// The pair of constants that moves a 128-bit remainder `bits` further up the message. In
// a register the low half holds the higher powers; the reflected product lacks one bit.
struct Fold {
  long long low, high;
};
constexpr Fold fold_by(std::uint64_t bits) noexcept {
  return {static_cast<long long>(std::uint64_t{x_to(bits + 32)} << 1),
          static_cast<long long>(std::uint64_t{x_to(bits - 32)} << 1)};
}
constexpr Fold kFold2048 = fold_by(2048), kFold512 = fold_by(512),
               kFold384 = fold_by(384), kFold256 = fold_by(256), kFold128 = fold_by(128);

SPECKV_AVX512 inline __m512i in_every_lane(Fold k) noexcept {
  return _mm512_set_epi64(k.high, k.low, k.high, k.low, k.high, k.low, k.high, k.low);
}

SPECKV_AVX512 inline __m512i fold(__m512i sum, __m512i k, __m512i next) noexcept {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(sum, k, 0x00),
                                   _mm512_clmulepi64_epi128(sum, k, 0x11), next, 0x96);
}

// 512 bits of remainder to 32: each 128-bit lane moves up to the last one, and the crc32
// instruction reduces what is left.
SPECKV_AVX512 inline std::uint32_t reduce(__m512i sum) noexcept {
  const __m512i k = _mm512_set_epi64(0, 0, kFold128.high, kFold128.low, kFold256.high,
                                     kFold256.low, kFold384.high, kFold384.low);
  const __m512i last = _mm512_maskz_mov_epi64(0xC0, sum);
  alignas(64) std::uint64_t lanes[8];
  _mm512_store_si512(lanes, fold(sum, k, last));
  const std::uint64_t c = _mm_crc32_u64(0, lanes[0] ^ lanes[2] ^ lanes[4] ^ lanes[6]);
  return static_cast<std::uint32_t>(
      _mm_crc32_u64(c, lanes[1] ^ lanes[3] ^ lanes[5] ^ lanes[7]));
}

constexpr std::size_t kStride = 256;
// The hardware's own prefetch starts late in short runs and stops at page ends: measured,
// 2 KiB ahead gains 10 % at 16 KiB and costs nothing at 1 MiB.
constexpr std::size_t kAhead = 2048;

inline void prefetch(const std::byte* from, std::size_t at) noexcept {
  for (std::size_t i = 0; i < kStride; i += 64)
    __builtin_prefetch(from + at + i);
}

// The 64 bytes at `at`, stored on the way; `to` may be null for Store::none.
template <Store store>
SPECKV_AVX512 inline __m512i take(std::byte* to, const std::byte* from,
                                  std::size_t at) noexcept {
  const __m512i v = _mm512_loadu_si512(from + at);
  if constexpr (store == Store::cached) _mm512_storeu_si512(to + at, v);
  if constexpr (store == Store::stream) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to + at), v);
  }
  return v;
}

// REQUIRES: size a multiple of kStride and not 0; `to` 64-byte aligned for Store::stream.
template <Store store>
SPECKV_AVX512 std::uint32_t strides(std::uint32_t c, std::byte* to, const std::byte* from,
                                    std::size_t size) noexcept {
  const __m512i k = in_every_lane(kFold2048);
  for (std::size_t i = kStride; i < std::min(kAhead, size); i += kStride)
    prefetch(from, i);
  __m512i s0 = take<store>(to, from, 0), s1 = take<store>(to, from, 64);
  __m512i s2 = take<store>(to, from, 128), s3 = take<store>(to, from, 192);
  s0 = _mm512_xor_si512(s0, _mm512_maskz_set1_epi32(1, static_cast<int>(c)));
  for (std::size_t i = kStride; i < size; i += kStride) {
    prefetch(from, std::min(i + kAhead, size - kStride));
    s0 = fold(s0, k, take<store>(to, from, i));
    s1 = fold(s1, k, take<store>(to, from, i + 64));
    s2 = fold(s2, k, take<store>(to, from, i + 128));
    s3 = fold(s3, k, take<store>(to, from, i + 192));
  }
  const __m512i side = in_every_lane(kFold512);
  return reduce(fold(fold(fold(s0, side, s1), side, s2), side, s3));
}

template <Store store>
SPECKV_AVX512 std::uint32_t run512(std::uint32_t crc, std::byte* to,
                                   const std::byte* from, std::size_t size) noexcept {
  std::uint32_t c = ~crc;
  if (size >= 2 * kStride) {
    // Aligned stores, or aligned loads where nothing is stored.
    const auto edge = reinterpret_cast<std::uintptr_t>(store == Store::none ? from : to);
    const std::size_t head = (0 - edge) & 63;
    c = short_run<store>(c, to, from, head);
    if constexpr (store != Store::none) to += head;
    from += head, size -= head;
    const std::size_t body = size / kStride * kStride;
    c = strides<store>(c, to, from, body);
    if constexpr (store != Store::none) to += body;
    from += body, size -= body;
    if constexpr (store == Store::stream) _mm_sfence();
  }
  return ~short_run<store>(c, to, from, size);
}

SPECKV_AVX512 std::uint32_t avx512_crc(std::uint32_t crc, const std::byte* data,
                                       std::size_t size) noexcept {
  return run512<Store::none>(crc, nullptr, data, size);
}

SPECKV_AVX512 std::uint32_t avx512_copy(std::uint32_t crc, std::byte* to,
                                        const std::byte* from, std::size_t size,
                                        bool stream) noexcept {
  return stream ? run512<Store::stream>(crc, to, from, size)
                : run512<Store::cached>(crc, to, from, size);
}

bool avx512_usable() noexcept {
  return sse42_usable() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("vpclmulqdq");
}

}  // namespace

constinit const ChecksumKernel kSse42{"sse42", sse42_usable, lanes_crc, sse42_copy};
constinit const ChecksumKernel kVpclmul512{"vpclmul512", avx512_usable, avx512_crc,
                                           avx512_copy};

}  // namespace speckv::crc32c_detail

#endif

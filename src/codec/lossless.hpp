// codec/lossless.hpp -- one unit of the lossless codec, and its inner loops (internal).
// docs/block-format.md.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "codec/builtin.hpp"

namespace speckv {

namespace lossless {

inline constexpr std::uint32_t kStreams = 4, kSymbols = 256, kMostWidth = 4;
inline constexpr int kMost = 11;  // bits of a code
inline constexpr std::uint64_t kPlaneBytes = 8, kLengthsBytes = kSymbols / 2,
                               kPartHead = kLengthsBytes + kStreams * 4;
// Channels that are taken at a time, of a row of each stream.
inline constexpr std::uint32_t kStrip = 256;

enum class Mode : std::uint8_t { raw, constant, coded };

// Where the plain rows of a unit lie, and of what they consist.
struct Rows {
  std::uint32_t tokens, channels, width;  // width: bytes of a value, which is its planes
  std::uint64_t stride;                   // bytes from a row to the next
};

// By the next kMost bits: the symbol (low byte, to be stored as it is) and the length of
// its code (high).
using DecodeTable = std::array<std::uint16_t, 1U << kMost>;
// By symbol: the code's bits at the top, in the order of the stream; below, its length.
using EncodeTable = std::array<std::uint64_t, kSymbols>;
// Of a code in the order of the stream, its first bit lowest; 0: there is none.
constexpr std::uint64_t entry_of(std::uint64_t code, unsigned length) noexcept {
  return length == 0 ? 0 : code << (64 - length) | length;
}

// A stream that is read: any bytes. Behind its end there are zeros.
struct InStream {
  const std::byte* first = nullptr;
  std::uint64_t size = 0, at = 0;  // bytes; bits taken

  // Whether what was taken ends in the last byte, and what is left of that is zero.
  bool at_end() const noexcept {
    const std::uint64_t left = 8 * size - at;  // wraps if there was too little
    return left < 8 &&
           (left == 0 || std::to_integer<unsigned>(first[size - 1]) >> (8 - left) == 0);
  }
};

// Where one plane's symbols come from and go to.
struct Source {
  const DecodeTable* table;
  InStream* in;
  std::uint8_t (*to)[kStrip];
};

// A stream that is written, whose size has been worked out before.
struct OutStream {
  std::byte* at = nullptr;
  std::byte* end = nullptr;
  std::uint64_t held = 0;  // bits that do not fill a byte yet
  unsigned count = 0;      // of them

  void finish() noexcept {
    if (count > 0) *at++ = static_cast<std::byte>(held);
  }
};

std::uint64_t unit_bound(const Rows& rows) noexcept;

// Returns the bytes used, a multiple of 64. REQUIRES: out.size() >= unit_bound().
std::uint64_t encode_unit(const Rows& rows, const std::byte* plain,
                          MutableBytes out) noexcept;

// One unit to decode, and where its first row lies.
struct Unit {
  Bytes encoded;
  std::byte* plain;
};
inline constexpr std::size_t kMostUnits = 2;
// Units side by side: a decoder mostly waits for its table. False: no encoder wrote these
// bytes. REQUIRES: units.size() <= kMostUnits.
bool decode_units(const Rows& rows, std::span<const Unit> units) noexcept;

}  // namespace lossless

// By half of a value's bytes (1, 2 or 4). No function reads or writes outside of what it
// is given.
struct LosslessLoops {
  // n values of a row to n bytes of each plane, and back.
  using Split = void (*)(const std::byte* row, std::size_t n,
                         std::uint8_t* const* planes) noexcept;
  using Merge = void (*)(const std::uint8_t* const* planes, std::size_t n,
                         std::byte* row) noexcept;
  Split split[3];
  Merge merge[3];
  // n symbols of each of the four streams of one plane, or two. REQUIRES: n <= kStrip.
  void (*read)(const lossless::Source& from, std::size_t n) noexcept;
  void (*read_two)(const lossless::Source& a, const lossless::Source& b,
                   std::size_t n) noexcept;
  void (*write)(const lossless::EncodeTable& table,
                const std::uint8_t (*from)[lossless::kStrip], std::size_t n,
                lossless::OutStream* out) noexcept;
};

namespace codec_detail {
extern const LosslessLoops kLosslessScalar;
#if defined(__x86_64__)
extern const LosslessLoops kLosslessAvx2, kLosslessAvx512;
#elif defined(__aarch64__)
extern const LosslessLoops kLosslessNeon;
#endif
}  // namespace codec_detail

}  // namespace speckv

// codec/prefix_code.hpp -- prefix codes of bounded length, and bits in memory (internal).
//
// Codes are canonical: sorted by length, then by symbol, each is the one before plus one.
// Their bits lie in bytes from the lowest up, a code's first bit first, so that the next
// `most` bits of a stream are an index into a table.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cxlspeckv/block.hpp"

#include "base/endian.hpp"

namespace speckv::prefix {

inline constexpr std::size_t kMostSymbols = 256;
inline constexpr int kMostLength = 15;

// The lengths of an optimal code of at most `most` bits by package-merge; 0: the symbol
// does not occur. Of equal weights a symbol comes before a package, a lower symbol before
// a higher. REQUIRES: two counts or more are not zero, and as many codes of `most` bits
// as there are symbols.
void code_lengths(std::span<const std::uint32_t> counts, int most,
                  std::span<std::uint8_t> lengths) noexcept;

struct Code {
  std::uint16_t bits = 0;  // the first bit lowest
  std::uint8_t length = 0;
};

// False: no complete code of at most `most` bits has these lengths.
bool assign_codes(std::span<const std::uint8_t> lengths, int most,
                  std::span<Code> codes) noexcept;

// For every value of the next `most` bits the symbol (low byte) and its length (high).
// REQUIRES: assign_codes() made the codes; table.size() == 2^most.
void fill_table(std::span<const Code> codes, std::span<std::uint16_t> table) noexcept;

// Appends to memory whose size has been worked out before.
class BitWriter {
 public:
  explicit BitWriter(MutableBytes out) noexcept : out_(out) {}
  void put(Code code) noexcept {
    held_ |= std::uint64_t{code.bits} << count_;
    count_ += code.length;
    if (count_ < 32) return;
    store_le(out_.data() + at_, static_cast<std::uint32_t>(held_));
    at_ += 4;
    held_ >>= 32;
    count_ -= 32;
  }
  // The last byte is filled with zeros.
  void finish() noexcept {
    for (; count_ > 0; count_ -= std::min(count_, 8U), held_ >>= 8)
      out_[at_++] = static_cast<std::byte>(held_);
  }

 private:
  MutableBytes out_;
  std::size_t at_ = 0;
  std::uint64_t held_ = 0;
  unsigned count_ = 0;
};

// Reads any bytes without leaving them: behind the end there are zeros, and at_end() then
// says no.
class BitReader {
 public:
  explicit BitReader(Bytes in) noexcept
      : at_(in.data()), end_(in.data() + in.size()), size_(in.size()) {}

  // Afterwards 56 bits at least can be taken.
  void refill() noexcept {
    if (end_ - at_ >= 8) [[likely]] {
      held_ |= load_le<std::uint64_t>(at_) << count_;
      at_ += (63 - count_) >> 3;
      count_ |= 56;
      return;
    }
    for (; count_ <= 56; count_ += 8) {
      if (at_ == end_) {
        ++beyond_;
      } else {
        held_ |= std::to_integer<std::uint64_t>(*at_++) << count_;
      }
    }
  }
  std::uint64_t peek() const noexcept { return held_; }
  void skip(unsigned bits) noexcept {
    held_ >>= bits;
    count_ -= bits;
  }
  // Whether what was taken ends in the last byte, and what is left of that is zero.
  bool at_end() const noexcept {
    const auto unread = static_cast<std::uint64_t>(end_ - at_);
    const std::uint64_t taken = 8 * (size_ - unread + beyond_) - count_;
    const std::uint64_t left = 8 * size_ - taken;  // wraps if there was too little
    return left < 8 && (held_ & ((1U << left) - 1)) == 0;
  }

 private:
  const std::byte* at_;
  const std::byte* end_;
  std::uint64_t size_, held_ = 0, beyond_ = 0;
  unsigned count_ = 0;
};

}  // namespace speckv::prefix

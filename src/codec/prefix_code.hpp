// codec/prefix_code.hpp -- prefix codes of bounded length (internal).
//
// Codes are canonical: sorted by length, then by symbol, each is the one before plus one.
// Their bits lie in bytes from the lowest up, a code's first bit first, so that the next
// `most` bits of a stream are an index into a table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

// For every value of the next `most` bits the symbol (low byte) and the length of its
// code (high). False as above. REQUIRES: table.size() == 2^most.
bool fill_table(std::span<const std::uint8_t> lengths, int most,
                std::span<std::uint16_t> table) noexcept;

}  // namespace speckv::prefix

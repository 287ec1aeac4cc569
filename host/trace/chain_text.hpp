// trace/chain_text.hpp -- a chain as text: "0-12,40,7-9", or "-" where it is empty.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trace/lines.hpp"

namespace speckv::trace {

inline constexpr std::uint64_t kLargestBlock = (std::uint64_t{1} << 63) - 1;

// Appends to `out`; false: not such a text, or more than `most` numbers.
inline bool read_ranges(std::string_view text, std::size_t most,
                        std::vector<std::uint64_t>& out) {
  constexpr std::uint64_t kLargest = kLargestBlock;
  if (text == "-") return true;
  Words ranges(text, ',');
  while (!ranges.done()) {
    Words ends(ranges.word(), '-');
    const auto first = ends.number<std::uint64_t>(0, kLargest);
    const auto last = ends.done() ? first : ends.number<std::uint64_t>(0, kLargest);
    if (ends.bad || !ends.done() || last < first) return false;
    if (last - first >= most || out.size() + (last - first) >= most) return false;
    for (std::uint64_t n = first; n <= last; ++n)
      out.push_back(n);
  }
  return !ranges.bad;
}

template <class Numbers>
std::string write_ranges(const Numbers& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1)
      ++end;
    if (i > 0) text += ',';
    text += std::to_string(numbers[i]);
    if (end - i > 1) text += '-' + std::to_string(numbers[end - 1]);
    i = end;
  }
  return text.empty() ? "-" : text;
}

}  // namespace speckv::trace

// rtl/bit_flips.hpp -- flips bits of the data that passes the buses of the cards behind
// sim: (rtl_device.cpp), both ways. Descriptors and completions are left alone.
#pragma once

#include <atomic>
#include <cstdint>

namespace speckv::test {

// Any thread.
struct BitFlips {
  std::atomic<std::uint32_t> within{
      0};  // a bit at most that many beats after the last; 0: none
  std::atomic<std::uint64_t> done{0};
};
inline BitFlips bit_flips;

}  // namespace speckv::test

// support/sample.hpp -- how many of all random cases a test has time for.
#pragma once

#include <cstdint>

namespace speckv::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

// A quarter of them under a sanitizer, which makes each ten times as slow. For cases that
// are alike: what each differs in must all be tried.
constexpr std::uint64_t sampled(std::uint64_t all) {
  return kIsSanitized ? (all + 3) / 4 : all;
}

}  // namespace speckv::test

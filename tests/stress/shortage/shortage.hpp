// stress/shortage -- a program that links this has its operator new and its starts of
// threads replaced: they fail when a test wants it. Any thread.
#pragma once

#include <cstdint>

namespace speckv::test {

enum class Shortage {
  none,
  one_allocation,  // the n-th operator new fails
  memory,          // the n-th and all that follow
  one_thread,      // the n-th start of a thread
};

// From now on; counts from 0.
void want(Shortage what, std::uint64_t n) noexcept;
// There is everything again.
void supply() noexcept;
// Since want(): what was asked for of the kind that is short, and how often in vain.
std::uint64_t asked() noexcept;
std::uint64_t denied() noexcept;
// Allocations that were not given back, since the program began.
std::int64_t live() noexcept;

}  // namespace speckv::test

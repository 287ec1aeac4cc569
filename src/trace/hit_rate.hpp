// trace/hit_rate.hpp -- one cache of so many blocks, and every block of every chain asked
// of it in turn: what eviction alone is worth.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "trace/trace.hpp"

namespace speckv::trace {

struct HitRate {
  std::uint64_t accesses = 0, hits = 0;
  double rate() const noexcept {
    return accesses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(accesses);
  }
};

// With a policy of policy_names(). not_found: there is none of that name.
Result<HitRate> hit_rate(const Trace& trace, std::string_view policy,
                         std::uint32_t capacity);
// With the future known: what is needed furthest from now goes (Belady, 1966), be it what
// just came.
HitRate best_hit_rate(const Trace& trace, std::uint32_t capacity);

}  // namespace speckv::trace

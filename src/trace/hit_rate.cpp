#include "trace/hit_rate.hpp"

#include <limits>
#include <queue>
#include <utility>

#include "trace/policy_cache.hpp"

namespace speckv::trace {

Result<HitRate> hit_rate(const Trace& trace, std::string_view name,
                         std::uint32_t capacity) {
  auto policy = make_policy(name);
  if (policy == nullptr)
    return Status(Code::not_found, "no such policy: " + std::string(name));
  HitRate rate;
  PolicyCache cache(std::move(policy), capacity, trace.distinct_blocks, nullptr);
  for (const Request& request : trace.requests) {
    for (const BlockId block : trace.chain(request)) {
      ++rate.accesses;
      if (cache.has(block)) {
        ++rate.hits;
        cache.touch(block);
        continue;
      }
      if (cache.full()) (void)cache.give_up();
      cache.fill(block);
    }
  }
  return rate;
}

HitRate best_hit_rate(const Trace& trace, std::uint32_t capacity) {
  constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
  std::vector<BlockId> order;
  for (const Request& request : trace.requests) {
    const auto chain = trace.chain(request);
    order.insert(order.end(), chain.begin(), chain.end());
  }
  std::vector<std::uint64_t> next(order.size()), seen(trace.distinct_blocks, kNever);
  for (std::size_t i = order.size(); i-- > 0;)
    next[i] = std::exchange(seen[order[i]], i);

  HitRate rate{order.size(), 0};
  std::vector<std::uint64_t> due(trace.distinct_blocks, 0);  // next use + 1 of what is in
  std::priority_queue<std::pair<std::uint64_t, BlockId>> furthest;
  std::uint32_t size = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const BlockId block = order[i];
    if (due[block] != 0) {
      ++rate.hits;
      --size;  // it comes in again below, with its new time
      due[block] = 0;
    }
    if (next[i] == kNever) continue;
    due[block] = next[i] + 1;
    furthest.emplace(next[i] + 1, block);
    for (++size; size > capacity;) {
      const auto [when, which] = furthest.top();
      furthest.pop();
      if (due[which] != when) continue;  // it was used since
      due[which] = 0;
      --size;
    }
  }
  return rate;
}

}  // namespace speckv::trace

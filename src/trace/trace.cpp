#include "trace/trace.hpp"

#include <algorithm>
#include <numeric>
#include <unordered_set>

namespace speckv::trace {
namespace {

constexpr std::uint32_t kNobody = ~std::uint32_t{0};

// Of a recording without sessions: a request continues the one that last used the deepest
// block which both have, if that one's chain is part of this one but for its last block
// (which its answer may have filled), and more than one block is shared.
void tell_sessions(Trace& trace) {
  std::vector<std::uint32_t> last(trace.distinct_blocks, kNobody);
  std::uint32_t sessions = 0;
  for (std::uint32_t i = 0; i < trace.requests.size(); ++i) {
    Request& request = trace.requests[i];
    const auto chain = trace.chain(request);
    std::size_t deep = 0;
    while (deep < chain.size() && last[chain[deep]] != kNobody)
      ++deep;
    request.session = kNobody;
    if (deep >= 2) {
      const Request& parent = trace.requests[last[chain[deep - 1]]];
      if (deep + 1 >= parent.blocks) request.session = parent.session;
    }
    if (request.session == kNobody) request.session = sessions++;
    for (const BlockId block : chain)
      last[block] = i;
  }
  trace.sessions = sessions;
}

// Notices of sessions that have no request are of no use.
void number_sessions(Trace& trace) {
  std::unordered_map<std::uint32_t, std::uint32_t> numbers;
  for (Request& request : trace.requests) {
    const auto next = static_cast<std::uint32_t>(numbers.size());
    request.session = numbers.emplace(request.session, next).first->second;
  }
  trace.sessions = static_cast<std::uint32_t>(numbers.size());
  std::erase_if(trace.notices, [&](Notice& notice) {
    const auto known = numbers.find(notice.session);
    if (known != numbers.end()) notice.session = known->second;
    return known == numbers.end();
  });
}

// The first request arrives at 0.
void begin_at_zero(Trace& trace) {
  const double begin = trace.requests.empty() ? 0 : trace.requests.front().arrived;
  for (Request& request : trace.requests)
    request.arrived -= begin;
  for (Notice& notice : trace.notices)
    notice.at -= begin;
  std::erase_if(trace.notices, [](const Notice& notice) { return notice.at < 0; });
}

// Uniform in [0, 1).
double draw(std::uint64_t seed, std::uint64_t number) {
  return static_cast<double>(mix(seed + 1, number) >> 11) * 0x1p-53;
}

}  // namespace

std::uint64_t mix(std::uint64_t state, std::uint64_t value) noexcept {
  std::uint64_t x = (state ^ (value + 0x9E3779B97F4A7C15U)) + (state << 6) + (state >> 2);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

Builder::Builder(std::string name, std::uint32_t block_tokens) {
  trace_.name = std::move(name);
  trace_.block_tokens = block_tokens;
}

BlockId Builder::id(std::uint64_t key) {
  return ids_.emplace(key, static_cast<BlockId>(ids_.size())).first->second;
}

Status Builder::add(Request request, std::size_t earlier, std::uint32_t shared,
                    std::span<const BlockId> rest) {
  if (shared + rest.size() > kLongestChain)
    return {Code::no_space, "a chain of more than 2^20 blocks"};
  if (trace_.chains.size() + shared + rest.size() > kMostBlocks)
    return {Code::no_space, "more than 2^28 blocks in all chains"};
  request.first = trace_.chains.size();
  request.blocks = shared + static_cast<std::uint32_t>(rest.size());
  if (shared > 0) {
    const std::uint64_t from = trace_.requests[earlier].first;
    for (std::uint32_t i = 0; i < shared; ++i)
      trace_.chains.push_back(BlockId{trace_.chains[from + i]});
  }
  trace_.chains.insert(trace_.chains.end(), rest.begin(), rest.end());
  trace_.requests.push_back(request);
  return {};
}

Trace Builder::finish(bool known_sessions) && {
  trace_.distinct_blocks = static_cast<std::uint32_t>(ids_.size());
  std::stable_sort(
      trace_.requests.begin(), trace_.requests.end(),
      [](const Request& a, const Request& b) { return a.arrived < b.arrived; });
  std::stable_sort(trace_.notices.begin(), trace_.notices.end(),
                   [](const Notice& a, const Notice& b) { return a.at < b.at; });
  begin_at_zero(trace_);
  if (known_sessions) {
    number_sessions(trace_);
  } else {
    trace_.notices.clear();  // of sessions that nobody knows
    tell_sessions(trace_);
  }
  return std::move(trace_);
}

Trace select(const Trace& trace, const Selection& selection) {
  constexpr std::uint64_t kPartSeed = 0x7472616365;  // which part: the same for all seeds
  Trace kept;
  kept.name = trace.name;
  kept.block_tokens = trace.block_tokens;
  kept.distinct_blocks = trace.distinct_blocks;
  for (const Request& request : trace.requests) {
    const bool train = draw(kPartSeed, request.session) < 0.6;
    if (selection.part == Selection::Part::train && !train) continue;
    if (selection.part == Selection::Part::test && train) continue;
    if ((draw(selection.seed, request.session) >= selection.share) != selection.others)
      continue;
    if (request.arrived > selection.longest) break;
    kept.requests.push_back(request);
    kept.requests.back().first = kept.chains.size();
    const auto chain = trace.chain(request);
    kept.chains.insert(kept.chains.end(), chain.begin(), chain.end());
  }
  for (const Notice& notice : trace.notices) {
    if (notice.at <= selection.longest) kept.notices.push_back(notice);
  }
  begin_at_zero(kept);
  number_sessions(kept);  // which leaves out those of others
  return kept;
}

std::vector<std::uint32_t> shared_prefixes(const Trace& trace) {
  std::vector<std::uint32_t> shared;
  std::vector<bool> seen(trace.distinct_blocks);
  shared.reserve(trace.requests.size());
  for (const Request& request : trace.requests) {
    const auto chain = trace.chain(request);
    std::uint32_t n = 0;
    while (n < chain.size() && seen[chain[n]])
      ++n;
    shared.push_back(n);
    for (const BlockId block : chain)
      seen[block] = true;
  }
  return shared;
}

double completion_of(const Request& request) noexcept {
  constexpr double kInputRate = 8000, kOutputRate = 40;
  if (request.duration >= 0) return request.arrived + request.duration;
  return request.arrived + request.input_tokens / kInputRate +
         request.output_tokens / kOutputRate;
}

}  // namespace speckv::trace

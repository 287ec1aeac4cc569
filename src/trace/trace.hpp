// trace/trace.hpp -- what an engine asked for and when: requests, each with the chain of
// blocks that its input is made of.
//
// A trace is plain memory: readers of files are in host/trace, and everything here is
// deterministic. Times are seconds since the trace began.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cxlspeckv/status.hpp"

namespace speckv::trace {

struct Request {
  double arrived = 0;
  double duration = -1;  // from arrival to completion; < 0: not recorded
  std::uint32_t session = 0;
  std::uint32_t input_tokens = 0, output_tokens = 0;
  bool brings_tool_result = false;  // its input ends with what a tool answered
  bool stops_for_tool = false;      // it stopped so that a tool is called
  bool calls_tool = false;          // its output holds a call
  bool sub_agent = false;           // it belongs to an agent that an agent started
  std::uint32_t blocks = 0;         // of its chain,
  std::uint64_t first = 0;          // which begins here in Trace::chains
};

// What was said of a session besides: that it is needed so many seconds later, with a
// confidence in [0, 1] (0 takes it back), or that it does not return.
struct Notice {
  double at = 0;
  std::uint32_t session = 0;
  bool ended = false;
  double eta = 0, confidence = 0;
};

using BlockId = std::uint32_t;  // dense from 0: equal ids are equal prefixes

// Immutable once built. Requests are in the order of their arrival; sessions are numbered
// from 0 without gaps.
struct Trace {
  std::string name{};
  std::uint32_t block_tokens = 0;
  std::uint32_t sessions = 0;
  std::uint32_t distinct_blocks = 0;
  std::vector<Request> requests{};
  std::vector<Notice> notices{};  // in the order of their times
  std::vector<BlockId> chains{};

  std::span<const BlockId> chain(const Request& request) const noexcept {
    return std::span(chains).subspan(request.first, request.blocks);
  }
  double seconds() const noexcept {
    return requests.empty() ? 0 : requests.back().arrived;
  }
};

// Collects requests and notices in any order. Blocks are named by 64-bit keys, sessions
// by any number; both are renumbered.
class Builder {
 public:
  static constexpr std::uint32_t kLongestChain = 1U << 20;
  static constexpr std::uint64_t kMostBlocks = 1ULL << 28;  // of all chains together

  explicit Builder(std::string name, std::uint32_t block_tokens);

  // The id of a block; a key that is new gets the next one.
  BlockId id(std::uint64_t key);
  // A chain that begins with `shared` blocks of `earlier`, a request's number in the
  // order of add(), and goes on with `rest`. The fields `blocks` and `first` are set
  // here. no_space: more blocks than the limits above.
  Status add(Request request, std::size_t earlier, std::uint32_t shared,
             std::span<const BlockId> rest);
  Status add(const Request& request, std::span<const BlockId> chain) {
    return add(request, 0, 0, chain);
  }
  void add(const Notice& notice) { trace_.notices.push_back(notice); }
  std::span<const BlockId> chain(std::size_t number) const noexcept {
    return trace_.chain(trace_.requests[number]);
  }
  std::size_t size() const noexcept { return trace_.requests.size(); }

  // Orders the requests; the first arrives at 0. `known_sessions`: false where the
  // recording does not say which request continues which; it is then told from chains.
  Trace finish(bool known_sessions) &&;

 private:
  Trace trace_;
  std::unordered_map<std::uint64_t, BlockId> ids_;
};

// The same trace with the sessions for which `keep` says true; blocks keep their ids.
struct Selection {
  enum class Part : std::uint8_t { all, train, test };
  Part part = Part::all;  // 60 % of the sessions, the other 40 %, by a hash
  double share = 1;       // of the sessions, drawn by `seed`
  std::uint64_t seed = 0;
  bool others = false;    // in place of those the ones that are not drawn
  double longest = 1e18;  // s: what arrives later is left out
};
Trace select(const Trace& trace, const Selection& selection);

// Blocks of a request's chain that an earlier request had, from its start; one number a
// request.
std::vector<std::uint32_t> shared_prefixes(const Trace& trace);

// When each request completed: as recorded, or at 8,000 input and 40 output tokens a
// second.
double completion_of(const Request& request) noexcept;

// A 64-bit mixing step: every bit of the result depends on every bit of both.
std::uint64_t mix(std::uint64_t state, std::uint64_t value) noexcept;

}  // namespace speckv::trace

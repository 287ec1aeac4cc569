// host/demo/thinking.hpp -- conversations whose users think between turns: what a turn
// waits for its KV with speculation off, learned and hinted, and retained: what is
// learned says what to keep, and nothing is fetched ahead.
//
// When each turn arrives is drawn before, so that all ways answer the same ones in the
// same order; they take turns round by round. Each way has a clock of its own, which runs
// while the way computes or moves blocks and jumps over the time in which nothing
// happens.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cxlspeckv/prefetcher.hpp"

#include "workload.hpp"

namespace speckv::demo {

// A quarter of the users are quick.
inline constexpr double kQuickThinks = 3, kSlowThinks = 45;  // s; half to one and a half
inline constexpr double kHintLead = 2;                       // s before the turn arrives

struct ThinkingResult {
  std::string speculation{};
  std::vector<double> stall_seconds{};         // until the KV was there; one a turn
  std::vector<double> first_token_seconds{};   // one a turn
  std::uint64_t blocks = 0, in_fast_tier = 0;  // sealed blocks of turns that arrived
  PrefetchStats stats{};
  bool same_text = true;  // as the first way
};

struct Arrival {
  double at = 0;  // s
  std::size_t conversation = 0;
};
// `count` turns in the order of their arrival. The same for the same numbers.
std::vector<Arrival> think_times(std::size_t conversations, std::size_t count);

// One result for each of settings.speculation, in that order. In settings.recordings,
// WAY.trace is what that way's prefetcher was told, and node.toml the tiers, as
// `speckvctl trace replay` takes both.
Result<std::vector<ThinkingResult>> run_thinking(const Settings& settings, Model& model,
                                                 const std::vector<std::uint32_t>& text,
                                                 const Progress& progress);

}  // namespace speckv::demo

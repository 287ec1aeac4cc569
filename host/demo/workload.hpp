// host/demo/workload.hpp -- many conversations, one small fast memory, three ways to
// cope.
//
// The sequences take turns. A turn generates some tokens; before it can, the sequence's
// KV has to be in the fast tier. The three ways are measured in one run, round by round,
// so that whatever else the machine does falls on all of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cache.hpp"
#include "generator.hpp"
#include "model.hpp"

namespace speckv::demo {

struct Settings {
  std::uint32_t sequences = 16, context = 2048, turn = 32, rounds = 5, threads = 2;
  std::vector<std::string> tiers{};  // URIs; empty: a quarter in memory, all in a file
  std::uint64_t fast_bytes = 0;      // capacity of the first of `tiers`
  const Codec* codec = nullptr;      // of the tiers below the first
  std::string text{}, model{};       // a file, a folder; empty: those shipped
  std::string json{};
  std::vector<std::string> speculation{};  // ways of thinking.hpp; empty: none of it
  std::string recordings{};  // a folder for what each of those did; empty: nowhere
  bool progress = false;

  std::uint32_t longest() const noexcept { return context + rounds * turn; }
  std::uint32_t blocks_each() const noexcept {
    return (longest() + kBlockTokens - 1) / kBlockTokens;
  }
  std::uint32_t blocks() const noexcept { return sequences * blocks_each(); }
  // Of the fast tier: what the first of `tiers` holds; or a quarter, but least_blocks().
  std::uint32_t fast_blocks() const noexcept;
  // What one sequence and everybody's open block take: a fast tier must hold that.
  std::uint32_t least_blocks() const noexcept { return blocks_each() + sequences + 1; }
  // Sequences whose whole KV fits there.
  std::uint32_t kept() const noexcept {
    return std::min(sequences, fast_blocks() / blocks_each());
  }
};

enum Way : std::size_t {
  all_fast,   // (a) the fast tier holds everything
  tiered,     // (b) it holds a quarter; the next turn's KV is staged while this one runs
  recompute,  // (c) it holds a quarter; what was dropped is computed again
};
inline constexpr std::size_t kWays = 3;

struct WayResult {
  std::vector<double> round_seconds{};        // one a round
  std::vector<double> first_token_seconds{};  // one a turn
};

struct TierResult {
  std::string name{};
  TierStats stats{};
  bool counted = false;     // whether the device's own bytes are known, and then:
  bool bytes_agree = true;  // they are what the store says
};

struct WorkloadResult {
  std::array<WayResult, kWays> ways{};
  std::array<bool, kWays> same_tokens{};           // as (a)
  double prefill_flops = 0;                        // floating-point operations a second
  std::uint64_t blocks = 0, blocks_that_left = 0;  // of (b)
  std::vector<TierResult> tiers{};                 // of (b)
  std::vector<std::uint32_t> sample{};             // a text: its prompt, then
  std::uint32_t sample_prompt = 0;                 // what was generated
};

// Told how much of the whole is done, from 0 to 1.
using Progress = std::function<void(double)>;

// Where each conversation begins. REQUIRES: `text` has more than settings.context tokens.
std::vector<std::vector<std::uint32_t>> prompts_of(
    const Settings& settings, const std::vector<std::uint32_t>& text);

Result<WorkloadResult> run_workload(const Settings& settings, Model& model,
                                    const std::vector<std::uint32_t>& text,
                                    const Progress& progress);

// The start of the n-th of `count` windows of `length` tokens, spread over the text.
std::size_t window(std::size_t text, std::size_t length, std::size_t n,
                   std::size_t count);

}  // namespace speckv::demo

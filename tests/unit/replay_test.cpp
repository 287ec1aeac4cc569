// Replays against an independent simulator that is small enough to be read: one list of
// blocks a tier, one loop over requests. And hit rates against what can be counted.
#include "trace/replay.hpp"

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "cxlspeckv/tier.hpp"

#include "trace/hit_rate.hpp"

namespace speckv::trace {
namespace {

// Sessions that grow by a few blocks a request, of which some share their first blocks.
Trace random_trace(std::uint64_t seed, std::uint32_t requests, double spacing) {
  std::mt19937_64 random(seed);
  Builder builder("random", 16);
  std::vector<std::vector<BlockId>> chains(6);
  std::uint64_t key = 100;
  double now = 0;
  for (std::uint32_t i = 0; i < requests; ++i) {
    now += spacing * static_cast<double>(random() % 1000) / 1000;
    const auto session = static_cast<std::uint32_t>(random() % chains.size());
    std::vector<BlockId>& chain = chains[session];
    if (chain.empty() || random() % 8 == 0) chain = {builder.id(session % 2)};
    for (auto more = random() % 4; more > 0; --more)
      chain.push_back(builder.id(key++));
    Request request;
    request.arrived = now;
    request.session = session;
    request.input_tokens = static_cast<std::uint32_t>(chain.size() * 16 + random() % 16);
    request.output_tokens = static_cast<std::uint32_t>(random() % 5);
    EXPECT_TRUE(builder.add(request, chain).ok());
  }
  return std::move(builder).finish(true);
}

Node small_node(std::uint64_t top, std::uint64_t second, std::uint64_t third) {
  constexpr std::uint64_t kBlock = 16 * 1024;
  return {.name = "small",
          .tiers = {{"a", top * kBlock, 1e6, 0},
                    {"b", second * kBlock, 5e5, 1e-3},
                    {"c", third * kBlock, 1e5, 5e-3}},
          .prefill_tokens_per_second = 2000,
          .output_tokens_per_second = 100,
          .request_seconds = 0.001};
}

ReplayOptions small_options(std::string policy) {
  ReplayOptions options;
  options.policy = std::move(policy);
  options.kv_bytes_per_token = 1024;
  return options;
}

struct Tiny {
  double stall = 0;
  std::uint64_t hits = 0, gone = 0;
};

// Least recently used, as the header of replay.hpp describes it.
Tiny tiny_lru(const Trace& trace, const Node& node, bool on_arrival) {
  const double block = 16 * 1024;
  const std::size_t tiers = node.tiers.size();
  std::vector<std::list<BlockId>> tier(tiers);  // the newest at the front
  std::vector<double> free(tiers, 0);
  std::multiset<BlockId> in_use;
  std::vector<std::pair<double, std::size_t>> ends;
  std::set<BlockId> seen;
  double engine = 0;
  Tiny told;
  const auto where = [&](BlockId b) {
    std::size_t t = 0;
    while (t < tiers && std::find(tier[t].begin(), tier[t].end(), b) == tier[t].end())
      ++t;
    return t;
  };
  const auto insert = [&](BlockId b) {
    // Into the first tier; what leaves a tier goes into the next. What is in use stays in
    // the first, be it too much, and counts as used now.
    std::vector<BlockId> in{b};
    for (std::size_t t = 0; t < tiers; ++t) {
      const auto room = static_cast<std::size_t>(node.tiers[t].bytes / (16 * 1024));
      std::vector<BlockId> out;
      for (const BlockId one : in) {
        const auto used = [&](BlockId other) { return in_use.count(other) > 0; };
        while (tier[t].size() >= room &&
               !std::all_of(tier[t].begin(), tier[t].end(), used)) {
          const BlockId last = tier[t].back();
          tier[t].pop_back();
          if (used(last)) {
            tier[t].push_front(last);
          } else {
            out.push_back(last);
          }
        }
        tier[t].push_front(one);
      }
      in = out;
    }
  };
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    const Request& request = trace.requests[i];
    const double now = request.arrived;
    for (auto& [end, number] : ends) {
      if (end >= now || end < 0) continue;
      for (const BlockId b : trace.chain(trace.requests[number]))
        in_use.erase(in_use.find(b));
      end = -1;
    }
    const auto chain = trace.chain(request);
    in_use.insert(chain.begin(), chain.end());
    std::size_t shared = 0, reused = 0;
    while (shared < chain.size() && seen.count(chain[shared]) > 0)
      ++shared;
    std::vector<double> reads(tiers, 0);
    while (reused < shared && where(chain[reused]) < tiers)
      reads[where(chain[reused++])] += 1;
    told.hits += static_cast<std::uint64_t>(reads[0]);
    told.gone += shared - reused;
    for (std::size_t n = chain.size(); n-- > 0;) {
      const std::size_t t = where(chain[n]);
      if (t < tiers) tier[t].remove(chain[n]);
      if (t == 0) {
        tier[0].push_front(chain[n]);
      } else {
        insert(chain[n]);
      }
    }
    seen.insert(chain.begin(), chain.end());
    const double turn = std::max(now, engine), from = on_arrival ? now : turn;
    double there = from, all = 0;
    for (std::size_t t = 1; t < tiers; ++t)
      all += reads[t];
    reads[0] = all;
    for (std::size_t t = 0; t < tiers; ++t) {
      if (reads[t] == 0) continue;
      free[t] = std::max(free[t], from) + node.tiers[t].latency +
                reads[t] * block / node.tiers[t].bytes_per_second;
      there = std::max(there, free[t]);
    }
    const double fresh =
        std::max(0.0, request.input_tokens - 16.0 * static_cast<double>(reused));
    const double work = fresh / node.prefill_tokens_per_second + node.request_seconds;
    told.stall += std::max(0.0, there - turn);
    engine = turn + work;
    ends.emplace_back(std::max(turn, there) + work +
                          request.output_tokens / node.output_tokens_per_second,
                      i);
  }
  return told;
}

TEST(Replay, equals_a_tiny_simulator_of_lru) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    const Trace trace = random_trace(seed, 200, seed % 2 == 0 ? 0.05 : 1.0);
    const Node node = small_node(20 + seed % 5, 16, seed % 3 == 0 ? 10 : 1000);
    for (const bool on_arrival : {false, true}) {
      ReplayOptions options = small_options("lru");
      options.on_arrival = on_arrival;
      const auto told = replay(trace, node, options);
      ASSERT_TRUE(told.ok());
      const Tiny tiny = tiny_lru(trace, node, on_arrival);
      EXPECT_NEAR(told->stall, tiny.stall, 1e-6 + 1e-9 * tiny.stall) << seed;
      EXPECT_EQ(told->top_hits, tiny.hits) << seed;
      EXPECT_EQ(told->gone, tiny.gone) << seed;
    }
  }
}

TEST(Replay, every_policy_accounts_for_every_block) {
  const Trace trace = random_trace(5, 400, 0.3);
  std::vector<std::string> names{"return"};
  for (const std::string_view name : policy_names())
    names.emplace_back(name);
  const auto shared = shared_prefixes(trace);
  std::uint64_t known = 0;
  for (const std::uint32_t n : shared)
    known += n;
  for (const std::string& name : names) {
    const auto told = replay(trace, small_node(20, 16, 30), small_options(name));
    ASSERT_TRUE(told.ok()) << name;
    std::uint64_t found = told->top_hits + told->gone;
    for (const std::uint64_t blocks : told->read_blocks)
      found += blocks;
    EXPECT_EQ(found, known) << name;
    EXPECT_EQ(told->requests, 400U);
    EXPECT_EQ(told->block_accesses, trace.chains.size());
    const auto again = replay(trace, small_node(20, 16, 30), small_options(name));
    EXPECT_EQ(told->stalls, again->stalls) << name << ": a replay is deterministic";
  }
}

TEST(Replay, who_knows_the_future_waits_less) {
  double lru = 0, hinted = 0, oracle = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Trace trace = random_trace(seed, 400, 1.0);
    const Node node = small_node(24, 24, 1000);
    const auto by_use = replay(trace, node, small_options("lru"));
    lru += by_use->stall;
    EXPECT_TRUE(by_use->over_time.empty()) << "nothing is fetched ahead";
    ReplayOptions options = small_options("return");
    options.schedule.chunk_bytes = 16 * 1024;
    options.schedule.most_in_flight = 64 * 1024;
    options.hint_lead = 2;
    const auto told = replay(trace, node, options);
    hinted += told->stall;
    const prefetch::Counters& counters = told->sources[1];
    EXPECT_GT(counters.useful, counters.staged / 2);
    EXPECT_LE(counters.useful + counters.wasted, counters.staged);
    ASSERT_GE(told->over_time.size(), 120U);
    for (std::size_t i = 1; i < told->over_time.size(); ++i) {
      const StagedSoFar &before = told->over_time[i - 1], &then = told->over_time[i];
      ASSERT_LE(before.at, then.at + 1e-9);
      ASSERT_TRUE(before.useful <= then.useful && before.late <= then.late &&
                  before.wasted <= then.wasted);
    }
    EXPECT_EQ(told->over_time.back().useful, counters.useful);
    EXPECT_EQ(told->over_time.back().wasted, counters.wasted);
    EXPECT_EQ(told->over_time.back().late, counters.late);
    EXPECT_EQ(told->over_time.front().useful, 0U);
    options.hint_lead = std::numeric_limits<double>::infinity();
    oracle += replay(trace, node, options)->stall;
  }
  EXPECT_LT(hinted, 0.8 * lru);
  EXPECT_LT(oracle, 0.75 * lru);
}

TEST(Replay, refuses_what_is_no_node_and_no_policy) {
  const Trace trace = random_trace(1, 10, 1);
  EXPECT_EQ(replay(trace, small_node(1, 1, 1), small_options("mru")).error().code(),
            Code::invalid_argument);
  Node node = small_node(1, 1, 1);
  node.tiers[1].bytes_per_second = 0;
  EXPECT_FALSE(replay(trace, node, small_options("lru")).ok());
  node.tiers.resize(1);
  EXPECT_FALSE(replay(trace, node, small_options("lru")).ok());
}

// The best that any choice of victims, bypassing allowed, can do: by trying all of them.
std::uint64_t most_hits(
    const std::vector<BlockId>& order, std::size_t at, const std::set<BlockId>& cache,
    std::size_t capacity,
    std::map<std::pair<std::size_t, std::set<BlockId>>, std::uint64_t>& known) {
  if (at == order.size()) return 0;
  const auto key = std::make_pair(at, cache);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  std::uint64_t best = 0;
  if (cache.count(order[at]) > 0) {
    best = 1 + most_hits(order, at + 1, cache, capacity, known);
  } else {
    best = most_hits(order, at + 1, cache, capacity, known);
    std::set<BlockId> with = cache;
    with.insert(order[at]);
    if (with.size() <= capacity)
      best = std::max(best, most_hits(order, at + 1, with, capacity, known));
    for (const BlockId out : cache) {
      std::set<BlockId> without = with;
      without.erase(out);
      best = std::max(best, most_hits(order, at + 1, without, capacity, known));
    }
  }
  return known[key] = best;
}

TEST(HitRates, belady_is_the_best_there_is_and_no_policy_is_better) {
  std::mt19937 random(3);
  for (int round = 0; round < 40; ++round) {
    Builder builder("t", 1);
    std::vector<BlockId> order;
    for (int i = 0; i < 24; ++i) {
      const BlockId block = builder.id(random() % 7);
      order.push_back(block);
      Request request;
      request.arrived = i;
      ASSERT_TRUE(builder.add(request, std::span(&block, 1)).ok());
    }
    const Trace trace = std::move(builder).finish(true);
    for (const std::uint32_t capacity : {1U, 2U, 4U}) {
      std::map<std::pair<std::size_t, std::set<BlockId>>, std::uint64_t> known;
      const HitRate best = best_hit_rate(trace, capacity);
      EXPECT_EQ(best.hits, most_hits(order, 0, {}, capacity, known));
      for (const std::string_view name : policy_names())
        EXPECT_LE(hit_rate(trace, name, capacity)->hits, best.hits) << name;
    }
  }
  EXPECT_EQ(hit_rate(Trace{}, "mru", 1).error().code(), Code::not_found);
}

}  // namespace
}  // namespace speckv::trace

// trace/replay.hpp -- a trace on one node with tiers, in virtual time: what each request
// waits for, and what speculation moved for nothing.
//
// One engine prefills requests one after another. When a request comes, the blocks of its
// chain that a slower tier holds are read, each tier's link doing one thing after the
// other, and pass the link into the first tier; it stalls from the moment when the engine
// could begin until they are there. Its whole chain is then in the first tier, and stays
// until it is complete. What a tier gives up goes to the next, at no cost (the other
// direction of the links); what the last one gives up is gone and is computed again.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cxlspeckv/prefetcher.hpp"

#include "prefetch/journal.hpp"
#include "prefetch/scheduler.hpp"
#include "trace/trace.hpp"

namespace speckv::trace {

struct TierModel {
  std::string name{};
  std::uint64_t bytes = 0;
  double bytes_per_second = 0;  // read from it; of the first tier: into it
  double latency = 0;           // s, once a request
};

struct Node {
  std::string name{};
  std::vector<TierModel> tiers{};  // the fastest first; 2 to kMostTiers
  double prefill_tokens_per_second = 20000, output_tokens_per_second = 50;
  double request_seconds = 0.01;  // of the engine, besides tokens
  std::uint64_t chunk_bytes = 0;  // of a live store's prefetcher; 0: as it has them
};

struct ReplayOptions {
  bool on_arrival = true;        // reads begin then; else when the engine comes to it
  std::string policy = "lru";    // of policy_names(); or "return": by the scheduler
  prefetch::Options schedule{};  // of "return"
  predict::ReturnPredictor* predictor = nullptr;  // of "return"; none: it knows nothing
  // The scheduler is told when sessions return, that long before; < 0: never; infinity:
  // as soon as they are done, which is the oracle.
  double hint_lead = -1;
  // A live store's Prefetcher in place of a scheduler alone: tiers give up by `policy`,
  // and the first passes over what is expected back (trace/store_model.hpp). What is said
  // there of links, clock and who listens is the replay's.
  std::optional<PrefetchOptions> live{};
  bool as_recorded = false;  // with `live`: notices, and durations where there are any
  prefetch::Journal* journal = nullptr;  // with `live`: what its scheduler decided
  std::uint64_t kv_bytes_per_token = 131072;
  double measure_from = 0;  // s: what comes earlier warms up
};

// What had become by then of all that was fetched ahead, in bytes.
struct StagedSoFar {
  double at = 0;  // s
  std::uint64_t useful = 0, late = 0, wasted = 0;
};

struct ReplayResult {
  std::uint64_t requests = 0, block_accesses = 0;  // of all
  // Of those that are measured:
  std::uint64_t shared_blocks = 0, top_hits = 0, gone = 0;
  std::array<std::uint64_t, prefetch::kMostTiers> read_blocks{};  // on demand, by tier
  double stall = 0;                                               // s, of all
  std::vector<float> stalls{};  // s, one a request, in the order of the requests
  std::array<prefetch::Counters, prefetch::kSources> sources{};
  std::vector<StagedSoFar> over_time{};  // of "return": in equal steps, and at the end
};

// Deterministic. invalid_argument: no such policy, or a node that is none.
Result<ReplayResult> replay(const Trace& trace, const Node& node,
                            const ReplayOptions& options);

}  // namespace speckv::trace

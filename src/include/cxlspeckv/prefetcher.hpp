// cxlspeckv/prefetcher.hpp -- KV brought to a faster tier before it is asked for.
//
// The engine names its sessions (conversations, agents: requests with pauses between
// them) by numbers of its own, and says when a request of one arrives and when it is
// finished. In the pauses the prefetcher promotes what a session will need, by hints or
// by what it learned of when sessions return: the same scheduler, with the same rules, as
// `speckvctl trace replay` (docs/speculation.md). What a tier gives up is decided by the
// store's policy, as ever; but the first tier passes over what is expected back, as far
// as there is something else.
//
// It holds no block: nothing is pinned, and staged copies may be evicted at no cost,
// since the slower copy stays. It has no thread and never sleeps: work is begun, by the
// movers of the store, in any call below; advance() is there for when nothing else is
// called.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/metrics.hpp"
#include "cxlspeckv/operation.hpp"
#include "cxlspeckv/store.hpp"

namespace speckv {

// What is known of a request, for the predictor; zeros and false are fine.
struct RequestFacts {
  std::uint32_t input_tokens = 0, output_tokens = 0;
  bool brings_tool_result = false;  // its input ends with what a tool answered
  bool stops_for_tool = false;      // it stopped so that a tool is called
  bool calls_tool = false;          // its output holds a call, whatever it stopped for
  bool sub_agent = false;           // it belongs to an agent that another agent started
};

// Told of requests and hints as a Prefetcher is, before it does anything, even when off.
// Any thread.
class RequestSink {
 public:
  virtual ~RequestSink() = default;
  virtual void arrived(std::uint64_t session) noexcept = 0;
  virtual void finished(std::uint64_t session, std::span<const BlockKey> chain,
                        const RequestFacts& facts) noexcept = 0;
  // As it was given: sound or not, heeded or not.
  virtual void hinted(std::uint64_t session, double eta, double confidence) noexcept = 0;
  virtual void ended(std::uint64_t session) noexcept = 0;
};

struct PrefetchOptions {
  // Who is listened to. Neither: it is off, keeps nothing and does nothing. What is
  // learned wastes most of what it stages where sessions return at odd times, so it must
  // be asked for.
  bool learned = false;  // a predictor of returns, which learns from what it is told
  bool hinted = true;    // hint()
  // What is done about it. Of a store's prefetchers one retains, the first that would.
  bool retain = true;  // the first tier gives up last what is expected
  bool stage = true;   // it is promoted
  LayoutId layout{};   // of the blocks: one size for all
  std::uint64_t chunk_bytes = 64ULL << 20;      // one promotion; whole blocks, 1 to 4096
  std::uint64_t most_in_flight = 256ULL << 20;  // of all chunks; at least one chunk
  // That a source may lose, more than it earned, before it is silent for a while: by what
  // it stages for nothing, and by what that displaces and is missed. At most the first
  // tier's size counts; all trials together cost at most twice that.
  std::uint64_t learning_bytes = 64ULL << 30;
  std::chrono::nanoseconds hint_life = std::chrono::seconds(10);  // after its time
  // What was staged without a hint and not read by then counts as wasted.
  std::chrono::nanoseconds unread_life = std::chrono::minutes(10);
  std::uint32_t sessions = 4096;    // remembered at once; 1 to 2^16
  std::uint32_t blocks = 1U << 20;  // of their chains together; 1 to 2^28
  // At which each tier is read; of the first: filled. Tells how long a request's own
  // loads use a link. Empty: 64, 28 and then 7 GB/s.
  std::vector<double> bytes_per_second{};
  Clock* clock = nullptr;  // nullptr: steady_clock()
  // Told of each chunk: call advance() then, but not from its notify.
  CompletionQueue* completions = nullptr;
  std::uint64_t tag = 0;            // repeated there
  RequestSink* requests = nullptr;  // outlives the prefetcher
};

struct PrefetchStats {
  // staged = useful + late + wasted + unread, in bytes of plain blocks.
  struct Source {
    std::uint64_t chunks = 0, displaced = 0;  // begun; given up for a request
    std::uint64_t staged = 0;                 // arrived in a faster tier
    std::uint64_t useful = 0;                 // and were there when the session returned
    std::uint64_t late = 0;    // and were still on their way when it returned
    std::uint64_t wasted = 0;  // and went again, or nobody came for them in time
    std::uint64_t unread = 0;  // and wait
    std::uint64_t pauses = 0;  // times that it was silenced because it lost
    // Passed over by the first tier, each time that last use would have given it up.
    std::uint64_t retained = 0;
  };
  Source learned{}, hinted{};
  std::uint64_t in_flight = 0, peak_in_flight = 0;  // bytes, now and at most so far
  std::uint64_t sessions = 0, blocks = 0;           // that are remembered
  std::uint64_t failed = 0;  // chunks of which the store could move nothing
};

// Any thread may call any member; one lock, never held while blocks move or a completion
// is told. It ends before its store; the destructor waits for what is under way, at most
// the devices' timeout.
class Prefetcher {
 public:
  // invalid_argument: what is wrong with the options, in a sentence.
  static Result<std::unique_ptr<Prefetcher>> create(BlockStore& store,
                                                    PrefetchOptions options = {});
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // A request of the session is finished, and these are the keys of its sealed blocks,
  // from the first on. A session that is not known is new, for which the one that was
  // silent for longest may be forgotten. Of several requests at once the last counts.
  // invalid_argument: more keys than PrefetchOptions::blocks. no_space: all that could be
  // forgotten for it is in use; its chain is not remembered.
  Status finished(std::uint64_t session, std::span<const BlockKey> chain,
                  const RequestFacts& facts = {});
  // A request of the session arrived: call it before its blocks are loaded. What is under
  // way on links that it needs is given up. Every arrived() is followed by a finished()
  // or an ended(). not_found: nothing is known of the session, which may be its first
  // request.
  Status arrived(std::uint64_t session);
  // It is needed in `eta` seconds, with that confidence in [0, 1]; the last word counts,
  // and 0 takes it back. invalid_argument: eta is negative or not finite, or a confidence
  // that is none. not_found: nothing is known of the session.
  Status hint(std::uint64_t session, double eta, double confidence);
  // It does not return, and is forgotten. not_found: nothing is known of the session.
  Status ended(std::uint64_t session);
  // Goes on with what is due, and says after how long at most to call it again; maximum:
  // it is off. Takes microseconds where nothing is due.
  std::chrono::nanoseconds advance();

  PrefetchStats stats() const;
  void report(MetricSink& sink) const;

  struct Impl;  // internal
  Impl& impl() noexcept { return *impl_; }

 private:
  explicit Prefetcher(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace speckv

// cxlspeckv/stream_prefetcher.hpp -- Algorithm 1 of the published design before a live
// store: blocks brought to the first tier because of what a stream is guessed to use
// next.
//
// The engine names the streams (sequences, attention heads) by numbers of its own, and
// says of each use of a block what it uses: a symbol (a token, a page: what the stream is
// made of) and the block in which that lies. A predictor guesses the symbols to
// come; of the likeliest, as many as pays, those are promoted whose blocks lie in a
// slower tier. The predictor is the library's LSTM, where its weights are given, which
// guesses alternatives for the next symbol; else links from each symbol to the one that
// followed it of late, by which guesses lie ever further ahead.
//
// It holds no block and never waits: a guess that is not used costs a transfer, and what
// that displaced. It keeps an account of both, and is silent for a while when it loses
// (docs/speculation.md). It has no thread: work is begun, by the movers of the store, in
// touched(). When sessions return is told by a Prefetcher; the two share no budget.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/metrics.hpp"
#include "cxlspeckv/operation.hpp"
#include "cxlspeckv/store.hpp"

namespace speckv {

struct StreamPrefetchOptions {
  // How many guesses are looked at. fixed: `depth`. adaptive: 2 to 8, up while more than
  // .7 of the blocks asked for are used, down while fewer than .4 are. bandit: 2, 4, 6 or
  // 8, whichever earned most of late, where a block costs more the busier the link is.
  enum class Rule : std::uint8_t { fixed, adaptive, bandit };
  Rule rule = Rule::adaptive;
  std::uint32_t depth = 4;       // 1 to 16; where the rule begins
  float confidence = 0.1F;       // 0 to 1; guesses below are left alone
  std::uint32_t patience = 256;  // uses after which what was asked for is waste; from 1
  std::uint32_t streams = 1024;  // remembered at once; 1 to 2^20
  std::uint32_t symbols = 1U << 18;  // remembered, in 100 bytes each; 1 to 2^28
  LayoutId layout{};                 // of the blocks: one size for all
  std::uint64_t most_in_flight = 256ULL << 20;  // bytes; at least a block
  // That it may lose, more than it earned, before it is silent for a minute, and then for
  // longer; at most the first tier's size counts. All trials together cost at most twice
  // that.
  std::uint64_t learning_bytes = 64ULL << 30;
  double bytes_per_second = 28e9;  // at which the tier below the first is read
  Bytes lstm{};                    // a weights file (docs/lstm-format.md); only read
  Clock* clock = nullptr;          // nullptr: steady_clock()
  CompletionQueue* completions = nullptr;  // told of each use's promotions
  std::uint64_t tag = 0;                   // repeated there
};

// Blocks, unless said; asked = useful + late + wasted + failed + outstanding.
struct StreamPrefetchStats {
  std::uint64_t touched = 0;  // uses
  std::uint64_t missed = 0;   // of blocks that lay below the first tier, late ones too
  std::uint64_t asked = 0;    // to be promoted, because of a guess
  std::uint64_t useful = 0;   // and were in the first tier when they were used
  std::uint64_t late = 0;     // and were not there yet
  std::uint64_t wasted = 0;   // and went again, or were not used in time
  std::uint64_t failed = 0;   // and did not come: given up for a use, or no room
  std::uint64_t outstanding = 0;  // on their way, or there and not used
  // Guesses that were not asked for: in the first tier, or stored nowhere; asked for
  // already; too unlikely; too much in flight.
  std::uint64_t resident = 0, repeated = 0, unlikely = 0, full = 0;
  // Charged to it, beside the wasted: missed blocks that had made room, and blocks on
  // their way when one was missed, which had to wait for them.
  std::uint64_t displaced = 0, delayed = 0;
  std::uint64_t unheard = 0,
                pauses = 0;  // uses while it was silent; how often it fell so
  std::uint32_t depth = 0;   // now
  std::uint64_t in_flight = 0, peak_in_flight = 0;  // bytes
};

// Any thread may call any member; one lock, never held while blocks move or a completion
// is told. It ends before its store; the destructor waits for what is under way, at most
// the devices' timeout.
class StreamPrefetcher {
 public:
  // invalid_argument: what is wrong with the options, in a sentence; also weights that
  // know no symbols. corrupted, unsupported: the weights.
  static Result<std::unique_ptr<StreamPrefetcher>> create(
      BlockStore& store, StreamPrefetchOptions options = {});
  ~StreamPrefetcher();
  StreamPrefetcher(const StreamPrefetcher&) = delete;
  StreamPrefetcher& operator=(const StreamPrefetcher&) = delete;

  // The stream uses `symbol`, which lies in that block, or has just saved it. Best called
  // when the block's load has been begun and before it is waited for: what is guessed is
  // then queued behind it. Where the block is below the first tier, earlier promotions
  // that are not begun are given up for it. A stream that is not known is new, for which
  // the one that was used longest ago is forgotten. no_space: there is no memory; nothing
  // is asked for.
  Status touched(std::uint64_t stream, std::uint32_t symbol, BlockKey block);
  // It is forgotten, where it is known.
  void ended(std::uint64_t stream);
  // Counts what has come; touched() does, too.
  void advance();

  StreamPrefetchStats stats() const;
  void report(MetricSink& sink) const;

  struct Impl;  // internal

 private:
  explicit StreamPrefetcher(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace speckv

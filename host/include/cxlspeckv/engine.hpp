// cxlspeckv/engine.hpp -- what a card knows about blocks: steps, hints, scores,
// candidates.
//
// A card keeps a directory of the blocks that it holds, scores them as decode steps go by
// (docs/queue-protocol.md has the arithmetic), and says which to evict and which to
// prefetch. An Engine is one tenant of one card: it sees its own blocks and no others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cxlspeckv/address.hpp"
#include "cxlspeckv/status.hpp"

namespace speckv {

// `tokens` consecutive tokens of one request, layer and head; the address's kind is
// `key`.
struct TokenRange {
  KvAddress first{};
  std::uint32_t tokens = 0;  // 1 to 65535
};

enum class BlockHint : std::uint8_t {
  hot = 1,           // used now, and often
  evictable = 2,     // not wanted until it is used again
  prefetchable = 3,  // wanted at the step given
  share = 4,         // one reference more: not to be evicted
  unshare = 5,       // one reference less
  forget = 6         // the blocks are gone; busy if one has references
};

// Each 0 to 255, and not all of the first four 0; 1 <= evict, and
// evict + hysteresis <= prefetch - hysteresis.
struct ScoreWeights {
  std::uint8_t recency = 64, frequency = 64, step = 64, durability = 64;
  std::uint8_t evict = 24, prefetch = 96, hysteresis = 8;
  bool operator==(const ScoreWeights&) const = default;
};

// Of this tenant. What counts, counts since the card's reset.
struct EngineTelemetry {
  std::uint32_t step = 0, blocks = 0, shared = 0;
  ScoreWeights weights{};
  std::uint32_t waiting_victims = 0, waiting_prefetches = 0;
  std::uint64_t hits = 0, misses = 0, inserted = 0, replaced = 0, refused = 0,
                removed = 0;
  std::uint64_t scans = 0, victims = 0, prefetches = 0;
  std::uint64_t bytes_read = 0, bytes_written = 0, failures = 0;
};

struct EngineCandidate {
  KvAddress block{};
  std::uint32_t score = 0;  // below 2^18
};

struct EngineInfo {
  std::string name{};
  std::uint32_t block_tokens = 0;  // of a block in the directory
  std::uint64_t memory = 0;        // bytes of the card
  bool simulated = false;
};

// Any thread; calls take turns. Errors of all calls, besides those named: io_error (the
// card is in its fatal state, or has gone), unsupported (this card has no directory).
class Engine {
 public:
  // "soft:" with or without a size, "/dev/speckvN", "cxl:/dev/speckvN"; "fd:N", an open
  // card of this process; "pid:N", the first that process has open (the caller needs the
  // right to trace it), whose blocks it then sees and whose tenant it shares.
  static Result<std::unique_ptr<Engine>> open(std::string_view name);
  ~Engine();

  const EngineInfo& info() const noexcept;
  // Decoding has come to this step; one that is not later changes nothing. Returns how
  // many candidates the scan has found.
  Result<std::uint32_t> step(std::uint32_t step);
  // About every block that holds a token of the range; returns how many. not_found: none,
  // or none with a reference to give back. `due` is for prefetchable only.
  Result<std::uint32_t> hint(BlockHint hint, const TokenRange& range,
                             std::uint32_t due = 0);
  // The card holds the block now, or it was used. A range that is one block: it begins
  // at a multiple of block_tokens and is not longer. no_space: the directory has no
  // place.
  Status hold(const TokenRange& block);
  Status use(const TokenRange& block);
  Status set_weights(const ScoreWeights& weights);
  Result<EngineTelemetry> telemetry();
  // Takes candidates, the oldest first; each is told once, until it has ceased to be one.
  Result<std::vector<EngineCandidate>> victims();
  Result<std::vector<EngineCandidate>> prefetches();
  // The card's own counters, of all tenants, by name; and whether it is in its fatal
  // state.
  Result<std::vector<std::pair<std::string, std::uint64_t>>> counters();
  Result<bool> fatal();

  struct Backend;  // internal

 private:
  explicit Engine(std::unique_ptr<Backend> backend) noexcept;
  std::unique_ptr<Backend> backend_;
};

}  // namespace speckv

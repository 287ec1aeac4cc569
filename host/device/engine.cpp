// Engine: arguments become descriptors, answers become values.
#include "cxlspeckv/engine.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "device/engine_backend.hpp"

namespace speckv {

using namespace engine;

static_assert(static_cast<int>(BlockHint::hot) == static_cast<int>(Hint::hot) &&
              static_cast<int>(BlockHint::evictable) ==
                  static_cast<int>(Hint::evictable) &&
              static_cast<int>(BlockHint::prefetchable) ==
                  static_cast<int>(Hint::prefetchable) &&
              static_cast<int>(BlockHint::share) == static_cast<int>(Hint::share) &&
              static_cast<int>(BlockHint::unshare) == static_cast<int>(Hint::unshare) &&
              static_cast<int>(BlockHint::forget) == static_cast<int>(Hint::forget));
static_assert(static_cast<int>(KvKind::value) == 1);

namespace {

Status invalid(std::string sentence) {
  return {Code::invalid_argument, std::move(sentence)};
}

Descriptor descriptor(Opcode opcode) noexcept {
  Descriptor d;
  d.opcode = static_cast<std::uint8_t>(opcode);
  return d;
}

// Puts the range into `d`, if it is one.
Status name(const TokenRange& range, Descriptor& d) {
  if (range.tokens == 0 || range.tokens > 0xFFFF) {
    return invalid("a range has 1 to 65535 tokens");
  }
  if (std::uint64_t{range.first.position} + range.tokens > 1ULL << 32) {
    return invalid("a range ends at position 4294967295 or before");
  }
  if (range.first.kind != KvKind::key) {
    return invalid("a range is of both K and V: its kind is key");
  }
  const PackedAddress address = pack(range.first);
  d.address_low = address.low;
  d.address_high = static_cast<std::uint32_t>(address.high);
  d.tokens = static_cast<std::uint16_t>(range.tokens);
  return {};
}

// The same for a block, which the descriptor moves.
Status name_block(const TokenRange& block, std::uint32_t block_tokens, Descriptor& d) {
  if (block.first.position % block_tokens != 0 || block.tokens > block_tokens) {
    const std::string n = std::to_string(block_tokens);
    return invalid("a block begins at a multiple of " + n + " tokens and has 1 to " + n);
  }
  d.flags = flag::kNamed;
  d.length = 1;
  return name(block, d);
}

bool valid(const ScoreWeights& w) noexcept {
  const int evict = w.evict, prefetch = w.prefetch, hysteresis = w.hysteresis;
  return (w.recency | w.frequency | w.step | w.durability) != 0 && evict >= 1 &&
         evict + hysteresis <= prefetch - hysteresis;
}

ScoreWeights unpack_weights(std::uint32_t weights, std::uint32_t thresholds) noexcept {
  const auto byte = [](std::uint32_t word, unsigned shift) {
    return static_cast<std::uint8_t>(word >> shift);
  };
  return {byte(weights, 0),    byte(weights, 8),    byte(weights, 16),
          byte(weights, 24),   byte(thresholds, 0), byte(thresholds, 8),
          byte(thresholds, 16)};
}

Result<std::vector<EngineCandidate>> candidates(Engine::Backend& backend, Report report) {
  constexpr std::size_t kBytes = Candidate::kBytes;
  std::array<std::byte, kMaxCandidates * kBytes> room{};
  Descriptor d = descriptor(Opcode::telemetry);
  d.report = static_cast<std::uint8_t>(report);
  const auto length = backend.ask(d, room);
  if (!length.ok()) return length.error();
  std::vector<EngineCandidate> found;
  for (std::size_t at = 0; at + kBytes <= std::min<std::size_t>(*length, room.size());
       at += kBytes) {
    const Candidate told = Candidate::load(room.data() + at);
    const auto block = unpack({told.address_high, told.address_low});
    if (!block) return Status(Code::corrupted, "the card told an address of no block");
    found.push_back({*block, told.score});
  }
  return found;
}

}  // namespace

Status refusal(Answer answer) {
  switch (answer) {
    case Answer::ok:
      return {};
    case Answer::bad_desc:
    case Answer::bad_region:
      return {Code::invalid_argument, "the card refuses it as malformed"};
    case Answer::unsupported:
    case Answer::unencodable:
      return {Code::unsupported, "this card cannot do that"};
    case Answer::no_space:
      return {Code::no_space, "the card's directory has no place for the block"};
    case Answer::not_found:
      return {Code::not_found,
              "the card has no such block, or no reference to give back"};
    case Answer::busy:
      return {Code::busy, "the block has references"};
    case Answer::corrupted:
    case Answer::poison:
      return {Code::corrupted, "card memory that cannot be corrected"};
    case Answer::aborted:
    case Answer::bus_error:
      break;
  }
  return {Code::io_error, "the card did not carry it out"};
}

Result<std::unique_ptr<Engine>> Engine::open(std::string_view name) {
  auto backend =
      name.starts_with("soft:") ? open_soft_backend(name) : open_driver_backend(name);
  if (!backend.ok()) return backend.error();
  return std::unique_ptr<Engine>(new Engine(*std::move(backend)));
}

Engine::Engine(std::unique_ptr<Backend> backend) noexcept
    : backend_(std::move(backend)) {}
Engine::~Engine() = default;

const EngineInfo& Engine::info() const noexcept {
  return backend_->info;
}

Result<std::uint32_t> Engine::step(std::uint32_t step) {
  Descriptor d = descriptor(Opcode::step);
  d.step = step;
  const std::lock_guard lock(backend_->turn);
  return backend_->ask(d, {});
}

Result<std::uint32_t> Engine::hint(BlockHint hint, const TokenRange& range,
                                   std::uint32_t due) {
  if (hint < BlockHint::hot || hint > BlockHint::forget) return invalid("no such hint");
  if (due != 0 && hint != BlockHint::prefetchable) {
    return invalid("only what is prefetchable is wanted at a step");
  }
  Descriptor d = descriptor(Opcode::hint);
  if (Status named = name(range, d); !named.ok()) return named;
  d.hint = static_cast<std::uint8_t>(hint);
  d.step = due;
  const std::lock_guard lock(backend_->turn);
  return backend_->ask(d, {});
}

Status Engine::hold(const TokenRange& block) {
  Descriptor d = descriptor(Opcode::copy);
  const std::lock_guard lock(backend_->turn);
  if (Status s = name_block(block, backend_->info.block_tokens, d); !s.ok()) return s;
  const auto places = backend_->places();
  if (!places.ok()) return places.error();
  d.src_region = places->host;
  d.src_offset = places->host_offset;
  d.dst_region = places->card;
  const auto done = backend_->ask(d, {});
  return done.ok() ? Status() : done.error();
}

Status Engine::use(const TokenRange& block) {
  Descriptor d = descriptor(Opcode::copy);
  const std::lock_guard lock(backend_->turn);
  if (Status s = name_block(block, backend_->info.block_tokens, d); !s.ok()) return s;
  const auto places = backend_->places();
  if (!places.ok()) return places.error();
  d.src_region = places->card;
  d.dst_region = places->host;
  d.dst_offset = places->host_offset;
  const auto done = backend_->ask(d, {});
  return done.ok() ? Status() : done.error();
}

Status Engine::set_weights(const ScoreWeights& weights) {
  if (!valid(weights)) {
    return invalid(
        "not all four weights are 0, evict is at least 1, and evict + hysteresis <= "
        "prefetch - hysteresis");
  }
  Descriptor d = descriptor(Opcode::weights);
  d.recency = weights.recency;
  d.frequency = weights.frequency;
  d.step_weight = weights.step;
  d.durability = weights.durability;
  d.evict = weights.evict;
  d.prefetch = weights.prefetch;
  d.hysteresis = weights.hysteresis;
  const std::lock_guard lock(backend_->turn);
  const auto done = backend_->ask(d, {});
  return done.ok() ? Status() : done.error();
}

Result<EngineTelemetry> Engine::telemetry() {
  std::array<std::byte, Telemetry::kBytes> room{};
  Descriptor d = descriptor(Opcode::telemetry);
  d.report = static_cast<std::uint8_t>(Report::counters);
  const std::lock_guard lock(backend_->turn);
  const auto length = backend_->ask(d, room);
  if (!length.ok()) return length.error();
  const Telemetry t = Telemetry::load(room.data());
  EngineTelemetry told;
  told.step = t.step;
  told.blocks = t.blocks;
  told.shared = t.shared;
  told.weights = unpack_weights(t.weights, t.thresholds);
  told.waiting_victims = t.waiting_victims;
  told.waiting_prefetches = t.waiting_prefetches;
  told.hits = t.hits;
  told.misses = t.misses;
  told.inserted = t.inserted;
  told.replaced = t.replaced;
  told.refused = t.refused;
  told.removed = t.removed;
  told.scans = t.scans;
  told.victims = t.victims;
  told.prefetches = t.prefetches;
  told.bytes_read = t.bytes_read;
  told.bytes_written = t.bytes_written;
  told.failures = t.failures;
  return told;
}

Result<std::vector<EngineCandidate>> Engine::victims() {
  const std::lock_guard lock(backend_->turn);
  return candidates(*backend_, Report::victims);
}

Result<std::vector<EngineCandidate>> Engine::prefetches() {
  const std::lock_guard lock(backend_->turn);
  return candidates(*backend_, Report::prefetches);
}

Result<std::vector<std::pair<std::string, std::uint64_t>>> Engine::counters() {
  const std::lock_guard lock(backend_->turn);
  return backend_->counters();
}

Result<bool> Engine::fatal() {
  const std::lock_guard lock(backend_->turn);
  return backend_->fatal();
}

}  // namespace speckv

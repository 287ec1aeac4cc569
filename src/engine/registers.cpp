// The card's registers: what reads and writes of BAR0 do.
#include "cxlspeckv/codec.hpp"

#include "engine/card_state.hpp"

namespace speckv::engine {
namespace {

constexpr std::uint32_t half(std::uint64_t value, std::uint32_t offset) noexcept {
  return static_cast<std::uint32_t>((offset & 4) != 0 ? value >> 32 : value);
}

constexpr void set_half(std::uint64_t& value, std::uint32_t offset,
                        std::uint32_t to) noexcept {
  const unsigned shift = (offset & 4) != 0 ? 32 : 0;
  value = (value & ~(0xFFFFFFFFULL << shift)) | (std::uint64_t{to} << shift);
}

// A window's part of an offset: which one, and where in it.
struct Spot {
  std::uint32_t number = 0, offset = 0;
};
constexpr std::optional<Spot> spot(std::uint32_t offset, std::uint32_t window,
                                   std::uint32_t stride, std::uint32_t count) noexcept {
  if (offset < window || offset - window >= stride * count) return std::nullopt;
  return Spot{(offset - window) / stride, (offset - window) % stride};
}

}  // namespace

std::uint32_t Card::read32(std::uint32_t offset) const noexcept {
  if (offset % 4 != 0) return 0;
  if (offset < kQueueWindow) return half(csr_read(offset & ~4U), offset);
  if (const auto at = spot(offset, kQueueWindow, kQueueStride, kMaxQueues)) {
    return half(queue_read(state_->queues[at->number], at->offset & ~4U), at->offset);
  }
  const auto count = static_cast<std::uint32_t>(state_->regions.size());
  if (const auto at = spot(offset, kRegionWindow, kRegionStride, count)) {
    const Region& region = state_->regions[at->number];
    switch (at->offset & ~4U) {
      case region::kBase:
        return half(region.base, at->offset);
      case region::kLength:
        return half(region.length, at->offset);
      case region::kControl:
        return half(region.control, at->offset);
      default:
        return 0;
    }
  }
  if (const auto at = spot(offset, kDoorbellWindow, kDoorbellStride, kMaxQueues)) {
    if (at->offset == doorbell::kNeedKick) return doorbells_[at->number].need_kick.load();
  }
  return 0;
}

void Card::write32(std::uint32_t offset, std::uint32_t value) noexcept {
  if (offset % 4 != 0) return;
  if (offset < kQueueWindow) return csr_write(offset, value);
  if (const auto at = spot(offset, kQueueWindow, kQueueStride, kMaxQueues)) {
    return queue_write(at->number, at->offset, value);
  }
  const auto count = static_cast<std::uint32_t>(state_->regions.size());
  if (const auto at = spot(offset, kRegionWindow, kRegionStride, count)) {
    return region_write(state_->regions[at->number], at->offset, value);
  }
  if (const auto at = spot(offset, kDoorbellWindow, kDoorbellStride, kMaxQueues)) {
    return doorbell_write(at->number, at->offset, value);
  }
}

// ---- The card as a whole
// ---------------------------------------------------------------

std::uint64_t Card::features() const noexcept {
  return feature::kCrc | feature::kPaged | feature::kInject |
         (options_.doorbells_are_memory ? feature::kNeedKick : 0) |
         (state_->directory ? feature::kDirectory : 0) |
         (max_network() != 0 ? feature::kPredict : 0);
}

std::uint32_t Card::opcodes() const noexcept {
  const auto bit = [](Opcode opcode) { return 1U << static_cast<unsigned>(opcode); };
  std::uint32_t all = bit(Opcode::nop) | bit(Opcode::copy) | bit(Opcode::encode) |
                      bit(Opcode::decode) | bit(Opcode::fill) | bit(Opcode::fence);
  if (state_->memory.buffer_bytes() != 0) all |= bit(Opcode::prefetch);
  if (state_->directory) {
    all |= bit(Opcode::step) | bit(Opcode::hint) | bit(Opcode::weights) |
           bit(Opcode::telemetry);
  }
  if (max_network() != 0) all |= bit(Opcode::predict);
  return all;
}

// Both words of a register whose offset is a multiple of 8: the second word of two 32-bit
// registers that lie there is the second register.
std::uint64_t Card::csr_read(std::uint32_t offset) const noexcept {
  const State& s = *state_;
  const auto pair = [](std::uint64_t low, std::uint64_t high) {
    return low | (high << 32);
  };
  if (offset >= csr::kCounter) {
    return s.snapshot.at((offset - csr::kCounter) / 8);
  }
  switch (offset) {
    case csr::kId:
      return pair(kContractId, csr::kVersionMajor.put(kContractMajor) |
                                   csr::kVersionMinor.put(kContractMinor));
    case csr::kFeatures:
      return features();
    case csr::kCodecs: {
      std::uint64_t codecs = 0;
      for (const Codec* codec : builtin_codecs()) {
        const auto id = static_cast<unsigned>(codec->id());
        if (id <= kLastCodec) codecs |= 1ULL << id;
      }
      return codecs;
    }
    case csr::kOpcodes:
      return pair(opcodes(), csr::kLimitsQueues.put(kMaxQueues) |
                                 csr::kLimitsDepthLog2.put(kMaxDepthLog2Max) |
                                 csr::kLimitsTenants.put(kMaxTenants));
    case csr::kMemoryBytes:
      return s.memory.bytes();
    case csr::kBufferBytes:
      return s.memory.buffer_bytes();
    case csr::kRegions:
      return pair(s.regions.size(), s.directory ? s.directory->entries() : 0);
    case csr::kMaxLength:
      return pair(options_.max_length, options_.max_layer);
    case csr::kControl:
      return pair(s.control, csr::kStatusReady.put(ready() ? 1 : 0) |
                                 csr::kStatusFatal.put(s.fatal != FatalCause::none) |
                                 csr::kStatusErrors.put(s.error_count != 0));
    case csr::kFatalCause:
      return pair(static_cast<std::uint32_t>(s.fatal), s.error_count);
    case csr::kErrorInfo:
      return s.error_count == 0 ? 0 : s.errors[s.first_error];
    case csr::kBlockShift:
      return pair(s.settings.block_shift, s.settings.quota);
    case csr::kWeights:
      return pair(s.settings.weights.packed_weights(),
                  s.settings.weights.packed_thresholds());
    case csr::kInjectArgument:
      return s.inject_argument;
    case csr::kTenantClear:
      return pair(0, max_network());
    default:
      return 0;  // error_pop, snapshot, inject are only written; nothing is ever busy
  }
}

void Card::csr_write(std::uint32_t offset, std::uint32_t value) noexcept {
  State& s = *state_;
  switch (offset) {
    case csr::kControl:
      if (csr::kControlReset.get(value) != 0) return reset();
      s.control = static_cast<std::uint32_t>(csr::kControlEnable.put(value & 1));
      return;
    case csr::kErrorPop:
      if (s.error_count == 0) return;
      s.first_error = (s.first_error + 1) % kMaxErrorLog;
      --s.error_count;
      return;
    case csr::kBlockShift:
    case csr::kDirectoryQuota:
      if (csr::kControlEnable.get(s.control) == 0) configure(offset, value);
      return;
    case csr::kWeights:
    case csr::kThresholds:
      return configure(offset, value);
    case csr::kTenantClear: {
      const auto tenant = static_cast<std::uint32_t>(csr::kTenantClearTenant.get(value));
      if (tenant >= kMaxTenants) return;
      if (s.directory) s.directory->renew_tenant(tenant, s.settings.weights);
      s.networks[tenant].reset();
      return;
    }
    case csr::kSnapshot:
      s.snapshot = s.counters;
      return;
    case csr::kInject:
      return inject(value);
    case csr::kInjectArgument:
    case csr::kInjectArgument + 4:
      return set_half(s.inject_argument, offset, value);
    default:
      return;
  }
}

// Settings of the directory, which is empty as long as the card was never enabled; later
// they are for tenants to come. What breaks a rule is ignored.
void Card::configure(std::uint32_t offset, std::uint32_t value) noexcept {
  DirectorySettings wanted = state_->settings;
  Weights& weights = wanted.weights;
  if (offset == csr::kBlockShift) wanted.block_shift = value;
  if (offset == csr::kDirectoryQuota) wanted.quota = value;
  if (offset == csr::kWeights) {
    weights = Weights::unpack(value, weights.packed_thresholds());
  }
  if (offset == csr::kThresholds) {
    weights = Weights::unpack(weights.packed_weights(), value);
  }
  if (wanted.block_shift < 4 || wanted.block_shift > 8 || !weights.valid()) return;
  state_->settings = wanted;
  const bool enabled = csr::kControlEnable.get(state_->control) != 0;
  if (state_->directory && !enabled) state_->directory->renew(wanted);
}

void Card::inject(std::uint32_t kind) noexcept {
  State& s = *state_;
  QueuePair* queue =
      s.inject_argument < kMaxQueues ? &s.queues[s.inject_argument] : nullptr;
  switch (static_cast<Inject>(csr::kInjectKind.get(kind))) {
    case Inject::fatal:
      return die(FatalCause::injected);
    case Inject::poison:
      return s.memory.poison(s.inject_argument);
    case Inject::bus_read:
      return s.memory.fail_next(false);
    case Inject::bus_write:
      return s.memory.fail_next(true);
    case Inject::fetch:
      if (queue != nullptr) queue->fail_fetch = true;
      return;
    case Inject::completion:
      if (queue != nullptr) queue->fail_completion = true;
      return;
  }
}

void Card::reset() noexcept {
  state_->renew();
  for (DoorbellPage& page : doorbells_) {
    page.tail.store(0);
    page.arm.store(0);
    page.need_kick.store(0);
    page.step.store(0);
  }
}

// ---- Queues, regions, doorbells
// -----------------------------------------------------------

std::uint64_t Card::queue_read(const QueuePair& queue,
                               std::uint32_t offset) const noexcept {
  const auto pair = [](std::uint64_t low, std::uint64_t high) {
    return low | (high << 32);
  };
  switch (offset) {
    case queue::kSubmissionBase:
      return queue.submission_base;
    case queue::kCompletionBase:
      return queue.completion_base;
    case queue::kSetup:
      return pair(queue.setup, queue.control);
    case queue::kStatus:
      return queue::kStatusState.put(static_cast<std::uint64_t>(queue.state)) |
             queue::kStatusCause.put(static_cast<std::uint64_t>(queue.cause));
    case queue::kFetched:
      return pair(queue.fetched, queue.completed);
    default:
      return 0;
  }
}

void Card::queue_write(std::uint32_t number, std::uint32_t offset,
                       std::uint32_t value) noexcept {
  QueuePair& queue = state_->queues[number];
  if (offset == queue::kControl) return queue_control(number, value);
  if (queue.state != QueueState::off) return;
  switch (offset & ~4U) {
    case queue::kSubmissionBase:
      return set_half(queue.submission_base, offset, value);
    case queue::kCompletionBase:
      return set_half(queue.completion_base, offset, value);
    case queue::kSetup:
      queue.setup = static_cast<std::uint32_t>(
          value & (queue::kSetupDepthLog2.put(~0ULL) | queue::kSetupTenant.put(~0ULL)));
      return;
    default:
      return;
  }
}

void Card::queue_control(std::uint32_t number, std::uint32_t value) noexcept {
  QueuePair& queue = state_->queues[number];
  if (queue::kControlReset.get(value) != 0) {
    queue.state = QueueState::off;
    queue.cause = QueueCause::none;
    queue.control = 0;
    queue.fail_fetch = queue.fail_completion = false;
    return;
  }
  const bool enable = queue::kControlEnable.get(value) != 0;
  queue.control = static_cast<std::uint32_t>(
      queue::kControlEnable.put(enable ? 1 : queue::kControlEnable.get(queue.control)) |
      queue::kControlInterrupt.put(queue::kControlInterrupt.get(value)));
  if (!enable || queue.state != QueueState::off) return;
  DoorbellPage& page = doorbells_[number];
  page.tail.store(0);
  page.arm.store(0);
  page.step.store(0);
  queue.fetched = queue.completed = queue.fired = queue.step_seen = 0;
  queue.state = QueueState::ready;
  const std::uint64_t depth_log2 = queue::kSetupDepthLog2.get(queue.setup);
  if (depth_log2 < kMaxDepthLog2Min || depth_log2 > kMaxDepthLog2Max ||
      queue.tenant() >= kMaxTenants || queue.submission_base % 64 != 0 ||
      queue.completion_base % 16 != 0) {
    fail(number, QueueCause::bad_setup, 0);
  }
}

void Card::region_write(Region& region, std::uint32_t offset,
                        std::uint32_t value) noexcept {
  if (&region == state_->regions.data()) return;  // number 0 is never valid
  switch (offset) {
    case region::kBase:
    case region::kBase + 4:
      return set_half(region.base, offset, value);
    case region::kLength:
    case region::kLength + 4:
      return set_half(region.length, offset, value);
    case region::kControl:
      region.control = value;
      return;
    default:
      return;
  }
}

void Card::doorbell_write(std::uint32_t number, std::uint32_t offset,
                          std::uint32_t value) noexcept {
  DoorbellPage& page = doorbells_[number];
  if (offset == doorbell::kTail) page.tail.store(value);
  if (offset == doorbell::kArm) page.arm.store(value);
  if (offset == doorbell::kStep) page.step.store(value);
}

}  // namespace speckv::engine

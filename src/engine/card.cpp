// Rings: taking descriptors, answering them, and what happens when that fails.
#include "engine/card.hpp"

#include <cassert>

#include "engine/card_state.hpp"

namespace speckv::engine {
namespace {

constexpr std::uint32_t kErrorVector = kMaxQueues;

// Completions are seen by other threads: the half with the phase goes last.
void store_half(std::byte* to, std::uint64_t value, std::memory_order order) noexcept {
  std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(to))
      .store(value, order);
}

}  // namespace

Card::Card(const CardOptions& options, HostPort& port)
    : options_(options),
      port_(port),
      state_(std::make_unique<State>(options, port)),
      plain_(std::make_unique_for_overwrite<std::byte[]>(options.max_layer)) {
  // No codec's output is larger than twice its input and a page: kvq4 and int8 of the
  // smallest units are padded to 64 bytes. What is larger does not fit and is refused.
  coded_bytes_ = 2 * std::size_t{options.max_layer} + 4096;
  coded_ = std::make_unique_for_overwrite<std::byte[]>(coded_bytes_);
}

Card::~Card() = default;

bool Card::ready() const noexcept {
  return csr::kControlEnable.get(state_->control) != 0 &&
         state_->fatal == FatalCause::none;
}

bool Card::work(std::uint32_t budget) noexcept {
  std::uint32_t idle = 0;  // queues in a row that had nothing
  while (budget > 0 && idle < kMaxQueues && ready()) {
    const std::uint32_t number = state_->turn;
    state_->turn = (number + 1) % kMaxQueues;
    if (serve(number)) {
      --budget;
      idle = 0;
    } else {
      ++idle;
    }
  }
  return budget == 0 && ready();
}

// Carries out one descriptor of the queue, if it has one.
bool Card::serve(std::uint32_t number) noexcept {
  QueuePair& queue = state_->queues[number];
  if (queue.state != QueueState::ready) return false;
  ring_step(number);
  // Acquire for the descriptors; seq_cst for the look after set_need_kick().
  const std::uint32_t tail = doorbells_[number].tail.load(std::memory_order_seq_cst);
  if (tail == queue.fetched) {
    fire(number);  // it may have been armed since its last completion
    return false;
  }
  if (tail - queue.completed > queue.depth()) {
    fail(number, QueueCause::overrun, 0);
    return false;
  }
  Descriptor d;
  std::array<std::uint64_t, 8> words{};
  if (!fetch(number, d, words)) return false;
  const Outcome outcome = execute(queue.tenant(), d, words);
  if (complete(number, d.tag, outcome)) fire(number);
  return true;
}

void Card::ring_step(std::uint32_t number) noexcept {
  QueuePair& queue = state_->queues[number];
  const std::uint32_t step = doorbells_[number].step.load(std::memory_order_acquire);
  if (step == queue.step_seen) return;
  queue.step_seen = step;
  if (state_->directory) state_->directory->advance(queue.tenant(), step);
}

// One interrupt for each armed value, as soon as that many completions were written.
void Card::fire(std::uint32_t number) noexcept {
  QueuePair& queue = state_->queues[number];
  if (queue::kControlInterrupt.get(queue.control) == 0) return;
  // seq_cst, as is the store of the completion: the host arms, then looks at the ring.
  const std::uint32_t arm = doorbells_[number].arm.load(std::memory_order_seq_cst);
  if (arm == queue.fired || later(arm, queue.completed)) return;
  queue.fired = arm;
  state_->counters.add(Counter::interrupts);
  port_.interrupt(number);
}

// The descriptor is read once, whatever happens to its memory meanwhile.
bool Card::fetch(std::uint32_t number, Descriptor& descriptor,
                 std::array<std::uint64_t, 8>& words) noexcept {
  QueuePair& queue = state_->queues[number];
  const std::uint64_t slot = queue.fetched % queue.depth();
  const MutableBytes bytes = port_.view(queue.submission_base + slot * Descriptor::kBytes,
                                        Descriptor::kBytes, false);
  if (queue.fail_fetch || bytes.size() < Descriptor::kBytes) {
    queue.fail_fetch = false;
    fail(number, QueueCause::fetch_failed, 0);
    return false;
  }
  std::array<std::byte, Descriptor::kBytes> copy{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    auto& word = *reinterpret_cast<std::uint64_t*>(bytes.data() + 8 * i);
    words[i] = little_endian(
        std::atomic_ref<std::uint64_t>(word).load(std::memory_order_relaxed));
    store_le(copy.data() + 8 * i, words[i]);
  }
  descriptor = Descriptor::load(copy.data());
  ++queue.fetched;
  state_->counters.add(Counter::descriptors);
  return true;
}

bool Card::complete(std::uint32_t number, std::uint16_t tag,
                    const Outcome& outcome) noexcept {
  QueuePair& queue = state_->queues[number];
  const std::uint64_t slot = queue.completed % queue.depth();
  const MutableBytes bytes =
      port_.view(queue.completion_base + slot * CompletionEntry::kBytes,
                 CompletionEntry::kBytes, true);
  if (queue.fail_completion || bytes.size() < CompletionEntry::kBytes) {
    queue.fail_completion = false;
    fail(number, QueueCause::completion_lost, tag);
    return false;
  }
  const std::uint32_t lap = queue.completed / queue.depth();
  CompletionEntry entry;
  entry.tag = tag;
  entry.status = static_cast<std::uint16_t>(
      completion::kStatusPhase.put((lap & 1) ^ 1) |
      completion::kStatusCode.put(static_cast<std::uint64_t>(outcome.answer)));
  const bool ok = outcome.answer == Answer::ok;
  entry.result = ok ? outcome.result : 0;
  entry.crc = ok ? outcome.crc : 0;
  std::byte raw[CompletionEntry::kBytes];
  entry.store(raw);
  std::uint64_t first = 0, second = 0;
  std::memcpy(&first, raw, 8);
  std::memcpy(&second, raw + 8, 8);
  store_half(bytes.data() + 8, second, std::memory_order_relaxed);
  store_half(bytes.data(), first, std::memory_order_seq_cst);
  ++queue.completed;
  state_->counters.add(Counter::completions);
  if (!ok) state_->counters.add(Counter::failures);
  return true;
}

void Card::set_need_kick(bool sleeping) noexcept {
  for (std::uint32_t number = 0; number < kMaxQueues; ++number) {
    if (state_->queues[number].state != QueueState::ready) continue;
    // seq_cst, as is the next look at the tail: the host stores it, then looks here.
    doorbells_[number].need_kick.store(sleeping ? 1 : 0, std::memory_order_seq_cst);
  }
}

// ---- Errors
// --------------------------------------------------------------------------------

void Card::fail(std::uint32_t number, QueueCause cause, std::uint16_t tag) noexcept {
  QueuePair& queue = state_->queues[number];
  queue.state = QueueState::error;
  queue.cause = cause;
  log(csr::kErrorInfoCause.put(static_cast<std::uint64_t>(cause)) |
      csr::kErrorInfoQueue.put(number) | csr::kErrorInfoTag.put(tag) |
      csr::kErrorInfoIndex.put(queue.completed));
}

void Card::die(FatalCause cause) noexcept {
  if (state_->fatal != FatalCause::none) return;
  state_->fatal = cause;
  log(csr::kErrorInfoCause.put(0x80 | static_cast<std::uint64_t>(cause)));
}

void Card::log(std::uint64_t entry) noexcept {
  State& s = *state_;
  s.counters.add(Counter::errors_logged);
  if (s.error_count < kMaxErrorLog) {
    s.errors[(s.first_error + s.error_count++) % kMaxErrorLog] = entry;
  }
  port_.interrupt(kErrorVector);
}

}  // namespace speckv::engine

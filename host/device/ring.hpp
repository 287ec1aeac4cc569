// device/ring.hpp -- the host's side of a queue pair: rings, phases, barriers, doorbell.
//
// docs/queue-protocol.md says what each side does; every barrier of the host's side is in
// this file. One thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "engine/contract.hpp"

namespace speckv {

class Ring {
 public:
  // Zeroed memory: `depth` descriptors (64-byte aligned) and completions, and the
  // doorbell page. REQUIRES: depth is a power of two.
  Ring(std::byte* descriptors, std::byte* completions, std::byte* doorbell,
       std::uint32_t depth, bool need_kick) noexcept
      : descriptors_(descriptors),
        completions_(completions),
        doorbell_(doorbell),
        depth_(depth),
        need_kick_(need_kick) {}

  // Descriptors that may be pushed before a completion is taken.
  std::uint32_t room() const noexcept { return depth_ - (tail_ - taken_); }
  std::uint32_t in_flight() const noexcept { return tail_ - taken_; }
  std::uint32_t tail() const noexcept { return tail_; }
  std::uint32_t taken() const noexcept { return taken_; }

  // Puts one descriptor into the ring. REQUIRES: room() > 0.
  void push(const engine::Descriptor& descriptor) noexcept {
    std::byte raw[engine::Descriptor::kBytes];
    descriptor.store(raw);
    std::byte* slot = descriptors_ + std::size_t{tail_ % depth_} * sizeof raw;
    // A word at a time: an engine in another thread may look at any moment.
    for (std::size_t i = 0; i < sizeof raw; i += 8) {
      std::uint64_t value;
      std::memcpy(&value, raw + i, 8);
      word64(slot + i).store(value, std::memory_order_relaxed);
    }
    ++tail_;
  }

  // Rings the doorbell. True: the engine sleeps and must be kicked.
  bool publish() noexcept {
    if (!need_kick_) {  // a register of the card: a plain store
      word(engine::doorbell::kTail).store(tail_, std::memory_order_release);
      return false;
    }
    // seq_cst, as are the engine's store to need_kick and its last look at the tail: one
    // of the two sees the other's.
    word(engine::doorbell::kTail).store(tail_, std::memory_order_seq_cst);
    return word(engine::doorbell::kNeedKick).load(std::memory_order_seq_cst) != 0;
  }

  bool ready() const noexcept { return phase_is_mine(load_first()); }

  // The next completion, if it is there.
  std::optional<engine::CompletionEntry> take() noexcept {
    const std::uint64_t first = load_first();
    if (!phase_is_mine(first)) return std::nullopt;
    const std::uint64_t second = word64(slot() + 8).load(std::memory_order_relaxed);
    std::byte raw[engine::CompletionEntry::kBytes];
    std::memcpy(raw, &first, 8);
    std::memcpy(raw + 8, &second, 8);
    ++taken_;
    return engine::CompletionEntry::load(raw);
  }

  // Asks for an interrupt at the next completion. False: it is there already.
  bool arm() noexcept {
    if (need_kick_) {
      // seq_cst, as are the engine's store of a completion and its look at `arm`.
      word(engine::doorbell::kArm).store(taken_ + 1, std::memory_order_seq_cst);
    } else {  // a register; the card looks at its completions when it gets there
      word(engine::doorbell::kArm).store(taken_ + 1, std::memory_order_release);
    }
    return !ready();
  }

 private:
  using Word = std::atomic_ref<std::uint32_t>;
  using Word64 = std::atomic_ref<std::uint64_t>;

  Word word(std::uint32_t offset) const noexcept {
    return Word(*reinterpret_cast<std::uint32_t*>(doorbell_ + offset));
  }
  static Word64 word64(std::byte* at) noexcept {
    return Word64(*reinterpret_cast<std::uint64_t*>(at));
  }
  std::byte* slot() const noexcept {
    return completions_ + std::size_t{taken_ % depth_} * engine::CompletionEntry::kBytes;
  }
  // Acquire, and more for arm(): what the descriptor wrote is seen after it.
  std::uint64_t load_first() const noexcept {
    return word64(slot()).load(std::memory_order_seq_cst);
  }
  bool phase_is_mine(std::uint64_t first) const noexcept {
    std::byte raw[8];
    std::memcpy(raw, &first, 8);
    const auto status = load_le<std::uint16_t>(raw + 2);
    return engine::completion::kStatusPhase.get(status) == ((taken_ / depth_ & 1) ^ 1);
  }

  std::byte* const descriptors_;
  std::byte* const completions_;
  std::byte* const doorbell_;
  const std::uint32_t depth_;
  const bool need_kick_;
  std::uint32_t tail_ = 0, taken_ = 0;  // modulo 2^32
};

}  // namespace speckv

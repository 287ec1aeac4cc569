// engine/card.hpp -- the card in software: the golden model of docs/queue-protocol.md.
//
// Registers, rings, regions, opcodes, directory: what a driver sees of the card, it sees
// here, and RTL and kernel engines are held to these answers. The model does nothing by
// itself: whoever owns it calls work(). Doorbell pages may be stored to by any thread;
// everything else is for one thread at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cxlspeckv/status.hpp"

#include "engine/directory.hpp"
#include "engine/memory.hpp"

namespace speckv::engine {

// A doorbell page as memory. Words that different sides write have lines of their own.
struct DoorbellPage {
  alignas(64) std::atomic<std::uint32_t> tail{0};
  alignas(64) std::atomic<std::uint32_t> arm{0};
  alignas(64) std::atomic<std::uint32_t> need_kick{0};
  alignas(64) std::atomic<std::uint32_t> step{0};
};
static_assert(sizeof(DoorbellPage) == 256 &&
              offsetof(DoorbellPage, arm) == doorbell::kArm &&
              offsetof(DoorbellPage, need_kick) == doorbell::kNeedKick &&
              offsetof(DoorbellPage, step) == doorbell::kStep);

struct CardOptions {
  MutableBytes memory{};  // the card's own; outlives it
  std::uint64_t buffer_bytes = 1U << 20;
  std::uint32_t directory_entries = kMaxDirectoryEntries;  // 0: no directory
  std::uint32_t regions = kMaxRegions;
  std::uint32_t max_length = 1U << 30;
  std::uint32_t max_layer = 16U << 20;
  // The largest weights file that PREDICT takes, at most max_layer; the default is enough
  // for every one that there can be. 0: no PREDICT.
  std::uint32_t max_network = 8U << 20;
  // Off behind a bus, where a card sees every store: hosts do not look at need_kick.
  bool doorbells_are_memory = true;
  // Others store to `memory` too: what the fast buffer holds is compared before it is
  // used.
  bool memory_is_shared = false;
};

class Card {
 public:
  // `port` outlives the card.
  Card(const CardOptions& options, HostPort& port);
  ~Card();
  Card(const Card&) = delete;
  Card& operator=(const Card&) = delete;

  // BAR0, a word at a time. What is not there reads as 0; so does a misaligned word.
  std::uint32_t read32(std::uint32_t offset) const noexcept;
  void write32(std::uint32_t offset, std::uint32_t value) noexcept;

  // Carries out up to `budget` descriptors, one of each queue in turn. True: there are
  // more.
  bool work(std::uint32_t budget) noexcept;

  // The queue's doorbell page. REQUIRES: queue < kMaxQueues. Any thread.
  DoorbellPage& doorbell(std::uint32_t queue) noexcept { return doorbells_[queue]; }
  // For an engine that goes to sleep: sets or clears need_kick of every ready queue.
  // After setting, work() must be tried once more. A queue that is enabled later must
  // wake it.
  void set_need_kick(bool sleeping) noexcept;

 private:
  struct QueuePair {
    std::uint64_t submission_base = 0, completion_base = 0;
    std::uint32_t setup = 0, control = 0;
    QueueState state = QueueState::off;
    QueueCause cause = QueueCause::none;
    std::uint32_t fetched = 0, completed = 0;
    std::uint32_t fired = 0;      // value of `arm` that raised the last interrupt
    std::uint32_t step_seen = 0;  // of the doorbell
    bool fail_fetch = false, fail_completion = false;
    std::uint32_t depth() const noexcept {
      return 1U << queue::kSetupDepthLog2.get(setup);
    }
    std::uint32_t tenant() const noexcept {
      return static_cast<std::uint32_t>(queue::kSetupTenant.get(setup));
    }
  };
  // What becomes of a descriptor.
  struct Outcome {
    Answer answer = Answer::ok;
    std::uint32_t result = 0, crc = 0;
  };
  // Everything that a reset of the card renews.
  struct State;

  // registers.cpp
  std::uint64_t csr_read(std::uint32_t offset) const noexcept;
  void csr_write(std::uint32_t offset, std::uint32_t value) noexcept;
  std::uint64_t queue_read(const QueuePair& queue, std::uint32_t offset) const noexcept;
  void queue_write(std::uint32_t number, std::uint32_t offset,
                   std::uint32_t value) noexcept;
  void queue_control(std::uint32_t number, std::uint32_t value) noexcept;
  void region_write(Region& region, std::uint32_t offset, std::uint32_t value) noexcept;
  void doorbell_write(std::uint32_t number, std::uint32_t offset,
                      std::uint32_t value) noexcept;
  void inject(std::uint32_t kind) noexcept;
  std::uint32_t opcodes() const noexcept;
  std::uint64_t features() const noexcept;
  std::uint32_t max_network() const noexcept;
  void configure(std::uint32_t offset, std::uint32_t value) noexcept;
  void reset() noexcept;

  // card.cpp
  bool ready() const noexcept;
  bool serve(std::uint32_t number) noexcept;
  void ring_step(std::uint32_t number) noexcept;
  void fire(std::uint32_t number) noexcept;
  bool fetch(std::uint32_t number, Descriptor& descriptor,
             std::array<std::uint64_t, 8>& words) noexcept;
  bool complete(std::uint32_t number, std::uint16_t tag, const Outcome& outcome) noexcept;
  void fail(std::uint32_t number, QueueCause cause, std::uint16_t tag) noexcept;
  void die(FatalCause cause) noexcept;
  void log(std::uint64_t entry) noexcept;

  // execute.cpp
  Outcome execute(std::uint32_t tenant, const Descriptor& d,
                  const std::array<std::uint64_t, 8>& words) noexcept;
  Answer check(const Descriptor& d,
               const std::array<std::uint64_t, 8>& words) const noexcept;
  Answer check_values(const Descriptor& d) const noexcept;
  bool block_is_whole(const Descriptor& d) const noexcept;
  Outcome move(std::uint32_t tenant, const Descriptor& d) noexcept;
  Outcome carry_out(std::uint32_t tenant, const Descriptor& d, const Place& from,
                    const Place& to) noexcept;
  Outcome encode(const Descriptor& d, const Place& from, const Place& to) noexcept;
  Outcome decode(const Descriptor& d, const Place& from, const Place& to) noexcept;
  Outcome tell(std::uint32_t tenant, const Descriptor& d, const Place& to) noexcept;

  // predict.cpp
  Outcome learn(std::uint32_t tenant, const Place& from) noexcept;
  Outcome predict(std::uint32_t tenant, const Descriptor& d, const Place& from,
                  const Place& to) noexcept;

  const CardOptions options_;
  HostPort& port_;
  std::unique_ptr<State> state_;
  // Where layers are coded: plain on one side, coded on the other.
  std::unique_ptr<std::byte[]> plain_, coded_;
  std::size_t coded_bytes_ = 0;
  std::array<DoorbellPage, kMaxQueues> doorbells_{};
};

}  // namespace speckv::engine

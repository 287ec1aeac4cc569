// device/soft_engine.hpp -- the card in software, at work: a model and a thread that runs
// it.
//
// The thread sleeps when there is nothing to do and is kicked awake; it never spins. Any
// thread may use an engine; what touches the model takes turns with the worker.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "cxlspeckv/status.hpp"

#include "engine/card.hpp"

namespace speckv {

// A mutex that is given to whoever waited longest, so that neither the worker nor those
// who change the card's tables can be kept out by the other.
class TurnMutex {
 public:
  void lock() {
    std::unique_lock lock(mutex_);
    const std::uint64_t mine = next_++;
    turn_.wait(lock, [&] { return serving_ == mine; });
  }
  void unlock() {
    {
      const std::lock_guard lock(mutex_);
      ++serving_;
    }
    turn_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable turn_;
  std::uint64_t next_ = 0, serving_ = 0;
};

// Whom an engine tells about a queue. Called by any thread, with the engine's lock held:
// it may not call back.
class QueueListener {
 public:
  virtual void completed() noexcept = 0;  // an armed interrupt
  virtual void failed() noexcept = 0;     // the queue is in error, or the card is dead

 protected:
  ~QueueListener() = default;
};

class SoftEngine final : private engine::HostPort {
 public:
  explicit SoftEngine(const engine::CardOptions& options);
  ~SoftEngine();
  // Starts the worker. no_space: the system gives no thread.
  Status start();

  // Uses the model while it does nothing else: use(card).
  template <class Use>
  auto with_card(Use&& use) {
    const Turn turn(*this);
    return use(card_);
  }
  std::uint32_t read32(std::uint32_t offset) {
    return with_card([&](engine::Card& card) { return card.read32(offset); });
  }
  void write32(std::uint32_t offset, std::uint32_t value) {
    with_card([&](engine::Card& card) { card.write32(offset, value); });
    kick();
  }
  void write64(std::uint32_t offset, std::uint64_t value) {
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }

  engine::DoorbellPage& doorbell(std::uint32_t queue) noexcept {
    return card_.doorbell(queue);
  }
  void kick() noexcept;

  // nullptr: nobody. When it returns, the former listener is not called any more.
  void listen(std::uint32_t queue, QueueListener* listener);

 private:
  // Holds the model; on release, listeners hear of what went wrong meanwhile.
  class Turn {
   public:
    explicit Turn(SoftEngine& engine) : engine_(engine) { engine_.mutex_.lock(); }
    ~Turn() {
      engine_.tell_errors();
      engine_.mutex_.unlock();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    SoftEngine& engine_;
  };

  // Bus addresses are addresses of this process: the driver's part, which is ours, writes
  // them; descriptors cannot.
  MutableBytes view(std::uint64_t address, std::uint64_t length,
                    bool writing) noexcept override;
  void interrupt(std::uint32_t vector) noexcept override;

  void run();
  void tell_errors() noexcept;

  TurnMutex mutex_;
  engine::Card card_;
  std::array<QueueListener*, engine::kMaxQueues> listeners_{};
  std::atomic<std::uint32_t> kicks_{0};
  std::atomic<bool> stop_{false};
  std::thread worker_;
};

}  // namespace speckv

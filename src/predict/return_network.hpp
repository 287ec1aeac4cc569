// predict/return_network.hpp -- the LSTM of return times as predictors use it, and as it
// learns beside them: weights are swapped only where they do better on what was held
// back.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

#include "predict/return_fitter.hpp"
#include "predict/return_window.hpp"

namespace speckv::predict {

struct ReturnNetworkOptions {
  Bytes weights{};  // a weights file of floats; none: it begins knowing nothing
  std::uint64_t seed = 1;
  std::uint32_t windows = 4096;  // learned from; 64..2^20
  bool learn = true;
  bool thread = false;  // learns on a thread of its own, or where work() is called
};

// Any thread may call, except that a memory belongs to one predictor.
class ReturnNetwork {
 public:
  // invalid_argument: an option out of its bounds, or weights of another shape; what
  // read_weights() says of a bad file.
  static Result<std::unique_ptr<ReturnNetwork>> make(const ReturnNetworkOptions& options);
  ~ReturnNetwork();
  ReturnNetwork(const ReturnNetwork&) = delete;
  ReturnNetwork& operator=(const ReturnNetwork&) = delete;

  // The next request of a session: one step in whole numbers.
  ReturnDistribution step(ReturnMemory& memory, const ReturnFeatures& features) noexcept;
  // A window of the session is known better now. Never waits: what finds no room is
  // dropped, and counted.
  void teach(SessionId session, const ReturnWindow& window) noexcept;
  // Learns from what came in: a batch for each 32 windows; call it now and then. Without
  // `learn`, or with a thread, it does nothing. True: the weights were swapped.
  bool work();

  std::uint64_t swaps() const noexcept { return version_.load() - 1; }
  std::uint64_t dropped() const noexcept { return dropped_.load(); }
  // A copy of the weights in use, as a file.
  std::vector<std::byte> save() const;

 private:
  struct Lesson {
    SessionId session;
    ReturnWindow window;
  };
  // Immutable once published.
  struct Published {
    LstmWeights floats;
    Int8Weights whole;
    std::uint64_t version;
  };

  ReturnNetwork(const ReturnNetworkOptions& options, LstmWeights start,
                std::shared_ptr<const Published> first);
  void run(const std::stop_token& stop);
  bool learn_from(std::vector<Lesson>& lessons);
  bool judge();
  std::shared_ptr<const Published> published() const noexcept {
    return std::atomic_load(&published_);
  }

  const bool learn_, threaded_;
  std::shared_ptr<const Published> published_;  // only by std::atomic_load and _store
  std::atomic<std::uint64_t> version_{1}, dropped_{0};

  std::mutex mutex_;  // of the mailbox
  std::condition_variable_any filled_;
  std::vector<Lesson> mailbox_;

  // Of the thread that learns.
  ReturnFitter fitter_;
  std::uint64_t taught_ = 0, batches_ = 0;
  std::jthread thread_;
};

}  // namespace speckv::predict

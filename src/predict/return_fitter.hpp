// predict/return_fitter.hpp -- fits a network of return times to windows: the newest so
// many of them, of which every eighth session's are held back to judge by.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "predict/lstm_trainer.hpp"
#include "predict/recent_table.hpp"
#include "predict/return_window.hpp"

namespace speckv::predict {

// One thread. The same windows in the same order and the same seed give the same weights.
class ReturnFitter {
 public:
  ReturnFitter(LstmWeights start, std::uint64_t seed, std::uint32_t most_windows);

  // Replaces an earlier state of the same window.
  void add(SessionId session, const ReturnWindow& window);
  std::size_t windows() const noexcept { return learn_.windows.size(); }
  std::size_t held_back() const noexcept { return judge_.windows.size(); }

  // One batch; false: there is nothing to learn from.
  bool step(double rate);
  // Nats a target over all that is held back; 0 where there is none.
  double held_back_loss(LstmTrainer& of);
  LstmTrainer& trainer() noexcept { return trainer_; }

  struct Progress {
    std::uint32_t epoch = 0, epochs = 0;
    double loss = 0, best = 0;  // held back, nats a target
  };
  // Until `patience` epochs bring nothing, at most `epochs`; the best weights on the way.
  // `told` after each epoch; its false ends the fit.
  LstmWeights fit(std::uint32_t epochs, std::uint32_t patience, double rate,
                  const std::function<bool(const Progress&)>& told);

 private:
  struct Pool {
    std::uint32_t most;
    std::vector<ReturnWindow> windows;
    std::vector<std::uint64_t> keys;
    RecentTable<std::uint32_t> places;
    std::size_t next = 0;  // to be overwritten

    explicit Pool(std::uint32_t capacity) : most(capacity), places(capacity) {}
    void add(std::uint64_t key, const ReturnWindow& window);
  };
  const ReturnWindow& similar(std::size_t steps);
  static TrainingBatch batch_of(const std::vector<const ReturnWindow*>& windows);

  LstmTrainer trainer_;
  std::mt19937_64 random_;
  Pool learn_, judge_;
};

}  // namespace speckv::predict

// predict/lstm_trainer.hpp -- fits an LSTM's floats to sequences: back-propagation
// through time, softmax, Adam with clipped gradients. One thread; deterministic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "predict/lstm_weights.hpp"

namespace speckv::predict {

// What a step of a sequence should have answered.
struct Target {
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::uint32_t output = kNone;  // of the head; kNone: nothing is known
  bool or_later = false;         // that output or any after it (a wait that is not over)
  std::uint32_t tail = kNone;    // of the tail's rows, if the output is a cluster
};

// Sequences of equal length, step by step: steps * sequences of everything.
struct TrainingBatch {
  std::size_t steps = 0, sequences = 0;
  std::vector<float> inputs{};           // [step][sequence][shape.inputs]
  std::vector<std::uint32_t> classes{};  // [step][sequence], with a vocabulary, instead
  std::vector<Target> targets{};
};

struct TrainingLoss {
  double nats = 0;  // summed
  std::uint64_t targets = 0;
  double mean() const noexcept {
    return targets == 0 ? 0 : nats / static_cast<double>(targets);
  }
};

// Uniform weights of +-1 / sqrt(128), forget gates open.
LstmWeights random_weights(const LstmShape& shape, std::uint64_t seed);

class LstmTrainer {
 public:
  explicit LstmTrainer(LstmWeights start);

  const LstmWeights& weights() const noexcept { return weights_; }
  // The loss before the step. All sequences begin with an empty state.
  TrainingLoss train(const TrainingBatch& batch, double rate);
  TrainingLoss loss(const TrainingBatch& batch);

 private:
  struct Moments {
    std::vector<float> gradient, first, second;
    explicit Moments(std::size_t size) : gradient(size), first(size), second(size) {}
    Moments() = default;
  };
  struct Layer {
    std::vector<float> in;     // [step][sequence][columns]: its input, its last h
    std::vector<float> gates;  // [step][sequence][512], after their functions
    std::vector<float> cells, outputs;  // [step][sequence][128]
  };

  void forward(const TrainingBatch& batch);
  void forward(std::size_t l, const TrainingBatch& batch, const float* inputs);
  // Gradients of the logits are left in logits_, of the tail's in its moments.
  TrainingLoss compare(const TrainingBatch& batch, bool learn, std::vector<float>& dh);
  double compare_tail(const TrainingBatch& batch, std::size_t at, float scale, bool learn,
                      std::vector<float>& dh);
  std::vector<float> backward(std::size_t l, const TrainingBatch& batch,
                              const std::vector<float>& dh);
  void adam(double rate);

  LstmWeights weights_;
  std::vector<Moments> moments_;  // of every array of parameters(), in its order
  std::vector<std::vector<float>*> parameters_;
  std::array<Layer, kLstmLayers> layers_;
  std::vector<float> inputs_, logits_;
  std::uint64_t steps_ = 0;
};

}  // namespace speckv::predict

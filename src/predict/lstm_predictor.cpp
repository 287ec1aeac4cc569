// The LSTM as a predictor of symbols: a state for each stream.
#include <algorithm>

#include "predict/bf16_lstm.hpp"
#include "predict/recent_table.hpp"
#include "predict/sequence_predictors.hpp"
#include "predict/symbol_lstm.hpp"

namespace speckv::predict {
namespace {

template <class Net>
class LstmPredictor final : public SequencePredictor {
  using Weights = typename Net::Weights;
  using State = typename Net::State;

 public:
  LstmPredictor(std::shared_ptr<const Weights> weights, std::uint32_t streams)
      : net_(std::move(weights)), states_(streams) {}

  void observe(StreamId stream, std::uint32_t symbol) noexcept override {
    bool fresh = false;
    net_.step(states_.touch(stream, State{}, fresh), symbol);
  }

  std::size_t predict(StreamId stream,
                      std::span<Candidate> best) const noexcept override {
    const State* state = states_.find(stream);
    if (state == nullptr) return 0;
    std::array<SymbolAnswer, kMostBest> answers;
    const std::size_t count = net_.best(
        *state, std::span(answers).first(std::min(best.size(), answers.size())));
    for (std::size_t i = 0; i < count; ++i)
      best[i] = {answers[i].symbol, static_cast<float>(answers[i].confidence) / 65536};
    return count;
  }

  void forget(StreamId stream) noexcept override { states_.erase(stream); }

 private:
  Symbols<Net> net_;
  RecentTable<State> states_;
};

template <class Net>
Result<std::unique_ptr<SequencePredictor>> make(
    std::shared_ptr<const typename Net::Weights> weights, std::uint32_t streams) {
  if (weights == nullptr || weights->shape.vocabulary == 0 || streams == 0 ||
      streams > 1U << 24) {
    return Status{Code::invalid_argument,
                  "lstm: weights of symbols, and 1 to 2^24 streams"};
  }
  return std::unique_ptr<SequencePredictor>(
      std::make_unique<LstmPredictor<Net>>(std::move(weights), streams));
}

}  // namespace

Result<std::unique_ptr<SequencePredictor>> make_lstm_predictor(
    std::shared_ptr<const Int8Weights> weights, std::uint32_t streams) {
  return make<Int8Lstm>(std::move(weights), streams);
}

Result<std::unique_ptr<SequencePredictor>> make_bf16_predictor(
    std::shared_ptr<const Bf16Weights> weights, std::uint32_t streams) {
  return make<Bf16Lstm>(std::move(weights), streams);
}

}  // namespace speckv::predict

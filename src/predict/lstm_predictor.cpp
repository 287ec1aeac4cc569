// The LSTM as a predictor of symbols: a state for each stream.
#include <algorithm>
#include <unordered_map>

#include "predict/lstm.hpp"
#include "predict/recent_table.hpp"
#include "predict/sequence_predictors.hpp"

namespace speckv::predict {
namespace {

class LstmPredictor final : public SequencePredictor {
 public:
  LstmPredictor(std::shared_ptr<const Int8Weights> weights, std::uint32_t streams)
      : weights_(std::move(weights)), net_(*weights_), states_(streams) {
    const auto& symbols = weights_->symbols;
    classes_.reserve(symbols.size());
    for (std::uint32_t c = kUnknown + 1; c < symbols.size(); ++c)
      classes_.emplace(symbols[c], c);
  }

  void observe(StreamId stream, std::uint32_t symbol) noexcept override {
    bool fresh = false;
    const auto known = classes_.find(symbol);
    net_.step(states_.touch(stream, Int8State{}, fresh),
              known == classes_.end() ? kUnknown : known->second);
  }

  std::size_t predict(StreamId stream,
                      std::span<Candidate> best) const noexcept override {
    const Int8State* state = states_.find(stream);
    if (state == nullptr) return 0;
    std::array<Int8Answer, Int8Lstm::kMostBest> answers;
    const std::size_t count = net_.best(
        *state, std::span(answers).first(std::min(best.size(), answers.size())));
    for (std::size_t i = 0; i < count; ++i)
      best[i] = {weights_->symbols[answers[i].class_index],
                 static_cast<float>(answers[i].confidence) / 65536};
    return count;
  }

  void forget(StreamId stream) noexcept override { states_.erase(stream); }

 private:
  std::shared_ptr<const Int8Weights> weights_;
  Int8Lstm net_;
  std::unordered_map<std::uint32_t, std::uint32_t> classes_;
  RecentTable<Int8State> states_;
};

}  // namespace

Result<std::unique_ptr<SequencePredictor>> make_lstm_predictor(
    std::shared_ptr<const Int8Weights> weights, std::uint32_t streams) {
  if (weights == nullptr || weights->shape.vocabulary == 0 || streams == 0 ||
      streams > 1U << 24) {
    return Status{Code::invalid_argument,
                  "lstm: weights of symbols, and 1 to 2^24 streams"};
  }
  return std::unique_ptr<SequencePredictor>(
      std::make_unique<LstmPredictor>(std::move(weights), streams));
}

}  // namespace speckv::predict

// predict/sequence_predictors.hpp -- the predictors of what comes next in a stream: the
// LSTM, and the rivals that it is to be told beside.
#pragma once

#include <cstdint>
#include <memory>

#include "cxlspeckv/status.hpp"

#include "predict/lstm_weights.hpp"
#include "predict/predictor.hpp"
#include "predict/recent_table.hpp"

namespace speckv::predict {

// One step in whole numbers a symbol. The weights have to be of symbols (invalid_argument
// otherwise) and are shared.
Result<std::unique_ptr<SequencePredictor>> make_lstm_predictor(
    std::shared_ptr<const Int8Weights> weights, std::uint32_t streams);
// The same in bfloat16: what the whole numbers cost in accuracy.
struct Bf16Weights;
Result<std::unique_ptr<SequencePredictor>> make_bf16_predictor(
    std::shared_ptr<const Bf16Weights> weights, std::uint32_t streams);

// What followed the last `order` symbols (0..5) most often, in all streams together;
// where too little followed them, fewer symbols. Learns as it observes, until `learn` is
// false. Tables of `contexts` rows an order, a power of two.
class NgramPredictor final : public SequencePredictor {
 public:
  static constexpr std::uint32_t kMostOrder = 5;
  NgramPredictor(std::uint32_t order, std::uint32_t streams,
                 std::uint32_t contexts = 1U << 16);
  ~NgramPredictor() override;

  void observe(StreamId stream, std::uint32_t symbol) noexcept override;
  std::size_t predict(StreamId stream, std::span<Candidate> best) const noexcept override;
  void forget(StreamId stream) noexcept override;
  void learn(bool on) noexcept;

 private:
  struct Tables;
  std::unique_ptr<Tables> tables_;
};

// What followed the longest suffix (8, 4 or 2 symbols) of a stream when it was in that
// stream before; of the last 4,096 symbols.
class SuffixPredictor final : public SequencePredictor {
 public:
  explicit SuffixPredictor(std::uint32_t streams);
  ~SuffixPredictor() override;

  void observe(StreamId stream, std::uint32_t symbol) noexcept override;
  std::size_t predict(StreamId stream, std::span<Candidate> best) const noexcept override;
  void forget(StreamId stream) noexcept override;

 private:
  struct Streams;
  std::unique_ptr<Streams> streams_;
};

// What followed a symbol of late in any stream, what followed that, and so on: guesses
// that lie ever further ahead, each as likely as all links up to it. Learns as it
// observes; links of `symbols` symbols, those that were observed last.
class SuccessorPredictor final : public SequencePredictor {
 public:
  // REQUIRES: each 1 to 2^31 - 1.
  SuccessorPredictor(std::uint32_t streams, std::uint32_t symbols);

  void observe(StreamId stream, std::uint32_t symbol) noexcept override;
  std::size_t predict(StreamId stream, std::span<Candidate> best) const noexcept override;
  void forget(StreamId stream) noexcept override;

 private:
  struct Link {
    std::uint32_t next = 0;
    float trust = 0.5F;  // 0..1: how often of late it was that
  };
  RecentTable<std::uint32_t> last_;  // of each stream
  RecentTable<Link> links_;
};

}  // namespace speckv::predict

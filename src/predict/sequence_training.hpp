// predict/sequence_training.hpp -- an LSTM fitted to streams of symbols, and how it and
// its rivals do on streams that none of them has seen.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "predict/lstm_weights.hpp"

namespace speckv::predict {

using Stream = std::vector<std::uint32_t>;

struct SequenceTraining {
  std::uint32_t vocabulary =
      4096;                     // classes at most, the unknown one among them; 2..32768
  std::uint32_t batches = 400;  // at most; at least 1
  std::uint32_t sequences = 16, steps = 32;  // of a batch; each at least 1
  double rate = 3e-3;                        // of Adam
  std::uint64_t seed = 7;
  // Told after each batch: which, and the loss before it in nats a symbol. May be empty.
  std::function<void(std::uint32_t batch, double loss)> progress{};
};

struct TrainedSequence {
  LstmWeights weights{};
  std::uint32_t batches = 0;  // done, until nothing was gained any more
  double loss = 0;            // nats a symbol, on streams held back from the training
};

// Deterministic for equal arguments. A tenth of the streams, at least one where there are
// two, is held back to see when to stop. invalid_argument: too little to learn from, or
// an option out of its bounds.
Result<TrainedSequence> train_sequences(std::span<const Stream> streams,
                                        const SequenceTraining& options);

// How often the most likely next symbol was the one that came.
struct SequenceScore {
  std::string_view name;
  std::uint64_t right = 0;
  double share(std::uint64_t of) const noexcept {
    return of == 0 ? 0 : static_cast<double>(right) / static_cast<double>(of);
  }
};
struct SequenceJudgement {
  std::uint64_t symbols = 0;  // that were to be foretold
  std::uint64_t unknown = 0;  // of those: that the training never had
  // LSTM (in whole numbers, as it is used), unigram, 5-gram, suffix match, and the LSTM
  // in bfloat16. N-grams learn from the training streams only; the suffix match from what
  // the stream itself had.
  std::array<SequenceScore, 5> scores{};
};
Result<SequenceJudgement> judge_sequences(const LstmWeights& weights,
                                          std::span<const Stream> trained_on,
                                          std::span<const Stream> held_out);

}  // namespace speckv::predict

#include "predict/sequence_training.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "predict/bf16_lstm.hpp"
#include "predict/lstm_trainer.hpp"
#include "predict/sequence_predictors.hpp"

namespace speckv::predict {
namespace {

constexpr std::uint32_t kLook = 20, kPatience = 5;  // batches; looks without a gain
constexpr std::size_t kHeldBackSequences = 32;

// Symbols in order of how common they are, after the class of all others; equal ones in
// the order of their numbers, so that the result does not depend on a hash.
std::vector<std::uint32_t> common_symbols(std::span<const Stream> streams,
                                          std::uint32_t vocabulary) {
  std::unordered_map<std::uint32_t, std::uint64_t> counts;
  for (const Stream& stream : streams) {
    for (const std::uint32_t symbol : stream)
      ++counts[symbol];
  }
  std::vector<std::pair<std::uint64_t, std::uint32_t>> order;
  order.reserve(counts.size());
  for (const auto& [symbol, count] : counts)
    order.emplace_back(~count, symbol);
  std::sort(order.begin(), order.end());
  std::vector<std::uint32_t> symbols{0};
  for (const auto& [_, symbol] : order) {
    if (symbols.size() == vocabulary) break;
    symbols.push_back(symbol);
  }
  return symbols;
}

// All classes have outputs of their own where that is possible.
LstmShape shape_of(std::uint32_t vocabulary) {
  LstmShape shape{.vocabulary = vocabulary, .shortlist = vocabulary};
  if (vocabulary <= kMostOutputs) return shape;
  shape.shortlist = kMostOutputs / 2;
  const std::uint32_t clusters = kMostOutputs - shape.shortlist;
  shape.cluster = (shape.tail() + clusters - 1) / clusters;
  return shape;
}

Target target_of(const LstmShape& shape, std::uint32_t symbol_class) {
  if (symbol_class < shape.shortlist) return {.output = symbol_class};
  const std::uint32_t tail = symbol_class - shape.shortlist;
  return {.output = shape.shortlist + tail / shape.cluster, .tail = tail};
}

// Windows of streams as batches.
class Windows {
 public:
  Windows(std::span<const Stream> streams, const std::vector<std::uint32_t>& symbols,
          const LstmShape& shape, std::size_t steps)
      : shape_(shape), steps_(steps) {
    std::unordered_map<std::uint32_t, std::uint32_t> classes;
    for (std::uint32_t c = kUnknown + 1; c < symbols.size(); ++c)
      classes.emplace(symbols[c], c);
    for (const Stream& stream : streams) {
      if (stream.size() < 2) continue;
      std::vector<std::uint32_t>& row = rows_.emplace_back();
      for (const std::uint32_t symbol : stream) {
        const auto known = classes.find(symbol);
        row.push_back(known == classes.end() ? kUnknown : known->second);
      }
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) + row.size() - 1);
    }
  }
  bool empty() const noexcept { return ends_.empty(); }

  // That begin anywhere, each place as likely as any other.
  TrainingBatch draw(std::size_t sequences, std::mt19937_64& random) const {
    TrainingBatch batch{.steps = steps_, .sequences = sequences};
    batch.classes.assign(steps_ * sequences, kUnknown);
    batch.targets.assign(steps_ * sequences, Target{});
    for (std::size_t s = 0; s < sequences; ++s) {
      const std::uint64_t place = random() % ends_.back();
      const auto end = std::upper_bound(ends_.begin(), ends_.end(), place);
      const auto n = static_cast<std::size_t>(end - ends_.begin());
      const std::vector<std::uint32_t>& row = rows_[n];
      const std::size_t first = place - (n == 0 ? 0 : ends_[n - 1]);
      for (std::size_t t = 0; t < steps_ && first + t + 1 < row.size(); ++t) {
        batch.classes[t * sequences + s] = row[first + t];
        batch.targets[t * sequences + s] = target_of(shape_, row[first + t + 1]);
      }
    }
    return batch;
  }

 private:
  LstmShape shape_;
  std::size_t steps_;
  std::vector<std::vector<std::uint32_t>> rows_;
  std::vector<std::uint64_t> ends_;  // of each row: places at which a window may begin
};

Status check(const SequenceTraining& options) {
  const auto refused = [](const char* what) {
    return Status(Code::invalid_argument, what);
  };
  if (options.vocabulary < 2 || options.vocabulary > kMostVocabulary)
    return refused("a vocabulary has 2 to 32768 classes");
  if (options.batches == 0 || options.sequences == 0 || options.steps == 0)
    return refused("batches, sequences and steps must be at least 1");
  if (!(options.rate > 0 && options.rate <= 1)) return refused("a rate is in (0, 1]");
  return {};
}

// How often `predictor` has what comes first among its guesses.
std::uint64_t right_guesses(SequencePredictor& predictor, std::span<const Stream> streams,
                            std::uint64_t first_stream) {
  std::uint64_t right = 0;
  for (std::size_t n = 0; n < streams.size(); ++n) {
    const StreamId id = first_stream + n;
    for (std::size_t i = 0; i < streams[n].size(); ++i) {
      Candidate best;
      if (i > 0 && predictor.predict(id, {&best, 1}) == 1 && best.symbol == streams[n][i])
        ++right;
      predictor.observe(id, streams[n][i]);
    }
    predictor.forget(id);
  }
  return right;
}

std::uint64_t right_of_ngram(std::uint32_t order, std::span<const Stream> trained_on,
                             std::span<const Stream> held_out) {
  NgramPredictor predictor(order, 4);
  (void)right_guesses(predictor, trained_on, 0);
  predictor.learn(false);
  return right_guesses(predictor, held_out, trained_on.size());
}

}  // namespace

Result<TrainedSequence> train_sequences(std::span<const Stream> streams,
                                        const SequenceTraining& options) {
  if (Status checked = check(options); !checked.ok()) return checked;
  const std::size_t held_back =
      streams.size() < 2 ? 0 : std::max<std::size_t>(1, streams.size() / 10);
  const auto learned = streams.first(streams.size() - held_back);
  const std::vector<std::uint32_t> symbols = common_symbols(learned, options.vocabulary);
  if (symbols.size() < 2)
    return Status(Code::invalid_argument, "there is no symbol to learn");
  const LstmShape shape = shape_of(static_cast<std::uint32_t>(symbols.size()));
  const Windows windows(learned, symbols, shape, options.steps);
  if (windows.empty())
    return Status(Code::invalid_argument, "no stream has two symbols to learn from");
  const Windows others(streams.last(held_back), symbols, shape, options.steps);
  std::mt19937_64 random(options.seed), look(options.seed + 1);
  const TrainingBatch held =
      (others.empty() ? windows : others).draw(kHeldBackSequences, look);

  LstmWeights start = random_weights(shape, options.seed);
  start.symbols = symbols;
  LstmTrainer trainer(std::move(start));
  TrainedSequence best{trainer.weights(), 0, trainer.loss(held).mean()};
  std::uint32_t without_gain = 0;
  for (std::uint32_t n = 1; n <= options.batches && without_gain < kPatience; ++n) {
    const double loss =
        trainer.train(windows.draw(options.sequences, random), options.rate).mean();
    if (options.progress) options.progress(n, loss);
    if (n % kLook != 0 && n != options.batches) continue;
    const double now = trainer.loss(held).mean();
    ++without_gain;
    if (!(now < best.loss)) continue;
    best = {trainer.weights(), n, now};
    without_gain = 0;
  }
  return best;
}

Result<SequenceJudgement> judge_sequences(const LstmWeights& weights,
                                          std::span<const Stream> trained_on,
                                          std::span<const Stream> held_out) {
  auto whole = quantise(weights);
  if (!whole.ok()) return whole.error();
  auto lstm =
      make_lstm_predictor(std::make_shared<const Int8Weights>(*std::move(whole)), 4);
  if (!lstm.ok()) return lstm.error();
  auto rounded = round_to_bf16(weights);
  if (!rounded.ok()) return rounded.error();
  auto bf16 =
      make_bf16_predictor(std::make_shared<const Bf16Weights>(*std::move(rounded)), 4);
  if (!bf16.ok()) return bf16.error();
  SuffixPredictor suffix(4);
  SequenceJudgement judged;
  judged.scores = {{{"lstm", right_guesses(**lstm, held_out, 0)},
                    {"unigram", right_of_ngram(0, trained_on, held_out)},
                    {"ngram5", right_of_ngram(5, trained_on, held_out)},
                    {"suffix", right_guesses(suffix, held_out, 0)},
                    {"lstm_bf16", right_guesses(**bf16, held_out, 0)}}};
  std::unordered_set<std::uint32_t> known;
  for (const Stream& stream : trained_on)
    known.insert(stream.begin(), stream.end());
  for (const Stream& stream : held_out) {
    for (std::size_t i = 1; i < stream.size(); ++i) {
      ++judged.symbols;
      judged.unknown += known.contains(stream[i]) ? 0U : 1U;
    }
  }
  return judged;
}

}  // namespace speckv::predict

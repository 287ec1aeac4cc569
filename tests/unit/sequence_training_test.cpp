// What is learned from streams, and how honestly it is told: beside rivals, on streams
// that nobody saw.
#include "predict/sequence_training.hpp"

#include <random>

#include <gtest/gtest.h>

namespace speckv::predict {
namespace {

// A stream walks one of two rings of symbols; its first symbol says which. Every symbol
// of a ring is followed by the same one.
std::vector<Stream> rings(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Stream> streams;
  for (std::size_t n = 0; n < count; ++n) {
    const std::uint32_t ring = 100 * (1 + static_cast<std::uint32_t>(random() % 2));
    auto at = static_cast<std::uint32_t>(random() % 6);
    Stream& stream = streams.emplace_back();
    for (int i = 0; i < 12; ++i)
      stream.push_back(ring + at++ % 6);
  }
  return streams;
}

TEST(SequenceTraining, learns_what_can_be_known_and_says_what_cannot) {
  const auto learned = rings(40, 1), held_out = rings(10, 2);
  std::uint32_t told = 0;
  const auto trained = train_sequences(
      learned, {.batches = 120,
                .sequences = 8,
                .steps = 8,
                .rate = 1e-2,
                .progress = [&](std::uint32_t batch, double) { told = batch; }});
  ASSERT_TRUE(trained.ok());
  EXPECT_GE(told, trained->batches);
  EXPECT_EQ(trained->weights.shape.vocabulary, 13U) << "12 symbols, and all others";
  EXPECT_LT(trained->loss, 0.5) << "chance is 2.5 nats";
  const auto judged = judge_sequences(trained->weights, learned, held_out);
  ASSERT_TRUE(judged.ok());
  EXPECT_EQ(judged->symbols, 110U);
  EXPECT_EQ(judged->unknown, 0U);
  const auto share = [&](std::size_t n) { return judged->scores[n].share(110); };
  EXPECT_GE(share(0), 0.95) << "lstm";
  EXPECT_LE(share(1), 0.3) << "unigram";
  EXPECT_GE(share(2), 0.95) << "5-gram";
  EXPECT_LE(share(3), 0.5) << "suffix: a stream walks its ring twice at most";
  EXPECT_GE(share(4), 0.95) << "lstm in bfloat16";

  // Other symbols altogether: only what looks into the stream itself knows any.
  std::vector<Stream> others = held_out;
  for (Stream& stream : others) {
    for (std::uint32_t& symbol : stream)
      symbol += 7000;
  }
  const auto strange = judge_sequences(trained->weights, learned, others);
  ASSERT_TRUE(strange.ok());
  EXPECT_EQ(strange->unknown, 110U);
  for (std::size_t n = 0; n < 3; ++n)
    EXPECT_EQ(strange->scores[n].right, 0U) << strange->scores[n].name;
  EXPECT_EQ(strange->scores[3].right, judged->scores[3].right);
  EXPECT_EQ(strange->scores[4].right, 0U);
}

TEST(SequenceTraining, is_the_same_for_the_same_seed_and_reads_back) {
  const auto learned = rings(12, 3);
  const SequenceTraining options{
      .vocabulary = 8, .batches = 4, .sequences = 4, .steps = 6, .seed = 5};
  const auto a = train_sequences(learned, options), b = train_sequences(learned, options);
  ASSERT_TRUE(a.ok() && b.ok());
  const auto file = write_weights(a->weights);
  EXPECT_EQ(file, write_weights(b->weights));
  const auto read = read_weights(file);
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->symbols, a->weights.symbols);
  EXPECT_EQ(read->shape.vocabulary, 8U) << "the most common 7";
}

TEST(SequenceTraining, a_vocabulary_that_needs_clusters) {
  Stream stream;
  for (std::uint32_t i = 0; i < 3000; ++i)
    stream.push_back(i % 1500);
  const std::vector<Stream> one{stream};
  const auto trained = train_sequences(
      one, {.vocabulary = 2000, .batches = 1, .sequences = 2, .steps = 4});
  ASSERT_TRUE(trained.ok());
  EXPECT_TRUE(trained->weights.shape.validate().ok());
  EXPECT_GT(trained->weights.shape.tail(), 0U);
  EXPECT_TRUE(read_weights(write_weights(trained->weights)).ok());
}

TEST(SequenceTraining, refuses_what_it_cannot_learn_from) {
  const auto learned = rings(4, 1);
  const auto refused = [](std::span<const Stream> streams, const SequenceTraining& how) {
    const auto made = train_sequences(streams, how);
    return !made.ok() && made.error().code() == Code::invalid_argument;
  };
  EXPECT_TRUE(refused({}, {}));
  EXPECT_TRUE(refused(std::vector<Stream>{{1}, {2}, {3}}, {}));
  EXPECT_TRUE(refused(learned, {.vocabulary = 1}));
  EXPECT_TRUE(refused(learned, {.vocabulary = 32769}));
  EXPECT_TRUE(refused(learned, {.batches = 0}));
  EXPECT_TRUE(refused(learned, {.rate = 0}));
}

}  // namespace
}  // namespace speckv::predict

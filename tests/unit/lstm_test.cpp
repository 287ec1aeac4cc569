// The LSTM against golden vectors, and its weights file.
#include "predict/lstm.hpp"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "predict/int8_arithmetic.hpp"
#include "support/lstm_cases.hpp"

namespace speckv::predict {
namespace {

using test::Lcg;
using test::LstmCase;

std::string hex(const void* from, std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<const unsigned char*>(from)[i]);
    text += two;
  }
  return text;
}

std::vector<float> next_input(const LstmCase& c, const LstmWeights& w, Lcg& lcg,
                              std::uint32_t& class_index) {
  std::vector<float> in(c.shape.inputs);
  if (c.shape.vocabulary == 0) {
    lcg.fill(in, 1.2);
  } else {
    class_index = lcg.next() % c.shape.vocabulary;
    std::copy_n(
        w.embedding.begin() + static_cast<std::ptrdiff_t>(class_index) * c.shape.inputs,
        c.shape.inputs, in.begin());
  }
  return in;
}

TEST(Lstm, gives_the_golden_states_answers_and_logits) {
  const auto cases = test::lstm_cases();
  ASSERT_GE(cases.size(), 6U);
  for (const LstmCase& c : cases) {
    SCOPED_TRACE(c.name);
    Lcg lcg(c.seed);
    const LstmWeights w = test::random_lstm(c.shape, c.scale, lcg);
    const auto whole = quantise(w);
    ASSERT_TRUE(whole.ok());
    const Int8Lstm net(*whole, lstm_detail::kScalar);
    Int8State state;
    FloatState exact;
    std::string states;
    for (std::uint32_t t = 0; t < c.steps; ++t) {
      std::uint32_t class_index = 0;
      const std::vector<float> in = next_input(c, w, lcg, class_index);
      float_step(w, exact, in);
      std::vector<std::int8_t> bytes(in.size());
      std::transform(in.begin(), in.end(), bytes.begin(), int8::input);
      Int8State same = state;
      net.step(state, bytes);
      if (c.shape.vocabulary != 0) {
        net.step(same, class_index);
        EXPECT_EQ(same, state);
      }
      std::uint32_t crc = crc32c(0, std::as_bytes(std::span(&state.c, 1)));
      crc = little_endian(crc32c(crc, std::as_bytes(std::span(&state.h, 1))));
      states += hex(&crc, sizeof crc);
    }
    EXPECT_EQ(states, c.states);
    EXPECT_EQ(hex(&state.h, sizeof state.h), c.h);
    std::vector<std::uint32_t> answer;
    if (c.shape.vocabulary == 0) {
      answer.resize(c.shape.outputs());
      net.distribution(state, answer);
    } else {
      std::vector<ClassAnswer> best(c.best);
      best.resize(net.best(state, best));
      for (const ClassAnswer& one : best)
        answer.insert(answer.end(), {one.class_index, one.confidence});
    }
    EXPECT_EQ(answer, c.answer);
    EXPECT_EQ(c.logits.empty(), c.name == "saturated");
    if (c.logits.empty()) continue;  // floats tell nothing there
    std::vector<float> logits(c.shape.outputs());
    float_head(w, exact, logits);
    ASSERT_EQ(c.logits.size(), std::min<std::size_t>(32, logits.size()));
    for (std::size_t i = 0; i < c.logits.size(); ++i)
      EXPECT_NEAR(static_cast<double>(logits[i]), c.logits[i], 1e-4) << i;
  }
}

// D15: the published LSTM answered the same whatever it was given.
TEST(Lstm, answers_depend_on_every_step_of_the_history) {
  const LstmShape shape{.inputs = 64, .vocabulary = 500, .shortlist = 100, .cluster = 50};
  Lcg lcg(7);
  const auto whole = quantise(test::random_lstm(shape, 0.2, lcg));
  ASSERT_TRUE(whole.ok());
  const Int8Lstm net(*whole);
  const auto after = [&](std::uint32_t changed) {
    Int8State state;
    for (std::uint32_t t = 0; t < kHistory; ++t)
      net.step(state, t == changed ? 499 : t);
    return state;
  };
  const Int8State same = after(kHistory);
  EXPECT_EQ(same, after(kHistory));
  for (std::uint32_t t = 0; t < kHistory; ++t)
    EXPECT_NE(after(t).h, same.h) << "step " << t << " was ignored";
  std::vector<std::uint32_t> a(shape.outputs()), b(a);
  net.distribution(same, a);
  net.distribution(after(kHistory - 1), b);
  EXPECT_NE(a, b);
}

TEST(Lstm, every_exponent_and_gate_stays_in_its_bounds) {
  for (int x = -32767; x <= 32767; ++x) {
    const auto z = static_cast<std::int16_t>(x);
    EXPECT_NEAR(int8::sigmoid(z) / 32768.0, 1 / (1 + std::exp(-x / 4096.0)), 2.5e-4);
    EXPECT_NEAR(int8::tanh(z) / 32768.0, std::tanh(x / 4096.0), 7.5e-4);
    EXPECT_EQ(int8::tanh(static_cast<std::int16_t>(-z)), -int8::tanh(z));
  }
  for (std::uint32_t d = 0; d < 20U << 12; ++d)
    EXPECT_NEAR(int8::weight(d), 32768 * std::exp2(-(d / 4096.0)), 3.5);
}

class WeightsFile : public testing::Test {
 protected:
  static LstmWeights some(std::uint32_t seed) {
    Lcg lcg(seed);
    return test::random_lstm(
        {.inputs = 16, .vocabulary = 90, .shortlist = 30, .cluster = 25}, 0.2, lcg);
  }
  static void seal(std::vector<std::byte>& file) {
    const std::size_t body = file.size() - 4;
    store_le(file.data() + body, crc32c(0, Bytes(file).first(body)));
  }
};

TEST_F(WeightsFile, floats_come_back_as_they_were) {
  const LstmWeights w = some(1);
  const auto file = write_weights(w);
  const auto read = read_weights(file);
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->shape, w.shape);
  EXPECT_EQ(read->symbols, w.symbols);
  EXPECT_EQ(read->embedding, w.embedding);
  for (std::size_t l = 0; l < kLstmLayers; ++l)
    EXPECT_EQ(read->layers[l].weight, w.layers[l].weight);
  EXPECT_EQ(read->tail.bias, w.tail.bias);
  EXPECT_EQ(write_weights(*read), file);
}

// D16: the published load_model() returned success and loaded nothing.
TEST_F(WeightsFile, what_is_loaded_is_what_answers) {
  std::vector<std::vector<std::uint32_t>> answers;
  for (const std::uint32_t seed : {1U, 2U}) {
    const auto from_floats = read_int8(write_weights(some(seed)));
    ASSERT_TRUE(from_floats.ok());
    const auto file = write_weights(*from_floats);
    const auto whole = read_int8(file);
    ASSERT_TRUE(whole.ok()) << whole.error().message();
    EXPECT_EQ(write_weights(*whole), file);
    EXPECT_EQ(read_weights(file).error().code(), Code::invalid_argument);
    const auto memory = quantise(some(seed));
    ASSERT_TRUE(memory.ok());
    const Int8Lstm loaded(*whole), made(*memory);
    Int8State a, b;
    for (std::uint32_t t = 1; t < 20; ++t) {
      loaded.step(a, t);
      made.step(b, t);
    }
    EXPECT_EQ(a, b);
    answers.emplace_back(whole->shape.outputs());
    loaded.distribution(a, answers.back());
  }
  EXPECT_NE(answers[0], answers[1]);
}

TEST_F(WeightsFile, damage_is_refused) {
  const auto whole = quantise(some(3));
  ASSERT_TRUE(whole.ok());
  for (const auto& file : {write_weights(some(3)), write_weights(*whole)}) {
    const auto code = [&](auto&& change) {
      std::vector<std::byte> bad = file;
      change(bad);
      const auto read = read_int8(bad);
      return read.ok() ? Code::ok : read.error().code();
    };
    const auto set = [](std::size_t at, std::uint32_t value) {
      return [=](std::vector<std::byte>& bad) {
        store_le(bad.data() + at, value);
        seal(bad);
      };
    };
    EXPECT_EQ(code([](auto&) {}), Code::ok);
    for (const std::size_t size : {0UL, 8UL, 67UL, 68UL, file.size() - 1})
      EXPECT_EQ(code([&](auto& bad) { bad.resize(size); }), Code::corrupted) << size;
    EXPECT_EQ(code([](auto& bad) { bad.push_back({}); }), Code::corrupted);
    EXPECT_EQ(code([](auto& bad) { bad[300] ^= std::byte{1}; }), Code::corrupted);
    EXPECT_EQ(code(set(0, 1)), Code::corrupted);
    EXPECT_EQ(code(set(8, 2)), Code::unsupported);
    EXPECT_EQ(code(set(12, 2)), Code::corrupted);
    EXPECT_EQ(code(set(16, 17)), Code::invalid_argument);
    EXPECT_EQ(code(set(16, 0x80000000)), Code::invalid_argument);
    EXPECT_EQ(code(set(20, 64)), Code::invalid_argument);
    EXPECT_EQ(code(set(24, 3)), Code::invalid_argument);
    EXPECT_EQ(code(set(28, 32769)), Code::invalid_argument);
    EXPECT_EQ(code(set(28, 91)), Code::corrupted);  // one more symbol: another length
    EXPECT_EQ(code(set(32, 91)), Code::invalid_argument);
    EXPECT_EQ(code(set(36, 0)), Code::invalid_argument);
    EXPECT_EQ(code(set(60, 1)), Code::corrupted);
    EXPECT_EQ(code(set(64 + 4, 1002)), Code::corrupted);  // two classes, one symbol
  }
  std::vector<std::byte> file = write_weights(some(3));
  const std::size_t embedding = 64 + 4 * 90;
  for (const std::uint32_t bits : {0x7FC00000U, 0x7F800000U, 0x44800000U}) {
    store_le(file.data() + embedding, bits);
    seal(file);
    EXPECT_EQ(read_weights(file).error().code(), Code::corrupted);
  }
  file = write_weights(*whole);
  for (const auto& [at, byte] : {std::pair(embedding, 0x80),
                                 {embedding + 90 * 16, 0},
                                 {embedding + 90 * 16, 25}}) {
    std::vector<std::byte> bad = file;
    bad[at] = static_cast<std::byte>(byte);
    seal(bad);
    EXPECT_EQ(read_int8(bad).error().code(), Code::corrupted) << at;
  }
}

TEST_F(WeightsFile, what_has_no_8_bits_is_refused) {
  LstmWeights w = some(4);
  w.layers[0].weight[5] = 1e9F;
  EXPECT_EQ(quantise(w).error().code(), Code::invalid_argument);
  w.layers[0].weight[5] = std::nanf("");
  EXPECT_EQ(quantise(w).error().code(), Code::invalid_argument);
}

}  // namespace
}  // namespace speckv::predict

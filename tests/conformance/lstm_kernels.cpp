// Every instruction set of the INT8 LSTM gives the bits of its definition, on wild input;
// those of the one in bfloat16 stay within stated bounds of the exact numbers. Both
// decide as the floats do, but for ties (docs/lstm-format.md, "Error").
#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "predict/bf16_lstm.hpp"
#include "predict/int8_arithmetic.hpp"
#include "predict/lstm.hpp"
#include "support/lstm_cases.hpp"

namespace speckv::predict {
namespace {

class LstmKernels : public testing::TestWithParam<const LstmKernel*> {
 protected:
  void SetUp() override {
    if (!GetParam()->usable()) GTEST_SKIP() << "this machine has no " << GetParam()->name;
  }
  const LstmKernel& scalar_ = lstm_detail::kScalar;
  std::mt19937 random_{11};

  int between(int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random_);
  }
};

TEST_P(LstmKernels, affine_maps_of_the_largest_numbers) {
  for (int round = 0; round < 60; ++round) {
    const auto columns = static_cast<std::uint32_t>(8 * between(1, 32));
    Int8Matrix matrix(static_cast<std::uint32_t>(between(1, 150)), columns);
    matrix.shift = static_cast<std::uint32_t>(between(1, int8::kMostShift));
    const bool extreme = round % 3 == 0;
    const auto value = [&](int most) {
      return extreme ? (between(0, 1) == 0 ? -most : most) : between(-most, most);
    };
    for (std::uint32_t r = 0; r < matrix.rows; ++r) {
      matrix.multiplier[r] = extreme ? int8::kMostMultiplier : between(1, 255);
      matrix.bias[r] = value(int8::kMostBias);
      const int same = extreme ? value(127) : 0;
      for (std::uint32_t c = 0; c < columns; ++c)
        matrix.set(r, c, static_cast<std::int8_t>(same != 0 ? same : value(127)));
    }
    matrix.settle();
    alignas(64) std::int8_t in[2 * kHidden];
    const int same = extreme ? value(127) : 0;
    for (std::int8_t& x : in)
      x = static_cast<std::int8_t>(same != 0 ? same : value(127));
    alignas(64) std::int32_t want[192], got[192];
    scalar_.affine(matrix, in, want);
    GetParam()->affine(matrix, in, got);
    for (std::uint32_t r = 0; r < matrix.padded_rows(); ++r)
      ASSERT_EQ(got[r], want[r]) << "row " << r << " of round " << round;
  }
}

TEST_P(LstmKernels, cells_for_every_gate_and_wild_ones) {
  alignas(64) std::int32_t gates[kGateRows];
  alignas(64) std::int16_t want_c[kHidden], got_c[kHidden];
  alignas(64) std::int8_t want_h[kHidden], got_h[kHidden];
  for (int x = -33000; x < 33000; x += 32) {
    for (std::uint32_t i = 0; i < kGateRows; ++i) {
      const int kind = between(0, 5);
      gates[i] = kind == 0   ? between(-(1 << 30), 1 << 30)
                 : kind == 1 ? between(-40000, 40000)
                             : x + static_cast<int>(i % 32);
    }
    for (std::uint32_t i = 0; i < kHidden; ++i)
      want_c[i] = got_c[i] = static_cast<std::int16_t>(
          between(0, 9) == 0 ? (between(0, 1) == 0 ? -32767 : 32767)
                             : between(-32767, 32767));
    scalar_.cells(gates, want_c, want_h);
    GetParam()->cells(gates, got_c, got_h);
    ASSERT_TRUE(std::equal(want_c, want_c + kHidden, got_c)) << x;
    ASSERT_TRUE(std::equal(want_h, want_h + kHidden, got_h)) << x;
  }
}

TEST_P(LstmKernels, weights_of_all_lengths) {
  std::vector<std::int32_t> logits(kMostOutputs);
  std::vector<std::uint32_t> want(kMostOutputs), got(kMostOutputs);
  for (std::size_t count = 1; count <= kMostOutputs; count += count < 70 ? 1 : 53) {
    const int spread = 1 << between(1, 30);
    for (std::size_t i = 0; i < count; ++i)
      logits[i] = between(-spread, spread);
    const std::int32_t most = *std::max_element(
        logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(count));
    got = want;
    const std::uint32_t sum = scalar_.weigh(logits.data(), count, most, want.data());
    ASSERT_EQ(GetParam()->weigh(logits.data(), count, most, got.data()), sum) << count;
    ASSERT_EQ(got, want) << count;  // and nothing beyond `count`
  }
}

TEST_P(LstmKernels, whole_networks_of_every_shape) {
  const LstmShape shapes[] = {
      {.inputs = 32, .shortlist = 15},
      {.inputs = 8, .shortlist = 1024},
      {.inputs = 64, .vocabulary = 3000, .shortlist = 200, .cluster = 150},
      {.inputs = 24, .vocabulary = 77, .shortlist = 77}};
  for (const LstmShape& shape : shapes) {
    for (const double scale : {0.05, 0.3, 3.0}) {
      test::Lcg lcg(5);
      const auto weights = quantise(test::random_lstm(shape, scale, lcg));
      ASSERT_TRUE(weights.ok());
      const Int8Lstm want(*weights, scalar_), got(*weights, *GetParam());
      Int8State a, b;
      std::vector<std::int8_t> in(shape.inputs);
      std::vector<std::uint32_t> p(shape.outputs()), q(p);
      for (int t = 0; t < 60; ++t) {
        for (std::int8_t& x : in)
          x = static_cast<std::int8_t>(between(-127, 127));
        want.step(a, in);
        got.step(b, in);
        ASSERT_EQ(a, b) << t;
      }
      want.distribution(a, p);
      got.distribution(b, q);
      EXPECT_EQ(p, q);
      if (shape.vocabulary == 0) continue;
      ClassAnswer x[8], y[8];
      ASSERT_EQ(want.best(a, x), 8U);
      ASSERT_EQ(got.best(b, y), 8U);
      for (std::size_t i = 0; i < 8; ++i) {
        EXPECT_EQ(x[i].class_index, y[i].class_index);
        EXPECT_EQ(x[i].confidence, y[i].confidence);
        EXPECT_NE(x[i].class_index, kUnknown);
      }
    }
  }
}

template <class Kernel>
std::vector<const Kernel*> all(std::span<const Kernel> of) {
  std::vector<const Kernel*> kernels;
  for (const Kernel& kernel : of)
    kernels.push_back(&kernel);
  return kernels;
}
INSTANTIATE_TEST_SUITE_P(All, LstmKernels, testing::ValuesIn(all(lstm_kernels())),
                         [](const auto& one) { return std::string(one.param->name); });

TEST(Bf16, rounds_to_the_nearest_and_halves_to_even) {
  for (const auto& [from, to] : {std::pair{1.0F, 0x3F80},
                                 {1.00390625F, 0x3F80},
                                 {1.01171875F, 0x3F82},
                                 {1.005F, 0x3F81},
                                 {-1.005F, 0xBF81},
                                 {0.9999F, 0x3F80},
                                 {0.0F, 0},
                                 {-0.0F, 0x8000},
                                 {3.38e38F, 0x7F7E},
                                 {1e-40F, 1}})
    EXPECT_EQ(to_bf16(from), to) << from;
  for (std::uint32_t bits = 0; bits < 0x7F80; ++bits)
    EXPECT_EQ(to_bf16(from_bf16(static_cast<std::uint16_t>(bits))), bits);
}

class Bf16Kernels : public testing::TestWithParam<const Bf16Kernel*> {
 protected:
  void SetUp() override {
    if (!GetParam()->usable()) GTEST_SKIP() << "this machine has no " << GetParam()->name;
  }
  std::mt19937 random_{12};

  // Of any sign, within 2^-magnitude..2^magnitude.
  float number(int magnitude) {
    const double size =
        std::exp2(std::uniform_real_distribution<>(-magnitude, magnitude)(random_));
    return static_cast<float>(random_() % 2 == 0 ? size : -size);
  }
};

TEST_P(Bf16Kernels, affine_maps_are_within_what_their_sums_round) {
  for (int round = 0; round < 60; ++round) {
    const auto columns = static_cast<std::uint32_t>(4 * (1 + random_() % 64));
    const auto rows = static_cast<std::uint32_t>(1 + random_() % 150);
    Bf16Matrix matrix(rows, columns);
    const int magnitude = round % 4 == 0 ? 25 : 3;
    std::vector<double> exact(matrix.rows), sizes(matrix.rows);
    alignas(64) std::uint16_t in[2 * kHidden];
    for (std::uint16_t& x : in)
      x = to_bf16(number(magnitude));
    for (std::uint32_t r = 0; r < matrix.rows; ++r) {
      matrix.bias[r] = number(magnitude);
      exact[r] = static_cast<double>(matrix.bias[r]);
      sizes[r] = std::abs(exact[r]);
      for (std::uint32_t c = 0; c < columns; ++c) {
        const std::uint16_t w = to_bf16(number(magnitude));
        matrix.set(r, c, w);
        const double product =
            static_cast<double>(from_bf16(w)) * static_cast<double>(from_bf16(in[c]));
        exact[r] += product;
        sizes[r] += std::abs(product);
      }
    }
    alignas(64) float got[192];
    GetParam()->affine(matrix, in, got);
    for (std::uint32_t r = 0; r < matrix.rows; ++r) {
      const double most = sizes[r] * (columns + 2) * std::exp2(-24) * 1.01;
      ASSERT_NEAR(static_cast<double>(got[r]), exact[r], most) << r << ", " << round;
    }
    for (std::uint32_t r = matrix.rows; r < matrix.padded_rows(); ++r)
      ASSERT_EQ(got[r], 0.0F) << r;
  }
}

TEST_P(Bf16Kernels, cells_of_any_gates_are_within_a_millionth) {
  const auto sigmoid = [](float x) { return 1 / (1 + std::exp(-double{x})); };
  alignas(64) float gates[kGateRows], c[kHidden], last[kHidden];
  alignas(64) std::uint16_t h[kHidden];
  for (int round = 0; round < 400; ++round) {
    for (float& gate : gates)
      gate = number(round % 8 == 0 ? 14 : 4);
    for (std::size_t i = 0; i < kHidden; ++i)
      c[i] = last[i] = number(4);
    GetParam()->cells(gates, c, h);
    for (std::size_t i = 0; i < kHidden; ++i) {
      const double now = sigmoid(gates[kHidden + i]) * double{last[i]} +
                         sigmoid(gates[i]) * std::tanh(double{gates[2 * kHidden + i]});
      ASSERT_NEAR(double{c[i]}, now, 1e-6 * (1 + std::abs(now))) << i << ", " << round;
      const double out = sigmoid(gates[3 * kHidden + i]) * std::tanh(double{c[i]});
      ASSERT_NEAR(double{from_bf16(h[i])}, out, std::abs(out) / 256 + 1e-6) << i;
    }
  }
}

// What docs/lstm-format.md states under "Error".
struct Stated {
  double scale;  // of uniform weights
  double bf16, int8;
};
constexpr Stated kStated[] = {{0.0884, 0.001, 0.01}, {0.25, 0.01, 0.04}};

struct Decision {
  std::size_t best = 0;
  double lead = 0;  // before the second
};
Decision decision(std::span<const float> logits) {
  Decision d;
  for (std::size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[d.best]) d.best = i;
  d.lead = 1e9;
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (i != d.best)
      d.lead = std::min(d.lead, static_cast<double>(logits[d.best] - logits[i]));
  return d;
}

// Logits stay within what is stated, and so decisions are the same but where two outputs
// are as good as equal.
TEST_P(Bf16Kernels, whole_networks_decide_as_in_floats) {
  int same = 0, clear = 0, all = 0;
  for (const Stated& stated : kStated) {
    for (std::uint32_t seed = 1; seed <= 3; ++seed) {
      test::Lcg lcg(seed);
      const LstmShape shape{.inputs = 32, .shortlist = 15};
      const LstmWeights weights = test::random_lstm(shape, stated.scale, lcg);
      const auto rounded = round_to_bf16(weights);
      const auto whole = quantise(weights);
      ASSERT_TRUE(rounded.ok() && whole.ok());
      const Bf16Lstm net(*rounded, *GetParam());
      const Int8Lstm small(*whole);
      Bf16State state;
      Int8State small_state;
      FloatState exact;
      std::vector<float> in(shape.inputs), want(15), got(15), whole_logits(15);
      for (int t = 0; t < 64; ++t) {
        lcg.fill(in, 1.2);
        float_step(weights, exact, in);
        net.step(state, in);
        std::vector<std::int8_t> bytes(in.size());
        std::transform(in.begin(), in.end(), bytes.begin(), int8::input);
        small.step(small_state, bytes);
        float_head(weights, exact, want);
        net.head(state, got);
        alignas(64) std::int32_t logits[Int8Matrix::kPanel];
        lstm_detail::kScalar.affine(whole->head, small_state.h[1].data(), logits);
        for (std::size_t i = 0; i < want.size(); ++i) {
          whole_logits[i] = static_cast<float>(logits[i] / 4096.0 * std::numbers::ln2);
          ASSERT_NEAR(got[i], want[i], stated.bf16) << t;
          ASSERT_NEAR(whole_logits[i], want[i], stated.int8) << t;
        }
        const Decision float_says = decision(want);
        same += decision(got).best == float_says.best ? 1 : 0;
        ++all;
        if (float_says.lead > 2 * stated.bf16) {
          ASSERT_EQ(decision(got).best, float_says.best) << t;
          ++clear;
        }
        if (float_says.lead > 2 * stated.int8) {
          ASSERT_EQ(decision(whole_logits).best, float_says.best) << t;
        }
      }
    }
  }
  EXPECT_GE(same, all * 98 / 100);
  EXPECT_GE(clear, all / 2);
}

TEST_P(Bf16Kernels, the_best_of_an_adaptive_output_are_those_of_the_floats) {
  const LstmShape shape{.inputs = 24, .vocabulary = 300, .shortlist = 40, .cluster = 33};
  test::Lcg lcg(6);
  const LstmWeights weights = test::random_lstm(shape, 0.4, lcg);
  const auto rounded = round_to_bf16(weights);
  ASSERT_TRUE(rounded.ok());
  const Bf16Lstm net(*rounded, *GetParam());
  Bf16State state;
  FloatState exact;
  std::vector<float> head(shape.outputs());
  int clear = 0;
  for (int t = 0; t < 40; ++t) {
    const std::uint32_t class_index = lcg.next() % shape.vocabulary;
    net.step(state, class_index);
    float_step(weights, exact,
               std::span(weights.embedding)
                   .subspan(std::size_t{class_index} * shape.inputs, shape.inputs));
    float_head(weights, exact, head);
    const auto softmax = [](std::span<const float> logits) {
      std::vector<double> p;
      double sum = 0;
      for (const float logit : logits)
        sum += p.emplace_back(std::exp(double{logit}));
      for (double& one : p)
        one /= sum;
      return p;
    };
    const auto outputs = softmax(head);
    std::vector<double> likely(outputs.begin(), outputs.begin() + shape.shortlist);
    for (std::uint32_t k = 0; k < shape.clusters(); ++k) {
      std::vector<float> rows(std::min(shape.cluster, shape.tail() - k * shape.cluster));
      float_tail(weights, exact, k, rows);
      for (const double p : softmax(rows))
        likely.push_back(p * outputs[shape.shortlist + k]);
    }
    ClassAnswer best[4];
    ASSERT_EQ(net.best(state, best), 4U);
    for (const ClassAnswer& one : best) {
      ASSERT_NE(one.class_index, kUnknown);
      const double p = likely[one.class_index];
      EXPECT_NEAR(one.confidence / 65536.0, p, 0.2 * p + 2e-5) << t;
    }
    // What is clearly among the four likeliest outputs, and likelier than the last
    // answer, is an answer.
    auto sorted = std::vector(outputs.begin() + 1, outputs.end());
    std::ranges::sort(sorted, std::greater<>());
    for (std::uint32_t i = 1; i < shape.shortlist; ++i) {
      if (likely[i] < std::max(best[3].confidence / 65536.0, sorted[3]) * 1.3) continue;
      ++clear;
      EXPECT_TRUE(std::ranges::any_of(best, [&](auto& b) { return b.class_index == i; }))
          << t << ", " << i;
    }
  }
  EXPECT_GE(clear, 10);
}

TEST(Bf16, weights_that_it_has_no_number_for_are_refused) {
  test::Lcg lcg(1);
  const LstmWeights good = test::random_lstm({.inputs = 8, .shortlist = 4}, 0.2, lcg);
  EXPECT_TRUE(round_to_bf16(good).ok());
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 3.4e38F}) {
    LstmWeights weights = good;
    weights.head.weight[7] = bad;
    EXPECT_EQ(round_to_bf16(weights).error().code(), Code::invalid_argument) << bad;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Bf16Kernels, testing::ValuesIn(all(bf16_kernels())),
                         [](const auto& one) { return std::string(one.param->name); });

}  // namespace
}  // namespace speckv::predict

// Every instruction set of the LSTM gives the bits of its definition, on wild input.
#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

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
      Int8Answer x[8], y[8];
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

std::vector<const LstmKernel*> all() {
  std::vector<const LstmKernel*> kernels;
  for (const LstmKernel& kernel : lstm_kernels())
    kernels.push_back(&kernel);
  return kernels;
}
INSTANTIATE_TEST_SUITE_P(All, LstmKernels, testing::ValuesIn(all()),
                         [](const auto& one) { return std::string(one.param->name); });

}  // namespace
}  // namespace speckv::predict

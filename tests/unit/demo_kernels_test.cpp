// The inner loops of the demo's transformer, on every instruction set of this machine,
// and the threads that share them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "demo/kernels.hpp"
#include "demo/team.hpp"

namespace speckv::demo {
namespace {

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> sets;
  for (const char* name : {"avx512", "avx2", "portable"}) {
    if (const Kernels* set = find_kernels(name)) sets.push_back(set);
  }
  return sets;
}

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& value : out)
    value = normal(random);
  return out;
}

constexpr std::size_t kRows = 21, kDepth = 96;

std::vector<float> multiply(const Kernels& set, const std::vector<float>& x,
                            std::size_t first, std::size_t rows,
                            const std::vector<float>& panel) {
  std::vector<float> out(rows * kPanel);
  set.multiply(&x[first * kDepth], kDepth, rows, panel.data(), kPanel, kDepth, out.data(),
               kPanel, false);
  return out;
}

TEST(DemoKernels, multiply_is_the_matrix_product) {
  const auto x = random_floats(kRows * kDepth, 1);
  const auto panel = random_floats(kDepth * kPanel, 2);
  for (const Kernels* set : all_kernels()) {
    const auto out = multiply(*set, x, 0, kRows, panel);
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t c = 0; c < kPanel; ++c) {
        double sum = 0;
        for (std::size_t k = 0; k < kDepth; ++k) {
          sum += double{x[r * kDepth + k]} * double{panel[k * kPanel + c]};
        }
        ASSERT_NEAR(out[r * kPanel + c], sum, 1e-4) << set->name;
      }
    }
  }
}

TEST(DemoKernels, a_row_has_the_same_bits_alone_and_among_others) {
  const auto x = random_floats(kRows * kDepth, 3);
  const auto panel = random_floats(kDepth * kPanel, 4);
  for (const Kernels* set : all_kernels()) {
    const auto together = multiply(*set, x, 0, kRows, panel);
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto alone = multiply(*set, x, r, 1, panel);
      ASSERT_EQ(std::memcmp(alone.data(), &together[r * kPanel], kPanel * sizeof(float)),
                0)
          << set->name << " row " << r;
    }
  }
}

TEST(DemoKernels, halves_give_the_bits_of_the_widened_panel) {
  const auto x = random_floats(kRows * kDepth, 5);
  auto panel = random_floats(kDepth * kPanel, 6);
  for (const Kernels* set : all_kernels()) {
    std::vector<Half> halves(panel.size());
    set->narrow(panel.data(), panel.size(), halves.data());
    set->widen(halves.data(), halves.size(), panel.data());
    std::vector<float> out(kRows * kPanel);
    set->multiply_half(x.data(), kDepth, kRows, halves.data(), kPanel, kDepth, out.data(),
                       kPanel, false);
    EXPECT_EQ(out, multiply(*set, x, 0, kRows, panel)) << set->name;
  }
}

TEST(DemoKernels, adding_continues_the_sum) {
  const auto x = random_floats(kRows * kDepth, 7);
  const auto panel = random_floats(kDepth * kPanel, 8);
  for (const Kernels* set : all_kernels()) {
    std::vector<float> out(kRows * kPanel);
    for (std::size_t k = 0; k < kDepth; k += 32) {
      set->multiply(&x[k], kDepth, kRows, &panel[k * kPanel], kPanel, 32, out.data(),
                    kPanel, k != 0);
    }
    EXPECT_EQ(out, multiply(*set, x, 0, kRows, panel)) << set->name;
  }
}

TEST(DemoKernels, sets_with_fused_multiply_adds_agree_bit_for_bit) {
  const Kernels* wide = find_kernels("avx512");
  const Kernels* narrow = find_kernels("avx2");
  if (wide == nullptr || narrow == nullptr) GTEST_SKIP() << "needs AVX-512 and AVX2";
  const auto x = random_floats(kRows * kDepth, 9);
  const auto panel = random_floats(kDepth * kPanel, 10);
  EXPECT_EQ(multiply(*wide, x, 0, kRows, panel), multiply(*narrow, x, 0, kRows, panel));
  std::vector<float> a(panel.begin(), panel.begin() + kPanel), b = a;
  float maximum[2] = {-1e30F, -1e30F}, total[2] = {};
  wide->softmax_step(a.data(), 60, 0.3F, &maximum[0], &total[0]);
  narrow->softmax_step(b.data(), 60, 0.3F, &maximum[1], &total[1]);
  EXPECT_EQ(a, b);
  EXPECT_EQ(maximum[0], maximum[1]);
  EXPECT_EQ(total[0], total[1]);
}

TEST(DemoKernels, every_half_survives_widening_and_narrowing) {
  std::vector<Half> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i)
    halves[i] = static_cast<Half>(i);
  std::vector<float> reference(halves.size());
  for (const Kernels* set : all_kernels()) {
    std::vector<float> floats(halves.size());
    std::vector<Half> back(halves.size());
    set->widen(halves.data(), halves.size(), floats.data());
    set->narrow(floats.data(), floats.size(), back.data());
    for (std::size_t i = 0; i < halves.size(); ++i) {
      const bool nan = (i & 0x7C00U) == 0x7C00U && (i & 0x3FFU) != 0;
      if (nan) {
        ASSERT_TRUE(std::isnan(floats[i])) << set->name << ' ' << i;
      } else {
        ASSERT_EQ(back[i], halves[i]) << set->name;
      }
    }
    EXPECT_EQ(floats[0x0001], 0x1p-24F);
    EXPECT_EQ(floats[0x3C00], 1.0F);
    EXPECT_EQ(floats[0xFBFF], -65504.0F);
  }
}

TEST(DemoKernels, narrowing_rounds_to_nearest_even) {
  const struct {
    float value;
    Half half;
  } cases[] = {
      {1.0F + 0x1p-11F, 0x3C00}, {1.0F + 0x1.8p-10F, 0x3C02}, {65519.0F, 0x7BFF},
      {65520.0F, 0x7C00},        {0x1p-25F, 0x0000},          {0x1.8p-24F, 0x0002},
      {-0x1.1p-25F, 0x8001},     {0x1.ff8p-15F, 0x03FF},      {0x1.fffp-15F, 0x0400}};
  for (const Kernels* set : all_kernels()) {
    for (const auto& c : cases) {
      float in[16];
      Half out[16];
      std::fill(std::begin(in), std::end(in), c.value);
      set->narrow(in, 16, out);
      EXPECT_EQ(out[0], c.half) << set->name << ' ' << c.value;
      EXPECT_EQ(out[15], c.half) << set->name << ' ' << c.value;
    }
  }
}

TEST(DemoKernels, transpose_puts_every_value_in_its_place) {
  constexpr std::size_t kChannels = 128;
  std::vector<Half> in(kPanel * kChannels);
  for (std::size_t i = 0; i < in.size(); ++i)
    in[i] = static_cast<Half>(i);  // all finite
  std::vector<float> plain(in.size());
  for (const Kernels* set : all_kernels()) {
    set->widen(in.data(), in.size(), plain.data());
    std::vector<float> out(in.size());
    set->transpose_keys(in.data(), kChannels, out.data());
    for (std::size_t t = 0; t < kPanel; ++t) {
      for (std::size_t c = 0; c < kChannels; ++c) {
        ASSERT_EQ(out[c * kPanel + t], plain[t * kChannels + c]) << set->name;
      }
    }
  }
}

TEST(DemoKernels, softmax_in_steps_is_the_softmax) {
  constexpr std::size_t kTokens = 3 * kPanel - 11;
  auto scores = random_floats(3 * kPanel, 11);
  for (float& s : scores)
    s *= 20;
  for (std::size_t t = kTokens; t < scores.size(); ++t)
    scores[t] = NAN;  // never written
  constexpr float kScale = 0.25F;
  double top = -1e30, sum = 0;
  for (std::size_t t = 0; t < kTokens; ++t)
    top = std::max(top, double{scores[t] * kScale});
  for (std::size_t t = 0; t < kTokens; ++t)
    sum += std::exp(double{scores[t] * kScale} - top);
  for (const Kernels* set : all_kernels()) {
    auto weights = scores;
    float maximum = -1e30F, total = 0;
    for (std::size_t b = 0; b < 3; ++b) {
      const float fade =
          set->softmax_step(&weights[b * kPanel], std::min(kPanel, kTokens - b * kPanel),
                            kScale, &maximum, &total);
      for (std::size_t t = 0; t < b * kPanel; ++t)
        weights[t] *= fade;
    }
    for (std::size_t t = 0; t < scores.size(); ++t) {
      const double expected =
          t < kTokens ? std::exp(double{scores[t] * kScale} - top) / sum : 0;
      ASSERT_NEAR(weights[t] / total, expected, 1e-6) << set->name << ' ' << t;
    }
  }
}

TEST(DemoKernels, the_gated_unit_and_the_norm_follow_their_formulas) {
  auto gate = random_floats(kPanel, 12);
  for (float& g : gate)
    g *= 30;
  gate[0] = 1e30F;
  gate[1] = -1e30F;
  const auto up = random_floats(kPanel, 13);
  for (const Kernels* set : all_kernels()) {
    std::vector<float> out(kPanel);
    set->gated(gate.data(), up.data(), kPanel, out.data());
    for (std::size_t i = 2; i < kPanel; ++i) {
      const double g = gate[i];
      const double expected = g / (1 + std::exp(-g)) * double{up[i]};
      ASSERT_NEAR(out[i], expected, 2e-6 * (1 + std::abs(expected))) << set->name;
    }
    EXPECT_FLOAT_EQ(out[0], 1e30F * up[0]);
    EXPECT_NEAR(out[1], 0.0F, 1e-6F);

    set->rms_norm(up.data(), gate.data() + 0, kPanel, out.data());
    double square = 0;
    for (const float value : up)
      square += double{value} * double{value};
    const double factor = 1 / std::sqrt(square / kPanel + 1e-5);
    for (std::size_t i = 2; i < kPanel; ++i) {
      ASSERT_NEAR(out[i], double{up[i]} * factor * double{gate[i]}, 1e-4) << set->name;
    }
  }
}

// ---- Threads -----------------------------------------------------------------------

TEST(DemoTeam, visits_every_index_once_and_sees_all_that_was_written) {
  for (const unsigned threads : {0U, 1U, 2U, 5U}) {
    Team team(threads);
    std::vector<int> visits(97);
    for (int round = 1; round <= 500; ++round) {
      team.for_each(visits.size(), [&](std::size_t i, unsigned thread) {
        ASSERT_LT(thread, team.threads());
        ++visits[i];  // plain: each index has one thread, and rounds follow each other
      });
      for (const int count : visits)
        ASSERT_EQ(count, round);
    }
  }
}

}  // namespace
}  // namespace speckv::demo

// Classes of gaps and distributions over them, against their definition.
#include "predict/predictor.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace speckv::predict {
namespace {

TEST(ReturnDistribution, classes_are_powers_of_two) {
  EXPECT_EQ(gap_class(0), 0U);
  EXPECT_EQ(gap_class(std::nextafter(1.0, 0.0)), 0U);
  for (std::size_t k = 1; k < kGaps; ++k) {
    const double edge = std::ldexp(1.0, static_cast<int>(k) - 1);
    EXPECT_EQ(gap_class(edge), k);
    EXPECT_EQ(gap_class(std::nextafter(2 * edge, 0.0)), k);
  }
  EXPECT_EQ(gap_class(kLongestGap), kNever);
  EXPECT_EQ(gap_class(std::numeric_limits<double>::infinity()), kNever);
  EXPECT_EQ(gap_class(std::nan("")), kNever);
}

TEST(ReturnDistribution, within_is_a_distribution_function) {
  ReturnDistribution d;
  for (std::size_t k = 0; k < kReturnClasses; ++k)
    d.probability[k] = static_cast<float>(k + 1) / 120.0F;
  EXPECT_EQ(d.within(0), 0);
  EXPECT_EQ(d.within(-3), 0);
  double sum = 0;
  for (std::size_t k = 0; k < kGaps; ++k) {
    sum += static_cast<double>(d.probability[k]);
    EXPECT_NEAR(d.within(std::ldexp(1.0, static_cast<int>(k))), sum, 1e-6);
  }
  double last = 0;
  for (double t = 0.01; t < 20000; t *= 1.01) {
    EXPECT_GE(d.within(t), last);
    last = d.within(t);
  }
  EXPECT_NEAR(d.within(1e9), 105.0 / 120, 1e-6);
  EXPECT_NEAR(d.within(std::sqrt(2.0)), (1 + 0.5 * 2) / 120, 1e-6);  // half of class 1
}

TEST(ReturnDistribution, hazard_forgets_what_did_not_happen) {
  ReturnDistribution d;
  d.probability[3] = 0.5F;  // 4 to 8 s
  d.probability[kNever] = 0.5F;
  EXPECT_NEAR(d.hazard(0, 8), 0.5, 1e-6);
  EXPECT_NEAR(d.hazard(4, 4), 0.5, 1e-6);
  EXPECT_EQ(d.hazard(0, 4), 0);
  EXPECT_EQ(d.hazard(8, 1000), 0);
  EXPECT_NEAR(d.hazard(std::sqrt(32.0), 100), 1.0 / 3, 1e-6);
  ReturnDistribution surely;
  surely.probability[0] = 1;
  EXPECT_EQ(surely.hazard(2, 100), 0);  // it should have come: it is gone
}

}  // namespace
}  // namespace speckv::predict

// When a failing device is left alone, and for how long.
#include "store/breaker.hpp"

#include <gtest/gtest.h>

namespace speckv {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Clock::time_point kStart{std::chrono::hours(1)};

// Opens at `now`; how long until a probe is due, in milliseconds.
long pause_of(Breaker& breaker, Clock::time_point now) {
  breaker.open(now);
  long waited = 0;
  while (!breaker.should_probe(now + milliseconds(waited), seconds(1)))
    ++waited;
  return waited;
}

TEST(Breaker, three_failures_in_a_row_or_one_lost_transfer_open_it) {
  Breaker breaker;
  EXPECT_FALSE(breaker.failed(false));
  EXPECT_FALSE(breaker.failed(false));
  breaker.succeeded();
  EXPECT_FALSE(breaker.failed(false));
  EXPECT_FALSE(breaker.failed(false));
  EXPECT_TRUE(breaker.failed(false));
  EXPECT_TRUE(Breaker().failed(true));
}

TEST(Breaker, a_probe_goes_out_once_and_an_unanswered_one_has_failed) {
  Breaker breaker;
  const long pause = pause_of(breaker, kStart);
  const auto probed = kStart + milliseconds(pause);
  EXPECT_FALSE(breaker.should_probe(probed + milliseconds(1), seconds(1)));
  EXPECT_FALSE(breaker.probe_is_overdue(probed + seconds(1)));
  EXPECT_TRUE(breaker.probe_is_overdue(probed + seconds(1) + milliseconds(1)));
  breaker.probe_failed(probed + seconds(2));
  EXPECT_FALSE(breaker.should_probe(probed + seconds(2), seconds(1)));
  EXPECT_TRUE(breaker.is_open());
}

TEST(Breaker, a_device_that_answers_probes_and_fails_again_is_left_alone_for_longer) {
  Breaker breaker;
  Clock::time_point now = kStart;
  long last = 0;
  for (int i = 0; i < 6; ++i) {
    const long pause = pause_of(breaker, now);
    EXPECT_GE(pause, 2 * last);
    last = pause;
    now += milliseconds(pause);
    breaker.close(now);
    now += seconds(1);
  }
  EXPECT_GE(last, 3200);
  now += seconds(60);  // of good time
  EXPECT_EQ(pause_of(breaker, now), 100);
}

TEST(Breaker, no_pause_is_longer_than_half_a_minute) {
  Breaker breaker;
  breaker.open(kStart);
  for (int i = 0; i < 100; ++i)
    breaker.probe_failed(kStart);
  EXPECT_TRUE(breaker.should_probe(kStart + seconds(30), seconds(1)));
}

}  // namespace
}  // namespace speckv

// The network of return times: that it learns while it is used, is swapped only for a
// gain, is what was saved, and answers the same from scratch as with its state kept.
#include "predict/return_network.hpp"

#include <random>

#include <gtest/gtest.h>

#include "predict/return_predictor.hpp"

namespace speckv::predict {
namespace {

ReturnFeatures features_of(bool quick) {
  ReturnFeatures x{};
  x[quick ? 17 : 18] = 0.9F;
  return x;
}

// Sessions whose returns take class 2 or class 9, as the request BEFORE the last said:
// what only a network with a state can know.
struct Sessions {
  std::mt19937 random{4};

  // Teaches `count` windows; returns how likely the right class was called, on average.
  double run(ReturnNetwork& network, int count) {
    double right = 0;
    int judged = 0;
    for (int i = 0; i < count; ++i) {
      ReturnMemory memory;
      bool before = false;
      const auto session = static_cast<SessionId>(random());
      for (int t = 0; t < 4; ++t) {
        const bool quick = random() % 2 == 0;
        const ReturnDistribution d = network.step(memory, features_of(quick));
        if (t > 0) {
          const std::size_t happened = before ? 2 : 9;
          right += static_cast<double>(d.probability[happened]);
          ++judged;
          memory.window.settle(happened, false);
        }
        before = quick;
      }
      network.teach(session, memory.window);
      network.work();
    }
    return right / judged;
  }
};

TEST(ReturnNetwork, learns_what_only_the_history_tells_and_comes_back_from_a_file) {
  auto network = ReturnNetwork::make({.windows = 512});
  ASSERT_TRUE(network.ok());
  Sessions sessions;
  EXPECT_LT(sessions.run(**network, 20), 0.2);
  sessions.run(**network, 6000);
  EXPECT_GE((*network)->swaps(), 1U);
  EXPECT_EQ((*network)->dropped(), 0U);
  EXPECT_GT(sessions.run(**network, 100), 0.8);
  const auto file = (*network)->save();
  auto loaded = ReturnNetwork::make({.weights = file, .learn = false});
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_GT(sessions.run(**loaded, 100), 0.8);
  EXPECT_EQ((*loaded)->swaps(), 0U);
  EXPECT_EQ((*loaded)->save(), file);
}

TEST(ReturnNetwork, where_nothing_is_known_nothing_is_swapped) {
  auto network = ReturnNetwork::make({.windows = 256});
  ASSERT_TRUE(network.ok());
  ReturnMemory memory;
  memory.window.append(features_of(true));
  // Nothing is known of any of them: there is nothing to learn, and nothing is swapped.
  for (SessionId s = 0; s < 3000; ++s) {
    (*network)->teach(s, memory.window);
    (*network)->work();
  }
  EXPECT_EQ((*network)->swaps(), 0U);
}

TEST(ReturnNetwork, a_state_that_is_stale_is_made_again_from_its_window) {
  const auto network = *ReturnNetwork::make({.learn = false});
  ReturnMemory kept, lost;
  std::mt19937 random(2);
  for (int t = 0; t < 12; ++t) {
    ReturnFeatures x;
    for (float& one : x)
      one = static_cast<float>(random() % 200) / 100 - 1;
    lost.version = 0;  // of other weights
    const auto a = network->step(kept, x), b = network->step(lost, x);
    EXPECT_EQ(a.probability, b.probability) << t;
  }
  EXPECT_EQ(kept.state, lost.state);
}

TEST(ReturnNetwork, learns_on_its_own_thread_and_ends_with_it) {
  auto network = ReturnNetwork::make({.windows = 128, .thread = true});
  ASSERT_TRUE(network.ok());
  const auto predictor = *make_return_predictor({.network = network->get()});
  for (int i = 0; i < 500; ++i) {
    const auto session = static_cast<SessionId>(i % 20);
    predictor->arrived(session, i);
    const ReturnDistribution d = predictor->completed(
        {.session = session, .arrived = 1.0 * i, .completed = i + 0.5});
    ASSERT_NEAR(d.within(kLongestGap) + static_cast<double>(d.probability[kNever]), 1,
                1e-4);
  }
}

TEST(ReturnNetwork, the_weights_of_another_network_are_refused) {
  const auto other = write_weights(random_weights({.inputs = 8, .shortlist = 15}, 1));
  EXPECT_EQ(ReturnNetwork::make({.weights = other}).error().code(),
            Code::invalid_argument);
  const std::byte noise[100] = {};
  EXPECT_EQ(ReturnNetwork::make({.weights = noise}).error().code(), Code::corrupted);
  EXPECT_EQ(ReturnNetwork::make({.windows = 1}).error().code(), Code::invalid_argument);
}

TEST(ReturnFitter, stops_when_nothing_is_gained_and_gives_the_same_for_a_seed) {
  const auto fit = [] {
    ReturnFitter fitter(random_weights(kReturnShape, 1), 2, 128);
    std::mt19937 random(3);
    for (SessionId s = 0; s < 128; ++s) {
      ReturnWindow window;
      window.append(features_of(random() % 2 == 0));
      window.settle(random() % kGaps, s % 3 == 0);
      fitter.add(s, window);
    }
    std::uint32_t epochs = 0;
    const LstmWeights best = fitter.fit(
        40, 2, 4e-3,
        [&](const ReturnFitter::Progress& p) { return (epochs = p.epoch) > 0; });
    EXPECT_LT(epochs, 40U);
    return write_weights(best);
  };
  EXPECT_EQ(fit(), fit());
}

}  // namespace
}  // namespace speckv::predict

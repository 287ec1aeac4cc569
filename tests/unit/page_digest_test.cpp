// Digests of pages: a bound is never below what it bounds, and the pages that are chosen
// hold the attention of heads that look at few places.
#include "predict/page_digest.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace speckv::predict {
namespace {

constexpr std::uint32_t kChannels = 64, kTokens = 16;

std::vector<float> noise(std::mt19937& random, float size) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> v(kChannels);
  for (float& x : v)
    x = normal(random);
  return v;
}

float product(const std::vector<float>& a, const std::vector<float>& b) {
  float sum = 0;
  for (std::size_t c = 0; c < a.size(); ++c)
    sum += a[c] * b[c];
  return sum;
}

TEST(PageDigests, bound_every_key_of_the_page_for_every_query) {
  std::mt19937 random(1);
  PageDigests digests(kChannels, kTokens);
  std::vector<std::vector<float>> keys;
  for (std::uint32_t t = 0; t < 40 * kTokens + 3; ++t) {
    keys.push_back(noise(random, t % 5 == 0 ? 4.0F : 1.0F));
    digests.append(keys.back());
    ASSERT_EQ(digests.pages(), t / kTokens + 1);
  }
  for (int round = 0; round < 50; ++round) {
    const auto query = noise(random, 2);
    for (std::uint32_t t = 0; t < keys.size(); ++t)
      ASSERT_GE(digests.bound(t / kTokens, query) + 1e-3F, product(query, keys[t]));
  }
}

TEST(PageDigests, a_key_that_is_no_number_is_always_taken) {
  PageDigests digests(2, 1);
  const float good[] = {1, 1}, bad[] = {std::nanf(""), 0}, query[] = {0, 1};
  digests.append(good);
  digests.append(bad);
  EXPECT_EQ(digests.bound(1, query), std::numeric_limits<float>::infinity());
  EXPECT_LT(digests.bound(0, query), 2);
}

// Topics come and go: a query is close to the keys of the pages of one topic.
struct Topics {
  std::mt19937 random{7};
  std::vector<std::vector<float>> topic, keys;
  PageDigests digests{kChannels, kTokens};

  explicit Topics(std::uint32_t pages) {
    for (int i = 0; i < 12; ++i)
      topic.push_back(noise(random, 1));
    for (std::uint32_t p = 0; p < pages; ++p) {
      const auto& about = topic[random() % topic.size()];
      for (std::uint32_t t = 0; t < kTokens; ++t) {
        auto key = noise(random, 0.5F);
        for (std::size_t c = 0; c < kChannels; ++c)
          key[c] += about[c];
        digests.append(key);
        keys.push_back(key);
      }
    }
  }
  // Of the softmax over all keys, what lies in these pages.
  double mass(const std::vector<float>& query,
              const std::vector<std::uint32_t>& pages) const {
    double all = 0, within = 0;
    for (std::uint32_t t = 0; t < keys.size(); ++t) {
      const double e = std::exp(static_cast<double>(product(query, keys[t])) / 8);
      all += e;
      if (std::binary_search(pages.begin(), pages.end(), t / kTokens)) within += e;
    }
    return within / all;
  }
};

TEST(PageChoice, holds_the_attention_in_a_quarter_of_the_bytes) {
  constexpr std::uint32_t kPages = 96, kBudget = kPages / 4;
  Topics t(kPages);
  PageChoice choice;
  double rehearsed = 0, newest = 0;
  constexpr int kSteps = 60;
  for (int step = 0; step < kSteps; ++step) {
    auto query = t.topic[static_cast<std::size_t>(step) / 10 % t.topic.size()];
    auto before = query;  // the layer before asks almost the same
    const auto a = noise(t.random, 0.3F), b = noise(t.random, 0.3F);
    for (std::size_t c = 0; c < kChannels; ++c) {
      query[c] = 2 * (query[c] + a[c]);
      before[c] = 2 * (before[c] + b[c]);
    }
    const auto pages = choice.choose(t.digests, before, kBudget);
    ASSERT_EQ(pages.size(), kBudget);
    ASSERT_TRUE(std::is_sorted(pages.begin(), pages.end()));
    ASSERT_EQ(std::adjacent_find(pages.begin(), pages.end()), pages.end());
    ASSERT_EQ(pages.back(), kPages - 1);
    rehearsed += t.mass(query, pages) / kSteps;
    std::vector<std::uint32_t> window(kBudget);
    for (std::uint32_t i = 0; i < kBudget; ++i)
      window[i] = kPages - kBudget + i;
    newest += t.mass(query, window) / kSteps;
  }
  EXPECT_GE(rehearsed, 0.9);
  EXPECT_LT(newest, 0.6);  // a sliding window of the same bytes
}

TEST(PageChoice, takes_all_where_there_is_room_and_what_was_taken_lately) {
  PageDigests digests(1, 1);
  PageChoice choice;
  for (int i = 0; i < 8; ++i) {
    const float key = i == 2 ? 9.0F : i == 5 ? -9.0F : 0.1F;
    digests.append({&key, 1});
  }
  const float up = 1, down = -1;
  EXPECT_EQ(choice.choose(digests, {&up, 1}, 8).size(), 8U);
  const auto first = choice.choose(digests, {&up, 1}, 4);
  EXPECT_TRUE(std::binary_search(first.begin(), first.end(), 2U));
  const auto second = choice.choose(digests, {&down, 1}, 4);
  EXPECT_TRUE(std::binary_search(second.begin(), second.end(), 5U));
  std::vector<std::uint32_t> kept;
  std::set_intersection(first.begin(), first.end(), second.begin(), second.end(),
                        std::back_inserter(kept));
  EXPECT_GE(kept.size(), 2U);
}

}  // namespace
}  // namespace speckv::predict

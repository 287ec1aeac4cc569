// The block directory and its scorer against a model that shares no code with them.
#include "engine/directory.hpp"

#include <cmath>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace speckv::engine {
namespace {

// ---- The score, from its definition ---------------------------------------------------

// L(d) of docs/queue-protocol.md by real logarithms: exact but for the four bits.
std::uint32_t reference_log(std::uint64_t d) {
  const double n = static_cast<double>(std::min<std::uint64_t>(d, 65535)) + 1;
  const double e = std::floor(std::log2(n));
  const double fraction = std::floor((n / std::exp2(e) - 1) * 16);
  return static_cast<std::uint32_t>(std::min(16 * e + fraction, 255.0));
}

TEST(Score, distances_have_their_logarithm_and_never_less_with_more) {
  std::uint32_t last = 0;
  for (std::uint32_t d = 0; d < 200000; ++d) {
    const std::uint32_t is = log_distance(d);
    ASSERT_EQ(is, reference_log(d)) << d;
    ASSERT_GE(is, last);
    last = is;
  }
  EXPECT_EQ(log_distance(0), 0U);
  EXPECT_EQ(log_distance(0xFFFFFFFF), 255U);
}

TEST(Score, is_the_weighted_sum_and_never_leaves_its_bits) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200000; ++i) {
    const auto byte = [&] { return static_cast<std::uint8_t>(random()); };
    const Weights w{byte(), byte(), byte(), byte(), 1, 255, 0};
    Use use;
    const auto step = static_cast<std::uint32_t>(random());
    const auto near = [&] {
      return static_cast<std::uint32_t>(random() >> random() % 32);
    };
    use.last = step - near() % (1U << 31);
    use.due = random() % 2 == 0 ? step + near() % (1U << 30) : step - near() % (1U << 30);
    use.freq = byte();
    use.refs = byte();
    use.has_due = random() % 2;
    const std::uint64_t age = static_cast<std::uint32_t>(step - use.last);
    const std::int64_t away = static_cast<std::int32_t>(use.due - step);
    const std::uint64_t r = 255 - reference_log(age);
    const std::uint64_t f = age / 64 > 8 ? 0 : use.freq / (1U << age / 64);
    const std::uint64_t s =
        use.has_due != 0 ? 255 - reference_log(static_cast<std::uint64_t>(std::abs(away)))
                         : 0;
    const std::uint64_t d = std::min(255U, 64U * use.refs);
    ASSERT_EQ(use.score(w, step),
              w.recency * r + w.frequency * f + w.step * s + w.durability * d);
    ASSERT_LT(use.score(w, step), 1U << 18);
    use.evictable = 1;
    ASSERT_EQ(use.score(w, step), 0U);
  }
  // The defaults tell a block that was just used from one that was long forgotten, and
  // call neither a victim nor a candidate for prefetching without reason.
  Use fresh;
  fresh.touch(0);
  EXPECT_FALSE(
      below(fresh.score(kDefaultWeights, 0), kDefaultWeights.evict, kDefaultWeights));
  EXPECT_TRUE(
      below(fresh.score(kDefaultWeights, 0), kDefaultWeights.prefetch, kDefaultWeights));
  EXPECT_TRUE(
      below(fresh.score(kDefaultWeights, 5000), kDefaultWeights.evict, kDefaultWeights));
  fresh.expect(2);
  EXPECT_FALSE(
      below(fresh.score(kDefaultWeights, 0), kDefaultWeights.prefetch, kDefaultWeights));
}

// ---- The directory
// ---------------------------------------------------------------------

struct Key {
  std::uint32_t tenant, request, page;
  std::uint16_t layer;
  std::uint8_t head;
  auto operator<=>(const Key&) const = default;
};
struct Block {
  std::uint32_t tokens = 0, refs = 0;
};

class DirectoryModel : public testing::Test {
 protected:
  KvAddress address(const Key& key) const {
    return {key.request, key.layer, key.head, key.page * 64, KvKind::key};
  }
  bool is_there(const Key& key) {
    const std::uint64_t hits = counters_[Counter::directory_hits];
    const bool found = directory_.contains(key.tenant, address(key));
    EXPECT_EQ(counters_[Counter::directory_hits] - hits, found ? 1U : 0U);
    return found;
  }

  Counters counters_;
  Directory directory_{256, counters_};
};

// Fewer blocks than any set can hold: nothing is ever displaced, so the model is exact.
TEST_F(DirectoryModel, random_operations_agree_with_a_map) {
  std::mt19937_64 random(2);
  std::map<Key, Block> model;
  const auto any = [&] {
    return Key{static_cast<std::uint32_t>(random() % 2),
               static_cast<std::uint32_t>(random() % 3),
               static_cast<std::uint32_t>(random() % 2),
               static_cast<std::uint16_t>(random() % 2), 0};
  };
  for (int i = 0; i < 200000; ++i) {
    const Key key = any();
    auto it = model.find(key);
    const auto hint = [&](Hint h) {
      return directory_.hint(key.tenant, h, address(key), 1, 0).answer;
    };
    switch (random() % 6) {
      case 0: {
        const auto tokens = static_cast<std::uint32_t>(1 + random() % 64);
        ASSERT_TRUE(directory_.insert(key.tenant, address(key), tokens));
        model[key].tokens = tokens;
        break;
      }
      case 1:
        ASSERT_EQ(hint(Hint::forget), it == model.end()      ? Answer::not_found
                                      : it->second.refs != 0 ? Answer::busy
                                                             : Answer::ok);
        if (it != model.end() && it->second.refs == 0) model.erase(it);
        break;
      case 2:
        ASSERT_EQ(hint(Hint::share), it == model.end() ? Answer::not_found : Answer::ok);
        if (it != model.end()) ++it->second.refs;
        if (it != model.end() && it->second.refs > 200) {
          directory_.drop(key.tenant, address(key));
          model.erase(it);
        }
        break;
      case 3:
      case 4: {
        const bool held = it != model.end() && it->second.refs != 0;
        ASSERT_EQ(hint(Hint::unshare), held ? Answer::ok : Answer::not_found);
        if (held) --it->second.refs;
        break;
      }
      default: {
        KvAddress token = address(key);
        const auto within = static_cast<std::uint32_t>(random() % 64);
        token.position += within;
        const auto has = [&](std::uint32_t request) {
          Key other = key;
          other.request = request;
          const auto found = model.find(other);
          return found != model.end() && within < found->second.tokens;
        };
        ASSERT_EQ(directory_.contains(key.tenant, token), has(key.request) || has(0));
      }
    }
    if (i % 1000 != 0) continue;
    for (std::uint32_t tenant = 0; tenant < 2; ++tenant) {
      std::uint32_t blocks = 0, shared = 0;
      for (const auto& [k, block] : model) {
        if (k.tenant != tenant) continue;
        ++blocks;
        if (block.refs != 0) ++shared;
      }
      const Telemetry told = directory_.telemetry(tenant);
      ASSERT_EQ(told.blocks, blocks);
      ASSERT_EQ(told.shared, shared);
    }
  }
}

TEST_F(DirectoryModel,
       a_full_directory_gives_up_only_the_tenants_own_unreferenced_blocks) {
  std::mt19937_64 random(3);
  std::set<Key> held, theirs;
  for (std::uint32_t i = 0; i < 60; ++i) {
    const Key other{1, i, 0, 0, 0};
    ASSERT_TRUE(directory_.insert(1, address(other), 64));
    theirs.insert(other);
  }
  std::uint32_t refused = 0;
  for (std::uint32_t i = 0; i < 20000; ++i) {
    const Key key{0, static_cast<std::uint32_t>(random()), i % 7, 3, 9};
    const bool placed = directory_.insert(0, address(key), 64);
    if (!placed) {
      ++refused;
      EXPECT_FALSE(is_there(key));
      continue;
    }
    ASSERT_TRUE(is_there(key));
    if (held.size() < 100 && random() % 50 == 0) {
      ASSERT_EQ(directory_.hint(0, Hint::share, address(key), 64, 0).answer, Answer::ok);
      held.insert(key);
    }
    if (i % 500 == 0) directory_.advance(0, i);
  }
  for (const Key& key : held)
    EXPECT_TRUE(is_there(key));
  for (const Key& key : theirs)
    EXPECT_TRUE(is_there(key));
  const Telemetry mine = directory_.telemetry(0);
  EXPECT_EQ(mine.refused, refused);
  EXPECT_EQ(mine.inserted, mine.blocks + mine.replaced);
  EXPECT_GT(mine.replaced, 10000U);
  EXPECT_EQ(directory_.telemetry(1).replaced, 0U);
}

TEST_F(DirectoryModel, a_quota_bounds_a_tenant_and_what_scores_least_goes) {
  DirectorySettings settings;
  settings.quota = 20;
  directory_.renew(settings);
  for (std::uint32_t i = 0; i < 500; ++i)
    (void)directory_.insert(0, address({0, i, 0, 0, 0}), 64);
  const Telemetry told = directory_.telemetry(0);
  EXPECT_LE(told.blocks, 20U);
  EXPECT_EQ(told.inserted - told.replaced, told.blocks);
  EXPECT_GT(told.refused, 0U);
  EXPECT_TRUE(directory_.insert(1, address({1, 0, 0, 0, 0}), 64));
}

// After a reset nothing of before is found (the published RTL had stale hits and X).
TEST_F(DirectoryModel, a_renewed_directory_is_empty) {
  for (std::uint32_t i = 0; i < 300; ++i)
    (void)directory_.insert(i % 64, address({i % 64, i, i, 1, 2}), 64);
  (void)directory_.advance(3, 77);
  directory_.renew(DirectorySettings{});
  for (std::uint32_t i = 0; i < 300; ++i)
    ASSERT_FALSE(is_there({i % 64, i, i, 1, 2}));
  for (std::uint32_t tenant = 0; tenant < kMaxTenants; ++tenant) {
    const Telemetry told = directory_.telemetry(tenant);
    EXPECT_EQ(told.blocks + told.inserted + told.step + told.waiting_victims, 0U);
  }
}

// Blocks whose scores are equal are not taken for each other: a lookup compares names.
TEST_F(DirectoryModel, blocks_of_equal_score_are_found_by_name) {
  std::set<Key> in;
  for (std::uint32_t i = 0; i < 40; ++i) {
    const Key key{0, 1 + i % 5, i / 5, static_cast<std::uint16_t>(i % 2), 0};
    ASSERT_TRUE(directory_.insert(0, address(key), 64));
    in.insert(key);
  }
  for (std::uint32_t request = 1; request < 7; ++request)
    for (std::uint32_t page = 0; page < 10; ++page)
      for (std::uint16_t layer = 0; layer < 3; ++layer) {
        const Key key{0, request, page, layer, 0};
        EXPECT_EQ(is_there(key), in.contains(key));
      }
}

TEST(Directory, holds_as_many_blocks_as_it_has_entries_but_for_a_few_sets) {
  Counters counters;
  Directory directory(kMaxDirectoryEntries, counters);
  std::mt19937_64 random(4);
  std::uint32_t placed = 0;
  while (placed < kMaxDirectoryEntries / 2) {
    ++placed;
    ASSERT_TRUE(directory.insert(0, {static_cast<std::uint32_t>(random()), 1, 1, 0}, 64));
  }
  const Telemetry told = directory.telemetry(0);
  EXPECT_EQ(told.refused, 0U);
  // Names spread as evenly as chance does: then 3.8 % find their set full at half load.
  EXPECT_GT(told.replaced, placed * 33 / 1000);
  EXPECT_LT(told.replaced, placed * 43 / 1000);
}

}  // namespace
}  // namespace speckv::engine

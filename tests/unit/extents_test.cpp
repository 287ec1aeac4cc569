// The allocator against a map of bits.
#include "store/extents.hpp"

#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace speckv {
namespace {

class ExtentsUnderTest {
 public:
  ExtentsUnderTest(std::uint32_t units, std::uint32_t records)
      : nodes_(records), extents_(header_, nodes_.data(), records), taken_(units) {
    extents_.format(units);
  }

  bool allocate(std::uint32_t units) {
    const std::uint32_t n = extents_.allocate(units, 1);
    EXPECT_EQ(n != kNone, longest_gap() >= units) << units << " units";
    if (n == kNone) return false;
    EXPECT_EQ(nodes_[n].units, units);
    EXPECT_EQ(nodes_[n].state, NodeState::filling);
    mark(nodes_[n].offset, units, true);
    held_[n] = {nodes_[n].offset, units};
    return true;
  }
  void trim(std::uint32_t n, std::uint32_t units) {
    extents_.trim(n, units);
    auto& [offset, had] = held_[n];
    if (units == 0 || units >= had) return;
    mark(offset + units, had - units, false);
    had = units;
  }
  void release(std::uint32_t n) {
    extents_.release(n);
    mark(held_[n].offset, held_[n].units, false);
    held_.erase(n);
  }
  void rebuild() {
    // What a death in the middle of anything may leave: derived parts that are garbage.
    for (Node& node : nodes_)
      if (node.state == NodeState::filling) node.before = node.after = 12345;
    header_.used_units = 777;
    header_.unused = 3;
    for (auto& head : header_.heads)
      head = 5;
    EXPECT_EQ(extents_.rebuild(static_cast<std::uint32_t>(taken_.size())), 0U);
  }

  // What the records say agrees with the bits.
  void check() {
    std::vector<bool> seen(taken_.size());
    std::uint32_t used = 0;
    for (const auto& [n, extent] : held_) {
      ASSERT_EQ(nodes_[n].offset, extent.offset);
      ASSERT_EQ(nodes_[n].units, extent.units);
      used += extent.units;
      for (std::uint32_t i = 0; i < extent.units; ++i)
        seen[extent.offset + i] = true;
    }
    ASSERT_EQ(seen, taken_);
    ASSERT_EQ(extents_.used_units(), used);
  }

  std::uint32_t any(std::mt19937_64& random) const {
    auto it = held_.begin();
    std::advance(it, static_cast<long>(random() % held_.size()));
    return it->first;
  }
  std::uint32_t units_of(std::uint32_t n) const { return held_.at(n).units; }
  bool empty() const { return held_.empty(); }
  std::uint32_t used() const { return extents_.used_units(); }

 private:
  struct Extent {
    std::uint32_t offset, units;
  };
  void mark(std::uint32_t offset, std::uint32_t units, bool taken) {
    for (std::uint32_t i = 0; i < units; ++i) {
      ASSERT_NE(taken_[offset + i], taken) << "unit " << offset + i;
      taken_[offset + i] = taken;
    }
  }
  std::uint32_t longest_gap() const {
    std::uint32_t longest = 0, run = 0;
    for (const bool taken : taken_) {
      run = taken ? 0 : run + 1;
      longest = std::max(longest, run);
    }
    return longest;
  }

  ExtentHeader header_{};
  std::vector<Node> nodes_;
  Extents extents_;
  std::vector<bool> taken_;
  std::map<std::uint32_t, Extent> held_;
};

TEST(Extents, agree_with_a_map_of_bits_whatever_is_done_to_them) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::mt19937_64 random(seed);
    ExtentsUnderTest extents(700, 1500);
    const auto largest = static_cast<std::uint32_t>(1 + random() % 90);
    for (int i = 0; i < 2000; ++i) {
      const std::uint64_t dice = random() % 100;
      if (dice < 50) {
        extents.allocate(static_cast<std::uint32_t>(1 + random() % largest));
      } else if (extents.empty()) {
        continue;
      } else if (dice < 90) {
        extents.release(extents.any(random));
      } else if (dice < 98) {
        const std::uint32_t n = extents.any(random);
        extents.trim(n, static_cast<std::uint32_t>(random() % (extents.units_of(n) + 2)));
      } else {
        extents.rebuild();
      }
      if (i % 50 == 0) extents.check();
    }
    extents.check();
    while (!extents.empty())
      extents.release(extents.any(random));
    EXPECT_EQ(extents.used(), 0U);
    EXPECT_TRUE(extents.allocate(700)) << "what is free was not merged, seed " << seed;
  }
}

TEST(Extents, a_full_tier_takes_exactly_what_is_given_back) {
  ExtentsUnderTest extents(64 * 9, 200);
  for (int i = 0; i < 64; ++i)
    ASSERT_TRUE(extents.allocate(9));
  EXPECT_FALSE(extents.allocate(1));
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    extents.release(extents.any(random));
    ASSERT_TRUE(extents.allocate(9));
    ASSERT_FALSE(extents.allocate(1));
  }
  extents.check();
}

TEST(Extents, refuse_nothing_and_too_much) {
  ExtentsUnderTest extents(10, 20);
  ExtentHeader header{};
  std::vector<Node> nodes(4);
  Extents raw(header, nodes.data(), 4);
  raw.format(10);
  EXPECT_EQ(raw.allocate(0, 1), kNone);
  EXPECT_EQ(raw.allocate(11, 1), kNone);
  EXPECT_EQ(raw.allocate(0xFFFFFFFF, 1), kNone);
  EXPECT_NE(raw.allocate(10, 1), kNone);
}

TEST(Extents, out_of_records_a_block_keeps_the_rest_of_its_extent) {
  ExtentHeader header{};
  std::vector<Node> nodes(2);
  Extents extents(header, nodes.data(), 2);
  extents.format(100);
  const std::uint32_t first = extents.allocate(10, 1);
  const std::uint32_t second = extents.allocate(10, 1);
  ASSERT_NE(first, kNone);
  ASSERT_NE(second, kNone);
  EXPECT_EQ(nodes[second].units, 90U);
  EXPECT_EQ(extents.used_units(), 100U);
  extents.release(second);
  extents.release(first);
  EXPECT_EQ(extents.used_units(), 0U);
  EXPECT_NE(extents.allocate(100, 1), kNone);
}

TEST(Extents, a_rebuild_drops_what_cannot_be_right) {
  ExtentHeader header{};
  std::vector<Node> nodes(10);
  Extents extents(header, nodes.data(), 10);
  extents.format(100);
  const auto claim = [&](std::uint32_t n, std::uint32_t offset, std::uint32_t units) {
    Node& node = extents.claim(n);
    node.offset = offset;
    node.units = units;
    node.state = NodeState::resident;
  };
  claim(1, 10, 20);
  claim(2, 25, 10);           // overlaps
  claim(3, 90, 20);           // leaves the tier
  claim(4, 0xFFFFFFF0, 100);  // wraps
  claim(5, 50, 0);            // is nothing
  claim(6, 60, 40);
  EXPECT_EQ(extents.rebuild(100), 4U);
  EXPECT_EQ(extents.used_units(), 60U);
  EXPECT_EQ(nodes[1].state, NodeState::resident);
  EXPECT_EQ(nodes[6].state, NodeState::resident);
  EXPECT_NE(extents.allocate(30, 1), kNone);
  EXPECT_NE(extents.allocate(10, 1), kNone);
  EXPECT_EQ(extents.allocate(1, 1), kNone);
}

}  // namespace
}  // namespace speckv

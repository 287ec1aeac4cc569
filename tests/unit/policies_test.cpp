// Each policy against the algorithm as its paper states it, written with the standard
// library's lists: as many hits on the same requests, and more than LRU where its authors
// say so.
#include <cmath>
#include <functional>
#include <list>
#include <random>
#include <unordered_map>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/tier.hpp"

namespace speckv {
namespace {

using Requests = std::vector<std::uint64_t>;

class NoPins final : public PinnedSlots {
 public:
  bool contains(Slot) const noexcept override { return false; }
};

// A cache of `capacity` blocks that does what a tier does; the hits of all requests.
std::size_t hits_of(std::string_view name, const Requests& requests,
                    std::uint32_t capacity) {
  const auto policy = make_policy(name);
  std::vector<std::uint64_t> state(policy->state_bytes(capacity) / 8 + 8);
  policy->bind(std::as_writable_bytes(std::span(state)), capacity, true);
  std::unordered_map<std::uint64_t, Slot> where;
  std::vector<std::uint64_t> holds(capacity);
  std::size_t hits = 0;
  for (const std::uint64_t block : requests) {
    if (const auto found = where.find(block); found != where.end()) {
      policy->touched(found->second);
      ++hits;
      continue;
    }
    Slot slot{static_cast<std::uint32_t>(where.size())};
    if (where.size() == capacity) {
      slot = *policy->victim(NoPins());
      policy->emptied(slot);
      where.erase(holds[static_cast<std::uint32_t>(slot)]);
    }
    holds[static_cast<std::uint32_t>(slot)] = block;
    where[block] = slot;
    policy->filled(slot, block);
  }
  return hits;
}

// An ordered set of blocks, the newest at the front.
class Queue {
 public:
  bool contains(std::uint64_t block) const { return at_.contains(block); }
  std::size_t size() const { return order_.size(); }
  void push(std::uint64_t block) {
    order_.push_front(block);
    at_[block] = order_.begin();
  }
  void erase(std::uint64_t block) {
    order_.erase(at_.at(block));
    at_.erase(block);
  }
  std::uint64_t pop() {
    const std::uint64_t oldest = order_.back();
    erase(oldest);
    return oldest;
  }

 private:
  std::list<std::uint64_t> order_;
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> at_;
};

// Algorithm 1 of the S3-FIFO paper, but that what comes is looked up after the eviction.
std::size_t s3fifo_hits(const Requests& requests, std::size_t capacity) {
  Queue small, main, ghost;
  std::unordered_map<std::uint64_t, int> freq;
  std::size_t hits = 0;
  const auto evict_main = [&] {
    for (;;) {
      const std::uint64_t block = main.pop();
      if (freq[block] == 0) return;
      --freq[block];
      main.push(block);
    }
  };
  const auto evict_small = [&] {
    while (small.size() > 0) {
      const std::uint64_t block = small.pop();
      if (freq[block] <= 1) {
        ghost.push(block);
        if (ghost.size() > capacity * 9 / 10) ghost.pop();
        return;
      }
      freq[block] = 0;
      main.push(block);
    }
    evict_main();
  };
  for (const std::uint64_t block : requests) {
    if (small.contains(block) || main.contains(block)) {
      freq[block] = std::min(freq[block] + 1, 3);
      ++hits;
      continue;
    }
    if (small.size() + main.size() >= capacity) {
      if (small.size() * 10 >= capacity) {
        evict_small();
      } else {
        evict_main();
      }
    }
    const bool was_ghost = ghost.contains(block);
    if (was_ghost) ghost.erase(block);
    freq[block] = 0;
    (was_ghost ? main : small).push(block);
  }
  return hits;
}

// ARC(c) of the ARC paper, figure 4.
std::size_t arc_hits(const Requests& requests, std::size_t c) {
  Queue t1, t2, b1, b2;
  double p = 0;
  std::size_t hits = 0;
  const auto size = [](const Queue& queue) { return static_cast<double>(queue.size()); };
  const auto replace = [&](bool in_b2) {
    if (t1.size() > 0 && (size(t1) > p || (in_b2 && size(t1) == p))) {
      b1.push(t1.pop());
    } else {
      b2.push(t2.pop());
    }
  };
  for (const std::uint64_t block : requests) {
    if (t1.contains(block) || t2.contains(block)) {
      ++hits;
      (t1.contains(block) ? t1 : t2).erase(block);
      t2.push(block);
    } else if (b1.contains(block)) {
      p = std::min(static_cast<double>(c), p + std::max(size(b2) / size(b1), 1.0));
      replace(false);
      b1.erase(block);
      t2.push(block);
    } else if (b2.contains(block)) {
      p = std::max(0.0, p - std::max(size(b1) / size(b2), 1.0));
      replace(true);
      b2.erase(block);
      t2.push(block);
    } else {
      const std::size_t l1 = t1.size() + b1.size(), all = l1 + t2.size() + b2.size();
      if (l1 == c) {
        if (t1.size() < c) {
          b1.pop();
          replace(false);
        } else {
          t1.pop();
        }
      } else if (all >= c) {
        if (all == 2 * c) b2.pop();
        replace(false);
      }
      t1.push(block);
    }
  }
  return hits;
}

// Popularity by rank to the power of -0.9, and now and then a run of blocks that never
// return.
Requests popular_with_scans(std::uint64_t seed) {
  constexpr std::size_t kBlocks = 20000, kRequests = 300000;
  std::vector<double> weights(kBlocks);
  for (std::size_t i = 0; i < kBlocks; ++i)
    weights[i] = std::pow(static_cast<double>(i + 1), -0.9);
  std::discrete_distribution<std::uint64_t> popular(weights.begin(), weights.end());
  std::mt19937_64 random(seed);
  const auto name_of = [](std::uint64_t n) { return n * 0x9E3779B97F4A7C15; };
  Requests requests;
  for (std::uint64_t once = kBlocks; requests.size() < kRequests;) {
    if (random() % 2000 != 0) {
      requests.push_back(name_of(popular(random)));
      continue;
    }
    for (int i = 0; i < 1000; ++i)
      requests.push_back(name_of(once++));
  }
  return requests;
}

// ARC's share is adapted a moment later here than in the paper, which is worth a few
// hits.
struct Case {
  const char* name;
  double tolerance;  // of the hits
  std::size_t (*textbook)(const Requests&, std::size_t);
};

class AgainstThePaper : public testing::TestWithParam<Case> {};

TEST_P(AgainstThePaper, hits_as_often_and_more_often_than_lru) {
  const Requests requests = popular_with_scans(1);
  for (const std::uint32_t capacity : {200U, 1000U, 4000U}) {
    const std::size_t ours = hits_of(GetParam().name, requests, capacity);
    const std::size_t theirs = GetParam().textbook(requests, capacity);
    const std::size_t lru = hits_of("lru", requests, capacity);
    EXPECT_NEAR(static_cast<double>(ours), static_cast<double>(theirs),
                GetParam().tolerance * static_cast<double>(theirs))
        << capacity;
    EXPECT_GT(ours, lru + lru / 50) << capacity;
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, AgainstThePaper,
                         testing::Values(Case{"s3fifo", 0.0, s3fifo_hits},
                                         Case{"arc", 0.02, arc_hits}),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(Lfu, gives_up_what_was_used_least_and_forgets_counts_in_time) {
  const auto policy = make_policy("lfu");
  std::vector<std::uint64_t> state(policy->state_bytes(4) / 8 + 8);
  policy->bind(std::as_writable_bytes(std::span(state)), 4, true);
  for (std::uint32_t n = 0; n < 4; ++n)
    policy->filled(Slot{n}, n);
  for (int i = 0; i < 6; ++i)
    policy->touched(Slot{0});
  policy->touched(Slot{1});
  policy->touched(Slot{3});
  EXPECT_EQ(policy->victim(NoPins()), Slot{2});
  policy->touched(Slot{2});
  EXPECT_EQ(policy->victim(NoPins()), Slot{1}) << "of three with two uses, the oldest";
  // Slot 0 is used no more; after a few halvings the others have overtaken it.
  for (int i = 0; i < 200; ++i)
    policy->touched(Slot{static_cast<std::uint32_t>(1 + i % 3)});
  EXPECT_EQ(policy->victim(NoPins()), Slot{0});
}

}  // namespace
}  // namespace speckv

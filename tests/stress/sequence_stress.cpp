// Several threads grow, fork, cut and read sequences that together are far larger than
// the fast tier. Every view shows the rows that were written.
#include <thread>

#include "support/invariants.hpp"
#include "support/sample.hpp"
#include "support/sequence_rows.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using Kind = HeapDevice::Kind;

class SequenceWorker {
 public:
  SequenceWorker(BlockStore& store, std::uint64_t seed) : store_(store), random_(seed) {}

  bool step() {
    const std::uint64_t dice = random_() % 100;
    if (held_.empty() || (dice < 5 && held_.size() < 5)) {
      begin();
    } else if (dice < 50) {
      grow(any());
    } else if (dice < 75) {
      look(any());
    } else if (dice < 82 && held_.size() < 6) {
      fork(any());
    } else if (dice < 90) {
      cut(any());
    } else if (dice < 95) {
      (void)any().sequence->stage();
    } else {
      std::swap(any(), held_.back());
      held_.pop_back();
    }
    return ok_;
  }

  std::uint64_t views() const { return views_; }

 private:
  struct Held {
    std::unique_ptr<Sequence> sequence;
    std::vector<std::uint32_t> tokens;
  };
  Held& any() { return held_[random_() % held_.size()]; }
  void expect(const Status& status, const char* what) {
    // The fast tier may be full of what others view.
    if (status.ok() || status.code() == Code::no_space || !ok_) return;
    ok_ = false;
    ADD_FAILURE() << what << ": " << status.message();
  }

  void begin() {
    Held held{*Sequence::create(store_, {}), {}};
    // Few different beginnings, so that sequences find each other's blocks.
    const auto first = static_cast<std::uint32_t>(random_() % 4);
    std::vector<std::uint32_t> tokens(random_() % 60);
    for (std::uint32_t i = 0; i < tokens.size(); ++i)
      tokens[i] = first * 1000 + i;
    const auto adopted = held.sequence->adopt(tokens);
    if (!adopted) return expect(adopted.error(), "adopt");
    held.tokens.assign(tokens.begin(), tokens.begin() + *adopted);
    held_.push_back(std::move(held));
  }
  void grow(Held& held) {
    std::vector<std::uint32_t> more(random_() % 24);
    for (std::uint32_t i = 0; i < more.size(); ++i)
      more[i] =
          static_cast<std::uint32_t>(held.tokens.size() + i + 1000 * (random_() % 2));
    if (held.tokens.size() + more.size() > 130) return cut(held);
    expect(append_rows(*held.sequence, small_layout(), more), "append");
    held.tokens.insert(
        held.tokens.end(), more.begin(),
        more.begin() + static_cast<long>(held.sequence->size() - held.tokens.size()));
  }
  void look(Held& held) {
    auto view = held.sequence->view();
    if (!view) return expect(view.error(), "view");
    ++views_;
    const std::string wrong = wrong_rows(*view, small_layout(), held.tokens);
    if (!wrong.empty() || view->tokens() != held.tokens.size())
      expect({Code::internal, wrong}, "wrong rows");
  }
  void fork(Held& held) {
    auto other = held.sequence->fork();
    if (!other) return expect(other.error(), "fork");
    std::vector<std::uint32_t> tokens = held.tokens;
    held_.push_back({*std::move(other), std::move(tokens)});
  }
  void cut(Held& held) {
    const auto size = static_cast<std::uint32_t>(random_() % (held.tokens.size() + 1));
    const Status cut = held.sequence->truncate(size);
    expect(cut, "truncate");
    if (cut.ok()) held.tokens.resize(size);
  }

  BlockStore& store_;
  std::mt19937_64 random_;
  std::vector<Held> held_;
  std::uint64_t views_ = 0;
  bool ok_ = true;
};

class SequenceStress : public testing::TestWithParam<Kind> {};

TEST_P(SequenceStress, every_view_shows_what_was_written) {
  const std::uint64_t block = frame_bytes(small_layout());
  auto fast = std::make_shared<HeapDevice>(60 * block, Kind::memory);
  auto below = std::make_shared<HeapDevice>(4 << 20, GetParam());
  fast->mutable_info().timeout = below->mutable_info().timeout = std::chrono::seconds(3);
  StoreOptions options;
  options.layouts = {small_layout()};
  options.tiers.push_back(tier_on("fast", fast));
  options.tiers.push_back(tier_on("below", below));
  auto opened = BlockStore::open(std::move(options));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  BlockStore& store = **opened;
  std::atomic<std::uint64_t> views{0};
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t i = 0; i < 4; ++i)
      threads.emplace_back([&store, &views, i] {
        SequenceWorker worker(store, i);
        for (std::uint64_t n = sampled(scaled(40000)); n > 0 && worker.step(); --n) {}
        views += worker.views();
      });
  }
  std::vector<BlockKey> keys;
  for (std::uint32_t s = 0; s < kShards; ++s)
    store.impl().table->list_keys(s, keys);
  EXPECT_EQ(check_invariants(store), "");
  (void)store.erase(keys);
  EXPECT_EQ(check_invariants(store), "");
  EXPECT_EQ(used_bytes(store), 0U);
  EXPECT_GT(views, sampled(scaled(20000)));
  EXPECT_EQ(store.stats(0).corrupted + store.stats(1).corrupted, 0U);
}
std::string name_of(const testing::TestParamInfo<Kind>& kind) {
  const char* const names[] = {"memory", "persistent_memory", "disk", "volatile_disk"};
  return names[static_cast<int>(kind.param)];
}
INSTANTIATE_TEST_SUITE_P(Below, SequenceStress,
                         testing::Values(Kind::memory, Kind::volatile_disk, Kind::disk,
                                         Kind::persistent_memory),
                         name_of);

}  // namespace
}  // namespace speckv::test

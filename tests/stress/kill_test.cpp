// kill -9 while saving into a pool: what had been reported saved is found again.
#include <csignal>
#include <set>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "cxlspeckv/open_store.hpp"

#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

// Fewer than the pool holds, so that nothing is evicted.
constexpr std::uint64_t kBlocks = 160;

struct Report {
  std::uint64_t block;
  bool saved;  // or: about to be erased
};

struct Shape {
  const char* name;
  const char* fast;  // a tier above the pool, or null
  const char* scheme;
  friend void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }
};

class Kill : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "speckv-kill-" + std::to_string(getpid());
    config_.layouts = BlockPool::layouts();
    if (GetParam().fast != nullptr) config_.tiers.push_back({.device = GetParam().fast});
    config_.tiers.push_back(
        {.device = std::string(GetParam().scheme) + ":" + path_ + "?size=4M"});
  }
  void TearDown() override { (void)unlink(path_.c_str()); }

  [[noreturn]] void be_child(std::uint64_t seed, int out) {
    auto store = open_store(config_);
    if (!store.ok()) {
      std::fprintf(stderr, "%s\n", store.error().message().c_str());
      _exit(3);
    }
    const BlockPool pool(kBlocks);
    std::vector<std::byte> memory(BlockPool::layout(0).bytes());
    const RegionId region = *(*store)->attach(memory);
    TransferOptions options;
    options.durable = true;
    const Report opened{kBlocks, true};
    (void)!write(out, &opened, sizeof opened);
    for (std::mt19937_64 random(seed);;) {
      Report report{random() % kBlocks, random() % 4 != 0};
      const BlockKey key = pool.key(report.block);
      if (!report.saved) {
        (void)!write(out, &report, sizeof report);
        (void)(*store)->erase({&key, 1});
        continue;
      }
      const Bytes bytes = pool.bytes(report.block);
      std::copy(bytes.begin(), bytes.end(), memory.begin());
      const Segment where{region, 0, bytes.size()};
      const BlockTransfer transfer{
          key, {&where, 1}, 0, LayoutId{BlockPool::layout_id(report.block)}};
      Operation op = (*store)->save({&transfer, 1}, options);
      if (!op.wait().ok()) _exit(4);
      (void)!write(out, &report, sizeof report);
    }
  }

  // Every block that must be there is, and none is wrong.
  void check(const std::set<std::uint64_t>& promised, std::uint64_t round) {
    auto store = open_store(config_);
    ASSERT_TRUE(store.ok()) << store.error().message();
    const BlockPool pool(kBlocks);
    std::vector<std::byte> memory(BlockPool::layout(0).bytes());
    const RegionId region = *(*store)->attach(memory);
    for (std::uint64_t n = 0; n < kBlocks; ++n) {
      const BlockKey key = pool.key(n);
      const bool matched = (*store)->match({&key, 1}) == 1;
      EXPECT_TRUE(matched || !promised.contains(n))
          << "block " << n << ", round " << round;
      if (!matched) continue;
      const Segment where{region, 0, pool.bytes(n).size()};
      const BlockTransfer transfer{
          key, {&where, 1}, 0, LayoutId{BlockPool::layout_id(n)}};
      Operation op = (*store)->load({&transfer, 1});
      EXPECT_TRUE(op.wait().ok()) << "block " << n << ": " << op.wait().message();
      EXPECT_TRUE(pool.right(n, 0, Bytes(memory).first(where.length), false)) << n;
    }
  }

  StoreConfig config_;
  std::string path_;
};

TEST_P(Kill, what_was_reported_saved_is_found_after_kill_9) {
  {
    auto store = open_store(config_);
    if (!store.ok() && store.error().code() == Code::unsupported)
      GTEST_SKIP() << store.error().message();
    ASSERT_TRUE(store.ok()) << store.error().message();
  }
  std::mt19937_64 random(11);
  std::set<std::uint64_t> promised;
  std::uint64_t reports = 0;
  const std::uint64_t rounds = std::max<std::uint64_t>(scaled(40), 4);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      be_child(round, ends[1]);
    }
    close(ends[1]);
    std::jthread reaper;
    for (Report report{}; read(ends[0], &report, sizeof report) == sizeof report;) {
      if (report.block == kBlocks) {  // the store is open
        const std::chrono::microseconds pause(random() % 30000);
        reaper = std::jthread([child, pause] {
          std::this_thread::sleep_for(pause);  // sleeps: until a random death
          kill(child, SIGKILL);
        });
        continue;
      }
      ++reports;
      if (report.saved) {
        promised.insert(report.block);
      } else {
        promised.erase(report.block);
      }
    }
    if (reaper.joinable()) reaper.join();
    close(ends[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed: " << WEXITSTATUS(status);
    check(promised, round);
    if (HasFailure()) return;
  }
  EXPECT_GT(reports, rounds / 2);
}

const Shape kShapes[] = {
    {"file", nullptr, "file"},
    {"memory_above_file", "dram:64K", "file"},
    {"mapped_file", nullptr, "dax"},
};
INSTANTIATE_TEST_SUITE_P(Shapes, Kill, testing::ValuesIn(kShapes),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace speckv::test

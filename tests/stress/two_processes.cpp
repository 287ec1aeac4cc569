// Two processes on one store, one of which is killed at a random moment, again and again.
// The other goes on; what the dead held and locked is free within a bounded time.
#include <csignal>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "cxlspeckv/open_store.hpp"

#include "support/invariants.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

constexpr std::uint64_t kShared = 60, kOwn = 60;
constexpr int kFailed = 3;

struct Shape {
  const char* name;
  std::vector<TierConfig> tiers;  // "%" stands for a path of the test's own
  bool persistent;
  friend void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }
};

class TwoProcesses : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "speckv-two-" + std::to_string(getpid());
    config_.layouts = BlockPool::layouts();
    config_.name = "shm:/speckv-two-" + std::to_string(getpid());
    for (TierConfig tier : GetParam().tiers) {
      const auto at = tier.device.find('%');
      if (at != std::string::npos) tier.device.replace(at, 1, path_);
      config_.tiers.push_back(std::move(tier));
    }
    (void)remove_store(config_.name);
  }
  void TearDown() override {
    (void)remove_store(config_.name);
    (void)unlink(path_.c_str());
  }

  StressWorker::Options options(std::uint64_t seed, std::uint64_t own) const {
    StressWorker::Options options;
    options.seed = seed;
    options.first_own = kShared;
    options.own = own;
    options.shared = kShared;
    options.tenant = TenantId{static_cast<std::uint16_t>(own == 0 ? 1 : 2)};
    options.persistent = GetParam().persistent;
    options.tiers = GetParam().tiers.size();
    return options;
  }

  // Works until it is killed.
  [[noreturn]] void be_victim(std::uint64_t seed, int started) {
    auto store = open_store(config_);
    if (!store.ok()) {
      std::fprintf(stderr, "victim: %s\n", store.error().message().c_str());
      _exit(kFailed);
    }
    const BlockPool pool(kShared + kOwn);
    StressWorker worker(**store, pool, options(seed, 0));
    (void)!write(started, "v", 1);
    while (worker.step()) {}
    _exit(kFailed);
  }

  // Works until `stop` is closed, then gives account.
  [[noreturn]] void be_survivor(int stop, int started) {
    auto opened = open_store(config_);
    if (!opened.ok()) {
      std::fprintf(stderr, "survivor: %s\n", opened.error().message().c_str());
      _exit(kFailed);
    }
    BlockStore& store = **opened;
    const BlockPool pool(kShared + kOwn);
    std::string faults;
    {
      StressWorker worker(store, pool, options(7, kOwn));
      std::atomic<bool> stopping{false};
      std::jthread listener([&] {
        char none = 0;
        (void)!read(stop, &none, 1);
        stopping = true;
      });
      (void)!write(started, "s", 1);
      while (worker.step() && !stopping) {}
      worker.let_go();
      if (!worker.ok()) _exit(kFailed);
      faults = check_invariants(store);
      (void)store.erase(pool.keys());
      faults += check_invariants(store);
    }
    if (used_bytes(store) != 0) faults += "bytes are left over\n";
    std::fputs(faults.c_str(), stderr);
    _exit(faults.empty() ? 0 : kFailed);
  }

  StoreConfig config_;
  std::string path_;
};

struct Pipe {
  Pipe() { EXPECT_EQ(pipe(ends), 0); }
  ~Pipe() {
    close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
  }
  int ends[2] = {-1, -1};
};

// "s" or "v" once that process is at work.
bool has_started(const Pipe& started, char who) {
  char got = 0;
  return read(started.ends[0], &got, 1) == 1 && got == who;
}

TEST_P(TwoProcesses, one_goes_on_and_recovers_everything_while_others_are_killed) {
  const std::uint64_t rounds = std::max<std::uint64_t>(scaled(50), 5);
  std::mt19937_64 random(5);
  Pipe stop, started;
  const pid_t survivor = fork();
  if (survivor == 0) {
    close(stop.ends[1]);
    be_survivor(stop.ends[0], started.ends[1]);
  }
  ASSERT_TRUE(has_started(started, 's'));
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const pid_t victim = fork();
    if (victim == 0) {
      close(stop.ends[1]);
      be_victim(100 + round, started.ends[1]);
    }
    ASSERT_TRUE(has_started(started, 'v'));
    const std::chrono::microseconds pause(random() % 40000);
    std::this_thread::sleep_for(pause);  // sleeps: until a random death
    kill(victim, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(victim, &status, 0), victim);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the victim failed in round " << round;
    ASSERT_EQ(waitpid(survivor, &status, WNOHANG), 0)
        << "the survivor died in round " << round;
  }
  close(std::exchange(stop.ends[1], -1));
  int status = 0;
  ASSERT_EQ(waitpid(survivor, &status, 0), survivor);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "see above";
}

const Shape kShapes[] = {
    {"memory", {{.device = "dram:256K"}}, false},
    {"memory_and_file", {{.device = "dram:128K"}, {.device = "file:%?size=1M"}}, true},
    {"mapped_file", {{.device = "dax:%?size=512K"}}, true},
};
INSTANTIATE_TEST_SUITE_P(Shapes, TwoProcesses, testing::ValuesIn(kShapes),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace speckv::test

// Two processes on one store, one of which is killed at a random moment, again and again:
// always the younger, or always the elder, which hands the store on. The other goes on;
// what the dead held and locked is free within a bounded time.
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <poll.h>
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

  // Works until it is killed, and tells each step on `beats`.
  [[noreturn]] void be_victim(std::uint64_t seed, int beats) {
    auto store = open_store(config_);
    if (!store.ok()) {
      std::fprintf(stderr, "victim: %s\n", store.error().message().c_str());
      _exit(kFailed);
    }
    const BlockPool pool(kShared + kOwn);
    StressWorker worker(**store, pool, options(seed, 0));
    while (worker.step())
      (void)!write(beats, ".", 1);
    _exit(kFailed);
  }

  // Works until `stop` is closed, then gives account.
  [[noreturn]] void be_survivor(std::uint64_t seed, std::uint64_t own, int stop,
                                int beats) {
    auto opened = open_store(config_);
    if (!opened.ok()) {
      std::fprintf(stderr, "survivor: %s\n", opened.error().message().c_str());
      _exit(kFailed);
    }
    BlockStore& store = **opened;
    const BlockPool pool(kShared + kOwn);
    std::string faults;
    {
      StressWorker worker(store, pool, options(seed, own));
      std::atomic<bool> stopping{false};
      std::jthread listener([&] {
        char none = 0;
        (void)!read(stop, &none, 1);
        stopping = true;
      });
      while (worker.step() && !stopping)
        (void)!write(beats, ".", 1);
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
    hang_up();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void hang_up() {
    if (ends[1] >= 0) close(std::exchange(ends[1], -1));
  }
  int ends[2] = {-1, -1};
};

// A process at work, as its parent sees it.
class Worker {
 public:
  // `body` is given where to tell its steps and what to wait for.
  template <typename Body>
  explicit Worker(Body body) {
    for (const Pipe* pipe : {&beats_, &stop_})
      for (const int end : pipe->ends)
        EXPECT_EQ(fcntl(end, F_SETFL, O_NONBLOCK), 0);
    // A full pipe must not stop the worker, and the wait for the end must wait.
    EXPECT_EQ(fcntl(stop_.ends[0], F_SETFL, 0), 0);
    pid_ = fork();
    if (pid_ != 0) return;
    stop_.hang_up();
    body(stop_.ends[0], beats_.ends[1]);
  }
  ~Worker() {
    if (pid_ > 0) die();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Whether it ends `steps` more operations, each within a bounded time.
  bool goes_on(std::uint64_t steps) {
    char ends[256];
    while (read(beats_.ends[0], ends, sizeof ends) > 0) {}
    while (steps > 0) {
      pollfd ready{beats_.ends[0], POLLIN, 0};
      if (poll(&ready, 1, kStepMs) != 1) return false;
      const ssize_t got = read(beats_.ends[0], ends, std::min<std::size_t>(steps, 256));
      if (got <= 0) return false;
      steps -= static_cast<std::uint64_t>(got);
    }
    return true;
  }
  // True: it was alive until then.
  bool die() {
    kill(pid_, SIGKILL);
    int status = 0;
    const bool waited = waitpid(std::exchange(pid_, -1), &status, 0) > 0;
    return waited && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }
  // Lets it give account: the store was whole, and is empty.
  bool ends_well() {
    stop_.hang_up();
    int status = 0;
    const bool waited = waitpid(std::exchange(pid_, -1), &status, 0) > 0;
    return waited && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  static constexpr int kStepMs = 60000;
  Pipe beats_, stop_;
  pid_t pid_ = -1;
};

void linger(std::mt19937_64& random) {
  const std::chrono::microseconds pause(random() % 40000);
  std::this_thread::sleep_for(pause);  // sleeps: until a random death
}

TEST_P(TwoProcesses, one_goes_on_and_recovers_everything_while_others_are_killed) {
  const std::uint64_t rounds = std::max<std::uint64_t>(scaled(50), 5);
  std::mt19937_64 random(5);
  Worker survivor([&](int stop, int beats) { be_survivor(7, kOwn, stop, beats); });
  ASSERT_TRUE(survivor.goes_on(1));
  for (std::uint64_t round = 0; round < rounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    Worker victim([&](int, int beats) { be_victim(100 + round, beats); });
    ASSERT_TRUE(victim.goes_on(1 + random() % 40)) << "the victim works";
    linger(random);
    ASSERT_TRUE(victim.die()) << "the victim failed, see above";
    ASSERT_TRUE(survivor.goes_on(3)) << "the survivor waits for the dead, or failed";
  }
  EXPECT_TRUE(survivor.ends_well()) << "see above";
}

TEST_P(TwoProcesses, the_elder_is_killed_and_the_younger_inherits) {
  const std::uint64_t rounds = std::max<std::uint64_t>(scaled(25), 5);
  std::mt19937_64 random(6);
  const auto work = [this](std::uint64_t seed) {
    return std::make_unique<Worker>(
        [this, seed](int stop, int beats) { be_survivor(seed, 0, stop, beats); });
  };
  auto elder = work(200);
  ASSERT_TRUE(elder->goes_on(1));
  for (std::uint64_t round = 0; round < rounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    auto younger = work(201 + round);
    ASSERT_TRUE(younger->goes_on(1 + random() % 40)) << "the younger works";
    linger(random);
    ASSERT_TRUE(elder->die()) << "the elder failed, see above";
    ASSERT_TRUE(younger->goes_on(3)) << "the younger waits for the dead, or failed";
    elder = std::move(younger);
  }
  EXPECT_TRUE(elder->ends_well()) << "see above";
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

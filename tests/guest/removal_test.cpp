// Cards that stand still, are reset or go away, under load and under waiters of every
// kind: everyone is answered, nothing is used afterwards.
#include <csetjmp>
#include <csignal>
#include <functional>
#include <thread>
#include <vector>

#include <sys/wait.h>

#include "card.hpp"

namespace guest {
namespace {

constexpr const char* kTimeout = "/sys/module/speckv/parameters/timeout_ms";
constexpr const char* kDriver = "/sys/bus/platform/drivers/speckv_soft/";
constexpr const char* kSecond = "/dev/speckv1";

std::string hold() {
  return std::string(kDebugfs) + "hold";
}

// The card takes nothing while this lives.
class Held {
 public:
  Held() { EXPECT_TRUE(write_file(hold(), "1")); }
  ~Held() { EXPECT_TRUE(write_file(hold(), "0")); }
};

class Timeout {
 public:
  explicit Timeout(const char* milliseconds) {
    EXPECT_TRUE(write_file(kTimeout, milliseconds));
  }
  ~Timeout() { EXPECT_TRUE(write_file(kTimeout, "5000")); }
};

int step(const Fd& card, std::uint32_t value) {
  speckv_step args{};
  args.step = value;
  return call(card, SPECKV_IOC_STEP, args);
}

TEST(Stuck, EveryWaitEnds) {
  const Timeout timeout("300");
  const Fd card = open_card();
  const std::uint32_t queue = make_queue(card, 8).out_id;
  Uring ring(8);
  ASSERT_EQ(ring.error(), 0);
  {
    const Held held;
    EXPECT_EQ(ring.run(card, queue, nop(1)), -ETIMEDOUT);
    const speckv_desc desc = nop(1);
    EXPECT_EQ(submit(card, queue, &desc, 1), EIO);
    EXPECT_EQ(step(card, 1), ETIMEDOUT);
  }
  speckv_object args{};
  args.id = queue;
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), 0);
  EXPECT_EQ(ring.run(card, queue, nop(2)), 0);
  EXPECT_EQ(step(card, 2), 0);
}

TEST(Stuck, ASignalEndsAWait) {
  const Fd card = open_card();
  const Held held;
  const pthread_t waiter = ::pthread_self();
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(SIGUSR1, &action, nullptr);
  std::atomic<bool> done{false};
  std::thread sender([&] {
    while (!done) {
      ::pthread_kill(waiter, SIGUSR1);
      ::usleep(20000);  // sleeps: a signal that comes before the wait is sent again
    }
  });
  EXPECT_EQ(step(card, 1), EINTR);
  done = true;
  sender.join();
}

TEST(Stuck, ARegionInUseIsBusy) {
  const Fd card = open_card();
  const std::uint32_t queue = make_queue(card, 8).out_id;
  speckv_object region{};
  region.id = make_region(card, kPage).out_id;
  {
    const Held held;
    const speckv_desc desc = copy(region.id, 0, region.id, 64, 64);
    ASSERT_EQ(submit(card, queue, &desc, 1), 0);
    EXPECT_EQ(call(card, SPECKV_IOC_REGION_DESTROY, region), EBUSY);
  }
  pollfd ready{card.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 20000), 1);
  EXPECT_EQ(call(card, SPECKV_IOC_REGION_DESTROY, region), 0);
}

// A reset answers what it leaves undone as aborted: once, and with its tag.
TEST(Stuck, AResetAnswersAll) {
  const Fd card = open_card();
  speckv_object args{};
  args.id = make_queue(card, 8).out_id;
  Uring ring(8);
  {
    const Held held;
    for (std::uint16_t i = 0; i < 4; ++i) {
      const speckv_desc desc = nop(static_cast<std::uint16_t>(50 + i));
      ASSERT_EQ(submit(card, args.id, &desc, 1), 0);
      ring.push(card, args.id, nop(0), i);
    }
    ASSERT_EQ(ring.submit(), 4);
    EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), 0);
  }
  std::uint32_t taken = 0;
  speckv_cpl cpls[8];
  ASSERT_EQ(reap(card, args.id, cpls, 8, &taken), 0);
  ASSERT_EQ(taken, 4U);
  std::uint32_t tags = 0;
  for (std::uint32_t i = 0; i < taken; ++i) {
    EXPECT_EQ(code_of(cpls[i]), SPECKV_CPL_ABORTED);
    tags |= 1U << (cpls[i].tag - 50);
  }
  EXPECT_EQ(tags, 15U);
  for (int i = 0; i < 4; ++i) {
    std::uint64_t user = 0;
    int result = 0;
    ASSERT_TRUE(ring.wait(&user, &result));
    EXPECT_EQ(result, -EIO);
  }
  EXPECT_EQ(ring.run(card, args.id, nop(1)), 0);
}

// A ring that goes away with commands in flight: the process ends, the card is unharmed.
TEST(Stuck, ARingMayGoWithCommandsInFlight) {
  const Timeout timeout("500");
  {
    const Held held;
    const pid_t child = ::fork();
    if (child == 0) {
      const Fd card = open_card();
      const std::uint32_t queue = make_queue(card, 8).out_id;
      Uring ring(8);
      for (std::uint16_t i = 0; i < 8; ++i)
        ring.push(card, queue, nop(i), i);
      ::_exit(ring.submit() == 8 ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  const Fd card = open_card();
  EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))), SPECKV_CPL_OK);
}

TEST(Fatal, NothingIsServedUntilTheCardIsReset) {
  const Fd card = open_card();
  const speckv_queue_create queue = make_queue(card, 8);
  const speckv_desc desc = nop(1);
  ASSERT_TRUE(write_file(std::string(kDebugfs) + "inject", "1 0"));
  EXPECT_EQ(read_file(std::string(kSysfs) + "state"), "fatal\n");
  EXPECT_EQ(submit(card, queue.out_id, &desc, 1), EIO);
  speckv_object args{};
  args.id = queue.out_id;
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), EIO);
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_KICK, args), EIO);
  ASSERT_TRUE(write_file(std::string(kSysfs) + "reset", "1"));
  EXPECT_EQ(read_file(std::string(kSysfs) + "state"), "ready\n");
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), 0);
  EXPECT_EQ(code_of(carry_out(card, queue.out_id, desc)), SPECKV_CPL_OK);
}

// ---- Going away ----

// Submits without end in its own way; counts what is answered; ends when the card is
// gone.
struct Load {
  std::atomic<bool> stop{false};
  std::atomic<std::uint32_t> answers{0}, gone{0}, wrong{0};
  std::atomic<int> last_wrong{0};
  void saw(int error) {
    if (error == ENODEV) {
      ++gone;
    } else if (error != 0 && error != EAGAIN && error != EIO) {
      ++wrong;
      last_wrong = error;
    }
  }
  // Whoever comes after the removal finds nothing to open.
  bool opened(const Fd& card) {
    if (card.get() < 0) ++gone;
    return card.get() >= 0;
  }
};

void load_ioctl(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  speckv_queue_create queue{};
  queue.depth = 16;
  queue.eventfd = -1;
  speckv_object reset{};
  int error = call(card, SPECKV_IOC_QUEUE_CREATE, queue);
  reset.id = queue.out_id;
  while (!load.stop && error != ENODEV) {
    const speckv_desc desc = nop(1);
    speckv_cpl cpls[16];
    std::uint32_t taken = 0;
    error = submit(card, queue.out_id, &desc, 1);
    if (error != ENODEV) error = reap(card, queue.out_id, cpls, 16, &taken);
    if (error == EIO) call(card, SPECKV_IOC_QUEUE_RESET, reset);
    load.saw(error);
    load.answers += taken;
  }
}

void load_uring(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  speckv_queue_create queue{};
  queue.depth = 16;
  queue.eventfd = -1;
  call(card, SPECKV_IOC_QUEUE_CREATE, queue);
  speckv_object reset{};
  reset.id = queue.out_id;
  Uring ring(16);
  for (int result = 0; !load.stop && result != -ENODEV;) {
    for (std::uint16_t i = 0; i < 8; ++i)
      ring.push(card, queue.out_id, nop(i), i);
    ring.submit();
    for (int i = 0; i < 8; ++i) {
      std::uint64_t user = 0;
      int one = 0;
      if (!ring.wait(&user, &one)) {
        ++load.wrong;
        return;
      }
      if (one == 0) ++load.answers;
      if (one == -EIO) call(card, SPECKV_IOC_QUEUE_RESET, reset);
      load.saw(-one);
      result = one == 0 ? result : one;
    }
  }
}

void load_regions(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  std::vector<std::uint8_t> heap(8 * kPage);
  const auto page = reinterpret_cast<std::uintptr_t>(heap.data() + kPage) / kPage * kPage;
  for (int error = 0; !load.stop && error != ENODEV;) {
    speckv_region_create user{}, own{};
    user.flags = SPECKV_REGION_USER;
    user.length = own.length = 2 * kPage;
    user.user_va = page;
    error = call(card, SPECKV_IOC_REGION_CREATE, user);
    load.saw(error);
    if (error == 0) error = call(card, SPECKV_IOC_REGION_CREATE, own);
    load.saw(error);
    const Mapping seen(card.get(), own.out_mmap_offset, own.length);
    for (const std::uint32_t id : {user.out_id, own.out_id}) {
      speckv_object args{};
      args.id = id;
      if (error == 0) error = call(card, SPECKV_IOC_REGION_DESTROY, args);
      load.saw(error);
    }
    load.answers += error == 0 ? 1U : 0U;
  }
}

void load_steps(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  for (std::uint32_t i = 0; !load.stop; ++i) {
    const int error = step(card, i);
    load.saw(error);
    load.answers += error == 0 ? 1U : 0U;
    if (error == ENODEV) return;
  }
}

void load_opens(const char* name, Load& load) {
  while (!load.stop) {
    const Fd card = open_card(name);
    if (card.get() < 0 && errno != ENODEV && errno != ENOENT && errno != ENXIO) {
      ++load.wrong;
    }
    ++load.answers;
    speckv_queue_create queue{};
    queue.depth = 4;
    queue.eventfd = -1;
    if (card.get() >= 0) call(card, SPECKV_IOC_QUEUE_CREATE, queue);
  }
}

using Loader = void (*)(const char*, Load&);
constexpr Loader kLoaders[] = {load_ioctl, load_uring, load_regions, load_steps,
                               load_opens};

// Waits until the load has gone on by `more` answers.
void wait_for(const Load& load, std::uint32_t more) {
  const std::uint32_t from = load.answers;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (load.answers - from < more) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "nothing is answered";
    std::this_thread::yield();
  }
}

TEST(Removal, UnbindAndBindUnderLoad) {
  for (std::uint32_t round = 0; round < scaled(4); ++round) {
    Load load;
    std::vector<std::thread> threads;
    for (const Loader loader : kLoaders)
      threads.emplace_back(loader, kSecond, std::ref(load));
    wait_for(load, 200);
    ASSERT_TRUE(write_file(std::string(kDriver) + "unbind", "speckv_soft.1"));
    EXPECT_NE(::access(kSecond, F_OK), 0);
    load.stop = true;
    for (std::thread& thread : threads)
      thread.join();
    EXPECT_EQ(load.wrong, 0U) << std::strerror(load.last_wrong);
    EXPECT_GE(load.gone, 1U);
    ASSERT_TRUE(write_file(std::string(kDriver) + "bind", "speckv_soft.1"));
    ASSERT_EQ(::access(kSecond, R_OK | W_OK), 0);
  }
}

TEST(Removal, ResetUnderLoad) {
  Load load;
  std::vector<std::thread> threads;
  for (const Loader loader : kLoaders)
    threads.emplace_back(loader, kSecond, std::ref(load));
  for (std::uint32_t round = 0; round < scaled(20); ++round) {
    wait_for(load, 50);
    EXPECT_TRUE(write_file("/sys/class/speckv/speckv1/reset", "1"));
  }
  load.stop = true;
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(load.wrong, 0U) << std::strerror(load.last_wrong);
  EXPECT_EQ(load.gone, 0U);
}

sigjmp_buf the_fault;

// D33: whoever waits is woken; what is mapped is gone; only close() is left.
TEST(Removal, EveryWaiterWakesAndMappingsEnd) {
  const Fd card = open_card(kSecond), event(::eventfd(0, EFD_CLOEXEC));
  MappedQueue queue(card, 8, event.get());
  ASSERT_TRUE(queue.good());
  const speckv_region_create memory = make_region(card, kPage);
  const Mapping seen(card.get(), memory.out_mmap_offset, kPage);
  ASSERT_TRUE(seen.good());
  seen.bytes()[0] = 1;
  const std::uint32_t plain = make_queue(card, 8).out_id;
  Uring ring(8);
  ASSERT_TRUE(write_file("/sys/kernel/debug/speckv/speckv1/hold", "1"));
  ring.push(card, plain, nop(1), 5);
  ASSERT_EQ(ring.submit(), 1);
  std::thread stepper([&] { EXPECT_EQ(step(card, 9), ENODEV); });
  std::thread poller([&] {
    pollfd ready{event.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 20000), 1);
    pollfd file{card.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&file, 1, 20000), 1);
    EXPECT_NE(file.revents & POLLHUP, 0);
  });
  ASSERT_TRUE(write_file(std::string(kDriver) + "unbind", "speckv_soft.1"));
  std::uint64_t user = 0;
  int result = 0;
  ASSERT_TRUE(ring.wait(&user, &result));
  EXPECT_EQ(result, -ENODEV);
  stepper.join();
  poller.join();
  speckv_query args{};
  EXPECT_EQ(call(card, SPECKV_IOC_QUERY, args), ENODEV);
  EXPECT_FALSE(Mapping(card.get(), memory.out_mmap_offset, kPage).good());
  EXPECT_EQ(errno, ENODEV);
  struct sigaction action {};
  action.sa_handler = [](int) { siglongjmp(the_fault, 1); };
  ::sigaction(SIGBUS, &action, nullptr);
  if (sigsetjmp(the_fault, 1) == 0) {
    ADD_FAILURE() << "still mapped: " << *static_cast<volatile std::uint8_t*>(seen.at);
  }
  ASSERT_TRUE(write_file(std::string(kDriver) + "bind", "speckv_soft.1"));
  EXPECT_EQ(call(card, SPECKV_IOC_QUERY, args), ENODEV);
}

}  // namespace
}  // namespace guest

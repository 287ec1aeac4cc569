// Cards that stand still, are reset or go away, under load and under waiters of every
// kind: everyone is answered, nothing is used afterwards.
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <thread>

#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "card.hpp"
#include "load.hpp"

namespace guest {
namespace {

constexpr const char* kTimeout = "/sys/module/speckv/parameters/timeout_ms";
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

// What the watchdog ends is reaped as aborted, once; then the queue says that it is in
// error, until it is reset.
TEST(Stuck, WhatTheWatchdogEndsIsReapedOnce) {
  const Timeout timeout("300");
  const Fd card = open_card();
  speckv_object queue{};
  queue.id = make_queue(card, 8).out_id;
  speckv_cpl cpls[8];
  std::uint32_t taken = 0, tags = 0;
  {
    const Held held;
    const speckv_desc descs[] = {nop(5), nop(6)};
    ASSERT_EQ(submit(card, queue.id, descs, 2), 0);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (tags != 3 && std::chrono::steady_clock::now() < deadline) {
      const int error = reap(card, queue.id, cpls, 8, &taken);
      ASSERT_TRUE(error == 0 || error == EIO) << std::strerror(error);
      for (std::uint32_t i = 0; i < taken; ++i) {
        EXPECT_EQ(code_of(cpls[i]), SPECKV_CPL_ABORTED);
        EXPECT_EQ(tags & 1U << (cpls[i].tag - 5), 0U) << "told twice";
        tags |= 1U << (cpls[i].tag - 5);
      }
      std::this_thread::yield();
    }
    EXPECT_EQ(tags, 3U);
    EXPECT_EQ(reap(card, queue.id, cpls, 8, &taken), EIO);
  }
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, queue), 0);
  EXPECT_EQ(reap(card, queue.id, cpls, 8, &taken), 0);
  EXPECT_EQ(taken, 0U);
  EXPECT_EQ(code_of(carry_out(card, queue.id, nop(2))), SPECKV_CPL_OK);
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

// Whether the kernel cancels commands of rings that go away.
bool cancels() {
  utsname name{};
  int major = 0, minor = 0;
  EXPECT_EQ(::uname(&name), 0);
  EXPECT_EQ(std::sscanf(name.release, "%d.%d", &major, &minor), 2);
  return major * 100 + minor >= 607;
}

// A ring that goes away with commands in flight: the process ends, the card is unharmed.
// It is not kept by a card that answers nothing: commands are cancelled, by kernels that
// can, or end by the watchdog.
TEST(Stuck, ARingMayGoWithCommandsInFlight) {
  const Timeout timeout(cancels() ? "600000" : "500");
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
    const Fd ended(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    pollfd end{ended.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&end, 1, 30000), 1) << "it waits for the card";
    if (end.revents == 0) {
      EXPECT_TRUE(write_file(hold(), "0"));
    }
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

TEST(Removal, UnbindAndBindUnderLoad) {
  const Home home("speckv1");
  for (std::uint32_t round = 0; round < scaled(4); ++round) {
    UnderLoad load(kSecond);
    load.wait_for(200);
    ASSERT_TRUE(home.unbind());
    EXPECT_NE(::access(kSecond, F_OK), 0);
    load.stop();
    EXPECT_GE(load.gone(), 1U);
    ASSERT_TRUE(home.bind());
    ASSERT_EQ(::access(kSecond, R_OK | W_OK), 0);
  }
}

TEST(Removal, ResetUnderLoad) {
  UnderLoad load(kSecond);
  for (std::uint32_t round = 0; round < scaled(20); ++round) {
    load.wait_for(50);
    EXPECT_TRUE(write_file("/sys/class/speckv/speckv1/reset", "1"));
  }
  load.stop();
  EXPECT_EQ(load.gone(), 0U);
}

sigjmp_buf the_fault;

// D33: whoever waits is woken; what is mapped is gone; only close() is left.
void wake_all_and_end(const Home& home) {
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
  ASSERT_TRUE(home.unbind());
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
  ASSERT_TRUE(home.bind());
  EXPECT_EQ(call(card, SPECKV_IOC_QUERY, args), ENODEV);
}

TEST(Removal, EveryWaiterWakesAndMappingsEnd) {
  const Home home("speckv1");
  wake_all_and_end(home);
  // As long as the old one was open, its number was not the new one's; now it is again.
  ASSERT_TRUE(Home("speckv2").unbind());
  ASSERT_TRUE(home.bind());
  ASSERT_EQ(::access(kSecond, R_OK | W_OK), 0);
}

}  // namespace
}  // namespace guest

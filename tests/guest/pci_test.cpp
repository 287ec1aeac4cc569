// Cards on PCI: what only a bus can do to a card. The others of this folder run there
// too.
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include <sys/syscall.h>

#include "card.hpp"
#include "load.hpp"

namespace guest {
namespace {

constexpr const char* kSecond = "/dev/speckv1";

// A fatal error of the link to a card, which the kernel resets and recovers from.
void break_link(const Home& home) {
  struct Error {  // of the kernel's module aer_inject
    std::uint8_t bus, device, function;
    std::uint32_t uncorrectable, correctable, header[4], domain;
  } error{};
  unsigned bus = 0, device = 0;
  ASSERT_EQ(std::sscanf(home.device.c_str(), "%*x:%x:%x", &bus, &device), 2);
  error.bus = static_cast<std::uint8_t>(bus);
  error.device = static_cast<std::uint8_t>(device);
  constexpr std::uint32_t kDataLinkProtocol = 0x10;  // fatal, as PCI defines it
  error.uncorrectable = kDataLinkProtocol;
  const Fd injector(::open("/dev/aer_inject", O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::write(injector.get(), &error, sizeof error),
            static_cast<ssize_t>(sizeof error))
      << std::strerror(errno);
}

// The kernel's module that does so.
struct LinkBreaker {
  LinkBreaker() {
    const Fd module(::open("/aer_inject.ko", O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::syscall(SYS_finit_module, module.get(), "", 0), 0)
        << std::strerror(errno);
  }
  ~LinkBreaker() { EXPECT_EQ(::syscall(SYS_delete_module, "aer_inject", 0), 0); }
};

class Pci : public ::testing::Test {
 protected:
  const Home home_{"speckv1"};
  void SetUp() override { ASSERT_TRUE(on_pci()); }
  void TearDown() override {
    EXPECT_EQ(::access(kSecond, R_OK | W_OK), 0);
    const Fd card = open_card(kSecond);
    EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))),
              SPECKV_CPL_OK);
  }
};

TEST_F(Pci, EveryQueueHasAnInterruptAndErrorsHaveOne) {
  const std::string all = read_file("/proc/interrupts", 1 << 20);
  for (const char* name : {"speckv0-queue0\n", "speckv0-queue63\n", "speckv0-error\n",
                           "speckv1-queue0\n", "speckv1-error\n"}) {
    EXPECT_NE(all.find(name), std::string::npos) << name;
  }
}

// Scattered pages, a few MiB of them: what goes there comes back.
TEST_F(Pci, LargeRegionsKeepTheirBytes) {
  constexpr std::size_t kBytes = 6U << 20;
  Mapping from, to;
  for (Mapping* memory : {&from, &to}) {
    memory->length = kBytes;
    memory->at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_TRUE(memory->good());
    // So that the pages do not lie together, as far as that can be had; a kernel without
    // huge pages does not know the word.
    ASSERT_TRUE(::madvise(memory->at, kBytes, MADV_NOHUGEPAGE) == 0 || errno == EINVAL);
    for (std::size_t i = 0; i < kBytes / kPage; ++i)
      memory->bytes()[i * 769 % (kBytes / kPage) * kPage] = 1;
  }
  for (std::size_t at = 0; at < kBytes; at += kPage) {
    std::memset(to.bytes() + at, 0x11, kPage);
    for (std::size_t i = 0; i < kPage; i += 8) {
      const std::uint64_t value = (at + i) * 0x9e3779b97f4a7c15ULL;
      std::memcpy(from.bytes() + at + i, &value, 8);
    }
  }
  const Fd card = open_card();
  const std::uint32_t queue = make_queue(card, 8).out_id;
  const std::uint32_t source =
      make_region(card, kBytes, from.at, SPECKV_REGION_READ_ONLY).out_id;
  const std::uint32_t target = make_region(card, kBytes, to.at).out_id;
  const std::uint32_t memory = make_region(card, kBytes).out_id;
  EXPECT_EQ(code_of(carry_out(card, queue, copy(source, 3, memory, 5, kBytes - 9))),
            SPECKV_CPL_OK);
  EXPECT_EQ(code_of(carry_out(card, queue, copy(memory, 5, target, 1, kBytes - 9))),
            SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(to.bytes() + 1, from.bytes() + 3, kBytes - 9), 0);
  EXPECT_EQ(to.bytes()[0], 0x11);
  EXPECT_EQ(to.bytes()[kBytes - 8], 0x11);
}

// What was submitted and not begun when its file is closed is never begun: the card would
// reach pages that are somebody else's by then, and the run would tell.
TEST_F(Pci, NothingIsReachedAfterItsFileIsClosed) {
  const std::string hold = "/sys/kernel/debug/speckv/speckv1/hold";
  std::vector<std::uint8_t> heap(2 * kPage, 0x3c);
  const auto page = reinterpret_cast<std::uintptr_t>(heap.data() + kPage) / kPage * kPage;
  {
    const Fd card = open_card(kSecond);
    const std::uint32_t user =
        make_region(card, kPage, reinterpret_cast<void*>(page)).out_id;
    const std::uint32_t memory = make_region(card, kPage).out_id;
    const std::uint32_t queue = make_queue(card, 8).out_id;
    ASSERT_TRUE(write_file(hold, "1"));
    const std::vector<speckv_desc> descs(8, copy(memory, 0, user, 0, kPage));
    std::uint32_t taken = 0;
    EXPECT_EQ(submit(card, queue, descs.data(), 8, &taken), 0);
    EXPECT_EQ(taken, 8U);
  }
  ASSERT_TRUE(write_file(hold, "0"));
  const Fd card = open_card(kSecond);
  EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))), SPECKV_CPL_OK);
  for (const std::uint8_t byte : heap)
    ASSERT_EQ(byte, 0x3c);
}

TEST_F(Pci, RemoveAndRescanUnderLoad) {
  for (std::uint32_t round = 0; round < scaled(2); ++round) {
    UnderLoad load(kSecond);
    load.wait_for(100);
    ASSERT_TRUE(write_file(home_.folder + "remove", "1"));
    EXPECT_NE(::access(kSecond, F_OK), 0);
    load.stop();
    EXPECT_GE(load.gone(), 1U);
    ASSERT_TRUE(write_file("/sys/bus/pci/rescan", "1"));
    ASSERT_EQ(::access(kSecond, R_OK | W_OK), 0);
  }
}

// By the function itself, and by its bus: nobody is gone, everyone is answered.
TEST_F(Pci, ResetsUnderLoad) {
  for (const char* method : {"flr", "bus"}) {
    ASSERT_TRUE(write_file(home_.folder + "reset_method", method));
    UnderLoad load(kSecond);
    for (std::uint32_t round = 0; round < scaled(5); ++round) {
      load.wait_for(50);
      EXPECT_TRUE(write_file(home_.folder + "reset", "1")) << method;
    }
    load.stop();
    EXPECT_EQ(load.gone(), 0U) << method;
  }
}

// An error of the bus: the kernel resets it and tells the driver before and after.
TEST_F(Pci, AnErrorOfTheBusIsRecoveredFrom) {
  const LinkBreaker breaker;
  const Fd card = open_card(kSecond);
  const speckv_region_create memory = make_region(card, kPage);
  speckv_object queue{};
  queue.id = make_queue(card, 8).out_id;
  break_link(home_);
  pollfd file{card.get(), POLLERR, 0};
  EXPECT_EQ(::poll(&file, 1, 60000), 1);
  EXPECT_NE(file.revents & POLLERR, 0);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (call(card, SPECKV_IOC_QUEUE_RESET, queue) != 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "no recovery";
    std::this_thread::yield();
  }
  EXPECT_EQ(
      code_of(carry_out(card, queue.id, copy(memory.out_id, 0, memory.out_id, 64, 64))),
      SPECKV_CPL_OK);
}

// While its bus recovers, a card is not reached: what it gives out could not be zeroed
// then, and is refused.
TEST_F(Pci, NobodysBytesAreSeenAfterARecovery) {
  constexpr std::size_t kBytes = 64 * kPage;
  const LinkBreaker breaker;
  const Fd card = open_card(kSecond);
  {
    const speckv_region_create memory = make_region(card, kBytes);
    const Mapping seen(card.get(), memory.out_mmap_offset, kBytes);
    ASSERT_TRUE(seen.good());
    std::memset(seen.at, 0x77, kBytes);
    speckv_object old{};
    old.id = memory.out_id;
    ASSERT_EQ(call(card, SPECKV_IOC_REGION_DESTROY, old), 0);
  }
  speckv_object queue{};
  queue.id = make_queue(card, 8).out_id;
  break_link(home_);
  std::vector<speckv_region_create> made;
  std::uint32_t refused = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  bool failed = false;
  for (int error = EIO; error != 0 || !failed;) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "no recovery";
    error = call(card, SPECKV_IOC_QUEUE_RESET, queue);
    failed = failed || error != 0;
    speckv_region_create memory{};
    memory.length = kPage;
    if (made.size() == 16) continue;
    const int why = call(card, SPECKV_IOC_REGION_CREATE, memory);
    EXPECT_TRUE(why == 0 || why == EIO) << std::strerror(why);
    if (why == 0) made.push_back(memory);
    refused += why == EIO ? 1U : 0U;
  }
  std::printf("NOTE %zu regions made beside a recovery, %u refused\n", made.size(),
              refused);
  for (const speckv_region_create& memory : made) {
    const Mapping seen(card.get(), memory.out_mmap_offset, kPage);
    ASSERT_TRUE(seen.good());
    for (std::size_t i = 0; i < kPage; ++i)
      ASSERT_EQ(seen.bytes()[i], 0) << i;
  }
}

// A region that was there before a reset is there after it, with its bytes.
TEST_F(Pci, ResetsKeepRegionsAndMemory) {
  const Fd card = open_card(kSecond);
  std::vector<std::uint8_t> heap(2 * kPage, 0x3c);
  const auto page = reinterpret_cast<std::uintptr_t>(heap.data() + kPage) / kPage * kPage;
  const std::uint32_t user =
      make_region(card, kPage, reinterpret_cast<void*>(page)).out_id;
  const speckv_region_create memory = make_region(card, kPage);
  const Mapping seen(card.get(), memory.out_mmap_offset, kPage);
  speckv_object queue{};
  queue.id = make_queue(card, 8).out_id;
  ASSERT_TRUE(write_file(home_.folder + "reset", "1"));
  const speckv_desc desc = nop(1);
  EXPECT_EQ(submit(card, queue.id, &desc, 1), EIO);
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, queue), 0);
  EXPECT_EQ(code_of(carry_out(card, queue.id, copy(user, 0, memory.out_id, 7, 100))),
            SPECKV_CPL_OK);
  EXPECT_EQ(seen.bytes()[6], 0);
  EXPECT_EQ(seen.bytes()[7], 0x3c);
  ASSERT_TRUE(write_file(home_.folder + "reset", "1"));
  EXPECT_EQ(seen.bytes()[106], 0x3c);
}

// Nobody has it open: it sleeps, and wakes as it was told to be. Whoever opens it keeps
// it awake.
TEST_F(Pci, AnUnusedCardSleepsAndAUsedOneDoesNot) {
  const std::string power = home_.folder + "power/", sysfs = "/sys/class/speckv/speckv1/";
  const auto wait_for = [&](const std::string& status) {
    for (int i = 0; i < 3000 && read_file(power + "runtime_status") != status; ++i) {
      ::usleep(10000);  // sleeps: the kernel tells nobody when a device falls asleep
    }
    return read_file(power + "runtime_status");
  };
  ASSERT_TRUE(write_file(sysfs + "w_f", "9"));
  ASSERT_TRUE(write_file(power + "autosuspend_delay_ms", "0"));
  ASSERT_TRUE(write_file(power + "control", "auto"));
  EXPECT_EQ(wait_for("suspended\n"), "suspended\n");
  {
    const Fd card = open_card(kSecond);
    EXPECT_EQ(read_file(power + "runtime_status"), "active\n");
    EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))),
              SPECKV_CPL_OK);
    speckv_telemetry told{};
    speckv_telemetry_read args{};
    args.buffer = reinterpret_cast<std::uintptr_t>(&told);
    args.length = sizeof told;
    EXPECT_EQ(call(card, SPECKV_IOC_TELEMETRY, args), 0);
    EXPECT_EQ(told.weights, 0x40400940U);
  }
  EXPECT_EQ(wait_for("suspended\n"), "suspended\n");
  EXPECT_EQ(read_file(sysfs + "state"), "ready\n");
  EXPECT_EQ(read_file(sysfs + "w_f"), "9\n");
  EXPECT_TRUE(write_file(power + "control", "on"));
  EXPECT_TRUE(write_file(sysfs + "w_f", "64"));
  EXPECT_EQ(read_file(power + "runtime_status"), "active\n");
}

// The system sleeps for some seconds. An alarm that comes before it has fallen asleep
// keeps it awake, by the count of what woke it.
bool sleep_and_wake() {
  const std::string alarm = "/sys/class/rtc/rtc0/wakealarm", power = "/sys/power/";
  bool slept = false;
  for (int seconds = 2; !slept && seconds <= 64; seconds *= 2) {
    const std::string count = read_file(power + "wakeup_count");
    slept = write_file(alarm, "0") && write_file(alarm, '+' + std::to_string(seconds)) &&
            write_file(power + "wakeup_count", count) &&
            write_file(power + "state", "mem");
  }
  return slept;
}

// The system goes to sleep and its clock wakes it: a card is as new, but for what was
// tuned. One that is open keeps the system awake, for its memory would be lost.
TEST_F(Pci, TheSystemSleepsUnlessACardIsUsed) {
  const std::string state = "/sys/power/state", sysfs = "/sys/class/speckv/speckv1/";
  {
    const Fd card = open_card(kSecond);
    const std::uint32_t queue = make_queue(card, 8).out_id;
    EXPECT_FALSE(write_file(state, "mem"));
    EXPECT_EQ(errno, EBUSY);
    EXPECT_EQ(code_of(carry_out(card, queue, nop(1))), SPECKV_CPL_OK);
  }
  ASSERT_TRUE(write_file(sysfs + "w_d", "7"));
  EXPECT_TRUE(sleep_and_wake()) << std::strerror(errno);
  EXPECT_EQ(read_file(sysfs + "state"), "ready\n");
  EXPECT_EQ(read_file(sysfs + "w_d"), "7\n");
  EXPECT_TRUE(write_file(sysfs + "w_d", "64"));
}

// With one before them, cards reach what is mapped for them and nothing else; what they
// try beyond that is a fault of the run.
TEST(Iommu, IsThereAndStrict) {
  for (const char* card : {"speckv0", "speckv1"}) {
    EXPECT_EQ(read_file(Home(card).folder + "iommu_group/type"), "DMA\n");
  }
}

// The card is pulled out in the middle of transfers, and dies. Runs last: it stays dead.
TEST(Lost, TheCardVanishesUnderLoadAndEveryWaiterWakes) {
  ASSERT_TRUE(on_pci());
  const Home home("speckv1");
  const Fd card = open_card(kSecond), event(::eventfd(0, EFD_CLOEXEC));
  MappedQueue queue(card, 8, event.get());
  ASSERT_TRUE(queue.good());
  const speckv_region_create memory = make_region(card, kPage);
  Uring ring(8);
  UnderLoad load(kSecond);
  load.wait_for(100);
  queue.arm(1);
  std::thread poller([&] {
    pollfd ready{event.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 60000), 1);
    pollfd file{card.get(), POLLHUP, 0};
    EXPECT_EQ(::poll(&file, 1, 60000), 1);
    EXPECT_NE(file.revents & POLLHUP, 0);
  });
  ASSERT_TRUE(write_file("/dev/console", "\nCARD PULL 1\n"));
  poller.join();
  load.wait_gone();
  load.stop();
  EXPECT_GE(load.gone(), 1U);
  speckv_query args{};
  EXPECT_EQ(call(card, SPECKV_IOC_QUERY, args), ENODEV);
  EXPECT_FALSE(Mapping(card.get(), memory.out_mmap_offset, kPage).good());
  EXPECT_EQ(errno, ENODEV);
  EXPECT_EQ(read_file("/sys/class/speckv/speckv1/state"), "gone\n");
  // The other card goes on; this one can be taken away while it is open.
  const Fd other = open_card();
  EXPECT_EQ(code_of(carry_out(other, make_queue(other, 8).out_id, nop(3))),
            SPECKV_CPL_OK);
  ASSERT_TRUE(write_file("/dev/console", "\nCARD KILL 1\n"));
  EXPECT_TRUE(home.unbind());
  EXPECT_NE(::access(kSecond, F_OK), 0);
}

// The link breaks, and the card is pulled out before it is whole again. The kernel looks
// for it for a minute, and may tell nobody; the driver gives it up by itself.
TEST(Lost, ARecoveryThatFailsIsTheEndOfTheCard) {
  ASSERT_TRUE(on_pci());
  if (scaled(1) < 10) GTEST_SKIP() << "nightly: the kernel waits for a minute";
  const LinkBreaker breaker;
  const Home home("speckv0");
  ASSERT_TRUE(write_file("/sys/module/speckv/parameters/timeout_ms", "50"));
  const Fd card = open_card();
  break_link(home);
  pollfd file{card.get(), POLLHUP, 0};
  EXPECT_EQ(::poll(&file, 1, 0), 0);
  ASSERT_TRUE(write_file("/dev/console", "\nCARD PULL 0\n"));
  EXPECT_EQ(::poll(&file, 1, 60000), 1);
  EXPECT_NE(file.revents & POLLHUP, 0);
  EXPECT_EQ(read_file("/sys/class/speckv/speckv0/state"), "gone\n");
  speckv_query args{};
  EXPECT_EQ(call(card, SPECKV_IOC_QUERY, args), ENODEV);
  ASSERT_TRUE(write_file("/sys/module/speckv/parameters/timeout_ms", "5000"));
}

}  // namespace
}  // namespace guest

// The three ways of submitting: SUBMIT and REAP, the mapped ring, io_uring commands.
// Every descriptor is answered once, whatever happens meanwhile.
#include <thread>
#include <vector>

#include "card.hpp"

namespace guest {
namespace {

constexpr std::uint32_t kThreads = 8;
constexpr std::uint32_t kDepth = 64;

// Tags in flight of one queue; an answer for a tag that is not, or twice, is a fault.
class Ledger {
 public:
  explicit Ledger(std::uint32_t tags) : open_(tags) {}
  std::uint16_t take() {
    for (std::uint16_t i = 0; i < open_.size(); ++i) {
      if (!open_[i]) {
        open_[i] = true;
        return i;
      }
    }
    ADD_FAILURE() << "no tag is free";
    return 0;
  }
  void answered(std::uint64_t tag) {
    if (tag >= open_.size() || !open_[tag]) {
      ++faults_;
    } else {
      open_[tag] = false;
      ++answers_;
    }
  }
  std::uint32_t answers() const { return answers_; }
  std::uint32_t faults() const { return faults_; }

 private:
  std::vector<bool> open_;
  std::uint32_t answers_ = 0, faults_ = 0;
};

template <typename Body>
void in_threads(Body body) {
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < kThreads; ++i)
    threads.emplace_back(body, i);
  for (std::thread& thread : threads)
    thread.join();
}

void wait_readable(const Fd& card) {
  pollfd ready{card.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 20000), 1);
}

void by_ioctl(const Fd& card, std::uint32_t count) {
  const std::uint32_t queue = make_queue(card, kDepth).out_id;
  Ledger ledger(kDepth);
  std::uint32_t sent = 0;
  while (ledger.answers() < count && !::testing::Test::HasFailure()) {
    speckv_desc descs[16];
    std::uint32_t n = 0, taken = 0;
    while (n < 16 && sent + n < count && sent + n - ledger.answers() < kDepth) {
      descs[n++] = nop(ledger.take());
    }
    if (n != 0) {
      ASSERT_EQ(submit(card, queue, descs, n, &taken), 0);
      ASSERT_EQ(taken, n);
      sent += taken;
    }
    speckv_cpl cpls[16];
    ASSERT_EQ(reap(card, queue, cpls, 16, &taken), 0);
    for (std::uint32_t i = 0; i < taken; ++i) {
      EXPECT_EQ(code_of(cpls[i]), SPECKV_CPL_OK);
      ledger.answered(cpls[i].tag);
    }
    if (taken == 0 && (sent == count || sent - ledger.answers() == kDepth)) {
      wait_readable(card);
    }
  }
  EXPECT_EQ(ledger.answers(), count);
  EXPECT_EQ(ledger.faults(), 0U);
}

void by_ring(const Fd& card, std::uint32_t count) {
  MappedQueue queue(card, kDepth);
  ASSERT_TRUE(queue.good());
  Ledger ledger(kDepth);
  while (ledger.answers() < count && !::testing::Test::HasFailure()) {
    while (queue.submitted() < count && queue.submitted() - queue.taken() < kDepth) {
      queue.push(nop(ledger.take()));
    }
    ASSERT_EQ(queue.ring(), 0);
    speckv_cpl cpl;
    ASSERT_TRUE(queue.take_in_time(&cpl));
    do {
      EXPECT_EQ(code_of(cpl), SPECKV_CPL_OK);
      ledger.answered(cpl.tag);
    } while (queue.take(&cpl));
  }
  EXPECT_EQ(ledger.answers(), count);
  EXPECT_EQ(ledger.faults(), 0U);
}

void by_uring(const Fd& card, std::uint32_t count) {
  const std::uint32_t queue = make_queue(card, kDepth).out_id;
  Uring ring(2 * kDepth);
  ASSERT_EQ(ring.error(), 0);
  // More than the queue takes at once: the kernel waits for room in our stead.
  Ledger ledger(kDepth + kDepth / 2);
  std::uint32_t sent = 0;
  while (ledger.answers() < count && !::testing::Test::HasFailure()) {
    while (sent < count && sent - ledger.answers() < kDepth + kDepth / 2) {
      const std::uint16_t tag = ledger.take();
      ring.push(card, queue, nop(tag), tag);
      ++sent;
    }
    ASSERT_GE(ring.submit(), 0);
    std::uint64_t tag = 0;
    int result = -1;
    ASSERT_TRUE(ring.wait(&tag, &result));
    EXPECT_EQ(result, 0);
    ledger.answered(tag);
  }
  EXPECT_EQ(ledger.answers(), count);
  EXPECT_EQ(ledger.faults(), 0U);
}

// Of each of eight threads, each with a file and a queue of its own: a million in all in
// the nightly run, a tenth of that on a simulated bus.
std::uint32_t descriptors() {
  if (scaled(1) < 10) return scaled(2500);
  return (on_pci() ? 100000 : 1000000) / kThreads;
}

TEST(Answers, EveryDescriptorOnceByIoctl) {
  in_threads([](std::uint32_t) { by_ioctl(open_card(), descriptors()); });
}

TEST(Answers, EveryDescriptorOnceByRing) {
  in_threads([](std::uint32_t) { by_ring(open_card(), descriptors()); });
}

TEST(Answers, EveryDescriptorOnceByUring) {
  in_threads([](std::uint32_t) { by_uring(open_card(), descriptors()); });
}

// Eight threads and one queue: what is submitted is what is reaped, by whomever.
TEST(Answers, OneQueueForManyThreads) {
  const Fd card = open_card();
  const std::uint32_t queue = make_queue(card, kDepth).out_id;
  const std::uint32_t each = scaled(1000);
  std::atomic<std::uint32_t> sent{0}, answered{0};
  in_threads([&](std::uint32_t) {
    for (std::uint32_t mine = 0; answered < kThreads * each;) {
      const speckv_desc desc = nop(7);
      speckv_cpl cpls[4];
      std::uint32_t taken = 0;
      if (mine < each) {
        const int error = submit(card, queue, &desc, 1);
        if (error == 0) {
          ++mine;
          ++sent;
        } else if (error != EAGAIN) {
          FAIL() << std::strerror(error);
        }
      }
      ASSERT_EQ(reap(card, queue, cpls, 4, &taken), 0);
      answered += taken;
      if (taken == 0) std::this_thread::yield();
    }
  });
  EXPECT_EQ(sent, kThreads * each);
  EXPECT_EQ(answered, kThreads * each);
}

TEST(Queue, CompletionsComeInOrderWithTheirTags) {
  const Fd card = open_card();
  MappedQueue queue(card, 4);
  ASSERT_TRUE(queue.good());
  for (std::uint16_t lap = 0; lap < 5; ++lap) {
    for (std::uint16_t i = 0; i < 4; ++i)
      queue.push(nop(static_cast<std::uint16_t>(100 * lap + i)));
    ASSERT_EQ(queue.ring(), 0);
    for (std::uint16_t i = 0; i < 4; ++i) {
      speckv_cpl cpl;
      ASSERT_TRUE(queue.take_in_time(&cpl));
      EXPECT_EQ(cpl.tag, 100 * lap + i);
      EXPECT_EQ(code_of(cpl), SPECKV_CPL_OK);
    }
  }
}

// One interrupt for each value stored, as soon as that many completions are there.
TEST(Queue, ArmedQueueRaisesItsEventfd) {
  const Fd card = open_card(), event(::eventfd(0, EFD_CLOEXEC));
  MappedQueue queue(card, 16, event.get());
  ASSERT_TRUE(queue.good());
  queue.arm(3);
  pollfd ready{event.get(), POLLIN, 0};
  for (std::uint16_t i = 0; i < 2; ++i)
    queue.push(nop(i));
  ASSERT_EQ(queue.ring(), 0);
  speckv_cpl cpl;
  ASSERT_TRUE(queue.take_in_time(&cpl));
  ASSERT_TRUE(queue.take_in_time(&cpl));
  EXPECT_EQ(::poll(&ready, 1, 0), 0);
  queue.push(nop(2));
  ASSERT_EQ(queue.ring(), 0);
  EXPECT_EQ(::poll(&ready, 1, 20000), 1);
  std::uint64_t raised = 0;
  ASSERT_EQ(::read(event.get(), &raised, sizeof raised), 8);
  EXPECT_EQ(raised, 1U);
  pollfd file{card.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&file, 1, 0), 1);
  EXPECT_EQ(file.revents, POLLIN);
}

TEST(Queue, ReapRaisesPollAndEventfd) {
  const Fd card = open_card(), event(::eventfd(0, EFD_CLOEXEC));
  const std::uint32_t queue = make_queue(card, 8, event.get()).out_id;
  pollfd files[2] = {{card.get(), POLLIN, 0}, {event.get(), POLLIN, 0}};
  EXPECT_EQ(::poll(files, 2, 0), 0);
  const speckv_desc desc = nop(9);
  ASSERT_EQ(submit(card, queue, &desc, 1), 0);
  EXPECT_EQ(::poll(files, 1, 20000), 1);
  EXPECT_EQ(::poll(files + 1, 1, 20000), 1);
  speckv_cpl cpl;
  std::uint32_t taken = 0;
  ASSERT_EQ(reap(card, queue, &cpl, 1, &taken), 0);
  EXPECT_EQ(cpl.tag, 9);
  EXPECT_EQ(::poll(files, 1, 0), 0);
}

TEST(Queue, ABadDescriptorHurtsNoOther) {
  const Fd card = open_card();
  const std::uint32_t queue = make_queue(card, 8).out_id;
  speckv_desc bad = nop(1);
  bad.opcode = 200;
  EXPECT_EQ(code_of(carry_out(card, queue, bad)), SPECKV_CPL_BAD_DESC);
  bad.opcode = SPECKV_OP_PREDICT;
  // Where there is PREDICT, this is none of its tasks' descriptors.
  EXPECT_EQ(code_of(carry_out(card, queue, bad)), has(card, SPECKV_FEATURE_PREDICT)
                                                      ? SPECKV_CPL_BAD_DESC
                                                      : SPECKV_CPL_UNSUPPORTED);
  bad = nop(1);
  bad.length = 1;
  EXPECT_EQ(code_of(carry_out(card, queue, bad)), SPECKV_CPL_BAD_DESC);
  EXPECT_EQ(code_of(carry_out(card, queue, nop(2))), SPECKV_CPL_OK);
}

// A tail beyond the ring stops the queue; a reset makes it as new.
TEST(Queue, AnOverrunStopsTheQueueUntilItsReset) {
  const Fd card = open_card();
  MappedQueue queue(card, 4);
  ASSERT_TRUE(queue.good());
  MappedQueue other(card, 4);
  for (int i = 0; i < 5; ++i)
    queue.push(nop(1));
  ASSERT_EQ(queue.ring(), 0);
  pollfd file{card.get(), POLLERR, 0};
  EXPECT_EQ(::poll(&file, 1, 20000), 1);
  EXPECT_NE(file.revents & POLLERR, 0);
  speckv_object args{};
  args.id = queue.id();
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_KICK, args), EIO);
  other.push(nop(3));
  ASSERT_EQ(other.ring(), 0);
  speckv_cpl cpl;
  EXPECT_TRUE(other.take_in_time(&cpl));
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), 0);
  queue.renew();
  queue.push(nop(5));
  ASSERT_EQ(queue.ring(), 0);
  ASSERT_TRUE(queue.take_in_time(&cpl));
  EXPECT_EQ(cpl.tag, 5);
}

// A queue is kicked while it is destroyed: the engine never looks at one that is freed,
// which the kernel's checks of memory would tell.
TEST(Queue, MayBeKickedWhileItIsDestroyed) {
  const Fd card = open_card();
  const std::uint32_t rounds = scaled(4000);
  std::atomic<std::uint32_t> id{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> kickers;
  for (int i = 0; i < 3; ++i) {
    kickers.emplace_back([&] {
      while (!stop) {
        speckv_object args{};
        args.id = id;
        const int error = call(card, SPECKV_IOC_QUEUE_KICK, args);
        EXPECT_TRUE(error == 0 || error == ENOENT || error == ENODEV || error == EINVAL)
            << std::strerror(error);
      }
    });
  }
  for (std::uint32_t round = 0; round < rounds && !HasFailure(); ++round) {
    id = make_queue(card, 8).out_id;
    speckv_object args{};
    args.id = id;
    EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_DESTROY, args), 0);
  }
  stop = true;
  for (std::thread& kicker : kickers)
    kicker.join();
  EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))), SPECKV_CPL_OK);
}

TEST(Tracing, SubmissionsAnswersAndFaultsAreTold) {
  const std::string folder = "/sys/kernel/tracing/";
  Fd(::open((folder + "trace").c_str(), O_WRONLY | O_TRUNC)).reset();
  ASSERT_TRUE(write_file(folder + "events/speckv/enable", "1"));
  const Fd card = open_card();
  speckv_object args{};
  args.id = make_queue(card, 8).out_id;
  speckv_desc bad = nop(0);
  bad.length = 77;
  EXPECT_EQ(code_of(carry_out(card, args.id, bad)), SPECKV_CPL_BAD_DESC);
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), 0);
  EXPECT_TRUE(write_file(folder + "events/speckv/enable", "0"));
  const std::string told = read_file(folder + "trace");
  for (const char* event : {"speckv_submit: queue=", "opcode=0 length=77",
                            "speckv_complete: queue=", "code=1 result=0",
                            "speckv_fault: queue=", "error=-5"}) {
    EXPECT_NE(told.find(event), std::string::npos) << event << " in\n" << told;
  }
}

TEST(Debugfs, RingsAreShown) {
  const Fd card = open_card();
  const MappedQueue mapped(card, 32);
  const std::string rings = read_file(std::string(kDebugfs) + "rings");
  EXPECT_NE(rings.find("depth 32 mapped error 0"), std::string::npos) << rings;
}

}  // namespace
}  // namespace guest

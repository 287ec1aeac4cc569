// Who carries descriptors out on a software card: what is short its submitter, before the
// call returns; the rest a worker. Neither the order of a queue, nor an answer, nor a
// region's pages depend on which of them it was.
#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

#include "card.hpp"

namespace guest {
namespace {

constexpr std::uint32_t kLong = 1U << 20;  // longer than what submitters do themselves
constexpr std::uint32_t kDepth = 64;

class Serve : public ::testing::Test {
 protected:
  void SetUp() override {
    if (on_pci()) GTEST_SKIP() << "of software cards";
  }
};

TEST_F(Serve, AShortDescriptorIsAnsweredBeforeItsSubmitReturns) {
  const Fd card = open_card();
  const std::uint32_t memory = make_region(card, 2 * kPage).out_id;
  speckv_desc bad = nop(3);
  bad.length = 1;
  const speckv_desc descs[] = {nop(1), copy(memory, 0, memory, kPage, kPage), bad};
  const std::uint32_t queue = make_queue(card, 8).out_id;
  ASSERT_EQ(submit(card, queue, descs, 3), 0);
  speckv_cpl cpls[8];
  std::uint32_t taken = 0;
  ASSERT_EQ(reap(card, queue, cpls, 8, &taken), 0);
  ASSERT_EQ(taken, 3U);
  EXPECT_EQ(cpls[0].tag, 1);
  EXPECT_EQ(code_of(cpls[0]), SPECKV_CPL_OK);
  EXPECT_EQ(cpls[1].result, kPage);
  EXPECT_EQ(code_of(cpls[2]), SPECKV_CPL_BAD_DESC);
}

TEST_F(Serve, AShortDescriptorIsAnsweredBeforeItsKickReturns) {
  const Fd card = open_card();
  MappedQueue queue(card, 8);
  ASSERT_TRUE(queue.good());
  speckv_cpl cpl;
  for (std::uint16_t i = 0; i < 20; ++i) {
    queue.push(nop(i));
    ASSERT_EQ(queue.ring(), 0);
    ASSERT_TRUE(queue.take(&cpl)) << i;
    EXPECT_EQ(cpl.tag, i);
  }
}

TEST_F(Serve, AShortCommandIsAnsweredBeforeItsSubmissionReturns) {
  const Fd card = open_card();
  const std::uint32_t memory = make_region(card, 2 * kPage).out_id;
  const std::uint32_t queue = make_queue(card, 8).out_id;
  io_uring ring{};
  ASSERT_EQ(io_uring_queue_init(8, &ring, IORING_SETUP_SQE128), 0);
  speckv_desc bad = nop(0);
  bad.length = 1;
  const std::pair<speckv_desc, int> commands[] = {
      {nop(0), 0},
      {copy(memory, 0, memory, kPage, 100), 100},
      {bad, -EINVAL},
      {copy(memory, 0, memory + 1, 0, 8), -EFAULT}};
  for (const auto& [desc, wanted] : commands) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    speckv_submit args{};
    args.queue = queue;
    args.desc = desc;
    std::memset(entry, 0, 128);
    entry->opcode = IORING_OP_URING_CMD;
    entry->fd = card.get();
    entry->cmd_op = SPECKV_URING_SUBMIT;
    entry->user_data = 7;
    std::memcpy(entry->cmd, &args, sizeof args);
    ASSERT_EQ(io_uring_submit(&ring), 1);
    io_uring_cqe* answer = nullptr;
    ASSERT_EQ(io_uring_peek_cqe(&ring, &answer), 0) << wanted;
    EXPECT_EQ(answer->res, wanted);
    EXPECT_EQ(answer->user_data, 7U);
    io_uring_cqe_seen(&ring, answer);
  }
  io_uring_queue_exit(&ring);
}

// A command whose descriptor is left to the worker, one that succeeds with bytes, and the
// commands that are linked to them.
TEST_F(Serve, LinkedCommandsGoOnAfterEitherWay) {
  const Fd card = open_card();
  const std::uint32_t memory = make_region(card, 2 * kLong).out_id;
  const std::uint32_t queue = make_queue(card, 8).out_id;
  io_uring ring{};
  ASSERT_EQ(io_uring_queue_init(8, &ring, IORING_SETUP_SQE128), 0);
  const speckv_desc descs[] = {copy(memory, 0, memory, kLong, 64),
                               copy(memory, 0, memory, kLong, kLong),
                               copy(memory, 0, memory, kLong, 32), nop(0)};
  for (std::uint64_t i = 0; i < 4; ++i) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    speckv_submit args{};
    args.queue = queue;
    args.desc = descs[i];
    std::memset(entry, 0, 128);
    entry->opcode = IORING_OP_URING_CMD;
    entry->fd = card.get();
    entry->cmd_op = SPECKV_URING_SUBMIT;
    entry->user_data = i;
    entry->flags = i < 3 ? IOSQE_IO_LINK : 0;
    std::memcpy(entry->cmd, &args, sizeof args);
  }
  ASSERT_EQ(io_uring_submit(&ring), 4);
  const int wanted[] = {64, static_cast<int>(kLong), 32, 0};
  for (std::uint64_t i = 0; i < 4; ++i) {
    io_uring_cqe* answer = nullptr;
    ASSERT_EQ(io_uring_wait_cqe(&ring, &answer), 0);
    EXPECT_EQ(answer->user_data, i);
    EXPECT_EQ(answer->res, wanted[i]);
    io_uring_cqe_seen(&ring, answer);
  }
  io_uring_queue_exit(&ring);
}

// Long and short descriptors, and several who kick at all times: worker and submitters
// alternate, and the queue's order stays.
TEST_F(Serve, AQueueKeepsItsOrderWhoeverServesIt) {
  const Fd card = open_card();
  const std::uint32_t memory = make_region(card, 2 * kLong).out_id;
  MappedQueue queue(card, kDepth);
  ASSERT_TRUE(queue.good());
  std::atomic<bool> stop{false};
  std::vector<std::thread> kickers;
  for (int i = 0; i < 3; ++i) {
    kickers.emplace_back([&] {
      speckv_object args{};
      args.id = queue.id();
      while (!stop)
        EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_KICK, args), 0);
    });
  }
  const std::uint32_t count = scaled(2000);
  while (queue.taken() < count && !HasFailure()) {
    while (queue.submitted() < count && queue.submitted() - queue.taken() < kDepth) {
      const auto tag = static_cast<std::uint16_t>(queue.submitted());
      // What fills a mark shows whether a copy before it was done: all of one queue.
      speckv_desc desc = tag % 37 == 5 ? copy(memory, 0, memory, kLong, kLong) : nop(0);
      desc.tag = tag;
      queue.push(desc);
    }
    EXPECT_EQ(queue.ring(), 0);
    speckv_cpl cpl;
    const auto wanted = static_cast<std::uint16_t>(queue.taken());
    if (!queue.take_in_time(&cpl)) {
      ADD_FAILURE() << "no answer";
      break;
    }
    EXPECT_EQ(cpl.tag, wanted);
    EXPECT_EQ(code_of(cpl), SPECKV_CPL_OK);
  }
  stop = true;
  for (std::thread& kicker : kickers)
    kicker.join();
}

// What is stored while a turn lasts is seen by it, for whoever stored it saw no need to
// kick.
TEST_F(Serve, WhatIsStoredInATurnIsSeenByIt) {
  const Fd card = open_card();
  const std::uint32_t memory = make_region(card, 2 * kLong).out_id;
  MappedQueue queue(card, 8);
  ASSERT_TRUE(queue.good());
  std::uint32_t unkicked = 0;
  for (std::uint32_t i = 0; i < scaled(200) + 5; ++i) {
    speckv_cpl cpl;
    // With the first answered, the tail that the worker has looked at is the second's.
    queue.push(copy(memory, 0, memory, kLong, kLong));
    queue.push(copy(memory, 0, memory, kLong, kLong));
    ASSERT_EQ(queue.ring(), 0);
    ASSERT_TRUE(queue.take_in_time(&cpl)) << i;
    queue.push(nop(3));
    unkicked += queue.need_kick() ? 0U : 1U;
    ASSERT_EQ(queue.ring(), 0);
    ASSERT_TRUE(queue.take_in_time(&cpl)) << i;
    ASSERT_TRUE(queue.take_in_time(&cpl)) << "no answer in round " << i;
  }
  EXPECT_GT(unkicked, 0U);
}

// Two that kick once each. need_kick tells when the first has its turn: 0 from its
// beginning on, 1 shortly before its end.
class Kicks {
 public:
  Kicks(const Fd& card, MappedQueue& queue)
      : queue_(queue), other_([this, &card] { kick(card); }) {}
  ~Kicks() {
    round_ = kEnd;
    other_.join();
  }
  Kicks(const Kicks&) = delete;
  Kicks& operator=(const Kicks&) = delete;

  // The other's kick begins. False: it ended without a turn that was seen.
  bool until_turn() {
    ++round_;
    while (queue_.need_kick()) {
      if (done_ == round_) return false;
    }
    return true;
  }
  // How often need_kick is looked at until it is 1 again.
  std::uint32_t until_end() {
    std::uint32_t looks = 1;
    while (!queue_.need_kick())
      ++looks;
    return looks;
  }
  void look(std::uint32_t times) {
    while (times-- != 0)
      queue_.need_kick();
  }
  void until_done() {
    while (done_ != round_) {}
  }

 private:
  static constexpr std::uint32_t kEnd = ~0U;
  void kick(const Fd& card) {
    speckv_object args{};
    args.id = queue_.id();
    for (std::uint32_t last = 0, now = 0; now != kEnd; done_ = last = now) {
      while ((now = round_) == last) {}
      EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_KICK, args), 0);
    }
  }

  MappedQueue& queue_;
  std::atomic<std::uint32_t> round_{0}, done_{0};
  std::thread other_;
};

// A tail that is stored at any moment of another's turn, again and again near its end:
// either the turn sees it, or who has stored it sees that a kick is needed.
TEST_F(Serve, ATailIsSeenOrItsKickIsNeeded) {
  const Fd card = open_card();
  MappedQueue queue(card, 8);
  ASSERT_TRUE(queue.good());
  Kicks kicks(card, queue);
  std::uint32_t turn = 8, seen = 0;  // in looks at need_kick; the rounds that saw one
  for (std::uint32_t i = 0; i < scaled(20000); ++i) {
    queue.push(nop(1));
    if (kicks.until_turn()) {
      ++seen;
      if (i % 8 == 0)
        turn = std::min(kicks.until_end(), 2 * turn);
      else
        kicks.look(i % (turn + turn / 2 + 4));
    }
    ASSERT_EQ(queue.ring(), 0);
    speckv_cpl cpl;
    ASSERT_TRUE(queue.take_in_time(&cpl)) << "no answer in round " << i;
    kicks.until_done();
  }
  std::printf("NOTE %u rounds beside a turn of %u looks\n", seen, turn);
  EXPECT_GT(seen, 0U);
}

// Makes the end of every turn long: a stack is recorded before a mutex is let go.
class SlowUnlock {
 public:
  SlowUnlock() {
    good_ = write_file(kEvents, "p:speckv_late mutex_unlock") &&
            write_file(std::string(kEvent) + "trigger", "stacktrace") &&
            write_file(std::string(kEvent) + "enable", "1");
  }
  ~SlowUnlock() {
    write_file(std::string(kEvent) + "enable", "0");
    write_file(std::string(kEvent) + "trigger", "!stacktrace");
    write_file(kEvents, "-:speckv_late");
  }
  SlowUnlock(const SlowUnlock&) = delete;
  SlowUnlock& operator=(const SlowUnlock&) = delete;
  bool good() const { return good_; }
  static constexpr const char* kEvents = "/sys/kernel/tracing/kprobe_events";

 private:
  static constexpr const char* kEvent = "/sys/kernel/tracing/events/kprobes/speckv_late/";
  bool good_;
};

// A kick that comes when another's turn has looked at the tail for the last time, and has
// not ended: it is the worker's then.
TEST_F(Serve, NoKickIsLostBesideAnother) {
  SPECKV_NEEDS(SlowUnlock::kEvents, "CONFIG_KPROBE_EVENTS");
  const Fd card = open_card();
  MappedQueue queue(card, 8);
  ASSERT_TRUE(queue.good());
  const SlowUnlock slow;
  ASSERT_TRUE(slow.good());
  Kicks kicks(card, queue);
  std::uint32_t seen = 0;
  for (std::uint32_t i = 0; i < scaled(2000); ++i) {
    queue.push(nop(1));
    if (kicks.until_turn()) {
      kicks.until_end();
      kicks.look(i % 16);
      ++seen;
    }
    ASSERT_EQ(queue.ring(), 0);
    speckv_cpl cpl;
    ASSERT_TRUE(queue.take_in_time(&cpl)) << "no answer in round " << i;
    kicks.until_done();
  }
  std::printf("NOTE %u kicks beside another\n", seen);
  EXPECT_GT(seen, 0U);
}

// Kicked and submitted to by several while it is reset again and again, then destroyed.
TEST_F(Serve, AQueueMayBeResetAndDestroyedUnderItsSubmitters) {
  const Fd card = open_card();
  const std::uint32_t memory = make_region(card, 2 * kLong).out_id;
  std::atomic<std::uint32_t> id{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::uint16_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      while (!stop) {
        const speckv_desc descs[] = {
            nop(i), copy(memory, 0, memory, kLong, i == 0 ? kLong / 2 : 64)};
        speckv_cpl cpls[kDepth];
        std::uint32_t taken = 0;
        int error = submit(card, id, descs, 2);
        EXPECT_TRUE(error == 0 || error == EAGAIN || error == EIO || error == ENODEV ||
                    error == ENOENT)
            << std::strerror(error);
        error = reap(card, id, cpls, kDepth, &taken);
        EXPECT_TRUE(error == 0 || error == EIO || error == ENODEV || error == ENOENT)
            << std::strerror(error);
        speckv_object args{};
        args.id = id;
        call(card, SPECKV_IOC_QUEUE_KICK, args);
      }
    });
  }
  for (std::uint32_t round = 0; round < scaled(200) && !HasFailure(); ++round) {
    speckv_object args{};
    id = args.id = make_queue(card, kDepth).out_id;
    for (int i = 0; i < 5; ++i)
      EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), 0);
    EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_DESTROY, args), 0);
  }
  stop = true;
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))), SPECKV_CPL_OK);
}

std::string locked() {
  const std::string status = read_file("/proc/self/status");
  const std::size_t at = status.find("VmLck:");
  return status.substr(at, status.find('\n', at) - at);
}

// A region goes beside descriptors that name it: when the call returns, none is at work
// on it any more, and its pages are nobody's.
TEST_F(Serve, ARegionThatIsDestroyedIsAtWorkNoMore) {
  const Fd card = open_card();
  Mapping pages;
  pages.length = kLong;
  pages.at =
      ::mmap(nullptr, kLong, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_TRUE(pages.good());
  const std::uint32_t memory = make_region(card, kLong).out_id;
  const std::string before = locked();
  std::atomic<std::uint32_t> id{0};
  std::atomic<bool> stop{false};
  std::thread copier([&] {
    MappedQueue queue(card, 8);
    for (std::uint32_t i = 0; !stop; ++i) {
      speckv_cpl cpl;
      queue.push(copy(id, 0, memory, 0, i % 2 == 0 ? kLong : 64));
      ASSERT_EQ(queue.ring(), 0);
      ASSERT_TRUE(queue.take_in_time(&cpl));
      const unsigned code = code_of(cpl);
      EXPECT_TRUE(code == SPECKV_CPL_OK || code == SPECKV_CPL_BAD_REGION) << code;
    }
  });
  for (std::uint32_t round = 0; round < scaled(100) && !HasFailure(); ++round) {
    speckv_object region{};
    id = region.id = make_region(card, kLong, pages.at).out_id;
    int error = EBUSY;
    while (error == EBUSY)
      error = call(card, SPECKV_IOC_REGION_DESTROY, region);
    EXPECT_EQ(error, 0);
    EXPECT_EQ(locked(), before) << round;
  }
  stop = true;
  copier.join();
}

}  // namespace
}  // namespace guest

// Who carries descriptors out on a software card: what is short its submitter, before the
// call returns; the rest a worker. Neither the order of a queue, nor an answer, nor a
// region's pages depend on which of them it was.
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

// Two kick at the same moment, once each: whoever finds the other at work leaves nothing
// behind that nobody looks at.
TEST_F(Serve, NoKickIsLostBesideAnother) {
  const Fd card = open_card();
  MappedQueue queue(card, 8);
  ASSERT_TRUE(queue.good());
  std::atomic<std::uint32_t> round{0};
  constexpr std::uint32_t kEnd = ~0U;
  std::thread other([&] {
    speckv_object args{};
    args.id = queue.id();
    for (std::uint32_t last = 0, now = 0; now != kEnd; last = now) {
      while ((now = round) == last) {}
      EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_KICK, args), 0);
    }
  });
  for (std::uint32_t i = 1; i <= scaled(20000); ++i) {
    queue.push(nop(static_cast<std::uint16_t>(i)));
    round = i;
    // So that the tail is stored at any moment of the other's turn.
    std::atomic<std::uint32_t> spins{i * 37 % 4001};
    while (spins != 0)
      --spins;
    EXPECT_EQ(queue.ring(), 0);
    speckv_cpl cpl;
    if (!queue.take_in_time(&cpl)) {
      ADD_FAILURE() << "no answer in round " << i;
      break;
    }
  }
  round = kEnd;
  other.join();
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

// What tests/conformance/engine_errors.cpp asks of engines that show their registers, by
// what a program and an operator see of a card: faults by debugfs, counters by sysfs.
#include <algorithm>

#include "card.hpp"

namespace guest {
namespace {

bool inject(int kind, std::uint64_t argument) {
  return write_file(std::string(kDebugfs) + "inject",
                    std::to_string(kind) + ' ' + std::to_string(argument));
}

std::uint64_t counter(const std::string& name) {
  const std::string all = '\n' + read_file(std::string(kSysfs) + "telemetry");
  const std::size_t at = all.find('\n' + name + ' ');
  EXPECT_NE(at, std::string::npos) << name;
  return at == std::string::npos
             ? 0
             : std::strtoull(all.c_str() + at + name.size() + 2, nullptr, 10);
}

constexpr int kLosses[] = {SPECKV_INJECT_FETCH, SPECKV_INJECT_COMPLETION};

// The number of a queue in the card is its id less one.
TEST(Errors, ALossStopsItsMappedQueueAndNoOther) {
  const Fd card = open_card(), other = open_card();
  MappedQueue healthy(other, 8);
  for (const int kind : kLosses) {
    MappedQueue victim(card, 8);
    ASSERT_TRUE(victim.good() && healthy.good());
    speckv_cpl cpl;
    victim.push(nop(1));
    ASSERT_EQ(victim.ring(), 0);
    ASSERT_TRUE(victim.take_in_time(&cpl));
    const std::uint64_t logged = counter("errors_logged");
    ASSERT_TRUE(inject(kind, victim.id() - 1)) << kind;
    victim.push(nop(2));
    ASSERT_EQ(victim.ring(), 0);
    pollfd file{card.get(), POLLERR, 0};
    ASSERT_EQ(::poll(&file, 1, 20000), 1) << kind;
    EXPECT_NE(file.revents & POLLERR, 0);
    EXPECT_FALSE(victim.take(&cpl));
    EXPECT_EQ(counter("errors_logged"), logged + 1);
    healthy.push(nop(7));
    ASSERT_EQ(healthy.ring(), 0);
    ASSERT_TRUE(healthy.take_in_time(&cpl));
    EXPECT_EQ(cpl.tag, 7);
    speckv_object args{};
    args.id = victim.id();
    EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_KICK, args), EIO);
    ASSERT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, args), 0);
    victim.renew();
    victim.push(nop(3));
    ASSERT_EQ(victim.ring(), 0);
    ASSERT_TRUE(victim.take_in_time(&cpl));
    EXPECT_EQ(cpl.tag, 3);
    EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_DESTROY, args), 0);
  }
}

// Of the kernel's queues, what has no completion is answered all the same, once.
TEST(Errors, WhatALossLeavesUnansweredIsAborted) {
  const Fd card = open_card();
  for (const int kind : kLosses) {
    speckv_object queue{};
    queue.id = make_queue(card, 8).out_id;
    EXPECT_EQ(code_of(carry_out(card, queue.id, nop(1))), SPECKV_CPL_OK);
    ASSERT_TRUE(inject(kind, queue.id - 1)) << kind;
    const speckv_desc descs[] = {nop(5), nop(6), nop(7)};
    std::uint32_t sent = 0;
    // The queue may stop at the first of them, before the others come.
    ASSERT_EQ(submit(card, queue.id, descs, 3, &sent), 0);
    pollfd file{card.get(), POLLERR, 0};
    ASSERT_EQ(::poll(&file, 1, 20000), 1) << kind;
    speckv_cpl cpls[8];
    std::uint32_t taken = 0;
    ASSERT_EQ(reap(card, queue.id, cpls, 8, &taken), 0);
    ASSERT_EQ(taken, sent);
    for (std::uint32_t i = 0; i < taken; ++i) {
      EXPECT_EQ(cpls[i].tag, 5 + i);
      EXPECT_EQ(code_of(cpls[i]), SPECKV_CPL_ABORTED);
    }
    EXPECT_EQ(reap(card, queue.id, cpls, 8, &taken), EIO);
    Uring ring(8);
    EXPECT_EQ(ring.run(card, queue.id, nop(1)), -EIO);
    ASSERT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, queue), 0);
    ASSERT_TRUE(inject(kind, queue.id - 1));
    EXPECT_EQ(ring.run(card, queue.id, nop(1)), -EIO);
    ASSERT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, queue), 0);
    EXPECT_EQ(ring.run(card, queue.id, nop(1)), 0);
    EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_DESTROY, queue), 0);
  }
}

// The fatal state: memory keeps its bytes; the directory, counters and queues are as new.
TEST(Errors, AFatalCardKeepsItsBytesAndNothingElse) {
  const Fd card = open_card();
  const speckv_region_create memory = make_region(card, 2 * kPage);
  const Mapping seen(card.get(), memory.out_mmap_offset, 2 * kPage);
  ASSERT_TRUE(seen.good());
  std::fill_n(seen.bytes(), kPage, std::uint8_t{0x5a});
  speckv_object queue{};
  queue.id = make_queue(card, 8).out_id;
  speckv_desc block = copy(memory.out_id, 0, memory.out_id, kPage, 64);
  block.flags = SPECKV_DESC_NAMED;
  block.tokens = 1;
  ASSERT_EQ(code_of(carry_out(card, queue.id, block)), SPECKV_CPL_OK);
  speckv_hint hint{};
  hint.hint = SPECKV_HINT_HOT;
  hint.tokens = 1;
  EXPECT_EQ(call(card, SPECKV_IOC_HINT, hint), 0);
  ASSERT_TRUE(inject(SPECKV_INJECT_FATAL, 0));
  const speckv_desc desc = nop(1);
  EXPECT_EQ(submit(card, queue.id, &desc, 1), EIO);
  ASSERT_TRUE(write_file(std::string(kSysfs) + "reset", "1"));
  EXPECT_EQ(counter("descriptors"), 0U);
  EXPECT_EQ(counter("directory_inserted"), 0U);
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_RESET, queue), 0);
  EXPECT_EQ(call(card, SPECKV_IOC_HINT, hint), ENOENT);
  EXPECT_EQ(code_of(carry_out(card, queue.id,
                              copy(memory.out_id, 0, memory.out_id, kPage, kPage))),
            SPECKV_CPL_OK);
  EXPECT_EQ(std::count(seen.bytes(), seen.bytes() + 2 * kPage, 0x5a),
            static_cast<std::ptrdiff_t>(2 * kPage));
}

TEST(Errors, CountersShowWhatWasDone) {
  const Fd card = open_card();
  const std::uint32_t memory = make_region(card, 4 * kPage).out_id;
  const std::uint32_t queue = make_queue(card, 8).out_id;
  const char* names[] = {"descriptors", "completions", "failures", "bytes_read",
                         "bytes_written"};
  std::uint64_t before[5];
  std::transform(std::begin(names), std::end(names), before, counter);
  EXPECT_EQ(code_of(carry_out(card, queue, copy(memory, 0, memory, 2 * kPage, 5000))),
            SPECKV_CPL_OK);
  EXPECT_EQ(code_of(carry_out(card, queue, copy(0, 0, memory, 0, 5))),
            SPECKV_CPL_BAD_REGION);
  const std::uint64_t more[] = {2, 2, 1, 5000, 5000};
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_EQ(counter(names[i]), before[i] + more[i]) << names[i];
}

}  // namespace
}  // namespace guest

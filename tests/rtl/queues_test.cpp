// The queue pairs against a host, a mover and a command engine that stall at random:
// every descriptor taken once and in order, every completion in its place with its phase,
// interrupts as armed, errors of one queue no other's; cycles from doorbell to fetch.
#include <cstdio>
#include <optional>

#include <gtest/gtest.h>

#include "Vspeckv_queues.h"
#include "rtl/queues_bench.hpp"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

class Queues : public ::testing::Test {
 protected:
  Queues() { restart(1); }

  void restart(std::uint64_t seed) {
    sim_.emplace(seed);
    random.seed(seed);
    auto& s = *sim_;
    s->enable_i = 1;
    s->clear_i = s->request_i = s->inject_i = 0;
    s->fetch_ready_i = s->fetched_valid_i = s->command_ready_i = s->outcome_valid_i = 0;
    s->complete_ready_i = s->entry_ready_i = s->written_valid_i = 0;
    s->raise_ready_i = s->error_ready_i = 0;
    s.reset();
    for (Pair& pair : pairs)
      pair = Pair{};
    fetch_.reset();
    command_.reset();
    write_.reset();
    errors.clear();
    took = answered = failed = 0;
  }

  // One cycle of everything around the block.
  void tick() {
    auto& s = *sim_;
    s->fetch_ready_i = !fetch_ && willing(random);
    s->command_ready_i = !command_ && willing(random);
    s->complete_ready_i = !write_ && willing(random);
    s->entry_ready_i = write_ && !write_->filled && willing(random);
    s->raise_ready_i = willing(random);
    s->error_ready_i = willing(random);
    if (fetch_ && s->fetched_valid_i == 0 && willing(random)) offer_descriptor();
    s->outcome_valid_i = command_ && willing(random) ? 1 : 0;
    if (s->outcome_valid_i != 0) {
      s->outcome_code_i = static_cast<std::uint16_t>(answer_of(*command_));
      s->outcome_result_i = hash(*command_);
      s->outcome_crc_i = ~hash(*command_);
    }
    if (write_ && write_->filled && s->written_valid_i == 0 && willing(random)) {
      s->written_valid_i = 1;
      s->written_error_i = write_->pair == fail_write;
    }
    s.settle();
    took += s->took_o;
    answered += s->answered_o;
    failed += s->failed_o;
    const bool given = s->fetched_valid_i != 0 && s->fetched_ready_o != 0;
    const bool done = s->written_valid_i != 0 && s->written_ready_o != 0;
    if (s->raise_valid_o != 0 && s->raise_ready_i != 0)
      ++pairs.at(s->raise_vector_o).interrupts;
    if (s->error_valid_o != 0 && s->error_ready_i != 0)
      errors.push_back(s->error_entry_o);
    if (s->fetch_valid_o != 0 && first_fetch == 0) first_fetch = s.cycle();
    if (given) end_fetch();
    if (s->fetch_valid_o != 0 && s->fetch_ready_i != 0) begin_fetch(s->fetch_address_o);
    if (s->outcome_valid_i != 0) command_.reset();
    if (s->command_valid_o != 0 && s->command_ready_i != 0) begin_command();
    if (done) end_write();
    if (s->entry_valid_o != 0 && s->entry_ready_i != 0) take_entry();
    if (s->complete_valid_o != 0 && s->complete_ready_i != 0)
      begin_write(s->complete_address_o);
    s.edge();
    if (given) s->fetched_valid_i = 0;
    if (done) s->written_valid_i = 0;
  }

  void ticks(std::uint64_t count) {
    for (; count > 0; --count)
      tick();
  }
  std::uint32_t access(std::uint32_t address, bool write, std::uint32_t value) {
    auto& s = *sim_;
    s->request_i = 1;
    s->write_i = write;
    s->address_i = address;
    s->write_data_i = value;
    tick();
    s->request_i = 0;
    for (int i = 0; i < 1000; ++i) {
      s.settle();
      if (s->done_o != 0) break;
      tick();
    }
    EXPECT_EQ(s->done_o, 1);
    const std::uint32_t told = s->read_data_o;
    tick();
    return told;
  }
  std::uint32_t read(std::uint32_t address) { return access(address, false, 0); }
  void write(std::uint32_t address, std::uint32_t value) { access(address, true, value); }
  void write64(std::uint32_t address, std::uint64_t value) {
    write(address, static_cast<std::uint32_t>(value));
    write(address + 4, static_cast<std::uint32_t>(value >> 32));
  }

  std::uint32_t below(std::uint64_t n) {
    return static_cast<std::uint32_t>(random() % n);
  }
  void enable(std::uint32_t q, std::uint32_t depth_log2, std::uint32_t coalesce = 0) {
    Pair& pair = pairs.at(q);
    pair = Pair{};
    pair.submission = (random() & 0x7fffff) << 34 | std::uint64_t{q} << 30;
    pair.completion = pair.submission + (1U << 29) + 16 * (random() % 4);
    pair.depth_log2 = depth_log2;
    pair.tenant = below(engine::kMaxTenants);
    write64(queue_register(q, queue::kSubmissionBase), pair.submission);
    write64(queue_register(q, queue::kCompletionBase), pair.completion);
    write(queue_register(q, queue::kSetup), pair.tenant << 16 | depth_log2);
    write(queue_register(q, queue::kCoalesce), coalesce);
    pair.on = true;
    write(queue_register(q, queue::kControl), 5);
  }
  void submit(std::uint32_t q, std::uint32_t count) {
    Pair& pair = pairs.at(q);
    for (; count > 0; --count) {
      pair.submitted.push_back(static_cast<std::uint16_t>(random() % kNoTag));
      ++pair.tail;
    }
    write(doorbell_register(q, doorbell::kTail), pair.tail);
  }
  void arm(std::uint32_t q, std::uint32_t value) {
    pairs.at(q).arm = value;
    write(doorbell_register(q, doorbell::kArm), value);
  }
  QueueState state(std::uint32_t q) {
    return static_cast<QueueState>(read(queue_register(q, queue::kStatus)) & 3);
  }
  QueueCause cause(std::uint32_t q) {
    return static_cast<QueueCause>(read(queue_register(q, queue::kStatus)) >> 8);
  }
  void reset_queue(std::uint32_t q) {
    write(queue_register(q, queue::kControl), 2);
    for (int i = 0; (read(queue_register(q, queue::kControl)) & 2) != 0; ++i)
      ASSERT_LT(i, 1000);
    pairs.at(q).on = false;
  }
  // Until every queue that is on has answered everything.
  void drain() {
    for (int i = 0; i < 200'000; ++i) {
      bool all = true;
      for (const Pair& pair : pairs)
        all = all && (!pair.on || pair.completed == pair.tail);
      if (all) break;
      tick();
    }
    ticks(1000);
    for (const Pair& pair : pairs) {
      if (!pair.on) continue;
      EXPECT_EQ(pair.completed, pair.tail);
    }
  }

  Random random;
  Willing willing;
  std::array<Pair, kQueues> pairs;
  std::vector<std::uint64_t> errors;
  std::uint32_t fail_fetch = kQueues, fail_write = kQueues;  // the queue it happens to
  std::uint64_t took = 0, answered = 0, failed = 0, first_fetch = 0;
  std::optional<Sim<Vspeckv_queues>> sim_;

 private:
  struct Write {
    std::uint32_t pair;
    bool filled = false;
  };

  // The ring that an address is in; what it would be about is looked up by place alone.
  std::uint32_t pair_at(std::uint64_t address, bool completion) {
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      const Pair& p = pairs[q];
      const std::uint64_t base = completion ? p.completion : p.submission;
      const std::uint64_t bytes = std::uint64_t{p.depth()} * (completion ? 16 : 64);
      if (p.on && address >= base && address - base < bytes) return q;
    }
    ADD_FAILURE() << "an address of no ring: " << std::hex << address;
    return 0;
  }
  void begin_fetch(std::uint64_t address) {
    const std::uint32_t q = pair_at(address, false);
    Pair& pair = pairs[q];
    EXPECT_EQ(address, pair.submission + 64 * (pair.fetched % pair.depth()));
    EXPECT_NE(pair.fetched, pair.tail) << "beyond the tail";
    fetch_ = q;
  }
  void offer_descriptor() {
    auto& s = *sim_;
    s->fetched_valid_i = 1;
    s->fetched_error_i = *fetch_ == fail_fetch;
    for (std::uint32_t& word : s->fetched_data_i.m_storage)
      word = static_cast<std::uint32_t>(random());
    const Pair& pair = pairs[*fetch_];
    const std::uint32_t tag = pair.submitted.empty() ? kNoTag : pair.submitted.front();
    s->fetched_data_i.m_storage[0] =
        tag << 16 | static_cast<std::uint32_t>(random() & 0xffff);
  }
  void end_fetch() {
    Pair& pair = pairs[*fetch_];
    if (sim_->operator->()->fetched_error_i == 0 && !pair.submitted.empty()) {
      pair.taken.push_back(pair.submitted.front());
      pair.submitted.pop_front();
      ++pair.fetched;
    }
    last_ = *fetch_;
    fetch_.reset();
  }
  void begin_command() {
    auto& s = *sim_;
    command_ = s->command_o.m_storage[0] >> 16;
    ASSERT_FALSE(pairs[last_].taken.empty());
    EXPECT_EQ(*command_, pairs[last_].taken.front());
    EXPECT_EQ(s->command_tenant_o, pairs[last_].tenant);
  }
  void begin_write(std::uint64_t address) {
    const std::uint32_t q = pair_at(address, true);
    const Pair& pair = pairs[q];
    EXPECT_EQ(address, pair.completion + 16 * (pair.completed % pair.depth()));
    write_ = Write{q};
  }
  void take_entry() {
    auto& s = *sim_;
    Pair& pair = pairs[write_->pair];
    ASSERT_FALSE(pair.taken.empty());
    const std::uint16_t tag = pair.taken.front();
    const bool ok = answer_of(tag) == engine::Answer::ok;
    const std::uint32_t phase = (pair.completed / pair.depth() & 1) ^ 1;
    const auto code = static_cast<std::uint32_t>(answer_of(tag));
    EXPECT_EQ(s->entry_o.m_storage[0], tag | (phase | code << 1) << 16);
    EXPECT_EQ(s->entry_o.m_storage[1], ok ? hash(tag) : 0);
    EXPECT_EQ(s->entry_o.m_storage[2], ok ? ~hash(tag) : 0);
    EXPECT_EQ(s->entry_o.m_storage[3], 0U);
    write_->filled = true;
  }
  void end_write() {
    Pair& pair = pairs[write_->pair];
    if (sim_->operator->()->written_error_i == 0) {
      pair.taken.pop_front();
      ++pair.completed;
    }
    write_.reset();
  }

  std::optional<std::uint32_t> fetch_, command_;
  std::optional<Write> write_;
  std::uint32_t last_ = 0;
};

TEST_F(Queues, AnswerEverythingOnceWhateverStalls) {
  for (std::uint64_t seed = 1; seed <= scaled(50, 4); ++seed) {
    restart(seed);
    willing = Willing::any(random);
    for (std::uint32_t q = 0; q < kQueues; ++q)
      enable(q, 1 + below(6));
    std::uint64_t all = 0;
    for (int i = 0; i < 400; ++i) {
      const auto q = below(kQueues);
      const Pair& pair = pairs[q];
      const std::uint32_t room = pair.depth() - (pair.tail - pair.completed);
      if (room > 0) {
        const std::uint32_t count = 1 + below(room);
        submit(q, count);
        all += count;
      }
      ticks(random() % 30);
      if (HasFailure()) FAIL() << "seed " << seed;
    }
    drain();
    EXPECT_EQ(took, all);
    EXPECT_EQ(answered, all);
    EXPECT_TRUE(errors.empty());
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      EXPECT_EQ(read(queue_register(q, queue::kFetched)), pairs[q].tail);
      EXPECT_EQ(read(queue_register(q, queue::kCompleted)), pairs[q].tail);
      EXPECT_EQ(state(q), QueueState::ready);
      EXPECT_EQ(pairs[q].interrupts, 0U);
    }
  }
}

TEST_F(Queues, ResetInTheMiddleStopsOneQueueAndNoOther) {
  for (std::uint64_t seed = 1; seed <= scaled(200, 20); ++seed) {
    restart(seed);
    willing = Willing::any(random);
    enable(0, 4);
    enable(1, 4);
    submit(0, 16);
    submit(1, 16);
    ticks(random() % 400);
    reset_queue(0);
    const std::uint32_t done = pairs[0].completed;
    EXPECT_EQ(read(queue_register(0, queue::kCompleted)), done);
    EXPECT_EQ(state(0), QueueState::off);
    drain();
    EXPECT_EQ(pairs[0].completed, done);
    enable(0, 3);
    submit(0, 8);
    drain();
    EXPECT_TRUE(errors.empty());
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

// A reset of the card: everything reads as after power-on, and works.
TEST_F(Queues, ClearIsAsPowerOn) {
  enable(2, 4);
  submit(2, 5);
  drain();
  sim_->operator->()->clear_i = 1;
  tick();
  sim_->operator->()->clear_i = 0;
  while (sim_->operator->()->busy_o != 0)
    tick();
  for (std::uint32_t offset = 0; offset < engine::kQueueStride; offset += 4)
    EXPECT_EQ(read(queue_register(2, offset)), 0U) << offset;
  enable(2, 4);
  submit(2, 5);
  drain();
}

TEST_F(Queues, ArmedInterruptsComeOnceEach) {
  for (std::uint64_t seed = 1; seed <= scaled(30, 4); ++seed) {
    restart(seed);
    willing = Willing::any(random);
    enable(3, 5);
    for (int i = 0; i < 60; ++i) {
      Pair& pair = pairs[3];
      const std::uint32_t before = pair.interrupts, base = pair.completed;
      const std::uint32_t count = 1 + below(8), at = 1 + below(8);
      arm(3, base + at);
      submit(3, count);
      drain();
      EXPECT_EQ(pair.interrupts - before, at <= count ? 1U : 0U) << seed << ' ' << i;
      if (at > count) {
        arm(3, base + count);  // already there
        drain();
        EXPECT_EQ(pair.interrupts - before, 1U);
      }
      arm(3, pair.arm);  // the same once more is nothing new
      drain();
      EXPECT_EQ(pair.interrupts - before, 1U);
    }
    write(queue_register(3, queue::kControl), 1);  // without the interrupt bit
    const std::uint32_t before = pairs[3].interrupts;
    arm(3, pairs[3].completed + 1);
    submit(3, 2);
    drain();
    EXPECT_EQ(pairs[3].interrupts, before);
  }
}

TEST_F(Queues, CoalescingWaitsForCompletionsOrTime) {
  constexpr std::uint32_t kMicroseconds = 1000, kCount = 4;
  enable(1, 5, kMicroseconds << 16 | kCount);
  arm(1, 1);
  submit(1, 3);
  drain();
  EXPECT_EQ(pairs[1].interrupts, 0U);
  submit(1, 1);  // the fourth since the armed one
  drain();
  EXPECT_EQ(pairs[1].interrupts, 1U);
  arm(1, 5);
  submit(1, 1);
  drain();
  EXPECT_EQ(pairs[1].interrupts, 1U);
  ticks(kMicrosecond * (kMicroseconds - 300));
  EXPECT_EQ(pairs[1].interrupts, 1U);
  ticks(kMicrosecond * 300);
  EXPECT_EQ(pairs[1].interrupts, 2U);
}

TEST_F(Queues, AnErrorStopsItsQueueAndIsLoggedOnce) {
  for (const QueueCause expected :
       {QueueCause::overrun, QueueCause::fetch_failed, QueueCause::completion_lost}) {
    for (const bool injected : {false, true}) {
      if (injected && expected == QueueCause::overrun) continue;
      restart(7);
      willing = Willing::any(random);
      enable(4, 3);
      enable(5, 3);
      submit(4, 2);
      drain();
      if (injected) {
        auto& s = *sim_;
        s->inject_i = 1;
        s->inject_kind_i = expected == QueueCause::fetch_failed ? 5 : 6;
        s->inject_argument_i = 4;
        tick();
        s->inject_i = 0;
      } else {
        fail_fetch = expected == QueueCause::fetch_failed ? 4 : kQueues;
        fail_write = expected == QueueCause::completion_lost ? 4 : kQueues;
      }
      submit(4, expected == QueueCause::overrun ? 9 : 3);
      ticks(1500);
      fail_fetch = fail_write = kQueues;
      EXPECT_EQ(state(4), QueueState::error);
      EXPECT_EQ(cause(4), expected);
      EXPECT_EQ(read(queue_register(4, queue::kCompleted)), 2U);
      ASSERT_EQ(errors.size(), 1U);
      EXPECT_EQ(errors[0] & 0xffff, 0x400U | static_cast<std::uint32_t>(expected));
      EXPECT_EQ(errors[0] >> 32, 2U);
      if (expected != QueueCause::completion_lost) {
        EXPECT_EQ(errors[0] >> 16 & 0xffff, 0U);
      }
      pairs[4].on = false;
      submit(5, 8);
      drain();
      reset_queue(4);
      EXPECT_EQ(cause(4), QueueCause::none);
      enable(4, 2);
      submit(4, 4);
      drain();
      EXPECT_EQ(errors.size(), 1U);
    }
  }
}

TEST_F(Queues, ASetupThatIsNotAllowedIsAnError) {
  struct Setup {
    std::uint64_t submission, completion;
    std::uint32_t setup;
    bool bad;
  };
  for (const Setup& s :
       {Setup{0, 0, 1, false}, Setup{0, 0, 0, true}, Setup{0, 0, 12, false},
        Setup{0, 0, 13, true}, Setup{32, 0, 1, true}, Setup{64, 8, 1, true},
        Setup{64, 16, 1, false}, Setup{64, 16, 64U << 16 | 1, true},
        Setup{64, 16, 63U << 16 | 1, false}}) {
    write64(queue_register(6, queue::kSubmissionBase), s.submission);
    write64(queue_register(6, queue::kCompletionBase), s.completion);
    write(queue_register(6, queue::kSetup), s.setup);
    write(queue_register(6, queue::kControl), 1);
    EXPECT_EQ(state(6), s.bad ? QueueState::error : QueueState::ready) << s.setup;
    EXPECT_EQ(cause(6), s.bad ? QueueCause::bad_setup : QueueCause::none);
    EXPECT_EQ(errors.size(), s.bad ? 1U : 0U);
    if (s.bad) {
      EXPECT_EQ(errors[0], 0x601U);
    }
    // While it is on, the setup stays.
    write(queue_register(6, queue::kSetup), 0x55);
    EXPECT_EQ(read(queue_register(6, queue::kSetup)), s.setup);
    errors.clear();
    reset_queue(6);
  }
}

// While the card is not enabled doorbells wait.
TEST_F(Queues, NothingIsServedUntilEnabled) {
  enable(0, 3);
  sim_->operator->()->enable_i = 0;
  submit(0, 8);
  ticks(200);
  EXPECT_EQ(took, 0U);
  sim_->operator->()->enable_i = 1;
  drain();
  EXPECT_EQ(took, 8U);
}

TEST_F(Queues, DoorbellToFetch) {
  enable(7, 6);
  std::uint64_t most = 0;
  for (int i = 0; i < 20; ++i) {
    first_fetch = 0;
    const std::uint64_t begin = sim_->cycle();
    submit(7, 1);
    drain();
    most = std::max(most, first_fetch - begin);
  }
  std::printf("doorbell on the register bus to fetch: %llu cycles\n",
              static_cast<unsigned long long>(most));
  EXPECT_LE(most, 8U);
}

}  // namespace
}  // namespace speckv::rtl

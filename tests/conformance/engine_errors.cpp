// Every engine that shows its registers keeps docs/queue-protocol.md when things go
// wrong.
#include "support/engine_fixture.hpp"

namespace speckv::test {
namespace {

using namespace engine;

class EngineErrors : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    bar0_ = engine_->bar0();
    if (bar0_ == nullptr) GTEST_SKIP() << "registers are not shown";
  }
  // The queue opened in SetUp() is number 0, those after it 1, 2, ...
  QueueState state(std::uint32_t queue) {
    return static_cast<QueueState>(queue::kStatusState.get(status(queue)));
  }
  QueueCause cause(std::uint32_t queue) {
    return static_cast<QueueCause>(queue::kStatusCause.get(status(queue)));
  }
  std::uint32_t status(std::uint32_t queue) {
    return bar0_->read32(queue_register(queue, queue::kStatus));
  }
  void inject(Inject kind, std::uint64_t argument = 0) {
    write64(*bar0_, csr::kInjectArgument, argument);
    bar0_->write32(csr::kInject, static_cast<std::uint32_t>(kind));
  }
  bool injects() const { return facts_.has(feature::kInject); }
  // Waits, by looking at it, for what the engine does without an interrupt.
  template <class Done>
  void until(Done&& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!done() && std::chrono::steady_clock::now() < deadline)
      bar0_->run();
    EXPECT_TRUE(done());
  }
  void ring(std::uint32_t queue, std::uint32_t tail) {
    bar0_->write32(doorbell_register(queue, doorbell::kTail), tail);
    bar0_->kick();
  }
  bool works(QueueUnderTest& queue) {
    return run(queue, {make(Opcode::nop)})[0].answer == Answer::ok;
  }

  Bar0* bar0_ = nullptr;
};

TEST_P(EngineErrors, registers_read_as_documented) {
  EXPECT_EQ(bar0_->read32(csr::kId), kContractId);
  EXPECT_EQ(csr::kVersionMajor.get(bar0_->read32(csr::kVersion)), kContractMajor);
  const std::uint32_t limits = bar0_->read32(csr::kLimits);
  EXPECT_GE(csr::kLimitsQueues.get(limits), 8U);
  EXPECT_LE(csr::kLimitsDepthLog2.get(limits), kMaxDepthLog2Max);
  EXPECT_EQ(read64(*bar0_, csr::kMemoryBytes), kCardBytes);
  EXPECT_EQ(facts_.codecs & 1, 0U);
  EXPECT_EQ(facts_.can(Opcode::predict), facts_.has(feature::kPredict));
  EXPECT_EQ(bar0_->read32(csr::kMaxNetwork) != 0, facts_.has(feature::kPredict));
  EXPECT_EQ(bar0_->read32(csr::kWeights), csr::kWeightsReset);
  EXPECT_EQ(bar0_->read32(csr::kThresholds), csr::kThresholdsReset);
  // Read-only registers, holes, misaligned words and what lies beyond stay as they are.
  for (std::uint32_t offset = 0; offset < csr::kControl; offset += 4) {
    const std::uint32_t before = bar0_->read32(offset);
    bar0_->write32(offset, ~before);
    EXPECT_EQ(bar0_->read32(offset), before) << offset;
  }
  for (const std::uint32_t offset :
       {0x0FFCU, 0x2800U, 0x5000U, kBar0Bytes, kBar0Bytes * 2, csr::kId + 1,
        region_register(0, region::kControl)}) {
    bar0_->write32(offset, 0xFFFFFFFF);
    EXPECT_EQ(bar0_->read32(offset), 0U) << offset;
  }
  EXPECT_TRUE(works(*queue_));
}

// A ring cannot lie over registers, and no register lies over another: all that can be
// written reads back alone.
TEST_P(EngineErrors, every_register_of_a_queue_and_a_region_has_a_place_of_its_own) {
  struct Row {
    std::uint32_t offset, value;
  };
  const std::vector<Row> rows{
      {queue_register(9, queue::kSubmissionBase), 0x11111040},
      {queue_register(9, queue::kSubmissionBase) + 4, 0x22},
      {queue_register(9, queue::kCompletionBase), 0x33333010},
      {queue_register(9, queue::kCompletionBase) + 4, 0x44},
      {queue_register(9, queue::kSetup), 0x00070005},
      {queue_register(10, queue::kSetup), 0x00080006},
      {region_register(50, region::kBase), 0x55555000},
      {region_register(50, region::kBase) + 4, 0x66},
      {region_register(50, region::kLength), 0x77777000},
      {region_register(50, region::kControl), 0x000A000D},
      {region_register(51, region::kBase), 0x88888000},
  };
  for (const Row& row : rows)
    bar0_->write32(row.offset, row.value);
  for (const Row& row : rows)
    EXPECT_EQ(bar0_->read32(row.offset), row.value) << row.offset;
  EXPECT_EQ(bar0_->read32(csr::kId), kContractId);
  EXPECT_TRUE(works(*queue_));
}

TEST_P(EngineErrors, a_ring_that_is_overrun_stops_its_queue_and_no_other) {
  const auto broken = engine_->open_queue(kTenant, 3);
  const auto healthy = engine_->open_queue(kOther, 3);
  EXPECT_TRUE(works(*broken));
  for (const std::uint32_t tail : {1U + 9U, 0x80000000U, 0U}) {  // far ahead, and back
    ring(1, tail);
    until([&] { return state(1) == QueueState::error; });
    EXPECT_EQ(cause(1), QueueCause::overrun);
    EXPECT_EQ(bar0_->read32(queue_register(1, queue::kCompleted)), 1U);
    EXPECT_TRUE(works(*healthy));
    // Reset, and enabled again on zeroed rings: as new.
    bar0_->write32(queue_register(1, queue::kControl),
                   static_cast<std::uint32_t>(queue::kControlReset.put(1)));
    until([&] { return state(1) == QueueState::off; });
    EXPECT_EQ(bar0_->read32(queue_register(1, queue::kCompleted)), 1U);
    const MutableBytes rings = engine_->allocate(8192);
    write64(*bar0_, queue_register(1, queue::kSubmissionBase),
            bar0_->bus_address(rings.data()));
    write64(*bar0_, queue_register(1, queue::kCompletionBase),
            bar0_->bus_address(rings.data() + 4096));
    bar0_->write32(queue_register(1, queue::kControl),
                   static_cast<std::uint32_t>(queue::kControlEnable.put(1)));
    EXPECT_EQ(state(1), QueueState::ready);
    ring(1, 1);  // a zeroed descriptor is a NOP
    until([&] { return bar0_->read32(queue_register(1, queue::kCompleted)) == 1; });
    EXPECT_EQ(load_le<std::uint64_t>(rings.data() + 4096), 0x10000U);  // tag 0, phase 1
  }
}

TEST_P(EngineErrors, a_setup_that_is_not_allowed_is_an_error_and_touches_nothing) {
  const MutableBytes rings = engine_->allocate(4096);
  struct Setup {
    std::uint64_t submission, completion, depth_log2, tenant;
  };
  const std::uint64_t base = bar0_->bus_address(rings.data());
  for (const Setup& s :
       {Setup{base, base + 1024, 0, 0}, Setup{base, base + 1024, 13, 0},
        Setup{base, base + 1024, 2, kMaxTenants}, Setup{base + 8, base + 1024, 2, 0},
        Setup{base, base + 1032, 2, 0}}) {
    write64(*bar0_, queue_register(20, queue::kSubmissionBase), s.submission);
    write64(*bar0_, queue_register(20, queue::kCompletionBase), s.completion);
    bar0_->write32(queue_register(20, queue::kSetup),
                   static_cast<std::uint32_t>(queue::kSetupDepthLog2.put(s.depth_log2) |
                                              queue::kSetupTenant.put(s.tenant)));
    bar0_->write32(queue_register(20, queue::kControl),
                   static_cast<std::uint32_t>(queue::kControlEnable.put(1)));
    EXPECT_EQ(state(20), QueueState::error);
    EXPECT_EQ(cause(20), QueueCause::bad_setup);
    ring(20, 1);
    EXPECT_TRUE(works(*queue_));
    EXPECT_TRUE(
        std::ranges::all_of(rings, [](std::byte b) { return b == std::byte{0}; }));
    bar0_->write32(queue_register(20, queue::kControl),
                   static_cast<std::uint32_t>(queue::kControlReset.put(1)));
    EXPECT_EQ(state(20), QueueState::off);
  }
}

TEST_P(EngineErrors, lost_fetches_and_completions_stop_their_queue_only) {
  if (!injects()) GTEST_SKIP() << "no injection";
  for (const auto& [kind, expected] :
       {std::pair{Inject::fetch, QueueCause::fetch_failed},
        std::pair{Inject::completion, QueueCause::completion_lost}}) {
    SetUp();  // a new engine: queue numbers start anew
    const auto victim = engine_->open_queue(kTenant, 3);
    EXPECT_TRUE(works(*victim));
    inject(kind, 1);
    const Descriptor nop = make(Opcode::nop);
    EXPECT_EQ(victim->submit({&nop, 1}), 1U);
    until([&] { return state(1) == QueueState::error; });
    EXPECT_EQ(cause(1), expected);
    EXPECT_EQ(bar0_->read32(queue_register(1, queue::kCompleted)), 1U);
    EXPECT_TRUE(victim->poll().empty());
    EXPECT_TRUE(works(*queue_));
  }
}

TEST_P(EngineErrors, a_fault_of_the_bus_or_of_memory_is_the_answer_of_its_descriptor) {
  if (!injects()) GTEST_SKIP() << "no injection";
  inject(Inject::bus_read);
  EXPECT_EQ(answer(to_card(0, 0, 128)), Answer::bus_error);
  EXPECT_EQ(answer(to_card(0, 0, 128)), Answer::ok);
  inject(Inject::bus_write);
  EXPECT_EQ(answer(from_card(0, 0, 128)), Answer::bus_error);
  EXPECT_EQ(answer(from_card(0, 0, 128)), Answer::ok);
  inject(Inject::poison, 1000);  // in the 64 bytes from 960 on
  EXPECT_EQ(answer(from_card(0, 0, 960)), Answer::ok);
  EXPECT_EQ(answer(from_card(0, 0, 961)), Answer::poison);
  EXPECT_EQ(answer(from_card(1023, 0, 1)), Answer::poison);
  EXPECT_EQ(answer(from_card(1024, 0, 64)), Answer::ok);
  EXPECT_EQ(answer(to_card(0, 970, 8)), Answer::ok);  // covers only a part
  EXPECT_EQ(answer(from_card(960, 0, 64)), Answer::poison);
  EXPECT_EQ(answer(to_card(0, 900, 200)), Answer::ok);
  EXPECT_EQ(answer(from_card(960, 0, 64)), Answer::ok);
  EXPECT_EQ(state(0), QueueState::ready);
}

TEST_P(EngineErrors, the_fatal_state_serves_nobody_and_ends_with_a_reset) {
  if (!injects()) GTEST_SKIP() << "no injection";
  randomise(host_, 1);
  ASSERT_EQ(answer(to_card(0, 0, 4096)), Answer::ok);
  const std::vector<std::byte> kept(host_.begin(), host_.begin() + 4096);
  inject(Inject::fatal);
  const std::uint32_t status = bar0_->read32(csr::kStatus);
  EXPECT_EQ(csr::kStatusFatal.get(status), 1U);
  EXPECT_EQ(csr::kStatusReady.get(status), 0U);
  EXPECT_EQ(bar0_->read32(csr::kFatalCause),
            static_cast<std::uint32_t>(FatalCause::injected));
  const Descriptor nop = make(Opcode::nop);
  EXPECT_EQ(queue_->submit({&nop, 1}), 1U);
  for (int i = 0; i < 100; ++i)
    bar0_->run();
  EXPECT_TRUE(queue_->poll().empty());

  bar0_->write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlReset.put(1)));
  until([&] { return csr::kControlReset.get(bar0_->read32(csr::kControl)) == 0; });
  EXPECT_EQ(bar0_->read32(csr::kStatus) & 3, 0U);
  EXPECT_EQ(bar0_->read32(csr::kFatalCause), 0U);
  EXPECT_EQ(state(0), QueueState::off);
  EXPECT_EQ(bar0_->read32(region_register(host_id_, region::kControl)), 0U);
  bar0_->write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlEnable.put(1)));
  // Its memory has kept its bytes; everything else is set up again.
  queue_ = engine_->open_queue(kTenant, 4);
  host_id_ = engine_->host_region(kTenant, host_);
  card_id_ = engine_->card_region(kTenant, 0, kCardBytes);
  EXPECT_EQ(answer(from_card(0, 8192, 4096)), Answer::ok);
  EXPECT_TRUE(std::ranges::equal(host_.subspan(8192, 4096), kept));
  if (facts_.has(feature::kDirectory)) {
    Descriptor d = make(Opcode::telemetry);
    d.dst_region = host_id_;
    d.length = Telemetry::kBytes;
    EXPECT_EQ(answer(d), Answer::ok);
    const Telemetry told = Telemetry::load(host_.data());
    EXPECT_EQ(told.blocks + told.hits + told.inserted + told.step, 0U);
    EXPECT_EQ(told.bytes_read, 4096U);
  }
}

TEST_P(EngineErrors, the_error_log_keeps_the_first_and_counts_all) {
  if (std::string_view(GetParam().name) == "soft")
    GTEST_SKIP() << "its own driver reads the log";
  const std::uint64_t seen = bar0_->interrupts(kMaxQueues);
  for (std::uint32_t i = 0; i < 20; ++i) {
    bar0_->write32(queue_register(30, queue::kControl),
                   static_cast<std::uint32_t>(queue::kControlReset.put(1)));
    bar0_->write32(queue_register(30, queue::kControl),
                   static_cast<std::uint32_t>(queue::kControlEnable.put(1)));
  }
  EXPECT_EQ(bar0_->interrupts(kMaxQueues), seen + 20);
  EXPECT_EQ(csr::kStatusErrors.get(bar0_->read32(csr::kStatus)), 1U);
  for (std::uint32_t left = kMaxErrorLog; left > 0; --left) {
    EXPECT_EQ(bar0_->read32(csr::kErrorPending), left);
    const std::uint64_t info = read64(*bar0_, csr::kErrorInfo);
    EXPECT_EQ(csr::kErrorInfoQueue.get(info), 30U);
    EXPECT_EQ(csr::kErrorInfoCause.get(info),
              static_cast<std::uint64_t>(QueueCause::bad_setup));
    bar0_->write32(csr::kErrorPop, 0);
  }
  EXPECT_EQ(bar0_->read32(csr::kErrorPending), 0U);
  EXPECT_EQ(read64(*bar0_, csr::kErrorInfo), 0U);
  bar0_->write32(csr::kSnapshot, 0);
  EXPECT_EQ(read64(*bar0_, csr::kCounter +
                               8 * static_cast<std::uint32_t>(Counter::errors_logged)),
            20U);
}

TEST_P(EngineErrors, counters_show_a_snapshot_of_what_was_done) {
  const auto counter = [&](Counter which) {
    return read64(*bar0_, csr::kCounter + 8 * static_cast<std::uint32_t>(which));
  };
  ASSERT_EQ(answer(to_card(0, 0, 5000)), Answer::ok);
  ASSERT_EQ(answer(copy(0, 0, 0, 0, 5)), Answer::bad_region);
  EXPECT_EQ(counter(Counter::descriptors), 0U);
  bar0_->write32(csr::kSnapshot, 1);
  EXPECT_EQ(counter(Counter::descriptors), 2U);
  EXPECT_EQ(counter(Counter::completions), 2U);
  EXPECT_EQ(counter(Counter::failures), 1U);
  EXPECT_EQ(counter(Counter::bytes_read), 5000U);
  EXPECT_EQ(counter(Counter::bytes_written), 5000U);
  ASSERT_EQ(answer(from_card(0, 0, 100)), Answer::ok);
  EXPECT_EQ(counter(Counter::bytes_read), 5000U);
}

TEST_P(EngineErrors, one_interrupt_for_each_armed_value_and_none_without) {
  const auto nops = [&](std::uint32_t count) {
    for (const Told& told :
         run(*queue_, std::vector<Descriptor>(count, make(Opcode::nop))))
      EXPECT_EQ(told.answer, Answer::ok);
  };
  nops(1);  // the fixture's wait() arms
  const std::uint64_t first = bar0_->interrupts(0);
  const std::uint32_t done = bar0_->read32(queue_register(0, queue::kCompleted));
  bar0_->write32(doorbell_register(0, doorbell::kArm), done + 3);
  const Descriptor nop = make(Opcode::nop);
  const auto push = [&](std::uint32_t number) {
    EXPECT_EQ(queue_->submit({&nop, 1}), 1U);
    until([&] {
      return bar0_->read32(queue_register(0, queue::kCompleted)) == done + number;
    });
  };
  push(1);
  push(2);
  EXPECT_EQ(bar0_->interrupts(0), first);
  push(3);
  EXPECT_EQ(bar0_->interrupts(0), first + 1);
  push(4);
  EXPECT_EQ(bar0_->interrupts(0), first + 1);
  bar0_->write32(doorbell_register(0, doorbell::kArm), done + 4);  // already there
  bar0_->kick();
  EXPECT_TRUE(bar0_->wait_interrupt(0, first + 1));
  EXPECT_EQ(queue_->poll().size(), 4U);
}

INSTANTIATE_TEST_SUITE_P(Engines, EngineErrors, testing::ValuesIn(kEngines),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace speckv::test

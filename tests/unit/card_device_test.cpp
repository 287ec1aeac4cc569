// A card that lies, fails or goes away, behind the library's Device: a test plays the
// card, and writes what it likes into the rings.
#include <array>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "device/card_port.hpp"

namespace speckv {
namespace {

using namespace engine;
using namespace std::chrono_literals;

constexpr RegionId kRegion{3};
constexpr std::uint32_t kEntries = 4;
constexpr int kFile = 77;

// What the test tells the card to do, and what it was told.
struct Script {
  CardQueue::Health health = CardQueue::Health::good;
  bool lost = false, restarts = true;
  int restarted = 0;
  alignas(64) std::array<std::byte, kEntries * 64 + kEntries * 16 + 256> memory{};
  std::uint32_t answered = 0;

  std::byte* completions() { return memory.data() + kEntries * 64; }
  std::byte* doorbell() { return completions() + kEntries * 16; }
  std::uint32_t tail() { return load_le<std::uint32_t>(doorbell() + doorbell::kTail); }
  Descriptor descriptor(std::uint32_t n) {
    return Descriptor::load(memory.data() + n % kEntries * 64);
  }
  void answer(std::uint16_t tag, Answer answer = Answer::ok) {
    std::byte* to = completions() + answered % kEntries * 16;
    const unsigned phase = 1U ^ (answered / kEntries & 1U);
    store_le(to, tag);
    store_le(to + 2,
             static_cast<std::uint16_t>(static_cast<unsigned>(answer) << 1 | phase));
    ++answered;
  }
};

class ScriptedQueue final : public CardQueue {
 public:
  explicit ScriptedQueue(Script& script) : script_(script) { renew(); }
  Ring& ring() noexcept override { return *ring_; }
  void kick() noexcept override {}
  Health health() const noexcept override { return script_.health; }
  bool lost() const noexcept override { return script_.lost; }
  bool restart() noexcept override {
    ++script_.restarted;
    if (script_.restarts) renew();
    return script_.restarts;
  }
  void await(std::chrono::nanoseconds) noexcept override {}
  void wake() noexcept override {}

 private:
  void renew() {
    script_.memory.fill({});
    script_.answered = 0;
    script_.health = Health::good;
    ring_.emplace(script_.memory.data(), script_.completions(), script_.doorbell(),
                  kEntries, true);
  }
  Script& script_;
  std::optional<Ring> ring_;
};

class ScriptedPort final : public CardPort {
 public:
  explicit ScriptedPort(Script& script) : script_(script) {}
  std::uint32_t memory_region() const noexcept override { return 1; }
  std::uint32_t max_length() const noexcept override { return 1024; }
  Result<Region> add_region(MutableBytes) override { return Region{9, 100}; }
  Result<Region> add_dmabuf(const DmaBuf& memory) override {
    if (memory.fd != kFile) return Status(Code::invalid_argument, "no dma-buf");
    return Region{11, 0};
  }
  void drop_region(std::uint32_t) noexcept override {}
  Result<std::unique_ptr<CardQueue>> open_queue(std::uint32_t) override {
    return std::unique_ptr<CardQueue>(std::make_unique<ScriptedQueue>(script_));
  }

 private:
  Script& script_;
};

class CardDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    DeviceInfo info;
    info.capacity = 1U << 20;
    info.timeout = 10ms;
    device_ = card_device(info, std::make_unique<ScriptedPort>(script_));
    ASSERT_TRUE(device_->attach(kRegion, memory_).ok());
    auto queue = device_->open_queue(kEntries);
    ASSERT_TRUE(queue.ok());
    queue_ = *std::move(queue);
  }
  // Transfers with the tags 100, 101, ...
  void submit(std::size_t count) {
    std::vector<Transfer> batch(count);
    for (std::size_t i = 0; i < count; ++i)
      batch[i] = {Transfer::Op::read, 0, {kRegion, 0, 64}, 100 + i};
    ASSERT_EQ(queue_->submit(batch), count);
  }
  std::map<std::uint64_t, Code> poll() {
    std::map<std::uint64_t, Code> told;
    std::array<Completion, 8> done{};
    const std::size_t count = queue_->poll(done);
    for (std::size_t i = 0; i < count; ++i)
      EXPECT_TRUE(told.emplace(done[i].tag, done[i].code).second) << "told twice";
    return told;
  }
  std::uint16_t tag(std::uint32_t n) { return script_.descriptor(n).tag; }

  std::vector<std::byte> memory_ = std::vector<std::byte>(4096);
  Script script_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<Queue> queue_;
};

const std::map<std::uint64_t, Code> kBothFailed{{100, Code::io_error},
                                                {101, Code::io_error}};

TEST_F(CardDeviceTest, a_transfer_names_its_region_from_where_the_memory_begins) {
  submit(1);
  ASSERT_EQ(script_.tail(), 1U);
  const Descriptor d = script_.descriptor(0);
  EXPECT_EQ(d.opcode, static_cast<std::uint8_t>(Opcode::copy));
  EXPECT_EQ(d.src_region, 1U);
  EXPECT_EQ(d.dst_region, 9U);
  EXPECT_EQ(d.dst_offset, 100U);
  script_.answer(d.tag);
  EXPECT_EQ(poll(), (std::map<std::uint64_t, Code>{{100, Code::ok}}));
}

TEST_F(CardDeviceTest, a_transfer_that_is_too_long_for_a_descriptor_goes_in_pieces) {
  const std::array batch{Transfer{Transfer::Op::write, 5000, {kRegion, 300, 2500}, 7},
                         Transfer{Transfer::Op::read, 0, {kRegion, 0, 1024}, 8}};
  ASSERT_EQ(queue_->submit(batch), 2U);
  const std::uint16_t longer = tag(0), shorter = tag(1);
  const std::uint32_t lengths[] = {1024, 1024, 452};
  for (std::uint32_t piece = 0; piece < 3; ++piece) {
    const Descriptor d = script_.descriptor(piece == 0 ? 0 : piece + 1);
    EXPECT_EQ(d.tag, longer);
    EXPECT_EQ(d.length, lengths[piece]);
    EXPECT_EQ(d.src_offset, 100U + 300 + piece * 1024);
    EXPECT_EQ(d.dst_offset, 5000U + piece * 1024);
    if (piece == 1) script_.answer(shorter);
    script_.answer(longer);
    const std::map<std::uint64_t, Code> nothing{}, second{{8, Code::ok}},
        first{{7, Code::ok}};
    EXPECT_EQ(poll(), piece == 0 ? nothing : piece == 1 ? second : first);
  }
  EXPECT_EQ(script_.tail(), 4U);
}

TEST_F(CardDeviceTest, a_piece_that_fails_is_the_last) {
  const Transfer whole{Transfer::Op::read, 0, {kRegion, 0, 4096}, 100};
  ASSERT_EQ(queue_->submit({&whole, 1}), 1U);
  script_.answer(tag(0));
  EXPECT_TRUE(poll().empty());
  script_.answer(tag(1), Answer::poison);
  EXPECT_EQ(poll(), (std::map<std::uint64_t, Code>{{100, Code::corrupted}}));
  EXPECT_EQ(script_.tail(), 2U);
}

TEST_F(CardDeviceTest, in_pieces_too_nothing_moves_if_not_all_of_it_lies_in_the_card) {
  const std::uint64_t capacity = 1U << 20;
  const Transfer beyond{Transfer::Op::write, capacity - 2048, {kRegion, 0, 4096}, 1};
  ASSERT_EQ(queue_->submit({&beyond, 1}), 1U);
  EXPECT_EQ(script_.descriptor(0).src_region, 0U);
  script_.answer(tag(0), Answer::bad_region);
  EXPECT_EQ(poll(), (std::map<std::uint64_t, Code>{{1, Code::invalid_argument}}));
}

// The driver registers whole pages: what lies beside the caller's bytes must stay his.
TEST_F(CardDeviceTest, what_lies_outside_of_the_callers_bytes_names_no_region) {
  const Transfer beyond{Transfer::Op::read, 0, {kRegion, 4096 - 32, 64}, 1};
  const Transfer far{Transfer::Op::write, 0, {kRegion, ~std::uint64_t{0} - 63, 64}, 2};
  ASSERT_EQ(queue_->submit(std::array{beyond, far}), 2U);
  EXPECT_EQ(script_.descriptor(0).dst_region, 0U);
  EXPECT_EQ(script_.descriptor(1).src_region, 0U);
  script_.answer(tag(0), Answer::bad_region);
  script_.answer(tag(1), Answer::bad_region);
  EXPECT_EQ(poll().size(), 2U);
}

TEST_F(CardDeviceTest, memory_of_another_device_is_named_as_far_as_it_was_given) {
  constexpr RegionId kOther{4};
  const DmaBuf part{.fd = kFile, .offset = 8192, .length = 4096};
  ASSERT_TRUE(attach_dmabuf(*device_, kOther, part).ok());
  const std::array batch{Transfer{Transfer::Op::read, 0, {kOther, 4032, 64}, 1},
                         Transfer{Transfer::Op::write, 0, {kOther, 4033, 64}, 2}};
  ASSERT_EQ(queue_->submit(batch), 2U);
  EXPECT_EQ(script_.descriptor(0).dst_region, 11U);
  EXPECT_EQ(script_.descriptor(0).dst_offset, 4032U) << "its offset is the driver's";
  EXPECT_EQ(script_.descriptor(1).src_region, 0U);
  script_.answer(tag(0));
  script_.answer(tag(1), Answer::bad_region);
  EXPECT_EQ(poll().size(), 2U);
  EXPECT_TRUE(device_->detach(kOther).ok());
  EXPECT_EQ(device_->detach(kOther).code(), Code::not_found);
}

TEST_F(CardDeviceTest, what_cannot_be_attached_takes_no_id) {
  const DmaBuf part{.fd = kFile, .length = 4096};
  constexpr RegionId kOther{4};
  EXPECT_EQ(attach_dmabuf(*device_, RegionId{}, part).code(), Code::invalid_argument);
  EXPECT_EQ(attach_dmabuf(*device_, kRegion, part).code(), Code::invalid_argument);
  for (const DmaBuf& bad : {DmaBuf{.fd = kFile}, DmaBuf{.fd = 5, .length = 4096}}) {
    EXPECT_EQ(attach_dmabuf(*device_, kOther, bad).code(), Code::invalid_argument);
  }
  EXPECT_TRUE(attach_dmabuf(*device_, kOther, part).ok());
  for (const char* uri : {"dram:1M", "soft:1M"}) {
    const auto other = open_device(uri);
    ASSERT_TRUE(other.ok()) << uri;
    EXPECT_EQ(attach_dmabuf(**other, kOther, part).code(), Code::unsupported) << uri;
  }
}

TEST_F(CardDeviceTest, an_answer_to_nothing_stops_the_queue) {
  for (const std::uint16_t stray : {std::uint16_t{0xFFFF}, std::uint16_t{kEntries}}) {
    submit(2);
    script_.answer(stray);
    EXPECT_EQ(poll(), kBothFailed);
  }
  EXPECT_EQ(script_.restarted, 2);
  submit(1);
  script_.answer(tag(0));
  EXPECT_EQ(poll(), (std::map<std::uint64_t, Code>{{100, Code::ok}}));
}

TEST_F(CardDeviceTest, an_answer_that_is_given_twice_is_told_once) {
  submit(2);
  const std::uint16_t first = tag(0);
  script_.answer(first);
  script_.answer(first);
  EXPECT_EQ(poll(),
            (std::map<std::uint64_t, Code>{{100, Code::ok}, {101, Code::io_error}}));
  EXPECT_EQ(script_.restarted, 1);
}

TEST_F(CardDeviceTest, a_code_that_no_card_could_give_is_an_error) {
  submit(1);
  script_.answer(tag(0), static_cast<Answer>(999));
  EXPECT_EQ(poll(), (std::map<std::uint64_t, Code>{{100, Code::io_error}}));
}

TEST_F(CardDeviceTest, what_a_failed_queue_had_answered_counts_and_the_rest_has_failed) {
  submit(3);
  script_.answer(tag(0));
  script_.health = CardQueue::Health::failed;
  EXPECT_EQ(poll(), (std::map<std::uint64_t, Code>{
                        {100, Code::ok}, {101, Code::io_error}, {102, Code::io_error}}));
  EXPECT_EQ(script_.restarted, 1);
}

// Rings that were taken away read as zeros, which in every second lap is an answer.
TEST_F(CardDeviceTest, zeros_in_the_place_of_the_rings_are_no_answers) {
  for (std::uint32_t lap = 0; lap < kEntries; ++lap) {
    submit(1);
    script_.answer(tag(lap));
    ASSERT_EQ(poll().size(), 1U);
  }
  submit(2);
  script_.memory.fill({});
  script_.lost = true;
  script_.restarts = false;
  EXPECT_EQ(poll(), kBothFailed);
  submit(2);
  EXPECT_EQ(poll(), kBothFailed) << "and so on, for ever";
}

TEST_F(CardDeviceTest, a_card_that_has_gone_fails_everything_and_hangs_nobody) {
  submit(2);
  script_.health = CardQueue::Health::gone;
  script_.restarts = false;
  queue_->wait(1h);  // something is to be told
  std::array<Completion, 1> one{};
  ASSERT_EQ(queue_->poll(one), 1U);
  EXPECT_EQ(one[0].code, Code::io_error);
  queue_->wait(1h);
  ASSERT_EQ(queue_->poll(one), 1U);
  EXPECT_EQ(queue_->poll(one), 0U);
  queue_->wait(1ms);  // and with nothing to tell, it waits
}

}  // namespace
}  // namespace speckv

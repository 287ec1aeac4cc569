// The whole card in cycles: from a doorbell to its first address, a descriptor's way with
// nothing and with 4 KB to move, layers; and resets in the middle of commands.
#include <cstdio>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "base/endian.hpp"
#include "engine/contract.hpp"
#include "sim/rtl/rtl_card.hpp"

namespace speckv::test {
namespace {

using namespace engine;

constexpr std::uint64_t kCard = 1U << 20, kHost = 1U << 19, kRings = 1U << 16;
constexpr std::uint64_t kSubmission = 0, kCompletion = 1U << 15;
constexpr std::uint32_t kDepthLog2 = 6, kHostRegion = 1, kCardRegion = 2;
constexpr std::uint64_t kUnderWay = ~0ULL;

// One queue, two regions; host memory from bus address 0 on, the rings first.
class CardBench final : private HostPort {
 public:
  explicit CardBench(const sim::RtlOptions& options)
      : memory_(kCard / 8),
        host_(kHost / 8),
        card_(sim::rtl_card(options, bytes(memory_), *this)) {
    set_up();
  }

  void set_up() {
    std::memset(host(), 0, kRings);
    tail_ = 0;
    write(csr::kControl, 1);
    region(kHostRegion, 0, kHost, 0);
    region(kCardRegion, 0, kCard, 1);
    write(kQueueWindow + queue::kSubmissionBase, kSubmission);
    write(kQueueWindow + queue::kCompletionBase, kCompletion);
    write(kQueueWindow + queue::kSetup, kDepthLog2);
    write(kQueueWindow + queue::kControl, 1);
    while (card_->run()) {}
  }
  std::byte* host() { return bytes(host_).data(); }
  std::uint32_t read(std::uint32_t offset) { return card_->read32(offset); }
  void write(std::uint32_t offset, std::uint64_t value) {
    card_->write32(offset, static_cast<std::uint32_t>(value));
  }
  void put(Descriptor d) {
    d.tag = static_cast<std::uint16_t>(tail_);
    const std::uint32_t slot = tail_++ % (1U << kDepthLog2);
    d.store(host() + kSubmission + slot * Descriptor::kBytes);
  }
  void ring() { write(kDoorbellWindow + doorbell::kTail, tail_); }
  // Cycles from just before the doorbell to the last completion in host memory.
  std::uint64_t serve() {
    card_->first_host_read();
    const std::uint64_t begin = card_->cycles();
    ring();
    const std::uint32_t last = tail_ - 1;
    while (!completed(last) && card_->run()) {}
    EXPECT_TRUE(completed(last));
    first_read = card_->first_host_read() - begin;
    return card_->cycles() - begin;
  }
  bool completed(std::uint32_t n) { return (entry(n).status & 1) == phase(n); }
  Answer answer(std::uint32_t n) {
    return static_cast<Answer>(completion::kStatusCode.get(entry(n).status));
  }
  void reset() { card_->reset(); }
  void run(std::uint32_t times) {
    for (; times > 0; --times)
      card_->run();
  }
  std::uint32_t tail() const { return tail_; }
  std::uint64_t first_read = 0;

 private:
  static MutableBytes bytes(std::vector<std::uint64_t>& words) {
    return {reinterpret_cast<std::byte*>(words.data()), 8 * words.size()};
  }
  static unsigned phase(std::uint32_t n) { return (n >> kDepthLog2 & 1) ^ 1; }
  CompletionEntry entry(std::uint32_t n) {
    return CompletionEntry::load(host() + kCompletion +
                                 (n % (1U << kDepthLog2)) * CompletionEntry::kBytes);
  }
  void region(std::uint32_t id, std::uint64_t base, std::uint64_t length,
              std::uint32_t device) {
    const std::uint32_t at = kRegionWindow + id * kRegionStride;
    write(at + region::kBase, base);
    write(at + region::kLength, length);
    write(at + region::kControl, 1U | device << 1 | 3U << 2);
  }
  MutableBytes view(std::uint64_t address, std::uint64_t length, bool) noexcept override {
    if (address >= kHost) return {};
    return bytes(host_).subspan(address, std::min(length, kHost - address));
  }
  void interrupt(std::uint32_t) noexcept override {}

  std::vector<std::uint64_t> memory_, host_;
  std::unique_ptr<sim::RtlCard> card_;
  std::uint32_t tail_ = 0;
};

Descriptor make(Opcode opcode, std::uint32_t from, std::uint64_t source, std::uint32_t to,
                std::uint64_t target, std::uint32_t length) {
  Descriptor d;
  d.opcode = static_cast<std::uint8_t>(opcode);
  d.src_region = from;
  d.src_offset = source;
  d.dst_region = to;
  d.dst_offset = target;
  d.length = length;
  return d;
}
Descriptor layer(Opcode opcode, std::uint8_t codec, std::uint32_t length) {
  const bool up = opcode == Opcode::encode;
  Descriptor d = up ? make(opcode, kHostRegion, kRings, kCardRegion, 0, length)
                    : make(opcode, kCardRegion, 0, kHostRegion, kRings, length);
  d.codec = codec;
  d.heads = 2;
  d.head_dim = 128;
  d.tokens = 64;
  d.room = 1U << 17;
  return d;
}

TEST(CardFigures, ADescriptorsWay) {
  CardBench bench({.budget = 1});
  std::uint64_t nop = 0, copy = 0, first = 0;
  for (int i = 0; i < 5; ++i) {
    bench.put(Descriptor{});
    nop = bench.serve();
    first = bench.first_read;
    bench.put(make(Opcode::copy, kHostRegion, kRings, kCardRegion, 0, 4096));
    copy = bench.serve();
    EXPECT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
  }
  std::printf(
      "doorbell on AXI4-Lite to first address: %llu; to the completion of a NOP: %llu, "
      "of a COPY of 4 KB: %llu cycles, memory answering in the next\n",
      static_cast<unsigned long long>(first), static_cast<unsigned long long>(nop),
      static_cast<unsigned long long>(copy));
  EXPECT_LE(first, 20U);
  EXPECT_LE(copy, 64U + 150U);
}

TEST(CardFigures, Layers) {
  CardBench bench({.budget = 1});
  std::mt19937 random(1);
  constexpr std::uint32_t kPlain = 2 * 2 * 128 * 64 * 2;
  for (std::uint32_t i = 0; i < kPlain; i += 2)  // finite numbers of f16
    store_le(bench.host() + kRings + i, static_cast<std::uint16_t>(random() & 0xbbff));
  for (const std::uint8_t codec : {codec::kRaw, codec::kInt8, codec::kKvq4}) {
    bench.put(layer(Opcode::encode, codec, kPlain));
    const std::uint64_t up = bench.serve();
    ASSERT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
    const auto coded =
        load_le<std::uint32_t>(bench.host() + kCompletion +
                               (bench.tail() - 1) % 64 * CompletionEntry::kBytes + 4);
    bench.put(layer(Opcode::decode, codec, coded));
    const std::uint64_t down = bench.serve();
    ASSERT_EQ(bench.answer(bench.tail() - 1), Answer::ok);
    std::printf("a layer of 64 KB, codec %u: encoded in %llu, decoded in %llu cycles\n",
                codec, static_cast<unsigned long long>(up),
                static_cast<unsigned long long>(down));
    EXPECT_LE(up, 2 * kPlain / 64 + 300);
    EXPECT_LE(down, kPlain / 64 + 300);
  }
}

// A reset while commands run: afterwards everything is as after power-on, and works.
TEST(Card, ResetInTheMiddle) {
  for (std::uint32_t round = 0; round < 12; ++round) {
    CardBench bench({.seed = round, .latency = 30, .stalls = true, .budget = 10});
    for (std::uint32_t i = 0; i < 40; ++i) {
      bench.put(i % 3 == 0 ? make(Opcode::fill, 0, 0, kCardRegion, 64 * i, 3000)
                : i % 3 == 1
                    ? make(Opcode::copy, kHostRegion, kRings, kCardRegion, i, 5000)
                    : layer(Opcode::encode, codec::kInt8, 65536));
    }
    bench.ring();
    bench.run(17 * (1 + round * round));
    bench.reset();
    EXPECT_EQ(bench.read(csr::kControl), 0U);
    EXPECT_EQ(bench.read(kQueueWindow + queue::kStatus), 0U);
    EXPECT_EQ(bench.read(kRegionWindow + kHostRegion * kRegionStride + region::kControl),
              0U);
    bench.set_up();
    bench.put(make(Opcode::copy, kHostRegion, kRings, kCardRegion, 77, 9999));
    bench.put(layer(Opcode::encode, codec::kInt8, 65536));
    bench.serve();
    EXPECT_EQ(bench.answer(0), Answer::ok);
    EXPECT_EQ(bench.answer(1), Answer::ok);
  }
}

}  // namespace
}  // namespace speckv::test

// CardCodec: the built-in codec's bytes by a card's ENCODE and DECODE, and its answers
// whatever the card does. Cards: the engine in software, and one that lies.
#include "cxlspeckv/card_codec.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/promotion.hpp"

#include "base/checksum.hpp"
#include "device/card_coder.hpp"
#include "support/blocks.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using namespace engine;
using namespace std::chrono_literals;
using Block = std::vector<std::byte>;
using Kind = BlockLayout::Kind;

const BlockLayout kLayouts[] = {
    {1, 2, 128, 64, DType::f16, Kind::kv},
    {1, 3, 80, 33, DType::bf16, Kind::kv},
    {1, 2, 64, 17, DType::f16, Kind::interleaved},
    {1, 1, 576, 16, DType::f16, Kind::latent},
};

std::unique_ptr<CardCodec> soft_codec(CodecId id) {
  auto codec = CardCodec::open("soft:", id);
  EXPECT_TRUE(codec.ok()) << codec.error().message();
  return *std::move(codec);
}

Block host_bytes(const Codec& codec, const BlockLayout& layout, Bytes plain) {
  Block out(codec.max_layer_bytes(layout));
  const auto used = codec.encode({layout}, plain, out);
  EXPECT_TRUE(used.ok());
  out.resize(used ? *used : 0);
  return out;
}

// Through both codecs and back: the same bytes, and how often the host did it.
void expect_alike(const CardCodec& card, const BlockLayout& layout, const Block& plain) {
  const Codec& host = *find_codec(card.id());
  const Block wanted = host_bytes(host, layout, plain);
  Block coded(card.max_layer_bytes(layout));
  const auto used = card.encode({layout}, plain, coded);
  ASSERT_TRUE(used.ok());
  coded.resize(*used);
  ASSERT_EQ(coded, wanted);
  Block back(plain.size(), std::byte{0xA5}), wanted_back(plain.size());
  ASSERT_EQ(card.decode({layout}, coded, back), Code::ok);
  ASSERT_EQ(host.decode({layout}, coded, wanted_back), Code::ok);
  ASSERT_EQ(back, wanted_back);
}

TEST(CardCodec, makes_the_bytes_of_the_built_in_codec) {
  for (const CodecId id : {CodecId::int8, CodecId::int8_delta_rle, CodecId::kvq4}) {
    const auto card = soft_codec(id);
    EXPECT_EQ(card->name(), find_codec(id)->name());
    std::uint64_t plain_bytes = 0, layers = 0;
    for (const BlockLayout& layout : kLayouts) {
      ASSERT_TRUE(card->supports(layout));
      for (const test::Fill fill : test::kFills) {
        const Block plain = test::make_block(layout, fill, ++layers);
        expect_alike(*card, layout, plain);
        plain_bytes += plain.size();
      }
    }
    const CardCodecStats stats = card->stats();
    EXPECT_EQ(stats.on_host, 0U);
    EXPECT_EQ(stats.descriptors, 2 * layers);
    EXPECT_EQ(stats.encode_in, plain_bytes);
    EXPECT_EQ(stats.decode_out, plain_bytes);
    EXPECT_EQ(stats.encode_out, stats.decode_in);
  }
}

TEST(CardCodec, refuses_what_the_built_in_codec_refuses) {
  const auto card = soft_codec(CodecId::kvq4);
  const BlockLayout& layout = kLayouts[0];
  Block plain = test::make_block(layout, test::Fill::normal, 1);
  Block coded = host_bytes(*find_codec(CodecId::kvq4), layout, plain);
  plain[100] = plain[101] = std::byte{0xFF};  // a NaN
  Block out(coded.size());
  const auto used = card->encode({layout}, plain, out);
  ASSERT_FALSE(used.ok());
  EXPECT_EQ(used.error().code(), Code::unsupported);
  Block back(plain.size());
  EXPECT_EQ(card->decode({layout}, Bytes(coded).first(coded.size() - 64), back),
            Code::corrupted);
  EXPECT_EQ(card->decode({layout}, Bytes{}, back), Code::corrupted);
  EXPECT_EQ(card->stats().on_host, 3U);
  EXPECT_EQ(card->decode({layout}, coded, back), Code::ok);
  EXPECT_EQ(card->stats().on_host, 3U);
}

TEST(CardCodec, what_is_larger_than_its_room_is_done_by_the_host) {
  const auto card = soft_codec(CodecId::int8);
  const BlockLayout layout{1, 8, 256, 256, DType::f16, Kind::kv};
  ASSERT_GT(layout.layer_bytes(), CardCodec::Coder::kRoom);
  expect_alike(*card, layout, test::make_block(layout, test::Fill::normal, 1));
  EXPECT_EQ(card->stats().on_host, 2U);
  EXPECT_EQ(card->stats().descriptors, 0U);
}

TEST(CardCodec, threads_take_turns) {
  const auto card = soft_codec(CodecId::kvq4);
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::uint64_t n = 0; n < 20; ++n) {
          const BlockLayout& layout = kLayouts[(t + n) % std::size(kLayouts)];
          expect_alike(*card, layout,
                       test::make_block(layout, test::Fill::normal, 100 * t + n));
        }
      });
    }
  }
  EXPECT_EQ(card->stats().descriptors, 160U);
  EXPECT_EQ(card->stats().on_host, 0U);
}

TEST(CardCodec, names_that_are_no_card_are_refused) {
  const std::pair<const char*, Code> bad[] = {
      {"", Code::invalid_argument},
      {"dram:1M", Code::invalid_argument},
      {"soft:1M?throttle=cxl", Code::invalid_argument},
      {"cxl:/dev/null?size=1M", Code::invalid_argument},
      {"cxl:/dev/null", Code::unsupported},
      {"cxl:/dev/speckv63", Code::not_found}};
  for (const auto& [name, code] : bad) {
    const auto codec = CardCodec::open(name, CodecId::kvq4);
    ASSERT_FALSE(codec.ok()) << name;
    EXPECT_EQ(codec.error().code(), code) << name << ": " << codec.error().message();
  }
  EXPECT_EQ(CardCodec::open("soft:", CodecId::rt43).error().code(), Code::unsupported);
  EXPECT_EQ(CardCodec::open("soft:", CodecId{63}).error().code(), Code::not_found);
}

// ---- a card that lies ---------------------------------------------------------------

enum class Lie : std::uint8_t {
  none,
  silent,        // no answer
  other_tag,     // an answer to something else
  too_long,      // more than there is room for
  too_short,     // of a decoded layer
  nothing,       // a coded layer of no bytes
  other_crc,     // coded bytes that are not those that it tells of
  failed,        // a completion code
  queue_failed,  // the queue is in error
  gone           // and cannot be restarted
};

struct Liar {
  Lie lie = Lie::none;
  MutableBytes memory{};
  std::uint32_t restarts = 0, dropped = 0;
};

class LyingQueue final : public CardQueue {
 public:
  explicit LyingQueue(Liar& liar) : liar_(liar) { renew(); }
  Ring& ring() noexcept override { return *ring_; }
  void kick() noexcept override { carry_out(); }
  Health health() const noexcept override { return health_; }
  bool restart() noexcept override {
    ++liar_.restarts;
    if (liar_.lie != Lie::gone) renew();
    return liar_.lie != Lie::gone;
  }
  void await(std::chrono::nanoseconds) noexcept override {}
  void wake() noexcept override {}

 private:
  void renew() {
    memory_ = {};
    store_le(doorbell() + doorbell::kNeedKick, std::uint32_t{1});
    ring_.emplace(memory_.data(), memory_.data() + 128, doorbell(), 2, true);
    health_ = Health::good;
    answered_ = 0;
  }
  std::byte* doorbell() { return memory_.data() + 192; }

  // As the contract has it, but for the lie.
  void carry_out() {
    const Descriptor d = Descriptor::load(memory_.data() + answered_ % 2 * 64);
    const Codec& codec = *find_codec(CodecId{d.codec});
    const BlockLayout layout{1,        d.heads,        d.head_dim,
                             d.tokens, DType{d.dtype}, Kind{d.kind}};
    const MutableBytes from = liar_.memory.subspan(d.src_offset, d.length);
    const MutableBytes to = liar_.memory.subspan(d.dst_offset, d.room);
    CompletionEntry entry;
    entry.tag = d.tag;
    if (d.opcode == static_cast<std::uint8_t>(Opcode::encode)) {
      entry.result = static_cast<std::uint32_t>(*codec.encode({layout}, from, to));
      entry.crc = crc32c(0, to.first(entry.result));
    } else {
      EXPECT_EQ(d.flags, flag::kCheck);
      EXPECT_EQ(d.crc, crc32c(0, from));
      EXPECT_EQ(codec.decode({layout}, from, to), Code::ok);
      entry.result = d.room;
      entry.crc = d.crc;
    }
    auto answer = Answer::ok;
    switch (liar_.lie) {
      case Lie::none:
        break;
      case Lie::silent:
        return;
      case Lie::other_tag:
        ++entry.tag;
        break;
      case Lie::too_long:
        entry.result = d.room + 64;
        break;
      case Lie::too_short:
        entry.result -= 64;
        break;
      case Lie::nothing:
        entry.result = 0;
        break;
      case Lie::other_crc:
        to[0] ^= std::byte{1};
        break;
      case Lie::failed:
        answer = Answer::bus_error;
        break;
      case Lie::queue_failed:
      case Lie::gone:
        health_ = Health::failed;
        return;
    }
    const unsigned phase = 1U ^ (answered_ / 2 & 1U);
    entry.status = static_cast<std::uint16_t>(static_cast<unsigned>(answer) << 1 | phase);
    entry.store(memory_.data() + 128 + answered_ % 2 * 16);
    ++answered_;
  }

  Liar& liar_;
  alignas(64) std::array<std::byte, 192 + 256> memory_{};
  std::optional<Ring> ring_;
  Health health_ = Health::good;
  std::uint32_t answered_ = 0;
};

class LyingPort final : public CardPort {
 public:
  explicit LyingPort(Liar& liar) : liar_(liar) {}
  std::uint32_t memory_region() const noexcept override { return 0; }
  std::uint32_t max_length() const noexcept override { return 1U << 20; }
  std::uint64_t features() const noexcept override { return feature::kCrc; }
  Result<Region> add_region(MutableBytes memory) override {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 4096, 0U);
    liar_.memory = memory;
    return Region{7, 0};
  }
  void drop_region(std::uint32_t number) noexcept override { liar_.dropped = number; }
  Result<std::unique_ptr<CardQueue>> open_queue(std::uint32_t) override {
    return std::unique_ptr<CardQueue>(std::make_unique<LyingQueue>(liar_));
  }

 private:
  Liar& liar_;
};

TEST(CardCodec, whatever_a_card_answers_the_bytes_are_right) {
  const BlockLayout& layout = kLayouts[0];
  const Codec& host = *find_codec(CodecId::kvq4);
  Liar liar;
  {
    auto coder = CardCodec::Coder::start(std::make_unique<LyingPort>(liar), 20ms);
    ASSERT_TRUE(coder.ok());
    const CardCodec card(host, *std::move(coder));
    std::uint64_t seed = 0;
    const auto round = [&](Lie lie) {
      liar.lie = lie;
      expect_alike(card, layout, test::make_block(layout, test::Fill::normal, ++seed));
    };
    for (const Lie lie : {Lie::silent, Lie::other_tag, Lie::too_long, Lie::failed,
                          Lie::queue_failed, Lie::gone, Lie::nothing}) {
      const std::uint64_t before = card.stats().on_host;
      round(lie);
      EXPECT_EQ(card.stats().on_host, before + 2) << static_cast<int>(lie);
      const std::uint64_t after = card.stats().on_host;
      round(Lie::none);  // it works again
      EXPECT_EQ(card.stats().on_host, after) << static_cast<int>(lie);
    }
    // What only one of the two directions can see.
    std::uint64_t before = card.stats().on_host;
    round(
        Lie::too_short);  // the coded layer has another checksum; the plain one is short
    EXPECT_EQ(card.stats().on_host, before + 2);
    before = card.stats().on_host;
    const Block plain = test::make_block(layout, test::Fill::normal, ++seed);
    liar.lie = Lie::other_crc;
    Block coded(card.max_layer_bytes(layout));
    const auto used = card.encode({layout}, plain, coded);
    ASSERT_TRUE(used.ok());
    coded.resize(*used);
    EXPECT_EQ(coded, host_bytes(host, layout, plain));
    EXPECT_EQ(card.stats().on_host, before + 1);
    EXPECT_GE(liar.restarts, 6U);
  }
  EXPECT_EQ(liar.dropped, 7U);
}

// ---- below a store ------------------------------------------------------------------

using test::HeapDevice, test::key_of, test::StoreUnderTest;

StoreOptions on(HeapDevice::Kind kind, const Codec& codec) {
  StoreOptions options;
  options.layouts = {{2, 2, 64, 16, DType::f16, Kind::kv}};
  for (const auto& [name, its] :
       {std::pair("fast", HeapDevice::Kind::memory), std::pair("card", kind)}) {
    Tier tier;
    tier.name = name;
    tier.device = std::make_shared<HeapDevice>(1U << 20, its);
    options.tiers.push_back(std::move(tier));
  }
  options.tiers[1].codec = &codec;
  return options;
}

// What a block is after it has been through the codec.
Block coded_and_back(const Codec& host, const BlockLayout& block, const Block& plain) {
  Block back(plain.size());
  for (std::uint64_t at = 0; at < plain.size(); at += block.layer_bytes()) {
    const Bytes layer = Bytes(plain).subspan(at, block.layer_bytes());
    EXPECT_EQ(host.decode({block}, host_bytes(host, block, layer),
                          MutableBytes(back).subspan(at, layer.size())),
              Code::ok);
  }
  return back;
}

TEST(CardCodec, is_used_both_ways_by_the_tier_that_has_it) {
  for (const auto kind : {HeapDevice::Kind::memory, HeapDevice::Kind::volatile_disk}) {
    const auto card = soft_codec(CodecId::kvq4);
    StoreOptions options = on(kind, *card);
    options.tiers.erase(options.tiers.begin());
    const BlockLayout layout = options.layouts[0];
    StoreUnderTest store(std::move(options));
    ASSERT_TRUE(store) << store.error().message();
    for (std::uint64_t n = 0; n < 3; ++n)
      ASSERT_EQ(store.save(n), Code::ok);
    EXPECT_EQ(card->stats().encode_in, 3 * layout.bytes());
    for (std::uint64_t n = 0; n < 3; ++n) {
      (void)store.load(n);
      const auto got = store.bytes(1);
      EXPECT_EQ(Block(got.begin(), got.end()),
                coded_and_back(*find_codec(CodecId::kvq4), layout,
                               test::bytes_of_block(layout, n)));
    }
    EXPECT_EQ(card->stats().decode_out, 3 * layout.bytes());
    // Frames say how they are coded: any codec of that id reads them.
    ASSERT_TRUE(store->set_codec(0, *find_codec(CodecId::kvq4)).ok());
    (void)store.load(1);
    ASSERT_EQ(store.save(3), Code::ok);
    EXPECT_EQ(card->stats().descriptors, 12U);
    ASSERT_TRUE(store->set_codec(0, *card).ok());
    (void)store.load(3);
    EXPECT_EQ(card->stats().descriptors, 14U);
    EXPECT_EQ(card->stats().on_host, 0U);
  }
}

TEST(CardCodec, decodes_what_leaves_its_tier) {
  const auto card = soft_codec(CodecId::kvq4);
  StoreOptions options = on(HeapDevice::Kind::disk, *card);
  const BlockLayout layout = options.layouts[0];
  StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1, {.durable = true}), Code::ok);  // past the tier that forgets
  ASSERT_EQ(store.tier_of(1), 1);
  EXPECT_EQ(card->stats().encode_in, layout.bytes());
  const BlockKey key = key_of(1);
  ASSERT_TRUE(promote(*store, {&key, 1}, 0).wait().ok());
  ASSERT_EQ(store.tier_of(1), 0);
  EXPECT_EQ(card->stats().decode_out, layout.bytes());
  EXPECT_EQ(card->stats().on_host, 0U);
}

}  // namespace
}  // namespace speckv

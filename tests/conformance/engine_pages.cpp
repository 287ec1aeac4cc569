// Regions that are lists of pages, on every engine that has them and shows its registers:
// docs/queue-protocol.md, "Regions and tenants".
#include <numeric>
#include <string_view>

#include "cxlspeckv/codec.hpp"

#include "base/endian.hpp"
#include "support/blocks.hpp"
#include "support/engine_fixture.hpp"

namespace speckv::test {
namespace {

using namespace engine;

class EnginePages : public EngineFixture {
 protected:
  static constexpr std::uint64_t kBytes = 128 << 10;  // of a region's pages
  static constexpr std::uint32_t kFirst = 60, kSecond = 61;
  static constexpr std::uint64_t kNowhere = 1ULL << 52;

  // Pages in any order, and a list that begins anywhere.
  struct Paged {
    std::uint32_t id = 0, shift = 12;
    MutableBytes pages{}, list{};  // that of bytes to 2^shift; that of 8 bytes
    std::vector<std::size_t> order{};

    // Where the region's byte lies.
    std::byte& at(std::uint64_t offset) const {
      const std::uint64_t within = offset & ((1ULL << shift) - 1);
      return pages[(order[offset >> shift] << shift) + within];
    }
    std::vector<std::byte> bytes(std::uint64_t offset, std::uint64_t length) const {
      std::vector<std::byte> all(length);
      for (std::uint64_t i = 0; i < length; ++i)
        all[i] = at(offset + i);
      return all;
    }
  };

  void SetUp() override {
    EngineFixture::SetUp();
    bar0_ = engine_->bar0();
    if (bar0_ == nullptr) GTEST_SKIP() << "registers are not shown";
    if (!facts_.has(feature::kPaged)) GTEST_SKIP() << "no paged regions";
  }

  Paged paged(std::uint32_t id, std::uint32_t shift = 12, std::uint64_t skip = 0) {
    Paged p{id, shift, {}, {}, {}};
    const std::uint64_t page = 1ULL << shift, count = kBytes / page;
    const MutableBytes all = engine_->allocate(kBytes + page);
    const std::uint64_t bus = bar0_->bus_address(all.data());
    p.pages = all.subspan((page - bus % page) % page, kBytes);
    p.list = engine_->allocate(4096).subspan(8 * skip, 8 * count);
    p.order.resize(count);
    std::iota(p.order.begin(), p.order.end(), std::size_t{0});
    std::shuffle(p.order.begin(), p.order.end(), random_);
    for (std::byte& b : p.pages)
      b = static_cast<std::byte>(random_());
    write_list(p);
    enter(p, bar0_->bus_address(p.list.data()), kBytes);
    return p;
  }
  void write_list(const Paged& p) {
    for (std::size_t i = 0; i < p.order.size(); ++i)
      store_le(p.list.data() + 8 * i,
               bar0_->bus_address(p.pages.data() + (p.order[i] << p.shift)));
  }
  // Its entry of the table becomes valid.
  void enter(const Paged& p, std::uint64_t list, std::uint64_t length,
             std::uint32_t tenant = kTenant) {
    engine_->drop_region(p.id);
    write64(*bar0_, region_register(p.id, region::kBase), list);
    write64(*bar0_, region_register(p.id, region::kLength), length);
    bar0_->write32(
        region_register(p.id, region::kControl),
        static_cast<std::uint32_t>(
            region::kControlValid.put(1) | region::kControlRead.put(1) |
            region::kControlWrite.put(1) | region::kControlPaged.put(1) |
            region::kControlPageShift.put(p.shift) | region::kControlTenant.put(tenant)));
  }
  static bool same(Bytes a, Bytes b) { return std::ranges::equal(a, b); }
  // Between the engine and memory, so that some addresses lead nowhere: the library's has
  // its own process's addresses, and believes them.
  static bool has_bus() { return GetParam().name != std::string_view("soft"); }

  Bar0* bar0_ = nullptr;
  std::mt19937_64 random_{1};
};

TEST_P(EnginePages,
       a_range_follows_the_list_whatever_its_alignment_and_the_size_of_pages) {
  randomise(host_, 12);
  for (std::uint32_t shift = 12; shift <= 17; ++shift) {
    SCOPED_TRACE(shift);
    const Paged p = paged(kFirst, shift, random_() % 9);
    for (int i = 0; i < 12; ++i) {
      const auto length =
          static_cast<std::uint32_t>(1 + random_() % (i < 4 ? 300 : 30000));
      std::uint64_t at = random_() % (kBytes - length);
      if (i % 3 == 0) at = std::min((at | 0xfff) - random_() % 200, kBytes - length);
      const std::uint64_t from = random_() % (kHostBytes / 2 - length);
      auto wanted = p.bytes(0, kBytes);
      std::ranges::copy(host_.subspan(from, length), wanted.data() + at);
      const bool fills = i % 6 == 5;
      if (i % 2 == 0 || fills) {
        ASSERT_EQ(answer(copy(host_id_, from, kFirst, at, length)), Answer::ok);
      } else {
        ASSERT_EQ(answer(to_card(from, from, length)), Answer::ok);
        ASSERT_EQ(answer(copy(card_id_, from, kFirst, at, length)), Answer::ok);
      }
      if (fills) {
        Descriptor d = make(Opcode::fill);
        d.dst_region = kFirst;
        d.dst_offset = at;
        d.length = length;
        d.pattern = 0x0102030405060708;
        ASSERT_EQ(answer(d), Answer::ok);
        for (std::uint64_t n = 0; n < length; ++n)
          wanted[at + n] = static_cast<std::byte>(8 - n % 8);
      }
      ASSERT_TRUE(same(p.bytes(0, kBytes), wanted)) << at << " + " << length;
      const std::uint64_t back = kHostBytes / 2 + random_() % 1000;
      ASSERT_EQ(answer(copy(kFirst, at, host_id_, back, length)), Answer::ok);
      ASSERT_TRUE(same(host_.subspan(back, length), Bytes(wanted).subspan(at, length)));
    }
  }
}

// Both sides in pages, as long as a descriptor may be: engines that read the list of the
// one and the data of the other on the same bus must not wait for themselves.
TEST_P(EnginePages, pages_are_copied_to_pages) {
  const Paged from = paged(kFirst), to = paged(kSecond, 13, 3);
  const auto wanted = from.bytes(0, kBytes);
  ASSERT_EQ(answer(copy(kFirst, 0, kSecond, 0, kBytes)), Answer::ok);
  EXPECT_TRUE(same(to.bytes(0, kBytes), wanted));
  ASSERT_EQ(answer(copy(kFirst, 4095, kSecond, 17, kBytes - 5000)), Answer::ok);
  EXPECT_TRUE(
      same(to.bytes(17, kBytes - 5000), Bytes(wanted).subspan(4095, kBytes - 5000)));
}

TEST_P(EnginePages, layers_are_coded_from_pages_to_pages) {
  int layers = 0;
  for (const auto kind : {BlockLayout::Kind::kv, BlockLayout::Kind::interleaved}) {
    for (const Codec* codec : builtin_codecs()) {
      const BlockLayout layout{1, 2, 80, 64, DType::f16, kind};
      if ((facts_.codecs >> static_cast<unsigned>(codec->id()) & 1) == 0) continue;
      if (!codec->supports(layout)) continue;
      ++layers;
      const Paged rows = paged(kFirst, 12, 5), coded = paged(kSecond, 12, 1);
      const auto plain = make_block(layout, Fill::normal, 7);
      for (std::size_t i = 0; i < plain.size(); ++i)
        rows.at(4032 + i) = plain[i];
      std::vector<std::byte> expected(codec->max_layer_bytes(layout));
      const auto size = codec->encode(LayerContext{layout}, plain, expected);
      ASSERT_TRUE(size.ok());
      expected.resize(*size);
      Descriptor d = make(Opcode::encode);
      d.codec = static_cast<std::uint8_t>(codec->id());
      d.dtype = static_cast<std::uint8_t>(layout.dtype);
      d.kind = static_cast<std::uint8_t>(layout.kind);
      d.heads = static_cast<std::uint16_t>(layout.kv_heads);
      d.head_dim = static_cast<std::uint16_t>(layout.head_dim);
      d.tokens = static_cast<std::uint16_t>(layout.tokens);
      d.length = static_cast<std::uint32_t>(plain.size());
      d.src_region = kFirst;
      d.src_offset = 4032;
      d.dst_region = kSecond;
      d.dst_offset = 192;
      d.room = 64 << 10;
      const Told up = run(d);
      ASSERT_EQ(up.answer, Answer::ok) << codec->name();
      ASSERT_EQ(up.result, expected.size());
      EXPECT_TRUE(same(coded.bytes(192, expected.size()), expected)) << codec->name();

      Descriptor back = d;
      back.opcode = static_cast<std::uint8_t>(Opcode::decode);
      back.length = up.result;
      back.src_region = kSecond;
      back.src_offset = 192;
      back.dst_region = kFirst;
      back.dst_offset = 8128;
      back.room = d.length;
      std::vector<std::byte> restored(plain.size());
      ASSERT_EQ(codec->decode(LayerContext{layout}, expected, restored), Code::ok);
      ASSERT_EQ(answer(back), Answer::ok) << codec->name();
      EXPECT_TRUE(same(rows.bytes(8128, restored.size()), restored)) << codec->name();
      // Nothing is written that has no room: no page of it is wanted.
      if (!has_bus()) continue;
      back.room = 64;
      store_le(rows.list.data() + 8 * 2, kNowhere);
      engine_->drop_region(kFirst);
      enter(rows, bar0_->bus_address(rows.list.data()), kBytes);
      EXPECT_EQ(answer(back), Answer::no_space);
      back.room = d.length;
      EXPECT_EQ(answer(back), Answer::bus_error);
    }
  }
  EXPECT_GE(layers, 2);
}

TEST_P(EnginePages, an_entry_has_its_rules) {
  const Paged p = paged(kFirst, 14);
  const std::uint64_t list = bar0_->bus_address(p.list.data());
  const auto tries = [&](std::uint64_t at, std::uint32_t length) {
    return answer(copy(kFirst, at, host_id_, 0, length));
  };
  enter(p, list, kBytes - 100);
  EXPECT_EQ(tries(0, kBytes - 100), Answer::ok);
  EXPECT_EQ(tries(1000, kBytes - 1100), Answer::ok);
  EXPECT_EQ(tries(1000, kBytes - 1099), Answer::bad_region);
  EXPECT_EQ(tries(~std::uint64_t{0}, 2), Answer::bad_region);
  enter(p, list, kBytes, kOther);
  EXPECT_EQ(tries(0, 64), Answer::bad_region);
  enter(p, list + 4, kBytes);
  EXPECT_EQ(tries(0, 64), Answer::bad_region);
  for (const std::uint32_t shift : {0U, 3U, 11U, 31U, 63U}) {
    Paged other = p;
    other.shift = shift;
    enter(other, list, kBytes);
    EXPECT_EQ(tries(0, 8), Answer::bad_region) << shift;
  }
  // Bits below the page's size are nothing.
  const auto wanted = p.bytes(0, kBytes);
  for (std::size_t i = 0; i < p.order.size(); ++i) {
    const auto word = load_le<std::uint64_t>(p.list.data() + 8 * i);
    store_le(p.list.data() + 8 * i, word | (random_() & 0x3fff));
  }
  enter(p, list, kBytes);
  EXPECT_EQ(tries(0, kBytes), Answer::ok);
  EXPECT_TRUE(same(host_.first(kBytes), wanted));
}

TEST_P(EnginePages, a_page_or_a_list_out_of_reach_is_an_error_of_the_bus) {
  if (!has_bus()) GTEST_SKIP() << "everything is in reach";
  const Paged p = paged(kFirst);
  const std::uint64_t list = bar0_->bus_address(p.list.data());
  store_le(p.list.data() + 8 * 17, kNowhere);
  const auto both = [&](std::uint64_t at, std::uint32_t length) {
    const Answer out = answer(copy(host_id_, 0, kFirst, at, length));
    EXPECT_EQ(answer(copy(kFirst, at, card_id_, 0, length)), out);
    return out;
  };
  EXPECT_EQ(both(17 * 4096 - 100, 101), Answer::bus_error);
  EXPECT_EQ(both(17 * 4096 - 100, 100), Answer::ok);  // nobody asks for that page
  EXPECT_EQ(both(18 * 4096, 10000), Answer::ok);
  EXPECT_EQ(both(0, kBytes), Answer::bus_error);
  Descriptor d = make(Opcode::fill);
  d.dst_region = kFirst;
  d.length = kBytes;
  EXPECT_EQ(answer(d), Answer::bus_error);
  enter(p, kNowhere, kBytes);
  EXPECT_EQ(both(0, 64), Answer::bus_error);
  EXPECT_EQ(both(0, kBytes), Answer::bus_error);
  EXPECT_EQ(answer(d), Answer::bus_error);
  d.length = 0;  // what is wrong with the descriptor comes first
  EXPECT_EQ(answer(d), Answer::bad_desc);
  EXPECT_EQ(answer(copy(0, 0, kFirst, 0, 64)), Answer::bad_region);
  store_le(p.list.data() + 8 * 17, load_le<std::uint64_t>(p.list.data()));
  enter(p, list, kBytes);
  EXPECT_EQ(both(0, kBytes), Answer::ok);
}

// What an engine has kept of a list is forgotten with the entry.
TEST_P(EnginePages, an_invalidated_list_is_read_again) {
  Paged p = paged(kFirst);
  const std::uint64_t list = bar0_->bus_address(p.list.data());
  for (std::uint64_t i = 0; i < 20; ++i) {
    const std::uint64_t at = random_() % (kBytes - 9000);
    ASSERT_EQ(answer(copy(kFirst, at, host_id_, 0, 9000)), Answer::ok);
    ASSERT_TRUE(same(host_.first(9000), p.bytes(at, 9000))) << i;
    randomise(host_, 100 + i);
    ASSERT_EQ(answer(copy(host_id_, 0, kFirst, at, 9000)), Answer::ok);
    ASSERT_TRUE(same(host_.first(9000), p.bytes(at, 9000))) << i;
    engine_->drop_region(kFirst);
    EXPECT_EQ(answer(copy(kFirst, at, host_id_, 0, 9000)), Answer::bad_region);
    std::shuffle(p.order.begin(), p.order.end(), random_);
    write_list(p);
    enter(p, list, kBytes);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, EnginePages, testing::ValuesIn(kEngines),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace speckv::test

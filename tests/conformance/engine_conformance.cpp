// Every engine keeps docs/queue-protocol.md: rings, transfers, codecs, refusals.
#include <thread>

#include "cxlspeckv/codec.hpp"

#include "base/checksum.hpp"
#include "support/blocks.hpp"
#include "support/engine_fixture.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using namespace engine;

class EngineConformance : public EngineFixture {};

TEST_P(EngineConformance, answers_every_descriptor_once_for_many_laps_of_any_ring) {
  for (const std::uint32_t depth_log2 : {1U, 2U, 7U, 12U}) {
    const auto queue = engine_->open_queue(kTenant, depth_log2);
    const std::size_t count = (7U << depth_log2) / 2 + 3;
    const auto told = run(*queue, std::vector<Descriptor>(count, make(Opcode::nop)));
    for (const Told& t : told) {
      ASSERT_EQ(t.answer, Answer::ok);
      ASSERT_EQ(t.result, 0U);
      ASSERT_EQ(t.crc, 0U);
    }
  }
}

TEST_P(EngineConformance, moves_exactly_the_bytes_that_are_named) {
  std::mt19937_64 random(1);
  std::vector<std::byte> card(kCardBytes);
  for (int round = 0; round < 60; ++round) {
    randomise(host_, random());
    auto expected = host_copy();
    const auto length = static_cast<std::uint32_t>(1 + random() % 20000);
    const std::uint64_t from = random() % (kHostBytes - length);
    const std::uint64_t on_card = random() % (kCardBytes - length);
    const std::uint64_t to = random() % (kHostBytes - length);
    const Told up = run(to_card(from, on_card, length));
    ASSERT_EQ(up.answer, Answer::ok);
    ASSERT_EQ(up.result, length);
    std::copy_n(expected.begin() + static_cast<std::ptrdiff_t>(from), length,
                card.begin() + static_cast<std::ptrdiff_t>(on_card));
    const std::uint32_t crc = crc32c(0, Bytes(card).subspan(on_card, length));
    EXPECT_EQ(up.crc, facts_.has(feature::kCrc) ? crc : 0);
    const Told down = run(from_card(on_card, to, length));
    ASSERT_EQ(down.answer, Answer::ok);
    EXPECT_EQ(down.crc, facts_.has(feature::kCrc) ? crc : 0);
    std::copy_n(card.begin() + static_cast<std::ptrdiff_t>(on_card), length,
                expected.begin() + static_cast<std::ptrdiff_t>(to));
    ASSERT_TRUE(host_is(expected)) << round;
  }
  for (std::uint64_t at = 0; at < kCardBytes; at += kHostBytes) {
    ASSERT_EQ(answer(from_card(at, 0, kHostBytes)), Answer::ok);
    ASSERT_TRUE(host_is(Bytes(card).subspan(at, kHostBytes))) << at;
  }
}

TEST_P(EngineConformance, fills_with_the_pattern_from_the_first_byte_on) {
  randomise(host_, 2);
  auto expected = host_copy();
  Descriptor d = make(Opcode::fill);
  d.dst_region = host_id_;
  d.dst_offset = 4093;
  d.length = 8203;
  d.pattern = 0x0102030405060708;
  for (std::uint32_t i = 0; i < d.length; ++i)
    expected[4093 + i] = static_cast<std::byte>(8 - i % 8);
  const Told told = run(d);
  EXPECT_EQ(told.answer, Answer::ok);
  EXPECT_EQ(told.result, d.length);
  EXPECT_TRUE(host_is(expected));
}

TEST_P(EngineConformance, a_fence_is_between_what_is_before_and_after_it) {
  randomise(host_, 3);
  const auto before = host_copy();
  std::vector<Descriptor> chain;
  for (std::uint64_t i = 0; i < 12; ++i) {  // each hop reads what the one before wrote
    chain.push_back(i % 2 == 0 ? to_card(i * 4096, 64, 4096)
                               : from_card(64, (i + 1) * 4096, 4096));
    chain.push_back(make(Opcode::fence));
  }
  for (const Told& told : run(*queue_, chain))
    ASSERT_EQ(told.answer, Answer::ok);
  for (std::uint64_t i = 2; i <= 12; i += 2) {
    EXPECT_EQ(std::memcmp(host_.data() + i * 4096, before.data(), 4096), 0) << i;
  }
}

// ---- Codecs
// --------------------------------------------------------------------------------

class Layers {
 public:
  static Descriptor describe(Opcode opcode, const BlockLayout& layout, CodecId codec) {
    Descriptor d;
    d.opcode = static_cast<std::uint8_t>(opcode);
    d.codec = static_cast<std::uint8_t>(codec);
    d.dtype = static_cast<std::uint8_t>(layout.dtype);
    d.kind = static_cast<std::uint8_t>(layout.kind);
    d.heads = static_cast<std::uint16_t>(layout.kv_heads);
    d.head_dim = static_cast<std::uint16_t>(layout.head_dim);
    d.tokens = static_cast<std::uint16_t>(layout.tokens);
    return d;
  }
  static std::vector<BlockLayout> layouts() {
    using Kind = BlockLayout::Kind;
    return {{1, 2, 64, 64, DType::bf16, Kind::kv},
            {1, 1, 128, 16, DType::f16, Kind::kv},
            {1, 3, 80, 32, DType::f16, Kind::kv},
            {1, 1, 320, 64, DType::bf16, Kind::latent},
            {1, 2, 64, 32, DType::f32, Kind::kv},
            {1, 3, 64, 16, DType::f16, Kind::interleaved},
            {1, 2, 80, 19, DType::bf16, Kind::interleaved}};
  }
};

TEST_P(EngineConformance, codes_layers_byte_for_byte_as_the_library_does) {
  constexpr std::uint64_t kCoded = 128 << 10, kBack = 192 << 10;
  std::uint64_t seed = 0;
  int coded_layers = 0;
  for (const BlockLayout& layout : Layers::layouts()) {
    for (const Codec* codec : builtin_codecs()) {
      if ((facts_.codecs >> static_cast<unsigned>(codec->id()) & 1) == 0) continue;
      const auto plain = make_block(layout, Fill::normal, ++seed);
      ASSERT_LE(plain.size(), 64U << 10);
      randomise(host_, seed);
      std::ranges::copy(plain, host_.begin());
      Descriptor d = Layers::describe(Opcode::encode, layout, codec->id());
      d.length = static_cast<std::uint32_t>(plain.size());
      d.src_region = host_id_;
      d.dst_region = card_id_;
      d.dst_offset = 4096;
      d.room = 64 << 10;
      if (!codec->supports(layout)) {
        EXPECT_EQ(answer(d), Answer::unsupported);
        continue;
      }
      ++coded_layers;
      std::vector<std::byte> expected(codec->max_layer_bytes(layout));
      const auto size = codec->encode(LayerContext{layout}, plain, expected);
      ASSERT_TRUE(size.ok());
      expected.resize(*size);
      const Told up = run(d);
      ASSERT_EQ(up.answer, Answer::ok) << codec->name();
      ASSERT_EQ(up.result, expected.size());
      ASSERT_EQ(answer(from_card(4096, kCoded, up.result)), Answer::ok);
      EXPECT_TRUE(std::ranges::equal(host_.subspan(kCoded, up.result), expected));

      Descriptor back = Layers::describe(Opcode::decode, layout, codec->id());
      back.length = up.result;
      back.src_region = card_id_;
      back.src_offset = 4096;
      back.dst_region = host_id_;
      back.dst_offset = kBack;
      back.room = d.length;
      std::vector<std::byte> restored(plain.size());
      ASSERT_EQ(codec->decode(LayerContext{layout}, expected, restored), Code::ok);
      const Told down = run(back);
      ASSERT_EQ(down.answer, Answer::ok);
      EXPECT_EQ(down.result, plain.size());
      EXPECT_TRUE(std::ranges::equal(host_.subspan(kBack, plain.size()), restored));
      if (facts_.has(feature::kCrc)) {
        EXPECT_EQ(up.crc, crc32c(0, expected));
        EXPECT_EQ(down.crc, up.crc);
        back.flags = flag::kCheck;
        back.crc = up.crc;
        EXPECT_EQ(answer(back), Answer::ok);
        back.crc ^= 0x400;
        EXPECT_EQ(answer(back), Answer::corrupted);
      }
    }
  }
  EXPECT_GE(coded_layers, 4);
}

TEST_P(EngineConformance, a_codec_writes_no_byte_beyond_its_room) {
  const BlockLayout layout = Layers::layouts()[0];
  const auto plain = make_block(layout, Fill::normal, 9);
  for (const CodecId id : {CodecId::raw, CodecId::int8, CodecId::kvq4}) {
    if ((facts_.codecs >> static_cast<unsigned>(id) & 1) == 0) continue;
    randomise(host_, 4);
    std::ranges::copy(plain, host_.begin());
    auto expected = host_copy();
    Descriptor d = Layers::describe(Opcode::encode, layout, id);
    d.length = static_cast<std::uint32_t>(plain.size());
    d.src_region = d.dst_region = host_id_;
    d.dst_offset = 128 << 10;
    d.room = 2048;  // too little for any of them
    EXPECT_EQ(answer(d), Answer::no_space);
    const auto rest = static_cast<std::ptrdiff_t>(d.dst_offset + d.room);
    EXPECT_TRUE(
        std::equal(expected.begin() + rest, expected.end(), host_.begin() + rest));
    EXPECT_TRUE(
        std::equal(expected.begin(), expected.begin() + (128 << 10), host_.begin()));
  }
}

TEST_P(EngineConformance, what_a_codec_cannot_carry_or_read_is_said) {
  for (const CodecId lossy : {CodecId::int8, CodecId::kvq4}) {
    if ((facts_.codecs >> static_cast<unsigned>(lossy) & 1) == 0) {
      GTEST_SKIP() << "no lossy codecs";
    }
  }
  const BlockLayout layout = Layers::layouts()[0];
  auto plain = make_block(layout, Fill::normal, 10);
  plain[101] = std::byte{0x7F};  // with the byte before it: a NaN or an infinity
  plain[100] = std::byte{0x80};
  std::ranges::copy(plain, host_.begin());
  Descriptor d = Layers::describe(Opcode::encode, layout, CodecId::int8);
  d.length = static_cast<std::uint32_t>(plain.size());
  d.src_region = host_id_;
  d.dst_region = card_id_;
  d.room = d.length;
  EXPECT_EQ(answer(d), Answer::unencodable);
  // Noise to the decoders: within their room, and never a wrong success of a wrong
  // length.
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    randomise(host_, seed);
    const auto before = host_copy();
    Descriptor back = Layers::describe(Opcode::decode, layout,
                                       seed % 2 == 0 ? CodecId::int8 : CodecId::kvq4);
    back.length = static_cast<std::uint32_t>(64 + seed * 400);
    back.src_region = back.dst_region = host_id_;
    back.dst_offset = 128 << 10;
    back.room = d.length;
    EXPECT_EQ(answer(back), Answer::corrupted) << seed;
    const auto end = static_cast<std::ptrdiff_t>(back.dst_offset + back.room);
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + (128 << 10), host_.begin()));
    EXPECT_TRUE(std::equal(before.begin() + end, before.end(), host_.begin() + end));
  }
}

// ---- Refusals
// ------------------------------------------------------------------------------

// A descriptor of the opcode that is carried out, and to which one bad thing can be done.
Descriptor good(const EngineFacts& facts, std::uint32_t host, std::uint32_t card,
                Opcode opcode) {
  Descriptor d;
  d.opcode = static_cast<std::uint8_t>(opcode);
  switch (opcode) {
    case Opcode::encode:
    case Opcode::decode:
      d = Layers::describe(opcode, Layers::layouts()[1], CodecId::raw);
      d.length = d.room = static_cast<std::uint32_t>(Layers::layouts()[1].layer_bytes());
      d.src_region = host;
      d.dst_region = card;
      break;
    case Opcode::copy:
      d.src_region = host;
      d.dst_region = card;
      d.length = 256;
      break;
    case Opcode::fill:
    case Opcode::telemetry:
      d.dst_region = card;
      d.length = 256;
      break;
    case Opcode::prefetch:
      d.src_region = card;
      d.length = 4096;
      break;
    case Opcode::predict:
      d.src_region = d.dst_region = card;
      d.length = 64;
      d.answers = 4;
      break;
    case Opcode::weights:
      d.recency = d.frequency = d.step_weight = d.durability = 64;
      d.evict = 24;
      d.prefetch = 96;
      d.hysteresis = 8;
      break;
    case Opcode::hint:
      d.hint = static_cast<std::uint8_t>(Hint::hot);
      d.tokens = static_cast<std::uint16_t>(facts.block_tokens);
      break;
    default:
      break;
  }
  return d;
}

TEST_P(EngineConformance, every_bit_that_must_be_zero_is_looked_at) {
  const auto before = host_copy();
  for (std::size_t opcode = 0; opcode < kMasks.size(); ++opcode) {
    if (!facts_.can(static_cast<Opcode>(opcode))) continue;
    std::byte bytes[Descriptor::kBytes];
    good(facts_, host_id_, card_id_, static_cast<Opcode>(opcode)).store(bytes);
    std::vector<Descriptor> bad;
    // Flags and the reserved bytes behind them cannot be said by a Descriptor's fields
    // alone: what is stored is what counts.
    for (unsigned bit = 8; bit < 16; ++bit) {
      if ((kMasks[opcode][0] >> bit & 1) != 0) continue;
      Descriptor d = Descriptor::load(bytes);
      d.flags = static_cast<std::uint8_t>(1U << (bit - 8));
      bad.push_back(d);
    }
    for (unsigned bit = 32; bit < 512; ++bit) {
      if ((kMasks[opcode][bit / 64] >> (bit % 64) & 1) != 0) continue;
      std::byte copy[Descriptor::kBytes];
      std::memcpy(copy, bytes, sizeof copy);
      copy[bit / 8] |= static_cast<std::byte>(1U << (bit % 8));
      const Descriptor d = Descriptor::load(copy);
      std::byte again[Descriptor::kBytes];
      d.store(again);
      if (std::memcmp(copy, again, sizeof copy) == 0) bad.push_back(d);
    }
    const auto told = run(*queue_, bad);
    for (std::size_t i = 0; i < bad.size(); ++i) {
      // A flag that the registers do not offer is said to be that.
      const bool named = (bad[i].flags & flag::kNamed) != 0;
      const bool offered = !named || facts_.has(feature::kDirectory);
      ASSERT_EQ(told[i].answer, offered ? Answer::bad_desc : Answer::unsupported)
          << "opcode " << opcode << " case " << i;
    }
    EXPECT_GT(bad.size(), 6U);
  }
  EXPECT_TRUE(host_is(before));
}

TEST_P(EngineConformance, refuses_what_breaks_one_rule) {
  const auto with = [&](Opcode opcode, auto&& change) {
    Descriptor d = good(facts_, host_id_, card_id_, opcode);
    change(d);
    return d;
  };
  struct Bad {
    const char* what;
    Descriptor descriptor;
    Answer answer = Answer::bad_desc;
  };
  std::vector<Bad> bad{
      {"no such opcode", with(Opcode::nop, [](Descriptor& d) { d.opcode = 7; })},
      {"far from any opcode", with(Opcode::nop, [](Descriptor& d) { d.opcode = 200; })},
      {"empty copy", with(Opcode::copy, [](Descriptor& d) { d.length = 0; })},
      {"empty fill", with(Opcode::fill, [](Descriptor& d) { d.length = 0; })},
      {"no heads", with(Opcode::encode, [](Descriptor& d) { d.heads = 0; })},
      {"no tokens", with(Opcode::encode, [](Descriptor& d) { d.tokens = 0; })},
      {"length is not the layer's",
       with(Opcode::encode, [](Descriptor& d) { --d.length; })},
      {"dtype", with(Opcode::encode, [](Descriptor& d) { d.dtype = 4; })},
      {"kind", with(Opcode::encode, [](Descriptor& d) { d.kind = 3; })},
      {"misaligned", with(Opcode::encode, [](Descriptor& d) { d.src_offset = 32; })},
      {"misaligned, too", with(Opcode::decode, [](Descriptor& d) { d.dst_offset = 8; })},
      {"codec 0", with(Opcode::encode, [](Descriptor& d) { d.codec = 0; }),
       Answer::unsupported},
      {"codec 77", with(Opcode::decode, [](Descriptor& d) { d.codec = 77; }),
       Answer::unsupported},
      {"a layer that is too large",
       with(Opcode::decode,
            [](Descriptor& d) { d.heads = d.head_dim = d.tokens = 0xFFFF; }),
       Answer::unsupported},
      {"region 0", with(Opcode::copy, [](Descriptor& d) { d.src_region = 0; }),
       Answer::bad_region},
      {"a region that is not there",
       with(Opcode::copy, [](Descriptor& d) { d.dst_region = 4000; }),
       Answer::bad_region},
      {"a number beyond the table",
       with(Opcode::copy, [](Descriptor& d) { d.dst_region = 0xFFFFFFFF; }),
       Answer::bad_region},
      {"across the end",
       with(Opcode::copy, [](Descriptor& d) { d.dst_offset = kCardBytes - 255; }),
       Answer::bad_region},
      {"offset and length overflow",
       with(Opcode::copy, [](Descriptor& d) { d.src_offset = ~0ULL - 100; }),
       Answer::bad_region},
  };
  EXPECT_EQ(facts_.can(Opcode::predict), facts_.has(feature::kPredict));
  if (!facts_.has(feature::kPredict)) {  // however good or bad it is
    for (std::uint8_t task = 0; task < 3; ++task) {
      bad.push_back({"prediction",
                     with(Opcode::predict, [&](Descriptor& d) { d.task = task; }),
                     Answer::unsupported});
    }
  }
  if (facts_.can(Opcode::prefetch)) {
    bad.push_back(
        {"prefetch of host memory",
         with(Opcode::prefetch, [&](Descriptor& d) { d.src_region = host_id_; }),
         Answer::bad_region});
  }
  if (facts_.max_length < 0xFFFFFFFF) {
    bad.push_back({"longer than any", with(Opcode::copy, [&](Descriptor& d) {
                     d.length = facts_.max_length + 1;
                   })});
  }
  randomise(host_, 6);
  const auto before = host_copy();
  for (const auto& [what, descriptor, expected] : bad) {
    const Told told = run(descriptor);
    EXPECT_EQ(told.answer, expected) << what;
    EXPECT_EQ(told.result, 0U) << what;
    EXPECT_EQ(told.crc, 0U) << what;
  }
  EXPECT_TRUE(host_is(before));
  EXPECT_EQ(answer(good(facts_, host_id_, card_id_, Opcode::copy)), Answer::ok);
}

TEST_P(EngineConformance, a_region_is_its_tenants_and_for_what_it_allows) {
  const MutableBytes theirs = engine_->allocate(4096);
  randomise(theirs, 7);
  const std::vector<std::byte> secret(theirs.begin(), theirs.end());
  const std::uint32_t other = engine_->host_region(kOther, theirs);
  const std::uint32_t source = engine_->host_region(kTenant, host_, {true, false});
  EXPECT_EQ(answer(copy(other, 0, host_id_, 0, 64)), Answer::bad_region);
  EXPECT_EQ(answer(copy(host_id_, 0, other, 0, 64)), Answer::bad_region);
  EXPECT_EQ(answer(copy(source, 0, card_id_, 0, 64)), Answer::ok);
  EXPECT_EQ(answer(copy(card_id_, 0, source, 0, 64)), Answer::bad_region);
  if (engine_->has_write_only_regions()) {
    const std::uint32_t sink = engine_->host_region(kTenant, host_, {false, true});
    EXPECT_EQ(answer(copy(card_id_, 0, sink, 0, 64)), Answer::ok);
    EXPECT_EQ(answer(copy(sink, 0, card_id_, 0, 64)), Answer::bad_region);
  }
  EXPECT_TRUE(std::ranges::equal(theirs, secret));
  const auto queue = engine_->open_queue(kOther, 4);
  EXPECT_EQ(run(*queue, {copy(other, 0, other, 2048, 64)})[0].answer, Answer::ok);
  EXPECT_EQ(run(*queue, {copy(other, 0, card_id_, 0, 64)})[0].answer, Answer::bad_region);
  engine_->drop_region(source);
  EXPECT_EQ(answer(copy(source, 0, card_id_, 0, 64)), Answer::bad_region);
}

TEST_P(EngineConformance, what_was_prefetched_reads_as_what_was_written_last) {
  if (!facts_.can(Opcode::prefetch)) GTEST_SKIP() << "no fast buffer";
  std::mt19937_64 random(8);
  std::vector<std::byte> card(kCardBytes);
  for (int round = 0; round < 300; ++round) {
    const auto length = static_cast<std::uint32_t>(1 + random() % 9000);
    const std::uint64_t at = random() % (96 << 10);
    if (random() % 3 == 0) {
      Descriptor d = make(Opcode::prefetch);
      d.src_region = card_id_;
      d.src_offset = at;
      d.length = length;
      ASSERT_EQ(answer(d), Answer::ok);
    } else if (random() % 2 == 0) {
      randomise(host_.first(length), random());
      ASSERT_EQ(answer(to_card(0, at, length)), Answer::ok);
      std::copy_n(host_.begin(), length, card.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      ASSERT_EQ(answer(from_card(at, 16384, length)), Answer::ok);
      ASSERT_EQ(std::memcmp(host_.data() + 16384, card.data() + at, length), 0) << round;
    }
  }
}

TEST_P(EngineConformance, many_threads_each_get_every_answer_once) {
  constexpr int kThreads = 8;
  const std::string_view name = GetParam().name;
  const bool simulated = name.starts_with("rtl");
  const bool alone = name.starts_with("model") || simulated;  // for one thread
  // A card's doorbells are no memory: behind a simulated bus each of them takes its time.
  const double all = facts_.has(feature::kNeedKick) ? 3e5 : simulated ? 3e3 : 1e5;
  const auto count =
      std::max<std::uint64_t>(simulated ? 150 : 2000, scaled(all) / kThreads);
  std::vector<std::unique_ptr<QueueUnderTest>> queues;
  for (int i = 0; i < kThreads; ++i)
    queues.push_back(engine_->open_queue(kTenant, 6));
  const auto work = [&](QueueUnderTest& queue) {
    std::vector<std::uint8_t> answered(65536);
    std::size_t submitted = 0, taken = 0;
    while (taken < count) {
      Descriptor d = make(Opcode::nop);
      while (submitted < count && submitted - taken < queue.depth()) {
        d.tag = static_cast<std::uint16_t>(submitted);
        if (queue.submit({&d, 1}) == 0) break;
        answered[d.tag] = 0;
        ++submitted;
      }
      const auto found = queue.wait();
      if (found.empty()) return;
      for (const CompletionEntry& entry : found)
        EXPECT_EQ(++answered[entry.tag], 1);
      taken += found.size();
    }
    EXPECT_TRUE(queue.poll().empty());
  };
  if (alone) {
    for (const auto& queue : queues)
      work(*queue);
    return;
  }
  std::vector<std::jthread> threads;
  for (const auto& queue : queues)
    threads.emplace_back([&] { work(*queue); });
}

INSTANTIATE_TEST_SUITE_P(Engines, EngineConformance, testing::ValuesIn(kEngines),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace speckv::test

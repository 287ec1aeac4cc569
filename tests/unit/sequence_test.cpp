#include "cxlspeckv/sequence.hpp"

#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "base/endian.hpp"
#include "support/invariants.hpp"
#include "support/sequence_rows.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::append_rows;
using test::HeapDevice;
using test::small_layout;
using test::wrong_rows;
using Kind = HeapDevice::Kind;
using Tokens = std::vector<std::uint32_t>;

constexpr std::uint32_t kBlock = 16;  // tokens
// docs/block-format.md, "The frame": its first bytes, and where the first layer's codec
// is.
constexpr std::uint32_t kFrameMagic = 0x424B5653;
constexpr std::size_t kFirstCodec = 48 + 8;

Tokens tokens_from(std::uint32_t first, std::uint32_t count) {
  Tokens tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

class SequenceTest : public testing::Test {
 protected:
  // A fast tier of `blocks`, and a disk below it.
  void open(std::uint64_t blocks, bool disk_below = true, const char* codec = "raw") {
    memory_ = std::make_shared<HeapDevice>(blocks * test::frame_bytes(small_layout()),
                                           Kind::memory);
    StoreOptions options;
    options.layouts = {small_layout()};
    options.tiers.push_back(test::tier_on("fast", memory_));
    disk_ = std::make_shared<HeapDevice>(2 << 20, Kind::disk);
    if (disk_below) options.tiers.push_back(test::tier_on("disk", disk_, codec));
    auto opened = BlockStore::open(std::move(options));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    store_ = *std::move(opened);
  }
  std::unique_ptr<Sequence> make() { return *Sequence::create(*store_, {}); }
  std::unique_ptr<Sequence> make(const Tokens& tokens) {
    auto sequence = make();
    EXPECT_TRUE(append_rows(*sequence, small_layout(), tokens).ok());
    return sequence;
  }
  // That the sequence holds these tokens, and their rows.
  void expect_holds(Sequence& sequence, const Tokens& tokens) {
    ASSERT_EQ(sequence.size(), tokens.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), sequence.tokens().begin()));
    auto view = sequence.view();
    ASSERT_TRUE(view.ok()) << view.error().message();
    EXPECT_EQ(view->tokens(), tokens.size());
    EXPECT_EQ(wrong_rows(*view, small_layout(), tokens), "");
  }
  // Everything away: nothing may be left.
  void expect_empty(std::span<const BlockKey> keys) {
    (void)store_->erase(keys);
    EXPECT_EQ(test::check_invariants(*store_), "");
    EXPECT_EQ(test::used_bytes(*store_), 0U);
  }
  static std::vector<BlockKey> keys_of(const Sequence& sequence) {
    return {sequence.keys().begin(), sequence.keys().end()};
  }

  // The frames on the disk, by where they lie. Nothing may be on its way there.
  std::map<std::size_t, std::vector<std::byte>> frames() const {
    std::map<std::size_t, std::vector<std::byte>> found;
    const MutableBytes disk = disk_->raw();
    for (std::size_t at = 0; at < disk.size(); at += 512) {
      if (load_le<std::uint32_t>(disk.data() + at) != kFrameMagic) continue;
      const auto bytes = load_le<std::uint64_t>(disk.data() + at + 32);
      if (bytes > disk.size() - at) continue;
      const auto frame = disk.subspan(at, bytes);
      found[at] = {frame.begin(), frame.end()};
    }
    return found;
  }

  std::shared_ptr<HeapDevice> memory_, disk_;
  std::unique_ptr<BlockStore> store_;
};

// Blocks are immutable, and a tail is raw until it is full: tokens that follow change not
// a byte of what was encoded before.
TEST_F(SequenceTest, appending_encodes_nothing_that_is_sealed_again) {
  open(32, true, "lossless");
  auto sequence = make();
  std::map<std::size_t, std::vector<std::byte>> before;
  for (std::uint32_t size = 0; size < 20 * kBlock;) {
    const auto taken = sequence->append(tokens_from(size, 7));
    ASSERT_TRUE(taken.ok());
    for (std::uint32_t layer = 0; layer < small_layout().layers; ++layer) {
      for (std::uint32_t t = size; t < size + *taken; ++t)
        test::for_row_bytes(
            small_layout(), layer, t, t, [&](std::uint64_t at, std::byte b) {
              sequence->tail(layer)[at] = at % 2 == 0 ? b : std::byte{0x3C};
            });
    }
    size += *taken;
    ASSERT_TRUE(store_->flush().ok());
    const auto now = frames();
    EXPECT_EQ(now.size(), sequence->keys().size());
    for (const auto& [at, frame] : before) {
      ASSERT_TRUE(now.contains(at)) << "moved";
      ASSERT_EQ(now.at(at), frame) << "written again with " << size << " tokens";
    }
    before = now;
  }
  ASSERT_EQ(before.size(), 19U);
  for (const auto& [at, frame] : before)
    EXPECT_EQ(frame[kFirstCodec], std::byte{5}) << "encoded as lossless";
}

TEST_F(SequenceTest, shows_what_was_written_sealed_or_not) {
  open(16);
  for (const std::uint32_t count : {1U, 15U, 16U, 17U, 48U, 100U}) {
    auto sequence = make(tokens_from(count * 1000, count));
    expect_holds(*sequence, tokens_from(count * 1000, count));
    EXPECT_EQ(sequence->keys().size(), (count - 1) / kBlock);  // the last may be open
    EXPECT_EQ(sequence->tail_first(), (count - 1) / kBlock * kBlock);
  }
}

TEST_F(SequenceTest, append_takes_what_the_tail_has_left) {
  open(8);
  auto sequence = make();
  EXPECT_EQ(*sequence->append(tokens_from(0, 10)), 10U);
  EXPECT_EQ(*sequence->append(tokens_from(10, 10)), 6U);
  EXPECT_EQ(*sequence->append({}), 0U);
  EXPECT_EQ(*sequence->append(tokens_from(16, 1)), 1U);
  EXPECT_EQ(sequence->keys().size(), 1U);
}

TEST_F(SequenceTest, seal_wants_a_full_tail) {
  open(8);
  auto sequence = make();
  EXPECT_EQ(sequence->seal().code(), Code::invalid_argument);
  ASSERT_TRUE(append_rows(*sequence, small_layout(), tokens_from(0, 15)).ok());
  EXPECT_EQ(sequence->seal().code(), Code::invalid_argument);
  ASSERT_TRUE(append_rows(*sequence, small_layout(), tokens_from(15, 1)).ok());
  EXPECT_TRUE(sequence->seal().ok());
  EXPECT_EQ(sequence->keys().size(), 1U);
  expect_holds(*sequence, tokens_from(0, 16));
}

TEST_F(SequenceTest, forks_share_their_past_and_go_their_own_ways) {
  open(24);
  Tokens first = tokens_from(0, 40);
  auto a = make(first);
  const std::uint64_t used = store_->stats(0).used;
  auto b = *a->fork();
  auto c = *b->fork();
  EXPECT_EQ(store_->stats(0).used, used);  // nothing is copied until it is written
  Tokens second = first, third = first;
  const auto grow = [](Sequence& sequence, Tokens& tokens, std::uint32_t from) {
    const Tokens more = tokens_from(from, 30);
    ASSERT_TRUE(append_rows(sequence, small_layout(), more).ok());
    tokens.insert(tokens.end(), more.begin(), more.end());
  };
  grow(*b, second, 5000);
  grow(*a, first, 7000);
  grow(*c, third, 9000);
  expect_holds(*a, first);
  expect_holds(*b, second);
  expect_holds(*c, third);
  EXPECT_EQ(a->keys()[1], c->keys()[1]);
  EXPECT_NE(a->keys()[2], c->keys()[2]);
  std::vector<BlockKey> keys = keys_of(*a);
  for (const auto* sequence : {b.get(), c.get()})
    for (const BlockKey key : sequence->keys())
      keys.push_back(key);
  a.reset();
  expect_holds(*b, second);  // which outlives what it was forked from
  b.reset();
  c.reset();
  expect_empty(keys);
}

TEST_F(SequenceTest, can_be_truncated_anywhere_and_written_on) {
  for (const std::uint32_t size : {0U, 1U, 15U, 16U, 17U, 31U, 32U, 40U, 47U, 48U, 50U}) {
    SCOPED_TRACE(size);
    open(24);
    const Tokens all = tokens_from(0, 50);
    auto sequence = make(all);
    auto witness = *sequence->fork();
    ASSERT_TRUE(sequence->truncate(size).ok());
    Tokens left(all.begin(), all.begin() + size);
    expect_holds(*sequence, left);
    const Tokens more = tokens_from(8000, 23);
    ASSERT_TRUE(append_rows(*sequence, small_layout(), more).ok());
    left.insert(left.end(), more.begin(), more.end());
    expect_holds(*sequence, left);
    expect_holds(*witness, all);
    std::vector<BlockKey> keys = keys_of(*witness);
    for (const BlockKey key : sequence->keys())
      keys.push_back(key);
    sequence.reset();
    witness.reset();
    expect_empty(keys);
  }
}

TEST_F(SequenceTest, cannot_be_truncated_to_more_than_it_has) {
  open(8);
  auto sequence = make(tokens_from(0, 10));
  EXPECT_EQ(sequence->truncate(11).code(), Code::invalid_argument);
  expect_holds(*sequence, tokens_from(0, 10));
}

TEST_F(SequenceTest, the_same_tokens_after_a_truncation_give_the_same_keys) {
  open(16);
  auto sequence = make(tokens_from(0, 49));
  const auto keys = keys_of(*sequence);
  ASSERT_TRUE(sequence->truncate(20).ok());
  ASSERT_TRUE(append_rows(*sequence, small_layout(), tokens_from(20, 29)).ok());
  EXPECT_EQ(keys_of(*sequence), keys);
}

TEST_F(SequenceTest, adopts_the_stored_front_of_its_tokens) {
  open(16);
  const Tokens all = tokens_from(0, 60);
  auto first = make(all);
  auto second = make();
  EXPECT_EQ(*second->adopt(all), 48U);
  EXPECT_EQ(second->adopt(all).error().code(), Code::invalid_argument);
  ASSERT_TRUE(append_rows(*second, small_layout(), std::span(all).subspan(48)).ok());
  expect_holds(*second, all);
  Tokens other = all;
  other[20] = 77;
  auto third = make();
  EXPECT_EQ(*third->adopt(other), 16U);
  auto fourth = make();
  EXPECT_EQ(*fourth->adopt(tokens_from(500, 40)), 0U);
}

TEST_F(SequenceTest, referenced_blocks_are_never_forgotten_whatever_else_is_saved) {
  open(10);
  const Tokens tokens = tokens_from(0, 16 * 8 + 1);
  auto sequence = make(tokens);
  std::vector<std::byte> memory(small_layout().bytes());
  const RegionId region = *store_->attach(memory);
  for (std::uint64_t n = 0; n < 600; ++n) {
    const Segment where{region, 0, memory.size()};
    const BlockTransfer transfer{test::key_of(n), {&where, 1}, 0, {}};
    (void)store_->save({&transfer, 1}).wait();
  }
  EXPECT_EQ(store_->match(sequence->keys()), 8U);
  EXPECT_EQ(store_->erase(sequence->keys()), 0U);  // nor erased
  expect_holds(*sequence, tokens);
  EXPECT_GT(store_->stats(1).evictions + store_->stats(0).evictions, 0U);
}

TEST_F(SequenceTest, more_sequences_than_the_fast_tier_holds_take_turns) {
  open(14);
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<Tokens> tokens;
  for (std::uint32_t i = 0; i < 6; ++i) {
    tokens.push_back(tokens_from(i * 10000, 16 * 6 + 5));
    sequences.push_back(make(tokens.back()));
  }
  for (int turn = 0; turn < 4; ++turn) {
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      (void)sequences[(i + 1) % sequences.size()]->stage();
      expect_holds(*sequences[i], tokens[i]);
      const Tokens more = tokens_from(static_cast<std::uint32_t>(90000 + turn), 1);
      ASSERT_TRUE(append_rows(*sequences[i], small_layout(), more).ok());
      tokens[i].push_back(more[0]);
    }
  }
  EXPECT_GT(store_->stats(1).demotions_in, 0U);
  EXPECT_GT(store_->stats(0).promotions_in, 0U);
  std::vector<BlockKey> keys;
  for (const auto& sequence : sequences)
    for (const BlockKey key : sequence->keys())
      keys.push_back(key);
  sequences.clear();
  expect_empty(keys);
}

TEST_F(SequenceTest, a_part_can_be_viewed_and_what_does_not_fit_is_refused) {
  open(6);
  const Tokens tokens = tokens_from(0, 16 * 12);
  auto sequence = make(tokens);
  auto part = sequence->view(3, 2);
  ASSERT_TRUE(part.ok()) << part.error().message();
  EXPECT_EQ(part->block_count(), 2U);
  EXPECT_EQ(part->first_token(), 48U);
  EXPECT_EQ(part->tokens(), 32U);
  EXPECT_EQ(wrong_rows(*part, small_layout(), tokens), "");
  EXPECT_EQ(sequence->view().error().code(), Code::no_space);
  EXPECT_EQ(sequence->view(13).error().code(), Code::invalid_argument);
  EXPECT_EQ(sequence->view(1, 12).error().code(), Code::invalid_argument);
}

TEST_F(SequenceTest, a_view_keeps_its_blocks_while_everything_else_moves) {
  open(10);
  const Tokens tokens = tokens_from(0, 16 * 4 + 3);
  auto sequence = make(tokens);
  auto view = sequence->view();
  ASSERT_TRUE(view.ok());
  auto other = make(tokens_from(5000, 16 * 12));
  EXPECT_EQ(wrong_rows(*view, small_layout(), tokens), "");
  const View moved = *std::move(view);
  EXPECT_EQ(wrong_rows(moved, small_layout(), tokens), "");
}

TEST_F(SequenceTest, damaged_memory_is_noticed_and_the_copy_below_serves) {
  open(16);
  const Tokens tokens = tokens_from(0, 16 * 3 + 1);
  auto sequence = make(tokens);
  ASSERT_TRUE(store_->flush().ok());  // so that there is a copy below
  // The tiers agree on a byte of the second block's first row: damage the fast one.
  const auto wanted = test::row_byte(16, 16, 0, 0, 0);
  std::uint64_t hits = 0;
  {
    auto view = sequence->view(1, 1);
    ASSERT_TRUE(view.ok());
    const Bytes bytes = view->layer(0, 0);
    ASSERT_EQ(bytes[0], wanted);
    const_cast<std::byte&>(bytes[0]) ^= std::byte{4};
    ++hits;
  }
  expect_holds(*sequence, tokens);
  EXPECT_EQ(store_->stats(0).corrupted, hits);
}

TEST_F(SequenceTest, damaged_memory_without_another_copy_is_refused) {
  open(16, false);
  auto sequence = make(tokens_from(0, 16 * 3 + 1));
  {
    auto view = sequence->view(1, 1);
    ASSERT_TRUE(view.ok());
    const_cast<std::byte&>(view->layer(0, 1)[9]) ^= std::byte{1};
  }
  const auto view = sequence->view();
  ASSERT_FALSE(view.ok());
  EXPECT_TRUE(view.error().code() == Code::corrupted ||
              view.error().code() == Code::not_found);
  EXPECT_TRUE(sequence->view(0, 1).ok());
}

TEST_F(SequenceTest, a_full_fast_tier_refuses_and_recovers) {
  open(4, false);
  auto a = make(tokens_from(0, 16 * 3));
  auto b = make(tokens_from(900, 1));
  const auto refused = a->append(tokens_from(48, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::no_space);
  b.reset();
  EXPECT_TRUE(append_rows(*a, small_layout(), tokens_from(48, 1)).ok());
  expect_holds(*a, tokens_from(0, 49));
}

TEST_F(SequenceTest, wants_plain_memory_in_the_fastest_tier) {
  open(4);
  Sequence::Options options;
  options.layout = LayoutId{1};
  EXPECT_EQ(Sequence::create(*store_, options).error().code(), Code::invalid_argument);
  ASSERT_TRUE(store_->set_codec(0, *find_codec(CodecId::int8)).ok());
  EXPECT_EQ(Sequence::create(*store_, {}).error().code(), Code::unsupported);
  StoreOptions on_disk;
  on_disk.layouts = {small_layout()};
  on_disk.tiers.push_back(
      test::tier_on("disk", std::make_shared<HeapDevice>(1 << 20, Kind::disk)));
  auto store = BlockStore::open(std::move(on_disk));
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(Sequence::create(**store, {}).error().code(), Code::unsupported);
}

TEST_F(SequenceTest, salts_keep_tenants_apart_and_tenants_pay_for_what_they_have) {
  open(16);
  Sequence::Options options;
  options.salt = "a";
  options.tenant = TenantId{4};
  const Tokens tokens = tokens_from(0, 17);
  {
    auto a = *Sequence::create(*store_, options);
    ASSERT_TRUE(append_rows(*a, small_layout(), tokens).ok());
    options.salt = "b";
    auto b = *Sequence::create(*store_, options);
    EXPECT_EQ(*b->adopt(tokens), 0U);
    EXPECT_EQ(store_->tenant_bytes(TenantId{4}), 2 * test::frame_bytes(small_layout()));
  }
  EXPECT_EQ(store_->tenant_bytes(TenantId{4}), test::frame_bytes(small_layout()));
  EXPECT_EQ(store_->purge(TenantId{4}), 1U);
  EXPECT_EQ(store_->tenant_bytes(TenantId{4}), 0U);
}

}  // namespace
}  // namespace speckv

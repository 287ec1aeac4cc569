// What is stored and how it is named: layouts, layer ranges, keys; and the words for
// codes.
#include "cxlspeckv/block.hpp"

#include <array>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/metrics.hpp"

namespace speckv {
namespace {

constexpr BlockLayout kLayout{
    .layers = 6, .kv_heads = 2, .head_dim = 128, .tokens = 64, .dtype = DType::f16};

TEST(BlockLayout, counts_its_bytes) {
  EXPECT_EQ(kLayout.layer_rows(), 2U * 2 * 64);
  EXPECT_EQ(kLayout.layer_bytes(), 65536U);
  EXPECT_EQ(kLayout.bytes(), 393216U);
  BlockLayout latent{.layers = 2,
                     .kv_heads = 1,
                     .head_dim = 576,
                     .tokens = 16,
                     .dtype = DType::f32,
                     .kind = BlockLayout::Kind::latent};
  EXPECT_EQ(latent.bytes(), 2U * 16 * 576 * 4);
  latent.dtype = DType::f8e4m3;
  EXPECT_EQ(latent.bytes(), 2U * 16 * 576);
}

TEST(BlockLayout, takes_extents_up_to_the_limits) {
  EXPECT_TRUE(kLayout.validate().ok());
  BlockLayout most{.layers = kMaxLayers,
                   .kv_heads = 1,
                   .head_dim = 2048,
                   .tokens = 32,
                   .dtype = DType::bf16};
  EXPECT_EQ(most.bytes(), kMaxBlockBytes);
  EXPECT_TRUE(most.validate().ok());
  most.tokens += 1;
  EXPECT_EQ(most.validate().code(), Code::invalid_argument);
}

TEST(BlockLayout, tiles_are_whole) {
  BlockLayout tiled = kLayout;
  tiled.kind = BlockLayout::Kind::tiled;
  EXPECT_TRUE(tiled.validate().ok());
  for (auto member : {&BlockLayout::head_dim, &BlockLayout::tokens}) {
    BlockLayout layout = tiled;
    layout.*member += 8;
    EXPECT_EQ(layout.validate().code(), Code::invalid_argument);
  }
  tiled.dtype = DType::f32;
  EXPECT_EQ(tiled.validate().code(), Code::invalid_argument);
}

TEST(BlockLayout, refuses_every_extent_of_zero) {
  for (auto member : {&BlockLayout::layers, &BlockLayout::kv_heads,
                      &BlockLayout::head_dim, &BlockLayout::tokens}) {
    BlockLayout layout = kLayout;
    layout.*member = 0;
    EXPECT_EQ(layout.validate().code(), Code::invalid_argument);
  }
}

TEST(BlockLayout, refuses_sizes_that_overflow) {
  constexpr std::uint32_t kHuge = 0xFFFFFFFF;
  for (const BlockLayout& layout :
       {BlockLayout{1, kHuge, kHuge, kHuge, DType::f32}, BlockLayout{kHuge, 1, 1, 1},
        BlockLayout{1, 1 << 16, 1 << 16, 1U << 31, DType::f32},
        BlockLayout{kMaxLayers + 1, 1, 1, 1}, BlockLayout{1, kHuge, 1, 1}}) {
    EXPECT_EQ(layout.validate().code(), Code::invalid_argument);
    EXPECT_FALSE(layout.validate().message().empty());
  }
}

TEST(BlockLayout, refuses_enumerators_that_do_not_exist) {
  BlockLayout layout = kLayout;
  layout.dtype = DType{4};
  EXPECT_EQ(layout.validate().code(), Code::invalid_argument);
  layout = kLayout;
  layout.kind = BlockLayout::Kind{5};
  EXPECT_EQ(layout.validate().code(), Code::invalid_argument);
}

TEST(LayerRange, resolves_only_inside_the_layout) {
  EXPECT_EQ((LayerRange{0, 0}.resolve(kLayout)), 6U);
  EXPECT_EQ((LayerRange{2, 0}.resolve(kLayout)), 4U);
  EXPECT_EQ((LayerRange{2, 4}.resolve(kLayout)), 4U);
  EXPECT_EQ((LayerRange{5, 1}.resolve(kLayout)), 1U);
  EXPECT_EQ((LayerRange{2, 5}.resolve(kLayout)), 0U);
  EXPECT_EQ((LayerRange{6, 0}.resolve(kLayout)), 0U);
  EXPECT_EQ((LayerRange{0xFFFFFFFF, 2}.resolve(kLayout)), 0U);
  EXPECT_EQ((LayerRange{1, 0xFFFFFFFF}.resolve(kLayout)), 0U);
}

// Everything that decides a block's bytes decides its key.
TEST(KeyChain, covers_model_salt_and_every_layout_field) {
  std::set<BlockKey> keys;
  const auto add = [&keys](std::string_view model, const BlockLayout& layout,
                           std::string_view salt) {
    EXPECT_TRUE(keys.insert(KeyChain(model, layout, salt).last()).second);
  };
  add("m", kLayout, "s");
  add("n", kLayout, "s");
  add("m", kLayout, "t");
  add("ms", kLayout, "");
  add("", kLayout, "ms");
  add("", kLayout, "");
  for (auto member : {&BlockLayout::layers, &BlockLayout::kv_heads,
                      &BlockLayout::head_dim, &BlockLayout::tokens}) {
    BlockLayout layout = kLayout;
    layout.*member += 1;
    add("m", layout, "s");
  }
  BlockLayout layout = kLayout;
  layout.dtype = DType::bf16;
  add("m", layout, "s");
  layout = kLayout;
  layout.kind = BlockLayout::Kind::latent;
  add("m", layout, "s");
  layout.kind = BlockLayout::Kind::interleaved;
  add("m", layout, "s");
  layout.kind = BlockLayout::Kind::transposed;
  add("m", layout, "s");
  layout.kind = BlockLayout::Kind::tiled;
  add("m", layout, "s");
}

TEST(KeyChain, covers_every_token_and_where_blocks_end) {
  const std::vector<std::uint32_t> tokens = {1, 2, 3, 0x01000000, 5, 6};
  const auto chain_of = [](std::vector<std::vector<std::uint32_t>> blocks) {
    KeyChain chain("m", kLayout, "");
    for (const auto& block : blocks)
      chain.append(block);
    return chain.last();
  };
  const BlockKey whole = chain_of({{1, 2, 3, 4, 5, 6}});
  EXPECT_EQ(whole, chain_of({{1, 2, 3, 4, 5, 6}}));
  EXPECT_NE(whole, chain_of({{1, 2, 3}, {4, 5, 6}}));
  EXPECT_NE(whole, chain_of({{1, 2, 3, 4, 5, 6}, {}}));
  EXPECT_NE(whole, chain_of({{1, 2, 3, 4, 5}}));
  for (std::uint32_t bit = 0; bit < 32; ++bit) {
    EXPECT_NE(whole, chain_of({{1, 2, 3, 4 ^ (1U << bit), 5, 6}}));
  }
  EXPECT_NE(chain_of({{1, 2}, {3, 4}}), chain_of({{3, 4}, {1, 2}}));
}

TEST(KeyChain, long_blocks_are_covered_to_the_last_token) {
  std::vector<std::uint32_t> tokens(1000);
  for (std::uint32_t i = 0; i < tokens.size(); ++i)
    tokens[i] = i;
  KeyChain first("m", kLayout, ""), second = first;
  first.append(tokens);
  tokens.back() += 1;
  second.append(tokens);
  EXPECT_NE(first.last(), second.last());
}

TEST(KeyChain, copies_and_rewinds_go_on_from_the_same_past) {
  const std::array<std::uint32_t, 2> a = {1, 2}, b = {3, 4};
  KeyChain chain("m", kLayout, "salt");
  const BlockKey empty = chain.last();
  const BlockKey first = chain.append(a);
  KeyChain fork = chain;
  EXPECT_EQ(chain.append(b), fork.append(b));
  fork.rewind(empty);
  EXPECT_EQ(fork.append(a), first);
}

// Stored pools are found again only as long as these stay the same.
TEST(KeyChain, names_do_not_change_between_releases) {
  const std::array<std::uint32_t, 4> tokens = {11, 22, 33, 0xFFFFFFFF};
  KeyChain chain("model", kLayout, "tenant");
  EXPECT_EQ(chain.last(), (BlockKey{0x3C7EA9A667F20149, 0x4A83BDF79C86D49F}));
  EXPECT_EQ(chain.append(tokens), (BlockKey{0xB7419BB3910ACCC8, 0xFB9473335CD7DF24}));
  EXPECT_EQ(key_from(std::as_bytes(std::span("engine", 6)), "tenant"),
            (BlockKey{0xDA9BF7BE390FA5B6, 0xEAFAE5577388E229}));
}

TEST(KeyFrom, covers_key_and_salt_apart) {
  const auto key = [](std::string_view engine, std::string_view salt) {
    return key_from(std::as_bytes(std::span(engine)), salt);
  };
  EXPECT_EQ(key("abc", "d"), key("abc", "d"));
  EXPECT_NE(key("abc", "d"), key("ab", "cd"));
  EXPECT_NE(key("abc", "d"), key("abcd", ""));
  EXPECT_NE(key("", "abcd"), key("abcd", ""));
  EXPECT_NE(key("", ""), BlockKey{});
  EXPECT_NE(key(std::string(300, 'a'), ""), key(std::string(301, 'a'), ""));
}

TEST(Status, every_code_has_a_name_of_its_own) {
  std::set<std::string_view> names;
  for (std::uint8_t c = 0; c < kCodeCount; ++c)
    names.insert(to_string(Code{c}));
  EXPECT_EQ(names.size(), kCodeCount);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(to_string(Code{kCodeCount}), "unknown");
  EXPECT_EQ(to_string(Code::no_space), "no_space");
}

TEST(SteadyClock, never_goes_back) {
  auto last = steady_clock().now();
  for (int i = 0; i < 1000; ++i) {
    const auto now = steady_clock().now();
    EXPECT_GE(now, last);
    last = now;
  }
}

}  // namespace
}  // namespace speckv

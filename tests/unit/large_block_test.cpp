// Blocks of 64 MiB, the largest that a serving engine is expected to use.
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "cxlspeckv/open_store.hpp"

#include "support/store_fixture.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kBytes = 64ULL << 20;

// 64 layers x K, V x 8 heads x 512 tokens x 64 channels x f16.
BlockLayout large_layout() {
  return {
      .layers = 64, .kv_heads = 8, .head_dim = 64, .tokens = 512, .dtype = DType::f16};
}

// Values that follow from block and place.
void fill(MutableBytes block, std::uint64_t number) {
  for (std::uint64_t i = 0; i < kBytes; i += 8) {
    const std::uint64_t word =
        ((i / 8 + number) * 0x9E3779B97F4A7C15) & 0xBBFFBBFFBBFFBBFF;
    std::memcpy(block.data() + i, &word, 8);
  }
}

class LargeBlock : public testing::TestWithParam<const char*> {};

TEST_P(LargeBlock, goes_through_every_tier_and_comes_back) {
  const auto free = std::filesystem::space(testing::TempDir()).available;
  if (free >> 20 < 500) GTEST_SKIP() << "500 MB are not free in " << testing::TempDir();
  const std::string path =
      testing::TempDir() + "speckv-large-" + std::to_string(::getpid());
  StoreConfig config;
  config.layouts = {large_layout()};
  ASSERT_EQ(config.layouts[0].bytes(), kBytes);
  config.tiers = {{.device = "dram:160M"},
                  {.device = std::string(GetParam()) + ":" + path + "?size=400M"}};
  auto store = open_store(config);
  (void)::unlink(path.c_str());  // it is open, or of no use
  ASSERT_TRUE(store.ok()) << store.error().message();
  std::vector<std::byte> in(kBytes), out(kBytes);
  const Segment from{*(*store)->attach(in), 0, kBytes};
  // Two segments, the second not aligned.
  const RegionId region = *(*store)->attach(out);
  const Segment to[2] = {{region, 0, 3 * 1234567},
                         {region, 3 * 1234567, kBytes - 3 * 1234567}};
  for (std::uint64_t n = 0; n < 4; ++n) {
    fill(in, n);
    const BlockTransfer block{test::key_of(n), {&from, 1}, 0, {}};
    ASSERT_EQ((*store)->save({&block, 1}).wait().code(), Code::ok) << n;
  }
  ASSERT_TRUE((*store)->flush().ok());
  EXPECT_GE((*store)->stats(0).blocks, 1U);  // there is room for two
  EXPECT_GE((*store)->stats(1).blocks, 2U);
  for (std::uint64_t n = 0; n < 4; ++n) {
    const BlockTransfer block{test::key_of(n), to, 0, {}};
    ASSERT_EQ((*store)->load({&block, 1}).wait().code(), Code::ok) << n;
    fill(in, n);
    EXPECT_TRUE(in == out) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Below, LargeBlock, testing::Values("file", "dax"),
                         [](const auto& row) { return std::string(row.param); });

}  // namespace
}  // namespace speckv

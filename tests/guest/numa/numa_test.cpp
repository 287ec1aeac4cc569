// A machine with a slow node and a CXL expander that is a third one: their order, and a
// store whose tiers they are. Bytes lie where the device's name says, and come back from
// there.
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "device/memory_nodes.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

constexpr std::uint64_t kBlocks = 1200;

// HMAT knows the first two; of an expander that came later only its distance is known.
TEST(Numa, NodesAreOrderedByWhatTheFirmwareSays) {
  const std::vector<MemoryNode> nodes = memory_nodes();
  ASSERT_EQ(nodes.size(), 3U);
  for (int n = 0; n < 3; ++n)
    EXPECT_EQ(nodes[static_cast<std::size_t>(n)].node, n);
  EXPECT_EQ(access_text(nodes[0]), "reads take 100 ns, 40960 MB/s");
  EXPECT_EQ(access_text(nodes[1]), "reads take 400 ns, 10240 MB/s");
  EXPECT_FALSE(nodes[0].cpus.empty());
  EXPECT_TRUE(nodes[1].cpus.empty());
  EXPECT_TRUE(nodes[2].cpus.empty());
  EXPECT_EQ(nodes[2].bytes, 256ULL << 20);
  EXPECT_EQ(nodes[2].distance, 20U);
}

TEST(Numa, ADeviceSaysWhatItsNodeIs) {
  const auto device = open_device("numa:1?size=2M");
  ASSERT_TRUE(device.ok()) << device.error().message();
  EXPECT_NE((*device)->info().note.find("reads take 400 ns"), std::string::npos)
      << (*device)->info().note;
  EXPECT_EQ((*device)->info().numa_node, 1);
  EXPECT_EQ(open_device("numa:2?size=1G").error().code(), Code::no_space);
  EXPECT_EQ(open_device("numa:3?size=1M").error().code(), Code::not_found);
}

// Pages of this process's mappings that are bound to a node: on it, and on others.
struct Pages {
  std::uint64_t there = 0, elsewhere = 0;
};
Pages pages_bound_to(int node) {
  const std::string bound = "bind:" + std::to_string(node);
  const std::string here = "N" + std::to_string(node) + "=";
  Pages pages;
  std::ifstream maps("/proc/self/numa_maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string address, policy, word;
    words >> address >> policy;
    while (policy == bound && words >> word) {
      const std::size_t equals = word.find('=');
      if (word[0] != 'N' || equals == std::string::npos) continue;
      (word.starts_with(here) ? pages.there : pages.elsewhere) +=
          std::stoull(word.substr(equals + 1));
    }
  }
  return pages;
}

TEST(Numa, AnExpanderIsTheLastTierOfAStore) {
  StoreOptions options;
  options.layouts = BlockPool::layouts();
  for (const char* uri : {"numa:0?size=256K", "numa:1?size=512K", "numa:2?size=32M"}) {
    auto device = open_device(uri);
    ASSERT_TRUE(device.ok()) << device.error().message();
    options.tiers.push_back(tier_on(uri, *std::move(device)));
  }
  auto store = BlockStore::open(std::move(options));
  ASSERT_TRUE(store.ok()) << store.error().message();
  const BlockPool pool(kBlocks);
  const auto move = [&](std::uint64_t n, bool save) {
    const Bytes wanted = pool.bytes(n);
    std::vector<std::byte> memory(wanted.begin(), wanted.end());
    if (!save) std::fill(memory.begin(), memory.end(), std::byte{0xA5});
    const RegionId region = *(*store)->attach(memory);
    const Segment segment{region, 0, memory.size()};
    const BlockTransfer block{.key = pool.key(n),
                              .memory = {&segment, 1},
                              .layout = LayoutId{BlockPool::layout_id(n)}};
    Operation op = save ? (*store)->save({&block, 1}) : (*store)->load({&block, 1});
    wait_or_die(op);
    const Code code = op.code(0);
    EXPECT_TRUE(code != Code::ok || std::ranges::equal(memory, wanted)) << n;
    EXPECT_TRUE((*store)->detach(region).ok());
    return code;
  };
  std::uint64_t saved = 0, found = 0;
  std::vector<bool> kept(kBlocks);
  for (std::uint64_t n = 0; n < kBlocks; ++n) {
    kept[n] = move(n, true) == Code::ok;
    saved += kept[n] ? 1U : 0U;
  }
  EXPECT_GT(saved, kBlocks / 2);
  for (std::uint64_t n = 0; n < kBlocks; ++n) {
    found += kept[n] && move(n, false) == Code::ok ? 1U : 0U;
  }
  EXPECT_EQ(found, saved);
  EXPECT_GT((*store)->stats(1).blocks, 0U);
  EXPECT_GT((*store)->stats(2).blocks, 0U);
  for (const int node : {0, 1, 2}) {
    const Pages pages = pages_bound_to(node);
    EXPECT_GT(pages.there, 0U) << node;
    EXPECT_EQ(pages.elsewhere, 0U) << node;
  }
}

}  // namespace
}  // namespace speckv::test

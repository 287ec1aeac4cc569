// Stores described in names, and pools looked at from outside.
#include "cxlspeckv/open_store.hpp"

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/inspect.hpp"

#include "store/records.hpp"
#include "support/invariants.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::bytes_of_block;
using test::key_of;
using test::small_layout;

class OpenStore : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            ("speckv-open-store-" + std::to_string(::getpid()));
    std::filesystem::remove(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  static StoreConfig config(std::vector<std::string> devices) {
    StoreConfig config;
    config.layouts = {small_layout()};
    for (std::string& device : devices)
      config.tiers.emplace_back().device = std::move(device);
    return config;
  }
  std::string file() const { return "file:" + path_.string() + "?size=1M"; }

  static Code save(BlockStore& store, std::uint64_t count, bool durable) {
    TransferOptions options;
    options.durable = durable;
    for (std::uint64_t n = 0; n < count; ++n) {
      auto bytes = bytes_of_block(small_layout(), n);
      const auto region = store.attach(bytes);
      const Segment where{*region, 0, bytes.size()};
      const BlockTransfer block{key_of(n), {&where, 1}, 0, {}};
      const Status saved = store.save({&block, 1}, options).wait();
      if (!saved.ok()) return saved.code();
      if (!store.detach(*region).ok()) return Code::internal;
    }
    return Code::ok;
  }

  std::filesystem::path path_;
};

class Names final : public MetricSink {
 public:
  void counter(std::string_view, Label, std::uint64_t) override {}
  void gauge(std::string_view name, Label label, double) override {
    if (name == "tier_blocks") names.emplace_back(label.value);
  }
  std::vector<std::string> names;
};

TEST_F(OpenStore, tiers_are_named_after_their_scheme_and_number_unless_named) {
  StoreConfig described = config({"dram:64K", "soft:128K", "soft:128K"});
  described.tiers[2].name = "last";
  auto store = open_store(described);
  ASSERT_TRUE(store) << store.error().message();
  Names sink;
  (*store)->report(sink);
  EXPECT_EQ(sink.names, (std::vector<std::string>{"dram0", "soft1", "last"}));
}

TEST_F(OpenStore, unknown_names_are_refused_before_a_file_is_made) {
  StoreConfig described = config({file()});
  described.tiers[0].codec = "zip";
  EXPECT_EQ(open_store(described).error().code(), Code::not_found);
  described.tiers[0].codec = "";
  described.tiers[0].layers = {{{0, 1}, "zip"}};
  EXPECT_EQ(open_store(described).error().code(), Code::not_found);
  described.tiers[0].layers.clear();
  described.tiers[0].policy = "random";
  EXPECT_EQ(open_store(described).error().code(), Code::not_found);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(open_store(config({"cuda:0"})).error().code(), Code::invalid_argument);
  EXPECT_EQ(open_store(config({})).error().code(), Code::invalid_argument);
}

TEST_F(OpenStore, a_name_shares_the_store_and_refuses_devices_that_cannot_be_shared) {
  const std::string mine = std::to_string(::getpid());
  StoreConfig described = config({"shm:/speckv-open-store-" + mine + "?size=256K"});
  described.name = "shm:/speckv-open-store-index-" + mine;
  auto first = open_store(described);
  auto second = open_store(described);
  ASSERT_TRUE(first) << first.error().message();
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(save(**first, 3, false), Code::ok);
  const BlockKey keys[] = {key_of(0), key_of(1), key_of(2)};
  EXPECT_EQ((*second)->match(keys), 3U);
  described.tiers[0].device = "soft:256K";
  EXPECT_EQ(open_store(described).error().code(), Code::invalid_argument);
  EXPECT_TRUE(remove_index_memory(described.name).ok());
  std::filesystem::remove("/dev/shm/speckv-open-store-" + mine);
}

TEST_F(OpenStore, a_shared_store_can_be_looked_at_from_outside) {
  StoreConfig described = config({"dram:16K", "dram:256K"});
  described.tiers[1].name = "slow-and-with-a-name-that-is-too-long";
  described.name = "shm:/speckv-open-store-look-" + std::to_string(::getpid());
  EXPECT_EQ(inspect_store(described.name).error().code(), Code::not_found);
  {
    auto store = open_store(described);
    ASSERT_TRUE(store) << store.error().message();
    ASSERT_EQ(save(**store, 20, false), Code::ok);
    const auto differs = [&]() -> std::string {  // a mover may be between the two looks
      const auto seen = inspect_store(described.name);
      if (!seen) return seen.error().message();
      for (std::size_t t = 0; t < 2; ++t) {
        const TierStats told = (*store)->stats(t), &look = seen->tiers.at(t).stats;
        if (look.capacity != told.capacity || look.used != told.used ||
            look.blocks != told.blocks || look.demotions_in != told.demotions_in)
          return "tier " + std::to_string(t) + " looks otherwise";
      }
      return "";
    };
    EXPECT_EQ(test::check_invariants(**store, differs), "");
    const auto seen = inspect_store(described.name);
    ASSERT_TRUE(seen) << seen.error().message();
    EXPECT_EQ(seen->processes, 1U);
    ASSERT_EQ(seen->tiers.size(), 2U);
    EXPECT_EQ(seen->tiers[0].name, "dram0");
    EXPECT_EQ(seen->tiers[1].name, described.tiers[1].name.substr(0, 32));
    EXPECT_GT(seen->tiers[1].stats.blocks, 0U);
  }
  EXPECT_EQ(inspect_store(described.name)->processes, 0U);
  EXPECT_TRUE(remove_store(described.name).ok());
}

TEST(InspectIndex, refuses_what_is_no_index) {
  std::vector<std::byte> front(index_front_bytes());
  EXPECT_EQ(inspect_index(front).error().code(), Code::corrupted);
  EXPECT_EQ(inspect_index(Bytes(front).first(front.size() - 1)).error().code(),
            Code::corrupted);
  std::mt19937_64 random(3);
  for (std::byte& b : front)
    b = static_cast<std::byte>(random());
  for (const std::uint32_t tiers : {0U, 3U, 7U, ~0U}) {  // sound up to the records
    const std::uint64_t magic = kIndexMagic;
    std::memcpy(front.data() + offsetof(MappingHeader, magic), &magic, sizeof magic);
    std::memcpy(front.data() + offsetof(MappingHeader, tiers), &tiers, sizeof tiers);
    EXPECT_EQ(inspect_index(front).error().code(), Code::corrupted) << tiers;
  }
}

TEST_F(OpenStore, a_shared_name_takes_dram_in_every_spelling) {
  for (const char* device : {"dram:256K", "dram:?size=256K", "dram:256K?timeout=5"}) {
    StoreConfig described = config({device});
    described.name = "shm:/speckv-open-store-dram-" + std::to_string(::getpid());
    auto store = open_store(described);
    ASSERT_TRUE(store) << device << ": " << store.error().message();
    EXPECT_EQ((*store)->stats(0).capacity, 256U << 10) << device;
    EXPECT_TRUE(remove_store(described.name).ok());
  }
}

TEST_F(OpenStore, a_pool_can_be_inspected_without_being_changed) {
  {
    auto store = open_store(config({file()}));
    ASSERT_TRUE(store) << store.error().message();
    ASSERT_EQ(save(**store, 10, true), Code::ok);
  }
  auto device = open_device("file:" + path_.string());
  ASSERT_TRUE(device) << device.error().message();
  auto info = inspect_pool(**device);
  ASSERT_TRUE(info) << info.error().message();
  EXPECT_EQ(info->blocks, 10U);
  EXPECT_EQ(info->damaged, 0U);
  EXPECT_GE(info->frame_bytes, 10 * small_layout().bytes());
  EXPECT_GE(info->used, info->frame_bytes);
  EXPECT_GE(info->capacity, info->used);
  EXPECT_LT(info->capacity, 1U << 20);

  std::fstream pool(path_, std::ios::in | std::ios::out | std::ios::binary);
  constexpr std::streamoff kTable = 8192, kRecord = 64;
  for (std::streamoff at = kTable; at < kTable + 64 * kRecord; at += kRecord) {
    pool.seekg(at);
    if (pool.get() == 0) continue;  // the first one in use
    pool.seekp(at);
    pool.put('!').flush();
    break;
  }
  info = inspect_pool(**device);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->blocks, 9U);
  EXPECT_EQ(info->damaged, 1U);

  for (const std::streamoff superblock : {0, 4096}) {
    pool.seekp(superblock + 30);
    pool.put('!').flush();
    info = inspect_pool(**device);
    EXPECT_EQ(info.ok(), superblock == 0);  // one sound copy is enough
  }
  EXPECT_EQ(info.error().code(), Code::corrupted);
  EXPECT_EQ(inspect_pool(**open_device("soft:4K")).error().code(), Code::corrupted);
}

}  // namespace
}  // namespace speckv

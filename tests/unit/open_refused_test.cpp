// An open that is refused leaves everything as it was.
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "cxlspeckv/open_store.hpp"

#include "support/store_fixture.hpp"

namespace speckv {
namespace {

namespace fs = std::filesystem;
using test::key_of;
using test::small_layout;

std::string contents(const std::string& path) {
  std::string bytes(fs::file_size(path), ' ');
  std::ifstream(path, std::ios::binary)
      .read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

Code save(BlockStore& store, std::uint64_t number) {
  auto bytes = test::bytes_of_block(small_layout(), number);
  const RegionId region = *store.attach(bytes);
  const Segment where{region, 0, bytes.size()};
  const BlockTransfer block{key_of(number), {&where, 1}, 0, {}};
  TransferOptions options;
  options.durable = true;
  const Code saved = store.save({&block, 1}, options).wait().code();
  return store.detach(region).ok() ? saved : Code::internal;
}

bool has(BlockStore& store, std::uint64_t number) {
  std::vector<std::byte> bytes(small_layout().bytes());
  const RegionId region = *store.attach(bytes);
  const Segment where{region, 0, bytes.size()};
  const BlockTransfer block{key_of(number), {&where, 1}, 0, {}};
  const bool loaded = store.load({&block, 1}).wait().ok() &&
                      bytes == test::bytes_of_block(small_layout(), number);
  return store.detach(region).ok() && loaded;
}

// Each for files that are read and written, and for files that are mapped.
class OpenRefused : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "speckv-refused-" + std::to_string(::getpid());
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    path_ = folder_ + "/pool";
  }
  void TearDown() override { fs::remove_all(folder_); }

  StoreConfig config(const std::string& parameters) const {
    StoreConfig config;
    config.layouts = {small_layout()};
    config.tiers = {{.device = std::string(GetParam()) + path_ + parameters}};
    return config;
  }
  static Status refusal(const StoreConfig& config) {
    const auto store = open_store(config);
    return store.ok() ? Status{} : store.error();
  }
  void make_pool() const {
    auto store = open_store(config("?size=2M"));
    ASSERT_TRUE(store.ok()) << store.error().message();
    ASSERT_EQ(save(**store, 1), Code::ok);
  }
  void expect_pool(const std::string& parameters) const {
    auto store = open_store(config(parameters));
    ASSERT_TRUE(store.ok()) << store.error().message();
    EXPECT_TRUE(has(**store, 1));
  }

  std::string folder_, path_;
};

TEST_P(OpenRefused, a_pool_of_another_size_opens_with_its_own_afterwards) {
  make_pool();
  const auto before = contents(path_);
  for (const char* wrong : {"?size=4M", "?size=1M"}) {
    const Status status = refusal(config(wrong));
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.message();
    EXPECT_NE(status.message().find("2097152 bytes long"), std::string::npos);
    EXPECT_TRUE(contents(path_) == before);
  }
  expect_pool("?size=2M");
  expect_pool("");
}

TEST_P(OpenRefused, a_pool_that_was_cut_off_is_not_made_whole) {
  make_pool();
  for (const std::uintmax_t left : {1U << 20, 8192U, 100U}) {
    fs::resize_file(path_, left);
    const auto before = contents(path_);
    const Status status = refusal(config("?size=2M"));
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.message();
    EXPECT_NE(status.message().find("cut off"), std::string::npos);
    EXPECT_FALSE(refusal(config("")).ok());
    EXPECT_TRUE(contents(path_) == before) << left;
  }
}

TEST_P(OpenRefused, what_a_user_wrote_stays_as_it_was) {
  std::ofstream(path_) << "my precious notes\n";
  const auto before = contents(path_);
  EXPECT_EQ(refusal(config("?size=1M")).code(), Code::invalid_argument);
  EXPECT_TRUE(contents(path_) == before);
}

TEST_P(OpenRefused, a_blank_file_grows_into_a_pool) {
  std::ofstream(path_).close();
  fs::resize_file(path_, 1 << 20);
  make_pool();
  EXPECT_EQ(fs::file_size(path_), 2U << 20);
  expect_pool("");
}

INSTANTIATE_TEST_SUITE_P(Schemes, OpenRefused, testing::Values("file:", "dax:"),
                         [](const auto& row) {
                           const std::string scheme = row.param;
                           return scheme.substr(0, scheme.find(':'));
                         });

}  // namespace
}  // namespace speckv

// Two processes on one named store, whose memory tier is shared by that name.
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cxlspeckv/open_store.hpp"

#include "device/index_memory.hpp"
#include "store/impl.hpp"
#include "support/child.hpp"
#include "support/profiles.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::Child;

StoreConfig config_of(const std::string& name) {
  StoreConfig config;
  config.layouts = {test::small_layout()};
  config.tiers = {{.device = "dram:1M"}};
  config.name = name;
  return config;
}

class SharedStore : public ::testing::Test {
 protected:
  void SetUp() override { (void)remove_store(name_); }
  void TearDown() override { (void)remove_store(name_); }
  const std::string name_ = "shm:/cxlspeckv-test-" + std::to_string(getpid());
};

Code save(BlockStore& store, std::uint64_t number) {
  auto bytes = test::bytes_of_block(test::small_layout(), number);
  const RegionId region = *store.attach(bytes);
  const Segment where{region, 0, bytes.size()};
  const BlockTransfer block{test::key_of(number), {&where, 1}, 0, {}};
  Operation op = store.save({&block, 1});
  (void)op.wait();
  return op.code(0);
}

bool has(BlockStore& store, std::uint64_t number) {
  std::vector<std::byte> bytes(test::small_layout().bytes());
  const RegionId region = *store.attach(bytes);
  const Segment where{region, 0, bytes.size()};
  const BlockTransfer block{test::key_of(number), {&where, 1}, 0, {}};
  Operation op = store.load({&block, 1});
  return op.wait().ok() && bytes == test::bytes_of_block(test::small_layout(), number);
}

TEST_F(SharedStore, a_child_finds_what_its_parent_saved_and_the_reverse) {
  Child child([this] {
    auto mine = open_store(config_of(name_));
    if (!mine) return 1;
    if (!has(**mine, 1)) return 2;
    return save(**mine, 2) == Code::ok ? 0 : 3;
  });
  auto store = open_store(config_of(name_));
  ASSERT_TRUE(store.ok()) << store.error().message();
  ASSERT_EQ(save(**store, 1), Code::ok);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(has(**store, 2));
}

TEST_F(SharedStore, what_the_dead_had_pinned_is_let_go) {
  Child child([this] {
    auto mine = open_store(config_of(name_));
    if (!mine) return 1;
    auto pin = (*mine)->pin(test::key_of(1));
    _exit(pin.ok() && (*mine)->stats(0).pinned > 0 ? 0 : 2);  // with the pin held
  });
  auto store = open_store(config_of(name_));
  ASSERT_TRUE(store.ok()) << store.error().message();
  ASSERT_EQ(save(**store, 1), Code::ok);
  EXPECT_EQ(child.wait(), 0);
  const BlockKey key = test::key_of(1);
  EXPECT_EQ((*store)->erase({&key, 1}), 1U);  // and goes with its last pin
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while ((*store)->stats(0).used > 0 && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  EXPECT_EQ((*store)->stats(0).pinned, 0U);
  EXPECT_EQ((*store)->stats(0).used, 0U);
}

TEST_F(SharedStore, outlives_all_its_processes_until_it_is_removed) {
  Child child([this] {
    auto mine = open_store(config_of(name_));
    return mine.ok() && save(**mine, 1) == Code::ok ? 0 : 1;
  });
  EXPECT_EQ(child.wait(), 0);
  {
    auto store = open_store(config_of(name_));
    ASSERT_TRUE(store.ok()) << store.error().message();
    EXPECT_TRUE(has(**store, 1));
  }
  EXPECT_TRUE(remove_store(name_).ok());
  EXPECT_EQ(remove_store(name_).code(), Code::not_found);
}

TEST_F(SharedStore, is_refused_with_other_layouts) {
  auto store = open_store(config_of(name_));
  ASSERT_TRUE(store.ok());
  StoreConfig other = config_of(name_);
  other.layouts[0].layers = 4;
  auto refused = open_store(other);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::invalid_argument) << refused.error().message();
}

// Whoever touches memory for the first time that somebody else has filled up is ended.
TEST_F(SharedStore, takes_all_of_its_shared_memory_when_it_opens) {
  StoreConfig config = config_of(name_);
  config.tiers.push_back({.device = "dram:1M", .codec = "int8"});
  auto one = open_store(config), other = open_store(config);
  ASSERT_TRUE(one.ok() && other.ok());
  struct stat opened {
  }, used{};
  const std::string file = "/dev/shm" + *index_file(name_);
  ASSERT_EQ(::stat(file.c_str(), &opened), 0);
  EXPECT_LT(opened.st_blocks * 512, opened.st_size / 2);  // nothing for 62 that may come
  constexpr std::uint64_t kMany = 2000;
  for (std::uint64_t n = 0; n < kMany; ++n) {
    BlockStore& store = n % 2 == 0 ? **one : **other;
    (void)save(store, n);
    const auto pin = store.pin(test::key_of(n));
    const auto reference = store.retain(test::key_of(n));
    (void)has(n % 2 == 0 ? **other : **one, n);
  }
  EXPECT_GT((*one)->stats(0).evictions + (*one)->stats(1).evictions, 0U);
  ASSERT_EQ(::stat(file.c_str(), &used), 0);
  EXPECT_EQ(used.st_blocks, opened.st_blocks);
}

// A tier in memory is found by the same name as the index, not by how that is spelled.
TEST_F(SharedStore, is_the_same_however_its_file_is_spelled) {
  const std::string folder = testing::TempDir();
  const std::string file = "speckv-spelled-" + std::to_string(getpid());
  StoreConfig config = config_of(folder + file);
  config.tiers.push_back({.device = "file:" + folder + file + "?size=1M"});
  Child child([&] {
    config.name = folder + "./" + file;
    auto other = open_store(config);
    return other.ok() && has(**other, 1) && (*other)->stats(0).corrupted == 0 ? 0 : 1;
  });
  auto store = open_store(config);
  ASSERT_TRUE(store.ok()) << store.error().message();
  ASSERT_EQ(save(**store, 1), Code::ok);
  EXPECT_EQ(child.wait(), 0);
  store->reset();
  EXPECT_TRUE(remove_store(folder + "./" + file).ok());
  EXPECT_FALSE(remove_store(config.name).ok());
  (void)unlink((folder + file).c_str());
}

// Opens the store and stays until it is killed, and leaves somebody behind who keeps its
// files open and the index not, as io_uring does for a process that is gone: until
// `release` is closed. Says "y" to `answer`, or "n" if there is no store.
[[noreturn]] void linger(const StoreConfig& config, const std::string& path, int answer,
                         int release) {
  const auto mine = open_store(config);
  std::vector<int> files;
  for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(fd.path(), gone) == path)
      files.push_back(std::stoi(fd.path().filename().string()));
  }
  const char* script = mine.ok() ? "echo y; read none" : "echo n";
  if (fork() == 0) {  // of a process with threads: nothing here takes a lock
    for (const int fd : files)
      (void)dup(fd);  // which exec does not close
    dup2(release, STDIN_FILENO);
    dup2(answer, STDOUT_FILENO);
    execlp("sh", "sh", "-c", script, nullptr);
    _exit(1);
  }
  for (;;)
    pause();
}

// Until then a late write of theirs may come, and must not hit what others have there.
TEST_F(SharedStore, buries_the_dead_when_their_files_are_free_of_their_io) {
  const std::string path =
      testing::TempDir() + "speckv-drained-" + std::to_string(getpid());
  StoreConfig config = config_of(path);
  config.tiers = {{.device = "file:" + path + "?size=1M"}};
  int ready[2], held[2];
  ASSERT_EQ(pipe(ready) | pipe(held), 0);
  Child child([&] {
    close(held[1]);
    linger(config, path, ready[1], held[0]);
    return 0;
  });
  auto store = open_store(config);
  ASSERT_TRUE(store.ok()) << store.error().message();
  const auto& mapping = *(*store)->impl().mapping;
  child.start();
  char opened = 0;
  ASSERT_EQ(read(ready[0], &opened, 1), 1);
  ASSERT_EQ(opened, 'y');
  kill(child.pid(), SIGKILL);
  ASSERT_EQ(child.wait(), -1);
  for (const int end : {ready[0], ready[1], held[0]})
    close(end);
  for (int look = 0; look < 100; ++look)
    ASSERT_FALSE(mapping.alone());
  EXPECT_EQ(save(**store, 1), Code::ok);
  close(held[1]);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!mapping.alone() && std::chrono::steady_clock::now() < give_up)
    (*store)->impl().services.changes.nap(steady_clock());
  EXPECT_TRUE(mapping.alone());
  store->reset();
  EXPECT_TRUE(remove_store(path).ok());
  (void)unlink(path.c_str());
}

// Else one process would decode by its profile what another encoded by another.
TEST_F(SharedStore, is_refused_with_another_profile) {
  StoreConfig none = config_of(name_);
  none.layouts[0].head_dim = 64;
  StoreConfig one = none, other = none;
  one.profile = test::random_profile(none.layouts[0], 1);
  other.profile = test::random_profile(none.layouts[0], 2);
  ASSERT_FALSE(one.profile.empty());
  const auto refusal = [](const StoreConfig& config) {
    const auto store = open_store(config);
    return store.ok() ? std::string() : store.error().message();
  };
  {
    const auto store = open_store(one);
    ASSERT_TRUE(store.ok()) << store.error().message();
    EXPECT_EQ(refusal(one), "");
    EXPECT_NE(refusal(other).find("a model profile that is not"), std::string::npos);
    EXPECT_NE(refusal(none).find("a model profile that is not"), std::string::npos);
    EXPECT_EQ(refusal(one), "");
  }
  EXPECT_NE(refusal(other), "");  // nobody is there, but what they stored is
  EXPECT_TRUE(remove_store(name_).ok());
  EXPECT_EQ(refusal(none), "");
  EXPECT_NE(refusal(other).find("without a model profile"), std::string::npos);
}

}  // namespace
}  // namespace speckv

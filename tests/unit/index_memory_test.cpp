// The index memory of a named store: who may format it, and who is alive.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cxlspeckv/devices.hpp"

#include "store/mapping.hpp"

namespace speckv {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kBytes = 3 * 4096;

class IndexMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    const std::string unique =
        "speckv_" + std::string(test->name()) + std::to_string(::getpid());
    name_ = "shm:/" + unique;
    folder_ = testing::TempDir() + unique;
    forget();
  }
  void TearDown() override {
    forget();
    fs::remove_all(folder_);
  }
  void forget() const { [[maybe_unused]] const Status gone = remove_index_memory(name_); }

  IndexMemory open(std::uint64_t bytes = kBytes) const {
    auto memory = open_index_memory(name_, bytes);
    EXPECT_TRUE(memory.ok()) << memory.error().message();
    return memory.ok() ? std::move(*memory) : IndexMemory{};
  }
  Code code(std::uint64_t bytes = kBytes) const {
    const auto memory = open_index_memory(name_, bytes);
    return memory.ok() ? Code::ok : memory.error().code();
  }
  // What the store does last when it has formatted an index.
  static void publish(const IndexMemory& memory) { memory.bytes[0] = std::byte{1}; }

  std::string name_, folder_;
};

bool all_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

TEST_F(IndexMemoryTest, is_one_zeroed_memory_for_all_who_open_the_name) {
  const IndexMemory first = open(), second = open();
  EXPECT_TRUE(first.fresh);
  EXPECT_FALSE(second.fresh);
  ASSERT_EQ(first.bytes.size(), kBytes);
  ASSERT_EQ(second.bytes.size(), kBytes);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.bytes.data()) % 4096, 0U);
  EXPECT_TRUE(all_zero(second.bytes));
  first.bytes[kBytes - 1] = std::byte{9};
  EXPECT_EQ(second.bytes[kBytes - 1], std::byte{9});
  EXPECT_NE(first.process, second.process);
  EXPECT_NE(first.process, 0U);
}

TEST_F(IndexMemoryTest, both_are_alive_until_they_let_go) {
  IndexMemory first = open();
  const IndexMemory second = open();
  const std::uint32_t id = first.process;
  EXPECT_TRUE(first.alive(first.context, id));
  EXPECT_TRUE(first.alive(first.context, second.process));
  EXPECT_TRUE(second.alive(second.context, id));
  first = {};
  EXPECT_FALSE(second.alive(second.context, id));
  EXPECT_FALSE(second.alive(second.context, 0));
  EXPECT_FALSE(second.alive(second.context, 0xFFFFFFFF));
}

TEST_F(IndexMemoryTest, an_owner_id_is_not_given_out_again) {
  const IndexMemory witness = open();
  std::set<std::uint32_t> ids{witness.process};
  std::uint32_t last = 0;
  for (int i = 0; i < 200; ++i) {
    const IndexMemory memory = open();
    EXPECT_TRUE(ids.insert(memory.process).second) << "id " << memory.process;
    EXPECT_TRUE(witness.alive(witness.context, memory.process));
    EXPECT_FALSE(witness.alive(witness.context, last));
    last = memory.process;
  }
}

TEST_F(IndexMemoryTest, as_many_processes_as_the_index_has_columns_and_no_more) {
  std::vector<IndexMemory> all;
  std::set<std::uint32_t> columns;
  for (std::uint32_t i = 0; i < kMaxProcesses; ++i) {
    all.push_back(open());
    columns.insert(all.back().process % kMaxProcesses);
  }
  EXPECT_EQ(columns.size(), kMaxProcesses);
  EXPECT_EQ(code(), Code::busy);
  all.erase(all.begin() + 17);
  EXPECT_EQ(code(), Code::ok);
}

TEST_F(IndexMemoryTest, what_was_published_is_kept_while_nobody_is_attached) {
  {
    const IndexMemory memory = open();
    publish(memory);
    memory.bytes[77] = std::byte{7};
  }
  const IndexMemory memory = open();
  EXPECT_FALSE(memory.fresh);
  EXPECT_EQ(memory.bytes[77], std::byte{7});
}

TEST_F(IndexMemoryTest, who_finds_it_unpublished_and_deserted_formats_it) {
  { open().bytes[77] = std::byte{7}; }
  const IndexMemory memory = open(2 * kBytes);  // the size was nobody's business yet
  EXPECT_TRUE(memory.fresh);
  EXPECT_EQ(memory.bytes.size(), 2 * kBytes);
  EXPECT_TRUE(all_zero(memory.bytes));
}

TEST_F(IndexMemoryTest, another_size_or_no_size_or_no_name_is_refused) {
  const IndexMemory memory = open();
  EXPECT_EQ(code(kBytes + 4096), Code::invalid_argument);
  EXPECT_EQ(code(0), Code::invalid_argument);
  EXPECT_EQ(code(~0ULL), Code::invalid_argument);
  for (const std::string& name :
       {std::string(), std::string("shm:"), std::string("shm:/a/b"),
        std::string("shm:/.."), std::string("/a\0b", 4)}) {
    const auto other = open_index_memory(name, kBytes);
    ASSERT_FALSE(other.ok()) << name;
    EXPECT_EQ(other.error().code(), Code::invalid_argument) << name;
    EXPECT_EQ(remove_index_memory(name).code(), Code::invalid_argument) << name;
  }
}

TEST_F(IndexMemoryTest, a_removed_name_starts_afresh_and_the_attached_keep_theirs) {
  const IndexMemory old = open();
  publish(old);
  EXPECT_TRUE(remove_index_memory(name_).ok());
  EXPECT_EQ(remove_index_memory(name_).code(), Code::not_found);
  const IndexMemory fresh = open();
  EXPECT_TRUE(fresh.fresh);
  EXPECT_TRUE(all_zero(fresh.bytes));
  EXPECT_EQ(old.bytes[0], std::byte{1});
}

TEST_F(IndexMemoryTest, all_ways_to_spell_a_path_mean_one_memory) {
  fs::create_directories(folder_ + "/below");
  const std::string pool = folder_ + "/pool";
  EXPECT_EQ(open_index_memory(pool, kBytes).error().code(), Code::not_found);
  std::ofstream(pool) << "x";
  fs::create_symlink(pool, folder_ + "/symbolic");
  fs::create_hard_link(pool, folder_ + "/hard");
  const auto first = open_index_memory(pool, kBytes);
  ASSERT_TRUE(first.ok()) << first.error().message();
  publish(*first);
  for (const char* spelling : {"/below/../pool", "//pool", "/symbolic", "/hard"}) {
    const auto other = open_index_memory(folder_ + spelling, kBytes);
    ASSERT_TRUE(other.ok()) << spelling;
    EXPECT_FALSE(other->fresh) << spelling;
    EXPECT_EQ(other->bytes[0], std::byte{1});
  }
  std::ofstream(folder_ + "/other") << "x";
  const auto other = open_index_memory(folder_ + "/other", kBytes);
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(other->fresh);
  EXPECT_TRUE(remove_index_memory(folder_ + "/other").ok());
  EXPECT_TRUE(remove_index_memory(pool).ok());
}

// The file behind a mapping, from the kernel's own list.
std::optional<std::string> file_behind(const void* address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t dash = line.find('-'), path = line.find('/');
    if (dash == std::string::npos || path == std::string::npos) continue;
    const auto first = std::stoull(line.substr(0, dash), nullptr, 16);
    const auto last = std::stoull(line.substr(dash + 1), nullptr, 16);
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (first <= at && at < last) return line.substr(path);
  }
  return std::nullopt;
}

TEST_F(IndexMemoryTest, a_header_that_is_not_ours_is_refused) {
  std::optional<std::string> file;
  {
    const IndexMemory memory = open();
    publish(memory);
    file = file_behind(memory.bytes.data());
  }
  ASSERT_TRUE(file.has_value());
  for (const std::size_t at : {0U, 3U}) {
    std::fstream stream(*file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.put('?');
    stream.close();
    EXPECT_EQ(code(), Code::corrupted);
  }
  fs::resize_file(*file, 4096 + kBytes - 1);
  EXPECT_EQ(code(), Code::corrupted);
  forget();
  EXPECT_EQ(code(), Code::ok);
}

TEST_F(IndexMemoryTest, a_file_cut_off_while_in_use_is_refused) {
  const IndexMemory memory = open();
  const auto file = file_behind(memory.bytes.data());
  ASSERT_TRUE(file.has_value());
  fs::resize_file(*file, 100);
  EXPECT_EQ(code(), Code::corrupted);
}

TEST_F(IndexMemoryTest, of_many_who_open_it_at_once_exactly_one_formats) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> fresh{0};
    std::array<IndexMemory, 8> memories;
    std::vector<std::thread> threads;
    for (auto& memory : memories) {
      threads.emplace_back([&] {
        memory = open();
        if (memory.fresh) ++fresh;
      });
    }
    for (auto& thread : threads)
      thread.join();
    std::set<std::uint32_t> ids;
    for (const auto& memory : memories)
      ids.insert(memory.process);
    EXPECT_EQ(fresh.load(), 1);
    EXPECT_EQ(ids.size(), memories.size());
    forget();
  }
}

// A child process that attaches, tells its id, and stays until it is killed.
class Child {
 public:
  explicit Child(const std::string& name, bool publish) {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const auto memory = open_index_memory(name, kBytes);
      if (memory.ok() && publish) memory->bytes[0] = std::byte{1};
      const std::uint32_t id = memory.ok() ? memory->process : 0;
      [[maybe_unused]] const auto told = ::write(pipe[1], &id, sizeof id);
      while (true)
        ::pause();
    }
    [[maybe_unused]] const auto heard = ::read(pipe[0], &id_, sizeof id_);
    ::close(pipe[0]);
    ::close(pipe[1]);
  }
  ~Child() { kill(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  std::uint32_t id() const { return id_; }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  std::uint32_t id_ = 0;
};

TEST_F(IndexMemoryTest, a_killed_process_is_known_to_be_dead) {
  Child child(name_, true);
  ASSERT_NE(child.id(), 0U);
  const IndexMemory memory = open();
  EXPECT_FALSE(memory.fresh);
  EXPECT_TRUE(memory.alive(memory.context, child.id()));
  child.kill();
  EXPECT_FALSE(memory.alive(memory.context, child.id()));
  // Its slot may go to somebody else, who is not taken for it.
  for (int i = 0; i < 64; ++i) {
    const auto other = open();
    EXPECT_NE(other.process, child.id());
    EXPECT_FALSE(memory.alive(memory.context, child.id()));
  }
}

TEST_F(IndexMemoryTest, who_is_killed_before_publishing_is_replaced) {
  Child child(name_, false);
  ASSERT_NE(child.id(), 0U);
  EXPECT_FALSE(open().fresh) << "it is alive, and may still publish";
  child.kill();
  EXPECT_TRUE(open().fresh);
}

}  // namespace
}  // namespace speckv

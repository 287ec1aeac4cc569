// An open that is refused leaves everything as it was, and a pool has one store at a
// time.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/open_store.hpp"

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "device/index_memory.hpp"
#include "device/ofd_lock.hpp"
#include "device/os.hpp"
#include "device/store_opening.hpp"
#include "support/profiles.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
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

  // Refused, with the reason, and with every byte where it was.
  void expect_corrupted(const StoreConfig& wrong, const char* why) const {
    const auto before = contents(path_);
    const Status status = refusal(wrong);
    EXPECT_EQ(status.code(), Code::corrupted) << why;
    EXPECT_NE(status.message().find(why), std::string::npos) << status.message();
    EXPECT_TRUE(contents(path_) == before) << why;
  }
  // What a look at the pool says that is wrong.
  Status inspected() const {
    const auto device = open_device(GetParam() + path_, DeviceUse::look);
    if (!device.ok()) return device.error();
    const auto info = inspect_pool(**device);
    return info.ok() ? Status{} : info.error();
  }

  std::string folder_, path_;
};

// What waits in vain for others to let go, which takes its time.
class OpenBusy : public OpenRefused {};

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
    if (left != 1U << 20) continue;  // the others are too small for any pool
    expect_corrupted(config(""), "another capacity, or truncated");
    EXPECT_NE(inspected().message().find("truncated"), std::string::npos);
  }
}

TEST_P(OpenRefused, a_pool_of_another_version_layout_or_capacity_says_so_and_stays) {
  make_pool();
  const auto sound = contents(path_);
  StoreConfig other = config("");
  other.layouts[0].head_dim *= 2;
  expect_corrupted(other, "made for other block layouts");
  other = config("");
  other.tiers[0].capacity = 1 << 20;
  expect_corrupted(other, "made with another capacity");
  std::string later = sound;
  for (const std::size_t at : {0U, 4096U}) {  // both superblocks, and sound otherwise
    auto* const super = reinterpret_cast<std::byte*>(later.data()) + at;
    store_le(super + 8, load_le<std::uint32_t>(super + 8) + 1);
    store_le(super + 60, crc32c(0, {super, 60}));
  }
  std::ofstream(path_, std::ios::binary) << later;
  expect_corrupted(config(""), "made by another version");
  EXPECT_EQ(inspected().code(), Code::corrupted);
  EXPECT_NE(inspected().message().find("made by another version"), std::string::npos);
  std::ofstream(path_, std::ios::binary) << sound;
  expect_pool("");
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

TEST_P(OpenRefused, what_an_open_made_before_it_was_refused_is_gone) {
  EXPECT_EQ(refusal(config("?size=16K")).code(),
            Code::invalid_argument);  // no block fits
  EXPECT_FALSE(fs::exists(path_));
  // Refused by the second tier, when the first has been made a pool already.
  std::ofstream(path_).close();
  fs::resize_file(path_, 1 << 20);
  StoreConfig two = config("?size=2M");
  two.tiers.push_back({.device = "file:" + folder_ + "/other?size=1M"});
  {
    StoreConfig other = config("");
    other.tiers = {two.tiers[1]};
    other.layouts[0].layers = 4;
    ASSERT_TRUE(refusal(other).ok());
  }
  EXPECT_EQ(refusal(two).code(), Code::corrupted);
  EXPECT_TRUE(contents(path_) == std::string(1 << 20, '\0'));
}

TEST_P(OpenRefused, a_pool_has_one_store_at_a_time) {
  std::optional<Result<std::unique_ptr<BlockStore>>> first =
      open_store(config("?size=2M"));
  ASSERT_TRUE(first->ok()) << first->error().message();
  const std::string other = GetParam() == std::string("file:") ? "dax:" : "file:";
  StoreConfig second = config("");
  second.tiers[0].device = other + path_;
  second.name = path_;
  const Status status = refusal(second);
  EXPECT_EQ(status.code(), Code::busy) << status.message();
  EXPECT_EQ(open_device(GetParam() + path_).error().code(), Code::busy);
  EXPECT_TRUE(open_device(GetParam() + path_, DeviceUse::look).ok());
  EXPECT_EQ(save(***first, 1), Code::ok);
  first.reset();
  expect_pool("?size=2M");
}

TEST_P(OpenRefused, a_file_is_one_tier_of_a_store) {
  StoreConfig twice = config("?size=2M");
  twice.tiers.push_back({.device = "file:" + folder_ + "/../" +
                                   fs::path(folder_).filename().string() + "/pool",
                         .name = "again"});
  for (const std::string& name : {std::string(), path_}) {
    twice.name = name;
    const Status status = refusal(twice);
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.message();
    EXPECT_FALSE(fs::exists(path_));
  }
}

TEST_P(OpenBusy, a_pool_is_shared_under_one_name_only) {
  StoreConfig named = config("?size=2M"), other = named;
  named.name = path_;
  other.name = "shm:/speckv-refused-" + std::to_string(::getpid());
  {
    const auto first = open_store(named);
    ASSERT_TRUE(first.ok()) << first.error().message();
    const auto second = open_store(named);
    ASSERT_TRUE(second.ok()) << second.error().message();
    ASSERT_EQ(save(**second, 1), Code::ok);
    EXPECT_EQ(refusal(config("?size=2M")).code(), Code::busy);
    const Status status = refusal(other);
    EXPECT_EQ(status.code(), Code::busy) << status.message();
    EXPECT_EQ(inspect_store(other.name).error().code(), Code::not_found);
    EXPECT_TRUE(has(**first, 1));
    EXPECT_TRUE(
        remove_store(path_).ok());  // too early: the next would have an index anew
    EXPECT_EQ(refusal(named).code(), Code::busy);
    EXPECT_EQ(inspect_store(path_).error().code(), Code::not_found);
  }
  expect_pool("?size=2M");
}

// As the kernel has it while a device owes answers to somebody who was killed.
TEST_P(OpenBusy, the_dead_are_waited_for_longer_than_the_living) {
  make_pool();
  Fd dead(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(set_lock(dead.get(), F_WRLCK, 0, 1));  // and no sign of life
  std::jthread device([&] {
    std::this_thread::sleep_for(3s);  // sleeps: more than the 2 s that the living get
    dead = Fd();
  });
  expect_pool("");
}

// A killed process's io_uring may outlive it for a moment.
TEST_P(OpenBusy, the_lock_ends_with_its_process_and_not_with_a_child) {
  make_pool();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    const auto mine = open_store(config(""));
    (void)!::write(ends[1], mine.ok() ? "y" : "n", 1);
    while (::pause() != 0 && mine.ok()) {}
    ::_exit(1);
  }
  char opened = 0;
  ASSERT_EQ(::read(ends[0], &opened, 1), 1);
  ASSERT_EQ(opened, 'y');
  EXPECT_EQ(refusal(config("")).code(), Code::busy);
  ::kill(owner, SIGKILL);
  ASSERT_EQ(::waitpid(owner, nullptr, 0), owner);

  auto device = open_device(config("").tiers[0].device);
  ASSERT_TRUE(device.ok()) << device.error().message();
  const pid_t child = ::fork();  // ends only when it is told to, or with us
  if (child == 0) {
    device->reset();  // as an exit handler may
    (void)!::write(ends[1], "c", 1);
    while (::pause() != 0) {}
  }
  ASSERT_EQ(::read(ends[0], &opened, 1), 1);
  EXPECT_EQ(refusal(config("")).code(), Code::busy);
  device->reset();
  expect_pool("");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_P(OpenRefused, whoever_adjusts_the_options_may_refuse) {
  const auto refuses = [](StoreOptions& options) {
    EXPECT_NE(options.tiers.at(0).device, nullptr);
    return Status(Code::unsupported, "not on such a device");
  };
  const auto store = open_store(config("?size=2M"), refuses);
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.error().code(), Code::unsupported);
  EXPECT_FALSE(fs::exists(path_));
}

// Else blocks of another profile would be taken for damaged, and dropped.
TEST_P(OpenRefused, a_pool_keeps_to_the_profile_that_it_was_made_with) {
  StoreConfig none = config("?size=2M");
  none.layouts[0].head_dim = 64;
  StoreConfig one = none, other = none;
  one.profile = test::random_profile(none.layouts[0], 1);
  other.profile = test::random_profile(none.layouts[0], 2);
  ASSERT_TRUE(open_store(none).ok());
  ASSERT_TRUE(open_store(one).ok());  // takes it on
  const auto before = contents(path_);
  for (const StoreConfig* wrong : {&none, &other}) {
    const Status status = refusal(*wrong);
    EXPECT_EQ(status.code(), Code::invalid_argument);
    EXPECT_NE(status.message().find("a model profile that is not"), std::string::npos);
    EXPECT_TRUE(contents(path_) == before);
  }
  EXPECT_TRUE(open_store(one).ok());
  const auto device = open_device(one.tiers[0].device, DeviceUse::look);
  ASSERT_TRUE(device.ok()) << device.error().message();
  EXPECT_NE(inspect_pool(**device)->profile, 0U);
}

std::string scheme_of(const testing::TestParamInfo<const char*>& row) {
  const std::string scheme = row.param;
  return scheme.substr(0, scheme.find(':'));
}
INSTANTIATE_TEST_SUITE_P(Schemes, OpenRefused, testing::Values("file:", "dax:"),
                         scheme_of);
INSTANTIATE_TEST_SUITE_P(Schemes, OpenBusy, testing::Values("file:"), scheme_of);

// Stores that have a name, and memory under it.
class NamedRefused : public testing::Test {
 protected:
  void TearDown() override { (void)remove_store(name_); }
  static StoreConfig config(const std::string& name, std::vector<std::string> devices) {
    StoreConfig config;
    config.layouts = {small_layout()};
    config.name = name;
    for (std::string& device : devices)
      config.tiers.emplace_back().device = std::move(device);
    return config;
  }
  static Code code(const std::string& name, const std::vector<std::string>& devices) {
    const auto store = open_store(config(name, devices));
    return store.ok() ? Code::ok : store.error().code();
  }
  static bool has_segment(const std::string& name, std::size_t tier) {
    const auto index = index_file(name);
    return index.ok() && fs::exists("/dev/shm" + shared_segment(*index, tier));
  }
  const std::string name_ = "shm:/speckv-named-refused-" + std::to_string(::getpid());
};

TEST_F(NamedRefused, a_wrong_size_locks_nobody_out) {
  {
    const auto live = open_store(config(name_, {"dram:1M"}));
    ASSERT_TRUE(live.ok()) << live.error().message();
    for (const char* wrong : {"dram:2M", "dram:512K", "dram:1028K", "dram:4K"}) {
      EXPECT_EQ(code(name_, {wrong}), Code::invalid_argument) << wrong;
      EXPECT_EQ(code(name_, {"dram:1M"}), Code::ok) << wrong;
    }
    EXPECT_EQ(code(name_, {"dram:1M", "dram:2M"}), Code::invalid_argument);
    EXPECT_FALSE(has_segment(name_, 1));
    EXPECT_EQ(save(**live, 1), Code::unsupported);  // durable, which memory is not
  }
  EXPECT_EQ(code(name_, {"dram:2M"}), Code::invalid_argument);
  EXPECT_EQ(code(name_, {"dram:1M"}), Code::ok);
}

TEST_F(NamedRefused, nothing_stays_in_shared_memory) {
  const struct {
    std::string name, device;
    Code code;
  } rows[] = {{"/nope/x.pool", "dram:3M", Code::not_found},
              {"no-such-file", "dram:3M", Code::not_found},
              {"shm:/a/b", "dram:3M", Code::invalid_argument},
              {name_, "dram:4K", Code::invalid_argument},
              {name_, "shm:/speckv-named-refused-tier?size=4K", Code::invalid_argument},
              {name_, "dram:4000T", Code::no_space}};
  for (const auto& row : rows) {
    EXPECT_EQ(code(row.name, {row.device}), row.code) << row.name << " " << row.device;
    EXPECT_EQ(code(row.name, {"dram:1M", row.device}), row.code) << row.name;
    EXPECT_FALSE(has_segment(row.name, 0)) << row.name << " " << row.device;
    EXPECT_FALSE(has_segment(row.name, 1)) << row.name << " " << row.device;
    EXPECT_FALSE(peek_index_memory(row.name, 8).ok()) << row.name << " " << row.device;
    EXPECT_FALSE(fs::exists("/dev/shm/speckv-named-refused-tier"));
  }
  EXPECT_EQ(code(name_, {"dram:1M"}), Code::ok);
}

TEST_F(NamedRefused, what_others_use_stays) {
  const StoreConfig good = config(name_, {"dram:1M"});
  const auto live = open_store(good);
  ASSERT_TRUE(live.ok()) << live.error().message();
  StoreConfig bad = good;
  bad.layouts[0].dtype = DType::bf16;  // as large: only the fingerprints differ
  EXPECT_FALSE(open_store(bad).ok());
  EXPECT_TRUE(has_segment(name_, 0));
  EXPECT_EQ(inspect_store(name_)->processes, 1U);
  EXPECT_EQ(code(name_, {"dram:1M"}), Code::ok);
}

}  // namespace
}  // namespace speckv

// Opening devices: sizes, what a machine lacks, and what is left behind when it fails.
#include "cxlspeckv/devices.hpp"

#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <numaif.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/child.hpp"

namespace speckv {
namespace {

using namespace std::chrono_literals;
using Op = Transfer::Op;
namespace fs = std::filesystem;

constexpr RegionId kRegion{1};
constexpr std::size_t kBytes = 1U << 20;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "speckv_devices_" + std::to_string(::getpid());
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    path_ = folder_ + "/pool";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string uri(const std::string& rest, const char* scheme = "file:") const {
    return scheme + path_ + rest;
  }
  static Code code(const std::string& uri) {
    const auto device = open_device(uri);
    return device.ok() ? Code::ok : device.error().code();
  }
  static std::uint64_t capacity(const std::string& uri) {
    const auto device = open_device(uri);
    EXPECT_TRUE(device.ok()) << device.error().message();
    return device.ok() ? (*device)->info().capacity : 0;
  }

  std::string folder_, path_;
};

// The code of one transfer between `memory` (attached here) and the front of the device.
Code run(Device& device, Op op, MutableBytes memory) {
  if (!device.attach(kRegion, memory).ok()) return Code::internal;
  Completion done{0, Code::timed_out};
  {
    auto queue = device.open_queue(1);
    if (!queue.ok()) return queue.error().code();
    const Transfer transfer{op, 0, {kRegion, 0, memory.size()}, 0};
    if ((*queue)->submit({&transfer, 1}) != 1) return Code::busy;
    (*queue)->wait(60s);
    (*queue)->poll({&done, 1});
  }
  const Status detached = device.detach(kRegion);
  return detached.ok() ? done.code : Code::internal;
}

struct alignas(4096) Page {
  std::array<std::byte, kBytes> bytes{};
};

// Whether `body`, in a process of its own, which may give up what it likes, says so.
template <class Body>
bool in_child(Body body) {
  return test::Child([&] { return body() ? 0 : 1; }).wait() == 0;
}

TEST_F(Files, a_new_file_has_all_its_bytes_allocated) {
  for (const char* scheme : {"file:", "dax:"}) {
    EXPECT_EQ(capacity(uri("?size=3M", scheme)), 3U << 20);
    struct stat st {};
    ASSERT_EQ(::stat(path_.c_str(), &st), 0);
    EXPECT_EQ(st.st_size, 3 << 20);
    EXPECT_GE(st.st_blocks * 512, 3 << 20);
    EXPECT_EQ(st.st_mode & 0777, 0600U);
    fs::remove(path_);
  }
}

TEST_F(Files, an_existing_file_keeps_its_size_or_grows) {
  for (const char* scheme : {"file:", "dax:"}) {
    ASSERT_EQ(capacity(uri("?size=1M", scheme)), 1U << 20);
    EXPECT_EQ(capacity(uri("", scheme)), 1U << 20);
    EXPECT_EQ(capacity(uri("?size=2M", scheme)), 2U << 20);
    EXPECT_EQ(code(uri("?size=1M", scheme)), Code::invalid_argument);
    EXPECT_EQ(fs::file_size(path_), 2U << 20);
    fs::remove(path_);
  }
}

TEST_F(Files, what_is_not_there_or_has_no_size_is_refused) {
  for (const char* scheme : {"file:", "dax:"}) {
    EXPECT_EQ(code(uri("", scheme)), Code::not_found);
    EXPECT_FALSE(fs::exists(path_));
    std::ofstream(path_).close();
    EXPECT_EQ(code(uri("", scheme)), Code::invalid_argument);
    fs::remove(path_);
    EXPECT_EQ(code(uri("/nowhere?size=1M", scheme)), Code::not_found);
    EXPECT_EQ(code(scheme + folder_), Code::invalid_argument);
    EXPECT_EQ(code(std::string(scheme) + "/dev/null?size=1M"), Code::invalid_argument);
  }
  EXPECT_EQ(code("shm:/speckv_not_there"), Code::not_found);
}

TEST_F(Files, a_full_disk_shows_when_opening_and_nothing_is_left_behind) {
  for (const char* scheme : {"file:", "dax:"}) {
    EXPECT_EQ(code(uri("?size=4000T", scheme)), Code::no_space);
    EXPECT_FALSE(fs::exists(path_));
    ASSERT_EQ(code(uri("?size=1M", scheme)), Code::ok);
    EXPECT_EQ(code(uri("?size=4000T", scheme)), Code::no_space);
    EXPECT_EQ(fs::file_size(path_), 1U << 20);
    fs::remove(path_);
  }
  const std::string shm = "/speckv_full_" + std::to_string(::getpid());
  EXPECT_EQ(code("shm:" + shm + "?size=4000T"), Code::no_space);
  EXPECT_FALSE(fs::exists("/dev/shm" + shm));
  EXPECT_EQ(code("dram:8000000T"), Code::no_space);
}

TEST_F(Files, a_size_that_direct_transfers_cannot_reach_is_refused) {
  const auto unaligned = open_device(uri("?size=1000001"));
  ASSERT_FALSE(unaligned.ok());
  EXPECT_EQ(unaligned.error().code(), Code::invalid_argument);
  EXPECT_NE(unaligned.error().message().find("multiple of"), std::string::npos)
      << unaligned.error().message();
  EXPECT_FALSE(fs::exists(path_));
  EXPECT_EQ(capacity(uri("?size=1000001&direct=0")), 1000001U);
  // Without a size, the last few bytes are left alone.
  const std::uint64_t whole = capacity(uri(""));
  EXPECT_LT(whole, 1000001U);
  EXPECT_GT(whole, 1000001U - 8192);
}

TEST_F(Files, a_file_that_was_cut_off_answers_io_error) {
  for (const char* engine : {"?size=1M&engine=pread", "?size=1M", "?size=1M&direct=0"}) {
    const auto device = open_device(uri(engine));
    ASSERT_TRUE(device.ok()) << device.error().message();
    const auto page = std::make_unique<Page>();
    EXPECT_EQ(run(**device, Op::read, page->bytes), Code::ok);
    fs::resize_file(path_, 4096);
    EXPECT_EQ(run(**device, Op::read, page->bytes), Code::io_error) << engine;
    fs::resize_file(path_, 0);
    EXPECT_EQ(run(**device, Op::read, page->bytes), Code::io_error) << engine;
    EXPECT_EQ(run(**device, Op::write, page->bytes), Code::ok) << engine;
    fs::remove(path_);
  }
}

// What a container does whose seccomp profile knows no io_uring.
bool refuse_uring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{4, program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST_F(Files, where_uring_is_refused_pread_takes_over_and_says_so) {
  EXPECT_TRUE(in_child([&] {
    if (!refuse_uring()) return false;
    if (code(uri("?size=1M&engine=uring")) != Code::unsupported) return false;
    const auto device = open_device(uri("?size=1M"));
    if (!device.ok()) return false;
    const auto& note = (*device)->info().note;
    const auto page = std::make_unique<Page>();
    return note.find("io_uring is refused") != std::string::npos &&
           note.find("pread") != std::string::npos &&
           run(**device, Op::write, page->bytes) == Code::ok &&
           run(**device, Op::read, page->bytes) == Code::ok;
  }));
}

TEST_F(Files, where_little_memory_may_be_locked_regions_stay_unregistered_and_work) {
  EXPECT_TRUE(in_child([&] {
    const auto device = open_device(uri("?size=1M"));
    const rlimit little{kBytes / 4, kBytes / 4};  // enough for a ring, not for the region
    if (!device.ok() || ::setrlimit(RLIMIT_MEMLOCK, &little) != 0) return false;
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return false;
    const auto page = std::make_unique<Page>();
    page->bytes.fill(std::byte{7});
    if (run(**device, Op::write, page->bytes) != Code::ok) return false;
    page->bytes.fill(std::byte{0});
    return run(**device, Op::read, page->bytes) == Code::ok &&
           page->bytes[kBytes - 1] == std::byte{7};
  }));
}

TEST_F(Files, an_engine_that_was_asked_for_is_noted) {
  const auto device = open_device(uri("?size=1M&engine=pread"));
  ASSERT_TRUE(device.ok());
  EXPECT_NE((*device)->info().note.find("pread"), std::string::npos);
}

TEST(Devices, soft_is_reported_as_simulated) {
  const auto device = open_device("soft:?size=1M");
  ASSERT_TRUE(device.ok());
  EXPECT_TRUE((*device)->info().simulated);
  EXPECT_FALSE((*device)->info().note.empty());
  const auto real = open_device("dram:1M");
  ASSERT_TRUE(real.ok());
  EXPECT_FALSE((*real)->info().simulated);
}

TEST(Devices, a_simulation_that_nobody_brought_is_refused_with_a_sentence) {
  const auto device = open_device("sim:1M");
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.error().code(), Code::unsupported);
  EXPECT_NE(device.error().message().find("no simulation"), std::string::npos);
}

TEST(Devices, shared_memory_is_shared) {
  const std::string name = "/speckv_shared_" + std::to_string(::getpid());
  const auto first = open_device("shm:" + name + "?size=1M");
  ASSERT_TRUE(first.ok()) << first.error().message();
  const auto second = open_device("shm:" + name);
  ASSERT_TRUE(second.ok()) << second.error().message();
  fs::remove("/dev/shm" + name);
  const MutableBytes here = (*first)->memory(), there = (*second)->memory();
  ASSERT_EQ(here.size(), kBytes);
  ASSERT_EQ(there.size(), kBytes);
  here.back() = std::byte{42};
  EXPECT_EQ(there.back(), std::byte{42});
}

// What the kernel has been told of the mapping that holds `address`; "" if it tells none.
std::string flags_of(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    char* end = nullptr;
    const std::uint64_t first = std::strtoull(line.c_str(), &end, 16);
    if (*end == '-')
      here = at >= first && at < std::strtoull(end + 1, nullptr, 16);
    else if (here && line.starts_with("VmFlags:"))
      return line + " ";
  }
  return {};
}

TEST(Devices, memory_asks_for_huge_pages_or_says_why_not) {
  const auto device = open_device("dram:8M");
  ASSERT_TRUE(device.ok()) << device.error().message();
  const auto* const start = (*device)->memory().data();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(start) % (2U << 20), 0U);
  const std::string& note = (*device)->info().note;
  if (note.find("no huge pages") != std::string::npos) GTEST_SKIP() << note;
  const std::string flags = flags_of(start);
  if (flags.empty()) GTEST_SKIP() << "the kernel tells no flags of mappings";
  EXPECT_NE(flags.find(" hg "), std::string::npos) << flags;
}

TEST(Devices, a_numa_device_lies_on_its_node) {
  const auto device = open_device("numa:0?size=8M");
  if (!device.ok()) GTEST_SKIP() << device.error().message();
  EXPECT_EQ((*device)->info().numa_node, 0);
  const MutableBytes memory = (*device)->memory();
  for (std::size_t at = 0; at < memory.size(); at += 4096) {
    memory[at] = std::byte{1};
    int node = -1;
    ASSERT_EQ(
        ::get_mempolicy(&node, nullptr, 0, memory.data() + at, MPOL_F_NODE | MPOL_F_ADDR),
        0);
    ASSERT_EQ(node, 0);
  }
  int mode = -1;
  ASSERT_EQ(::get_mempolicy(&mode, nullptr, 0, memory.data(), MPOL_F_ADDR), 0);
  EXPECT_EQ(mode, MPOL_BIND);
}

TEST(Devices, a_node_that_is_absent_or_too_small_is_refused) {
  const auto absent = open_device("numa:4095?size=1M");
  ASSERT_FALSE(absent.ok());
  if (absent.error().code() == Code::unsupported)
    GTEST_SKIP() << absent.error().message();
  EXPECT_EQ(absent.error().code(), Code::not_found);
  EXPECT_NE(absent.error().message().find("no memory on node 4095"), std::string::npos);
  const auto huge = open_device("numa:0?size=100T");
  ASSERT_FALSE(huge.ok());
  EXPECT_EQ(huge.error().code(), Code::no_space);
}

// ---- EventfdCompletionQueue -----------------------------------------------------------

bool readable(int fd) {
  pollfd poll{fd, POLLIN, 0};
  return ::poll(&poll, 1, 0) == 1;
}

TEST(EventfdCompletionQueue, is_readable_exactly_while_it_holds_entries) {
  auto queue = EventfdCompletionQueue::create();
  ASSERT_TRUE(queue.ok());
  const int fd = (*queue)->fd();
  EXPECT_FALSE(readable(fd));
  for (std::uint64_t tag = 0; tag < 5; ++tag)
    (*queue)->queue().push({tag, Code::ok});
  EXPECT_TRUE(readable(fd));
  std::array<CompletionQueue::Entry, 3> out{};
  EXPECT_EQ((*queue)->drain(out), 3U);
  EXPECT_TRUE(readable(fd));
  EXPECT_EQ((*queue)->drain(out), 2U);
  EXPECT_EQ(out[1].tag, 4U);
  EXPECT_FALSE(readable(fd));
  EXPECT_EQ((*queue)->drain(out), 0U);
}

TEST(EventfdCompletionQueue, no_entry_is_ever_left_without_a_signal) {
  auto created = EventfdCompletionQueue::create();
  ASSERT_TRUE(created.ok());
  EventfdCompletionQueue& queue = **created;
  constexpr std::uint64_t kCount = 20000;
  std::thread producer([&] {
    for (std::uint64_t tag = 0; tag < kCount; ++tag)
      queue.queue().push({tag, Code::ok});
  });
  std::uint64_t next = 0;
  std::array<CompletionQueue::Entry, 7> out{};
  while (next < kCount) {
    pollfd poll{queue.fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&poll, 1, 60'000), 1) << "after " << next;
    const std::size_t count = queue.drain(out);
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_EQ(out[i].tag, next++);
  }
  producer.join();
}

}  // namespace
}  // namespace speckv

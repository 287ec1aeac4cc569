// What the kernel holds for a program counts as the program's, in its control group: who
// may open a card cannot take more of the machine's memory than he is given.
#include <vector>

#include <sys/stat.h>
#include <sys/wait.h>

#include "card.hpp"

namespace guest {
namespace {

constexpr std::uint64_t kQueues = 8;

class Cgroup : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(::mkdir(folder_.c_str(), 0755), 0); }
  void TearDown() override {
    EXPECT_TRUE(write_file("/sys/fs/cgroup/cgroup.procs", "0"));
    EXPECT_EQ(::rmdir(folder_.c_str()), 0) << std::strerror(errno);
  }
  std::uint64_t current() const {
    return std::strtoull(read_file(folder_ + "memory.current").c_str(), nullptr, 10);
  }

  const std::string folder_ = "/sys/fs/cgroup/speckv/";
};

std::uint64_t ring_bytes(std::uint32_t depth) {
  return depth * (sizeof(speckv_desc) + sizeof(speckv_cpl));
}

TEST_F(Cgroup, QueuesCountAsTheProgramsMemory) {
  ASSERT_TRUE(write_file(folder_ + "cgroup.procs", "0"));
  const Fd card = open_card();
  const std::uint32_t depth = query(card).out_max_depth;
  const std::uint64_t before = current();
  for (std::uint64_t i = 0; i < kQueues; ++i)
    make_queue(card, depth);
  EXPECT_GE(current() - before, kQueues * ring_bytes(depth));
}

// The kernel refuses, or ends, who wants more; the card serves the others.
TEST_F(Cgroup, ALimitIsALimit) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (!write_file(folder_ + "cgroup.procs", "0")) ::_exit(2);
    const Fd card = open_card();
    const std::uint32_t depth = query(card).out_max_depth;
    const std::uint64_t room = kQueues * ring_bytes(depth) / 2;
    if (!write_file(folder_ + "memory.max", std::to_string(current() + room))) ::_exit(3);
    for (std::uint64_t i = 0; i < kQueues; ++i) {
      speckv_queue_create queue{};
      queue.depth = depth;
      queue.eventfd = -1;
      const int error = call(card, SPECKV_IOC_QUEUE_CREATE, queue);
      if (error != 0) ::_exit(error == ENOMEM ? 1 : 4);
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL
                                  : WEXITSTATUS(status) == 1)
      << status;
  const Fd card = open_card();
  EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))), SPECKV_CPL_OK);
}

}  // namespace
}  // namespace guest

// What all commands have in common, asked of each of them: their sizes, bad pointers, the
// end of the card; members that must be 0; and the same calls as a 32-bit program makes
// them.
#include <sys/utsname.h>
#include <sys/wait.h>

#include "card.hpp"

namespace guest {
namespace {

struct Command {
  const char* name;
  unsigned long number;
  std::uint32_t size;
};

#define SPECKV_COMMAND(name, type)         \
  Command {                                \
#name, SPECKV_IOC_##name, sizeof(type) \
  }
const Command kCommands[] = {
    SPECKV_COMMAND(QUERY, speckv_query),
    SPECKV_COMMAND(REGION_DESTROY, speckv_object),
    SPECKV_COMMAND(QUEUE_DESTROY, speckv_object),
    SPECKV_COMMAND(QUEUE_RESET, speckv_object),
    SPECKV_COMMAND(QUEUE_KICK, speckv_object),
    SPECKV_COMMAND(REGION_CREATE, speckv_region_create),
    SPECKV_COMMAND(QUEUE_CREATE, speckv_queue_create),
    SPECKV_COMMAND(SUBMIT, speckv_batch),
    SPECKV_COMMAND(REAP, speckv_batch),
    SPECKV_COMMAND(REGION_IMPORT, speckv_region_import),
    SPECKV_COMMAND(STEP, speckv_step),
    SPECKV_COMMAND(HINT, speckv_hint),
    SPECKV_COMMAND(ADVISE, speckv_advise),
    SPECKV_COMMAND(WEIGHTS, speckv_weights),
    SPECKV_COMMAND(TELEMETRY, speckv_telemetry_read),
    SPECKV_COMMAND(PARAM_SET, speckv_param),
    SPECKV_COMMAND(PARAM_GET, speckv_param),
    SPECKV_COMMAND(PREFETCH, speckv_prefetch),
};
#undef SPECKV_COMMAND

constexpr std::uint32_t kLater = 24;  // bytes that a later version may have

// A structure of zeros that says it has so many bytes; `last` is its last one.
int with_size(const Fd& card, const Command& command, std::uint32_t size,
              std::uint8_t last = 0) {
  alignas(8) std::uint8_t args[256] = {};
  std::memcpy(args, &size, sizeof size);
  if (size > sizeof size) args[size - 1] |= last;
  return ::ioctl(card.get(), command.number, args) == 0 ? 0 : errno;
}

TEST(Commands, SizesGrowAndAreChecked) {
  const Fd card = open_card();
  for (const Command& command : kCommands) {
    EXPECT_EQ(with_size(card, command, 0), EINVAL) << command.name;
    EXPECT_EQ(with_size(card, command, command.size - 1), EINVAL) << command.name;
    EXPECT_EQ(with_size(card, command, command.size + kLater, 1), E2BIG) << command.name;
    // What a later version has and this program leaves at 0 changes nothing.
    EXPECT_EQ(with_size(card, command, command.size + kLater),
              with_size(card, command, command.size))
        << command.name;
  }
}

TEST(Commands, BadPointersFaultBeforeAnythingHappens) {
  const Fd card = open_card();
  Mapping page;
  page.length = kPage;
  page.at =
      ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_TRUE(page.good());
  for (const Command& command : kCommands) {
    EXPECT_EQ(::ioctl(card.get(), command.number, nullptr), -1);
    EXPECT_EQ(errno, EFAULT) << command.name;
    // It can be read, and the answer could not be written.
    ASSERT_EQ(::mprotect(page.at, kPage, PROT_READ | PROT_WRITE), 0);
    std::memset(page.at, 0, kPage);
    std::memcpy(page.at, &command.size, sizeof command.size);
    ASSERT_EQ(::mprotect(page.at, kPage, PROT_READ), 0);
    EXPECT_EQ(::ioctl(card.get(), command.number, page.at), -1);
    EXPECT_EQ(errno, EFAULT) << command.name;
  }
}

// What is not known yet is refused, so that it can mean something later.
TEST(Commands, MembersThatMustBeZeroAre) {
  const Fd card = open_card();
  const speckv_region_create region = make_region(card, kPage);
  const Mapping seen(card.get(), region.out_mmap_offset, kPage);
  ASSERT_TRUE(seen.good());
  speckv_advise advise{};
  advise.hint = SPECKV_HINT_HOT;
  advise.address = reinterpret_cast<std::uintptr_t>(seen.at);
  advise.length = kPage;
  EXPECT_EQ(call(card, SPECKV_IOC_ADVISE, advise), 0);
  advise.__reserved = 1;
  EXPECT_EQ(call(card, SPECKV_IOC_ADVISE, advise), EOPNOTSUPP);
  speckv_weights weights{};
  weights.recency = weights.evict = 1;
  weights.prefetch = 9;
  EXPECT_EQ(call(card, SPECKV_IOC_WEIGHTS, weights), 0);
  weights.flags = 1;
  EXPECT_EQ(call(card, SPECKV_IOC_WEIGHTS, weights), EOPNOTSUPP);
  speckv_param param{};
  EXPECT_EQ(call(card, SPECKV_IOC_PARAM_GET, param), EOPNOTSUPP);
  param.param = 3;
  EXPECT_EQ(call(card, SPECKV_IOC_PARAM_GET, param), EOPNOTSUPP);
}

// Waiting prefetches end somewhere: whoever asks for more is told, and nothing is lost.
TEST(Commands, TooManyPrefetchesAreToldToComeAgain) {
  const Fd card = open_card();
  speckv_prefetch args{};
  args.region = make_region(card, kPage).out_id;
  args.length = kPage;
  const std::string hold = std::string(kDebugfs) + "hold";
  ASSERT_TRUE(write_file(hold, "1"));
  int error = 0;
  std::uint32_t taken = 0;
  for (; error == 0 && taken < 10000; ++taken)
    error = call(card, SPECKV_IOC_PREFETCH, args);
  EXPECT_EQ(error, EAGAIN);
  EXPECT_GT(taken, 1U);
  ASSERT_TRUE(write_file(hold, "0"));
  speckv_step step{};  // in the same queue: it is answered after them
  EXPECT_EQ(call(card, SPECKV_IOC_STEP, step), 0);
  EXPECT_EQ(call(card, SPECKV_IOC_PREFETCH, args), 0);
}

// D33: only close() is left.
TEST(Commands, NothingIsLeftOfACardThatHasGone) {
  const Home home("speckv1");
  {
    const Fd card = open_card("/dev/speckv1");
    const speckv_queue_create queue = make_queue(card, 8);
    Uring ring(8);
    ASSERT_EQ(ring.error(), 0);
    ASSERT_TRUE(home.unbind());
    for (const Command& command : kCommands)
      EXPECT_EQ(with_size(card, command, command.size), ENODEV) << command.name;
    EXPECT_EQ(ring.run(card, queue.out_id, nop(1)), -ENODEV);
    for (const std::uint64_t offset :
         {queue.out_ring_offset, queue.out_doorbell_offset}) {
      EXPECT_FALSE(Mapping(card.get(), offset, kPage).good());
      EXPECT_EQ(errno, ENODEV);
    }
  }
  ASSERT_TRUE(home.bind());
  ASSERT_EQ(::access("/dev/speckv1", R_OK | W_OK), 0);
}

// ---- Programs of 32 bits ----

constexpr int kNoCall = 3, kOtherError = 4;

// An ioctl through the entry that programs of 32 bits use; -errno on failure.
int ioctl_32(int fd, unsigned long number, const void* args) {
  long result = 54;  // its number there
  asm volatile("int $0x80"
               : "+a"(result)
               : "b"(static_cast<long>(fd)), "c"(number), "d"(args)
               : "memory", "r8", "r9", "r10", "r11");
  return static_cast<int>(result);
}

// 0, or the number of what went wrong. `page` lies below 4 GiB, as all of their memory.
int use_card_32(std::uint8_t* page) {
  const Fd card = open_card();
  auto* query = reinterpret_cast<speckv_query*>(page);
  query->size = sizeof *query;
  const int error = ioctl_32(card.get(), SPECKV_IOC_QUERY, query);
  if (error != 0) return error == -ENOTTY ? kNoCall : kOtherError;
  if (query->out_version != guest::query(card).out_version) return 5;
  if (ioctl_32(card.get(), _IO(SPECKV_IOC, 0x18), query) != -ENOTTY) return 6;
  auto* queue = reinterpret_cast<speckv_queue_create*>(page + 256);
  *queue = {};
  queue->size = sizeof *queue;
  queue->depth = 8;
  queue->eventfd = -1;
  if (ioctl_32(card.get(), SPECKV_IOC_QUEUE_CREATE, queue) != 0) return 7;
  auto* desc = reinterpret_cast<speckv_desc*>(page + 512);
  *desc = nop(21);
  auto* cpl = reinterpret_cast<speckv_cpl*>(page + 640);
  auto* batch = reinterpret_cast<speckv_batch*>(page + 768);
  *batch = {};
  batch->size = sizeof *batch;
  batch->queue = queue->out_id;
  batch->entries = reinterpret_cast<std::uintptr_t>(desc);
  batch->count = 1;
  if (ioctl_32(card.get(), SPECKV_IOC_SUBMIT, batch) != 0) return 8;
  pollfd ready{card.get(), POLLIN, 0};
  if (::poll(&ready, 1, 20000) != 1) return 9;
  batch->entries = reinterpret_cast<std::uintptr_t>(cpl);
  if (ioctl_32(card.get(), SPECKV_IOC_REAP, batch) != 0) return 10;
  if (batch->out_count != 1 || cpl->tag != 21) return 11;
  batch->count = 0;
  return ioctl_32(card.get(), SPECKV_IOC_REAP, batch) == -EINVAL ? 0 : 12;
}

TEST(Commands, ProgramsOf32BitsMakeTheSameCalls) {
  void* low = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  ASSERT_NE(low, MAP_FAILED);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(use_card_32(static_cast<std::uint8_t*>(low)));
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ::munmap(low, kPage);
  if (WIFSIGNALED(status)) {
    GTEST_SKIP() << "this kernel has no calls of 32-bit programs (CONFIG_IA32_EMULATION)";
  }
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// ---- What the kernel looks for ----

// A run is good if the kernel reports nothing: it has to look, then.
TEST(Kernel, LooksForMistakesOfMemory) {
  utsname name{};
  ASSERT_EQ(::uname(&name), 0);
  const std::string slab = "/sys/kernel/slab/kmalloc-64/";
  for (const char* check : {"sanity_checks", "red_zone", "poison", "store_user"})
    EXPECT_EQ(read_file(slab + check), "1\n") << check;
  if (std::strstr(name.release, "-speckv-debug") != nullptr) return;  // KASAN sees more
  if (std::strncmp(name.release, "6.1.", 4) == 0) {
    GTEST_SKIP() << "Debian's 6.1 is built without kfence; slub_debug is on";
  }
  EXPECT_NE(std::atoi(read_file("/sys/module/kfence/parameters/sample_interval").c_str()),
            0);
  const std::string stats = read_file("/sys/kernel/debug/kfence/stats");
  EXPECT_NE(stats.find("enabled: 1"), std::string::npos) << stats;
}

}  // namespace
}  // namespace guest

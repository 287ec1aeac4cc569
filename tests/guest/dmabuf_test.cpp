// Memory of other devices as regions: bytes are compared on both sides, what is no
// dma-buf or not enough of one is refused, and nothing of it is kept when its region,
// file or card has gone.
#include "dmabuf.hpp"

#include <chrono>
#include <thread>
#include <vector>

#include <sys/resource.h>

namespace guest {
namespace {

constexpr std::size_t kSize = 16 * kPage;
constexpr const char* kSecond = "/dev/speckv1";
constexpr const char* kNeeded = "CONFIG_UDMABUF";

std::vector<std::uint8_t> bytes_of(const Mapping& seen) {
  return {seen.bytes(), seen.bytes() + seen.length};
}

// What the kernel lists: "Total N objects", and for each "Total N devices attached".
std::size_t listed(const std::string& what) {
  const std::string all = read_file("/sys/kernel/debug/dma_buf/bufinfo", 1 << 16);
  EXPECT_NE(all, "");
  std::size_t sum = 0;
  for (std::size_t at = all.find("Total "); at != std::string::npos;
       at = all.find("Total ", at + 1)) {
    std::size_t digits = 0;
    const std::string from = all.substr(at + 6, 64);
    const std::size_t n = std::stoul(from, &digits);
    if (from.compare(digits + 1, what.size(), what) == 0) sum += n;
  }
  return sum;
}
std::size_t buffers() {
  return listed("objects");
}
std::size_t attachments() {
  return listed("devices attached");
}

// Files are closed a moment after whoever held them last has let go.
template <typename Count>
std::size_t settled(Count count, std::size_t wanted) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (count() != wanted && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  return count();
}

std::size_t locked_kib() {
  const std::string status = read_file("/proc/self/status");
  return std::stoul(status.substr(status.find("VmLck:") + 6));
}

class DmaBuf : public ::testing::Test {
 protected:
  void SetUp() override { SPECKV_NEEDS(kUdmabuf, kNeeded); }
  void TearDown() override {
    card_.reset();
    if (!IsSkipped()) {
      EXPECT_EQ(settled(buffers, 0), 0U);
    }
  }
  std::uint32_t import(const Buffer& buffer, std::uint64_t offset, std::uint64_t length,
                       std::uint32_t flags = 0) {
    std::uint32_t id = 0;
    EXPECT_EQ(import_error(card_, importing(buffer.fd.get(), offset, length, flags), &id),
              0);
    return id;
  }
  unsigned run(const speckv_desc& desc) {
    return code_of(carry_out(card_, queue_, desc));
  }
  Fd card_ = open_card();
  std::uint32_t queue_ = make_queue(card_, 16).out_id;
};

TEST_F(DmaBuf, BytesGoToTheCardAndComeBack) {
  const Buffer from = make_buffer(kSize, 1), to = make_buffer(kSize, 99);
  const std::uint32_t source = import(from, 0, kSize), target = import(to, 0, kSize);
  const speckv_region_create memory = make_region(card_, kSize);
  const std::vector<std::uint8_t> before = bytes_of(to.seen);
  EXPECT_EQ(run(copy(source, 5, memory.out_id, 77, 5000)), SPECKV_CPL_OK);
  const Mapping seen(card_.get(), memory.out_mmap_offset, kSize);
  ASSERT_TRUE(seen.good());
  EXPECT_EQ(std::memcmp(seen.bytes() + 77, from.seen.bytes() + 5, 5000), 0);
  EXPECT_EQ(run(copy(memory.out_id, 77, target, 4093, 5000)), SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(to.seen.bytes() + 4093, from.seen.bytes() + 5, 5000), 0);
  EXPECT_EQ(std::memcmp(to.seen.at, before.data(), 4093), 0);
  EXPECT_EQ(std::memcmp(to.seen.bytes() + 9093, before.data() + 9093, kSize - 9093), 0);
  // What is written to it later is what the card reads later.
  from.seen.bytes()[5] ^= 0xff;
  EXPECT_EQ(run(copy(source, 5, target, 0, 1)), SPECKV_CPL_OK);
  EXPECT_EQ(to.seen.bytes()[0], from.seen.bytes()[5]);
}

TEST_F(DmaBuf, RawLayersAreEncodedAndDecoded) {
  const Buffer from = make_buffer(kSize, 3), to = make_buffer(kSize, 50);
  const std::uint32_t source = import(from, kPage, kSize - kPage);
  const std::uint32_t target = import(to, 2 * kPage, kSize - 2 * kPage);
  speckv_desc desc =
      copy(source, 64, make_region(card_, kSize).out_id, 128, 2 * 4 * 32 * 16 * 2);
  desc.opcode = SPECKV_OP_ENCODE;
  desc.codec.codec = SPECKV_CODEC_RAW;
  desc.codec.room = 4 * kPage;
  desc.codec.heads = 4;
  desc.codec.head_dim = 32;
  desc.tokens = 16;
  EXPECT_EQ(run(desc), SPECKV_CPL_OK);
  desc.opcode = SPECKV_OP_DECODE;
  desc.src_region = desc.dst_region;
  desc.dst_region = target;
  std::swap(desc.src_offset, desc.dst_offset);
  EXPECT_EQ(run(desc), SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(to.seen.bytes() + 2 * kPage + 64, from.seen.bytes() + kPage + 64,
                        desc.length),
            0);
}

// Large pieces, small ones before them, and the bytes as the dma-buf's own mapping has
// them.
TEST_F(DmaBuf, TheSystemsHeapIsReachedWhole) {
  SPECKV_NEEDS(kHeap, "CONFIG_DMABUF_HEAPS_SYSTEM");
  constexpr std::size_t kBytes = 3 * (1U << 20) + 5 * kPage;
  const Fd heap = make_heap_buffer(kBytes, O_RDWR);
  const Mapping seen(heap.get(), 0, kBytes);
  ASSERT_TRUE(seen.good());
  const auto sync = [&](std::uint64_t when) {
    dma_buf_sync args{DMA_BUF_SYNC_RW | when};
    EXPECT_EQ(::ioctl(heap.get(), DMA_BUF_IOCTL_SYNC, &args), 0);
  };
  sync(DMA_BUF_SYNC_START);
  for (std::size_t at = 0; at < kBytes; at += 8) {
    const std::uint64_t value = at * 0x9e3779b97f4a7c15ULL;
    std::memcpy(seen.bytes() + at, &value, 8);
  }
  const std::vector<std::uint8_t> before = bytes_of(seen);
  sync(DMA_BUF_SYNC_END);
  std::uint32_t id = 0;
  ASSERT_EQ(import_error(card_, importing(heap.get(), kPage, kBytes - kPage), &id), 0);
  const std::uint32_t memory = make_region(card_, kBytes).out_id;
  constexpr std::uint32_t kMoved = kBytes - kPage - 9;
  EXPECT_EQ(run(copy(id, 3, memory, 5, kMoved)), SPECKV_CPL_OK);
  EXPECT_EQ(run(copy(memory, 5, id, 8, kMoved)), SPECKV_CPL_OK);
  sync(DMA_BUF_SYNC_START);
  EXPECT_EQ(std::memcmp(seen.bytes() + kPage + 8, before.data() + kPage + 3, kMoved), 0);
  EXPECT_EQ(std::memcmp(seen.at, before.data(), kPage + 8), 0);
  EXPECT_EQ(seen.bytes()[kBytes - 1], before[kBytes - 1]);
  sync(DMA_BUF_SYNC_END);
}

TEST_F(DmaBuf, OnlyWhatWasAskedForIsReached) {
  const Buffer buffer = make_buffer(kSize, 7);
  const std::vector<std::uint8_t> before = bytes_of(buffer.seen);
  const std::uint32_t part = import(buffer, 4 * kPage, 2 * kPage);
  const std::uint32_t memory = make_region(card_, kSize).out_id;
  const std::uint64_t far = ~std::uint64_t{0};
  const std::pair<std::uint64_t, std::uint32_t> outside[] = {
      {2 * kPage, 1}, {2 * kPage - 1, 2}, {0, 2 * kPage + 1}, {far, 1}, {far - 63, 64}};
  for (const auto& [offset, length] : outside) {
    EXPECT_EQ(run(copy(part, offset, memory, 0, length)), SPECKV_CPL_BAD_REGION);
    EXPECT_EQ(run(copy(memory, 0, part, offset, length)), SPECKV_CPL_BAD_REGION);
  }
  EXPECT_EQ(run(copy(memory, 0, part, 0, 2 * kPage)), SPECKV_CPL_OK);
  for (std::size_t i = 0; i < kSize; ++i) {
    const bool inside = i >= 4 * kPage && i < 6 * kPage;
    ASSERT_EQ(buffer.seen.bytes()[i], inside ? 0 : before[i]) << i;
  }
  EXPECT_FALSE(Mapping(card_.get(), std::uint64_t{part} << 30, kPage).good());
  EXPECT_EQ(errno, EINVAL);
}

TEST_F(DmaBuf, WhatItDoesNotHaveIsNotImported) {
  const Buffer buffer = make_buffer(kSize, 7);
  const int fd = buffer.fd.get();
  constexpr std::uint64_t kTop = std::uint64_t{0} - kPage;
  const std::pair<std::uint64_t, std::uint64_t> bad[] = {{0, 0},
                                                         {0, 1},
                                                         {1, kPage},
                                                         {0, kPage + 1},
                                                         {0, kSize + kPage},
                                                         {kPage, kSize},
                                                         {kSize, kPage},
                                                         {kTop, kPage},
                                                         {kTop, 2 * kPage},
                                                         {kPage, kTop},
                                                         {0, std::uint64_t{1} << 63}};
  for (const auto& [offset, length] : bad)
    EXPECT_EQ(import_error(card_, importing(fd, offset, length)), EINVAL)
        << offset << ' ' << length;
  for (const std::uint32_t flags : {1U, 3U, 4U, 0x80000000U})
    EXPECT_EQ(import_error(card_, importing(fd, 0, kPage, flags)), EOPNOTSUPP) << flags;
  EXPECT_EQ(import_error(card_, importing(fd, kSize - kPage, kPage)), 0);
}

TEST_F(DmaBuf, ClosedFilesAreKeptByTheirRegionOnly) {
  Buffer buffer = make_buffer(kSize, 9);
  const std::vector<std::uint8_t> before = bytes_of(buffer.seen);
  speckv_object args{};
  args.id = import(buffer, 0, kSize);
  const int number = buffer.fd.get();
  buffer = Buffer{};
  EXPECT_EQ(buffers(), 1U);
  EXPECT_EQ(attachments(), on_pci() ? 1U : 0U);
  EXPECT_EQ(import_error(card_, importing(number, 0, kPage)), EINVAL);
  const speckv_region_create memory = make_region(card_, kSize);
  const Mapping seen(card_.get(), memory.out_mmap_offset, kSize);
  EXPECT_EQ(run(copy(args.id, 0, memory.out_id, 0, kSize)), SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(seen.at, before.data(), kSize), 0);
  EXPECT_EQ(call(card_, SPECKV_IOC_REGION_DESTROY, args), 0);
  EXPECT_EQ(settled(buffers, 0), 0U);
  EXPECT_EQ(run(copy(args.id, 0, memory.out_id, 0, 1)), SPECKV_CPL_BAD_REGION);
}

TEST_F(DmaBuf, TheCardDoesWhatTheFileAllows) {
  const Buffer buffer = make_buffer(kPage, 9);
  const std::vector<std::uint8_t> before = bytes_of(buffer.seen);
  const std::uint32_t readable = import(buffer, 0, kPage, SPECKV_REGION_READ_ONLY);
  const std::uint32_t memory = make_region(card_, kPage).out_id;
  EXPECT_EQ(run(copy(memory, 0, readable, 0, 64)), SPECKV_CPL_BAD_REGION);
  EXPECT_EQ(bytes_of(buffer.seen), before);
  EXPECT_EQ(run(copy(readable, 0, memory, 0, 64)), SPECKV_CPL_OK);
  SPECKV_NEEDS(kHeap, "CONFIG_DMABUF_HEAPS_SYSTEM");
  const Fd reader = make_heap_buffer(kPage, O_RDONLY),
           writer = make_heap_buffer(kPage, O_WRONLY);
  EXPECT_EQ(import_error(card_, importing(reader.get(), 0, kPage)), EINVAL);
  EXPECT_EQ(import_error(card_, importing(writer.get(), 0, kPage)), EINVAL);
  EXPECT_EQ(
      import_error(card_, importing(writer.get(), 0, kPage, SPECKV_REGION_READ_ONLY)),
      EINVAL);
  EXPECT_EQ(
      import_error(card_, importing(reader.get(), 0, kPage, SPECKV_REGION_READ_ONLY)), 0);
}

// ---- What it counts as ----

TEST_F(DmaBuf, AllOfItCountsAsLockedUntilItGoes) {
  const Buffer buffer = make_buffer(kSize, 1);
  const std::size_t before = locked_kib();
  speckv_object args{};
  args.id = import(buffer, 0, kPage);
  EXPECT_EQ(locked_kib(), before + kSize / 1024);
  EXPECT_EQ(import_error(card_, importing(buffer.fd.get(), 0, 2 * kSize)), EINVAL);
  EXPECT_EQ(locked_kib(), before + kSize / 1024);
  EXPECT_EQ(call(card_, SPECKV_IOC_REGION_DESTROY, args), 0);
  EXPECT_EQ(locked_kib(), before);
  import(buffer, 0, kSize);
  card_.reset();
  EXPECT_EQ(locked_kib(), before);
}

// This process without its rights, and with little memory to lock.
class AsUser {
 public:
  explicit AsUser(rlim_t locked) {
    EXPECT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before_), 0);
    const rlimit limit{locked, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    EXPECT_EQ(::seteuid(1000), 0);
  }
  ~AsUser() {
    EXPECT_EQ(::seteuid(0), 0);
    EXPECT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before_), 0);
  }
  AsUser(const AsUser&) = delete;
  AsUser& operator=(const AsUser&) = delete;

 private:
  rlimit before_{};
};

TEST_F(DmaBuf, LockedMemoryAndRegionsAreBounded) {
  const Buffer small = make_buffer(kPage, 1), large = make_buffer(kSize, 1);
  {
    const AsUser user(kSize);
    for (int i = 0; i < 20; ++i) {
      const Fd card = open_card();
      EXPECT_EQ(import_error(card, importing(large.fd.get(), 0, kPage)), 0);
      EXPECT_EQ(import_error(card, importing(small.fd.get(), 0, kPage)), EDQUOT);
    }
  }
  // Few: a kernel that looks for mistakes takes a page that is mapped eight times for
  // one.
  const std::string quota = std::string(kSysfs) + "quota_regions";
  const std::string before = read_file(quota);
  ASSERT_TRUE(write_file(quota, "4"));
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(import_error(card_, importing(small.fd.get(), 0, kPage)), 0);
  EXPECT_EQ(import_error(card_, importing(small.fd.get(), 0, kPage)), EDQUOT);
  EXPECT_TRUE(write_file(quota, before));
}

// ---- Whose it is ----

TEST_F(DmaBuf, TwoContextsSeeTheirOwnOnly) {
  const Buffer mine = make_buffer(kPage, 1), theirs = make_buffer(kPage, 50);
  const Fd other = open_card();
  const std::uint32_t own = import(mine, 0, kPage), queue = make_queue(other, 8).out_id;
  std::uint32_t neighbours = 0;
  ASSERT_EQ(import_error(other, importing(theirs.fd.get(), 0, kPage), &neighbours), 0);
  ASSERT_NE(own, neighbours);
  const std::vector<std::uint8_t> before = bytes_of(mine.seen);
  const auto theirs_run = [&](const speckv_desc& desc) {
    return code_of(carry_out(other, queue, desc));
  };
  EXPECT_EQ(theirs_run(copy(own, 0, neighbours, 0, 64)), SPECKV_CPL_BAD_REGION);
  EXPECT_EQ(theirs_run(copy(neighbours, 0, own, 0, 64)), SPECKV_CPL_BAD_REGION);
  EXPECT_EQ(run(copy(neighbours, 0, own, 0, 64)), SPECKV_CPL_BAD_REGION);
  speckv_object args{};
  args.id = own;
  EXPECT_EQ(call(other, SPECKV_IOC_REGION_DESTROY, args), ENOENT);
  EXPECT_EQ(bytes_of(mine.seen), before);
  // Whoever has the file has its memory: the same, each by a number of its own.
  std::uint32_t shared = 0;
  ASSERT_EQ(import_error(other, importing(mine.fd.get(), 0, kPage), &shared), 0);
  EXPECT_NE(shared, own);
  EXPECT_EQ(theirs_run(copy(neighbours, 0, shared, 0, 64)), SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(mine.seen.at, theirs.seen.at, 64), 0);
}

// ---- Resets and removal ----

TEST_F(DmaBuf, AResetKeepsIt) {
  const Buffer buffer = make_buffer(kSize, 8);
  const std::uint32_t source = import(buffer, kPage, kPage);
  const speckv_region_create memory = make_region(card_, kPage);
  const Mapping seen(card_.get(), memory.out_mmap_offset, kPage);
  ASSERT_TRUE(write_file(std::string(kSysfs) + "reset", "1"));
  speckv_object args{};
  args.id = queue_;
  EXPECT_EQ(call(card_, SPECKV_IOC_QUEUE_RESET, args), 0);
  EXPECT_EQ(run(copy(source, 0, memory.out_id, 0, kPage)), SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(seen.at, buffer.seen.bytes() + kPage, kPage), 0);
}

// Imports and gives back until the card has gone.
void import_until_gone(const Fd& card, const Buffer& buffer,
                       std::atomic<std::uint32_t>* done) {
  for (int error = 0; error == 0;) {
    speckv_object args{};
    error = import_error(card, importing(buffer.fd.get(), 0, kSize), &args.id);
    if (error == 0) error = call(card, SPECKV_IOC_REGION_DESTROY, args);
    EXPECT_TRUE(error == 0 || error == ENODEV) << std::strerror(error);
    ++*done;
  }
}

// The card lets go of all of it at once, though its files are open.
TEST_F(DmaBuf, ACardMayGoWhileItImportsAndReads) {
  const Home home("speckv1");
  for (std::uint32_t round = 0; round < scaled(4); ++round) {
    const Buffer buffer = make_buffer(kSize, 8);
    Fd card = open_card(kSecond);
    std::uint32_t id = 0;
    ASSERT_EQ(import_error(card, importing(buffer.fd.get(), 0, kSize), &id), 0);
    const std::vector<speckv_desc> descs(
        8, copy(id, 0, make_region(card, kSize).out_id, 0, kSize));
    std::atomic<std::uint32_t> done{0};
    Fd one = open_card(kSecond), other = open_card(kSecond);  // while it is there
    std::thread first([&] { import_until_gone(one, buffer, &done); });
    std::thread second([&] { import_until_gone(other, buffer, &done); });
    while (done < 20 * (round + 1))
      std::this_thread::yield();
    EXPECT_EQ(submit(card, make_queue(card, 8).out_id, descs.data(), 8), 0);
    ASSERT_TRUE(home.unbind());
    first.join();
    second.join();
    EXPECT_EQ(attachments(), 0U);
    EXPECT_EQ(import_error(card, importing(buffer.fd.get(), 0, kSize)), ENODEV);
    for (Fd* each : {&card, &one, &other})
      each->reset();
    EXPECT_EQ(settled(buffers, 1), 1U);
    ASSERT_TRUE(home.bind());
    ASSERT_EQ(::access(kSecond, R_OK | W_OK), 0);
  }
}

// ---- What needs no dma-buf ----

TEST(Import, WhatIsNoDmaBufIsRefused) {
  const Fd card = open_card(), event(::eventfd(0, EFD_CLOEXEC)),
           file(::memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), kPage), 0);
  const std::size_t before = locked_kib();
  for (const int fd : {-1, -2, 900, card.get(), event.get(), file.get()})
    EXPECT_EQ(import_error(card, importing(fd, 0, kPage)), EINVAL) << fd;
  EXPECT_EQ(import_error(card, importing(-1, 0, kPage, 2)), EINVAL);
  EXPECT_EQ(import_error(card, importing(-1, 0, kPage, 4)), EOPNOTSUPP);
  EXPECT_EQ(locked_kib(), before);
  EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))), SPECKV_CPL_OK);
}

}  // namespace
}  // namespace guest

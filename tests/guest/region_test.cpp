// Memory: bytes that are copied are compared; what is not a region's is never touched.
#include <memory>
#include <vector>

#include "card.hpp"
#include "card_codes.h"

namespace guest {
namespace {

constexpr std::size_t kSize = 16 * kPage;

// A page-aligned buffer that starts as a pattern.
Mapping buffer(std::size_t bytes, std::uint8_t seed) {
  Mapping memory;
  memory.at =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memory.length = bytes;
  for (std::size_t i = 0; i < bytes; ++i)
    memory.bytes()[i] = static_cast<std::uint8_t>(i * 7 + i / 256 + seed);
  return memory;
}

class Regions : public ::testing::Test {
 protected:
  Fd card_ = open_card();
  std::uint32_t queue_ = make_queue(card_, 16).out_id;
  unsigned run(const speckv_desc& desc, std::uint32_t* result = nullptr) {
    const speckv_cpl cpl = carry_out(card_, queue_, desc);
    if (result != nullptr) *result = cpl.result;
    return code_of(cpl);
  }
};

TEST_F(Regions, BytesGoToTheCardAndComeBack) {
  const Mapping from = buffer(kSize, 1), to = buffer(kSize, 99);
  const std::uint32_t source = make_region(card_, kSize, from.at).out_id;
  const std::uint32_t target = make_region(card_, kSize, to.at).out_id;
  const speckv_region_create memory = make_region(card_, kSize);
  const std::vector<std::uint8_t> before(to.bytes(), to.bytes() + kSize);
  std::uint32_t result = 0;
  EXPECT_EQ(run(copy(source, 5, memory.out_id, 77, 5000), &result), SPECKV_CPL_OK);
  EXPECT_EQ(result, 5000U);
  const Mapping seen(card_.get(), memory.out_mmap_offset, kSize);
  ASSERT_TRUE(seen.good());
  EXPECT_EQ(std::memcmp(seen.bytes() + 77, from.bytes() + 5, 5000), 0);
  EXPECT_EQ(seen.bytes()[76], 0);
  EXPECT_EQ(seen.bytes()[77 + 5000], 0);
  EXPECT_EQ(run(copy(memory.out_id, 77, target, 4093, 5000)), SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(to.bytes() + 4093, from.bytes() + 5, 5000), 0);
  EXPECT_EQ(std::memcmp(to.bytes(), before.data(), 4093), 0);
  EXPECT_EQ(std::memcmp(to.bytes() + 9093, before.data() + 9093, kSize - 9093), 0);
}

// D12: only what was registered can be named; no number and no offset leads elsewhere.
TEST_F(Regions, NothingOutsideIsReached) {
  const Mapping from = buffer(kSize, 1);
  const std::uint32_t user = make_region(card_, kSize, from.at).out_id;
  const std::uint32_t memory = make_region(card_, kSize).out_id;
  const std::uint64_t far = ~std::uint64_t{0};
  const std::pair<std::uint64_t, std::uint32_t> outside[] = {
      {kSize, 1}, {kSize - 1, 2}, {0, kSize + 1}, {far, 1}, {far - 63, 64}, {far / 2, 8}};
  for (const auto& [offset, length] : outside) {
    EXPECT_EQ(run(copy(user, offset, memory, 0, length)), SPECKV_CPL_BAD_REGION);
    EXPECT_EQ(run(copy(memory, 0, user, offset, length)), SPECKV_CPL_BAD_REGION);
  }
  for (const std::uint32_t id : {0U, 4095U, 4096U, 0xffffffffU}) {
    EXPECT_EQ(run(copy(id, 0, memory, 0, 1)), SPECKV_CPL_BAD_REGION);
    EXPECT_EQ(run(copy(memory, 0, id, 0, 1)), SPECKV_CPL_BAD_REGION);
  }
  EXPECT_EQ(run(copy(user, kSize - 1, memory, kSize - 1, 1)), SPECKV_CPL_OK);
}

TEST_F(Regions, AReadOnlyRegionIsNotWritten) {
  const Mapping from = buffer(kSize, 1);
  const std::vector<std::uint8_t> before(from.bytes(), from.bytes() + kSize);
  const std::uint32_t user =
      make_region(card_, kSize, from.at, SPECKV_REGION_READ_ONLY).out_id;
  const std::uint32_t memory = make_region(card_, kSize).out_id;
  EXPECT_EQ(run(copy(memory, 0, user, 0, 64)), SPECKV_CPL_BAD_REGION);
  EXPECT_EQ(std::memcmp(from.at, before.data(), kSize), 0);
  EXPECT_EQ(run(copy(user, 0, memory, 0, 64)), SPECKV_CPL_OK);
}

TEST_F(Regions, ReadOnlyPagesCannotBeGivenForWriting) {
  Mapping pages = buffer(kPage, 1);
  ASSERT_EQ(::mprotect(pages.at, kPage, PROT_READ), 0);
  speckv_region_create args{};
  args.flags = SPECKV_REGION_USER;
  args.length = kPage;
  args.user_va = reinterpret_cast<std::uintptr_t>(pages.at);
  EXPECT_EQ(call(card_, SPECKV_IOC_REGION_CREATE, args), EFAULT);
  args.flags |= SPECKV_REGION_READ_ONLY;
  EXPECT_EQ(call(card_, SPECKV_IOC_REGION_CREATE, args), 0);
}

TEST_F(Regions, FillRepeatsItsPattern) {
  const speckv_region_create memory = make_region(card_, kPage);
  const Mapping seen(card_.get(), memory.out_mmap_offset, kPage);
  speckv_desc desc{};
  desc.opcode = SPECKV_OP_FILL;
  desc.dst_region = memory.out_id;
  desc.dst_offset = 3;
  desc.length = 21;
  desc.fill.pattern = 0x0807060504030201ULL;
  std::uint32_t result = 0;
  EXPECT_EQ(run(desc, &result), SPECKV_CPL_OK);
  EXPECT_EQ(result, 21U);
  for (std::size_t i = 0; i < kPage; ++i) {
    const bool inside = i >= 3 && i < 24;
    ASSERT_EQ(seen.bytes()[i], inside ? (i - 3) % 8 + 1 : 0) << i;
  }
}

// The codec raw: exactly a layer in, exactly a layer out.
TEST_F(Regions, RawLayersAreEncodedAndDecoded) {
  const Mapping from = buffer(kSize, 3), to = buffer(kSize, 50);
  const std::uint32_t source = make_region(card_, kSize, from.at).out_id;
  const std::uint32_t target = make_region(card_, kSize, to.at).out_id;
  const std::uint32_t memory = make_region(card_, kSize).out_id;
  speckv_desc desc = copy(source, 0, memory, 64, 2 * 4 * 32 * 16 * 2);
  desc.opcode = SPECKV_OP_ENCODE;
  desc.codec.codec = SPECKV_CODEC_RAW;
  desc.codec.room = kPage * 4;
  desc.codec.heads = 4;
  desc.codec.head_dim = 32;
  desc.tokens = 16;
  std::uint32_t result = 0;
  EXPECT_EQ(run(desc, &result), SPECKV_CPL_OK);
  EXPECT_EQ(result, desc.length);
  speckv_desc back = desc;
  back.opcode = SPECKV_OP_DECODE;
  std::swap(back.src_offset, back.dst_offset);
  back.src_region = memory;
  back.dst_region = target;
  EXPECT_EQ(run(back, &result), SPECKV_CPL_OK);
  EXPECT_EQ(std::memcmp(to.at, from.at, desc.length), 0);
  back.length -= 1;
  EXPECT_EQ(run(back), SPECKV_CPL_CORRUPTED);
  back.length += 1;
  back.codec.room = 100;
  EXPECT_EQ(run(back), SPECKV_CPL_NO_SPACE);
  desc.codec.codec = SPECKV_CODEC_KVQ4;
  EXPECT_EQ(run(desc), has_codec(card_, SPECKV_CODEC_KVQ4)
                           ? SPECKV_CPL_UNENCODABLE  // the pattern has infinities
                           : SPECKV_CPL_UNSUPPORTED);
  desc.codec.codec = SPECKV_CODEC_RAW;
  desc.dst_offset = 1;
  EXPECT_EQ(run(desc), SPECKV_CPL_BAD_DESC);
}

TEST_F(Regions, MemoryIsCountedAndGivenBackZeroed) {
  const std::uint64_t before = query(card_).out_free;
  for (int i = 0; i < 20; ++i) {
    const speckv_region_create memory = make_region(card_, kSize);
    Mapping seen(card_.get(), memory.out_mmap_offset, kSize);
    ASSERT_TRUE(seen.good());
    for (std::size_t at = 0; at < kSize; ++at)
      ASSERT_EQ(seen.bytes()[at], 0);
    std::memset(seen.at, 0xa5, kSize);
    EXPECT_EQ(query(card_).out_free, before - kSize);
    speckv_object args{};
    args.id = memory.out_id;
    EXPECT_EQ(call(card_, SPECKV_IOC_REGION_DESTROY, args), 0);
    // Still mapped: still ours, and nobody else's.
    EXPECT_EQ(query(card_).out_free, before - kSize);
    EXPECT_EQ(seen.bytes()[kSize - 1], 0xa5);
    seen.reset();
    EXPECT_EQ(query(card_).out_free, before);
  }
}

std::size_t locked_kib() {
  const std::string status = read_file("/proc/self/status");
  return std::stoul(status.substr(status.find("VmLck:") + 6));
}

TEST_F(Regions, PinnedPagesAreAccountedAndReleased) {
  const Mapping memory = buffer(kSize, 1);
  const std::size_t before = locked_kib();
  const speckv_region_create first = make_region(card_, kSize, memory.at);
  EXPECT_EQ(locked_kib(), before + kSize / 1024);
  speckv_object args{};
  args.id = first.out_id;
  EXPECT_EQ(call(card_, SPECKV_IOC_REGION_DESTROY, args), 0);
  EXPECT_EQ(locked_kib(), before);
  make_region(card_, kSize, memory.at);
  card_.reset();
  EXPECT_EQ(locked_kib(), before);
}

// The card's own memory is no place to be pinned for ever. A BAR cannot be; what a
// software card has works, and ends well.
TEST_F(Regions, AMappingOfTheCardMayBeARegionToo) {
  const speckv_region_create memory = make_region(card_, kSize);
  Mapping seen(card_.get(), memory.out_mmap_offset, kSize);
  if (on_pci()) {
    speckv_region_create args{};
    args.flags = SPECKV_REGION_USER;
    args.length = kSize;
    args.user_va = reinterpret_cast<std::uintptr_t>(seen.at);
    EXPECT_EQ(call(card_, SPECKV_IOC_REGION_CREATE, args), EFAULT);
    return;
  }
  const std::uint32_t alias = make_region(card_, kSize, seen.at).out_id;
  seen.bytes()[0] = 42;
  EXPECT_EQ(run(copy(alias, 0, memory.out_id, kPage, 1)), SPECKV_CPL_OK);
  EXPECT_EQ(seen.bytes()[kPage], 42);
}

TEST_F(Regions, InjectedFaultsHaveTheirCodes) {
  const Mapping from = buffer(kPage, 1);
  const std::uint32_t user = make_region(card_, kPage, from.at).out_id;
  const std::uint32_t memory = make_region(card_, kPage).out_id;
  const auto inject = [](int kind, std::uint64_t argument) {
    return write_file(std::string(kDebugfs) + "inject",
                      std::to_string(kind) + ' ' + std::to_string(argument));
  };
  ASSERT_TRUE(inject(SPECKV_INJECT_BUS_READ, 0));
  EXPECT_EQ(run(copy(user, 0, memory, 0, 64)), SPECKV_CPL_BUS_ERROR);
  EXPECT_EQ(run(copy(user, 0, memory, 0, 64)), SPECKV_CPL_OK);
  ASSERT_TRUE(inject(SPECKV_INJECT_BUS_WRITE, 0));
  EXPECT_EQ(run(copy(memory, 0, user, 0, 64)), SPECKV_CPL_BUS_ERROR);
  EXPECT_EQ(run(copy(memory, 0, user, 0, 64)), SPECKV_CPL_OK);
  EXPECT_FALSE(inject(99, 0));
}

// Poison is healed by whoever writes all of its line, and by nobody else: not by a few
// bytes at the beginning of the card's memory, where there is no whole line.
TEST_F(Regions, PoisonStaysUntilItsWholeLineIsWritten) {
  ASSERT_EQ(query(card_).out_free, query(card_).out_memory) << "somebody has memory";
  const std::uint32_t first = make_region(card_, kPage).out_id;  // where memory begins
  const std::uint32_t other = make_region(card_, kPage).out_id;
  constexpr std::uint64_t kLine = 640;
  ASSERT_TRUE(
      write_file(std::string(kDebugfs) + "inject",
                 std::to_string(SPECKV_INJECT_POISON) + ' ' + std::to_string(kLine + 7)));
  const auto read_line = [&] { return run(copy(first, kLine, other, 0, 64)); };
  const auto write = [&](std::uint64_t offset, std::uint32_t length) {
    EXPECT_EQ(run(copy(other, 128, first, offset, length)), SPECKV_CPL_OK);
  };
  EXPECT_EQ(read_line(), SPECKV_CPL_POISON);
  write(0, 8);
  EXPECT_EQ(read_line(), SPECKV_CPL_POISON);
  write(kLine - 64, 64);
  write(kLine + 64, 64);
  write(kLine, 63);
  write(kLine + 1, 63);
  EXPECT_EQ(read_line(), SPECKV_CPL_POISON);
  EXPECT_EQ(run(copy(first, kLine + 64, other, 0, 64)), SPECKV_CPL_OK);
  EXPECT_EQ(run(copy(first, kLine - 64, other, 0, 64)), SPECKV_CPL_OK);
  write(kLine, 64);
  EXPECT_EQ(read_line(), SPECKV_CPL_OK);
}

}  // namespace
}  // namespace guest

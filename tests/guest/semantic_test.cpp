// Steps, hints, weights, telemetry, parameters, prefetches, hints by address.
#include <vector>

#include "card.hpp"

namespace guest {
namespace {

constexpr std::uint32_t kTokens = 1U << SPECKV_CSR_BLOCK_SHIFT_RESET;

std::uint64_t address(std::uint32_t request, std::uint32_t position) {
  return std::uint64_t{request} << SPECKV_ADDRESS_REQUEST_SHIFT | position;
}

class Semantics : public ::testing::Test {
 protected:
  Fd card_ = open_card();
  std::uint32_t queue_ = make_queue(card_, 16).out_id;
  std::uint32_t memory_ = make_region(card_, kPage).out_id;
  std::uint32_t other_ = make_region(card_, kPage).out_id;

  // A named block comes to the card.
  unsigned settle(std::uint32_t request, std::uint32_t position,
                  std::uint32_t tokens = kTokens) {
    speckv_desc desc = copy(memory_, 0, other_, 0, 64);
    desc.flags = SPECKV_DESC_NAMED;
    desc.address_low = address(request, position);
    desc.address_high = request >> (64 - SPECKV_ADDRESS_REQUEST_SHIFT);
    desc.tokens = static_cast<std::uint16_t>(tokens);
    return code_of(carry_out(card_, queue_, desc));
  }
  int step(std::uint32_t value, std::uint32_t* candidates = nullptr) {
    speckv_step args{};
    args.step = value;
    const int error = call(card_, SPECKV_IOC_STEP, args);
    if (candidates != nullptr) *candidates = args.out_candidates;
    return error;
  }
  int hint(std::uint32_t what, std::uint32_t request, std::uint32_t position,
           std::uint32_t tokens, std::uint32_t due = 0, std::uint32_t* blocks = nullptr) {
    speckv_hint args{};
    args.hint = what;
    args.address_low = address(request, position);
    args.address_high = request >> (64 - SPECKV_ADDRESS_REQUEST_SHIFT);
    args.tokens = tokens;
    args.step = due;
    const int error = call(card_, SPECKV_IOC_HINT, args);
    if (blocks != nullptr) *blocks = args.out_blocks;
    return error;
  }
  speckv_telemetry telemetry() {
    speckv_telemetry told{};
    speckv_telemetry_read args{};
    args.buffer = reinterpret_cast<std::uintptr_t>(&told);
    args.length = sizeof told;
    EXPECT_EQ(call(card_, SPECKV_IOC_TELEMETRY, args), 0);
    EXPECT_EQ(args.out_length, sizeof told);
    return told;
  }
  std::vector<speckv_candidate> report(std::uint32_t which) {
    std::vector<speckv_candidate> told(SPECKV_MAX_CANDIDATES);
    speckv_telemetry_read args{};
    args.report = which;
    args.buffer = reinterpret_cast<std::uintptr_t>(told.data());
    args.length = static_cast<std::uint32_t>(told.size() * sizeof told[0]);
    EXPECT_EQ(call(card_, SPECKV_IOC_TELEMETRY, args), 0);
    told.resize(args.out_length / sizeof told[0]);
    return told;
  }
};

// With the defaults, a block is evicted after 1,023 steps without use, not earlier (D28).
TEST_F(Semantics, AnOldBlockBecomesAVictimOnce) {
  ASSERT_EQ(settle(7, 0), SPECKV_CPL_OK);
  std::uint32_t found = 0;
  EXPECT_EQ(step(1022, &found), 0);
  EXPECT_EQ(found, 0U);
  EXPECT_EQ(step(1023, &found), 0);
  EXPECT_EQ(found, 1U);
  EXPECT_EQ(step(1023, &found), 0);
  EXPECT_EQ(found, 0U);
  std::vector<speckv_candidate> victims = report(SPECKV_REPORT_VICTIMS);
  ASSERT_EQ(victims.size(), 1U);
  EXPECT_EQ(victims[0].address_low, address(7, 0));
  EXPECT_TRUE(report(SPECKV_REPORT_VICTIMS).empty());
  EXPECT_EQ(telemetry().step, 1023U);
}

TEST_F(Semantics, SharedBlocksAreNoVictims) {
  ASSERT_EQ(settle(7, 0), SPECKV_CPL_OK);
  std::uint32_t blocks = 0, found = 9;
  EXPECT_EQ(hint(SPECKV_HINT_SHARE, 7, 0, kTokens, 0, &blocks), 0);
  EXPECT_EQ(blocks, 1U);
  EXPECT_EQ(hint(SPECKV_HINT_FORGET, 7, 0, kTokens), EBUSY);
  EXPECT_EQ(step(100000, &found), 0);
  EXPECT_EQ(found, 0U);
  EXPECT_EQ(telemetry().shared, 1U);
  EXPECT_EQ(hint(SPECKV_HINT_UNSHARE, 7, 0, kTokens), 0);
  EXPECT_EQ(hint(SPECKV_HINT_UNSHARE, 7, 0, kTokens), ENOENT);
  EXPECT_EQ(step(100001, &found), 0);
  EXPECT_EQ(found, 1U);
  EXPECT_EQ(hint(SPECKV_HINT_FORGET, 7, 0, kTokens), 0);
  EXPECT_EQ(hint(SPECKV_HINT_HOT, 7, 0, kTokens), ENOENT);
  EXPECT_EQ(telemetry().blocks, 0U);
}

TEST_F(Semantics, HintsReachWhatTheyName) {
  for (std::uint32_t page = 0; page < 5; ++page)
    ASSERT_EQ(settle(0x12345678, page * kTokens), SPECKV_CPL_OK);
  std::uint32_t blocks = 0, found = 0;
  EXPECT_EQ(hint(SPECKV_HINT_HOT, 0x12345678, kTokens - 1, 2 + kTokens, 0, &blocks), 0);
  EXPECT_EQ(blocks, 3U);
  EXPECT_EQ(hint(SPECKV_HINT_PREFETCHABLE, 0x12345678, 0, 1, 3, &blocks), 0);
  EXPECT_EQ(hint(SPECKV_HINT_EVICTABLE, 0x12345678, 4 * kTokens, kTokens), 0);
  EXPECT_EQ(step(2, &found), 0);
  const auto victims = report(SPECKV_REPORT_VICTIMS);
  ASSERT_EQ(victims.size(), 1U);
  EXPECT_EQ(victims[0].address_low, address(0x12345678, 4 * kTokens));
  EXPECT_EQ(victims[0].address_high, 0x12345678U >> 7);
  EXPECT_FALSE(report(SPECKV_REPORT_PREFETCHES).empty());
}

TEST_F(Semantics, HintRules) {
  EXPECT_EQ(hint(0, 1, 0, 1), EOPNOTSUPP);
  EXPECT_EQ(hint(7, 1, 0, 1), EOPNOTSUPP);
  EXPECT_EQ(hint(SPECKV_HINT_HOT, 1, 0, 0), EINVAL);
  EXPECT_EQ(hint(SPECKV_HINT_HOT, 1, 0, 65536), EINVAL);
  EXPECT_EQ(hint(SPECKV_HINT_HOT, 1, 0xffffffff, 2), EINVAL);
  EXPECT_EQ(hint(SPECKV_HINT_HOT, 1, 0, 1, 5), EINVAL);
  EXPECT_EQ(hint(SPECKV_HINT_HOT, 1, 0, 1), ENOENT);
  speckv_hint args{};
  args.hint = SPECKV_HINT_HOT;
  args.tokens = 1;
  args.address_high = 1U << 25;
  EXPECT_EQ(call(card_, SPECKV_IOC_HINT, args), EINVAL);
  speckv_step flagged{};
  flagged.flags = 1;
  EXPECT_EQ(call(card_, SPECKV_IOC_STEP, flagged), EOPNOTSUPP);
}

TEST_F(Semantics, WeightsAreTheContextsAndChecked) {
  speckv_weights args{};
  args.recency = 1;
  args.evict = 10;
  args.prefetch = 50;
  args.hysteresis = 20;
  EXPECT_EQ(call(card_, SPECKV_IOC_WEIGHTS, args), 0);
  EXPECT_EQ(telemetry().weights, 1U);
  args.hysteresis = 21;
  EXPECT_EQ(call(card_, SPECKV_IOC_WEIGHTS, args), EINVAL);
  args.hysteresis = 0;
  args.recency = 0;
  EXPECT_EQ(call(card_, SPECKV_IOC_WEIGHTS, args), EINVAL);
  args.recency = 1;
  args.__reserved = 1;
  EXPECT_EQ(call(card_, SPECKV_IOC_WEIGHTS, args), EOPNOTSUPP);
  EXPECT_EQ(telemetry().weights, 1U);
}

TEST_F(Semantics, TelemetryRules) {
  speckv_candidate room{};
  speckv_telemetry_read args{};
  args.buffer = reinterpret_cast<std::uintptr_t>(&room);
  args.length = sizeof(speckv_telemetry) - 1;
  EXPECT_EQ(call(card_, SPECKV_IOC_TELEMETRY, args), EINVAL);
  args.report = SPECKV_REPORT_VICTIMS;
  args.length = sizeof room - 1;
  EXPECT_EQ(call(card_, SPECKV_IOC_TELEMETRY, args), EINVAL);
  args.length = sizeof room;
  args.buffer = 0;
  EXPECT_EQ(call(card_, SPECKV_IOC_TELEMETRY, args), EFAULT);
  args.report = 3;
  EXPECT_EQ(call(card_, SPECKV_IOC_TELEMETRY, args), EOPNOTSUPP);
}

TEST_F(Semantics, ParametersAreKeptAndChecked) {
  const auto set = [&](std::uint32_t param, std::uint64_t value) {
    speckv_param args{};
    args.param = param;
    args.value = value;
    return call(card_, SPECKV_IOC_PARAM_SET, args);
  };
  speckv_param args{};
  args.param = SPECKV_PARAM_PREFETCH_DEPTH;
  EXPECT_EQ(set(SPECKV_PARAM_PREFETCH_DEPTH, 0), EINVAL);
  EXPECT_EQ(set(SPECKV_PARAM_PREFETCH_DEPTH, 17), EINVAL);
  EXPECT_EQ(set(SPECKV_PARAM_PREFETCH_DEPTH, 16), 0);
  EXPECT_EQ(call(card_, SPECKV_IOC_PARAM_GET, args), 0);
  EXPECT_EQ(args.value, 16U);
  EXPECT_EQ(call(card_, SPECKV_IOC_PARAM_GET, args), EINVAL);
  EXPECT_EQ(set(SPECKV_PARAM_SCHEME, SPECKV_CODEC_KVQ4),
            has_codec(card_, SPECKV_CODEC_KVQ4) ? 0 : EINVAL);
  EXPECT_EQ(set(SPECKV_PARAM_SCHEME, 63), EINVAL);
  EXPECT_EQ(set(SPECKV_PARAM_SCHEME, 64), EINVAL);
  EXPECT_EQ(set(SPECKV_PARAM_SCHEME, SPECKV_CODEC_RAW), 0);
  EXPECT_EQ(set(3, 1), EOPNOTSUPP);
}

TEST_F(Semantics, PrefetchRules) {
  speckv_prefetch args{};
  args.region = memory_;
  args.length = kPage;
  EXPECT_EQ(call(card_, SPECKV_IOC_PREFETCH, args), 0);
  args.length = 0;
  EXPECT_EQ(call(card_, SPECKV_IOC_PREFETCH, args), EINVAL);
  args.length = kPage + 1;
  EXPECT_EQ(call(card_, SPECKV_IOC_PREFETCH, args), EINVAL);
  args.offset = ~std::uint64_t{0};
  args.length = 2;
  EXPECT_EQ(call(card_, SPECKV_IOC_PREFETCH, args), EINVAL);
  args.region = 4000;
  EXPECT_EQ(call(card_, SPECKV_IOC_PREFETCH, args), ENOENT);
}

// A stored step is a step, without a system call when the engine is awake.
TEST_F(Semantics, TheStepDoorbellIsSeen) {
  MappedQueue queue(card_, 4);
  ASSERT_TRUE(queue.good());
  std::atomic_ref<std::uint32_t>(*queue.word(SPECKV_DOORBELL_STEP)).store(77);
  queue.push(nop(0));
  ASSERT_EQ(queue.ring(), 0);
  speckv_cpl cpl;
  ASSERT_TRUE(queue.take_in_time(&cpl));
  EXPECT_EQ(telemetry().step, 77U);
}

// What debugfs says of the pages of the region of this length: hot, evictable,
// prefetchable.
std::vector<int> hints_of(std::size_t length) {
  const std::string text = read_file(std::string(kDebugfs) + "regions");
  const std::size_t at = text.find("length " + std::to_string(length) + " ");
  int hot = -1, evictable = -1, prefetchable = -1;
  if (at != std::string::npos) {
    std::sscanf(text.c_str() + at, "length %*u hot %d evictable %d prefetchable %d", &hot,
                &evictable, &prefetchable);
  }
  return {hot, evictable, prefetchable};
}

class Advice : public Semantics {
 protected:
  static constexpr std::size_t kSize = 10 * kPage;
  speckv_region_create region_ = make_region(card_, kSize);
  Mapping seen_{card_.get(), region_.out_mmap_offset, kSize};

  int advise(std::uint32_t what, const std::uint8_t* at, std::uint64_t length,
             std::uint32_t due = 0) {
    speckv_advise args{};
    args.hint = what;
    args.address = reinterpret_cast<std::uintptr_t>(at);
    args.length = length;
    args.step = due;
    return call(card_, SPECKV_IOC_ADVISE, args);
  }
};

TEST_F(Advice, PagesRememberTheirLastHint) {
  ASSERT_TRUE(seen_.good());
  EXPECT_EQ(hints_of(kSize), (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(advise(SPECKV_HINT_HOT, seen_.bytes(), kSize), 0);
  EXPECT_EQ(hints_of(kSize), (std::vector<int>{10, 0, 0}));
  EXPECT_EQ(advise(SPECKV_HINT_EVICTABLE, seen_.bytes() + kPage, 1), 0);
  EXPECT_EQ(advise(SPECKV_HINT_PREFETCHABLE, seen_.bytes() + 5 * kPage, kPage + 1, 9), 0);
  EXPECT_EQ(hints_of(kSize), (std::vector<int>{7, 1, 2}));
}

// D34: a length of 0 is a bad argument; what is not mapped is no memory.
TEST_F(Advice, Rules) {
  EXPECT_EQ(advise(SPECKV_HINT_HOT, seen_.bytes(), 0), EINVAL);
  EXPECT_EQ(advise(SPECKV_HINT_HOT, seen_.bytes() + 1, kPage), EINVAL);
  EXPECT_EQ(advise(SPECKV_HINT_HOT, seen_.bytes(), ~std::uint64_t{0}), EINVAL);
  EXPECT_EQ(advise(SPECKV_HINT_HOT, seen_.bytes(), kPage, 3), EINVAL);
  EXPECT_EQ(advise(SPECKV_HINT_SHARE, seen_.bytes(), kPage), EOPNOTSUPP);
  EXPECT_EQ(advise(0, seen_.bytes(), kPage), EOPNOTSUPP);
  EXPECT_EQ(hints_of(kSize), (std::vector<int>{0, 0, 0}));
  std::vector<std::uint8_t> heap(4 * kPage);
  const auto page = reinterpret_cast<std::uintptr_t>(heap.data() + kPage) / kPage * kPage;
  EXPECT_EQ(advise(SPECKV_HINT_HOT, reinterpret_cast<std::uint8_t*>(page), kPage),
            ENOMEM);
  // A hole in the middle: what is mapped was advised.
  ASSERT_EQ(::munmap(seen_.bytes() + 4 * kPage, kPage), 0);
  EXPECT_EQ(advise(SPECKV_HINT_HOT, seen_.bytes(), kSize), ENOMEM);
  EXPECT_EQ(hints_of(kSize), (std::vector<int>{9, 0, 0}));
  // Another context's mapping is not this one's.
  const Fd stranger = open_card();
  std::swap(card_, const_cast<Fd&>(stranger));
  EXPECT_EQ(advise(SPECKV_HINT_EVICTABLE, seen_.bytes(), kPage), ENOMEM);
  std::swap(card_, const_cast<Fd&>(stranger));
}

std::uint64_t counter(const char* name) {
  const std::string text = '\n' + read_file(std::string(kSysfs) + "telemetry");
  const std::size_t at = text.find('\n' + std::string(name) + ' ');
  return at == std::string::npos ? 0
                                 : std::stoull(text.substr(at + 2 + std::strlen(name)));
}

// What is wanted at a step is fetched when that step is near, once.
TEST_F(Advice, PrefetchesComeWhenTheirStepIsNear) {
  EXPECT_EQ(step(100), 0);
  EXPECT_EQ(advise(SPECKV_HINT_PREFETCHABLE, seen_.bytes(), 4 * kPage, 120), 0);
  EXPECT_EQ(advise(SPECKV_HINT_EVICTABLE, seen_.bytes() + kPage, kPage), 0);
  const std::uint64_t before = counter("descriptors");
  EXPECT_EQ(step(115), 0);
  EXPECT_EQ(counter("descriptors"), before + 1);
  EXPECT_EQ(step(116), 0);  // the look-ahead is 4; two ranges, for one page is not wanted
  telemetry();              // in the same queue: it is answered after them
  EXPECT_EQ(counter("descriptors"), before + 5);
  EXPECT_EQ(step(120), 0);
  EXPECT_EQ(counter("descriptors"), before + 6);
}

TEST_F(Semantics, WeightsOfTheCardAreThoseOfANewContext) {
  ASSERT_TRUE(write_file(std::string(kSysfs) + "w_r", "3"));
  EXPECT_EQ(telemetry().weights, 0x40404040U);
  card_ = open_card();
  EXPECT_EQ(telemetry().weights, 0x40404003U);
  EXPECT_TRUE(write_file(std::string(kSysfs) + "w_r", "64"));
}

TEST(Sysfs, ValuesAreCheckedAndShown) {
  const std::string folder = kSysfs;
  ASSERT_TRUE(write_file(folder + "w_r", "3"));
  EXPECT_EQ(read_file(folder + "w_r"), "3\n");
  EXPECT_FALSE(write_file(folder + "w_r", "256"));
  EXPECT_FALSE(write_file(folder + "evict_thresh", "90"));
  EXPECT_EQ(read_file(folder + "evict_thresh"), "24\n");
  EXPECT_TRUE(write_file(folder + "w_r", "64"));
  for (const char* name :
       {"w_f", "w_s", "w_d", "prefetch_thresh", "hysteresis", "version", "features",
        "codecs", "opcodes", "memory_bytes", "memory_free", "state", "contexts",
        "telemetry", "current_step"}) {
    EXPECT_FALSE(read_file(folder + name).empty()) << name;
  }
}

}  // namespace
}  // namespace guest

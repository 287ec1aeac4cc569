// One flipped bit at a time, in what a bus hands the card or takes from it, below the
// work of three queues. Where a checksum goes with the bytes, it says so; where none
// does (docs/integration.md), nobody but the command itself, or its tenant, is hurt.
#include <array>
#include <random>

#include "cxlspeckv/codec.hpp"

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "rtl/card_bench.hpp"
#include "rtl/sim.hpp"
#include "support/blocks.hpp"

namespace speckv::test {
namespace {

using namespace engine;
using sim::Bus;

constexpr std::uint32_t kQueues = 3;
// A queue's part of each memory, and all that its regions reach. Its lines lie in other
// sets of the fast buffer than its neighbours'.
constexpr std::uint64_t kHostShare = 80U << 10, kCardShare = (1U << 18) + 4096;
constexpr std::uint32_t kBytes = 6000, kPlain = 2 * 2 * 64 * 16 * 2, kRoom = 16384;
const BlockLayout kLayout{1, 2, 64, 16, DType::f16, BlockLayout::Kind::kv};
constexpr const char* kCodecs[] = {"raw", "int8", "kvq4"};

// Of a share of host memory, and of device memory: what is read, what is written.
constexpr std::uint64_t kUp = 7, kLayer = 16384, kBack = 40960, kDecoded = 49152;
constexpr std::uint64_t kCopied = 1003, kPatterned = 20000, kCoded = 32768,
                        kEncoded = 131072, kStep = 32768;

struct Share {
  std::vector<std::byte> host, card;
};
struct Range {
  bool device;
  std::uint64_t at, bytes;
};
struct Told {
  Answer answer = Answer::ok;
  std::uint32_t result = 0, crc = 0;
};

Range source_of(const Descriptor& d) {
  const auto opcode = static_cast<Opcode>(d.opcode);
  const bool reads = d.length != 0 && opcode != Opcode::fill;
  return {d.src_region % 2 == 0, d.src_offset, reads ? d.length : 0};
}
// Where it may write.
Range target_of(const Descriptor& d) {
  const bool writes = d.dst_region != 0;
  return {d.dst_region % 2 == 0, d.dst_offset, writes ? std::max(d.length, d.room) : 0};
}
bool encodes_lossy(const Descriptor& d) {
  return static_cast<Opcode>(d.opcode) == Opcode::encode && d.codec != codec::kRaw;
}
MutableBytes side(Share& share, bool device) {
  return device ? share.card : share.host;
}

// What the library makes of a descriptor.
Told carry_out(const Descriptor& d, Share& share) {
  const auto opcode = static_cast<Opcode>(d.opcode);
  const Range from = source_of(d), to = target_of(d);
  const Bytes source = side(share, from.device).subspan(from.at, from.bytes);
  const MutableBytes target = side(share, to.device).subspan(to.at, to.bytes);
  const std::uint32_t sum = crc32c(0, source);
  const bool encodes = opcode == Opcode::encode;
  std::vector<std::byte> out(kRoom);
  switch (opcode) {
    case Opcode::copy:
      std::ranges::copy(source, target.begin());
      return {Answer::ok, d.length, sum};
    case Opcode::fill:
      for (std::uint32_t i = 0; i < d.length; ++i)
        target[i] = static_cast<std::byte>(d.pattern >> 8 * (i % 8));
      return {Answer::ok, d.length, 0};
    case Opcode::encode:
    case Opcode::decode: {
      const Codec& codec = *find_codec(kCodecs[d.codec == codec::kRaw    ? 0
                                               : d.codec == codec::kInt8 ? 1
                                                                         : 2]);
      if (!encodes && sum != d.crc) return {Answer::corrupted, 0, 0};
      if (!encodes) {
        out.resize(kPlain);
        EXPECT_EQ(codec.decode({kLayout}, source, out), Code::ok);
      } else {
        const auto size = codec.encode({kLayout}, source, out);
        if (!size.ok()) return {Answer::unencodable, 0, 0};
        out.resize(*size);
      }
      std::ranges::copy(out, target.begin());
      return {Answer::ok, static_cast<std::uint32_t>(out.size()),
              encodes ? crc32c(0, out) : sum};
    }
    case Opcode::prefetch:
      return {Answer::ok, d.length, 0};
    default:
      return {};
  }
}

using Work = std::vector<std::vector<Descriptor>>;  // of each queue
constexpr std::size_t kCommands = 12;

class Flips : public testing::Test {
 protected:
  Flips() {
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      bound(kHostRegion + 2 * q, base(q, false), kHostShare);
      bound(kCardRegion + 2 * q, base(q, true), kCardShare);
    }
  }
  static std::uint64_t base(std::uint32_t q, bool device) {
    return device ? q * kCardShare : kRings + q * kHostShare;
  }
  MutableBytes memory(std::uint32_t q, bool device) {
    std::byte* const begin = device ? bench_.memory() : bench_.host();
    return {begin + base(q, device), device ? kCardShare : kHostShare};
  }
  std::array<Share, kQueues> shares() {
    const auto copy = [](Bytes b) { return std::vector<std::byte>(b.begin(), b.end()); };
    std::array<Share, kQueues> shares;
    for (std::uint32_t q = 0; q < kQueues; ++q)
      shares[q] = {copy(memory(q, false)), copy(memory(q, true))};
    return shares;
  }

  // New bytes everywhere, and every kind of command for each queue. Loads have to find
  // the sums that their saves told.
  Work renew() {
    Work work(kQueues);
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      for (const bool device : {false, true}) {
        const MutableBytes bytes = memory(q, device);
        for (std::size_t at = 0; at < bytes.size(); at += 8)
          store_le(bytes.data() + at, random_());
      }
      work[q] = commands(q);
      EXPECT_EQ(work[q].size(), kCommands);
    }
    bench_.card().stored(0, kQueues * kCardShare);
    return work;
  }

  // All of the work, at once.
  void serve(const Work& work) {
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      first_[q] = bench_.tail(q);
      for (const Descriptor& d : work[q])
        bench_.put(d, q);
    }
    for (std::uint32_t q = 0; q < kQueues; ++q)
      bench_.ring(q);
    while (bench_.card().run()) {}
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      for (std::uint32_t n = first_[q]; n < bench_.tail(q); ++n)
        EXPECT_TRUE(bench_.completed(n, q)) << "queue " << q << " command " << n;
      EXPECT_FALSE(bench_.completed(bench_.tail(q), q)) << "queue " << q;
    }
    EXPECT_EQ(bench_.read(csr::kErrorPending), 0U);
  }
  Told told(std::uint32_t q, std::size_t i) {
    const auto n = first_[q] + static_cast<std::uint32_t>(i);
    const CompletionEntry entry = bench_.entry(n, q);
    EXPECT_EQ(entry.tag, static_cast<std::uint16_t>(n));
    return {bench_.answer(n, q), entry.result, entry.crc};
  }

  // Any bit of that byte of a queue's share, the next time that it passes the bus.
  void flip(std::uint32_t q, bool device, std::uint64_t at, bool writing) {
    device_ = device;
    at_ = at;
    bit_ = static_cast<std::uint32_t>(random_() % 8);
    flip_on(bus(), writing, base(q, device) + at, bit_);
  }
  void flip_on(Bus bus, bool writing, std::uint64_t address, std::uint32_t bit) {
    const std::uint64_t beat = address / 64 * 64;
    bit += static_cast<std::uint32_t>(address - beat) * 8;
    bench_.card().flip(bus, writing, {.from = beat, .end = beat + 1, .bit = bit});
  }
  Bus bus() const { return device_ ? Bus::memory : Bus::host; }
  void toggle(Share& share) const {
    side(share, device_)[at_] ^= static_cast<std::byte>(1U << bit_);
  }
  // Whether the byte is in the range, or in one of its beats of that many bytes.
  bool within(const Range& r, std::uint64_t beat) const {
    return r.bytes != 0 && r.device == device_ && at_ >= r.at / beat * beat &&
           at_ < (r.at + r.bytes + beat - 1) / beat * beat;
  }

  enum Hurt { kNothing, kRead, kWritten };
  void expect_queue(std::uint32_t q, const std::vector<Descriptor>& work, Share share,
                    Hurt hurt = kNothing);

  CardBench bench_{{.latency = 5, .stalls = true, .budget = 400}, kQueues};
  std::mt19937_64 random_{1};
  std::array<std::uint32_t, kQueues> first_{};
  bool device_ = false;  // where the byte of the flip lies
  std::uint64_t at_ = 0;
  std::uint32_t bit_ = 0;
  std::uint32_t found_ = 0, unfound_ = 0;  // commands that were hurt

 private:
  void bound(std::uint32_t id, std::uint64_t base, std::uint64_t length) {
    const std::uint32_t at = kRegionWindow + id * kRegionStride;
    bench_.write(at + region::kBase, base);
    bench_.write(at + region::kLength, length);
  }
  std::vector<Descriptor> commands(std::uint32_t q) {
    const std::uint32_t h = kHostRegion + 2 * q, c = kCardRegion + 2 * q;
    std::vector<Descriptor> work{make(Opcode::copy, h, kUp, c, kCopied, kBytes),
                                 make(Opcode::prefetch, c, kCoded, 0, 0, 4096),
                                 make(Opcode::copy, c, kCoded, h, kBack, kBytes),
                                 make(Opcode::fill, 0, 0, c, kPatterned, kBytes),
                                 make(Opcode::fence, 0, 0, 0, 0, 0),
                                 make(Opcode::nop, 0, 0, 0, 0, 0)};
    work[3].pattern = random_();
    for (std::uint64_t i = 0; i < std::size(kCodecs); ++i) {
      const Codec& codec = *find_codec(kCodecs[i]);
      const auto plain = make_block(kLayout, Fill::normal, random_());
      std::ranges::copy(plain, memory(q, false).subspan(kLayer + i * kPlain).begin());
      const MutableBytes coded = memory(q, true).subspan(kCoded + i * kStep, kRoom);
      const auto size = *codec.encode({kLayout}, plain, coded);
      Descriptor load = make(Opcode::decode, c, kCoded + i * kStep, h,
                             kDecoded + i * kPlain, static_cast<std::uint32_t>(size));
      load.flags = flag::kCheck;
      load.crc = crc32c(0, coded.first(size));
      load.room = kPlain;
      Descriptor save =
          make(Opcode::encode, h, kLayer + i * kPlain, c, kEncoded + i * kStep, kPlain);
      save.room = kRoom;
      for (Descriptor* d : {&load, &save}) {
        d->codec = static_cast<std::uint8_t>(codec.id());
        d->heads = static_cast<std::uint16_t>(kLayout.kv_heads);
        d->head_dim = static_cast<std::uint16_t>(kLayout.head_dim);
        d->tokens = static_cast<std::uint16_t>(kLayout.tokens);
        work.push_back(*d);
      }
    }
    return work;
  }
};

// What the commands of a queue have told and written, `share` being what was there
// before. Of those that passed the byte, the first got it wrong (kRead, kWritten); a line
// that was prefetched with it keeps it.
void Flips::expect_queue(std::uint32_t q, const std::vector<Descriptor>& work,
                         Share share, Hurt hurt) {
  bool wrong = false;  // in `share`, as the commands see it
  for (std::size_t i = 0; i < work.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "queue " << q << " command " << i);
    const Descriptor& d = work[i];
    const Range from = source_of(d), to = target_of(d);
    const bool fetches = static_cast<Opcode>(d.opcode) == Opcode::prefetch;
    const bool reads_it = hurt == kRead && within(from, 64);
    if (reads_it) {
      toggle(share);
      wrong = true;
      hurt = kNothing;
    }
    const Told is = told(q, i), wanted = carry_out(d, share);
    EXPECT_EQ(is.answer, wanted.answer);
    EXPECT_EQ(is.result, wanted.result);
    EXPECT_EQ(is.crc, wanted.crc);
    if (wrong && within(from, 1) && !fetches) {
      toggle(share);
      const std::uint32_t right =
          crc32c(0, Bytes(side(share, from.device)).subspan(from.at, from.bytes));
      toggle(share);
      const bool found = is.answer == Answer::corrupted || is.crc != right;
      const bool lossy = encodes_lossy(d);  // whose sum is of what it made of them
      EXPECT_TRUE(found || lossy);
      ++(lossy ? unfound_ : found_);
    }
    if (reads_it && !fetches) {
      toggle(share);
      wrong = false;
    }
    if (wanted.answer != Answer::ok) {  // what is there then is not specified
      std::ranges::copy(memory(q, to.device).subspan(to.at, to.bytes),
                        side(share, to.device).subspan(to.at).begin());
    }
    if (hurt == kWritten && within(to, 1)) {
      toggle(share);
      hurt = kNothing;
    }
  }
  if (wrong) toggle(share);
  EXPECT_TRUE(std::ranges::equal(memory(q, false), share.host)) << "host's, of " << q;
  EXPECT_TRUE(std::ranges::equal(memory(q, true), share.card)) << "card's, of " << q;
}

TEST_F(Flips, OfWhatIsReadAreTold) {
  for (std::uint64_t round = 0; round < rtl::scaled(2, 1); ++round) {
    for (std::size_t step = 0; step < kCommands; ++step) {
      SCOPED_TRACE(testing::Message() << "round " << round << " command " << step);
      const Work work = renew();
      const auto bad = static_cast<std::uint32_t>(random_() % kQueues);
      const Range from = source_of(work[bad][step]);
      if (from.bytes == 0) continue;
      const std::uint64_t first = from.at / 64 * 64;
      const std::uint64_t last = (from.at + from.bytes - 1) | 63;  // of the last beat
      flip(bad, from.device, first + random_() % (last - first + 1), false);
      const auto before = shares();
      serve(work);
      EXPECT_TRUE(bench_.card().flipped(bus()));
      for (std::uint32_t q = 0; q < kQueues; ++q)
        expect_queue(q, work[q], before[q], q == bad ? kRead : kNothing);
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(found_, 0U);
  EXPECT_GT(unfound_, 0U);
}

TEST_F(Flips, OfWhatIsWrittenAreFoundByWhoReadsIt) {
  for (std::uint64_t round = 0; round < rtl::scaled(2, 1); ++round) {
    for (std::size_t step = 0; step < kCommands; ++step) {
      SCOPED_TRACE(testing::Message() << "round " << round << " command " << step);
      const Work work = renew();
      const auto bad = static_cast<std::uint32_t>(random_() % kQueues);
      const Descriptor& d = work[bad][step];
      const Range to = target_of(d);
      if (to.bytes == 0) continue;
      const auto before = shares();
      Share after = before[bad];
      const Told will = carry_out(d, after);
      flip(bad, to.device, to.at + random_() % will.result, true);
      serve(work);
      EXPECT_TRUE(bench_.card().flipped(bus()));
      for (std::uint32_t q = 0; q < kQueues; ++q)
        expect_queue(q, work[q], before[q], q == bad ? kWritten : kNothing);
      const Bytes written = memory(bad, to.device).subspan(to.at, will.result);
      const auto opcode = static_cast<Opcode>(d.opcode);
      if (opcode == Opcode::copy || opcode == Opcode::encode) {
        EXPECT_NE(will.crc, crc32c(0, written));
        ++found_;
      }
      if (opcode == Opcode::encode) {  // saved; now loaded
        Descriptor load = d;
        load.opcode = static_cast<std::uint8_t>(Opcode::decode);
        std::swap(load.src_region, load.dst_region);
        std::swap(load.src_offset, load.dst_offset);
        load.length = will.result;
        load.flags = flag::kCheck;
        load.crc = will.crc;
        load.room = kPlain;
        Work loads(kQueues);
        loads[bad] = {load};
        serve(loads);
        EXPECT_EQ(told(bad, 0).answer, Answer::corrupted);
      }
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(found_, 0U);
}

TEST_F(Flips, OfADescriptorStayWithItsTenant) {
  for (std::uint64_t round = 0; round < rtl::scaled(4, 1); ++round) {
    for (std::size_t step = 0; step < kCommands; ++step) {
      SCOPED_TRACE(testing::Message() << "round " << round << " command " << step);
      const Work work = renew();
      const auto bad = static_cast<std::uint32_t>(random_() % kQueues);
      const auto n = bench_.tail(bad) + static_cast<std::uint32_t>(step);
      const std::byte* const slot = bench_.slot(n, bad);
      flip_on(Bus::host, false,
              static_cast<std::uint64_t>(slot - bench_.host()) + random_() % 64,
              static_cast<std::uint32_t>(random_() % 8));
      const auto before = shares();
      serve(work);
      EXPECT_TRUE(bench_.card().flipped(Bus::host));
      for (std::uint32_t q = 0; q < kQueues; ++q) {
        if (q != bad) expect_queue(q, work[q], before[q]);
      }
      for (std::size_t i = 0; i < kCommands; ++i) {
        if (i != step) (void)told(bad, i);  // its tag
      }
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace speckv::test

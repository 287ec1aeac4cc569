// One fault at a time, at any moment of the work of four queues: a beat or a burst of
// either bus that fails, a ring that is overrun, another tenant's region. It is said
// once, by the completion of its descriptor or in the error log; nothing else is hurt;
// and the card works on.
#include <random>

#include "base/endian.hpp"
#include "rtl/card_bench.hpp"
#include "rtl/sim.hpp"

namespace speckv::test {
namespace {

using namespace engine;
using sim::Bus;
using sim::Response;

constexpr std::uint32_t kQueues = 4, kErrors = kMaxQueues;  // vector
constexpr std::uint64_t kHostShare = 96U << 10, kCardShare = 1U << 18;
constexpr std::uint32_t kBytes = 6000, kPlain = 2 * 2 * 64 * 16 * 2;
constexpr std::uint64_t kPattern = 0x0123456789abcdef;

class Faults : public testing::Test {
 protected:
  enum Kind { kBus, kOverrun, kTenant };
  // Places of a queue: of host memory, of device memory.
  static std::uint64_t host(std::uint32_t q, std::uint64_t at) {
    return kRings + q * kHostShare + at;
  }
  static std::uint64_t card(std::uint32_t q, std::uint64_t at) {
    return q * kCardShare + at;
  }
  // What is read is at the beginning of a share; what comes back, in its parts.
  static constexpr std::uint64_t kBack = 32U << 10, kDecoded = 64U << 10;
  static constexpr std::uint64_t kCopied = 1003, kPatterned = 20000, kCoded = 65536,
                                 kEncoded = 131072;

  static Descriptor coding(std::uint32_t q, Opcode opcode, std::uint64_t at,
                           std::uint32_t length) {
    const bool up = opcode == Opcode::encode;
    Descriptor d = up ? make(opcode, kHostRegion + 2 * q, host(q, 0), kCardRegion + 2 * q,
                             card(q, at), length)
                      : make(opcode, kCardRegion + 2 * q, card(q, at),
                             kHostRegion + 2 * q, host(q, kDecoded), length);
    d.codec = codec::kRaw;
    d.heads = 2;
    d.head_dim = 64;
    d.tokens = 16;
    d.room = kPlain;
    return d;
  }
  static std::vector<Descriptor> work(std::uint32_t q) {
    const std::uint32_t h = kHostRegion + 2 * q, c = kCardRegion + 2 * q;
    return {make(Opcode::copy, h, host(q, 7), c, card(q, kCopied), kBytes),
            make(Opcode::prefetch, c, card(q, kCoded), 0, 0, 4096),
            make(Opcode::fill, 0, 0, c, card(q, kPatterned), kBytes),
            coding(q, Opcode::decode, kCoded, kPlain),
            make(Opcode::copy, c, card(q, kCoded), h, host(q, kBack), kBytes),
            coding(q, Opcode::encode, kEncoded, kPlain)};
  }
  // Whether what a descriptor of work() left behind is right.
  static bool right(CardBench& bench, std::uint32_t q, std::size_t i) {
    const std::byte* h = bench.host();
    const std::byte* c = bench.memory();
    switch (i) {
      case 0:
        return std::memcmp(c + card(q, kCopied), h + host(q, 7), kBytes) == 0;
      case 2:
        for (std::uint64_t at = 0; at < kBytes; ++at) {
          if (c[card(q, kPatterned) + at] !=
              static_cast<std::byte>(kPattern >> 8 * (at % 8))) {
            return false;
          }
        }
        return true;
      case 3:
        return std::memcmp(h + host(q, kDecoded), c + card(q, kCoded), kPlain) == 0;
      case 4:
        return std::memcmp(h + host(q, kBack), c + card(q, kCoded), kBytes) == 0;
      case 5:
        return std::memcmp(c + card(q, kEncoded), h + host(q, 0), kPlain) == 0;
      default:
        return true;
    }
  }
  static bool failed(CardBench& bench, std::uint32_t q) {
    const std::uint32_t status =
        bench.read(kQueueWindow + q * kQueueStride + queue::kStatus);
    return queue::kStatusState.get(status) ==
           static_cast<std::uint64_t>(QueueState::error);
  }
  void renew(CardBench& bench) {
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      for (std::uint64_t at = 0; at < kHostShare; at += 8)
        store_le(bench.host() + host(q, at), random_());
      for (std::uint64_t at = 0; at < kCardShare; at += 8)
        store_le(bench.memory() + card(q, at), random_());
      bench.card().stored(card(q, 0), kCardShare);
    }
  }

  std::mt19937_64 random_{1};
};

TEST_F(Faults, EachIsSaidOnceAndHurtsNobodyElse) {
  CardBench bench({.latency = 5, .stalls = true, .budget = 400}, kQueues);
  std::uint32_t hurt = 0, lost = 0, quiet = 0;
  for (std::uint64_t round = 0; round < rtl::scaled(300, 40); ++round) {
    renew(bench);
    bench.interrupts(kErrors) = 0;
    const auto kind = static_cast<Kind>(random_() % 8 < 6 ? 0 : 1 + random_() % 2);
    const Bus bus = random_() % 2 == 0 ? Bus::host : Bus::memory;
    const bool writing = random_() % 2 == 0;
    const std::uint32_t bad = static_cast<std::uint32_t>(random_() % kQueues);
    SCOPED_TRACE(testing::Message() << "round " << round << " kind " << kind << " bus "
                                    << static_cast<int>(bus) << " writing " << writing);
    if (kind == kBus) {
      const std::uint64_t most = writing ? (bus == Bus::host ? 60 : 32) : 1100;
      bench.card().fail(
          bus, writing, static_cast<std::uint32_t>(1 + random_() % most),
          random_() % 2 == 0 ? Response::slave_error : Response::decode_error);
    }
    std::uint32_t first[kQueues];
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      first[q] = bench.tail(q);
      for (Descriptor d : work(q)) {
        if (static_cast<Opcode>(d.opcode) == Opcode::fill) d.pattern = kPattern;
        bench.put(d, q);
      }
    }
    if (kind == kTenant) {
      bench.put(make(Opcode::copy, kHostRegion + 2 * ((bad + 1) % kQueues), 0,
                     kCardRegion + 2 * bad, card(bad, 0), 64),
                bad);
    }
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      if (kind == kOverrun && q == bad) {
        bench.ring_at(q, first[q] + (1U << kDepthLog2) + 1);
      } else {
        bench.ring(q);
      }
      bench.run(static_cast<std::uint32_t>(random_() % 3));
    }
    while (bench.card().run()) {}

    const bool came = kind != kBus || !bench.card().unfailed(bus);
    std::uint32_t answers = 0, errors = 0;
    for (std::uint32_t q = 0; q < kQueues; ++q) {
      const bool stopped = failed(bench, q);
      errors += stopped;
      for (std::uint32_t n = first[q]; n < bench.tail(q); ++n) {
        if (!bench.completed(n, q)) {
          EXPECT_TRUE(stopped) << "queue " << q << " answers " << n - first[q]
                               << " never";
          break;
        }
        const Answer answer = bench.answer(n, q);
        if (answer == Answer::ok) {
          EXPECT_TRUE(right(bench, q, n - first[q]))
              << "queue " << q << ": " << n - first[q];
          continue;
        }
        ++answers;
        EXPECT_EQ(answer, kind == kTenant                  ? Answer::bad_region
                          : bus == Bus::memory && !writing ? Answer::poison
                                                           : Answer::bus_error);
      }
    }
    EXPECT_EQ(answers + errors, came ? 1U : 0U);
    EXPECT_EQ(bench.read(csr::kErrorPending), errors);
    EXPECT_EQ(bench.interrupts(kErrors), errors);
    if (errors != 0) {
      const std::uint32_t info = bench.read(csr::kErrorInfo);
      const auto q = static_cast<std::uint32_t>(csr::kErrorInfoQueue.get(info));
      ASSERT_LT(q, kQueues);
      EXPECT_TRUE(failed(bench, q));
      const QueueCause cause = kind == kOverrun ? QueueCause::overrun
                               : writing        ? QueueCause::completion_lost
                                                : QueueCause::fetch_failed;
      EXPECT_EQ(csr::kErrorInfoCause.get(info), static_cast<std::uint64_t>(cause));
      bench.write(csr::kErrorPop, 0);
      const std::uint32_t at = kQueueWindow + q * kQueueStride + queue::kControl;
      bench.write(at, queue::kControlReset.put(1));
      while (queue::kControlReset.get(bench.read(at)) != 0) {}
      bench.set_up_queue(q);
    }
    hurt += answers;
    lost += errors;
    quiet += !came;
    if (HasFailure()) break;
  }
  EXPECT_GT(hurt, 0U);
  EXPECT_GT(lost, 0U);
  EXPECT_LT(quiet, hurt + lost);
}

}  // namespace
}  // namespace speckv::test

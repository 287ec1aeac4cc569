// The step doorbell: how long until a store to it is seen by a thread that polls, against
// a bare exchange of two atomic words between the same two threads. On soft:'s own page.
#include <array>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "bench/report.hpp"
#include "device/soft_engine.hpp"

namespace {

using namespace speckv;

constexpr std::uint32_t kBatch = 100, kBatches = 200;
constexpr int kPairs = 25;

struct alignas(64) Word {
  std::atomic<std::uint32_t> value{0};
};

// Seconds from a store to `there` to the sight of it, and back by `back`. The median of
// short batches: one in which something else had a CPU meanwhile is long, and one among
// many.
double exchange(std::atomic<std::uint32_t>& there, std::atomic<std::uint32_t>& back) {
  const std::uint32_t first = there.load(), last = first + kBatch * kBatches;
  back.store(first);
  std::thread other([&] {
    for (std::uint32_t n = first; n != last;) {
      ++n;
      while (there.load(std::memory_order_acquire) != n) {}
      back.store(n, std::memory_order_release);
    }
  });
  std::vector<double> batches;
  for (std::uint32_t n = first; n != last;) {
    batches.push_back(bench::seconds_of([&] {
      for (std::uint32_t i = 0; i < kBatch; ++i) {
        there.store(++n, std::memory_order_release);
        while (back.load(std::memory_order_acquire) != n) {}
      }
    }));
  }
  other.join();
  return bench::median(batches) / kBatch;
}

}  // namespace

int main(int argc, char** argv) {
  bench::Report report(argc, argv);
  if (std::thread::hardware_concurrency() < 2) {
    report.skip("step_doorbell_against_ping_pong", "two threads need two CPUs");
    return report.finish();
  }
  alignas(64) static std::array<std::byte, 1 << 16> memory{};
  SoftEngine engine(engine::CardOptions{.memory = memory});
  if (!engine.start().ok()) return 1;
  Word there, back;
  std::vector<double> ratios, doorbell;
  for (int pair = 0; pair < kPairs; ++pair) {
    // The doorbells of two queues of a card that is not enabled: nobody else looks.
    const auto measure = [&](bool page) {
      return page ? exchange(engine.doorbell(0).step, engine.doorbell(1).step)
                  : exchange(there.value, back.value);
    };
    const bool first = pair % 2 == 0;
    const double a = measure(first), b = measure(!first);
    doorbell.push_back((first ? a : b) / 2);
    ratios.push_back(first ? a / b : b / a);
  }
  report.add("step_doorbell_against_ping_pong", bench::median(ratios), "ratio",
             "the same exchange between two atomic words");
  report.add("step_doorbell_visible", bench::median(doorbell) * 1e9, "ns",
             "half of a round trip between two threads");
  return report.finish();
}

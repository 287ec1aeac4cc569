// rtl/sim.hpp -- drives a verilated block: one clock, reset, valid/ready ports,
// waveforms.
//
// A port is driven between clock edges from what was decided before, so the block's own
// combinational paths from valid to ready, if it had any, could not help the bench.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include <verilated.h>

#include "sim/rtl/coverage.hpp"
#include "sim/rtl/wave.hpp"

namespace speckv::rtl {

using Random = std::mt19937_64;
using Beat = std::array<std::uint32_t, 16>;  // 64 bytes as the model keeps them

inline Beat beat_at(const std::uint8_t* bytes) {
  Beat beat;
  std::memcpy(beat.data(), bytes, sizeof beat);
  return beat;
}

// Whether a port is willing this cycle: always, at random, or in bursts.
class Willing {
 public:
  Willing() = default;
  // `percent` of all cycles, in runs of about `run` cycles.
  Willing(unsigned percent, unsigned run) : percent_(percent), run_(run) {}
  bool operator()(Random& random) {
    if (random() % run_ == 0) now_ = random() % 100 < percent_;
    return now_;
  }
  static Willing any(Random& random) {
    constexpr unsigned kPercent[] = {100, 100, 70, 50, 20};
    constexpr unsigned kRun[] = {1, 1, 4, 32};
    return {kPercent[random() % 5], kRun[random() % 4]};
  }

 private:
  unsigned percent_ = 100, run_ = 1;
  bool now_ = true;
};

// One block of type Top with ports clk_i and rst_ni. All registers and memories start
// with random bits that follow from the seed.
template <class Top>
class Sim {
 public:
  explicit Sim(std::uint64_t seed) {
    context_.randReset(2);
    context_.randSeed(static_cast<int>(seed % 0x7fffffff) + 1);
    top_ = std::make_unique<Top>(&context_);
    wave_.emplace(context_, *top_);
  }
  ~Sim() {
    // A model leaves the context that the thread names, which is that of the newest Sim.
    Verilated::threadContextp(&context_);
    top_->final();
    sim::write_coverage(context_);
    wave_->close();
    top_.reset();
  }
  Sim(const Sim&) = delete;
  Sim& operator=(const Sim&) = delete;

  Top* operator->() { return top_.get(); }
  std::uint64_t cycle() const { return cycle_; }

  // Lets what the ports drive settle; outputs may then be looked at.
  void settle() {
    top_->clk_i = 0;
    top_->eval();
    wave_->dump(cycle_, false);
  }
  // The rising edge.
  void edge() {
    top_->clk_i = 1;
    top_->eval();
    wave_->dump(cycle_, true);
    ++cycle_;
  }
  void reset(unsigned cycles = 3) {
    top_->rst_ni = 0;
    for (unsigned i = 0; i < cycles; ++i) {
      settle();
      edge();
    }
    top_->rst_ni = 1;
  }

 private:
  VerilatedContext context_;
  std::unique_ptr<Top> top_;
  std::optional<sim::Wave> wave_;
  std::uint64_t cycle_ = 0;
};

// How often random tests run: SPECKV_TEST_SCALE (docs/testing.md), never less than
// `least`.
inline std::uint64_t scaled(double count, std::uint64_t least) {
  const char* const scale = std::getenv("SPECKV_TEST_SCALE");
  const auto wanted =
      static_cast<std::uint64_t>(count * (scale != nullptr ? std::atof(scale) : 1.0));
  return wanted < least ? least : wanted;
}

}  // namespace speckv::rtl

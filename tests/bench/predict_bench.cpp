// One decision of the LSTM: a step and its answer with the state kept, and from scratch,
// 16 steps. Minimum and median, on one core.
#include <algorithm>
#include <random>
#include <string>

#include "bench/report.hpp"
#include "predict/bf16_lstm.hpp"
#include "predict/lstm.hpp"
#include "predict/return_window.hpp"

namespace {

using namespace speckv;
using namespace speckv::predict;

constexpr int kRuns = 400, kDecisions = 25;

// Microseconds a decision.
template <class Decide>
void measure(bench::Report& report, const std::string& name, const std::string& what,
             Decide&& decide) {
  std::vector<double> times;
  for (int run = 0; run < kRuns; ++run) {
    times.push_back(1e6 / kDecisions * bench::seconds_of([&] {
                      for (int i = 0; i < kDecisions; ++i)
                        decide();
                    }));
  }
  report.add(name, *std::min_element(times.begin(), times.end()), "us",
             what + ", minimum");
  report.add(name + "_median", bench::median(times), "us", what + ", median");
}

}  // namespace

int main(int argc, char** argv) {
  bench::Report report(argc, argv);
  const LstmShape symbols{
      .inputs = 64, .vocabulary = 32768, .shortlist = 512, .cluster = 64};
  const auto returns = quantise(random_weights(kReturnShape, 1));
  const auto tokens = quantise(random_weights(symbols, 1));
  if (!returns.ok() || !tokens.ok()) return 1;
  std::mt19937 random(1);
  std::array<std::array<std::int8_t, kReturnFeatures>, kHistory> input;
  for (auto& step : input) {
    for (std::int8_t& x : step)
      x = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
  }
  for (const LstmKernel& kernel : lstm_kernels()) {
    const bool chosen = &kernel == &best_lstm_kernel();
    if (!kernel.usable() || kernel.name == "scalar") continue;
    const std::string suffix = chosen ? "" : "_" + std::string(kernel.name);
    const Int8Lstm net(*returns, kernel), words(*tokens, kernel);
    Int8State state;
    std::array<std::uint32_t, kReturnClasses> all;
    std::size_t at = 0;
    measure(report, "lstm_decision" + suffix, "a step and 15 return classes", [&] {
      net.step(state, input[at++ % kHistory]);
      net.distribution(state, all);
    });
    measure(report, "lstm_decision_from_scratch" + suffix,
            "16 steps and 15 return classes", [&] {
              Int8State fresh;
              for (const auto& step : input)
                net.step(fresh, step);
              net.distribution(fresh, all);
            });
    std::array<ClassAnswer, 4> best;
    measure(report, "lstm_token_decision" + suffix,
            "a step and the best 4 of 32,768 symbols", [&] {
              words.step(state, static_cast<std::uint32_t>(random() % 32768));
              words.best(state, best);
            });
  }
  const auto rounded = round_to_bf16(random_weights(symbols, 1));
  if (!rounded.ok()) return 1;
  for (const Bf16Kernel& kernel : bf16_kernels()) {
    if (!kernel.usable()) continue;
    const Bf16Lstm words(*rounded, kernel);
    Bf16State state;
    std::array<ClassAnswer, 4> best;
    measure(report, "lstm_token_decision_bf16_" + std::string(kernel.name),
            "the same in bfloat16", [&] {
              words.step(state, static_cast<std::uint32_t>(random() % 32768));
              words.best(state, best);
            });
  }
  return report.finish();
}

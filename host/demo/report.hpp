// host/demo/report.hpp -- what the demo prints.
#pragma once

#include <string>
#include <vector>

#include "fidelity.hpp"
#include "figures.hpp"
#include "thinking.hpp"
#include "tokenizer.hpp"
#include "workload.hpp"

namespace speckv::demo {

struct Report {
  const Settings& settings;
  const WorkloadResult& workload;
  const std::vector<Fidelity>& fidelity;
  double peak_flops = 0;  // of the machine, on as many threads
  std::vector<ThinkingResult> thinking{};
};

// A prompt's end, and what the model made of it.
std::string sample_text(const WorkloadResult& result, const Tokenizer& tokenizer);
// Speeds, tiers and checks: one table.
std::string table(const Report& report);
std::vector<Figure> figures(const Report& report);
// What must hold on any machine, however slow: the first thing that does not, or ok.
Status check(const Report& report);

// A bar on standard error that is drawn over itself; nothing unless `shown`.
class ProgressBar {
 public:
  explicit ProgressBar(bool shown) noexcept : shown_(shown) {}
  ~ProgressBar();
  void draw(double done, const char* what);

 private:
  bool shown_;
  int drawn_ = -1;  // permille
};

}  // namespace speckv::demo

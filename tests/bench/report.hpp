// bench/report.hpp -- what the benchmarks share: arguments, a clock, the report.
#pragma once

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "demo/figures.hpp"

namespace speckv::bench {

template <class Work>
double seconds_of(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// REQUIRES: values.
inline double median(std::vector<double> values) {
  return *demo::median(std::move(values));
}

// Collects figures, prints them, and writes --json FILE at the end. Their bars stand in
// figures.py. Other words end the program with 2.
class Report {
 public:
  Report(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
        file_ = argv[++i];
      } else {
        std::fprintf(stderr, "%s: unknown word: %s\n", argv[0], argv[i]);
        std::exit(2);
      }
    }
  }
  void add(const std::string& name, double value, const std::string& unit,
           const std::string& baseline) {
    std::printf("%-40s %10.3f %s  (%s)\n", name.c_str(), value, unit.c_str(),
                baseline.c_str());
    figures_.push_back(
        {.name = name, .value = value, .unit = unit, .baseline = baseline});
  }
  void skip(const std::string& name, const std::string& reason) {
    std::printf("%-40s SKIPPED: %s\n", name.c_str(), reason.c_str());
    figures_.push_back({.name = name, .skipped = reason});
  }
  // The exit status of main().
  int finish() const {
    if (file_.empty()) return 0;
    const Status written = demo::write_figures(file_, figures_);
    if (!written.ok()) std::fprintf(stderr, "%s\n", written.message().c_str());
    return written.ok() ? 0 : 1;
  }

 private:
  std::string file_;
  std::vector<demo::Figure> figures_;
};

}  // namespace speckv::bench

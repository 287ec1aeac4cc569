// sim/rtl/coverage.hpp -- what of the RTL a simulation reached, for
// tests/rtl/coverage.py.
#pragma once

#include <verilated.h>
#if VM_COVERAGE
#include <atomic>
#include <cstdlib>
#include <string>

#include <unistd.h>
#include <verilated_cov.h>
#endif

namespace speckv::sim {

// Writes the counters of a model that is about to end into the folder that
// SPECKV_RTL_COVERAGE names; nothing unless it was verilated with them.
inline void write_coverage([[maybe_unused]] VerilatedContext& context) {
#if VM_COVERAGE
  static std::atomic<unsigned> models{0};
  if (const char* const folder = std::getenv("SPECKV_RTL_COVERAGE")) {
    const std::string file = std::string(folder) + "/" + std::to_string(::getpid()) +
                             "-" + std::to_string(models++) + ".dat";
    context.coveragep()->write(file.c_str());
  }
#endif
}

}  // namespace speckv::sim

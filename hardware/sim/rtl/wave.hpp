// sim/rtl/wave.hpp -- the waveform of a simulation, for ./run rtl wave.
#pragma once

#include <cstdint>

#include <verilated.h>
#if VM_TRACE
#include <cstdlib>

#include <verilated_fst_c.h>
#endif

namespace speckv::sim {

// Writes the signals of a model to the file that SPECKV_RTL_WAVE names: from cycle
// SPECKV_RTL_WAVE_FROM on, and no more than SPECKV_RTL_WAVE_CYCLES, if these are there.
// Of several models the last one stays. Nothing, unless it was verilated for that.
class Wave {
 public:
  template <class Top>
  Wave(VerilatedContext& context, [[maybe_unused]] Top& top) : context_(context) {
#if VM_TRACE
    const char* const file = std::getenv("SPECKV_RTL_WAVE");
    if (file == nullptr) return;
    from_ = number("SPECKV_RTL_WAVE_FROM", 0);
    cycles_ = number("SPECKV_RTL_WAVE_CYCLES", ~std::uint64_t{0});
    context.traceEverOn(true);
    top.trace(&trace_, 99);
    trace_.open(file);
#endif
  }

  // Before and after the rising edge of each cycle. Assertions tell it as the time.
  void dump(std::uint64_t cycle, [[maybe_unused]] bool risen) {
    context_.time(cycle);
#if VM_TRACE
    if (trace_.isOpen() && cycle >= from_ && cycle - from_ < cycles_)
      trace_.dump(2 * cycle + (risen ? 1 : 0));
#endif
  }

  // While the model is still there.
  void close() {
#if VM_TRACE
    trace_.close();
#endif
  }

 private:
  VerilatedContext& context_;
#if VM_TRACE
  static std::uint64_t number(const char* name, std::uint64_t otherwise) {
    const char* const text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
  }

  VerilatedFstC trace_;
  std::uint64_t from_ = 0, cycles_ = 0;
#endif
};

}  // namespace speckv::sim

// The checker of AXI4 ports finds each thing that it is there to find, and nothing in
// what is right.
#include <functional>

#include <gtest/gtest.h>

#include "Vaxi_checker.h"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

struct Port {
  Port() : sim(1) {
    quiet();
    sim.reset();
    tick();
  }
  void quiet() {
    sim->ar_valid = sim->r_valid = sim->aw_valid = sim->w_valid = sim->b_valid = 0;
    sim->ar_ready = sim->r_ready = sim->aw_ready = sim->w_ready = sim->b_ready = 0;
    sim->ar_addr = sim->aw_addr = 0;
    sim->ar_len = sim->aw_len = sim->r_resp = sim->b_resp = sim->r_last = sim->w_last = 0;
    sim->w_strb = ~0ULL;
    sim->r_data.m_storage[0] = sim->w_data.m_storage[0] = 0;
  }
  void tick() {
    sim.settle();
    sim.edge();
  }
  // Whole transfers.
  void ar(std::uint64_t address, int len) {
    sim->ar_valid = sim->ar_ready = 1;
    sim->ar_addr = address;
    sim->ar_len = static_cast<std::uint8_t>(len);
    tick();
    sim->ar_valid = sim->ar_ready = 0;
  }
  void aw(std::uint64_t address, int len) {
    sim->aw_valid = sim->aw_ready = 1;
    sim->aw_addr = address;
    sim->aw_len = static_cast<std::uint8_t>(len);
    tick();
    sim->aw_valid = sim->aw_ready = 0;
  }
  void r(bool last) {
    sim->r_valid = sim->r_ready = 1;
    sim->r_last = last;
    tick();
    sim->r_valid = sim->r_ready = 0;
  }
  void w(bool last) {
    sim->w_valid = sim->w_ready = 1;
    sim->w_last = last;
    tick();
    sim->w_valid = sim->w_ready = 0;
  }
  void b() {
    sim->b_valid = sim->b_ready = 1;
    tick();
    sim->b_valid = sim->b_ready = 0;
  }
  void reset_with(std::function<void()> drive) {
    sim->rst_ni = 0;
    tick();
    sim->rst_ni = 1;
    drive();
    tick();
  }

  Sim<Vaxi_checker> sim;
};

struct Rule {
  int bit;
  const char* what;
  std::function<void(Port&)> before, breaks;
};

const std::vector<Rule>& rules() {
  const auto nothing = [](Port&) {};
  const auto reading = [](Port& p) { p.ar(0, 1); };
  const auto writing = [](Port& p) { p.aw(0, 1); };
  const auto written = [](Port& p) {
    p.aw(0, 0);
    p.w(true);
  };
  // Offered and not taken, for one cycle.
  const auto ar = [](Port& p) { p.sim->ar_valid = 1, p.tick(); };
  const auto aw = [](Port& p) { p.sim->aw_valid = 1, p.tick(); };
  const auto r = [=](Port& p) { reading(p), p.sim->r_valid = 1, p.tick(); };
  const auto w = [=](Port& p) { writing(p), p.sim->w_valid = 1, p.tick(); };
  const auto b = [=](Port& p) { written(p), p.sim->b_valid = 1, p.tick(); };
  static const std::vector<Rule> all = {
      {0, "ar taken back", ar, [](Port& p) { p.sim->ar_valid = 0, p.tick(); }},
      {1, "ar_addr changes", ar, [](Port& p) { p.sim->ar_addr = 64, p.tick(); }},
      {2, "ar_len changes", ar, [](Port& p) { p.sim->ar_len = 1, p.tick(); }},
      {3, "ar at reset", nothing,
       [](Port& p) { p.reset_with([&] { p.sim->ar_valid = 1; }); }},
      {4, "r taken back", r, [](Port& p) { p.sim->r_valid = 0, p.tick(); }},
      {5, "r_data changes", r, [](Port& p) { p.sim->r_data.m_storage[0] = 1, p.tick(); }},
      {6, "r_resp changes", r, [](Port& p) { p.sim->r_resp = 2, p.tick(); }},
      {7, "r_last changes", r, [](Port& p) { p.sim->r_last = 1, p.tick(); }},
      {8, "r at reset", nothing,
       [](Port& p) { p.reset_with([&] { p.sim->r_valid = 1; }); }},
      {9, "aw taken back", aw, [](Port& p) { p.sim->aw_valid = 0, p.tick(); }},
      {10, "aw_addr changes", aw, [](Port& p) { p.sim->aw_addr = 64, p.tick(); }},
      {11, "aw_len changes", aw, [](Port& p) { p.sim->aw_len = 1, p.tick(); }},
      {12, "aw at reset", nothing,
       [](Port& p) { p.reset_with([&] { p.sim->aw_valid = 1; }); }},
      {13, "w taken back", w, [](Port& p) { p.sim->w_valid = 0, p.tick(); }},
      {14, "w_data changes", w,
       [](Port& p) { p.sim->w_data.m_storage[0] = 1, p.tick(); }},
      {15, "w_strb changes", w, [](Port& p) { p.sim->w_strb = 1, p.tick(); }},
      {16, "w_last changes", w, [](Port& p) { p.sim->w_last = 1, p.tick(); }},
      {17, "w at reset", nothing,
       [](Port& p) { p.reset_with([&] { p.sim->w_valid = 1; }); }},
      {18, "b taken back", b, [](Port& p) { p.sim->b_valid = 0, p.tick(); }},
      {19, "b_resp changes", b, [](Port& p) { p.sim->b_resp = 2, p.tick(); }},
      {20, "b at reset", nothing,
       [](Port& p) { p.reset_with([&] { p.sim->b_valid = 1; }); }},
      {21, "a read crosses 4 KB", nothing, [](Port& p) { p.ar(4096 - 64, 1); }},
      {22, "a read off a beat", nothing, [](Port& p) { p.ar(8, 0); }},
      {23, "a read of 65 beats", nothing, [](Port& p) { p.ar(0, 64); }},
      {24, "a write crosses 4 KB", nothing, [](Port& p) { p.aw(4096 - 64, 1); }},
      {25, "a write off a beat", nothing, [](Port& p) { p.aw(8, 0); }},
      {26, "a write of 65 beats", nothing, [](Port& p) { p.aw(0, 64); }},
      {27, "33 reads",
       [](Port& p) {
         for (int i = 0; i < 32; ++i)
           p.ar(0, 0);
       },
       [](Port& p) { p.ar(0, 0); }},
      {28, "33 writes",
       [](Port& p) {
         for (int i = 0; i < 32; ++i)
           p.aw(0, 0);
       },
       [](Port& p) { p.aw(0, 0); }},
      {29, "data without a read", nothing, [](Port& p) { p.r(true); }},
      {30, "a read ends early", reading, [](Port& p) { p.r(true); }},
      {30, "a read ends late", [=](Port& p) { reading(p), p.r(false); },
       [](Port& p) { p.r(false); }},
      {31, "data without a write", nothing, [](Port& p) { p.w(true); }},
      {32, "a write ends early", writing, [](Port& p) { p.w(true); }},
      {32, "a write ends late", [=](Port& p) { writing(p), p.w(false); },
       [](Port& p) { p.w(false); }},
      {33, "an answer without a write", writing, [](Port& p) { p.b(); }},
      {34, "an exclusive answer to a read", reading,
       [](Port& p) { p.sim->r_resp = 1, p.r(false); }},
      {34, "an exclusive answer to a write", written,
       [](Port& p) { p.sim->b_resp = 1, p.b(); }},
  };
  return all;
}

TEST(AxiChecker, FindsEachBrokenRule) {
  std::uint64_t found = 0;
  for (const Rule& rule : rules()) {
    Port port;
    rule.before(port);
    port.sim.settle();
    EXPECT_EQ(port.sim->broken_o, 0U) << "before: " << rule.what;
    rule.breaks(port);
    port.sim.settle();
    EXPECT_NE(port.sim->broken_o >> rule.bit & 1, 0U) << rule.what;
    found |= 1ULL << rule.bit;
  }
  EXPECT_EQ(found, (1ULL << 35) - 1) << "a rule that nothing breaks";
}

TEST(AxiChecker, FindsNothingInWhatIsRight) {
  Port port;
  for (int i = 0; i < 200; ++i) {
    port.ar(4096U * static_cast<unsigned>(i), i % 64);
    port.aw(4096U * static_cast<unsigned>(i) + 4096 - 64, 0);
    for (int beat = 0; beat <= i % 64; ++beat)
      port.r(beat == i % 64);
    port.w(true);
    port.b();
  }
  port.sim.settle();
  EXPECT_EQ(port.sim->broken_o, 0U);
}

}  // namespace
}  // namespace speckv::rtl

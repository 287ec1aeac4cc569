// Interrupt vectors: every raise is followed by a message or stays pending, no message
// without a raise, none of a masked vector, each with what the host wrote for it.
#include <array>
#include <cstdio>

#include <gtest/gtest.h>

#include "Vspeckv_msix.h"
#include "engine/contract.hpp"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

constexpr std::uint32_t kVectors = 65, kPending = 0x1000;

class Msix : public ::testing::Test {
 protected:
  Msix() {
    sim_->request_i = sim_->raise_i = sim_->mask_i = sim_->message_ready_i = 0;
    sim_->enable_i = 1;
    sim_.reset();
  }

  // One cycle; raises `vector` unless it is negative.
  void tick(int vector = -1) {
    sim_->raise_i = vector >= 0;
    sim_->vector_i = static_cast<std::uint8_t>(vector < 0 ? 0 : vector);
    sim_->message_ready_i = taking(random);
    sim_.settle();
    if (vector >= 0) {
      raised_at[static_cast<std::size_t>(vector)] = sim_.cycle();
      ++raises[static_cast<std::size_t>(vector)];
    }
    if (sim_->message_valid_o != 0 && sim_->message_ready_i != 0) take();
    sim_.edge();
  }
  void take() {
    const std::uint32_t v = sim_->message_data_o - 1000;
    ASSERT_LT(v, kVectors);
    ASSERT_EQ(sim_->message_address_o, 0xfee0'0000'0000ULL + 16 * v);
    ASSERT_FALSE(masked[v]) << v;
    ASSERT_LE(++messages[v], raises[v]) << v;
    sent_at[v] = sim_.cycle();
  }
  std::uint32_t access(std::uint32_t address, bool write, std::uint32_t value) {
    sim_->request_i = 1;
    sim_->write_i = write;
    sim_->address_i = static_cast<std::uint16_t>(address);
    sim_->write_data_i = value;
    tick();
    sim_->request_i = 0;
    for (int i = 0; i < 20000; ++i) {
      sim_.settle();
      if (sim_->done_o != 0) break;
      tick();
    }
    EXPECT_EQ(sim_->done_o, 1);
    const std::uint32_t value_read = sim_->read_data_o;
    tick();
    return value_read;
  }
  void mask(std::uint32_t v, bool on) {
    if (!on) masked[v] = false;  // its message may leave before the write is answered
    access(16 * v + 12, true, on);
    masked[v] = on;
  }
  void set_up() {
    for (std::uint32_t v = 0; v < kVectors; ++v) {
      access(16 * v, true, 16 * v);
      access(16 * v + 4, true, 0xfee0);
      access(16 * v + 8, true, 1000 + v);
    }
  }
  // Long enough for every message that can leave; then the pending bits are what was not
  // sent.
  void check_all() {
    taking = Willing();
    for (std::uint32_t i = 0; i < 8 * kVectors; ++i)
      tick();
    for (std::uint32_t v = 0; v < kVectors; ++v) {
      const bool owed = raises[v] != 0 && (messages[v] == 0 || sent_at[v] < raised_at[v]);
      const bool pending = (access(kPending + v / 32 * 4, false, 0) >> v % 32 & 1) != 0;
      // Raised while its message was on the way: pending again, and nothing owed.
      ASSERT_TRUE(masked[v] ? pending || !owed : !pending && !owed) << v;
    }
  }

  Random random{1};
  Willing taking;
  std::array<bool, kVectors> masked = [] {
    std::array<bool, kVectors> all{};
    all.fill(true);
    return all;
  }();
  std::array<std::uint64_t, kVectors> raises{}, messages{}, raised_at{}, sent_at{};
  Sim<Vspeckv_msix> sim_{11};
};

TEST_F(Msix, TheTableIsTheHosts) {
  for (std::uint32_t v = 0; v < kVectors; ++v)
    ASSERT_EQ(access(16 * v + 12, false, 0), 1U) << "not masked after power-on";
  set_up();
  for (std::uint32_t v = 0; v < kVectors; ++v) {
    ASSERT_EQ(access(16 * v, false, 0), 16 * v);
    ASSERT_EQ(access(16 * v + 4, false, 0), 0xfee0U);
    ASSERT_EQ(access(16 * v + 8, false, 0), 1000 + v);
    access(16 * v + 12, true, 0xfffffffe);
    ASSERT_EQ(access(16 * v + 12, false, 0), 0U) << "only the mask is there";
  }
  access(kPending, true, ~0U);
  for (const std::uint32_t beyond :
       {16 * kVectors, 0x7fcU, kPending, kPending + 4, kPending + 16})
    ASSERT_EQ(access(beyond, false, 0), 0U) << beyond;
}

TEST_F(Msix, EveryRaiseIsToldOrPending) {
  set_up();
  std::uint64_t total = 0;
  for (std::uint64_t round = 0; round < scaled(60, 6); ++round) {
    taking = Willing::any(random);
    const Willing often = Willing::any(random);
    Willing raising = often;
    for (int i = 0; i < 400; ++i) {
      const auto v = static_cast<std::uint32_t>(random() % kVectors);
      if (random() % 16 == 0) {
        ASSERT_NO_FATAL_FAILURE(mask(v, random() % 2 == 0));
      } else {
        ASSERT_NO_FATAL_FAILURE(
            tick(raising(random) ? static_cast<int>(random() % kVectors) : -1));
      }
    }
    ASSERT_NO_FATAL_FAILURE(check_all());
  }
  for (std::uint32_t v = 0; v < kVectors; ++v) {
    ASSERT_NO_FATAL_FAILURE(mask(v, false));
    total += raises[v];
  }
  ASSERT_NO_FATAL_FAILURE(check_all());
  std::uint64_t sent = 0;
  for (const std::uint64_t count : messages)
    sent += count;
  std::printf("%llu raises, %llu messages\n", static_cast<unsigned long long>(total),
              static_cast<unsigned long long>(sent));
  EXPECT_GT(sent, 300U);
}

TEST_F(Msix, TheFunctionsMaskHoldsAllBack) {
  set_up();
  mask(3, false);
  for (const bool by_mask : {true, false}) {
    sim_->mask_i = by_mask;
    sim_->enable_i = by_mask;
    const std::uint64_t before = messages[3];
    tick(3);
    for (int i = 0; i < 300; ++i)
      tick();
    EXPECT_EQ(messages[3], before);
    EXPECT_EQ(access(kPending, false, 0), 8U);
    sim_->mask_i = 0;
    sim_->enable_i = 1;
    check_all();
    EXPECT_EQ(messages[3], before + 1);
  }
}

TEST_F(Msix, Latency) {
  set_up();
  mask(64, false);
  tick(64);
  const std::uint64_t raised = raised_at[64];
  check_all();
  EXPECT_LE(sent_at[64] - raised, kVectors + 3);
}

}  // namespace
}  // namespace speckv::rtl

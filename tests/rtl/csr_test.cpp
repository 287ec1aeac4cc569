// The registers of the card as a whole: settings against the model of the contract
// (engine/card.hpp), the error log and the counters against their definition.
#include <deque>
#include <map>

#include <gtest/gtest.h>

#include "Vspeckv_csr.h"
#include "engine/card.hpp"
#include "engine/contract.hpp"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

namespace csr = engine::csr;

struct NoHost final : engine::HostPort {
  MutableBytes view(std::uint64_t, std::uint64_t, bool) noexcept override { return {}; }
  void interrupt(std::uint32_t) noexcept override {}
};

class Csr : public ::testing::Test {
 protected:
  Csr() {
    sim_->request_i = sim_->error_valid_i = sim_->fatal_valid_i = 0;
    sim_->invalidate_done_i = sim_->reset_done_i = 0;
    sim_->memory_bytes_i = 0x123456789000;
    sim_->more_i = 0;
    sim_->more_count_i = 0;
    for (std::uint32_t& word : sim_->count_i.m_storage)
      word = 0;
    sim_.reset();
  }
  std::uint32_t access(std::uint32_t offset, bool write, std::uint32_t value) {
    sim_->request_i = 1;
    sim_->write_i = write;
    sim_->address_i = static_cast<std::uint16_t>(offset);
    sim_->write_data_i = value;
    tick();
    sim_->request_i = 0;
    sim_.settle();
    EXPECT_EQ(sim_->done_o, 1);
    return sim_->read_data_o;
  }
  std::uint32_t read(std::uint32_t offset) { return access(offset, false, 0); }
  std::uint64_t read64(std::uint32_t offset) {
    return read(offset) | std::uint64_t{read(offset + 4)} << 32;
  }
  void write(std::uint32_t offset, std::uint32_t value) {
    access(offset, true, value);
    tick();  // what it orders has now happened
  }
  void tick() {
    sim_.settle();
    interrupts_ += sim_->error_interrupt_o;
    sim_.edge();
  }
  // A reset by register, which the rest of the card takes some cycles for.
  void reset_card() {
    write(csr::kControl, 2);
    EXPECT_EQ(read(csr::kControl) & 2, 2U);
    for (int i = 0; i < 5; ++i)
      tick();
    EXPECT_EQ(read(csr::kControl) & 2, 2U);
    EXPECT_EQ(sim_->reset_o, 1);
    sim_->reset_done_i = 1;
    tick();
    sim_->reset_done_i = 0;
    sim_.settle();
    EXPECT_EQ(sim_->reset_o, 0);
  }

  Sim<Vspeckv_csr> sim_{7};
  std::uint32_t interrupts_ = 0;
};

TEST_F(Csr, SaysWhatItIs) {
  EXPECT_EQ(read(csr::kId), engine::kContractId);
  EXPECT_EQ(read(csr::kVersion), engine::kContractMajor << 16 | engine::kContractMinor);
  EXPECT_EQ(read(csr::kLimits), 64U | 12U << 8 | 64U << 16);
  EXPECT_EQ(read(csr::kRegions), 4096U);
  EXPECT_EQ(read64(csr::kMemoryBytes), 0x123456789000U);
  // As tests/rtl/CMakeLists.txt sets the parameters.
  EXPECT_EQ(read64(csr::kFeatures), 5U);
  EXPECT_EQ(read64(csr::kCodecs), 22U);
  EXPECT_EQ(read64(csr::kBufferBytes), 65536U);
  EXPECT_EQ(read(csr::kMaxLength), 1048576U);
  EXPECT_EQ(read(csr::kMaxLayer), 32768U);
}

// What a driver can write without any queue reads back as the model's, whatever the
// order.
TEST_F(Csr, SettingsAreTheModels) {
  NoHost port;
  std::vector<std::byte> memory(4096);
  engine::CardOptions options;
  options.memory = memory;
  engine::Card model(options, port);
  constexpr std::uint32_t kRegisters[] = {csr::kControl,
                                          csr::kBlockShift,
                                          csr::kWeights,
                                          csr::kThresholds,
                                          csr::kDirectoryQuota,
                                          csr::kInjectArgument,
                                          csr::kInjectArgument + 4,
                                          csr::kStatus,
                                          csr::kFatalCause,
                                          csr::kErrorPending,
                                          csr::kErrorInfo,
                                          csr::kErrorPop,
                                          csr::kInvalidate,
                                          csr::kSnapshot,
                                          csr::kInject,
                                          0x7f0};
  Random random(1);
  std::uint32_t fatals = 0;
  for (std::uint64_t i = 0; i < scaled(50'000, 5'000); ++i) {
    const std::uint32_t offset = kRegisters[random() % std::size(kRegisters)];
    std::uint32_t value = static_cast<std::uint32_t>(random());
    if (random() % 2 == 0) value &= 0x0f0f0f0f;
    if (random() % 4 == 0) value = static_cast<std::uint32_t>(random() % 10);
    if (offset == csr::kInvalidate) continue;  // the model is never busy: below
    if (offset == csr::kControl && (value & 2) != 0) {
      if (random() % 16 != 0) continue;
      reset_card();
      model.write32(offset, value);
    } else if (offset == csr::kInject && (value & 0xff) == 1) {
      if (random() % 2 != 0) continue;
      ++fatals;
      write(offset, value);
      model.write32(offset, value);
    } else if (random() % 2 == 0) {
      write(offset, value);
      model.write32(offset, value);
    }
    for (const std::uint32_t at : kRegisters) {
      if (at == csr::kInvalidate) continue;
      ASSERT_EQ(read(at), model.read32(at))
          << at << " after " << value << " to " << offset << ", step " << i;
    }
  }
  EXPECT_GT(fatals, 0U);
}

TEST_F(Csr, FatalIsSaidOnceAndEndsWithAReset) {
  write(csr::kControl, 1);
  EXPECT_EQ(sim_->enable_o, 1);
  sim_->fatal_valid_i = 1;
  sim_->fatal_cause_i = 3;
  tick();
  tick();
  sim_->fatal_valid_i = 0;
  write(csr::kInject, 1);
  EXPECT_EQ(interrupts_, 1U);
  EXPECT_EQ(sim_->enable_o, 0);
  EXPECT_EQ(read(csr::kStatus), 6U);
  EXPECT_EQ(read(csr::kFatalCause), 3U);
  EXPECT_EQ(read64(csr::kErrorInfo), 0x83U);
  EXPECT_EQ(read(csr::kErrorPending), 1U);
  reset_card();
  EXPECT_EQ(read(csr::kStatus), 0U);
  EXPECT_EQ(read(csr::kErrorPending), 0U);
  EXPECT_EQ(read64(csr::kErrorInfo), 0U);
}

// The log keeps the oldest sixteen, the counter counts all; each raises an interrupt.
TEST_F(Csr, ErrorLog) {
  Random random(2);
  std::deque<std::uint64_t> log;
  std::uint64_t all = 0;
  for (int i = 0; i < 3000; ++i) {
    if (random() % 3 != 0) {
      const std::uint64_t entry = random() | 1;
      sim_->error_valid_i = 1;
      sim_->error_entry_i = entry;
      sim_.settle();
      ASSERT_EQ(sim_->error_ready_o, 1);
      tick();
      sim_->error_valid_i = 0;
      ++all;
      if (log.size() < 16) log.push_back(entry);
    } else if (random() % 2 == 0) {
      write(csr::kErrorPop, 0);
      if (!log.empty()) log.pop_front();
    }
    ASSERT_EQ(read(csr::kErrorPending), log.size());
    ASSERT_EQ(read64(csr::kErrorInfo), log.empty() ? 0 : log.front());
    ASSERT_EQ(read(csr::kStatus) >> 2, log.empty() ? 0U : 1U);
  }
  EXPECT_EQ(interrupts_, all);
  write(csr::kSnapshot, 0);
  EXPECT_EQ(read64(csr::kCounter + 8 * 22), all);
}

TEST_F(Csr, CountersShowTheSnapshot) {
  Random random(3);
  std::array<std::uint64_t, 32> counted{}, shown{};
  for (std::uint64_t i = 0; i < scaled(20'000, 2'000); ++i) {
    for (std::size_t n = 0; n < 22; ++n) {
      const auto add = static_cast<std::uint8_t>(random() % 4 == 0 ? random() : 0);
      counted[n] += add;
      std::uint32_t& word = sim_->count_i.m_storage[n / 4];
      word = (word & ~(0xffU << 8 * (n % 4))) | std::uint32_t{add} << 8 * (n % 4);
    }
    sim_->more_i = static_cast<std::uint8_t>(random() % 32);
    sim_->more_count_i = static_cast<std::uint32_t>(random());
    counted[sim_->more_i] += sim_->more_i < 22 ? sim_->more_count_i : 0;
    if (sim_->more_i >= 22) sim_->more_count_i = 0;
    tick();
    sim_->more_count_i = 0;
    for (std::uint32_t& word : sim_->count_i.m_storage)
      word = 0;
    if (random() % 50 == 0) {
      write(csr::kSnapshot, 1);
      shown = counted;
    }
    const auto n = static_cast<std::uint32_t>(random() % 32);
    ASSERT_EQ(read64(csr::kCounter + 8 * n), shown[n]) << n;
  }
  reset_card();
  for (std::uint32_t n = 0; n < 32; ++n)
    EXPECT_EQ(read64(csr::kCounter + 8 * n), 0U);
}

TEST_F(Csr, InvalidateIsBusyUntilDone) {
  write(csr::kInvalidate, 77);
  EXPECT_EQ(read(csr::kInvalidate), 0x80000000U | 77);
  EXPECT_EQ(sim_->invalidate_o, 1);
  EXPECT_EQ(sim_->invalidate_region_o, 77);
  write(csr::kInvalidate, 78);  // one at a time
  EXPECT_EQ(read(csr::kInvalidate), 0x80000000U | 77);
  sim_->invalidate_done_i = 1;
  tick();
  sim_->invalidate_done_i = 0;
  EXPECT_EQ(read(csr::kInvalidate), 77U);
}

TEST_F(Csr, InjectIsHandedOn) {
  write(csr::kInjectArgument, 0x1234);
  write(csr::kInjectArgument + 4, 0x5678);
  sim_->request_i = sim_->write_i = 1;
  sim_->address_i = csr::kInject;
  sim_->write_data_i = 2;
  sim_.settle();
  EXPECT_EQ(sim_->inject_o, 1);
  EXPECT_EQ(sim_->inject_kind_o, 2);
  EXPECT_EQ(sim_->inject_argument_o, 0x567800001234U);
  sim_->write_data_i = 1;
  sim_.settle();
  EXPECT_EQ(sim_->inject_o, 0);
}

}  // namespace
}  // namespace speckv::rtl

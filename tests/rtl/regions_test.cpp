// The region table against the model's (engine/memory.hpp): entries written word by word,
// ranges of every kind, one check a cycle.
#include <deque>

#include <gtest/gtest.h>

#include "Vspeckv_regions.h"
#include "engine/contract.hpp"
#include "engine/memory.hpp"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

using engine::Region;

class Regions : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kEntries = 64;

  Regions() {
    sim_->request_i = sim_->check_valid_i = sim_->clear_i = 0;
    sim_.reset();
    wait();
  }
  void tick() {
    sim_.settle();
    sim_.edge();
  }
  // Until the table is empty.
  void wait() {
    int cycles = 0;
    for (sim_.settle(); sim_->busy_o != 0; sim_.settle()) {
      ASSERT_LE(++cycles, 70);
      sim_.edge();
    }
  }
  std::uint32_t access(std::uint32_t offset, bool write, std::uint32_t value) {
    sim_->request_i = 1;
    sim_->write_i = write;
    sim_->address_i = offset;
    sim_->write_data_i = value;
    tick();
    sim_->request_i = 0;
    int cycles = 1;
    for (sim_.settle(); sim_->done_o == 0; sim_.settle()) {
      EXPECT_LE(++cycles, 3);
      sim_.edge();
    }
    const std::uint32_t read = sim_->read_data_o;
    sim_.edge();
    return read;
  }
  void write(std::uint32_t number, std::uint32_t offset, std::uint32_t value) {
    access(32 * number + offset, true, value);
    if (number == 0 || number >= kEntries) return;
    Region& r = model_[number];
    const auto half = [&](std::uint64_t& to, bool high) {
      to = high ? (to & 0xffffffff) | std::uint64_t{value} << 32
                : (to >> 32 << 32) | value;
    };
    if (offset == 0 || offset == 4) half(r.base, offset == 4);
    if (offset == 8 || offset == 12) half(r.length, offset == 12);
    if (offset == 16) r.control = value;
  }

  Sim<Vspeckv_regions> sim_{3};
  std::vector<Region> model_ = std::vector<Region>(kEntries);
};

TEST_F(Regions, AreEmptyAtFirstAndReadBack) {
  for (std::uint32_t at = 0; at < 32 * kEntries; at += 4)
    ASSERT_EQ(access(at, false, 0), 0U) << at;
  for (std::uint32_t n = 0; n < kEntries + 2; ++n) {
    for (std::uint32_t word = 0; word < 8; ++word)
      write(n, 4 * word, 1000 * n + word + 1);
  }
  for (std::uint32_t n = 0; n < kEntries + 2; ++n) {
    for (std::uint32_t word = 0; word < 8; ++word) {
      const bool there = n != 0 && n < kEntries && word < 5;
      ASSERT_EQ(access(32 * n + 4 * word, false, 0), there ? 1000 * n + word + 1 : 0U);
    }
  }
  access(34, true, 5);  // misaligned: ignored
  EXPECT_EQ(access(32, false, 0), 1001U);
  sim_->clear_i = 1;
  tick();
  sim_->clear_i = 0;
  wait();
  for (std::uint32_t at = 0; at < 32 * kEntries; at += 4)
    ASSERT_EQ(access(at, false, 0), 0U) << at;
}

TEST_F(Regions, ChecksAreTheModels) {
  Random random(1);
  struct Wanted {
    bool ok;
    Region region;
    std::uint64_t cycle;
  };
  std::deque<Wanted> wanted;
  std::uint64_t allowed = 0, refused = 0;
  const auto step = [&] {
    sim_.settle();
    ASSERT_EQ(sim_->answer_valid_o != 0,
              !wanted.empty() && wanted.front().cycle == sim_.cycle());
    if (sim_->answer_valid_o != 0) {
      const Wanted w = wanted.front();
      wanted.pop_front();
      ASSERT_EQ(sim_->answer_ok_o != 0, w.ok);
      if (w.ok) {
        ASSERT_EQ(sim_->answer_base_o, w.region.base);
        ASSERT_EQ(sim_->answer_control_o, w.region.control);
      }
      ++(w.ok ? allowed : refused);
    }
    sim_.edge();
  };
  for (int round = 0; round < 40; ++round) {
    for (std::uint32_t n = 0; n < kEntries; ++n) {
      const std::uint64_t length = random() % 4 == 0 ? random() : random() % 5000;
      write(n, 0, static_cast<std::uint32_t>(random() << random() % 4));
      write(n, 4, static_cast<std::uint32_t>(random()));
      write(n, 8, static_cast<std::uint32_t>(length));
      write(n, 12, static_cast<std::uint32_t>(length >> 32));
      std::uint32_t control =
          static_cast<std::uint32_t>(random() % 2 << 16 | random() % 32);
      if (random() % 4 != 0) control |= 0xd;
      control |= static_cast<std::uint32_t>(
                     (random() % 2 == 0 ? random() : 10 + random() % 22) % 64)
                 << 8;
      write(n, 16, control);
    }
    for (std::uint64_t i = 0; i < scaled(5000, 500); ++i) {
      const auto id =
          static_cast<std::uint32_t>(random() % 64 == 0 ? random() : random() % 66);
      const std::uint64_t size = id < kEntries ? model_[id].length : 0;
      const auto tenant = static_cast<std::uint16_t>(random() % 2);
      std::uint64_t length = random() % 6000, offset = random() % 6000;
      if (random() % 3 == 0) length = (size - offset + random() % 3 - 1) & 0xffffffff;
      if (random() % 3 == 0) offset = size - length + random() % 3 - 1;
      if (random() % 9 == 0) offset = ~random() % 5000;
      const bool writing = random() % 2 == 0;
      sim_->check_valid_i = random() % 8 != 0;
      sim_->check_region_i = id;
      sim_->check_tenant_i = tenant;
      sim_->check_offset_i = offset;
      sim_->check_length_i = static_cast<std::uint32_t>(length);
      sim_->check_writing_i = writing;
      sim_.settle();
      ASSERT_EQ(sim_->check_ready_o, 1);
      if (sim_->check_valid_i != 0) {
        const auto place =
            engine::Memory::check(model_, id, tenant, offset, length, writing);
        wanted.push_back(
            {place.has_value(), place ? place->region : Region{}, sim_.cycle() + 3});
      }
      ASSERT_NO_FATAL_FAILURE(step());
    }
    sim_->check_valid_i = 0;
    for (int i = 0; i < 5; ++i)
      ASSERT_NO_FATAL_FAILURE(step());
    ASSERT_TRUE(wanted.empty());
  }
  EXPECT_GT(allowed, 1000U);
  EXPECT_GT(refused, 1000U);
}

// A check waits for a register's read; it is neither lost nor answered wrongly.
TEST_F(Regions, ChecksWaitForReads) {
  write(1, 8, 100);
  write(1, 16, 1 | 4);
  sim_->check_valid_i = 1;
  sim_->check_region_i = 1;
  sim_->check_tenant_i = 0;
  sim_->check_offset_i = 0;
  sim_->check_length_i = 100;
  sim_->check_writing_i = 0;
  sim_->request_i = 1;
  sim_->write_i = 0;
  sim_->address_i = 32 + 16;
  sim_.settle();
  EXPECT_EQ(sim_->check_ready_o, 0);
  tick();
  sim_->request_i = 0;
  sim_.settle();
  EXPECT_EQ(sim_->check_ready_o, 1);
  tick();
  sim_->check_valid_i = 0;
  int answers = 0;
  for (int i = 0; i < 6; ++i) {
    sim_.settle();
    if (sim_->done_o != 0) {
      EXPECT_EQ(sim_->read_data_o, 5U);
    }
    if (sim_->answer_valid_o != 0) {
      ++answers;
      EXPECT_EQ(sim_->answer_ok_o, 1);
    }
    sim_.edge();
  }
  EXPECT_EQ(answers, 1);
}

}  // namespace
}  // namespace speckv::rtl

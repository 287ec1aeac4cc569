// The AXI4-Lite slave in front of registers that answer when they like: each access
// reaches them once, writes in their order and whole ones only, and each is answered
// once.
#include <deque>

#include <gtest/gtest.h>

#include "Vspeckv_lite.h"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

struct Write {
  std::uint32_t address, data;
  bool whole;
};

class Lite : public ::testing::Test {
 protected:
  Lite() {
    sim_->aw_valid_i = sim_->w_valid_i = sim_->ar_valid_i = 0;
    sim_->b_ready_i = sim_->r_ready_i = sim_->done_i = 0;
    sim_.reset();
  }

  // What the host offers, and keeps offering until it is taken.
  void offer() {
    if (sim_->aw_valid_i == 0 && aw(random)) {
      sim_->aw_valid_i = 1;
      sim_->aw_addr_i = 4 * (random() % 64);
    }
    if (sim_->w_valid_i == 0 && w(random)) {
      sim_->w_valid_i = 1;
      sim_->w_data_i = static_cast<std::uint32_t>(random());
      sim_->w_strb_i = random() % 8 == 0 ? random() % 16 : 15;
    }
    if (sim_->ar_valid_i == 0 && ar(random)) {
      sim_->ar_valid_i = 1;
      sim_->ar_addr_i = 4 * (random() % 64);
    }
    sim_->b_ready_i = b(random);
    sim_->r_ready_i = r(random);
    sim_->done_i = busy_ && bus(random);
    sim_->read_data_i = static_cast<std::uint32_t>(random());
  }

  // What the registers see.
  void registers() {
    if (sim_->done_i != 0) {
      busy_ = false;
      if (!writing_) results_.push_back(sim_->read_data_i);
    }
    if (sim_->request_o == 0) return;
    ASSERT_FALSE(busy_) << "two accesses at once";
    busy_ = true;
    writing_ = sim_->write_o != 0;
    if (writing_) {
      while (!writes_.empty() && !writes_.front().whole)
        writes_.pop_front();
      ASSERT_FALSE(writes_.empty()) << "a write that nobody sent";
      ASSERT_EQ(sim_->address_o, writes_.front().address);
      ASSERT_EQ(sim_->write_data_o, writes_.front().data);
      writes_.pop_front();
    } else {
      ASSERT_FALSE(reads_.empty()) << "a read that nobody sent";
      ASSERT_EQ(sim_->address_o, reads_.front());
      reads_.pop_front();
    }
  }

  // What the host sends and gets.
  void transfers() {
    if (sim_->b_valid_o != 0 && sim_->b_ready_i != 0) {
      ASSERT_EQ(sim_->b_resp_o, 0);
      ASSERT_LE(++answered, paired) << "an answer to no write";
    }
    if (sim_->r_valid_o != 0 && sim_->r_ready_i != 0) {
      ASSERT_FALSE(results_.empty()) << "an answer to no read";
      ASSERT_EQ(sim_->r_data_o, results_.front());
      ASSERT_EQ(sim_->r_resp_o, 0);
      results_.pop_front();
      ++read;
    }
    sent_aw_ = sim_->aw_valid_i != 0 && sim_->aw_ready_o != 0;
    sent_w_ = sim_->w_valid_i != 0 && sim_->w_ready_o != 0;
    sent_ar_ = sim_->ar_valid_i != 0 && sim_->ar_ready_o != 0;
    if (sent_aw_) addresses_.push_back(sim_->aw_addr_i);
    if (sent_w_) datas_.push_back({0, sim_->w_data_i, sim_->w_strb_i == 15});
    if (sent_ar_) reads_.push_back(sim_->ar_addr_i);
    if (addresses_.empty() || datas_.empty()) return;
    writes_.push_back({addresses_.front(), datas_.front().data, datas_.front().whole});
    addresses_.pop_front();
    datas_.pop_front();
    ++paired;
  }

  void cycle() {
    offer();
    sim_.settle();
    ASSERT_NO_FATAL_FAILURE(registers());
    ASSERT_NO_FATAL_FAILURE(transfers());
    sim_.edge();
    if (sent_aw_) sim_->aw_valid_i = 0;
    if (sent_w_) sim_->w_valid_i = 0;
    if (sent_ar_) sim_->ar_valid_i = 0;
  }

  Random random{1};
  Willing aw, w, ar, b, r, bus;
  std::uint64_t paired = 0, answered = 0, read = 0;

  Sim<Vspeckv_lite> sim_{5};
  std::deque<std::uint32_t> addresses_, reads_, results_;
  std::deque<Write> datas_, writes_;
  bool busy_ = false, writing_ = false, sent_aw_ = false, sent_w_ = false,
       sent_ar_ = false;
};

TEST_F(Lite, EachAccessHappensOnce) {
  for (std::uint64_t i = 0; i < scaled(200'000, 20'000); ++i) {
    if (i % 500 == 0) {
      for (Willing* port : {&aw, &w, &ar, &b, &r, &bus})
        *port = Willing::any(random);
    }
    ASSERT_NO_FATAL_FAILURE(cycle());
  }
  // Without more to do, all that was sent is answered. Only half a write may be left.
  aw = w = ar = Willing(0, 1);
  b = r = bus = Willing();
  for (int i = 0; i < 200; ++i)
    ASSERT_NO_FATAL_FAILURE(cycle());
  EXPECT_EQ(answered, paired);
  EXPECT_TRUE(reads_.empty() && results_.empty());
  EXPECT_GT(answered, 1000U);
  EXPECT_GT(read, 1000U);
}

// The cycles that a host waits for a register that answers at once.
TEST_F(Lite, Latency) {
  sim_->ar_valid_i = 1;
  sim_->ar_addr_i = 8;
  sim_->r_ready_i = 1;
  int cycles = 0;
  for (sim_.settle(); sim_->r_valid_o == 0; sim_.settle()) {
    const bool asked = sim_->request_o != 0;
    sim_.edge();
    sim_->ar_valid_i = 0;
    sim_->done_i = asked;
    ASSERT_LE(++cycles, 4);
  }
  EXPECT_EQ(cycles, 3);
}

}  // namespace
}  // namespace speckv::rtl

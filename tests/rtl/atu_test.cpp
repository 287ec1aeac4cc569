// Pages of regions: walks of lists against a model of both TLBs, the addresses of bursts
// against the lists; every port stalls, lists cannot be read, orders to forget and resets
// come at any moment.
#include <array>
#include <cstdio>
#include <deque>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "Vspeckv_atu.h"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

constexpr std::uint64_t kLines = 8;  // of each TLB, as it is verilated

// One side of a descriptor.
struct Side {
  bool paged = false;
  std::uint32_t region = 0, shift = 12, bytes = 1;
  std::uint64_t list = 0, offset = 0;

  std::uint64_t word(std::uint64_t at) const { return list / 8 + (at >> shift); }
  std::uint64_t first_line() const { return word(offset) / 8; }
  std::uint64_t last_line() const { return word(offset + bytes - 1) / 8; }
};

struct Burst {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  bool operator==(const Burst&) const = default;
};

class Atu : public ::testing::Test {
 protected:
  Atu() {
    for (const bool target : {false, true})
      give(target, {});
    rest();
    sim_.reset();
    forget();
    settle_down();
  }

  // ---- what lists hold ----------------------------------------------------------------

  // It changes only when everything is forgotten.
  std::uint64_t entry(std::uint64_t word) const {
    std::uint64_t x = word * 0x9e3779b97f4a7c15 + generation_;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9;
    return x ^ x >> 32;
  }
  std::uint64_t translated(const Side& side, std::uint64_t at) const {
    const std::uint64_t page = entry(side.word(at)) >> side.shift << side.shift;
    return page | (at & ((1ULL << side.shift) - 1));
  }

  // ---- the model of the TLBs ----------------------------------------------------------

  struct Line {
    std::uint32_t region = 0;
    std::uint64_t line = 0;
    bool operator==(const Line&) const = default;
  };
  void forget() {
    for (auto& tlb : tlbs_)
      tlb.fill(std::nullopt);
    ++generation_;
  }
  // The first line of the side that is not there.
  std::optional<std::uint64_t> missing(const Side& side, bool target) const {
    for (std::uint64_t line = side.first_line(); line <= side.last_line(); ++line) {
      if (tlbs_[target][line % kLines] != Line{side.region, line}) return line;
    }
    return std::nullopt;
  }

  // ---- ports --------------------------------------------------------------------------

  void rest() {
    auto& s = *sim_.operator->();
    s.flush_i = s.walk_valid_i = s.source_paged_i = s.target_paged_i = 0;
    s.read_beat_i = s.read_done_i = s.read_error_i = 0;
    s.ar_valid_i = s.aw_valid_i = s.w_valid_i = s.walk_target_i = 0;
    s.h_ar_ready_i = s.h_aw_ready_i = s.h_w_ready_i = 0;
    for (Channel& c : channels_)
      c = {};
    beats_.clear();
    owed_ = 0;
    reading_ = false;
  }
  void give(bool target, const Side& side) {
    sides_[target] = side;
    auto& s = *sim_.operator->();
    (target ? s.target_region_i : s.source_region_i) =
        static_cast<std::uint16_t>(side.region);
    (target ? s.target_list_i : s.source_list_i) = side.list;
    (target ? s.target_shift_i : s.source_shift_i) =
        static_cast<std::uint8_t>(side.shift);
    (target ? s.target_offset_i : s.source_offset_i) = side.offset;
    (target ? s.target_bytes_i : s.source_bytes_i) = side.bytes;
  }
  void send(bool write, const Burst& in, const Burst& out) {
    channels_[write].in.push_back(in);
    channels_[write].out.push_back(out);
  }
  bool moving() const {
    return !channels_[0].out.empty() || !channels_[1].out.empty() || !beats_.empty();
  }

  void cycle() {
    auto& s = *sim_.operator->();
    drive(channels_[0], s.ar_valid_i, s.ar_addr_i, s.ar_len_i);
    drive(channels_[1], s.aw_valid_i, s.aw_addr_i, s.aw_len_i);
    if (s.w_valid_i == 0 && !beats_.empty() && in_(random_)) s.w_valid_i = 1;
    if (s.w_valid_i != 0) s.w_last_i = beats_.front() == 1;
    s.h_ar_ready_i = out_(random_);
    s.h_aw_ready_i = out_(random_);
    s.h_w_ready_i = out_(random_);
    sim_.settle();
    EXPECT_TRUE(s.read_start_o == 0 || s.walk_valid_i != 0) << "read for nobody";
    const bool ar = s.ar_valid_i != 0 && s.ar_ready_o != 0;
    const bool aw = s.aw_valid_i != 0 && s.aw_ready_o != 0;
    const bool w = s.w_valid_i != 0 && s.w_ready_o != 0;
    EXPECT_EQ(w, s.h_w_valid_o != 0 && s.h_w_ready_i != 0);
    if (w) {
      EXPECT_GT(owed_, 0U) << "data before its address";
    }
    take(channels_[0], s.h_ar_valid_o, s.h_ar_ready_i, s.h_ar_addr_o, s.h_ar_len_o);
    const bool opened =
        take(channels_[1], s.h_aw_valid_o, s.h_aw_ready_i, s.h_aw_addr_o, s.h_aw_len_o);
    if (aw) beats_.push_back(channels_[1].in.front().length + 1);
    const bool closed = w && s.w_last_i != 0;
    owed_ += static_cast<std::uint32_t>(opened) - static_cast<std::uint32_t>(closed);
    sim_.edge();
    if (ar) pop(channels_[0], s.ar_valid_i);
    if (aw) pop(channels_[1], s.aw_valid_i);
    if (w) {
      s.w_valid_i = 0;
      if (--beats_.front() == 0) beats_.pop_front();
    }
  }
  void settle_down() {
    int patience = 100;
    for (sim_.settle(); sim_->busy_o != 0; sim_.settle()) {
      ASSERT_GT(--patience, 0);
      cycle();
    }
  }

  // ---- a walk -------------------------------------------------------------------------

  struct Walked {
    bool failed = false, read = false;
    std::uint64_t cycles = 0;
  };
  // The walk of a side, with its list read as the mover does, and whether it is as the
  // model has it. `stop`: cycles until it is left as it is.
  std::optional<Walked> walk(bool target, bool fails, std::uint64_t stop = ~0ULL) {
    auto& s = *sim_.operator->();
    const Side& side = sides_[target];
    const auto first = missing(side, target);
    Walked walked;
    s.walk_valid_i = 1;
    s.walk_target_i = target;
    std::uint64_t line = 0, left = 0, wait = 0;
    for (;; ++walked.cycles) {
      if (walked.cycles == stop) return std::nullopt;
      if (walked.cycles > 2000) {
        ADD_FAILURE() << "no end";
        return std::nullopt;
      }
      s.read_beat_i = s.read_done_i = 0;
      if (reading_ && left > 0 && in_(random_)) {
        s.read_beat_i = 1;
        for (std::uint32_t i = 0; i < 8; ++i) {
          const std::uint64_t word = entry(line * 8 + i);
          s.read_data_i[2 * i] = static_cast<std::uint32_t>(word);
          s.read_data_i[2 * i + 1] = static_cast<std::uint32_t>(word >> 32);
        }
        ++line;
        --left;
        wait = random_() % 4;
      } else if (reading_ && left == 0 && wait-- == 0) {
        s.read_done_i = 1;
        s.read_error_i = fails;
      }
      sim_.settle();
      EXPECT_EQ(s.reading_o != 0, reading_ || s.read_start_o != 0);
      if (s.read_start_o != 0) {
        EXPECT_FALSE(walked.read) << "read twice";
        EXPECT_TRUE(first.has_value()) << "read in vain";
        walked.read = reading_ = true;
        line = s.read_address_o / 64;
        left = s.read_bytes_o / 64;
        EXPECT_EQ(s.read_address_o, first.value_or(0) * 64);
        EXPECT_EQ(s.read_bytes_o, 64 * (side.last_line() - first.value_or(0) + 1));
      }
      const bool ended = s.read_done_i != 0, done = s.walk_done_o != 0;
      walked.failed = s.walk_failed_o != 0;
      cycle();
      if (ended) reading_ = false;
      if (done) break;
    }
    s.walk_valid_i = s.read_done_i = s.read_error_i = 0;
    EXPECT_EQ(walked.read, first.has_value());
    EXPECT_EQ(walked.failed, walked.read && fails);
    if (walked.failed) {
      tlbs_[target].fill(std::nullopt);
      sim_.settle();
      EXPECT_NE(s.busy_o, 0) << "has not forgotten yet";
    } else {
      for (std::uint64_t n = side.first_line(); n <= side.last_line(); ++n)
        tlbs_[target][n % kLines] = Line{side.region, n};
    }
    return walked;
  }

  // Few regions, lists and offsets, so that lines meet again.
  Side any_side() {
    constexpr std::uint64_t kLists[] = {0x1000, 0x1ffffff40, 0x7f00000013c0,
                                        0xffffffffffff0000};
    Side side;
    side.paged = random_() % 4 != 0;
    side.region = static_cast<std::uint32_t>(1 + random_() % 3) * 0x401;
    side.shift = static_cast<std::uint32_t>(12 + random_() % 19);
    if (random_() % 2 == 0) side.shift = 12;
    side.list = kLists[random_() % 4] + 8 * (random_() % 9);
    const std::uint64_t most = std::min<std::uint64_t>(56ULL << side.shift, 0xffffffff);
    side.bytes =
        static_cast<std::uint32_t>(1 + random_() % (random_() % 3 == 0 ? most : 9000));
    side.offset = random_() % (9ULL << side.shift);
    // Often no byte lies in the last page but its first, or the last one is whole.
    const std::uint64_t page = 1ULL << side.shift,
                        past = (side.offset + side.bytes) % page;
    if (random_() % 2 == 0 && past < side.bytes && side.bytes < most - page)
      side.bytes += static_cast<std::uint32_t>(random_() % 2 - past);
    return side;
  }
  // A burst of the job: of the range, within 4 KB.
  Burst any_burst(const Side& side) {
    const std::uint64_t at = (side.offset + random_() % side.bytes) / 64 * 64;
    const std::uint64_t room = (4096 - at % 4096) / 64;
    return {at, static_cast<std::uint32_t>(random_() % room)};
  }
  void send_any(bool write) {
    const Side& side = sides_[write];
    const Burst in = any_burst(side);
    send(write, in, {side.paged ? translated(side, in.address) : in.address, in.length});
  }
  void reset() {
    rest();
    sim_.reset(static_cast<unsigned>(1 + random_() % 3));
    forget();
    settle_down();
  }

  Random random_{7};
  Sim<Vspeckv_atu> sim_{5};
  Willing in_, out_;
  std::array<Side, 2> sides_{};

 private:
  struct Channel {
    std::deque<Burst> in{}, out{};
  };
  template <class Valid, class Address, class Length>
  void drive(Channel& c, Valid& valid, Address& address, Length& length) {
    if (valid != 0 || c.in.empty() || !in_(random_)) return;
    valid = 1;
    address = c.in.front().address;
    length = static_cast<std::uint8_t>(c.in.front().length);
  }
  template <class Valid>
  void pop(Channel& c, Valid& valid) {
    c.in.pop_front();
    valid = 0;
  }
  bool take(Channel& c, bool valid, bool ready, std::uint64_t address,
            std::uint32_t length) {
    if (!valid) return false;
    if (c.out.empty()) {
      ADD_FAILURE() << "a burst that nobody asked for";
      return false;
    }
    EXPECT_EQ(c.out.front(), (Burst{address, length})) << std::hex << address;
    if (ready) c.out.pop_front();
    return ready;
  }

  std::uint64_t generation_ = 1;
  std::array<std::array<std::optional<Line>, kLines>, 2> tlbs_{};
  std::array<Channel, 2> channels_{};
  std::deque<std::uint32_t> beats_;  // of bursts of writes whose address was taken
  std::uint32_t owed_ = 0;           // of those that the bus has
  bool reading_ = false;
};

TEST_F(Atu, FollowsListsAsTheModelDoes) {
  std::uint64_t hits = 0, reads = 0, failures = 0, resets = 0, flushes = 0, bursts = 0;
  const std::uint64_t rounds = scaled(20000, 2000);
  for (std::uint64_t n = 0; n < rounds && !HasFailure(); ++n) {
    SCOPED_TRACE("round " + std::to_string(n));
    if (n % 50 == 0) {
      in_ = Willing::any(random_);
      out_ = Willing::any(random_);
    }
    if (random_() % 40 == 0) {
      sim_->flush_i = 1;
      cycle();
      sim_->flush_i = 0;
      forget();
      ++flushes;
      if (random_() % 2 == 0) settle_down();  // else the walk waits
    }
    const bool stops = random_() % 60 == 0;
    bool failed = false, stopped = false;
    for (const bool target : {false, true})
      give(target, any_side());
    for (const bool target : {false, true}) {
      if (!sides_[target].paged || failed || stopped) continue;
      const auto walked =
          walk(target, random_() % 12 == 0, stops ? random_() % 40 : ~0ULL);
      stopped = !walked;
      if (!walked) continue;
      failed = walked->failed;
      ++(walked->failed ? failures : walked->read ? reads : hits);
    }
    if (!failed && !stopped) {
      sim_->source_paged_i = sides_[0].paged;
      sim_->target_paged_i = sides_[1].paged;
      for (std::uint64_t i = random_() % 40; i > 0; --i) {
        send_any(random_() % 2 == 0);
        ++bursts;
      }
      std::uint64_t left = stops ? random_() % 60 : 20000;
      for (; moving() && left > 0; --left)
        cycle();
      stopped = moving();
      if (!stops) {
        ASSERT_FALSE(stopped) << "hangs";
      }
      sim_->source_paged_i = sim_->target_paged_i = 0;
    }
    if (stopped) {
      reset();
      ++resets;
    }
  }
  std::printf(
      "%llu walks found all, %llu read, %llu could not; %llu bursts; %llu orders "
      "to forget, %llu resets\n",
      static_cast<unsigned long long>(hits), static_cast<unsigned long long>(reads),
      static_cast<unsigned long long>(failures), static_cast<unsigned long long>(bursts),
      static_cast<unsigned long long>(flushes), static_cast<unsigned long long>(resets));
  EXPECT_GT(hits, rounds / 20);
  EXPECT_GT(reads, rounds / 20);
  EXPECT_GT(failures, rounds / 50);
  EXPECT_GT(resets, rounds / 200);
}

// What lies in the same 64 bytes of host memory as another region's list is not known to
// be this region's.
TEST_F(Atu, RegionsDoNotShareLines) {
  Side side{true, 1, 12, 100, 0x8000, 0};
  for (const bool target : {false, true}) {
    side.region = 1;
    give(target, side);
    EXPECT_TRUE(walk(target, false)->read);
    EXPECT_FALSE(walk(target, false)->read);
    side.region = 2;
    give(target, side);
    EXPECT_TRUE(walk(target, false)->read);
  }
}

// The latencies at the top of the modules.
TEST_F(Atu, TakesAsLongAsItSays) {
  in_ = out_ = Willing();
  give(false, {true, 1, 12, 8 * 4096, 0x8000, 0});
  ASSERT_TRUE(walk(false, false)->read);
  const auto one = walk(false, false);
  ASSERT_FALSE(one->read);
  EXPECT_EQ(one->cycles, 5U);
  give(false, {true, 1, 12, 40 * 4096, 0x8000, 0});
  ASSERT_TRUE(walk(false, false)->read);
  const auto five = walk(false, false);
  ASSERT_FALSE(five->read);
  EXPECT_EQ(five->cycles, 9U);

  constexpr int kBursts = 200;
  sim_->source_paged_i = 1;
  for (int i = 0; i < kBursts; ++i)
    send_any(false);
  std::uint64_t first = 0, last = 0;
  for (std::uint64_t now = 0; moving(); ++now) {
    ASSERT_LT(now, 10U * kBursts);
    sim_.settle();
    const bool offered = sim_->h_ar_valid_o != 0;
    if (offered && first == 0) first = now;
    if (offered) last = now;
    cycle();
  }
  std::printf(
      "a walk of 1 line that is here: %llu cycles, of 5: %llu; a burst's address "
      "after %llu cycles, %d in %llu\n",
      static_cast<unsigned long long>(one->cycles),
      static_cast<unsigned long long>(five->cycles),
      static_cast<unsigned long long>(first), kBursts,
      static_cast<unsigned long long>(last - first + 1));
  EXPECT_EQ(first, 3U);
  EXPECT_EQ(last - first + 1, static_cast<std::uint64_t>(kBursts));
}

}  // namespace
}  // namespace speckv::rtl

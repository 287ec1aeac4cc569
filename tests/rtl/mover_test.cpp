// The mover's halves against memory: every alignment and length, stalls of every port,
// errors of the bus, resets; the rules of the bus are kept throughout; rate and latency.
#include <cstdio>
#include <deque>

#include <gtest/gtest.h>

#include "Vmover_bench.h"
#include "rtl/axi_memory.hpp"

namespace speckv::rtl {
namespace {

constexpr std::size_t kMemory = 1 << 18;

struct Range {
  std::uint64_t address = 0;
  std::uint32_t bytes = 0;
  std::uint32_t beats() const { return (bytes + 63) / 64; }
};

class Mover {
 public:
  explicit Mover(std::uint64_t seed) : random(seed), memory(kMemory, seed), sim_(seed) {
    for (std::uint8_t& byte : memory.bytes)
      byte = static_cast<std::uint8_t>(random());
    idle();
    sim_.reset();
  }

  Random random;
  AxiMemory<Vmover_bench> memory;
  Willing command, in, out;
  std::uint64_t first_address = 0, first_data = 0,
                last_data = 0;  // cycles of the last run

  // Commands of the last run that were carried out.
  std::size_t read() const { return given_; }
  std::size_t written() const { return done_; }

  // Reads all of `reads` while writing all of `writes` with bytes of its own; returns
  // what went wrong, or nothing. Reads and writes must not overlap. `stop_after`: cycles
  // until a reset.
  std::string run(const std::vector<Range>& reads, const std::vector<Range>& writes,
                  std::uint64_t stop_after = 0) {
    reads_ = reads;
    writes_ = writes;
    start();
    const std::uint64_t begin = sim_.cycle(),
                        stop = stop_after == 0 ? ~0ULL : begin + stop_after;
    first_address = first_data = 0;
    std::uint64_t moved = begin;
    while (!finished() && fault_.empty() && sim_.cycle() < stop) {
      if (cycle()) moved = sim_.cycle();
      if (sim_.cycle() - moved > 4000) return "hangs";
    }
    if (finished() && fault_.empty()) {
      for (int i = 0; i < 20; ++i)
        cycle();
      if (memory.bytes != expected_) fault_ = "memory holds other bytes";
      sim_.settle();
      if (sim_->idle_o != 3) fault_ = "not idle at the end";
    } else {
      idle();
      sim_.reset();
    }
    first_address -= begin;
    first_data -= begin;
    last_data -= begin;
    return fault_;
  }

 private:
  void idle() {
    sim_->read_valid_i = sim_->write_valid_i = sim_->in_valid_i = 0;
    sim_->out_ready_i = sim_->done_ready_i = 0;
    memory.reset(sim_);
  }
  bool finished() const { return given_ == reads_.size() && done_ == writes_.size(); }
  bool fails(const Range& r) const {
    for (std::uint64_t line = r.address / 64; line <= (r.address + r.bytes - 1) / 64;
         ++line) {
      if (memory.broken.contains(line)) return true;
    }
    return false;
  }

  // The bytes to write, and what memory then holds.
  void start() {
    read_ = written_ = given_ = done_ = in_ = in_beat_ = out_beat_ = 0;
    fault_.clear();
    expected_ = memory.bytes;
    sources_.clear();
    for (const Range& w : writes_) {
      std::vector<std::uint8_t> bytes(64 * w.beats());
      for (std::uint8_t& byte : bytes)
        byte = static_cast<std::uint8_t>(random());
      std::copy_n(bytes.begin(), w.bytes,
                  expected_.begin() + static_cast<std::ptrdiff_t>(w.address));
      sources_.push_back(std::move(bytes));
    }
  }

  bool cycle() {
    if (sim_->read_valid_i == 0 && read_ < reads_.size() && command(random)) {
      sim_->read_valid_i = 1;
      sim_->read_address_i = reads_[read_].address;
      sim_->read_bytes_i = reads_[read_].bytes;
    }
    if (sim_->write_valid_i == 0 && written_ < writes_.size() && command(random)) {
      sim_->write_valid_i = 1;
      sim_->write_address_i = writes_[written_].address;
      sim_->write_bytes_i = writes_[written_].bytes;
    }
    if (sim_->in_valid_i == 0 && in_ < writes_.size() && in(random)) {
      sim_->in_valid_i = 1;
      const Beat beat = beat_at(sources_[in_].data() + 64 * in_beat_);
      std::copy(beat.begin(), beat.end(), sim_->in_data_i.m_storage);
    }
    sim_->out_ready_i = out(random);
    sim_->done_ready_i = out(random);
    sim_.settle();
    if (sim_->broken_o != 0)
      fault_ = "breaks a rule of the bus: " + std::to_string(sim_->broken_o);
    const bool read = sim_->read_valid_i != 0 && sim_->read_ready_o != 0;
    const bool write = sim_->write_valid_i != 0 && sim_->write_ready_o != 0;
    const bool fed = sim_->in_valid_i != 0 && sim_->in_ready_o != 0;
    const bool given = sim_->out_valid_o != 0 && sim_->out_ready_i != 0;
    const bool done = sim_->done_valid_o != 0 && sim_->done_ready_i != 0;
    if (first_address == 0 && sim_->ar_valid != 0) first_address = sim_.cycle();
    if (given) take_beat();
    if (done) take_answer();
    memory.sample(sim_);
    sim_.edge();
    memory.drive(sim_);
    if (read) sim_->read_valid_i = 0;
    if (write) sim_->write_valid_i = 0;
    if (fed) sim_->in_valid_i = 0;
    read_ += read;
    written_ += write;
    if (fed && ++in_beat_ == writes_[in_].beats()) {
      in_beat_ = 0;
      ++in_;
    }
    return read || write || fed || given || done;
  }

  void take_beat() {
    if (given_ == reads_.size()) {
      fault_ = "data that nobody asked for";
      return;
    }
    const Range& r = reads_[given_];
    std::array<std::uint8_t, 64> bytes{};
    const std::uint32_t at = 64 * out_beat_;
    std::copy_n(memory.bytes.begin() + static_cast<std::ptrdiff_t>(r.address + at),
                std::min<std::uint32_t>(64, r.bytes - at), bytes.begin());
    Beat beat;
    std::copy_n(sim_->out_data_o.m_storage, beat.size(), beat.begin());
    if (beat != beat_at(bytes.data())) fault_ = "other bytes" + place(r);
    const bool last = ++out_beat_ == r.beats();
    if ((sim_->out_last_o != 0) != last) fault_ = "another length" + place(r);
    if (last && (sim_->out_error_o != 0) != fails(r)) fault_ = "error or none" + place(r);
    if (first_data == 0) first_data = sim_.cycle();
    last_data = sim_.cycle();
    if (last) {
      out_beat_ = 0;
      ++given_;
    }
  }

  void take_answer() {
    if (done_ == writes_.size()) {
      fault_ = "an answer to nothing";
    } else if ((sim_->done_error_o != 0) != fails(writes_[done_])) {
      fault_ = "error or none of a write" + place(writes_[done_]);
    }
    ++done_;
  }
  static std::string place(const Range& r) {
    return " at " + std::to_string(r.address) + " + " + std::to_string(r.bytes);
  }

  Sim<Vmover_bench> sim_;
  std::vector<Range> reads_, writes_;
  std::vector<std::vector<std::uint8_t>> sources_;
  std::vector<std::uint8_t> expected_;
  std::size_t read_ = 0, written_ = 0, given_ = 0, done_ = 0, in_ = 0;
  std::uint32_t in_beat_ = 0, out_beat_ = 0;
  std::string fault_;
};

// Any alignment; lengths around a beat, a page and several pages; within [low, high).
Range any_range(Random& random, std::uint64_t low, std::uint64_t high) {
  constexpr std::uint32_t kMost[] = {3, 64, 130, 4096, 9000, 20000};
  Range r;
  r.bytes = static_cast<std::uint32_t>(1 + random() % kMost[random() % 6]);
  if (random() % 4 == 0) r.bytes = 64 * (1 + r.bytes / 64);
  r.address = low + random() % (high - low - r.bytes);
  if (random() % 3 == 0) r.address = r.address / 64 * 64;
  return r;
}

TEST(Mover, MovesWhatItWasAskedTo) {
  const std::uint64_t runs = scaled(20, 2);
  std::uint64_t bytes = 0, resets = 0, errors = 0;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Mover mover(seed);
    Random& random = mover.random;
    for (std::uint64_t run = 0; run < runs; ++run) {
      mover.command = Willing::any(random);
      mover.in = Willing::any(random);
      mover.out = Willing::any(random);
      mover.memory.address = Willing::any(random);
      mover.memory.data = Willing::any(random);
      mover.memory.answer = Willing::any(random);
      mover.memory.latency = random() % 2 == 0 ? 1 + random() % 4 : random() % 300;
      mover.memory.broken.clear();
      for (std::uint64_t i = random() % 3; i > 0 && run % 3 == 0; --i)
        mover.memory.broken.insert(random() % (kMemory / 64));
      std::vector<Range> reads(random() % 12), writes(random() % 12);
      for (Range& r : reads)
        r = any_range(random, 0, kMemory / 2);
      for (Range& w : writes) {
        w = any_range(random, kMemory / 2, kMemory);
        bytes += w.bytes;
      }
      for (const Range& r : reads)
        bytes += r.bytes;
      errors += mover.memory.broken.size();
      const bool reset = random() % 5 == 0;
      resets += reset;
      ASSERT_EQ(mover.run(reads, writes, reset ? 1 + random() % 400 : 0), "");
    }
  }
  std::printf("%llu bytes moved, %llu lines broken, %llu resets\n",
              static_cast<unsigned long long>(bytes),
              static_cast<unsigned long long>(errors),
              static_cast<unsigned long long>(resets));
}

// Reads go on while no write is ever answered, and the writes are not told to be done.
TEST(Mover, ReadsDoNotWaitForTheAnswersOfWrites) {
  Mover mover(1);
  mover.memory.answer = Willing(0, 1);
  std::vector<Range> reads(40), writes(40);
  for (std::size_t i = 0; i < reads.size(); ++i) {
    reads[i] = {3000 * i, 2999};
    writes[i] = {kMemory / 2 + 3000 * i, 2999};
  }
  EXPECT_EQ(mover.run(reads, writes), "hangs");
  EXPECT_EQ(mover.read(), reads.size());
  EXPECT_EQ(mover.written(), 0U);
}

TEST(MoverFigures, BytesAClock) {
  Mover mover(1);
  mover.memory.latency = 200;
  for (const std::uint64_t offset : {0U, 17U}) {
    std::vector<Range> reads(30), writes(30);
    for (std::size_t i = 0; i < 30; ++i) {
      reads[i] = {4096 * i + offset, 4096};
      writes[i] = {kMemory / 2 + 4096 * i + offset, 4096};
    }
    ASSERT_EQ(mover.run(reads, writes), "");
    const double rate =
        30.0 * 4096 / static_cast<double>(mover.last_data - mover.first_data + 1);
    std::printf("4 KB at offset %2llu: %5.2f bytes a clock, %zu bursts outstanding\n",
                static_cast<unsigned long long>(offset), rate, mover.memory.most_reads);
    EXPECT_GE(rate, 60);
    EXPECT_LE(mover.memory.most_reads, 32U);
  }
  ASSERT_EQ(mover.run({{64, 4096}}, {}), "");
  std::printf(
      "first address after %llu cycles, first data %llu after its answer's\n",
      static_cast<unsigned long long>(mover.first_address),
      static_cast<unsigned long long>(mover.first_data - mover.first_address - 200));
  EXPECT_LE(mover.first_address, 4U);
  EXPECT_LE(mover.first_data - mover.first_address, 210U);
}

}  // namespace
}  // namespace speckv::rtl

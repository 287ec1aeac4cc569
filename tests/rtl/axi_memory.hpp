// rtl/axi_memory.hpp -- a memory behind an AXI4 port of 512 bits: bytes, a latency,
// stalls at random, and addresses that answer with an error.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "rtl/sim.hpp"

namespace speckv::rtl {

// Drives the port of a Top with the signals of mover_bench.sv. Between settle() and
// edge() of the simulation, call sample(); after edge(), drive().
template <class Top>
class AxiMemory {
 public:
  AxiMemory(std::size_t size, std::uint64_t seed) : bytes(size), random_(seed) {}

  std::vector<std::uint8_t> bytes;  // address 0 on
  std::uint64_t latency = 1;  // cycles from an address (or the last data) to its answer
  Willing address, data, answer;
  std::set<std::uint64_t> broken;  // lines (address / 64) that answer SLVERR

  void reset(Sim<Top>& sim) {
    reads_.clear();
    writes_.clear();
    answers_.clear();
    sim->ar_ready = sim->aw_ready = sim->w_ready = sim->r_valid = sim->b_valid = 0;
  }

  // What is transferred at the coming edge.
  void sample(Sim<Top>& sim) {
    const std::uint64_t now = sim.cycle();
    if (sim->r_valid != 0 && sim->r_ready != 0 &&
        ++reads_.front().next == reads_.front().beats) {
      reads_.pop_front();
    }
    took_r_ = sim->r_valid != 0 && sim->r_ready != 0;
    took_b_ = sim->b_valid != 0 && sim->b_ready != 0;
    if (took_b_) answers_.pop_front();
    if (sim->ar_valid != 0 && sim->ar_ready != 0) {
      reads_.push_back({sim->ar_addr, 0, sim->ar_len + 1U, now + latency, false});
    }
    if (sim->aw_valid != 0 && sim->aw_ready != 0) {
      writes_.push_back({sim->aw_addr, 0, sim->aw_len + 1U, 0, false});
    }
    if (sim->w_valid != 0 && sim->w_ready != 0 && !writes_.empty()) write(sim, now);
    most_reads = std::max<std::size_t>(most_reads, reads_.size());
  }

  // What it offers from now on.
  void drive(Sim<Top>& sim) {
    sim->ar_ready = address(random_);
    sim->aw_ready = address(random_);
    sim->w_ready = data(random_);
    if (sim->r_valid == 0 || took_r_) {
      sim->r_valid =
          !reads_.empty() && reads_.front().due <= sim.cycle() && data(random_) ? 1 : 0;
      if (sim->r_valid != 0) offer(sim);
    }
    if (sim->b_valid == 0 || took_b_) {
      sim->b_valid =
          !answers_.empty() && answers_.front().due <= sim.cycle() && answer(random_) ? 1
                                                                                      : 0;
      if (sim->b_valid != 0) sim->b_resp = answers_.front().error ? 2 : 0;
    }
    took_r_ = took_b_ = false;
  }

  std::size_t most_reads = 0;  // bursts outstanding at once

 private:
  struct Burst {
    std::uint64_t address;
    std::uint32_t next, beats;
    std::uint64_t due;
    bool error;
    std::uint64_t line() const { return address / 64 + next; }
  };

  void offer(Sim<Top>& sim) {
    const Burst& burst = reads_.front();
    const std::uint64_t at = burst.line() * 64;
    Beat beat{};
    if (at + 64 <= bytes.size()) beat = beat_at(bytes.data() + at);
    std::copy(beat.begin(), beat.end(), sim->r_data.m_storage);
    sim->r_resp = at + 64 > bytes.size() ? 3 : broken.contains(burst.line()) ? 2 : 0;
    sim->r_last = burst.next + 1 == burst.beats;
  }

  void write(Sim<Top>& sim, std::uint64_t now) {
    Burst& burst = writes_.front();
    const std::uint64_t at = burst.line() * 64;
    burst.error = burst.error || broken.contains(burst.line()) || at + 64 > bytes.size();
    const auto* from = reinterpret_cast<const std::uint8_t*>(sim->w_data.m_storage);
    for (std::size_t i = 0; i < 64 && at + 64 <= bytes.size(); ++i) {
      if ((sim->w_strb >> i & 1) != 0) bytes[at + i] = from[i];
    }
    if (++burst.next < burst.beats) return;
    answers_.push_back(burst);
    answers_.back().due = now + latency;
    writes_.pop_front();
  }

  Random random_;
  std::deque<Burst> reads_, writes_, answers_;
  bool took_r_ = false, took_b_ = false;
};

}  // namespace speckv::rtl

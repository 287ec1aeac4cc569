// rtl/codec_bench.hpp -- feeds units to a codec pipeline and compares what comes out.
// speckv_encode and speckv_decode have the same ports, so that one bench drives both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "rtl/codec_units.hpp"
#include "rtl/sim.hpp"

namespace speckv::rtl {

template <class Top>
class CodecBench {
 public:
  // `plain_in`: the block encodes.
  CodecBench(std::uint64_t seed, bool plain_in)
      : random_(seed), plain_in_(plain_in), sim_(seed) {
    idle();
    sim_.reset();
  }

  // How willing each port is from now on.
  Willing command, in, out;

  // When each beat of the last unit was taken: of its input, and of its output.
  std::vector<std::uint64_t> taken, given;

  // Sends the units and compares all that comes out; with `stop_after` cycles, resets the
  // block in the middle of whatever it does. Returns what went wrong, or nothing.
  std::string run(std::vector<Unit> units, std::uint64_t stop_after = 0) {
    units_ = std::move(units);
    commands_ = ins_ = in_beat_ = outs_ = out_beat_ = 0;
    holding_ = false;
    fault_.clear();
    const std::uint64_t stop = stop_after != 0 ? sim_.cycle() + stop_after : ~0ULL;
    std::uint64_t moved_at = sim_.cycle();
    while (outs_ < units_.size() && fault_.empty() && sim_.cycle() < stop) {
      if (cycle()) moved_at = sim_.cycle();
      if (sim_.cycle() - moved_at > 5000) return "hangs" + place();
    }
    if (!fault_.empty() || outs_ == units_.size()) {
      if (fault_.empty()) quiet();
      return fault_;
    }
    idle();
    sim_.reset();
    return "";
  }

 private:
  void idle() { sim_->cmd_valid_i = sim_->in_valid_i = sim_->out_ready_i = 0; }
  const std::vector<std::uint8_t>& input(const Unit& u) const {
    return plain_in_ ? u.plain : u.encoded;
  }
  const std::vector<std::uint8_t>& output(const Unit& u) const {
    return plain_in_ ? u.encoded : u.plain;
  }
  std::string place() const {
    if (outs_ >= units_.size()) return "";
    return " at unit " + std::to_string(outs_) + " (" + units_[outs_].shape.text() +
           "), beat " + std::to_string(out_beat_);
  }

  // One clock cycle. Whether anything moved.
  bool cycle() {
    // A valid port keeps what it offers until it is taken.
    if (sim_->cmd_valid_i == 0 && commands_ < units_.size() && command(random_))
      offer_command();
    if (sim_->in_valid_i == 0 && ins_ < units_.size() && in(random_)) offer_beat();
    sim_->out_ready_i = out(random_);
    sim_.settle();
    const bool sent_command = sim_->cmd_valid_i != 0 && sim_->cmd_ready_o != 0;
    const bool sent = sim_->in_valid_i != 0 && sim_->in_ready_o != 0;
    const bool received = sim_->out_valid_o != 0 && sim_->out_ready_i != 0;
    check_held();
    if (received) take_beat();
    const std::uint64_t now = sim_.cycle();
    sim_.edge();
    if (sent_command) {
      sim_->cmd_valid_i = 0;
      ++commands_;
    }
    if (sent) {
      if (in_beat_ == 0) taken.clear();
      taken.push_back(now);
      sim_->in_valid_i = 0;
      if (++in_beat_ * 64 == input(units_[ins_]).size()) {
        in_beat_ = 0;
        ++ins_;
      }
    }
    return sent_command || sent || received;
  }

  void offer_command() {
    const Shape& s = units_[commands_].shape;
    sim_->cmd_valid_i = 1;
    sim_->cmd_int8_i = s.int8;
    sim_->cmd_keys_i = s.keys;
    sim_->cmd_bf16_i = s.bf16;
    sim_->cmd_tokens_i = static_cast<std::uint16_t>(s.tokens);
    sim_->cmd_channels_i = static_cast<std::uint16_t>(s.channels);
  }

  void offer_beat() {
    const Beat beat = beat_at(input(units_[ins_]).data() + 64 * in_beat_);
    sim_->in_valid_i = 1;
    std::copy(beat.begin(), beat.end(), sim_->in_data_i.m_storage);
  }

  Beat output_beat() {
    Beat beat;
    std::copy_n(sim_->out_data_o.m_storage, beat.size(), beat.begin());
    return beat;
  }

  // What is offered and not taken stays, bit for bit.
  void check_held() {
    if (holding_ && (sim_->out_valid_o == 0 || output_beat() != held_)) {
      fault_ = "the output changes before it is taken" + place();
    }
    holding_ = sim_->out_valid_o != 0 && sim_->out_ready_i == 0;
    if (holding_) held_ = output_beat();
  }

  void take_beat() {
    if (outs_ >= units_.size()) {
      fault_ = "a beat that belongs to no unit";
      return;
    }
    const Unit& unit = units_[outs_];
    const std::vector<std::uint8_t>& bytes = output(unit);
    if (out_beat_ == 0) given.clear();
    given.push_back(sim_.cycle());
    const bool last = (out_beat_ + 1) * 64 == bytes.size();
    if (!unit.bad && output_beat() != beat_at(bytes.data() + 64 * out_beat_)) {
      fault_ = "other bytes" + place();
    }
    if ((sim_->out_last_o != 0) != last) fault_ = "another length" + place();
    if (last && (sim_->out_bad_o != 0) != unit.bad) {
      fault_ = (unit.bad ? "not refused" : "refused") + place();
    }
    ++out_beat_;
    if (last) {
      out_beat_ = 0;
      ++outs_;
    }
  }

  // Nothing comes after the last unit.
  void quiet() {
    for (int i = 0; i < 100 && fault_.empty(); ++i)
      cycle();
  }

  Random random_;
  bool plain_in_;
  Sim<Top> sim_;
  std::vector<Unit> units_;
  std::size_t commands_ = 0, ins_ = 0, in_beat_ = 0, outs_ = 0, out_beat_ = 0;
  bool holding_ = false;
  Beat held_{};
  std::string fault_;
};

}  // namespace speckv::rtl

// sim/rtl/axi_slave.hpp -- the memory behind an AXI4 port of 512 bits, a burst after the
// other.
#pragma once

#include <atomic>
#include <cstring>
#include <deque>
#include <random>

#include "cxlspeckv/block.hpp"

#include "base/endian.hpp"
#include "sim/rtl/bus_faults.hpp"
#include "sim/rtl/rtl_card.hpp"

namespace speckv::sim {

// Says for each cycle whether a port is willing: always, or at random.
class Willing {
 public:
  Willing(bool stalls, std::uint64_t seed) : stalls_(stalls), random_(seed) {}
  bool operator()() { return !stalls_ || random_() % 4 != 0; }

 private:
  const bool stalls_;
  std::minstd_rand random_;
};

inline constexpr std::size_t kBeat = 64;

// Other threads may look at the same bytes: whole words, the upper ones first, so that
// the half of a completion that has its phase is written last.
inline void store_words(std::byte* to, const std::uint32_t* from, std::uint64_t strobe) {
  for (std::size_t at = kBeat; at > 0;) {
    at -= 8;
    const auto bytes = strobe >> at & 0xff;
    std::uint64_t word = 0;
    std::memcpy(&word, from + at / 4, 8);
    if (bytes == 0xff) {
      std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(to + at))
          .store(word, std::memory_order_release);
    } else {
      for (std::size_t i = 0; i < 8; ++i) {
        if ((bytes >> i & 1) != 0) to[at + i] = static_cast<std::byte>(word >> 8 * i);
      }
    }
  }
}
inline void load_words(std::uint32_t* to, std::byte* from, std::size_t bytes) {
  for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
    const std::uint64_t word =
        std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(from + at))
            .load(std::memory_order_acquire);
    std::memcpy(to + at / 4, &word, 8);
  }
}

// Memory: view(address, bytes, writing), empty where there is none. Port: references to
// the signals of one port.
template <class Memory, class Port>
class AxiSlave {
 public:
  AxiSlave(Memory memory, Port port, std::uint32_t latency, bool stalls,
           std::uint64_t seed)
      : memory_(memory), port_(port), latency_(latency), willing_(stalls, seed) {
    reset();
  }

  // Forgets what is on its way.
  void reset() {
    reads_.clear();
    writes_.clear();
    answers_.clear();
    took_r_ = took_b_ = false;
    port_.r_valid = port_.b_valid = 0;
    port_.ar_ready = port_.aw_ready = port_.w_ready = 0;
  }
  void silence(unsigned channels) { silent_ = channels; }
  BusFaults& faults() { return faults_; }

  // Nothing is on its way.
  bool idle() const { return reads_.empty() && writes_.empty() && answers_.empty(); }

  // What is transferred at the coming edge.
  void sample(std::uint64_t now) {
    took_r_ = port_.r_valid != 0 && port_.r_ready != 0;
    took_b_ = port_.b_valid != 0 && port_.b_ready != 0;
    if (took_r_ && port_.r_last != 0) reads_.pop_front();
    if (took_b_) answers_.pop_front();
    if (port_.ar_valid != 0 && port_.ar_ready != 0) {
      reads_.push_back({port_.ar_addr, port_.ar_len + 1U, now + latency_, 0});
    }
    if (port_.aw_valid != 0 && port_.aw_ready != 0) {
      writes_.push_back({port_.aw_addr, port_.aw_len + 1U, 0, faults_.response(true)});
    }
    if (port_.w_valid != 0 && port_.w_ready != 0 && !writes_.empty()) write(now);
  }

  // What is offered from then on.
  void drive(std::uint64_t now) {
    port_.ar_ready = willing_() && speaks(channel::kReadAddress);
    port_.aw_ready = willing_() && speaks(channel::kWriteAddress);
    port_.w_ready = willing_() && speaks(channel::kWriteData);
    if (port_.r_valid == 0 || took_r_) {
      port_.r_valid = !reads_.empty() && reads_.front().due <= now && willing_() &&
                      speaks(channel::kReadData);
      if (port_.r_valid != 0) read();
    }
    if (port_.b_valid == 0 || took_b_) {
      port_.b_valid = !answers_.empty() && answers_.front().due <= now && willing_() &&
                      speaks(channel::kAnswer);
      if (port_.b_valid != 0) port_.b_resp = answers_.front().response;
    }
    took_r_ = took_b_ = false;
  }

 private:
  static constexpr std::uint8_t kDecodeError = 3;
  struct Burst {
    std::uint64_t address;
    std::uint32_t left;  // beats
    std::uint64_t due;
    std::uint8_t response;
  };

  bool speaks(unsigned channel) const { return (silent_ & channel) == 0; }

  void read() {
    Burst& burst = reads_.front();
    std::memset(port_.r_data, 0, kBeat);
    // Memory ends at any byte; what is asked for, at whole beats.
    const MutableBytes bytes = memory_.view(burst.address, kBeat, false);
    load_words(port_.r_data, bytes.data(), bytes.size());
    faults_.spoil(false, burst.address, port_.r_data);
    const std::uint8_t response = faults_.response(false);
    port_.r_resp = bytes.empty() ? kDecodeError : response;
    port_.r_last = burst.left == 1;
    burst.address += kBeat;
    --burst.left;
  }

  void write(std::uint64_t now) {
    Burst& burst = writes_.front();
    const std::uint64_t strobe = port_.w_strb;
    if (strobe != 0 && burst.response == 0) {
      const MutableBytes bytes = memory_.view(burst.address, kBeat, true);
      const bool all =
          bytes.size() == kBeat || (bytes.size() < kBeat && strobe >> bytes.size() == 0);
      if (all) {
        std::uint32_t beat[kBeat / 4];
        std::memcpy(beat, port_.w_data, kBeat);
        faults_.spoil(true, burst.address, beat);
        store_words(bytes.data(), beat, strobe);
      } else {
        burst.response = kDecodeError;
      }
    }
    burst.address += kBeat;
    if (--burst.left > 0) return;
    answers_.push_back(burst);
    answers_.back().due = now + latency_;
    writes_.pop_front();
  }

  Memory memory_;
  Port port_;
  const std::uint32_t latency_;
  Willing willing_;
  std::deque<Burst> reads_, writes_, answers_;
  unsigned silent_ = 0;  // channels
  BusFaults faults_;
  bool took_r_ = false, took_b_ = false;
};

}  // namespace speckv::sim

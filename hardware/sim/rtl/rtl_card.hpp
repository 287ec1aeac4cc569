// sim/rtl/rtl_card.hpp -- the card's RTL, verilated, as a card.
//
// hardware/rtl/speckv_top with a shell around it: a bus to host memory, device memory,
// and messages that become interrupts. reset() is the function's: also what the buses
// have under way is dropped. Time passes only while it is called, and stands still while
// the card has nothing to do.
#pragma once

#include <memory>

#include "sim/card.hpp"

namespace speckv::sim {

struct RtlOptions {
  std::uint64_t seed = 1;      // of what registers and memories hold before a reset
  std::uint32_t latency = 1;   // cycles from an address to its first data
  bool stalls = false;         // every port at random
  std::uint32_t budget = 400;  // cycles of one run()
  // Others store to device memory where nobody sees it: before each write of a register
  // the card is told of all 4 KB that it has read since the last. What was prefetched
  // before is then read again.
  bool mapped = false;
};

// The two buses of the card, and the channels of each, as bits.
enum class Bus { host, memory };
namespace channel {
inline constexpr unsigned kReadAddress = 1, kReadData = 2, kWriteAddress = 4,
                          kWriteData = 8, kAnswer = 16, kAll = 31;
}

enum class Response : std::uint8_t { slave_error = 2, decode_error = 3 };

// One bit of the nth beat, from now on, whose address is at least `from` and less than
// `end`.
struct Flip {
  std::uint64_t from = 0, end = 0;
  std::uint32_t nth = 1, bit = 0;  // of 512; bit b is of byte b / 8
};

class RtlCard : public Card {
 public:
  // Until it is told otherwise, nothing passes on these channels of a bus any more, but
  // for what was offered before.
  virtual void silence(Bus bus, unsigned channels) = 0;
  // The nth beat that is read on a bus, or burst that is written, from now on is answered
  // with that, and not written.
  virtual void fail(Bus bus, bool writing, std::uint32_t nth, Response response) = 0;
  // Whether that is still to come; it is no more afterwards.
  virtual bool unfailed(Bus bus) = 0;
  // That bit of what a bus gives the card, or takes from it to write, is inverted.
  virtual void flip(Bus bus, bool writing, const Flip& flip) = 0;
  // Whether it has been; it will not be any more.
  virtual bool flipped(Bus bus) = 0;
  // Cycles that were simulated.
  virtual std::uint64_t cycles() const = 0;
  // Cycles in which an address of host memory was first offered, since this was last
  // asked; 0: none.
  virtual std::uint64_t first_host_read() = 0;
};

// `memory` (a multiple of 4096 bytes) and `port` outlive it; others may store to `memory`
// too, if stored() is called or the card is `mapped`.
std::unique_ptr<RtlCard> rtl_card(const RtlOptions& options, MutableBytes memory,
                                  engine::HostPort& port);

}  // namespace speckv::sim

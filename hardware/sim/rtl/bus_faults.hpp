// sim/rtl/bus_faults.hpp -- what one port of the card's memories is told to do wrong, for
// tests.
#pragma once

#include <cstdint>
#include <utility>

#include "sim/rtl/rtl_card.hpp"

namespace speckv::sim {

class BusFaults {
 public:
  // The nth beat that is read, or burst that is written, from now on fails; 0: none.
  void fail(bool writing, std::uint32_t nth, std::uint8_t response) {
    fail_[writing] = nth;
    response_ = response;
  }
  // Whether that is still to come.
  bool fails() const { return fail_[0] != 0 || fail_[1] != 0; }
  // What this beat or burst is answered with, if nothing else is wrong.
  std::uint8_t response(bool writing) {
    return fail_[writing] != 0 && --fail_[writing] == 0 ? response_ : 0;
  }

  void flip(bool writing, const Flip& flip) {
    flip_ = flip;
    flips_writes_ = writing;
    flipped_ = false;
  }
  // Whether it has been; it will not be any more.
  bool flipped() {
    flip_ = {};
    return std::exchange(flipped_, false);
  }
  // A beat that passes, of 64 bytes.
  void spoil(bool writing, std::uint64_t address, std::uint32_t* beat) {
    if (writing != flips_writes_ || address < flip_.from || address >= flip_.end ||
        --flip_.nth > 0)
      return;
    beat[flip_.bit / 32] ^= 1U << flip_.bit % 32;
    flip_ = {};
    flipped_ = true;
  }

 private:
  std::uint32_t fail_[2] = {};  // to be read, to be written, until it fails
  std::uint8_t response_ = 0;
  Flip flip_{};
  bool flips_writes_ = false, flipped_ = false;
};

}  // namespace speckv::sim

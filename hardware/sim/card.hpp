// sim/card.hpp -- what stands behind the PCI function.
//
// The model of src/engine today; the same interface is for RTL in simulation. A card is
// called by one thread and does nothing unless it is called. It reaches the machine
// through the engine::HostPort that it was made with: memory that the guest lets it
// reach, and MSI-X.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/memory.hpp"

namespace speckv::sim {

class Card {
 public:
  virtual ~Card() = default;
  // BAR0, a word at a time. offset: a multiple of 4 below engine::kBar0Bytes.
  virtual std::uint32_t read32(std::uint32_t offset) = 0;
  virtual void write32(std::uint32_t offset, std::uint32_t value) = 0;
  // Works for a moment, so that nobody waits long for a register. True: there is more to
  // do.
  virtual bool run() = 0;
  // The function's reset: as after power-on; device memory keeps its bytes.
  virtual void reset() = 0;
  // Whether it has to be told of what others store to device memory: behind the store,
  // and before what comes behind it on the bus.
  virtual bool snoops() const { return false; }
  virtual void stored(std::uint64_t /*address*/, std::uint64_t /*length*/) {}
};

// What a card does wrong on purpose, to see that it is found.
enum class Fault {
  none,
  data,  // a bit of what it writes to host memory
  tag,   // the tag of a completion
  lost,  // a completion is counted and not written
};

// The golden model. `memory` and `port` outlive it; others may store to `memory` too.
std::unique_ptr<Card> golden_card(MutableBytes memory, engine::HostPort& port);
// The same with a fault in every third write of that kind.
std::unique_ptr<Card> faulty_card(Fault fault, MutableBytes memory,
                                  engine::HostPort& port);

}  // namespace speckv::sim

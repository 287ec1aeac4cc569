// policy/semantic.hpp -- evicts what scores least: recency, frequency, step proximity,
// prefix durability, by the arithmetic of the card's scorer.
#pragma once

#include <cstdint>
#include <memory>

#include "cxlspeckv/tier.hpp"

#include "engine/score.hpp"

namespace speckv {

// Besides the six verbs it takes what an engine knows; called like them, under the tier's
// lock. Without a word about steps, time goes on with every use.
class SemanticPolicy : public Policy {
 public:
  // The decode step reached. A step that is not later changes nothing.
  virtual void step(std::uint32_t step) noexcept = 0;
  // REQUIRES for all: the slot is filled.
  virtual void hot(Slot slot) noexcept = 0;
  virtual void evictable(Slot slot) noexcept = 0;
  virtual void expected(Slot slot, std::uint32_t step) noexcept = 0;
  // References: with one, the slot is never a victim. 255 stay for ever.
  virtual void share(Slot slot) noexcept = 0;
  virtual void unshare(Slot slot) noexcept = 0;
  // False, and nothing changes: not valid.
  virtual bool set_weights(const engine::Weights& weights) noexcept = 0;
};

std::unique_ptr<SemanticPolicy> make_semantic();

}  // namespace speckv

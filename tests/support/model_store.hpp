// support/model_store.hpp -- a BlockStore in forty lines of std::map: the specification.
//
// For keys that one thread alone changes. A store may forget whatever nobody holds, so
// the model says what may be answered, and what must be.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>

#include "cxlspeckv/status.hpp"

namespace speckv::test {

class ModelStore {
 public:
  void saved(std::uint64_t block) { blocks_[block].there = true; }
  // A referenced block stays; a pinned one loses its name.
  void erased(std::uint64_t block) {
    Block& b = blocks_[block];
    if (b.retained == 0) b = {};
  }
  void retained(std::uint64_t block) { ++blocks_[block].retained; }
  void released(std::uint64_t block) { --blocks_[block].retained; }
  void pinned(std::uint64_t block) { ++blocks_[block].pinned; }
  void unpinned(std::uint64_t block) {
    blocks_[block].pinned = std::max(blocks_[block].pinned - 1, 0);
  }

  bool may_have(std::uint64_t block) { return blocks_[block].there; }
  bool must_have(std::uint64_t block) {
    return blocks_[block].retained + blocks_[block].pinned > 0;
  }
  // Whether load() may answer so; where no device fails there are no other answers.
  bool may_answer(std::uint64_t block, Code code) {
    if (code == Code::ok) return may_have(block);
    return code == Code::not_found && !must_have(block);
  }
  const auto& blocks() const { return blocks_; }

 private:
  struct Block {
    bool there = false;
    int retained = 0, pinned = 0;
  };
  std::map<std::uint64_t, Block> blocks_;
};

}  // namespace speckv::test

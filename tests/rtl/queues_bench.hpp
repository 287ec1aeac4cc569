// rtl/queues_bench.hpp -- the host's side of the queue pairs' bench.
#pragma once

#include <cstdint>
#include <deque>

#include "engine/contract.hpp"

namespace speckv::rtl {

namespace queue = engine::queue;
namespace doorbell = engine::doorbell;
using engine::QueueCause;
using engine::QueueState;

inline constexpr std::uint32_t kQueues = 8, kMicrosecond = 10;  // as verilated: cycles
inline constexpr std::uint16_t kNoTag = 0xffff;

inline std::uint32_t queue_register(std::uint32_t q, std::uint32_t offset) {
  return engine::kQueueWindow + q * engine::kQueueStride + offset;
}
inline std::uint32_t doorbell_register(std::uint32_t q, std::uint32_t offset) {
  return engine::kDoorbellWindow + q * engine::kDoorbellStride + offset;
}
// What the command engine of this bench answers follows from the tag.
inline engine::Answer answer_of(std::uint32_t tag) {
  return static_cast<engine::Answer>(tag % 5 == 0 ? 1 + tag % 4 : 0);
}
inline std::uint32_t hash(std::uint32_t tag) {
  return tag * 2654435761U + 12345;
}

// What the host knows of a queue.
struct Pair {
  std::uint64_t submission = 0, completion = 0;
  std::uint32_t depth_log2 = 0, tenant = 0, tail = 0, fetched = 0, completed = 0, arm = 0;
  bool on = false;
  std::uint32_t interrupts = 0;
  std::deque<std::uint16_t> submitted, taken;  // tags
  std::uint32_t depth() const { return 1U << depth_log2; }
};

}  // namespace speckv::rtl

// cxlspeckv/metrics.hpp -- what a store tells the outside, all of it injected.
//
// Numbers are pulled (MetricSink), events are pushed (EventSink), words go to a LogSink,
// time comes from a Clock. There is no global registry, and the library prints nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "cxlspeckv/block.hpp"

namespace speckv {

// Visits every number a component keeps. Names follow Prometheus: "tier_hits_total" with
// a label such as {tier="dram"} given apart.
class MetricSink {
 public:
  struct Label {
    std::string_view name{}, value{};  // both empty: no label
  };
  virtual ~MetricSink() = default;
  virtual void counter(std::string_view name, Label label, std::uint64_t value) = 0;
  virtual void gauge(std::string_view name, Label label, double value) = 0;
};

// Monotonic nanoseconds. Replay and tests bring their own.
class Clock {
 public:
  using time_point =
      std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;
  virtual ~Clock() = default;
  virtual time_point now() noexcept = 0;
};
Clock& steady_clock() noexcept;

// What happened to a block's copy in one tier. An erase is of all tiers at once.
struct Event {
  enum class Kind : std::uint8_t {
    save,       // came, from a caller
    load,       // was read
    promote,    // came, from another tier
    demote,     // came, from the tier above, which gives it up: vacate follows, or evict
    vacate,     // went, after it had come to the tier below
    evict,      // went, to make room
    erase,      // went, because a caller said so
    corrupted,  // went, because its checksum did not hold
    fence       // the tier stopped answering; no block
  };
  Kind kind{};
  BlockKey key{};
  std::uint32_t tier = 0;
  std::uint64_t bytes = 0;  // of the frame
  // Threads tell their events a moment after the fact, so they may arrive out of order:
  // this is the order of the facts, within this process. 0: load and fence.
  std::uint64_t order = 0;
  Clock::time_point at{};
};

// Called from any thread, with no lock held; must not call back into the store.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void event(const Event& event) noexcept = 0;
};

enum class LogLevel : std::uint8_t { info, warning, error };

// A plain function, so that it can come from C. Any thread; must not call back.
struct LogSink {
  void (*write)(void* context, LogLevel level, std::string_view text) = nullptr;
  void* context = nullptr;
};

}  // namespace speckv

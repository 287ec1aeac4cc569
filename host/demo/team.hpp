// host/demo/team.hpp -- a few threads that share loops.
//
// A forward pass is a few dozen short loops, so a loop must start and end in about a
// microsecond: workers look for the next one for a moment before they go to sleep.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace speckv::demo {

class Team {
 public:
  // `threads` counts the caller; 0 is taken as 1.
  explicit Team(unsigned threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  unsigned threads() const noexcept { return static_cast<unsigned>(workers_.size()) + 1; }

  // Calls body(index, thread) for every index below `count`, in any order and from any
  // thread, and returns when all are done. `thread` < threads(). One caller at a time.
  template <class Body>
  void for_each(std::size_t count, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(count, &body, [](void* context, std::size_t index, unsigned thread) {
      (*static_cast<Plain*>(context))(index, thread);
    });
  }

 private:
  using Call = void (*)(void* context, std::size_t index, unsigned thread);

  void run(std::size_t count, void* context, Call call);
  void take_indices(unsigned thread);
  void work(unsigned thread);

  // The loop at hand: written by the caller before it raises `epoch_`, and not again
  // until every worker has counted itself into `finished_`.
  Call call_ = nullptr;
  void* context_ = nullptr;
  std::size_t count_ = 0;

  alignas(64) std::atomic<std::size_t> next_{0};
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  alignas(64) std::atomic<std::uint32_t> finished_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::jthread> workers_;
};

}  // namespace speckv::demo

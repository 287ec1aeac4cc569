// Threads that use a card in every way, without end, while something happens to it.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "card.hpp"

namespace guest {

int step(const Fd& card, std::uint32_t value);

// What such threads have seen.
struct Load {
  std::atomic<bool> stop{false};
  std::atomic<std::uint32_t> answers{0}, gone{0}, wrong{0};
  std::atomic<int> last_wrong{0};
  // ENODEV: it has gone. EAGAIN, EIO: it was full, or reset. Anything else is wrong.
  void saw(int error);
  // Whoever comes after the removal finds nothing to open.
  bool opened(const Fd& card);
};

// Five threads from here on. stop() ends them, and expects that nothing wrong was seen.
class UnderLoad {
 public:
  explicit UnderLoad(const char* card);
  ~UnderLoad();
  UnderLoad(const UnderLoad&) = delete;
  UnderLoad& operator=(const UnderLoad&) = delete;
  // Until there are `more` answers; or until someone has seen that the card is gone.
  void wait_for(std::uint32_t more) const;
  void wait_gone() const;
  void stop();
  // How many threads have seen that the card is gone.
  std::uint32_t gone() const { return load_.gone; }

 private:
  Load load_;
  std::vector<std::thread> threads_;
};

}  // namespace guest

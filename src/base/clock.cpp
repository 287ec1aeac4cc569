#include "cxlspeckv/metrics.hpp"

namespace speckv {
namespace {

class SteadyClock final : public Clock {
 public:
  time_point now() noexcept override { return std::chrono::steady_clock::now(); }
};

}  // namespace

Clock& steady_clock() noexcept {
  static SteadyClock clock;
  return clock;
}

}  // namespace speckv

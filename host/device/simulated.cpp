#include "device/simulated.hpp"

#include <atomic>

namespace speckv {
namespace {

std::atomic<SimulatedOpener> opener_of_all{nullptr};

}  // namespace

void set_simulated_opener(SimulatedOpener opener) noexcept {
  opener_of_all.store(opener);
}

OpenedDevice open_simulated(const DeviceUri& uri) {
  if (const SimulatedOpener open = opener_of_all.load()) return open(uri);
  return Status(
      Code::unsupported,
      "device \"" + uri.text +
          "\": this program has no simulation of the card's RTL in it; soft: is "
          "the card in software");
}

}  // namespace speckv

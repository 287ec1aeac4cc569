// device/simulated.hpp -- who answers to "sim:", if anybody. The library knows no
// simulator: a program that has the card's RTL in it brings the opener along.
#pragma once

#include "device/open.hpp"

namespace speckv {

using SimulatedOpener = OpenedDevice (*)(const DeviceUri& uri);

// For every "sim:" that is opened from then on; nullptr: nobody, as at the start. Any
// thread.
void set_simulated_opener(SimulatedOpener opener) noexcept;

// By that opener. unsupported: nobody brought one.
OpenedDevice open_simulated(const DeviceUri& uri);

}  // namespace speckv

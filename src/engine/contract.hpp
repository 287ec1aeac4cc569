// engine/contract.hpp -- the device contract (docs/queue-protocol.md), as C++. What is
// included here is generated from hardware/regs/speckv.toml.
#pragma once

#include "engine/bar0.hpp"
#include "engine/codes.hpp"
#include "engine/descriptor.hpp"
#include "engine/records.hpp"

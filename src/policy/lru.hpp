// policy/lru.hpp -- evicts what has not been used for longest.
#pragma once

#include <memory>

#include "cxlspeckv/tier.hpp"

namespace speckv {

std::unique_ptr<Policy> make_lru();

}  // namespace speckv

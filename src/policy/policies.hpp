// policy/policies.hpp -- the built-in policies that need nothing but the six verbs.
#pragma once

#include <memory>

#include "cxlspeckv/tier.hpp"

namespace speckv {

// Gives up what was not used for longest.
std::unique_ptr<Policy> make_lru();
// Gives up what was used least often, counts being halved as time goes on.
std::unique_ptr<Policy> make_lfu();
// S3-FIFO (Yang et al., SOSP 2023): what is used once leaves early, through a small
// queue.
std::unique_ptr<Policy> make_s3fifo();
// ARC (Megiddo and Modha, FAST 2003): recency and frequency, by what was lately missed of
// each.
std::unique_ptr<Policy> make_arc();

}  // namespace speckv

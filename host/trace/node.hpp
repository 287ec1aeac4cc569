// trace/node.hpp -- what a trace is replayed on, as TOML (docs/speculation.md).
#pragma once

#include <string>
#include <string_view>

#include "trace/replay.hpp"

namespace speckv::trace {

// invalid_argument: NAME:LINE: what is wrong. Keys that are not known are.
Result<Node> read_node(std::string_view text, const std::string& name);

}  // namespace speckv::trace

// cli/trace.hpp -- what the actions of `speckvctl trace` share.
#pragma once

#include <cstdint>

#include "cli/command.hpp"
#include "trace/read.hpp"

namespace speckv::cli {

// The part of the recording that the arguments select. not_found, io_error: the file;
// invalid_argument: what is in it.
Result<trace::Trace> recorded(const Arguments& arguments, std::uint64_t seed);

}  // namespace speckv::cli

// trace/read.hpp -- traces from the bytes of files, and back. Bytes are untrusted: what
// is wrong with them is told with the line on which it is, as invalid_argument.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "trace/trace.hpp"

namespace speckv::trace {

struct ReadOptions {
  std::string name = "trace";        // of the file, in messages
  std::uint32_t block_tokens = 512;  // of formats that leave it open (agents)
  // Sessions of agents have no common clock: each begins at a moment drawn uniformly
  // from [0, window) seconds.
  double window = 21600;
  std::uint64_t seed = 7;
};

struct Format {
  std::string_view name, help;
  bool (*is)(std::string_view first_line);
  Result<Trace> (*read)(std::string_view text, const ReadOptions& options);
};
// In the order in which they are tried on a file's first line.
std::span<const Format> formats() noexcept;

// `format`: a name, or "" to tell it from the first line.
Result<Trace> read_trace(std::string_view text, std::string_view format,
                         const ReadOptions& options);

// Requests and chains as lines of text (docs/traces.md). Reads back as the same trace.
std::string write_trace(const Trace& trace);

Result<Trace> read_native(std::string_view text, const ReadOptions& options);
Result<Trace> read_agents(std::string_view text, const ReadOptions& options);
Result<Trace> read_mooncake(std::string_view text, const ReadOptions& options);
Result<Trace> read_azure(std::string_view text, const ReadOptions& options);
Result<Trace> read_vllm(std::string_view text, const ReadOptions& options);

}  // namespace speckv::trace

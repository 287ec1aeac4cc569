#include "trace/read.hpp"

#include <array>

#include "trace/lines.hpp"

namespace speckv::trace {
namespace {

constexpr std::array kFormats = {
    Format{"speckv", "what `trace convert` and `trace record` write",
           [](std::string_view line) { return line.starts_with("speckv-trace "); },
           read_native},
    Format{"azure", "TIMESTAMP,ContextTokens,GeneratedTokens",
           [](std::string_view line) { return line.starts_with("TIMESTAMP,"); },
           read_azure},
    Format{"agents", "S and R lines of agent sessions",
           [](std::string_view line) { return line.starts_with("S "); }, read_agents},
    Format{"mooncake", "a JSON object a request, with hash_ids",
           [](std::string_view line) {
             return line.find("\"hash_ids\"") != std::string_view::npos;
           },
           read_mooncake},
    Format{"vllm", "a JSON array a batch of vLLM's KV events",
           [](std::string_view line) {
             return line.starts_with('[') || line.find("\"events\"") != line.npos;
           },
           read_vllm}};

}  // namespace

std::span<const Format> formats() noexcept {
  return kFormats;
}

Result<Trace> read_trace(std::string_view text, std::string_view format,
                         const ReadOptions& options) {
  Lines lines(text, options.name);
  const std::string_view first = lines.next().value_or("");
  for (const Format& one : kFormats) {
    if (format.empty() ? !one.is(first) : format != one.name) continue;
    auto trace = one.read(text, options);
    if (trace.ok() && trace->requests.empty())
      return Status(Code::invalid_argument, options.name + ": there is no request in it");
    if (trace.ok() && trace->seconds() > kLongestTrace)
      return Status(Code::invalid_argument, options.name + ": longer than 10^9 seconds");
    return trace;
  }
  return lines.wrong(format.empty() ? "none of the known formats of traces"
                                    : "no such format: " + std::string(format));
}

}  // namespace speckv::trace

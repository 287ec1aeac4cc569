// speckvctl trace: recorded requests.
#include "cli/trace.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "cli/command.hpp"

namespace speckv::cli {
namespace {

using nlohmann::ordered_json;

double rounded(double value, double per_unit = 1000) {
  return std::round(value * per_unit) / per_unit;
}

int info_of(const trace::Trace& recording, const Arguments& arguments) {
  const std::vector<std::uint32_t> shared = trace::shared_prefixes(recording);
  std::uint64_t reused = 0, input = 0, output = 0, longest = 0;
  std::vector<double> gaps, ends(recording.sessions, -1);
  for (std::size_t i = 0; i < shared.size(); ++i) {
    const trace::Request& request = recording.requests[i];
    reused += shared[i];
    input += request.input_tokens;
    output += request.output_tokens;
    longest = std::max<std::uint64_t>(longest, request.blocks);
    double& end = ends[request.session];
    if (end >= 0) gaps.push_back(std::max(0.0, request.arrived - end));
    end = trace::completion_of(request);
  }
  std::sort(gaps.begin(), gaps.end());
  const auto gap = [&](double part) -> ordered_json {
    if (gaps.empty()) return nullptr;
    return rounded(
        gaps[static_cast<std::size_t>(part * static_cast<double>(gaps.size() - 1))]);
  };
  const double block_bytes = static_cast<double>(recording.block_tokens) *
                             static_cast<double>(arguments.kv_bytes);
  const ordered_json told = {
      {"requests", recording.requests.size()},
      {"sessions", recording.sessions},
      {"seconds", rounded(recording.seconds())},
      {"input_tokens", input},
      {"output_tokens", output},
      {"block_tokens", recording.block_tokens},
      {"blocks", recording.distinct_blocks},
      {"block_accesses", recording.chains.size()},
      {"reused_accesses", reused},
      {"longest_chain", longest},
      {"distinct_bytes",
       static_cast<std::uint64_t>(block_bytes * recording.distinct_blocks)},
      {"gap_seconds_p25", gap(.25)},
      {"gap_seconds_p50", gap(.5)},
      {"gap_seconds_p90", gap(.9)}};
  if (arguments.json) {
    ordered_json document = {{"action", "info"}};
    document.update(told);
    print_json("trace", document);
  } else {
    print_lines(told);
  }
  return kDone;
}

int convert(const trace::Trace& recording, const Arguments& arguments) {
  const std::string text = trace::write_trace(recording);
  if (arguments.output.empty()) {
    print(text);
    return kDone;
  }
  std::ofstream file(arguments.output, std::ios::binary);
  file << text << std::flush;
  if (!file) return fail(Status(Code::io_error, "cannot write " + arguments.output));
  return kDone;
}

}  // namespace

Result<std::string> contents(const std::string& name) {
  std::ifstream file;
  if (name != "-") {
    file.open(name, std::ios::binary);
    if (!file) return Status(Code::not_found, "cannot read " + name);
  }
  std::istream& in = name == "-" ? std::cin : file;
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (in.bad()) return Status(Code::io_error, "cannot read " + name);
  return text;
}

Result<trace::Trace> recorded(const Arguments& arguments, std::uint64_t seed,
                              bool others) {
  auto text = contents(arguments.trace);
  if (!text.ok()) return text.error();
  trace::ReadOptions options;
  options.name = arguments.trace == "-" ? "standard input" : arguments.trace;
  options.block_tokens = static_cast<std::uint32_t>(arguments.block_tokens);
  options.window = arguments.window;
  options.seed = seed;
  auto whole = trace::read_trace(*text, arguments.format, options);
  if (!whole.ok()) return whole;
  using Part = trace::Selection::Part;
  trace::Selection selection{.part = arguments.part == "train"  ? Part::train
                                     : arguments.part == "test" ? Part::test
                                                                : Part::all,
                             .share = arguments.share,
                             .seed = seed,
                             .others = others,
                             .longest = arguments.longest};
  trace::Trace part = trace::select(*whole, selection);
  if (part.requests.empty())
    return Status(Code::invalid_argument, "no request of it is selected");
  return part;
}

int trace(const Arguments& arguments) {
  if (arguments.action == "record") return record_trace(arguments);
  const char* const wrong = !arguments.command.empty() ? "only record runs a command"
                            : arguments.trace.empty()  ? "--trace: the recording"
                                                       : nullptr;
  if (wrong != nullptr) return fail(Status(Code::invalid_argument, wrong));
  if (arguments.action == "compare") return compare_trace(arguments);
  if (arguments.action != "info" && arguments.action != "convert")
    return replay_trace(arguments);
  const auto recording = recorded(arguments, arguments.seed);
  if (!recording.ok()) return fail(recording.error());
  return arguments.action == "info" ? info_of(*recording, arguments)
                                    : convert(*recording, arguments);
}

}  // namespace speckv::cli

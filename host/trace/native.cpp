// The project's own form of a trace:
//
//   speckv-trace 1 BLOCK_TOKENS
//   R ARRIVED_US DURATION_US SESSION IN OUT FLAGS EARLIER SHARED RANGES
//   H AT_US SESSION ETA_US CONFIDENCE
//   E AT_US SESSION
//
// a line a request, hint and end of a session, by time. DURATION_US: -1, not recorded.
// FLAGS: letters of "rtus" (brings a tool's result, stops for a tool, calls a tool,
// sub-agent), or "-". The chain is the first SHARED blocks of request EARLIER (counted
// from 0) and then RANGES. CONFIDENCE: in millionths.
#include <cmath>

#include "trace/chain_text.hpp"
#include "trace/read.hpp"

namespace speckv::trace {
namespace {

constexpr std::string_view kHead = "speckv-trace 1 ";
constexpr double kMicro = 1e6;

bool read_flags(std::string_view text, Request& request) {
  if (text == "-") return true;
  for (const char c : text) {
    bool* const flag = c == 'r'   ? &request.brings_tool_result
                       : c == 't' ? &request.stops_for_tool
                       : c == 'u' ? &request.calls_tool
                       : c == 's' ? &request.sub_agent
                                  : nullptr;
    if (flag == nullptr || *flag) return false;
    *flag = true;
  }
  return !text.empty();
}

bool read_notice(Words& words, bool ended, Notice& notice) {
  notice.at = words.number<double>(0, kLongestTrace * kMicro) / kMicro;
  notice.session = words.number<std::uint32_t>(0, 0xFFFFFFFF);
  notice.ended = ended;
  if (!ended) {
    notice.eta = words.number<double>(0, kLongestTrace * kMicro) / kMicro;
    notice.confidence = words.number<double>(0, kMicro) / kMicro;
  }
  return !words.bad && words.done();
}

std::string write_flags(const Request& request) {
  std::string text;
  if (request.brings_tool_result) text += 'r';
  if (request.stops_for_tool) text += 't';
  if (request.calls_tool) text += 'u';
  if (request.sub_agent) text += 's';
  return text.empty() ? "-" : text;
}

std::string micros(double seconds) {
  return std::to_string(std::llround(seconds * kMicro));
}

std::string write_notice(const Notice& notice) {
  const std::string of = ' ' + micros(notice.at) + ' ' + std::to_string(notice.session);
  if (notice.ended) return 'E' + of + '\n';
  return 'H' + of + ' ' + micros(notice.eta) + ' ' + micros(notice.confidence) + '\n';
}

}  // namespace

Result<Trace> read_native(std::string_view text, const ReadOptions& options) {
  Lines lines(text, options.name);
  const std::string_view head = lines.next().value_or("");
  if (!head.starts_with(kHead)) return lines.wrong("not \"speckv-trace 1 BLOCK_TOKENS\"");
  Words about(head.substr(kHead.size()));
  const auto block_tokens = about.number<std::uint32_t>(1, kMostTokens);
  if (about.bad || !about.done()) return lines.wrong("tokens of a block: 1 to 2^30");

  Builder builder(options.name, block_tokens);
  std::vector<std::uint64_t> rest;
  std::vector<BlockId> ids;
  double before = 0;
  while (const auto line = lines.next()) {
    Words words(*line);
    Request request;
    const std::string_view kind = words.word();
    if (kind == "H" || kind == "E") {
      Notice notice;
      if (!read_notice(words, kind == "E", notice))
        return lines.wrong("a hint or an end: time, session, eta, confidence");
      if (notice.at < before) return lines.wrong("is before the line above");
      before = notice.at;
      builder.add(notice);
      continue;
    }
    if (kind != "R") return lines.wrong("not an R, H or E line");
    request.arrived = words.number<double>(0, kLongestTrace * kMicro) / kMicro;
    request.duration = words.number<double>(-1, kLongestTrace * kMicro);
    if (request.duration >= 0) request.duration /= kMicro;
    request.session = words.number<std::uint32_t>(0, 0xFFFFFFFF);
    request.input_tokens = words.number<std::uint32_t>(0, kMostTokens);
    request.output_tokens = words.number<std::uint32_t>(0, kMostTokens);
    if (words.bad)
      return lines.wrong("times, session or tokens are not numbers in range");
    if (request.arrived < before) return lines.wrong("arrives before the line above");
    before = request.arrived;
    if (!read_flags(words.word(), request)) return lines.wrong("flags: letters of rtus");
    const auto earlier = words.number<std::size_t>(0, 0xFFFFFFFF);
    const auto shared = words.number<std::uint32_t>(0, Builder::kLongestChain);
    if (words.bad || (shared > 0 && (earlier >= builder.size() ||
                                     shared > builder.chain(earlier).size())))
      return lines.wrong("shares blocks that no earlier request has");
    rest.clear();
    ids.clear();
    if (!read_ranges(words.word(), Builder::kLongestChain, rest) || !words.done())
      return lines.wrong("blocks: ranges such as 0-12,40 or -");
    for (const std::uint64_t key : rest)
      ids.push_back(builder.id(key));
    if (Status status = builder.add(request, earlier, shared, ids); !status.ok())
      return lines.wrong(status.message());
  }
  return std::move(builder).finish(true);
}

std::string write_trace(const Trace& trace) {
  std::string text = std::string(kHead) + std::to_string(trace.block_tokens) + "\n";
  std::vector<std::size_t> last(trace.sessions);  // request of each session, + 1
  auto notice = trace.notices.begin();
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    const Request& request = trace.requests[i];
    for (; notice != trace.notices.end() && notice->at < request.arrived; ++notice)
      text += write_notice(*notice);
    const auto chain = trace.chain(request);
    std::size_t shared = 0, earlier = last[request.session];
    if (earlier > 0) {
      const auto before = trace.chain(trace.requests[--earlier]);
      while (shared < std::min(chain.size(), before.size()) &&
             chain[shared] == before[shared])
        ++shared;
    }
    last[request.session] = i + 1;
    text += "R " + micros(request.arrived) + " " +
            (request.duration < 0 ? "-1" : micros(request.duration)) + " " +
            std::to_string(request.session) + " " + std::to_string(request.input_tokens) +
            " " + std::to_string(request.output_tokens) + " " + write_flags(request) +
            " " + std::to_string(earlier) + " " + std::to_string(shared) + " " +
            write_ranges(chain.subspan(shared)) + "\n";
  }
  for (; notice != trace.notices.end(); ++notice)
    text += write_notice(*notice);
  return text;
}

}  // namespace speckv::trace

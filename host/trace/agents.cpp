// Sessions of coding agents, as docs/traces.md describes the file:
//
//   S ID TOOL_TOKENS SYSTEM_TOKENS REQUESTS
//   R T_MS IN OUT API_MS THINK_MS STOP IN_TYPES OUT_TYPES SUB REF LCP RANGES
//
// The input of a request is blocks of 64 tokens: the first LCP of the session's request
// REF (-1: none), then RANGES. They are joined to blocks of `block_tokens`, a rest that
// does not fill one being left out.
#include <random>

#include "trace/chain_text.hpp"
#include "trace/read.hpp"

namespace speckv::trace {
namespace {

constexpr std::uint32_t kFineTokens = 64;
constexpr double kMilli = 1e3;

struct Line {
  Request request{};
  std::int64_t ref = -1;
  std::uint32_t shared = 0;
  std::vector<std::uint64_t> rest{};
};

bool has(std::string_view types, char type) {
  return types.find(type) != std::string_view::npos;
}

bool parse(std::string_view text, Line& line) {
  Words words(text);
  Request& request = line.request;
  (void)words.word();
  request.arrived = words.number<double>(0, kLongestTrace) / kMilli;
  request.input_tokens = words.number<std::uint32_t>(0, kMostTokens);
  request.output_tokens = words.number<std::uint32_t>(0, kMostTokens);
  const double api = words.number<double>(-1, kLongestTrace);
  request.duration = api < 0 ? -1 : api / kMilli;
  (void)words.number<double>(-1, kLongestTrace);  // think time: told by the next arrival
  request.stops_for_tool = words.word() == "tool_use";
  request.brings_tool_result = has(words.word(), 'r');
  request.calls_tool = has(words.word(), 'u');
  request.sub_agent = words.number<std::uint32_t>(0, 0xFFFFFFFF) != 0;
  line.ref = words.number<std::int64_t>(-1, 0xFFFFFFFF);
  line.shared = words.number<std::uint32_t>(0, Builder::kLongestChain);
  line.rest.clear();
  const bool ranges = read_ranges(words.word(), Builder::kLongestChain, line.rest);
  return ranges && !words.bad && words.done();
}

// The requests of one session so far: their fine blocks, to join new ones from.
struct Session {
  std::uint64_t number = 0;
  double begin = 0;
  std::vector<std::vector<std::uint64_t>> fine{};
  std::vector<std::vector<BlockId>> chains{};
};

// The chain of a request: what it shares is joined already.
std::vector<BlockId> join(Builder& builder, const Session& session, const Line& line,
                          const std::vector<std::uint64_t>& fine, std::uint32_t group) {
  std::vector<BlockId> chain;
  if (line.ref >= 0) {
    const auto& parent = session.chains[static_cast<std::size_t>(line.ref)];
    const std::size_t whole = std::min<std::size_t>(line.shared / group, parent.size());
    chain.assign(parent.begin(), parent.begin() + static_cast<std::ptrdiff_t>(whole));
  }
  while ((chain.size() + 1) * group <= fine.size()) {
    std::uint64_t key = chain.empty() ? mix(session.number, 0) : mix(chain.back(), 1);
    for (std::size_t i = chain.size() * group; i < (chain.size() + 1) * group; ++i)
      key = mix(key, fine[i]);
    chain.push_back(builder.id(key));
  }
  return chain;
}

}  // namespace

Result<Trace> read_agents(std::string_view text, const ReadOptions& options) {
  Lines lines(text, options.name);
  const std::uint32_t group = options.block_tokens / kFineTokens;
  if (group == 0 || options.block_tokens % kFineTokens != 0)
    return Status(Code::invalid_argument,
                  "blocks of agents' traces have a multiple of 64 tokens");
  Builder builder(options.name, options.block_tokens);
  std::mt19937_64 random(options.seed);
  Session session;
  Line line;
  std::uint64_t fine_blocks = 0;
  while (const auto row = lines.next()) {
    if (row->starts_with("S ")) {
      Words words(row->substr(2));
      (void)words.word();
      for (int i = 0; i < 3; ++i)
        (void)words.number<std::uint32_t>(0, kMostTokens);
      if (words.bad || !words.done()) return lines.wrong("S: an id and three numbers");
      session = {session.number + 1,
                 static_cast<double>(random() >> 11) * 0x1p-53 * options.window,
                 {},
                 {}};
      fine_blocks = 0;
      continue;
    }
    if (!row->starts_with("R ") || session.number == 0)
      return lines.wrong("neither an S line nor an R line after one");
    if (line.request = {}; !parse(*row, line))
      return lines.wrong("R: twelve words, numbers in range, blocks as ranges");
    const bool known = line.ref < static_cast<std::int64_t>(session.fine.size());
    if (!known ||
        line.shared >
            (line.ref < 0 ? 0 : session.fine[static_cast<std::size_t>(line.ref)].size()))
      return lines.wrong("shares blocks that no earlier request of the session has");
    std::vector<std::uint64_t> fine;
    if (line.ref >= 0) {
      const auto& parent = session.fine[static_cast<std::size_t>(line.ref)];
      fine.assign(parent.begin(), parent.begin() + line.shared);
    }
    fine.insert(fine.end(), line.rest.begin(), line.rest.end());
    fine_blocks += fine.size();
    if (fine_blocks > Builder::kMostBlocks / 4)
      return lines.wrong("more than 2^26 blocks in one session");
    std::vector<BlockId> chain = join(builder, session, line, fine, group);
    line.request.session = static_cast<std::uint32_t>(session.number);
    line.request.arrived += session.begin;
    if (!chain.empty()) {
      if (Status status = builder.add(line.request, chain); !status.ok())
        return lines.wrong(status.message());
    }
    session.fine.push_back(std::move(fine));
    session.chains.push_back(std::move(chain));
  }
  return std::move(builder).finish(true);
}

}  // namespace speckv::trace

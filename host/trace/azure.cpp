// Azure's LLM inference traces: when a request came, how long its context and its answer
// were. They do not tell which prefixes are alike, so each request is a session of its
// own and its blocks are nobody else's.
#include <array>

#include "trace/lines.hpp"
#include "trace/read.hpp"

namespace speckv::trace {
namespace {

// Days since 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
std::int64_t days(std::int64_t y, std::int64_t m, std::int64_t d) {
  y -= m <= 2 ? 1 : 0;
  const std::int64_t era = y / 400, yoe = y - era * 400;
  const std::int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
  return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

// "2023-11-16 18:17:03.9799600", in seconds; < 0: it is not one.
double moment(std::string_view text) {
  if (text.size() < 19) return -1;
  for (const auto& [at, mark] : std::array<std::pair<std::size_t, char>, 5>{
           {{4, '-'}, {7, '-'}, {10, ' '}, {13, ':'}, {16, ':'}}})
    if (text[at] != mark) return -1;
  const auto field = [&](std::size_t at, std::size_t size, int least, int most) {
    return Words(text.substr(at, size), '\0').number<int>(least, most);
  };
  const auto whole = [&](std::size_t at, std::size_t size, int least, int most) {
    Words words(text.substr(at, size), '\0');
    (void)words.number<int>(least, most);
    return !words.bad;
  };
  if (!whole(0, 4, 1970, 9999) || !whole(5, 2, 1, 12) || !whole(8, 2, 1, 31) ||
      !whole(11, 2, 0, 23) || !whole(14, 2, 0, 59))
    return -1;
  Words seconds(text.substr(17), '\0');
  const double second = seconds.number<double>(0, 60.999);
  if (seconds.bad) return -1;
  const std::int64_t day =
      days(field(0, 4, 1970, 9999), field(5, 2, 1, 12), field(8, 2, 1, 31));
  return static_cast<double>(day * 86400 + field(11, 2, 0, 23) * 3600 +
                             field(14, 2, 0, 59) * 60) +
         second;
}

}  // namespace

Result<Trace> read_azure(std::string_view text, const ReadOptions& options) {
  Lines lines(text, options.name);
  if (lines.next() != "TIMESTAMP,ContextTokens,GeneratedTokens")
    return lines.wrong("not \"TIMESTAMP,ContextTokens,GeneratedTokens\"");
  Builder builder(options.name, options.block_tokens);
  if (options.block_tokens == 0) return lines.wrong("blocks of no token");
  std::uint64_t blocks = 0;
  std::vector<BlockId> chain;
  double begin = -1;
  while (const auto row = lines.next()) {
    Words words(*row, ',');
    const double at = moment(words.word());
    if (at < 0) return lines.wrong("not a time such as 2023-11-16 18:17:03.97996");
    if (begin < 0) begin = at;
    Request request;
    request.arrived = at - begin;
    request.input_tokens = words.number<std::uint32_t>(0, kMostTokens);
    request.output_tokens = words.number<std::uint32_t>(0, kMostTokens);
    if (words.bad || !words.done()) return lines.wrong("two numbers of tokens");
    request.session = static_cast<std::uint32_t>(builder.size());
    const std::uint32_t count = request.input_tokens / options.block_tokens;
    if (count > Builder::kLongestChain)
      return lines.wrong("a chain of more than 2^20 blocks");
    chain.clear();
    for (std::uint32_t i = 0; i < count; ++i)
      chain.push_back(builder.id(blocks++));
    if (Status status = builder.add(request, chain); !status.ok())
      return lines.wrong(status.message());
  }
  return std::move(builder).finish(true);
}

}  // namespace speckv::trace

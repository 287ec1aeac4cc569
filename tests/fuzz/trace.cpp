// Any bytes as a recorded trace, in the format that their first line suggests: a trace
// whose chains lie inside it and that reads back as it was written, or a line and a
// reason.
#include <cstdint>
#include <string_view>

#include "fuzz/require.hpp"
#include "trace/read.hpp"

namespace {

using speckv::test::require;
namespace trace = speckv::trace;

bool same(const trace::Trace& a, const trace::Trace& b) {
  if (a.requests.size() != b.requests.size() || a.sessions != b.sessions) return false;
  if (a.notices.size() != b.notices.size()) return false;
  for (std::size_t i = 0; i < a.requests.size(); ++i) {
    const auto x = a.chain(a.requests[i]), y = b.chain(b.requests[i]);
    if (x.size() != y.size() || a.requests[i].session != b.requests[i].session)
      return false;
  }
  return trace::shared_prefixes(a) == trace::shared_prefixes(b);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto read = trace::read_trace(text, "", {.name = "t"});
  if (!read.ok()) {
    require(read.error().code() == speckv::Code::invalid_argument, "an odd code");
    require(read.error().message().starts_with("t:"), "it does not say where");
    return 0;
  }
  double before = 0;
  for (const trace::Request& request : read->requests) {
    require(request.arrived >= before, "requests out of order");
    require(request.session < read->sessions, "a session beyond the last");
    require(request.first + request.blocks <= read->chains.size(), "a chain outside");
    for (const trace::BlockId block : read->chain(request))
      require(block < read->distinct_blocks, "a block beyond the last");
    before = request.arrived;
  }
  for (const trace::Notice& notice : read->notices) {
    require(notice.session < read->sessions, "a notice of a session beyond the last");
    require(notice.at >= 0 && notice.eta >= 0, "a notice before the first request");
    require(notice.confidence >= 0 && notice.confidence <= 1, "an odd confidence");
  }
  if (read->chains.size() > 100000) return 0;
  const auto again = trace::read_trace(trace::write_trace(*read), "", {.name = "t"});
  require(again.ok() && same(*read, *again), "it does not read back");
  return 0;
}

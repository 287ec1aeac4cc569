// Return times on recorded traces: learned on the first part, judged on the rest by the
// area under the curve of "returns within 64 s" (0.5 is chance).
#include <algorithm>
#include <fstream>
#include <iterator>
#include <unordered_map>
#include <vector>

#include <gtest/gtest.h>

#include "predict/return_predictor.hpp"
#include "trace/read.hpp"

namespace speckv::predict {
namespace {

constexpr double kWithin = 64;  // s

trace::Trace recorded(const std::string& name) {
  std::ifstream file(SPECKV_TEST_VECTORS "/../../data/traces/" + name, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  auto read = trace::read_trace(text, "", {.name = name, .window = 6 * 3600});
  EXPECT_TRUE(read.ok()) << (read.ok() ? "" : read.error().message());
  return read.ok() ? *std::move(read) : trace::Trace{};
}

struct Judged {
  double completed = 0, said = 0;
  bool returns = false;
};

// Feeds a trace in the order of its events, later than `start`; what was said of each
// request, and what came.
std::vector<Judged> feed(ReturnPredictor& predictor, const trace::Trace& trace,
                         double start) {
  struct Event {
    double time;
    bool completes;
    std::size_t request;
  };
  std::vector<Event> events;
  for (std::size_t i = 0; i < trace.requests.size(); ++i) {
    events.push_back({trace.requests[i].arrived, false, i});
    events.push_back({trace::completion_of(trace.requests[i]), true, i});
  }
  std::stable_sort(events.begin(), events.end(),
                   [](const Event& a, const Event& b) { return a.time < b.time; });
  const std::vector<std::uint32_t> shared = trace::shared_prefixes(trace);
  std::vector<Judged> to(trace.requests.size());
  std::unordered_map<std::uint32_t, std::size_t> last;
  for (const Event& e : events) {
    const trace::Request& r = trace.requests[e.request];
    if (!e.completes) {
      predictor.arrived(r.session, start + e.time);
      if (const auto before = last.find(r.session); before != last.end()) {
        const double done = trace::completion_of(trace.requests[before->second]);
        to[before->second].returns = e.time - done <= kWithin;
      }
      last[r.session] = e.request;
      continue;
    }
    const ReturnDistribution said =
        predictor.completed({.session = r.session,
                             .arrived = start + r.arrived,
                             .completed = start + e.time,
                             .input_tokens = r.input_tokens,
                             .output_tokens = r.output_tokens,
                             .blocks = r.blocks,
                             .reused_blocks = shared[e.request],
                             .brings_tool_result = r.brings_tool_result,
                             .stops_for_tool = r.stops_for_tool,
                             .calls_tool = r.calls_tool,
                             .sub_agent = r.sub_agent});
    to[e.request].completed = e.time;
    to[e.request].said = said.within(kWithin);
  }
  return to;
}

// The probability that a request that returned was called likelier than one that did not.
double area_under_curve(std::vector<Judged> all) {
  std::sort(all.begin(), all.end(),
            [](const Judged& a, const Judged& b) { return a.said < b.said; });
  double ranks = 0, yes = 0;
  for (std::size_t i = 0, next = 0; i < all.size(); i = next) {
    while (next < all.size() && all[next].said == all[i].said)
      ++next;
    const double rank = static_cast<double>(i + next + 1) / 2;
    for (std::size_t k = i; k < next; ++k) {
      ranks += all[k].returns ? rank : 0;
      yes += all[k].returns ? 1 : 0;
    }
  }
  const double no = static_cast<double>(all.size()) - yes;
  EXPECT_GT(yes * no, 0);
  return (ranks - yes * (yes + 1) / 2) / (yes * no);
}

TEST(ReturnTraces, people_who_chat) {
  const trace::Trace trace = recorded("mooncake_conversation.jsonl");
  ASSERT_GT(trace.requests.size(), 10000U);
  const auto predictor = *make_return_predictor({});
  std::vector<Judged> judged = feed(*predictor, trace, 0);
  // Learned on the first half; the end, whose returns lie beyond the trace, is not
  // judged.
  const double half = trace.seconds() / 2;
  const double end = trace.seconds() - std::min(600.0, 0.15 * trace.seconds());
  std::erase_if(
      judged, [&](const Judged& j) { return j.completed <= half || j.completed >= end; });
  const double area = area_under_curve(judged);
  RecordProperty("auc", std::to_string(area));
  EXPECT_GE(area, 0.65);
}

TEST(ReturnTraces, agents_that_code) {
  const trace::Trace trace = recorded("coding_agents.txt");
  ASSERT_GT(trace.requests.size(), 30000U);
  const auto predictor = *make_return_predictor({});
  feed(*predictor, trace::select(trace, {.part = trace::Selection::Part::train}), 0);
  const double later = 2 * trace.seconds();
  predictor->advance(later);
  const auto judged = feed(
      *predictor, trace::select(trace, {.part = trace::Selection::Part::test}), later);
  const double area = area_under_curve(judged);
  RecordProperty("auc", std::to_string(area));
  EXPECT_GE(area, 0.78);
}

}  // namespace
}  // namespace speckv::predict

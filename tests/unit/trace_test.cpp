// Traces: each format against what its lines say, and what is wrong with a file told with
// its line.
#include <gtest/gtest.h>

#include "trace/read.hpp"

namespace speckv::trace {
namespace {

std::vector<BlockId> chain_of(const Trace& trace, std::size_t number) {
  const auto chain = trace.chain(trace.requests[number]);
  return {chain.begin(), chain.end()};
}

Trace read(std::string_view text, ReadOptions options = {}) {
  auto trace = read_trace(text, "", options);
  EXPECT_TRUE(trace.ok()) << trace.error().message();
  return trace.ok() ? *std::move(trace) : Trace{};
}

std::string refusal(std::string_view text) {
  const auto trace = read_trace(text, "", {.name = "f"});
  if (trace.ok()) return "read";
  EXPECT_EQ(trace.error().code(), Code::invalid_argument);
  return trace.error().message();
}

constexpr std::string_view kMooncake =
    R"({"timestamp": 500, "input_length": 1300, "output_length": 5, "hash_ids": [7, 8, 9]}
{"timestamp": 2500, "input_length": 1800, "output_length": 6, "hash_ids": [7, 8, 20, 21]}
{"timestamp": 2500, "input_length": 512, "output_length": 7, "hash_ids": [7]}
)";

TEST(Traces, mooncake_and_which_request_continues_which) {
  const Trace trace = read(kMooncake);
  ASSERT_EQ(trace.requests.size(), 3U);
  EXPECT_EQ(trace.block_tokens, 512U);
  EXPECT_EQ(trace.distinct_blocks, 5U);
  EXPECT_EQ(trace.requests[0].arrived, 0);
  EXPECT_EQ(trace.requests[1].arrived, 2);
  EXPECT_EQ(trace.requests[1].input_tokens, 1800U);
  EXPECT_EQ(chain_of(trace, 1), (std::vector<BlockId>{0, 1, 3, 4}));
  // The second shares all but the last block of the first; the third the first block
  // only.
  EXPECT_EQ(trace.requests[1].session, trace.requests[0].session);
  EXPECT_NE(trace.requests[2].session, trace.requests[0].session);
  EXPECT_EQ(trace.sessions, 2U);
  EXPECT_EQ(shared_prefixes(trace), (std::vector<std::uint32_t>{0, 2, 1}));
}

constexpr std::string_view kAgents =
    "S a 1 2 3\n"
    "R 0 128 4 1000 0 tool_use t k+u 0 -1 0 1-5\n"
    "R 5000 192 4 -1 0 end_turn r t 1 0 4 9,11-12\n"
    "S b 1 2 3\n"
    "R 0 128 4 1000 0 end_turn t t 0 -1 0 1-4\n";

TEST(Traces, agents_in_blocks_of_the_size_that_is_asked_for) {
  const Trace trace = read(kAgents, {.block_tokens = 128, .window = 1e-9});
  ASSERT_EQ(trace.requests.size(), 3U);
  const Request *first = nullptr, *second = nullptr, *other = nullptr;
  for (const Request& request : trace.requests) {
    if (request.arrived > 1) {
      second = &request;
    } else {
      (request.calls_tool ? first : other) = &request;
    }
  }
  ASSERT_TRUE(first != nullptr && second != nullptr && other != nullptr);
  EXPECT_EQ(first->blocks, 2U) << "five blocks of 64 tokens are two of 128 and a rest";
  EXPECT_EQ(second->blocks, 3U);
  EXPECT_EQ(first->session, second->session);
  EXPECT_NE(first->session, other->session);
  EXPECT_TRUE(first->stops_for_tool && !first->brings_tool_result && !first->sub_agent);
  EXPECT_TRUE(!second->stops_for_tool && second->brings_tool_result && second->sub_agent);
  EXPECT_EQ(first->duration, 1);
  EXPECT_LT(second->duration, 0);
  EXPECT_EQ(trace.chain(*first)[1], trace.chain(*second)[1]);
  EXPECT_NE(trace.chain(*first)[0], trace.chain(*other)[0])
      << "ids are the session's own";
}

TEST(Traces, azure_has_times_and_lengths) {
  const Trace trace = read(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-12-31 23:59:59.5000000,1100,10\r\n2024-01-01 00:00:01.0000000,100,20\r\n");
  ASSERT_EQ(trace.requests.size(), 2U);
  EXPECT_DOUBLE_EQ(trace.requests[1].arrived, 1.5);
  EXPECT_EQ(trace.requests[0].blocks, 2U);
  EXPECT_EQ(trace.requests[1].blocks, 0U);
  EXPECT_EQ(trace.sessions, 2U);
}

TEST(Traces, events_of_vllm_are_chains) {
  const Trace trace = read(
      R"([10.5,[["BlockStored",[1,2],null,[0,0,0,0],2,null]],0]
[11.5,[["BlockStored",["x",-4],2,[0,0,0,0],2,null],["BlockRemoved",[1]],["AllBlocksCleared"]]]
)");
  ASSERT_EQ(trace.requests.size(), 2U);
  EXPECT_EQ(trace.block_tokens, 2U);
  EXPECT_EQ(chain_of(trace, 1), (std::vector<BlockId>{0, 1, 2, 3}));
  EXPECT_EQ(trace.requests[1].input_tokens, 8U);
  EXPECT_EQ(trace.sessions, 1U);
}

TEST(Traces, what_is_written_reads_back) {
  for (const std::string_view text : {kMooncake, kAgents}) {
    const Trace trace = read(text, {.block_tokens = 64});
    const std::string written = write_trace(trace);
    const Trace again = read(written);
    ASSERT_EQ(again.requests.size(), trace.requests.size());
    for (std::size_t i = 0; i < trace.requests.size(); ++i) {
      EXPECT_NEAR(again.requests[i].arrived, trace.requests[i].arrived, 1e-6);
      EXPECT_EQ(again.requests[i].session, trace.requests[i].session);
      EXPECT_EQ(again.requests[i].stops_for_tool, trace.requests[i].stops_for_tool);
      EXPECT_EQ(chain_of(again, i), chain_of(trace, i));
    }
    EXPECT_EQ(write_trace(again), written);
  }
}

TEST(Traces, hints_and_ends_of_sessions_lie_between_requests) {
  const std::string text =
      "speckv-trace 1 512\n"
      "H 0 7 1 1\n"
      "R 500000 1000000 7 5 5 - 0 0 0-3\n"
      "R 700000 -1 9 5 5 - 0 0 9\n"
      "H 1600000 7 2500000 750000\n"
      "E 1700000 9\n"
      "H 1700000 11 1 1\n"
      "R 4100000 -1 7 5 5 - 0 4 -\n"
      "H 4200000 7 0 0\n";
  const Trace trace = read(text);
  ASSERT_EQ(trace.requests.size(), 3U);
  ASSERT_EQ(trace.notices.size(), 3U)
      << "not before the first request, nor of a session that has none";
  const Notice &hint = trace.notices[0], &end = trace.notices[1],
               &last = trace.notices[2];
  EXPECT_DOUBLE_EQ(hint.at, 1.1);
  EXPECT_EQ(hint.session, trace.requests[0].session);
  EXPECT_DOUBLE_EQ(hint.eta, 2.5);
  EXPECT_DOUBLE_EQ(hint.confidence, 0.75);
  EXPECT_TRUE(end.ended && !hint.ended && !last.ended);
  EXPECT_EQ(end.session, trace.requests[1].session);
  EXPECT_EQ(last.confidence, 0);
  const std::string written = write_trace(trace);
  EXPECT_NE(written.find("H 1100000 0 2500000 750000\nE 1200000 1\nR 3600000 "),
            std::string::npos)
      << written;
  EXPECT_EQ(write_trace(read(written)), written);

  // Those of the sessions that are selected, with their numbers there.
  for (const Selection::Part part : {Selection::Part::train, Selection::Part::test}) {
    const Trace some = select(trace, {.part = part});
    for (const Notice& notice : some.notices)
      EXPECT_LT(notice.session, some.sessions);
  }
  const Trace drawn = select(trace, {.share = 0.5, .seed = 3}),
              others = select(trace, {.share = 0.5, .seed = 3, .others = true});
  EXPECT_EQ(drawn.notices.size() + others.notices.size(), 3U);
  EXPECT_EQ(drawn.requests.size() + others.requests.size(), 3U);
  EXPECT_EQ(select(trace, {.longest = 1.15}).notices.size(), 1U);
}

TEST(Traces, what_is_wrong_is_told_with_its_line) {
  const std::string agents(kAgents), mooncake(kMooncake);
  const std::string native = "speckv-trace 1 512\nR 0 -1 0 5 5 - 0 0 0-3\n";
  const struct {
    std::string text, where;
  } cases[] = {
      {"", "f:0: "},
      {"hello\n", "f:1: "},
      {"S a 1 2\n", "f:1: "},
      {agents + "R 0 1 1 1 1 x t t 0 3 0 1\n", "f:6: shares blocks"},
      {agents + "R 0 1 1 1 1 x t t 0 0 5 1\n", "f:6: shares blocks"},
      {agents + "R 0 1 1 1 1 x t t 0 -1 0 5-4\n", "f:6: "},
      {agents + "R 0 1 1 1 1 x t t 0 -1 0 0-4000000000\n", "f:6: "},
      {agents + "R -1 1 1 1 1 x t t 0 -1 0 1\n", "f:6: "},
      {agents + "R nan 1 1 1 1 x t t 0 -1 0 1\n", "f:6: "},
      {agents + "\n", "f:6: "},
      {mooncake + "{\"timestamp\": 1}\n", "f:4: there is no input_length"},
      {mooncake + "{]\n", "f:4: not a JSON object"},
      {mooncake + R"({"timestamp":-1,"input_length":1,"output_length":1,"hash_ids":[]})",
       "f:4: "},
      {mooncake + R"({"timestamp":1,"input_length":1,"output_length":1,"hash_ids":[-1]})",
       "f:4: "},
      {mooncake +
           R"({"timestamp":1,"input_length":1,"output_length":1,"hash_ids":[],"x":1})",
       "f:4: a member that is not known"},
      {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-01 00:00:00,1,1\n", "f:2: "},
      {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-12-01 00:00:00,1\n", "f:2: "},
      {"TIMESTAMP,ContextTokens,GeneratedTokens\n", "f: there is no request"},
      {"[1,[[\"BlockStored\",[1],null,[1],0]]]\n", "f:1: "},
      {"[1,[[\"BlockMoved\"]]]\n", "f:1: an event that is not known"},
      {"speckv-trace 2 512\n", "f:1: "},
      {"speckv-trace 1 0\n", "f:1: "},
      {native + "R 5 -1 0 5 5 - 0 5 9\n", "f:3: shares blocks"},
      {native + "R 5 -1 0 5 5 rr 0 4 9\n", "f:3: flags"},
      {native + "R 5 -1 0 5 5 - 0 4 9 1\n", "f:3: blocks"},
      {native + "H 5 0 1\n", "f:3: a hint or an end"},
      {native + "H 5 0 1 1000001\n", "f:3: a hint or an end"},
      {native + "H 5 0 -1 1\n", "f:3: a hint or an end"},
      {native + "E 5 0 1\n", "f:3: a hint or an end"},
      {native + "E 5\n", "f:3: a hint or an end"},
      {native + "X 5 0\n", "f:3: not an R, H or E line"},
      {native + "E 5 0\nH 4 0 1 1\n", "f:4: is before the line above"},
      {native + "E 5 0\nR 4 -1 0 5 5 - 0 4 -\n", "f:4: arrives before the line above"},
      {native + "R 5 -1 0 5 5 - 0 4 -\nR 4 -1 0 5 5 - 0 4 -\n",
       "f:4: arrives before the line above"},
  };
  for (const auto& one : cases) {
    const std::string told = refusal(one.text);
    EXPECT_EQ(told.substr(0, one.where.size()), one.where) << told << "\n" << one.text;
  }
}

TEST(Traces, parts_share_no_session_and_make_the_whole) {
  Builder builder("t", 1);
  for (std::uint32_t i = 0; i < 3000; ++i) {
    Request request;
    request.arrived = i;
    request.session = i / 3;
    const BlockId block = builder.id(i / 3);
    ASSERT_TRUE(builder.add(request, std::span(&block, 1)).ok());
  }
  const Trace whole = std::move(builder).finish(true);
  const Trace train = select(whole, {.part = Selection::Part::train});
  const Trace test = select(whole, {.part = Selection::Part::test, .seed = 3});
  EXPECT_EQ(train.sessions + test.sessions, 1000U);
  EXPECT_NEAR(train.sessions, 600, 60);
  std::vector<bool> trained(whole.distinct_blocks);
  for (const BlockId block : train.chains)
    trained[block] = true;
  for (const BlockId block : test.chains)
    EXPECT_FALSE(trained[block]);
  const Trace half = select(whole, {.share = 0.5, .seed = 1});
  EXPECT_NEAR(half.sessions, 500, 60);
  EXPECT_EQ(select(whole, {.longest = 99}).requests.size(), 100U);
}

}  // namespace
}  // namespace speckv::trace

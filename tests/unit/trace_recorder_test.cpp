// A recording of a live store replays to the same hits, is read back as what was told,
// and ends where it cannot go on without anybody else's noticing.
#include "cxlspeckv/trace_recorder.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "cxlspeckv/promotion.hpp"

#include "support/live_prefetcher.hpp"
#include "trace/read.hpp"
#include "trace/replay.hpp"

namespace speckv {
namespace {

using test::kBlock;
using test::key_of;

class Recording : public testing::Test {
 protected:
  void SetUp() override {
    const auto* const info = testing::UnitTest::GetInstance()->current_test_info();
    path = std::filesystem::temp_directory_path() /
           (std::string("trace_recorder_") + info->name() + "_" +
            std::to_string(std::random_device()()));
  }
  void TearDown() override { std::filesystem::remove(path); }

  std::unique_ptr<TraceRecorder> record(TraceRecorderOptions options = {}) {
    options.clock = &clock;
    auto made = TraceRecorder::create(path, options);
    EXPECT_TRUE(made.ok());
    return *std::move(made);
  }
  trace::Trace recorded() const {
    std::ifstream file(path, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    auto read = trace::read_trace(text, "", {.name = "recording"});
    EXPECT_TRUE(read.ok()) << (read.ok() ? "" : read.error().message());
    return read.ok() ? *std::move(read) : trace::Trace{};
  }

 public:
  std::string path;
  test::ManualClock clock;
};

std::vector<BlockKey> keys_of(std::initializer_list<std::uint64_t> numbers) {
  std::vector<BlockKey> keys;
  for (const std::uint64_t number : numbers)
    keys.push_back(key_of(number));
  return keys;
}

TEST_F(Recording, says_what_was_told_in_the_order_of_arrivals) {
  const auto recorder = record({.block_tokens = 32});
  recorder->arrived(7);
  clock.turn(0.5);
  recorder->arrived(std::uint64_t{1} << 40);
  clock.turn(0.5);
  recorder->finished(std::uint64_t{1} << 40, keys_of({1, 2}), {.input_tokens = 70});
  EXPECT_EQ(recorder->requests(), 0U) << "one that arrived before is not done";
  clock.turn(1);
  recorder->finished(7, keys_of({1, 3, 4}),
                     {.input_tokens = 100, .output_tokens = 9, .calls_tool = true});
  clock.turn(1);
  recorder->finished(7, keys_of({1, 3, 5, 6}), {});  // nobody said that it arrived
  recorder->arrived(7);
  recorder->ended(7);
  recorder->arrived(9);
  EXPECT_TRUE(recorder->close().ok());
  EXPECT_TRUE(recorder->close().ok());
  EXPECT_EQ(recorder->requests(), 3U);
  EXPECT_EQ(recorder->left_out(), 2U);

  const trace::Trace trace = recorded();
  ASSERT_EQ(trace.requests.size(), 3U);
  EXPECT_EQ(trace.block_tokens, 32U);
  EXPECT_EQ(trace.sessions, 2U);
  EXPECT_EQ(trace.distinct_blocks, 6U);
  const trace::Request &first = trace.requests[0], &second = trace.requests[1],
                       &third = trace.requests[2];
  EXPECT_DOUBLE_EQ(first.duration, 2);
  EXPECT_DOUBLE_EQ(second.arrived, 0.5);
  EXPECT_DOUBLE_EQ(second.duration, 0.5);
  EXPECT_DOUBLE_EQ(third.duration, 0);
  EXPECT_EQ(first.session, third.session);
  EXPECT_TRUE(first.calls_tool && !first.stops_for_tool && !second.calls_tool);
  EXPECT_EQ(first.output_tokens, 9U);
  EXPECT_EQ(trace.chain(first)[0], trace.chain(second)[0]);
  EXPECT_NE(trace.chain(first)[1], trace.chain(second)[1]);
  EXPECT_TRUE(std::equal(trace.chain(first).begin(), trace.chain(first).begin() + 2,
                         trace.chain(third).begin()));
  EXPECT_NE(trace.chain(first)[2], trace.chain(third)[2]);
}

// Requests of sessions with common beginnings, one after the other, on a live store that
// keeps what was used last: a replay on tiers of the same size finds in the first tier
// what the store had there.
TEST_F(Recording, replays_to_the_same_hits) {
  constexpr std::uint64_t kFast = 40, kSlow = 400, kBlocks = 220;
  const auto recorder = record({.block_tokens = 16});
  test::Live live(kFast, kSlow);
  live.prefetch.hinted = false;  // it is told all the same
  live.prefetch.requests = recorder.get();
  live.open();
  // All below the first tier at the beginning, so that each that goes from it may go.
  (void)live.save_below({0, kBlocks});
  std::mt19937_64 random(3);
  std::vector<std::vector<std::uint64_t>> chains(9);
  std::set<std::uint64_t> known;
  std::uint64_t next = 3, hits = 0, known_blocks = 0;
  for (int i = 0; i < 300; ++i) {
    clock.turn(1);
    const std::uint64_t session = random() % chains.size();
    std::vector<std::uint64_t>& chain = chains[session];
    if (chain.empty() || random() % 10 == 0) chain = {session % 3};
    if (chain.size() < 16 && next < kBlocks) chain.push_back(next++);
    (void)live.prefetcher->arrived(session);
    std::vector<BlockKey> keys;
    std::vector<Pin> pins;  // what is in use stays
    for (const std::uint64_t n : chain) {
      keys.push_back(key_of(n));
      const bool there = live.store.tier_of(n) == 0;
      if (there) pins.push_back(*live.store->pin(keys.back()));
      if (!known.insert(n).second) {
        ++known_blocks;
        hits += there ? 1 : 0;
      }
    }
    // As in a replay, the last block first.
    for (std::size_t b = chain.size(); b-- > 0;) {
      ASSERT_TRUE(promote(*live.store, {&keys[b], 1}, 0).wait().ok());
      ASSERT_EQ(live.store.load(chain[b]), Code::ok);
    }
    clock.turn(0.1);
    ASSERT_TRUE(live.prefetcher->finished(session, keys).ok());
  }
  ASSERT_TRUE(recorder->close().ok());

  const trace::Trace trace = recorded();
  ASSERT_EQ(trace.requests.size(), 300U);
  const std::uint64_t frames = live.store->stats(0).blocks;  // it is full
  const trace::Node node{
      .name = "live",
      .tiers = {{"fast", frames * kBlock, 64e9, 0}, {"slow", kSlow * kBlock, 1e9, 0}},
      .prefill_tokens_per_second = 1e9,
      .output_tokens_per_second = 1e9,
      .request_seconds = 1e-3};
  const auto replayed =
      trace::replay(trace, node, {.kv_bytes_per_token = kBlock / 16, .measure_from = 0});
  ASSERT_TRUE(replayed.ok());
  EXPECT_EQ(replayed->shared_blocks, known_blocks);
  // A place in the store is free a moment after its block went, so that another victim
  // may be found meanwhile.
  EXPECT_NEAR(static_cast<double>(replayed->top_hits), static_cast<double>(hits), 3);
  EXPECT_GT(hits, 300U);
  EXPECT_LT(hits, known_blocks);
}

TEST_F(Recording, says_what_was_hinted_and_who_ended) {
  const auto recorder = record({.block_tokens = 32});
  recorder->arrived(7);
  clock.turn(0.5);
  recorder->hinted(8, 2.25, 0.5);  // of a session without a request
  clock.turn(0.5);
  recorder->finished(7, keys_of({1, 2}), {});
  clock.turn(1);
  recorder->hinted(7, 2.25, 0.5);
  recorder->hinted(7, -1, 0.5);
  recorder->hinted(7, std::nan(""), 0.5);
  recorder->hinted(7, 1, 1.5);
  clock.turn(1);
  recorder->ended(7);
  ASSERT_TRUE(recorder->close().ok());
  EXPECT_EQ(recorder->left_out(), 0U);
  const trace::Trace trace = recorded();
  ASSERT_EQ(trace.notices.size(), 2U) << "what is no hint is left out";
  EXPECT_DOUBLE_EQ(trace.notices[0].at, 2);
  EXPECT_DOUBLE_EQ(trace.notices[0].eta, 2.25);
  EXPECT_DOUBLE_EQ(trace.notices[0].confidence, 0.5);
  EXPECT_DOUBLE_EQ(trace.notices[1].at, 3);
  EXPECT_TRUE(trace.notices[1].ended);
}

// Even where the prefetcher is off, or does not believe it.
TEST_F(Recording, a_prefetcher_passes_hints_on) {
  const auto recorder = record();
  test::Live live(40, 100);
  live.prefetch.hinted = false;
  live.prefetch.requests = recorder.get();
  live.open();
  const auto keys = live.save_below({0, 4});
  ASSERT_TRUE(live.prefetcher->finished(1, keys).ok());
  (void)live.prefetcher->hint(1, 3, 1);
  ASSERT_TRUE(recorder->close().ok());
  ASSERT_EQ(recorded().notices.size(), 1U);
  EXPECT_DOUBLE_EQ(recorded().notices[0].eta, 3);
}

TEST_F(Recording, takes_a_bounded_amount_of_memory) {
  const auto recorder = record({.most_open = 4, .most_blocks = 64});
  recorder->arrived(1'000'000);  // is never finished
  std::vector<BlockKey> chain;
  for (std::uint64_t n = 0; n < 40; ++n)
    chain.push_back(key_of(n));
  for (std::uint64_t session = 0; session < 50; ++session) {
    clock.turn(1);
    recorder->arrived(session);
    recorder->finished(session, chain, {});
  }
  chain.resize(65, key_of(99));
  recorder->finished(77, chain, {});
  ASSERT_TRUE(recorder->close().ok());
  EXPECT_EQ(recorder->requests(), 50U);
  EXPECT_EQ(recorder->left_out(), 2U) << "the one that waited, and the one too long";
  const trace::Trace trace = recorded();
  EXPECT_EQ(trace.requests.size(), 50U);
  EXPECT_EQ(trace.distinct_blocks, 40U);
}

TEST_F(Recording, many_threads_tell) {
  const auto recorder = record({.overwrite = true});
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::uint64_t i = 0; i < 500; ++i) {
          recorder->arrived(t);
          recorder->finished(t, keys_of({t, 10 + i}), {});
        }
      });
    }
  }
  ASSERT_TRUE(recorder->close().ok());
  EXPECT_EQ(recorder->requests(), 2000U);
  const trace::Trace trace = recorded();
  EXPECT_EQ(trace.requests.size(), 2000U);
  EXPECT_EQ(trace.sessions, 4U);
}

TEST_F(Recording, a_full_disk_loses_the_recording_and_nothing_else) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  static std::string said;
  said.clear();
  const LogSink log{[](void*, LogLevel, std::string_view text) { said = text; }, nullptr};
  auto made = TraceRecorder::create("/dev/full", {.overwrite = true, .log = log});
  ASSERT_TRUE(made.ok());
  test::Live live(40, 100);
  live.prefetch.requests = made->get();
  live.open();
  const auto keys = live.save_below({0, 8});
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(live.prefetcher->finished(1, keys).ok());
    EXPECT_TRUE(live.prefetcher->arrived(1).ok());
    live.load({0, 8});
  }
  const Status lost = (*made)->close();
  EXPECT_EQ(lost.code(), Code::no_space);
  EXPECT_NE(lost.message().find("/dev/full"), std::string::npos) << lost.message();
  EXPECT_EQ(said, lost.message());
}

// Nobody reads the pipe, so the writer hangs; who tells does not.
TEST_F(Recording, what_comes_faster_than_it_is_written_is_lost) {
  ASSERT_EQ(::mkfifo(path.c_str(), S_IRUSR | S_IWUSR), 0);
  std::ifstream reader;
  std::unique_ptr<TraceRecorder> recorder;
  {
    const std::jthread opens([&] { reader.open(path); });
    recorder = record({.most_buffered = 4096, .overwrite = true});
  }
  std::vector<BlockKey> chain;
  for (std::uint64_t n = 0; n < 100; ++n)
    chain.push_back(key_of(n));
  for (std::uint64_t session = 0; session < 1000 && recorder->status().ok(); ++session)
    recorder->finished(session, chain, {});
  EXPECT_EQ(recorder->status().code(), Code::timed_out);
  const std::jthread reads([&] {
    std::string line;
    while (std::getline(reader, line)) {}
  });
  EXPECT_EQ(recorder->close().code(), Code::timed_out);
  recorder.reset();  // the pipe ends
}

TEST_F(Recording, bad_paths_and_options_are_refused) {
  const auto code_of = [](const std::string& where, TraceRecorderOptions options) {
    const auto made = TraceRecorder::create(where, options);
    return made.ok() ? Code::ok : made.error().code();
  };
  EXPECT_EQ(code_of(path + "/none/file", {}), Code::not_found);
  EXPECT_EQ(code_of("/", {}), Code::io_error);
  EXPECT_EQ(code_of(path, {.block_tokens = 0}), Code::invalid_argument);
  EXPECT_EQ(code_of(path, {.most_buffered = 1}), Code::invalid_argument);
  EXPECT_EQ(code_of(path, {.most_open = 0}), Code::invalid_argument);
  EXPECT_EQ(code_of(path, {.most_blocks = 0}), Code::invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(path)) << "refused before it was made";
  EXPECT_EQ(code_of(path, {}), Code::ok);
  EXPECT_NE(code_of(path, {}), Code::ok) << "it is there";
}

}  // namespace
}  // namespace speckv

// A live store's prefetcher, and a replay of what was recorded there: the same chunks in
// the same order, the same blocks kept, the same counters and the same hits. Time is a
// clock that the test turns, and a move takes none of it.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <sstream>

#include <gtest/gtest.h>

#include "cxlspeckv/promotion.hpp"
#include "cxlspeckv/trace_recorder.hpp"

#include "predict/return_predictor.hpp"
#include "prefetch/prefetcher_impl.hpp"
#include "support/live_prefetcher.hpp"
#include "trace/read.hpp"
#include "trace/replay.hpp"

namespace speckv {
namespace {

using test::key_of;

// Blocks that are large beside their headers, so that a tier has as many of them as its
// bytes say.
constexpr BlockLayout kLayout{
    .layers = 2, .kv_heads = 2, .head_dim = 16, .tokens = 256, .dtype = DType::f16};
constexpr std::uint64_t kBlock = 65536;
constexpr std::uint64_t kFast = 41, kSlow = 900, kMost = 800;  // blocks
// Of the fast tier when nothing is under way: a store keeps a part of 32 free.
constexpr std::uint64_t kAtRest = 39;
constexpr double kAtOnce = 1e30;  // bytes/s: a block's time is no time, at any time

struct Happening {
  enum class Kind : std::uint8_t { arrives, finishes, hint, ends } kind{};
  std::uint64_t session = 0;
  std::vector<std::uint64_t> chain{};
  double eta = 0, confidence = 0;
};
using Day = std::map<std::uint64_t, Happening>;  // by microseconds, no two at once

// Sessions of which some return soon and some late, most of them announced, some of them
// wrongly; two requests may overlap, and a session may end.
Day a_day(std::uint64_t seed, std::size_t requests) {
  constexpr std::uint64_t kSessions = 14;
  std::mt19937_64 random(seed);
  struct Session {
    std::uint64_t returns = 0, done = 0;
    std::vector<std::uint64_t> chain{};
  };
  std::vector<Session> sessions(kSessions);
  for (std::uint64_t s = 0; s < kSessions; ++s)
    sessions[s].returns = s * 700'003;
  std::uint64_t next = 4;
  Day day;
  const auto put = [&day](std::uint64_t at, Happening what) {
    while (!day.emplace(at, what).second)
      ++at;
    return at;
  };
  for (std::size_t i = 0; i < requests; ++i) {
    const std::uint64_t s =
        static_cast<std::uint64_t>(std::min_element(sessions.begin(), sessions.end(),
                                                    [](const auto& a, const auto& b) {
                                                      return a.returns < b.returns;
                                                    }) -
                                   sessions.begin());
    Session& its = sessions[s];
    const bool shared = its.chain.empty();
    if (shared) its.chain = {s % 4};
    for (auto more = random() % 3; more > 0 && its.chain.size() < 7 && next < kMost;
         --more)
      its.chain.push_back(next++);
    const std::uint64_t at = put(its.returns, {Happening::Kind::arrives, s, its.chain});
    its.done =
        put(at + 100'000 + random() % 500'000, {Happening::Kind::finishes, s, its.chain});
    if (random() % 40 == 0) {
      (void)put(its.done + 1000, {Happening::Kind::ends, s});
      its.chain.clear();
    }
    const std::uint64_t think =
        (s % 3 == 0 ? 2'000'000 : 14'000'000) + random() % 2'000'000;
    its.returns = its.done + think;
    const auto lead = 500'000 + random() % 1'500'000;
    if (random() % 10 < 7)
      (void)put(its.returns - lead, {Happening::Kind::hint,
                                     s,
                                     {},
                                     static_cast<double>(lead) / 1e6,
                                     random() % 4 == 0 ? 0.5 : 1.0});
    if (random() % 12 == 0)  // of one that comes later, or never
      (void)put(its.done + 5000, {Happening::Kind::hint, random() % kSessions, {}, 1, 1});
    if (random() % 15 == 0)  // taken back
      (void)put(its.done + 300'000, {Happening::Kind::hint, s, {}, 0, 0});
  }
  return day;
}

struct Outcome {
  std::uint64_t hits = 0;
  std::array<prefetch::Counters, prefetch::kSources> sources{};
  prefetch::Journal journal{};
};

class LiveStore {
 public:
  LiveStore(const Day& day, PrefetchOptions options, RequestSink* sink)
      : store_(tiers()), day_(day) {
    save_below();
    options.clock = &clock_;
    options.completions = &completions_;
    options.requests = sink;
    auto made = Prefetcher::create(*store_, options);
    EXPECT_TRUE(made.ok());
    prefetcher_ = *std::move(made);
    prefetcher_->impl().record(&outcome_.journal);
  }

  test::ManualClock& clock() { return clock_; }
  std::uint64_t capacity(std::size_t tier) { return store_->stats(tier).capacity; }

  Outcome run() {
    double due = 0;
    for (const auto& [at, what] : day_) {
      const double then = static_cast<double>(at) / 1e6;
      while (due < then) {
        turn_to(due);
        due = advance();
      }
      turn_to(then);
      happens(what);
      due = advance();
    }
    const PrefetchStats stats = prefetcher_->stats();
    for (const auto& [source, its] : {std::pair(0, stats.learned), {1, stats.hinted}}) {
      EXPECT_EQ(its.staged, its.useful + its.late + its.wasted + its.unread);
      outcome_.sources[static_cast<std::size_t>(source)] = {.chunks = its.chunks,
                                                            .displaced = its.displaced,
                                                            .staged = its.staged,
                                                            .useful = its.useful,
                                                            .wasted = its.wasted,
                                                            .late = its.late,
                                                            .retained = its.retained,
                                                            .pauses = its.pauses};
    }
    prefetcher_->impl().record(nullptr);
    return std::move(outcome_);
  }

 private:
  static StoreOptions tiers() {
    StoreOptions options;
    options.layouts = {kLayout};
    for (const std::uint64_t blocks : {kFast, kSlow})
      options.tiers.push_back(test::tier_on(
          blocks == kFast ? "fast" : "slow",
          std::make_shared<test::HeapDevice>(blocks * test::frame_bytes(kLayout),
                                             test::HeapDevice::Kind::memory)));
    return options;
  }
  // All of them in the slow tier alone: the fast one is full and held.
  void save_below() {
    std::vector<BlockKey> fillers;
    std::vector<Pin> pins;
    for (std::uint64_t n = 1'000'000;; ++n) {
      ASSERT_EQ(store_.save(n), Code::ok);
      fillers.push_back(key_of(n));
      if (store_.tier_of(n) != 0) break;
      pins.push_back(*store_->pin(fillers.back()));
    }
    for (std::uint64_t n = 0; n <= kMost; ++n) {
      ASSERT_EQ(store_.save(n), Code::ok);
      ASSERT_EQ(store_.tier_of(n), 1);
    }
    pins.clear();
    (void)store_->erase(fillers);
  }

  void turn_to(double at) {
    clock_.turn(at -
                std::chrono::duration<double>(clock_.now().time_since_epoch()).count());
  }
  void rest() {
    test::rest(*store_, below_);
    ASSERT_LE(store_->stats(0).blocks, kAtRest);
  }
  // A chunk that was begun has come. After any call of a prefetcher of two tiers there is
  // one at most, and nobody has heard of it.
  void land() {
    if (prefetcher_->stats().in_flight == 0) return;
    ASSERT_TRUE(completions_.wait(std::chrono::seconds(30)));
    CompletionQueue::Entry entry;
    ASSERT_EQ(completions_.poll({&entry, 1}), 1U);
    rest();
  }
  // When there is something to do again.
  double advance() {
    for (;;) {
      const std::chrono::duration<double> again = prefetcher_->advance();
      if (prefetcher_->stats().in_flight == 0)
        return std::chrono::duration<double>(clock_.now().time_since_epoch()).count() +
               again.count();
      land();
    }
  }

  void happens(const Happening& what) {
    switch (what.kind) {
      case Happening::Kind::arrives:
        (void)prefetcher_->arrived(what.session);
        land();
        read(what);
        break;
      case Happening::Kind::finishes: {
        pins_.erase(what.session);
        std::vector<BlockKey> keys;
        for (const std::uint64_t n : what.chain)
          keys.push_back(key_of(n));
        const RequestFacts facts{.input_tokens = static_cast<std::uint32_t>(
                                     what.chain.size() * kLayout.tokens),
                                 .output_tokens = 20,
                                 .calls_tool = what.session % 3 == 0};
        ASSERT_TRUE(prefetcher_->finished(what.session, keys, facts).ok());
        land();
        break;
      }
      case Happening::Kind::hint:
        (void)prefetcher_->hint(what.session, what.eta, what.confidence);
        land();
        break;
      case Happening::Kind::ends:
        (void)prefetcher_->ended(what.session);
        land();
        break;
    }
  }
  // What is missing comes first; then the last block is the first to be used, as in a
  // replay. What is read stays.
  void read(const Happening& what) {
    std::vector<Pin>& pins = pins_[what.session];
    std::vector<bool> there;
    bool shared = true;
    for (const std::uint64_t n : what.chain) {
      there.push_back(store_.tier_of(n) == 0);
      if (there.back()) pins.push_back(*store_->pin(key_of(n)));
      const bool known = !known_.insert(n).second;
      shared = shared && known;
      outcome_.hits += shared && there.back() ? 1U : 0U;
    }
    for (std::size_t i = 0; i < what.chain.size(); ++i) {
      if (there[i]) continue;
      const BlockKey key = key_of(what.chain[i]);
      ASSERT_TRUE(promote(*store_, {&key, 1}, 0).wait().ok());
      rest();
      pins.push_back(*store_->pin(key));
    }
    for (std::size_t i = what.chain.size(); i-- > 0;)
      ASSERT_EQ(store_.load(what.chain[i]), Code::ok);
  }

  test::ManualClock clock_;
  CompletionQueue completions_;
  test::StoreUnderTest store_;
  const BlockKey below_ = key_of(kMost);  // of no session: it stays in the slow tier
  const Day& day_;
  std::unique_ptr<Prefetcher> prefetcher_;
  std::map<std::uint64_t, std::vector<Pin>> pins_;
  std::set<std::uint64_t> known_;
  Outcome outcome_;
};

struct Way {
  const char* name;
  bool learned, hinted, retain, stage;
};

class LiveReplay : public testing::TestWithParam<Way> {
 protected:
  static PrefetchOptions options() {
    PrefetchOptions options;
    options.learned = GetParam().learned;
    options.hinted = GetParam().hinted;
    options.retain = GetParam().retain;
    options.stage = GetParam().stage;
    options.chunk_bytes = kBlock;  // of more, room may be made between two, or after them
    options.most_in_flight = 8 * kBlock;
    options.bytes_per_second = {kAtOnce, kAtOnce};
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Ways, LiveReplay,
                         testing::Values(Way{"hints_retain", false, true, true, false},
                                         Way{"hints_stage", false, true, false, true},
                                         Way{"hinted", false, true, true, true},
                                         Way{"retained", true, false, true, false},
                                         Way{"learned", true, false, true, true},
                                         Way{"both", true, true, true, true}),
                         [](const auto& way) { return std::string(way.param.name); });

// A counter as text, for a message that tells which differs.
std::string told(const prefetch::Counters& c) {
  std::string text;
  for (const std::uint64_t n :
       {c.chunks, c.displaced, c.staged / kBlock, c.useful / kBlock, c.wasted / kBlock,
        c.late / kBlock, c.retained / kBlock, c.pauses})
    text += std::to_string(n) + " ";
  return text;
}

// The first thing that one scheduler was told or asked and the other was not.
std::string first_difference(const prefetch::Journal& a, const prefetch::Journal& b) {
  const auto text = [](const prefetch::Entry& e) {
    std::ostringstream out;
    out << "kind " << static_cast<int>(e.kind) << " session " << e.session << " at "
        << e.now << " bytes " << e.bytes << " of " << e.shared << " change " << e.change
        << " tier " << e.tier << " eta " << e.eta << " chunk of " << e.chunk.session
        << " bytes " << e.chunk.bytes << " end " << static_cast<int>(e.end) << " source "
        << static_cast<int>(e.source) << " outcome " << static_cast<int>(e.outcome);
    return out.str();
  };
  for (std::size_t i = 0; i < std::min(a.entries.size(), b.entries.size()); ++i) {
    const std::string one = text(a.entries[i]), other = text(b.entries[i]);
    if (one != other) return std::to_string(i) + ": " + one + "\n and: " + other;
  }
  return a.entries.size() == b.entries.size() ? "none" : "one goes on";
}

TEST_P(LiveReplay, decides_what_was_decided_live) {
  const std::string path =
      std::filesystem::temp_directory_path() /
      ("live_replay_" + std::to_string(std::random_device()()) + GetParam().name);
  const Day day = a_day(11, 500);
  test::ManualClock* clock = nullptr;
  struct Late final : Clock {  // of a store that is made after its recorder
    test::ManualClock** of;
    time_point now() noexcept override {
      return *of == nullptr ? time_point{} : (*of)->now();
    }
  } late;
  late.of = &clock;
  auto recorder =
      TraceRecorder::create(path, {.block_tokens = kLayout.tokens, .clock = &late});
  ASSERT_TRUE(recorder.ok());
  LiveStore live(day, options(), recorder->get());
  clock = &live.clock();
  const Outcome was = live.run();
  ASSERT_TRUE((*recorder)->close().ok());

  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove(path);
  const auto trace = trace::read_trace(text, "", {.name = "recording"});
  ASSERT_TRUE(trace.ok()) << trace.error().message();
  ASSERT_EQ(trace->requests.size(), 500U);
  ASSERT_GT(trace->notices.size(), 300U);

  const trace::Node node{.name = "live",
                         .tiers = {{"fast", live.capacity(0), kAtOnce, 0},
                                   {"slow", live.capacity(1), kAtOnce, 0}}};
  prefetch::Journal journal;
  trace::ReplayOptions replayed{.policy = "lru",
                                .live = options(),
                                .as_recorded = true,
                                .journal = &journal,
                                .kv_bytes_per_token = kBlock / kLayout.tokens};
  std::unique_ptr<predict::ReturnPredictor> predictor;
  if (GetParam().learned) {
    predictor = *predict::make_return_predictor({.sessions = options().sessions});
    replayed.predictor = predictor.get();
  }
  const auto again = trace::replay(*trace, node, replayed);
  ASSERT_TRUE(again.ok());

  // Decisions: each chunk, and each session that is kept, in their order.
  const std::string difference = first_difference(journal, was.journal);
  ASSERT_EQ(difference, "none");
  ASSERT_EQ(journal.chunks.size(), was.journal.chunks.size()) << difference;
  for (std::size_t i = 0; i < journal.chunks.size(); ++i) {
    const prefetch::Chunk &a = journal.chunks[i], &b = was.journal.chunks[i];
    ASSERT_TRUE(a.session == b.session && a.from == b.from && a.to == b.to &&
                a.bytes == b.bytes && a.source == b.source)
        << i << difference;
  }
  ASSERT_EQ(journal.kept.size(), was.journal.kept.size()) << difference;
  for (std::size_t i = 0; i < journal.kept.size(); ++i) {
    const prefetch::Kept &a = journal.kept[i], &b = was.journal.kept[i];
    ASSERT_TRUE(a.session == b.session && a.bytes == b.bytes && a.whole == b.whole &&
                a.expected == b.expected && a.source == b.source)
        << i;
  }
  for (std::size_t s = 0; s < prefetch::kSources; ++s)
    EXPECT_EQ(told(again->sources[s]), told(was.sources[s])) << s;
  EXPECT_EQ(again->top_hits, was.hits);

  // And there was something to decide.
  const auto& [learned, hinted] = was.sources;
  EXPECT_EQ(learned.staged + hinted.staged > 0, GetParam().stage);
  EXPECT_EQ(learned.retained + hinted.retained > 0, GetParam().retain);
  EXPECT_EQ(was.journal.kept.empty(), !GetParam().retain);
  RecordProperty("hits", static_cast<int>(was.hits));
  RecordProperty("hinted", told(hinted));
  RecordProperty("learned", told(learned));
}

}  // namespace
}  // namespace speckv

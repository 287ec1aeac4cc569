#include "thinking.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <optional>
#include <queue>
#include <random>

#include "cxlspeckv/trace_recorder.hpp"

namespace speckv::demo {
namespace {

using Seconds = std::chrono::duration<double>;
using std::chrono::steady_clock;

constexpr std::uint64_t kChunk = 4;       // blocks
constexpr double kBetweenPrompts = 1e-3;  // s: the clock does not run while they are read

std::chrono::nanoseconds nanoseconds_of(double seconds) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Seconds(seconds));
}

// Time goes by while it runs, and jumps when it is told to. One thread.
class LaneClock final : public Clock {
 public:
  time_point now() noexcept override {
    return time_point(before_ + (running_ ? speckv::steady_clock().now() - started_
                                          : std::chrono::nanoseconds(0)));
  }
  double seconds() noexcept { return Seconds(now().time_since_epoch()).count(); }
  void run() {
    started_ = speckv::steady_clock().now();
    running_ = true;
  }
  void stop() {
    before_ = now().time_since_epoch();
    running_ = false;
  }
  void jump(double seconds) { before_ += nanoseconds_of(std::max(seconds, 0.0)); }

 private:
  bool running_ = false;
  time_point started_{};
  std::chrono::nanoseconds before_{0};
};

// One way: its store, its prefetcher and its copy of all conversations.
class Lane {
 public:
  Lane(const Settings& settings, std::string speculation) : settings_(settings) {
    result.speculation = std::move(speculation);
  }
  Status open(Model& model, const std::vector<std::vector<std::uint32_t>>& prompts);
  Status prefill(const std::function<void()>& done_one);
  Status round(std::span<const Arrival> arrivals, const std::function<void()>& done_one);
  Status close();

  std::vector<Generator>& conversations() noexcept { return conversations_; }
  ThinkingResult result{};

 private:
  Status record(PrefetchOptions& options);
  Status write_node();
  Status rest();
  Status idle_until(const Arrival& next);
  Status wait(double at_most);
  Status turn(std::size_t n);

  const Settings& settings_;
  std::unique_ptr<Cache> cache_{};
  CompletionQueue completions_{};
  LaneClock clock_{};
  std::unique_ptr<TraceRecorder> recorder_{};
  std::unique_ptr<Prefetcher> prefetcher_{};
  std::vector<Generator> conversations_{};
  bool moved_ = false;  // blocks, since the store was at rest
};

Status Lane::open(Model& model, const std::vector<std::vector<std::uint32_t>>& prompts) {
  const auto pool = TemporaryPool::create(2 * bytes_for(settings_.blocks()));
  if (!pool) return pool.error();
  auto opened =
      Cache::open({.tiers = {"dram:" + std::to_string(bytes_for(settings_.fast_blocks())),
                             pool->uri()},
                   .codec = settings_.codec});
  if (!opened) return opened.error();
  cache_ = *std::move(opened);
  PrefetchOptions options;
  options.stage = result.speculation != "retained";
  options.learned = result.speculation == "learned" || !options.stage;
  options.hinted = result.speculation == "hinted";
  options.chunk_bytes = kChunk * kv_layout().bytes();
  options.clock = &clock_;
  options.completions = &completions_;
  if (Status status = record(options); !status.ok()) return status;
  auto prefetcher = Prefetcher::create(cache_->store(), options);
  if (!prefetcher) return prefetcher.error();
  prefetcher_ = *std::move(prefetcher);
  for (const auto& prompt : prompts)
    conversations_.emplace_back(model, *cache_, prompt);
  return {};
}

Status Lane::record(PrefetchOptions& options) {
  const std::string& folder = settings_.recordings;
  if (folder.empty()) return {};
  auto recorder = TraceRecorder::create(
      folder + "/" + result.speculation + ".trace",
      {.block_tokens = kBlockTokens, .overwrite = true, .clock = &clock_});
  if (!recorder) return recorder.error();
  recorder_ = *std::move(recorder);
  options.requests = recorder_.get();
  return {};
}

// The tiers as a replay takes them. Capacities are plain bytes of blocks: a frame has
// some bytes besides, and each conversation has an open block in the fast tier, which no
// recording knows of.
Status Lane::write_node() {
  std::ofstream node(settings_.recordings + "/node.toml");
  const std::uint64_t plain = kv_layout().bytes();
  node << "name = \"demo\"\n[prefetch]\nchunk = \"" << kChunk * plain << "\"\n";
  // Links as a prefetcher takes those of two tiers: beside thought their times are
  // nothing.
  constexpr std::array kGigabytes = {64, 28};
  for (std::size_t t = 0; t < kGigabytes.size(); ++t) {
    const TierStats tier = cache_->store().stats(t);
    const std::uint64_t open = t == 0 ? settings_.sequences : 0;
    const std::uint64_t frame =
        std::max(tier.used / std::max(tier.blocks + open, std::uint64_t{1}), plain);
    const double blocks =
        static_cast<double>(tier.capacity) / static_cast<double>(frame) -
        static_cast<double>(open);
    node << "[[tier]]\nname = \"" << (t == 0 ? "fast" : "pool") << "\"\ncapacity = \""
         << static_cast<std::uint64_t>(blocks * static_cast<double>(plain))
         << "\"\ngigabytes_per_second = " << kGigabytes[t] << "\nlatency_us = 0\n";
  }
  if (node.flush()) return {};
  return {Code::io_error, "cannot write " + settings_.recordings + "/node.toml"};
}

Status Lane::prefill(const std::function<void()>& done_one) {
  (void)prefetcher_->advance();
  for (std::size_t n = 0; n < conversations_.size(); ++n) {
    if (Status status = conversations_[n].prefill(); !status.ok()) return status;
    if (Status status = prefetcher_->finished(n, conversations_[n].keys()); !status.ok())
      return status;
    clock_.jump(kBetweenPrompts);
    moved_ = true;
    if (Status status = rest(); !status.ok()) return status;
    done_one();
  }
  return {};
}

Status Lane::round(std::span<const Arrival> arrivals,
                   const std::function<void()>& done_one) {
  clock_.run();
  for (const Arrival& arrival : arrivals) {
    if (Status status = idle_until(arrival); !status.ok()) return status;
    if (Status status = turn(arrival.conversation); !status.ok()) return status;
    done_one();
  }
  clock_.stop();
  return {};
}

// While a user thinks a store has time to copy down what it has nowhere else, and to make
// room: both are done before time jumps.
Status Lane::rest() {
  for (TierStats before{.blocks = ~std::uint64_t{0}}, now; std::exchange(moved_, false);
       before = now) {
    if (Status status = cache_->store().flush(); !status.ok()) return status;
    now = cache_->store().stats(0);
    moved_ = now.blocks != before.blocks || now.evictions != before.evictions;
  }
  return {};
}

// Blocks move in real time; where none do, there is nothing to wait for.
Status Lane::wait(double at_most) {
  const Seconds again = prefetcher_->advance();
  if (prefetcher_->stats().in_flight == 0) {
    if (moved_) return rest();  // and then there may be something else to do
    clock_.jump(std::min(at_most, again.count()));
    return {};
  }
  moved_ = true;
  (void)completions_.wait(std::min(nanoseconds_of(at_most), nanoseconds_of(0.1)));
  std::array<CompletionQueue::Entry, 16> entries;
  (void)completions_.poll(entries);
  return {};
}

Status Lane::idle_until(const Arrival& next) {
  const auto wait_until = [this](double at) -> Status {
    while (clock_.seconds() < at) {
      if (Status status = wait(at - clock_.seconds()); !status.ok()) return status;
    }
    return {};
  };
  if (Status status = wait_until(next.at - kHintLead); !status.ok()) return status;
  // It may be known to nobody but the engine: not_found is no failure.
  (void)prefetcher_->hint(next.conversation, std::max(0.0, next.at - clock_.seconds()),
                          1);
  return wait_until(next.at);
}

Status Lane::turn(std::size_t n) {
  Generator& now = conversations_[n];
  moved_ = true;
  const auto keys = now.keys();
  std::vector<std::int8_t> tiers(keys.size());
  cache_->store().lookup(keys, tiers);
  result.blocks += tiers.size();
  result.in_fast_tier +=
      static_cast<std::uint64_t>(std::count(tiers.begin(), tiers.end(), 0));
  const auto start = steady_clock::now();
  if (Status status = prefetcher_->arrived(n); !status.ok()) return status;
  if (Status status = now.bring(); !status.ok()) return status;
  result.stall_seconds.push_back(Seconds(steady_clock::now() - start).count());
  for (std::uint32_t i = 0; i < settings_.turn; ++i) {
    if (Status status = now.step(); !status.ok()) return status;
    if (i == 0)
      result.first_token_seconds.push_back(Seconds(steady_clock::now() - start).count());
  }
  return prefetcher_->finished(
      n, now.keys(),
      {.input_tokens = settings_.context, .output_tokens = settings_.turn});
}

Status Lane::close() {
  result.stats = prefetcher_->stats();
  prefetcher_.reset();
  Status recorded;
  if (recorder_ != nullptr) {
    recorded = write_node();
    if (const Status closed = recorder_->close(); recorded.ok()) recorded = closed;
  }
  for (Generator& conversation : conversations_)
    conversation.drop();
  conversations_.clear();
  return recorded;
}

}  // namespace

std::vector<Arrival> think_times(std::size_t conversations, std::size_t count) {
  std::mt19937 random(14);
  const auto think = [&](std::size_t n) {
    const double share = 0.5 + static_cast<double>(random()) / 4294967296.0;
    return share * (n % 4 == 0 ? kQuickThinks : kSlowThinks);
  };
  const auto later = [](const Arrival& a, const Arrival& b) { return a.at > b.at; };
  std::priority_queue<Arrival, std::vector<Arrival>, decltype(later)> next(later);
  for (std::size_t n = 0; n < conversations; ++n)
    next.push({think(n), n});
  std::vector<Arrival> arrivals;
  while (arrivals.size() < count) {
    arrivals.push_back(next.top());
    next.pop();
    const Arrival& last = arrivals.back();
    next.push({last.at + think(last.conversation), last.conversation});
  }
  return arrivals;
}

Result<std::vector<ThinkingResult>> run_thinking(const Settings& settings, Model& model,
                                                 const std::vector<std::uint32_t>& text,
                                                 const Progress& progress) {
  const auto prompts = prompts_of(settings, text);
  const std::size_t ways = settings.speculation.size();
  std::vector<std::unique_ptr<Lane>> lanes;
  for (const std::string& name : settings.speculation)
    lanes.push_back(std::make_unique<Lane>(settings, name));
  constexpr double kPrefill = 8;  // in turns, about
  const double turns = static_cast<double>(settings.rounds) * settings.sequences;
  const double total =
      (kPrefill * settings.sequences + turns) * static_cast<double>(ways);
  double done = 0;
  const auto add = [&](double work) { progress(std::min((done += work) / total, 1.0)); };
  for (const auto& lane : lanes) {
    if (Status status = lane->open(model, prompts); !status.ok()) return status;
    if (Status status = lane->prefill([&] { add(kPrefill); }); !status.ok())
      return status;
  }
  const auto arrivals =
      think_times(settings.sequences, std::size_t{settings.rounds} * settings.sequences);
  for (std::size_t round = 0; round < settings.rounds; ++round) {
    for (std::size_t i = 0; i < ways; ++i) {
      const auto part =
          std::span(arrivals).subspan(round * settings.sequences, settings.sequences);
      Lane& lane = *lanes[(i + round) % ways];
      if (Status status = lane.round(part, [&] { add(1); }); !status.ok()) return status;
    }
  }
  std::vector<ThinkingResult> results;
  for (const auto& lane : lanes) {
    const auto &got = lane->conversations(), &first = lanes.front()->conversations();
    lane->result.same_text =
        std::equal(got.begin(), got.end(), first.begin(), first.end(),
                   [](const auto& x, const auto& y) { return x.tokens() == y.tokens(); });
  }
  for (const auto& lane : lanes) {
    if (Status status = lane->close(); !status.ok()) return status;
    results.push_back(std::move(lane->result));
  }
  return results;
}

}  // namespace speckv::demo

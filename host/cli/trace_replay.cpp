// speckvctl trace replay, oracle and compare: a recording on tiers.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include <nlohmann/json.hpp>

#include "cxlspeckv/tier.hpp"

#include "cli/command.hpp"
#include "cli/trace.hpp"
#include "predict/return_predictor.hpp"
#include "trace/hit_rate.hpp"
#include "trace/node.hpp"
#include "trace/replay.hpp"

namespace speckv::cli {
namespace {

using nlohmann::ordered_json;

// What a name on the command line stands for.
struct Mode {
  std::string_view name, help;
  void (*set)(trace::ReplayOptions& options);
  bool learns = false;
  bool compared = true;  // by `compare`
};

void by_sessions(trace::ReplayOptions& options, bool stage) {
  options.policy = "return";
  options.schedule.stage = stage;
}
void hinted(trace::ReplayOptions& options, double lead) {
  by_sessions(options, true);
  options.hint_lead = lead;
}
// As a Prefetcher does it before a live store, whose tiers go by last use.
void live(trace::ReplayOptions& options, bool stage, double lead = -1) {
  options.live = PrefetchOptions{};
  options.live->learned = true;
  options.live->hinted = lead >= 0;
  options.live->stage = stage;
  options.hint_lead = lead;
}
// And what was said then is said again, when it was.
void repeated(trace::ReplayOptions& options, bool learned, bool stage) {
  live(options, stage);
  options.live->learned = learned;
  options.live->hinted = !learned;
  options.as_recorded = true;
}
constexpr double kKnown = std::numeric_limits<double>::infinity();

const std::vector<Mode>& modes() {
  using Options = trace::ReplayOptions;
  static const std::vector<Mode> table = {
      {"on-schedule", "LRU; reads begin when the engine comes to a request",
       [](Options& o) { o.on_arrival = false; }},
      {"lru", "LRU; reads begin when a request arrives, as in all that follow",
       [](Options&) {}},
      {"lfu", "", [](Options& o) { o.policy = "lfu"; }},
      {"s3fifo", "", [](Options& o) { o.policy = "s3fifo"; }},
      {"arc", "", [](Options& o) { o.policy = "arc"; }},
      {"semantic", "", [](Options& o) { o.policy = "semantic"; }},
      {"retention", "learned return times choose victims",
       [](Options& o) { by_sessions(o, false); }, true},
      {"learned", "and what is fetched ahead", [](Options& o) { by_sessions(o, true); },
       true},
      {"hint-0.5", "the same, told 0.5 s ahead of each return",
       [](Options& o) { hinted(o, 0.5); }, true},
      {"hint-2", "2 s ahead", [](Options& o) { hinted(o, 2); }, true},
      {"hint-10", "10 s ahead", [](Options& o) { hinted(o, 10); }, true},
      {"oracle-retention", "the future is known; nothing is fetched ahead",
       [](Options& o) {
         by_sessions(o, false);
         o.hint_lead = kKnown;
       }},
      {"oracle", "the future is known", [](Options& o) { hinted(o, kKnown); }},
      {"live-retention", "by the rules of a live store, which differ",
       [](Options& o) { live(o, false); }, true, false},
      {"live-learned", "", [](Options& o) { live(o, true); }, true, false},
      {"live-hint-2", "", [](Options& o) { live(o, true, 2); }, true, false},
      {"recorded-retention", "the same, with the recording's own durations",
       [](Options& o) { repeated(o, true, false); }, true, false},
      {"recorded-learned", "", [](Options& o) { repeated(o, true, true); }, true, false},
      {"recorded-hints", "and its hints", [](Options& o) { repeated(o, false, true); },
       false, false}};
  return table;
}

// Those that are compared are the first.
std::size_t compared() {
  return static_cast<std::size_t>(std::count_if(
      modes().begin(), modes().end(), [](const Mode& mode) { return mode.compared; }));
}

// Sessions to learn from, that much before the replay begins. By then a wait that was
// open is over, for ever; or nobody knows of it yet.
struct Training {
  trace::Trace sessions{};
  double before = predict::kLongestGap;  // s
};

// A predictor that has seen the sessions to train with.
Result<std::unique_ptr<predict::ReturnPredictor>> trained(const Training& training) {
  const trace::Trace& sessions = training.sessions;
  auto made = predict::make_return_predictor({});
  if (!made.ok()) return made;
  struct Moment {
    double at;
    bool completes;
    std::size_t request;
  };
  std::vector<Moment> moments;
  double last = 0;
  for (std::size_t i = 0; i < sessions.requests.size(); ++i) {
    const trace::Request& request = sessions.requests[i];
    moments.push_back({request.arrived, false, i});
    moments.push_back({trace::completion_of(request), true, i});
    last = std::max(last, moments.back().at);
  }
  std::stable_sort(moments.begin(), moments.end(),
                   [](const Moment& a, const Moment& b) { return a.at < b.at; });
  // Sessions of the replay are other ones, and its clock begins at 0.
  constexpr std::uint64_t kOthers = 1ULL << 40;
  predict::ReturnPredictor& predictor = **made;
  for (const Moment& moment : moments) {
    const trace::Request& request = sessions.requests[moment.request];
    const double now = moment.at - last - training.before;
    if (!moment.completes) {
      predictor.arrived(kOthers + request.session, now);
      continue;
    }
    (void)predictor.completed({.session = kOthers + request.session,
                               .arrived = request.arrived - last - training.before,
                               .completed = now,
                               .input_tokens = request.input_tokens,
                               .output_tokens = request.output_tokens,
                               .blocks = request.blocks,
                               .reused_blocks = request.blocks,
                               .brings_tool_result = request.brings_tool_result,
                               .stops_for_tool = request.stops_for_tool,
                               .calls_tool = request.calls_tool,
                               .sub_agent = request.sub_agent});
    predictor.advance(now);
  }
  return made;
}

Result<trace::ReplayResult> run(const Mode& mode, const trace::Trace& recording,
                                const Training* training, const trace::Node& node,
                                const Arguments& arguments) {
  trace::ReplayOptions options;
  options.kv_bytes_per_token = arguments.kv_bytes;
  options.measure_from = arguments.warm_up * recording.seconds();
  mode.set(options);
  options.schedule.guard = options.hint_lead != kKnown;
  std::unique_ptr<predict::ReturnPredictor> predictor;
  if (mode.learns) {
    auto made =
        training != nullptr ? trained(*training) : predict::make_return_predictor({});
    if (!made.ok()) return made.error();
    predictor = *std::move(made);
    options.predictor = predictor.get();
  }
  return trace::replay(recording, node, options);
}

double share(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}
double milli(double value) {
  return std::round(value * 1000) / 1000;
}

ordered_json told(const trace::ReplayResult& result, double block_bytes) {
  std::vector<float> stalls = result.stalls;
  std::sort(stalls.begin(), stalls.end());
  const auto quantile = [&](double part) {
    if (stalls.empty()) return 0.0;
    const double at = part * static_cast<double>(stalls.size() - 1);
    return milli(static_cast<double>(stalls[static_cast<std::size_t>(at)]));
  };
  std::uint64_t read = 0;
  for (const std::uint64_t blocks : result.read_blocks)
    read += blocks;
  prefetch::Counters all;
  for (const prefetch::Counters& source : result.sources) {
    all.staged += source.staged;
    all.useful += source.useful;
    all.late += source.late;
    all.wasted += source.wasted;
    all.pauses += source.pauses;
  }
  return {{"requests", result.requests},
          {"measured_requests", result.stalls.size()},
          {"stall_seconds", milli(result.stall)},
          {"stall_p50", quantile(.5)},
          {"stall_p95", quantile(.95)},
          {"stall_p99", quantile(.99)},
          {"top_hit_rate", milli(share(static_cast<double>(result.top_hits),
                                       static_cast<double>(result.shared_blocks)))},
          {"demand_bytes",
           static_cast<std::uint64_t>(static_cast<double>(read) * block_bytes)},
          {"staged_bytes", all.staged},
          {"useful_bytes", all.useful},
          {"late_bytes", all.late},
          {"wasted_bytes", all.wasted},
          {"pauses", all.pauses}};
}

Result<trace::Node> node_of(const Arguments& arguments) {
  if (arguments.tiers.empty())
    return Status(Code::invalid_argument, "--tiers: a file such as data/nodes/a.toml");
  const auto text = contents(arguments.tiers);
  if (!text.ok()) return text.error();
  return trace::read_node(*text, arguments.tiers);
}

// The sessions to learn from, where the replay is of others: those of the part that is
// for that, or what sessions that are not drawn did while the replay warms up.
std::optional<Training> training_of(const Arguments& arguments, std::uint64_t seed,
                                    double seconds) {
  Arguments others = arguments;
  const bool by_part = arguments.part == "test";
  const double warm = arguments.warm_up * seconds;
  if (!by_part && (!arguments.others || warm <= 0)) return std::nullopt;
  if (by_part) others.part = "train";
  others.longest = by_part ? 1e9 : warm;
  auto found = recorded(others, seed, !by_part);
  if (!found.ok()) return std::nullopt;
  if (by_part) return Training{*std::move(found)};
  return Training{*std::move(found), 0};
}

struct Figures {
  std::vector<double> stalls;  // s, a seed
  double mean = 0, half = 0;   // of the confidence interval of 95 %
};

Figures figures(std::vector<double> values) {
  // Student's t, 97.5 %, by degrees of freedom.
  constexpr double kT[] = {0,     12.706, 4.303, 3.182, 2.776,
                           2.571, 2.447,  2.365, 2.306, 2.262};
  Figures found{std::move(values)};
  const auto n = static_cast<double>(found.stalls.size());
  for (const double value : found.stalls)
    found.mean += value / n;
  double sum = 0;
  for (const double value : found.stalls)
    sum += (value - found.mean) * (value - found.mean);
  const std::size_t freedom = found.stalls.size() - 1;
  if (freedom > 0)
    found.half = kT[std::min<std::size_t>(freedom, 9)] *
                 std::sqrt(sum / static_cast<double>(freedom) / n);
  return found;
}

}  // namespace

int replay_trace(const Arguments& arguments) {
  const bool oracle = arguments.action == "oracle";
  const std::string_view wanted = oracle ? "oracle" : std::string_view(arguments.policy);
  const Mode* mode = nullptr;
  std::string names;
  for (const Mode& one : modes()) {
    if (one.name == wanted) mode = &one;
    names += " " + std::string(one.name);
  }
  if (mode == nullptr)
    return fail(Status(Code::invalid_argument, "--policy: one of" + names));
  const auto node = node_of(arguments);
  if (!node.ok()) return fail(node.error());
  const auto recording = recorded(arguments, arguments.seed);
  if (!recording.ok()) return fail(recording.error());
  const auto training = training_of(arguments, arguments.seed, recording->seconds());
  const auto result =
      run(*mode, *recording, training ? &*training : nullptr, *node, arguments);
  if (!result.ok()) return fail(result.error());
  ordered_json document = {
      {"action", arguments.action}, {"policy", mode->name}, {"node", node->name}};
  document.update(
      told(*result, static_cast<double>(arguments.kv_bytes) * recording->block_tokens));
  if (oracle) {
    // What eviction alone could do, at a hundredth to a fifth of all blocks.
    ordered_json best = ordered_json::object();
    for (const std::uint32_t percent : {1U, 2U, 5U, 10U, 20U}) {
      const auto capacity = static_cast<std::uint32_t>(
          std::uint64_t{recording->distinct_blocks} * percent / 100);
      best[std::to_string(percent)] =
          milli(trace::best_hit_rate(*recording, std::max(capacity, 1U)).rate());
    }
    document["best_hit_rate_by_percent"] = best;
  }
  if (arguments.json) {
    print_json("trace", document);
  } else {
    print_lines(document);
  }
  return kDone;
}

int compare_trace(const Arguments& arguments) {
  const auto node = node_of(arguments);
  if (!node.ok()) return fail(node.error());
  const std::uint64_t seeds = arguments.count == kNotGiven ? 1 : arguments.count;
  if (seeds == 0) return fail(Status(Code::invalid_argument, "--count: at least 1"));
  std::vector<std::vector<double>> stalls(compared());
  std::vector<ordered_json> first;
  std::vector<std::vector<trace::StagedSoFar>> over_time;
  for (std::uint64_t i = 0; i < seeds; ++i) {
    const auto recording = recorded(arguments, arguments.seed + i);
    if (!recording.ok()) return fail(recording.error());
    const auto training =
        training_of(arguments, arguments.seed + i, recording->seconds());
    for (std::size_t m = 0; m < compared(); ++m) {
      const auto result =
          run(modes()[m], *recording, training ? &*training : nullptr, *node, arguments);
      if (!result.ok()) return fail(result.error());
      stalls[m].push_back(result->stall);
      if (i > 0) continue;
      first.push_back(told(
          *result, static_cast<double>(arguments.kv_bytes) * recording->block_tokens));
      over_time.push_back(result->over_time);
    }
  }
  const Report report = [&] {
    Report made{arguments.trace, node->name, seeds, {}};
    std::size_t lru = 0;
    while (modes()[lru].name != "lru")
      ++lru;
    for (std::size_t m = 0; m < compared(); ++m) {
      std::vector<double> against;  // of the same seed's LRU
      for (std::size_t i = 0; i < seeds; ++i)
        against.push_back(stalls[lru][i] > 0 ? 1 - stalls[m][i] / stalls[lru][i] : 0);
      const Figures stall = figures(stalls[m]), cut = figures(against);
      made.rows.push_back({std::string(modes()[m].name), std::string(modes()[m].help),
                           stall.mean, stall.half, cut.mean, cut.half, first[m],
                           over_time[m]});
    }
    return made;
  }();
  return write_report(report, arguments);
}

}  // namespace speckv::cli

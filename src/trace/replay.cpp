#include "trace/replay.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <queue>

#include "trace/live_side.hpp"
#include "trace/residency.hpp"

namespace speckv::trace {
namespace {

using prefetch::Chunk;
using prefetch::Scheduler;
constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kPoll =
    0.1;  // s after which a scheduler that had nothing is asked again

constexpr double kSamples = 120;  // of over_time

// One thing that will happen; earlier ones first, then in the order of their numbers.
struct Due {
  double at = 0;
  std::uint32_t number = 0;
  bool operator>(const Due& other) const noexcept {
    return at != other.at ? at > other.at : number > other.number;
  }
};
using Agenda = std::priority_queue<Due, std::vector<Due>, std::greater<>>;

prefetch::Counters counters_of(const PrefetchStats::Source& source) {
  return {.chunks = source.chunks,
          .displaced = source.displaced,
          .staged = source.staged,
          .useful = source.useful,
          .wasted = source.wasted,
          .late = source.late,
          .retained = source.retained,
          .pauses = source.pauses};
}

class Replay {
 public:
  Replay(const Trace& trace, const Node& node, const ReplayOptions& options);
  ReplayResult run();

 private:
  struct Session {
    std::uint32_t active = 0;
    double completes = 0;    // the last of its requests
    double returns{kNever};  // its next arrival
    double told = kNever;    // when that is told
  };
  struct Lane {
    std::optional<Chunk> chunk{};
    double start = 0;
    double end{kNever};
  };

  double next_event() const;
  void arrive(std::uint32_t number);
  void complete(std::uint32_t number);
  void tell_completed(std::uint32_t number);
  double load(const Found& found, double start);
  void displace(const Found& found, std::uint32_t session, double now);
  void stage(double now);
  void sample(double at);
  void make_live(std::vector<std::uint32_t> blocks);
  void notice(const Notice& notice);
  double next_notice() const {
    if (notices_ == noticed_.size()) return kNever;
    return noticed_[notices_].at;
  }
  double top_of(const Agenda& agenda) const {
    if (agenda.empty()) return kNever;
    return agenda.top().at;
  }

  const Trace& trace_;
  const Node& node_;
  const ReplayOptions& options_;
  const double block_bytes_;
  const std::vector<std::uint32_t> shared_;
  std::vector<double> next_arrival_;  // of the same session, a request
  std::optional<Scheduler> scheduler_;
  std::shared_ptr<Residency> residency_;
  SessionResidency* by_session_ = nullptr;  // residency_, where sessions are staged
  std::optional<LiveSide> live_;            // and residency_ is its store
  std::span<const Notice> noticed_{};       // those that are repeated
  std::size_t notices_ = 0;
  std::vector<Session> sessions_;
  std::vector<double> free_;  // when each tier's link is
  std::vector<Lane> lanes_;
  std::vector<double> ends_;  // when each request is complete
  std::vector<std::uint32_t> reused_;
  Agenda completions_, hints_;
  double engine_free_ = 0, poll_at_ = kNever, sample_at_ = kNever;
  std::uint32_t arrivals_ = 0;
  ReplayResult result_;
};

Replay::Replay(const Trace& trace, const Node& node, const ReplayOptions& options)
    : trace_(trace),
      node_(node),
      options_(options),
      block_bytes_(static_cast<double>(trace.block_tokens) *
                   static_cast<double>(options.kv_bytes_per_token)),
      shared_(shared_prefixes(trace)),
      next_arrival_(trace.requests.size(), kNever),
      sessions_(trace.sessions),
      free_(node.tiers.size()),
      lanes_(node.tiers.size()),
      ends_(trace.requests.size()),
      reused_(trace.requests.size()) {
  std::vector<double> next(trace.sessions, kNever);
  for (std::size_t i = trace.requests.size(); i-- > 0;) {
    const Request& request = trace.requests[i];
    next_arrival_[i] = std::exchange(next[request.session], request.arrived);
  }
  std::vector<std::uint32_t> blocks;
  std::vector<prefetch::TierView> views;
  for (const TierModel& tier : node.tiers) {
    const double room = static_cast<double>(tier.bytes) / block_bytes_;
    blocks.push_back(static_cast<std::uint32_t>(std::clamp(room, 1.0, 4e9)));
    views.push_back({static_cast<std::uint64_t>(blocks.back() * block_bytes_),
                     tier.bytes_per_second});
  }
  if (options.live) {
    make_live(std::move(blocks));
    return;
  }
  if (options.policy != "return") {
    for (std::uint32_t& capacity :
         blocks)  // slots for more blocks than there are: no use
      capacity = std::min(capacity, std::max(trace.distinct_blocks, 1U));
    residency_ = std::make_unique<PolicyResidency>(trace, options.policy, blocks);
    return;
  }
  prefetch::Options schedule = options.schedule;
  const auto one = static_cast<std::uint64_t>(block_bytes_);
  schedule.chunk_bytes = std::max(schedule.chunk_bytes / one, std::uint64_t{1}) * one;
  schedule.most_in_flight = std::max(schedule.most_in_flight, schedule.chunk_bytes);
  scheduler_.emplace(views, schedule);
  auto by_session = std::make_unique<SessionResidency>(trace, *scheduler_, one, blocks);
  by_session_ = by_session.get();
  residency_ = std::move(by_session);
  if (schedule.stage) poll_at_ = 0;
  sample_at_ = 0;
}

void Replay::make_live(std::vector<std::uint32_t> blocks) {
  for (std::uint32_t& capacity : blocks)
    capacity = std::min(capacity, std::max(trace_.distinct_blocks, 1U));
  const auto one = static_cast<std::uint64_t>(block_bytes_);
  auto store = std::make_shared<StoreModel>(trace_, node_, options_.policy, blocks, one);
  residency_ = store;
  PrefetchOptions prefetch = *options_.live;
  if (node_.chunk_bytes > 0) prefetch.chunk_bytes = node_.chunk_bytes;
  prefetch.bytes_per_second.clear();
  for (const TierModel& tier : node_.tiers)
    prefetch.bytes_per_second.push_back(tier.bytes_per_second);
  live_.emplace(trace_, std::move(store), one, std::move(prefetch), options_.predictor,
                options_.journal);
  if (options_.as_recorded) noticed_ = trace_.notices;
  sample_at_ = 0;
}

// Reads of what lies in slower tiers, from `start` on: when all of it is there.
double Replay::load(const Found& found, double start) {
  double there = start, blocks = 0;
  const auto pass = [&](std::size_t link, double count) {
    const TierModel& tier = node_.tiers[link];
    const double begin = std::max(start, free_[link]);
    free_[link] = begin + tier.latency + count * block_bytes_ / tier.bytes_per_second;
    there = std::max(there, free_[link]);
  };
  for (std::size_t t = 1; t < node_.tiers.size(); ++t) {
    if (found.in[t] == 0) continue;
    pass(t, found.in[t]);
    blocks += found.in[t];
  }
  if (blocks > 0) pass(0, blocks);
  return there;
}

// Demand comes first: a chunk that is under way on a link which it needs is given up.
void Replay::displace(const Found& found, std::uint32_t session, double now) {
  bool any = false;
  for (std::size_t t = 1; t < lanes_.size(); ++t)
    any = any || found.in[t] > 0;
  for (std::size_t t = 1; t < lanes_.size(); ++t) {
    Lane& lane = lanes_[t];
    if (!lane.chunk) continue;
    if (found.in[t] == 0 && !(any && lane.chunk->to == 0) &&
        lane.chunk->session != session)
      continue;
    scheduler_->finished(*lane.chunk, Scheduler::End::displaced);
    if (lane.chunk->session == session) {
      const double part = (now - lane.start) / (lane.end - lane.start);
      scheduler_->outcome(
          lane.chunk->source,
          static_cast<std::uint64_t>(part * static_cast<double>(lane.chunk->bytes)),
          Scheduler::Outcome::late, now);
    }
    lane = {};
  }
}

void Replay::arrive(std::uint32_t number) {
  const Request& request = trace_.requests[number];
  const double now = request.arrived;
  Session& session = sessions_[request.session];
  ++session.active;
  if (scheduler_) {
    if (options_.predictor != nullptr) options_.predictor->arrived(request.session, now);
    scheduler_->arrived(request.session,
                        static_cast<std::uint64_t>(request.blocks * block_bytes_),
                        static_cast<std::uint64_t>(shared_[number] * block_bytes_), now);
  }
  if (live_) live_->arrived(request, now);
  const Found found = residency_->use(request, shared_[number], now);
  if (scheduler_) displace(found, request.session, now);

  const double new_tokens =
      std::max(0.0, double{1} * request.input_tokens -
                        double{1} * found.reused * trace_.block_tokens);
  const double work =
      new_tokens / node_.prefill_tokens_per_second + node_.request_seconds;
  const double turn = std::max(now, engine_free_);
  const double there = load(found, options_.on_arrival ? now : turn);
  const double stall = std::max(0.0, there - turn);
  engine_free_ = turn + work;
  ends_[number] = options_.as_recorded && request.duration >= 0
                      ? now + request.duration
                      : std::max(turn, there) + work +
                            request.output_tokens / node_.output_tokens_per_second;
  session.completes = std::max(session.completes, ends_[number]);
  reused_[number] = found.reused;
  completions_.push({ends_[number], number});

  ++result_.requests;
  result_.block_accesses += request.blocks;
  if (now < options_.measure_from) return;
  result_.shared_blocks += shared_[number];
  result_.top_hits += found.in[0];
  result_.gone += shared_[number] - found.reused;
  for (std::size_t t = 1; t < node_.tiers.size(); ++t)
    result_.read_blocks[t] += found.in[t];
  result_.stall += stall;
  result_.stalls.push_back(static_cast<float>(stall));
}

void Replay::complete(std::uint32_t number) {
  const Request& request = trace_.requests[number];
  const double now = ends_[number];
  residency_->done(request, now);
  Session& session = sessions_[request.session];
  if (live_) live_->finished(request, now);
  if (--session.active > 0 || (!scheduler_ && !live_)) return;
  if (scheduler_) tell_completed(number);
  session.returns = next_arrival_[number];
  if (options_.hint_lead < 0) return;
  if (session.returns == kNever) {
    if (options_.hint_lead < kNever) return;
    if (live_) live_->ended(request.session, now);
    if (scheduler_) scheduler_->ended(request.session);
    return;
  }
  hints_.push({std::max(now, session.returns - options_.hint_lead), number});
}

void Replay::tell_completed(std::uint32_t number) {
  const Request& request = trace_.requests[number];
  const double now = ends_[number];
  predict::ReturnDistribution returns;
  returns.probability[predict::kNever] = 1;
  if (options_.predictor != nullptr) {
    returns =
        options_.predictor->completed({.session = request.session,
                                       .arrived = request.arrived,
                                       .completed = now,
                                       .input_tokens = request.input_tokens,
                                       .output_tokens = request.output_tokens,
                                       .blocks = request.blocks,
                                       .reused_blocks = reused_[number],
                                       .brings_tool_result = request.brings_tool_result,
                                       .stops_for_tool = request.stops_for_tool,
                                       .calls_tool = request.calls_tool,
                                       .sub_agent = request.sub_agent});
    options_.predictor->advance(now);
  }
  scheduler_->completed(request.session, now, returns);
}

void Replay::notice(const Notice& notice) {
  if (notice.ended) {
    live_->ended(notice.session, notice.at);
  } else {
    live_->hint(notice.session, notice.at, notice.eta, notice.confidence);
  }
}

// Gives every link that is idle something to do, if there is something.
void Replay::stage(double now) {
  for (std::uint32_t t = static_cast<std::uint32_t>(lanes_.size()) - 1; t > 0; --t) {
    Lane& lane = lanes_[t];
    if (lane.chunk || free_[t] > now || free_[0] > now) continue;
    const auto chunk = scheduler_->next(t, now);
    if (!chunk) continue;
    const auto bytes = static_cast<double>(chunk->bytes);
    double rate = node_.tiers[t].bytes_per_second;
    if (chunk->to == 0) rate = std::min(rate, node_.tiers[0].bytes_per_second);
    lane = {chunk, now, now + node_.tiers[t].latency + bytes / rate};
  }
}

double Replay::next_event() const {
  double at = std::min({top_of(completions_), top_of(hints_), poll_at_, next_notice()});
  if (live_) at = std::min(at, live_->next());
  for (const Lane& lane : lanes_)
    at = std::min(at, lane.end);
  return at;
}

void Replay::sample(double at) {
  StagedSoFar sum{.at = at};
  if (live_) {
    const PrefetchStats stats = live_->stats();
    for (const auto& source : {stats.learned, stats.hinted}) {
      sum.useful += source.useful;
      sum.late += source.late;
      sum.wasted += source.wasted;
    }
    result_.over_time.push_back(sum);
    return;
  }
  for (const auto source : {prefetch::Source::learned, prefetch::Source::hint}) {
    const prefetch::Counters& counters = scheduler_->counters(source);
    sum.useful += counters.useful;
    sum.late += counters.late;
    sum.wasted += counters.wasted;
  }
  result_.over_time.push_back(sum);
}

ReplayResult Replay::run() {
  const auto count = static_cast<std::uint32_t>(trace_.requests.size());
  const double step = std::max(trace_.seconds() / kSamples, 1e-3);
  const auto next_request = [&] {
    if (arrivals_ == count) return kNever;
    return trace_.requests[arrivals_].arrived;
  };
  // What was recorded is repeated to its end.
  const auto unfinished = [&] {
    return !completions_.empty() || next_notice() < kNever || (live_ && live_->moving());
  };
  while (arrivals_ < count || (options_.as_recorded && unfinished())) {
    const double now = std::min(next_event(), next_request());
    for (; sample_at_ <= now; sample_at_ += step)
      sample(sample_at_);
    if (now == next_request()) {
      arrive(arrivals_++);
    } else if (now == top_of(completions_)) {
      const std::uint32_t number = completions_.top().number;
      completions_.pop();
      complete(number);
    } else if (now == top_of(hints_)) {
      const std::uint32_t number = hints_.top().number;
      hints_.pop();
      const std::uint32_t session = trace_.requests[number].session;
      const double eta = next_arrival_[number];
      if (sessions_[session].active == 0 && sessions_[session].returns == eta) {
        if (scheduler_) scheduler_->hint(session, now, eta, 1);
        if (live_) live_->hint(session, now, eta - now, 1);
      }
    } else if (now == next_notice()) {
      notice(noticed_[notices_++]);
    } else if (scheduler_) {
      for (Lane& lane : lanes_) {
        if (lane.end > now) continue;
        by_session_->staged(*lane.chunk, now);
        scheduler_->finished(*lane.chunk, Scheduler::End::moved);
        lane = {};
      }
    }
    if (live_) live_->advance(now);
    if (poll_at_ == kNever) continue;
    stage(now);
    poll_at_ = now + kPoll;
  }
  if (live_) {
    sample(count == 0 ? 0 : trace_.requests.back().arrived);
    const PrefetchStats stats = live_->stats();
    result_.sources = {counters_of(stats.learned), counters_of(stats.hinted)};
  }
  if (scheduler_) {
    sample(count == 0 ? 0 : trace_.requests.back().arrived);
    for (std::size_t i = 0; i < prefetch::kSources; ++i)
      result_.sources[i] = scheduler_->counters(static_cast<prefetch::Source>(i));
  }
  return std::move(result_);
}

}  // namespace

Result<ReplayResult> replay(const Trace& trace, const Node& node,
                            const ReplayOptions& options) {
  const auto names = policy_names();
  if (options.policy != "return" &&
      std::find(names.begin(), names.end(), options.policy) == names.end())
    return Status(Code::invalid_argument, "no such policy: " + options.policy);
  if (options.live && options.policy == "return")
    return Status(Code::invalid_argument, "a live store's tiers go by a policy");
  if (node.tiers.size() < 2 || node.tiers.size() > prefetch::kMostTiers)
    return Status(Code::invalid_argument, "a node has 2 to 8 tiers");
  for (const TierModel& tier : node.tiers) {
    if (tier.bytes == 0 || !(tier.bytes_per_second > 0) || !(tier.latency >= 0))
      return Status(Code::invalid_argument,
                    "a tier has bytes and a bandwidth: " + tier.name);
  }
  return Replay(trace, node, options).run();
}

}  // namespace speckv::trace

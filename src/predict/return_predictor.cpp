// Who waits for what, what was said of it, and what came of it.
#include "predict/return_predictor.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "predict/recent_table.hpp"
#include "predict/return_network.hpp"
#include "predict/return_regression.hpp"
#include "predict/return_table.hpp"

namespace speckv::predict {
namespace {

constexpr std::size_t kRegression = kViews, kNetwork = kViews + 1, kExperts = kViews + 2;
constexpr double kForget = 0.995;    // of an expert's loss, an outcome
constexpr double kSharpness = 0.03;  // of the mix, per nat lost lately
// From this gap class on, every second one that an open wait comes to makes a lesson.
constexpr std::size_t kTold = 4;
constexpr double kShare = kViews;  // regression and network count for as many views
constexpr double kLeast = 1e-6;    // probability, before its logarithm is taken

struct Session {
  SessionHistory history;
  bool waiting = false;
  std::uint32_t wait = 0;   // which of its waits
  std::size_t reached = 0;  // the gap class that it came to
  double since = 0;
  ReturnKeys keys{};
  std::array<ReturnDistribution, kExperts> said{};
  ReturnDistribution mixed;
  ReturnMemory memory;
};

// Waits in one gap class, in the order in which they leave it.
class Waits {
 public:
  struct Wait {
    SessionId session = 0;
    std::uint32_t number = 0;
    double due = 0;
  };
  explicit Waits(std::uint32_t capacity) : waits_(capacity) {}
  // Without room the wait is not watched any more: nothing is learned until it ends.
  void push(const Wait& wait) noexcept {
    if (count_ == waits_.size()) return;
    waits_[(first_ + count_++) % waits_.size()] = wait;
  }
  bool pop_due(double now, Wait& to) noexcept {
    if (count_ == 0 || waits_[first_].due > now) return false;
    to = waits_[first_];
    first_ = (first_ + 1) % waits_.size();
    --count_;
    return true;
  }

 private:
  std::vector<Wait> waits_;
  std::size_t first_ = 0, count_ = 0;
};

class LearnedReturn final : public ReturnPredictor {
 public:
  explicit LearnedReturn(const ReturnOptions& options)
      : sessions_(options.sessions),
        waits_(kGaps, Waits(options.sessions)),
        table_(options.table_rows),
        network_(options.network),
        experts_(network_ == nullptr ? kNetwork : kExperts) {}

  ReturnDistribution completed(const Completion& request) noexcept override {
    advance(request.completed);
    bool fresh = false;
    Session& s = sessions_.touch(request.session, Session{}, fresh);
    Completion sane = request;
    sane.completed = std::isfinite(request.completed) ? request.completed : now_;
    sane.arrived = request.arrived <= sane.completed ? request.arrived : sane.completed;
    ReturnFeatures features;
    s.history.complete(sane, features, s.keys);
    const auto counted = table_.predict(s.keys);
    std::copy(counted.begin(), counted.end(), s.said.begin());
    s.said[kRegression] = regression_.predict(s.keys);
    if (network_ != nullptr) s.said[kNetwork] = network_->step(s.memory, features);
    s.mixed = mix(s.said);
    s.waiting = true;
    ++s.wait;
    s.reached = 0;
    s.since = sane.completed;
    waits_[0].push({request.session, s.wait, s.since + 1});
    return s.mixed;
  }

  void arrived(SessionId session, double now) noexcept override {
    advance(now);
    Session* s = sessions_.find(session);
    if (s == nullptr || !s->waiting) return;
    const double gap = std::max(0.0, now - s->since);
    const std::size_t k = std::clamp(gap_class(gap), s->reached, kGaps - 1);
    survive(*s, k);
    learn(*s, k, true);
    settle(session, *s, k);
    s->history.returned(gap);
  }

  void ended(SessionId session) noexcept override {
    if (Session* s = sessions_.find(session); s != nullptr && s->waiting) {
      survive(*s, kGaps);
      settle(session, *s, kNever);
    }
    sessions_.erase(session);
  }

  void advance(double now) noexcept override {
    if (!(now > now_) || !std::isfinite(now)) return;
    now_ = now;
    for (std::size_t k = 0; k < kGaps; ++k) {
      for (Waits::Wait wait; waits_[k].pop_due(now, wait);)
        pass(k, wait);
    }
  }

  ReturnScore score() const noexcept override { return score_; }

 private:
  void pass(std::size_t k, const Waits::Wait& wait) noexcept {
    Session* s = sessions_.find(wait.session);
    if (s == nullptr || !s->waiting || s->wait != wait.number || s->reached != k) return;
    survive(*s, k + 1);
    if (network_ != nullptr && k >= kTold && k % 2 == 0 && k + 1 < kGaps) {
      s->memory.window.settle(k + 1, true);
      network_->teach(wait.session, s->memory.window);
    }
    if (k + 1 < kGaps) {
      waits_[k + 1].push(
          {wait.session, wait.number, s->since + std::ldexp(1, static_cast<int>(k) + 1)});
    } else {
      settle(wait.session, *s, kNever);
      sessions_.erase(wait.session);
    }
  }

  void learn(const Session& s, std::size_t k, bool ended) noexcept {
    table_.learn(s.keys, k, ended);
    regression_.learn(s.keys, k, ended);
  }

  // The wait outlasted the classes before k.
  void survive(Session& s, std::size_t k) noexcept {
    for (; s.reached < k; ++s.reached)
      learn(s, s.reached, false);
  }

  void settle(SessionId id, Session& s, std::size_t happened) noexcept {
    s.waiting = false;
    if (network_ != nullptr) {
      s.memory.window.settle(happened, false);
      network_->teach(id, s.memory.window);
    }
    for (std::size_t i = 0; i < experts_; ++i)
      loss_[i] = kForget * loss_[i] - log_of(s.said[i], happened);
    ++score_.outcomes;
    score_.bits -= log_of(s.mixed, happened) / std::log(2.0);
  }

  static double log_of(const ReturnDistribution& said, std::size_t k) noexcept {
    return std::log(std::max(static_cast<double>(said.probability[k]), kLeast));
  }

  // Geometric: an expert that is sure counts for more than one that is not.
  ReturnDistribution mix(
      const std::array<ReturnDistribution, kExperts>& said) const noexcept {
    const auto last = loss_.begin() + static_cast<std::ptrdiff_t>(experts_);
    const double least = *std::min_element(loss_.begin(), last);
    std::array<double, kExperts> weight;
    double sum = 0, all = 0;
    for (std::size_t i = 0; i < experts_; ++i)
      sum += weight[i] =
          (i >= kRegression ? kShare : 1) * std::exp(kSharpness * (least - loss_[i]));
    std::array<double, kReturnClasses> p;
    for (std::size_t k = 0; k < kReturnClasses; ++k) {
      double log = 0;
      for (std::size_t i = 0; i < experts_; ++i)
        log += weight[i] / sum * log_of(said[i], k);
      all += p[k] = std::exp(log);
    }
    ReturnDistribution to;
    for (std::size_t k = 0; k < kReturnClasses; ++k)
      to.probability[k] = static_cast<float>(p[k] / all);
    return to;
  }

  RecentTable<Session> sessions_;
  std::vector<Waits> waits_;
  ReturnTable table_;
  ReturnRegression regression_;
  ReturnNetwork* const network_;
  const std::size_t experts_;
  std::array<double, kExperts> loss_{};
  ReturnScore score_;
  double now_ = -1e300;
};

}  // namespace

Result<std::unique_ptr<ReturnPredictor>> make_return_predictor(
    const ReturnOptions& options) {
  constexpr std::uint32_t kMost = 1U << 24;
  if (options.sessions == 0 || options.sessions > kMost) {
    return Status{Code::invalid_argument, "return predictor: 1 to 2^24 sessions"};
  }
  if (!std::has_single_bit(options.table_rows) || options.table_rows < 64 ||
      options.table_rows > kMost) {
    return Status{Code::invalid_argument,
                  "return predictor: table rows are a power of two, 64 to 2^24"};
  }
  return std::unique_ptr<ReturnPredictor>(std::make_unique<LearnedReturn>(options));
}

}  // namespace speckv::predict

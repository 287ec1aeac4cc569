// predict/lookahead.hpp -- Algorithm 1 of the published design: what to fetch ahead for a
// stream that grew, by a predictor of its next symbols.
//
// At each symbol the best `depth` guesses are looked at; those are asked for that are
// likely enough, not resident, not asked for already, as long as few enough are
// outstanding. Nothing waits, nothing is taken back: a guess that nobody used within
// `patience` symbols is forgotten when it is next looked at, and counts as wasted.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "cxlspeckv/status.hpp"

#include "predict/predictor.hpp"
#include "predict/recent_table.hpp"

namespace speckv::predict {

inline constexpr std::uint32_t kMostDepth = 16;

struct LookaheadOptions {
  // fixed: depth. adaptive: 2 to 8, up where most guesses are used (> .7), down where
  // few are (< .4). bandit: 2, 4, 6 or 8, whichever lately earned most (UCB1,
  // discounted), where a fetch costs more the busier the link is.
  enum class Rule : std::uint8_t { fixed, adaptive, bandit };
  Rule rule = Rule::adaptive;
  std::uint32_t depth = 4;         // 1..16; where the rule begins
  float confidence = 0.1F;         // 0..1: guesses below are left alone
  std::uint32_t outstanding = 64;  // asked for, and neither used nor forgotten; 1..2^20
  std::uint32_t patience = 256;    // symbols; at least 1
};

struct LookaheadCounts {
  // asked = useful + late + wasted + failed + what is outstanding
  std::uint64_t symbols = 0, asked = 0, useful = 0, late = 0, wasted = 0, failed = 0;
  std::uint64_t resident = 0, repeated = 0, unlikely = 0, full = 0;  // why not asked for
};

// One thread. The predictor has to stay.
class Lookahead {
 public:
  // invalid_argument: an option out of its bounds.
  static Result<Lookahead> make(SequencePredictor& predictor,
                                const LookaheadOptions& options);

  // The stream grew. What to fetch now is written to `fetch` (at most kMostDepth, which
  // it has room for), the likeliest first; how many. `is_resident` says what needs no
  // fetch.
  template <class Resident>
  std::size_t observe(StreamId stream, std::uint32_t symbol, Resident&& is_resident,
                      std::span<std::uint32_t, kMostDepth> fetch) noexcept {
    use(symbol);
    predictor_->observe(stream, symbol);
    std::array<Candidate, kMostDepth> best;
    const std::size_t found =
        predictor_->predict(stream, std::span(best).first(choose_depth()));
    std::size_t count = 0;
    for (const Candidate& guess : std::span(best).first(found)) {
      if (guess.confidence < options_.confidence)
        ++counts_.unlikely;
      else if (is_resident(guess.symbol))
        ++counts_.resident;
      else if (ask(guess.symbol))
        fetch[count++] = guess.symbol;
    }
    return count;
  }

  // The same, and nothing is asked for.
  void watch(StreamId stream, std::uint32_t symbol) noexcept {
    use(symbol);
    predictor_->observe(stream, symbol);
  }
  void forget(StreamId stream) noexcept { predictor_->forget(stream); }

  // What was asked for has come; does not come, for which no guess is to blame; had come
  // and went again unused, which is waste.
  void arrived(std::uint32_t symbol) noexcept;
  void failed(std::uint32_t symbol) noexcept;
  void gone(std::uint32_t symbol) noexcept;
  // Share of the link that others use, 0..1: what a fetch costs.
  void set_busy(double share) noexcept;

  std::uint32_t depth() const noexcept { return depth_; }
  std::uint32_t outstanding() const noexcept { return asked_.size(); }
  bool asked_for(std::uint32_t symbol) const noexcept {
    return asked_.find(symbol) != nullptr;
  }
  const LookaheadCounts& counts() const noexcept { return counts_; }

 private:
  struct Asked {
    std::uint64_t at = 0;  // symbols seen by then
    std::uint8_t arm = 0;
    bool here = false;
  };
  struct Arm {
    double pulls = 0, earned = 0;
  };
  static constexpr std::uint32_t kLeast = 2, kMost = 8, kArms = 4, kWindow = 32;

  Lookahead(SequencePredictor& predictor, const LookaheadOptions& options);
  void use(std::uint32_t symbol) noexcept;
  bool ask(std::uint32_t symbol) noexcept;
  void expire() noexcept;
  std::uint32_t choose_depth() noexcept;
  void pull() noexcept;
  void settled(const Asked& asked, bool used) noexcept;

  SequencePredictor* predictor_;
  LookaheadOptions options_;
  LookaheadCounts counts_;
  RecentTable<Asked> asked_;
  std::uint32_t depth_, used_ = 0, judged_ = 0;
  std::array<Arm, kArms> arms_{};
  std::uint8_t arm_ = 0;
  double price_ = 0.25;
};

}  // namespace speckv::predict

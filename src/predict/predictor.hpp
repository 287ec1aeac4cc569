// predict/predictor.hpp -- what is predicted, and the two seams behind which it is done.
//
// ReturnPredictor: when will a session's KV be needed again. It is asked when a request
// completes, and told when the session's next one arrives; it learns from what it is
// told. SequencePredictor: which token or block comes next in a stream that grows by one
// at a time.
//
// Times are seconds of any clock that does not go backwards; no predictor reads a clock,
// so that a replay gives what a live run gave. Predictors are owned by one thread; none
// throws, blocks, or grows beyond the number of sessions or streams that it was made for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace speckv::predict {

// Gap class 0 is [0, 1) s, class k is [2^(k-1), 2^k) s; what takes longer than the last
// of them is class kNever, like what does not happen at all.
inline constexpr std::size_t kGaps = 14, kNever = kGaps, kReturnClasses = kGaps + 1;
inline constexpr double kLongestGap = 8192;  // s: 2^(kGaps - 1)

// REQUIRES: gap >= 0 (a NaN is never).
std::size_t gap_class(double gap) noexcept;

// Of the time from the completion of a request to the arrival of the session's next.
struct ReturnDistribution {
  std::array<float, kReturnClasses> probability{};  // each >= 0; their sum is 1

  // P(gap <= seconds): log-linear within a class, linear in class 0.
  double within(double seconds) const noexcept;
  // P(gap <= idle + window, given that it is > idle); 0 where the session is almost
  // certainly gone (P(gap > idle) < 1e-4).
  double hazard(double idle, double window) const noexcept;
};

using SessionId = std::uint64_t;

// A request that just completed: what is known of it, in plain units.
struct Completion {
  SessionId session = 0;
  double arrived = 0, completed = 0;  // s
  std::uint32_t input_tokens = 0, output_tokens = 0;
  std::uint32_t blocks = 0;         // of its chain,
  std::uint32_t reused_blocks = 0;  // of which so many were known before it
  bool brings_tool_result = false;  // its input ends with what a tool answered
  bool stops_for_tool = false;      // it stopped so that a tool is called
  bool calls_tool = false;          // its output holds a call, whatever it stopped for
  bool sub_agent = false;           // it belongs to an agent that another agent started
};

// How a predictor has done since it was made, over the waits whose end it was told.
struct ReturnScore {
  std::uint64_t outcomes = 0;
  double bits = 0;  // sum of -log2 of the probability given to the class that happened
};

// A session that it does not know is new; when there are too many, the one that was
// silent for longest is forgotten. Wild numbers (NaN, times that go backwards) are taken
// for the nearest that make sense.
class ReturnPredictor {
 public:
  virtual ~ReturnPredictor() = default;

  // A request completed: when will the session's next arrive? Of several requests of one
  // session at once, the last to complete counts.
  virtual ReturnDistribution completed(const Completion& request) noexcept = 0;
  // A request of the session arrives at `now`: the wait for it is over.
  virtual void arrived(SessionId session, double now) noexcept = 0;
  // The session ended by its own word: it does not return.
  virtual void ended(SessionId session) noexcept = 0;
  // Waits that are older than kLongestGap at `now` are taken for never. A wait that is
  // still open when the predictor goes is censored: nothing is learned from it but that
  // it lasted that long.
  virtual void advance(double now) noexcept = 0;

  virtual ReturnScore score() const noexcept = 0;
};

using StreamId = std::uint64_t;

struct Candidate {
  std::uint32_t symbol = 0;  // a token, or whatever the stream is made of
  float confidence = 0;      // 0..1, as far as the predictor can tell
};

// A stream that it does not know is new; when there are too many, the one that was used
// longest ago is forgotten. A stream is made of symbols, with no bound on their number.
class SequencePredictor {
 public:
  virtual ~SequencePredictor() = default;

  // The stream grew by this symbol. Cost: one step, whatever the length of the stream.
  virtual void observe(StreamId stream, std::uint32_t symbol) noexcept = 0;
  // The most likely next symbols, best first and each once: how many were written to
  // `best`. 0 for a stream that nothing was observed of.
  virtual std::size_t predict(StreamId stream,
                              std::span<Candidate> best) const noexcept = 0;
  virtual void forget(StreamId stream) noexcept = 0;
};

}  // namespace speckv::predict

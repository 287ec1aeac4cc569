// record/request_lines.hpp -- requests that come and go, as the lines of a trace: in the
// order of their arrival, each with what its chain does not share with the session's
// last.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "cxlspeckv/prefetcher.hpp"

namespace speckv {

// Not thread-safe. Times are microseconds since the recording began, and do not go back.
class RequestLines {
 public:
  RequestLines(std::size_t most_open, std::size_t most_blocks)
      : most_open_(most_open), most_blocks_(most_blocks) {}

  // What each of them makes ready is appended to `out`, in whole lines.
  void arrived(std::uint64_t session, std::uint64_t now, std::string& out);
  void finished(std::uint64_t session, std::span<const BlockKey> chain,
                const RequestFacts& facts, std::uint64_t now, std::string& out);
  void ended(std::uint64_t session, std::uint64_t now, std::string& out);
  // What is no hint is left out: see Prefetcher::hint().
  void hinted(std::uint64_t session, double eta, double confidence, std::uint64_t now,
              std::string& out);
  void close(std::string& out);  // what is not finished is left out

  std::uint64_t written() const noexcept { return written_; }
  std::uint64_t left_out() const noexcept { return left_out_; }

 private:
  using Chain = std::vector<std::uint64_t>;
  struct Request {
    std::uint64_t session = 0, arrived = 0, duration = 0;
    // A notice is no request, but waits as they do.
    enum class State : std::uint8_t { open, done, left_out, notice } state{};
    RequestFacts facts{};
    Chain chain{};
    std::string notice{};  // its line
  };
  struct Last {
    std::uint64_t line = 0;
    Chain chain{};
  };

  Request* find(std::uint64_t session);
  void bound();
  void note(std::uint64_t session, std::uint64_t now, std::string line, std::string& out);
  void drain(std::string& out);
  void write(Request& request, std::string& out);

  const std::size_t most_open_, most_blocks_;
  std::deque<Request> waiting_;  // by arrival
  std::size_t waiting_blocks_ = 0;
  std::unordered_map<std::uint64_t, Last> last_;  // of each session, as written
  std::size_t last_blocks_ = 0;
  std::uint64_t written_ = 0, left_out_ = 0;
};

}  // namespace speckv

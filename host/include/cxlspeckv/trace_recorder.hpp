// cxlspeckv/trace_recorder.hpp -- what an engine asks for, as a file that `speckvctl
// trace` tells, converts and replays (docs/traces.md).
//
// A recorder is told of requests by a Prefetcher (PrefetchOptions::requests), which says
// what the engine said to it, or by the engine itself. It takes a bounded amount of
// memory, and a thread of its own writes. What cannot be recorded ends the recording and
// nothing else: the file then holds the requests up to there, and status() says why.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cxlspeckv/prefetcher.hpp"

namespace speckv {

struct TraceRecorderOptions {
  std::uint32_t block_tokens = 64;  // of the blocks whose keys are told; 1 to 2^30
  std::uint64_t most_buffered = 8ULL << 20;  // bytes that wait for the disk
  // Requests that wait for one that arrived before them: the oldest that is not finished
  // is left out where there are more, or more blocks in their chains.
  std::uint32_t most_open = 4096;
  std::uint32_t most_blocks = 1U << 20;
  bool overwrite = false;  // a file that is there; else io_error
  Clock* clock = nullptr;  // nullptr: steady_clock()
  LogSink log{};           // told once, if the recording ends early
};

// Any thread may call any member. It ends after whoever tells it.
class TraceRecorder final : public RequestSink {
 public:
  // invalid_argument: what is wrong with the options. not_found, io_error: the file
  // cannot be made.
  static Result<std::unique_ptr<TraceRecorder>> create(const std::string& path,
                                                       TraceRecorderOptions options = {});
  ~TraceRecorder() override;  // close()
  TraceRecorder(const TraceRecorder&) = delete;
  TraceRecorder& operator=(const TraceRecorder&) = delete;

  void arrived(std::uint64_t session) noexcept override;
  void finished(std::uint64_t session, std::span<const BlockKey> chain,
                const RequestFacts& facts) noexcept override;
  void ended(std::uint64_t session) noexcept override;
  void hinted(std::uint64_t session, double eta, double confidence) noexcept override;

  // Why the recording ended early; ok while it has not.
  Status status() const;
  // Ends it: requests that are not finished are left out. Its status. Twice is fine.
  Status close();
  std::uint64_t requests() const;  // recorded
  std::uint64_t left_out() const;  // not finished in time, or longer than can be

 private:
  struct Impl;
  explicit TraceRecorder(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

// Records where the environment asks for it: CXLSPECKV_TRACE names a file which is not
// there yet (`speckvctl trace record` sets it). The C API and Python record by it.
class EnvironmentRecorder final : public RequestSink {
 public:
  // Before it is told anything. What goes wrong is told to the log, and nothing is
  // recorded; nor is it in a program that runs with more rights than its user has.
  void start(std::uint32_t block_tokens, LogSink log);

  void arrived(std::uint64_t session) noexcept override;
  void finished(std::uint64_t session, std::span<const BlockKey> chain,
                const RequestFacts& facts) noexcept override;
  void ended(std::uint64_t session) noexcept override;
  void hinted(std::uint64_t session, double eta, double confidence) noexcept override;
  void end() noexcept { recorder_.reset(); }  // nothing is told any more

 private:
  std::unique_ptr<TraceRecorder> recorder_{};
};

}  // namespace speckv

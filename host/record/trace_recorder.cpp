// A recording: lines are made where requests are told of, and written by a thread.
#include "cxlspeckv/trace_recorder.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

#include "cxlspeckv/guarded.hpp"

#include "device/os.hpp"
#include "record/request_lines.hpp"
#include "trace/lines.hpp"

namespace speckv {

struct TraceRecorder::Impl {
  Impl(std::string the_path, Fd the_file, const TraceRecorderOptions& the_options)
      : path(std::move(the_path)),
        options(the_options),
        clock(options.clock != nullptr ? *options.clock : steady_clock()),
        origin(clock.now()),
        file(std::move(the_file)),
        lines(options.most_open, options.most_blocks),
        ready("speckv-trace 1 " + std::to_string(options.block_tokens) + "\n") {}

  std::uint64_t now() const {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(
        0, std::chrono::duration_cast<std::chrono::microseconds>(clock.now() - origin)
               .count()));
  }

  // Makes lines under the lock, which is never held while anything is written.
  template <class F>
  void tell(F&& body) noexcept {
    const Code told = guarded([&] {
      const std::lock_guard lock(mutex);
      if (!lost.ok() || closing) return Code::ok;
      body();
      if (ready.size() > options.most_buffered) {
        lose({Code::timed_out, path + ": requests come faster than they are written"});
        ready.clear();
      }
      return Code::ok;
    });
    if (told != Code::ok) {
      const std::lock_guard lock(mutex);
      lose({told, "out of memory"});  // a text that needs none
    }
    changed.notify_one();
  }

  // Under the lock. The first reason counts.
  void lose(Status why) {
    if (!lost.ok()) return;
    lost = std::move(why);
    if (options.log.write != nullptr)
      options.log.write(options.log.context, LogLevel::warning, lost.message());
  }

  void write_all() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return closing || !ready.empty(); });
      if (ready.empty()) return;
      const std::string lines_to_write = std::exchange(ready, {});
      lock.unlock();
      const int error = write(lines_to_write);
      lock.lock();
      if (error == 0) continue;
      const Code told = guarded([&] {
        lose(os_error("cannot write " + path, error));
        return Code::ok;
      });
      if (told != Code::ok) lose({code_of(error), "cannot write"});
      ready.clear();
    }
  }
  // Whole lines or none: what was written of the last ones is taken back.
  int write(const std::string& text) {
    std::size_t done = 0;
    while (done < text.size()) {
      const ssize_t n = ::write(file.get(), text.data() + done, text.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        const int error = n < 0 ? errno : EIO;
        // What is no file cannot be cut; its reader sees a line that is not whole.
        [[maybe_unused]] const int cut = ::ftruncate(file.get(), whole);
        return error;
      }
      done += static_cast<std::size_t>(n);
    }
    whole += static_cast<off_t>(text.size());
    return 0;
  }

  const std::string path;
  const TraceRecorderOptions options;
  Clock& clock;
  const Clock::time_point origin;
  const Fd file;
  off_t whole = 0;  // bytes of whole lines; the writer's

  mutable std::mutex mutex;
  std::condition_variable changed;
  // All below under the lock.
  RequestLines lines;
  std::string ready;  // to be written
  Status lost{};
  bool closing = false;
  std::thread writer{};
};

TraceRecorder::TraceRecorder(std::unique_ptr<Impl> impl) noexcept
    : impl_(std::move(impl)) {}

TraceRecorder::~TraceRecorder() {
  (void)close();
}

Result<std::unique_ptr<TraceRecorder>> TraceRecorder::create(
    const std::string& path, TraceRecorderOptions options) {
  return guarded([&]() -> Result<std::unique_ptr<TraceRecorder>> {
    if (options.block_tokens < 1 || options.block_tokens > trace::kMostTokens)
      return Status(Code::invalid_argument, "block_tokens must be 1 to 2^30");
    if (options.most_open < 1 || options.most_blocks < 1 || options.most_buffered < 4096)
      return Status(Code::invalid_argument,
                    "most_open and most_blocks must be at least 1, most_buffered 4096");
    const int how =
        O_WRONLY | O_CREAT | O_CLOEXEC | (options.overwrite ? O_TRUNC : O_EXCL);
    Fd file(::open(path.c_str(), how, S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH));
    if (!file) return os_error("cannot make " + path, errno);
    std::unique_ptr<TraceRecorder> recorder(
        new TraceRecorder(std::make_unique<Impl>(path, std::move(file), options)));
    Impl& impl = *recorder->impl_;
    impl.writer = std::thread([&impl] { impl.write_all(); });
    return recorder;
  });
}

void TraceRecorder::arrived(std::uint64_t session) noexcept {
  impl_->tell([&] { impl_->lines.arrived(session, impl_->now(), impl_->ready); });
}

void TraceRecorder::finished(std::uint64_t session, std::span<const BlockKey> chain,
                             const RequestFacts& facts) noexcept {
  impl_->tell(
      [&] { impl_->lines.finished(session, chain, facts, impl_->now(), impl_->ready); });
}

void TraceRecorder::ended(std::uint64_t session) noexcept {
  impl_->tell([&] { impl_->lines.ended(session, impl_->now(), impl_->ready); });
}

void TraceRecorder::hinted(std::uint64_t session, double eta,
                           double confidence) noexcept {
  impl_->tell(
      [&] { impl_->lines.hinted(session, eta, confidence, impl_->now(), impl_->ready); });
}

Status TraceRecorder::status() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->lost;
}

Status TraceRecorder::close() {
  impl_->tell([&] {
    impl_->lines.close(impl_->ready);
    impl_->closing = true;
  });
  std::thread writer;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->closing = true;  // also where it was lost
    writer = std::move(impl_->writer);
  }
  impl_->changed.notify_one();
  if (writer.joinable()) writer.join();
  return status();
}

std::uint64_t TraceRecorder::requests() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->lines.written();
}

std::uint64_t TraceRecorder::left_out() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->lines.left_out();
}

void EnvironmentRecorder::start(std::uint32_t block_tokens, LogSink log) {
  const char* const path = ::secure_getenv("CXLSPECKV_TRACE");
  if (path == nullptr || path[0] == '\0') return;
  auto made = TraceRecorder::create(path, {.block_tokens = block_tokens, .log = log});
  if (made.ok()) {
    recorder_ = *std::move(made);
  } else if (log.write != nullptr) {
    log.write(log.context, LogLevel::warning, made.error().message());
  }
}

void EnvironmentRecorder::arrived(std::uint64_t session) noexcept {
  if (recorder_ != nullptr) recorder_->arrived(session);
}
void EnvironmentRecorder::finished(std::uint64_t session, std::span<const BlockKey> chain,
                                   const RequestFacts& facts) noexcept {
  if (recorder_ != nullptr) recorder_->finished(session, chain, facts);
}
void EnvironmentRecorder::ended(std::uint64_t session) noexcept {
  if (recorder_ != nullptr) recorder_->ended(session);
}
void EnvironmentRecorder::hinted(std::uint64_t session, double eta,
                                 double confidence) noexcept {
  if (recorder_ != nullptr) recorder_->hinted(session, eta, confidence);
}

}  // namespace speckv

// The engine for machines that refuse io_uring: a few threads in pread() and pwrite().
#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include <sys/uio.h>

#include "device/file.hpp"

namespace speckv {
namespace {

constexpr std::uint32_t kThreads =
    4;  // enough to keep one drive busy with large transfers

// Shared by a queue and its threads; the last of them frees it.
struct Work {
  Work(std::uint32_t depth, const FileContext& context)
      : fd(context.fd), alignment(context.info.alignment), jobs(depth), done(depth) {}

  const std::shared_ptr<const Fd> fd;
  const std::uint32_t alignment;
  std::mutex mutex;
  std::condition_variable arrived, finished;
  // Guarded by `mutex`:
  std::vector<FileJob> jobs;  // a ring
  std::size_t first = 0, count = 0;
  std::uint32_t unfinished = 0;  // handed to the threads and not answered
  CompletionRing done;
  bool woken = false;
  bool stop = false;
};

Code perform(const Work& work, FileJob job) noexcept {
  const int fd = work.fd->get();
  Code code = Code::ok;
  while (true) {
    std::int64_t answer = 0;
    const auto offset = static_cast<off_t>(job.offset);
    switch (job.op) {
      case Transfer::Op::read:
        answer = ::pread(fd, job.at, job.piece(), offset);
        break;
      case Transfer::Op::write:
        answer = ::pwrite(fd, job.at, job.piece(), offset);
        break;
      case Transfer::Op::flush:
        answer = ::fdatasync(fd);
        break;
    }
    if (job.advance(answer < 0 ? -errno : answer, work.alignment, code)) return code;
  }
}

void run_thread(const std::shared_ptr<Work>& work) noexcept {
  std::unique_lock lock(work->mutex);
  while (true) {
    work->arrived.wait(lock, [&] { return work->stop || work->count != 0; });
    if (work->count == 0) return;
    const FileJob job = work->jobs[work->first];
    work->first = (work->first + 1) % work->jobs.size();
    --work->count;
    lock.unlock();
    const Code code = perform(*work, job);
    lock.lock();
    work->done.push({job.tag, code});
    --work->unfinished;
    work->finished.notify_all();
  }
}

class PreadQueue final : public Queue {
 public:
  PreadQueue(const FileContext& context, std::uint32_t depth)
      : context_(context), depth_(depth), work_(std::make_shared<Work>(depth, context)) {}

  Status start() {
    try {
      for (std::uint32_t i = 0; i < std::min(depth_, kThreads); ++i) {
        threads_.emplace_back([work = work_] { run_thread(work); });
      }
    } catch (const std::system_error& error) {
      return os_error("starting a thread for pread and pwrite", error.code().value());
    }
    return {};
  }

  ~PreadQueue() override {
    std::unique_lock lock(work_->mutex);
    const bool idle =
        work_->finished.wait_until(lock, deadline_after(context_.info.timeout),
                                   [&] { return work_->unfinished == 0; });
    work_->stop = true;
    work_->count = 0;  // what no thread has begun is never begun
    lock.unlock();
    work_->arrived.notify_all();
    for (std::thread& thread : threads_) {
      if (idle) {
        thread.join();
      } else {
        thread.detach();  // one is stuck in the kernel, for longer than the timeout
      }
    }
  }

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    const RegionTable::Reader regions(context_.regions);
    const std::lock_guard lock(work_->mutex);
    std::size_t taken = 0;
    for (; taken < batch.size() && held_ < depth_; ++taken, ++held_) {
      accept(batch[taken], regions);
    }
    work_->arrived.notify_all();
    return taken;
  }

  std::size_t poll(std::span<Completion> out) noexcept override {
    const std::lock_guard lock(work_->mutex);
    const std::size_t count = work_->done.pop(out);
    held_ -= static_cast<std::uint32_t>(count);
    return count;
  }

  void wait(std::chrono::nanoseconds at_most) noexcept override {
    std::unique_lock lock(work_->mutex);
    work_->finished.wait_until(lock, deadline_after(at_most),
                               [&] { return work_->woken || !work_->done.empty(); });
    work_->woken = false;
  }

  void wake() noexcept override {
    const std::lock_guard lock(work_->mutex);
    work_->woken = true;
    work_->finished.notify_all();
  }

 private:
  void accept(const Transfer& transfer, const RegionTable::Reader& regions) noexcept {
    Lent lent;
    const Code code = check(context_.info, regions, transfer, lent);
    if (code != Code::ok) {
      work_->done.push({transfer.tag, code});
      return;
    }
    work_->jobs[(work_->first + work_->count++) % work_->jobs.size()] =
        FileJob{.tag = transfer.tag,
                .op = transfer.op,
                .at = lent.memory.data(),
                .left = lent.memory.size(),
                .offset = transfer.offset};
    ++work_->unfinished;
  }

  const FileContext& context_;
  const std::uint32_t depth_;
  std::uint32_t held_ = 0;  // accepted and not yet polled
  const std::shared_ptr<Work> work_;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<Queue>> open_pread_queue(const FileContext& context,
                                                std::uint32_t depth) {
  auto queue = std::make_unique<PreadQueue>(context, depth);
  if (Status status = queue->start(); !status.ok()) return status;
  return std::unique_ptr<Queue>(std::move(queue));
}

}  // namespace speckv

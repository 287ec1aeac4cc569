// The engine of choice: one io_uring a queue, one system call a batch.
#include <array>
#include <cerrno>
#include <chrono>

#include <liburing.h>

#include "device/file.hpp"

namespace speckv {
namespace {

using std::chrono::steady_clock;

// Owns a ring. Uninitialised until init() succeeded.
class Ring {
 public:
  Ring() noexcept = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (open_) ::io_uring_queue_exit(&ring_);
  }
  Status init(std::uint32_t entries) {
    const int error = ::io_uring_queue_init(entries, &ring_, 0);
    if (error < 0) return os_error("io_uring is refused", -error);
    open_ = true;
    // Before 5.5 a completion could be lost when the ring was full.
    if ((ring_.features & IORING_FEAT_NODROP) == 0) {
      return {Code::unsupported, "io_uring is refused: this kernel is too old"};
    }
    return {};
  }
  io_uring* get() noexcept { return &ring_; }

 private:
  io_uring ring_{};
  bool open_ = false;
};

// Keeps the regions that transfers name pinned in the ring, which spares the kernel from
// pinning their pages for every transfer. Only an optimisation: what does not fit, or
// what RLIMIT_MEMLOCK forbids, is read and written the plain way.
class PinnedRegions {
 public:
  static constexpr std::size_t kSlots = 16;
  // Pinning fills in every page, so that large, perhaps sparse regions stay out.
  static constexpr std::size_t kMostBytes = 64U << 20;

  void init(io_uring* ring) noexcept {
    ring_ = ring;
    usable_ = ::io_uring_register_buffers_sparse(ring, kSlots) == 0;
  }

  // Lets go of detached regions.
  void refresh(const RegionTable::Reader& regions) noexcept {
    if (!usable_ || version_ == regions.version()) return;
    version_ = regions.version();
    for (std::size_t i = 0; i < kSlots; ++i) {
      if (slots_[i].serial == 0 || regions.holds(slots_[i].serial)) continue;
      if (slots_[i].pinned) set(i, {});
      slots_[i] = {};
    }
  }

  // The index to name in a transfer, or -1.
  int find(std::uint64_t serial, MutableBytes whole) noexcept {
    if (!usable_ || whole.size() > kMostBytes) return -1;
    std::size_t free = kSlots;
    for (std::size_t i = 0; i < kSlots; ++i) {
      if (slots_[i].serial == serial) return slots_[i].pinned ? static_cast<int>(i) : -1;
      if (slots_[i].serial == 0 && free == kSlots) free = i;
    }
    if (free == kSlots) return -1;
    // A refusal is remembered, and not asked for again with every transfer.
    slots_[free] = {serial, set(free, whole)};
    return slots_[free].pinned ? static_cast<int>(free) : -1;
  }

 private:
  struct Slot {
    std::uint64_t serial = 0;  // 0: free
    bool pinned = false;
  };

  bool set(std::size_t slot, MutableBytes bytes) noexcept {
    const iovec vector{bytes.data(), bytes.size()};
    __u64 no_tag = 0;
    return ::io_uring_register_buffers_update_tag(ring_, static_cast<unsigned>(slot),
                                                  &vector, &no_tag, 1) == 1;
  }

  io_uring* ring_ = nullptr;
  bool usable_ = false;
  std::uint64_t version_ = 0;
  std::array<Slot, kSlots> slots_{};
};

class UringQueue final : public Queue {
 public:
  UringQueue(const FileContext& context, std::uint32_t depth, Waker waker)
      : context_(context), jobs_(depth), ready_(depth), waker_(std::move(waker)) {
    for (std::uint32_t i = depth; i > 0; --i)
      free_.push_back(i - 1);
  }

  Status init() {
    Status status = ring_.init(static_cast<std::uint32_t>(jobs_.size()));
    if (status.ok()) pinned_.init(ring_.get());
    return status;
  }

  ~UringQueue() override {
    const auto deadline = deadline_after(context_.info.timeout);
    while (in_kernel_ != 0 && steady_clock::now() < deadline) {
      waker_.wait(deadline - steady_clock::now(), ring_.get()->ring_fd);
      reap();
    }
  }

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    std::size_t taken = 0;
    {
      const RegionTable::Reader regions(context_.regions);
      pinned_.refresh(regions);
      for (; taken < batch.size() && held_ < jobs_.size(); ++taken, ++held_) {
        accept(batch[taken], regions);
      }
    }
    push();
    return taken;
  }

  std::size_t poll(std::span<Completion> out) noexcept override {
    reap();
    const std::size_t count = ready_.pop(out);
    held_ -= static_cast<std::uint32_t>(count);
    return count;
  }

  void wait(std::chrono::nanoseconds at_most) noexcept override {
    // A short transfer goes back to the kernel, hence the loop.
    const auto deadline = deadline_after(at_most);
    while (true) {
      reap();
      if (!ready_.empty()) {
        waker_.consume();
        return;
      }
      const bool woken =
          waker_.wait(deadline - steady_clock::now(), ring_.get()->ring_fd);
      if (woken || steady_clock::now() >= deadline) return;
    }
  }

  void wake() noexcept override { waker_.wake(); }

 private:
  void accept(const Transfer& transfer, const RegionTable::Reader& regions) noexcept {
    Lent lent;
    const Code code = check(context_.info, regions, transfer, lent);
    if (code != Code::ok) {
      ready_.push({transfer.tag, code});
      return;
    }
    const std::uint32_t index = free_.back();
    free_.pop_back();
    jobs_[index] = {.tag = transfer.tag,
                    .op = transfer.op,
                    .at = lent.memory.data(),
                    .left = lent.memory.size(),
                    .offset = transfer.offset,
                    .buffer = -1};
    if (transfer.op != Transfer::Op::flush) {
      const auto* region = regions.find(transfer.memory.region);
      jobs_[index].buffer = pinned_.find(region->serial, region->memory);
    }
    ++in_kernel_;
    prepare(index);
  }

  // REQUIRES: an entry of the ring is free, which holds because there is one for each job
  // and push() empties it; where the kernel took none, the job stays behind for later.
  void prepare(std::uint32_t index) noexcept {
    io_uring_sqe* entry = ::io_uring_get_sqe(ring_.get());
    if (entry == nullptr) {
      answer(index, Code::internal);
      return;
    }
    const FileJob& job = jobs_[index];
    const int fd = context_.fd->get();
    if (job.op == Transfer::Op::flush) {
      ::io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC);
    } else if (job.op == Transfer::Op::read) {
      if (job.buffer < 0) {
        ::io_uring_prep_read(entry, fd, job.at, job.piece(), job.offset);
      } else {
        ::io_uring_prep_read_fixed(entry, fd, job.at, job.piece(), job.offset,
                                   job.buffer);
      }
    } else if (job.buffer < 0) {
      ::io_uring_prep_write(entry, fd, job.at, job.piece(), job.offset);
    } else {
      ::io_uring_prep_write_fixed(entry, fd, job.at, job.piece(), job.offset, job.buffer);
    }
    ::io_uring_sqe_set_data64(entry, index);
  }

  // Rings the doorbell. What the kernel does not take now (it may be short of memory)
  // stays in the ring, and goes with the next call.
  void push() noexcept {
    if (::io_uring_sq_ready(ring_.get()) != 0) ::io_uring_submit(ring_.get());
  }

  void reap() noexcept {
    std::array<io_uring_cqe*, 64> entries{};
    unsigned count = 0;
    while ((count = ::io_uring_peek_batch_cqe(ring_.get(), entries.data(),
                                              static_cast<unsigned>(entries.size()))) !=
           0) {
      for (unsigned i = 0; i < count; ++i) {
        finish(static_cast<std::uint32_t>(entries[i]->user_data), entries[i]->res);
      }
      ::io_uring_cq_advance(ring_.get(), count);
    }
    push();
  }

  void finish(std::uint32_t index, std::int32_t result) noexcept {
    Code code = Code::ok;
    if (jobs_[index].advance(result, context_.info.alignment, code)) {
      answer(index, code);
    } else {
      prepare(index);
    }
  }

  void answer(std::uint32_t index, Code code) noexcept {
    ready_.push({jobs_[index].tag, code});
    free_.push_back(index);
    --in_kernel_;
  }

  const FileContext& context_;
  std::vector<FileJob> jobs_;
  std::vector<std::uint32_t> free_;  // indices of jobs
  std::uint32_t held_ = 0;           // accepted and not yet polled
  std::uint32_t in_kernel_ = 0;
  CompletionRing ready_;
  Waker waker_;
  Ring ring_;
  PinnedRegions pinned_;
};

}  // namespace

Status probe_uring() {
  Ring ring;
  return ring.init(1);
}

Result<std::unique_ptr<Queue>> open_uring_queue(const FileContext& context,
                                                std::uint32_t depth) {
  Result<Waker> waker = Waker::create();
  if (!waker.ok()) return waker.error();
  auto queue = std::make_unique<UringQueue>(context, depth, std::move(*waker));
  if (Status status = queue->init(); !status.ok()) return status;
  return std::unique_ptr<Queue>(std::move(queue));
}

}  // namespace speckv

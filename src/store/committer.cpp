#include "store/committer.hpp"

#include <algorithm>
#include <utility>

#include "cxlspeckv/guarded.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kTagsPerCommit = 1 << 20;  // no two in flight have the same
constexpr std::uint64_t kGroupBytes = 32ULL << 20;
constexpr std::chrono::milliseconds kGroupAge{20};

}  // namespace

Committer::Committer(BlockTable& table, Services& services, std::uint32_t tier,
                     Pool& pool, Segment region, MutableBytes buffer)
    : table_(table),
      services_(services),
      tier_(table.tier(tier)),
      pool_(pool),
      region_(region),
      buffer_(buffer) {
  const std::size_t pages = tier_.geometry.nodes / kRecordsPerPage + 1;
  pages_.reserve(pages);
  const MutexLock lock(mutex_);
  dirty_.reserve(pages);
  is_dirty_.resize(pages);
}

// Into memory that was reserved for every page there is.
void Committer::mark(std::uint32_t page) noexcept {
  if (is_dirty_[page] != 0) return;
  is_dirty_[page] = 1;
  dirty_.push_back(page);
}

void Committer::published(std::uint32_t node, std::uint64_t bytes) noexcept {
  const MutexLock lock(mutex_);
  if (!std::exchange(any_published_, true)) oldest_ = services_.clock->now();
  gathered_ += bytes;
  mark(node / kRecordsPerPage);
}

void Committer::quarantine(std::uint32_t node) noexcept {
  const MutexLock lock(mutex_);
  tier_.node(node).next = std::exchange(quarantined_, node);
  mark(node / kRecordsPerPage);
}

void Committer::add(std::shared_ptr<OperationState> op, std::size_t index) noexcept {
  if (const Code kept = guarded([&] {
        waiting_.push_back({op, index});
        return Code::ok;
      });
      kept != Code::ok) {
    op->finish(index, kept);
  }
}

void Committer::refuse(Code code) {
  for (const Waiting& waiting : std::exchange(waiting_, {}))
    waiting.op->finish(waiting.index, code);
}

Clock::time_point Committer::release_overdue(Clock::time_point now) {
  Clock::time_point soonest = Clock::time_point::max();
  const auto passed = [&](const Waiting& waiting) {
    const Clock::time_point deadline = waiting.op->deadline;
    if (deadline > now) {
      soonest = std::min(soonest, deadline);
      return false;
    }
    waiting.op->finish(waiting.index, Code::timed_out);
    return true;
  };
  std::erase_if(waiting_, passed);
  std::erase_if(committing_, passed);
  return soonest;
}

bool Committer::has_work() {
  if (!waiting_.empty()) return true;
  const MutexLock lock(mutex_);
  return !dirty_.empty();
}

bool Committer::due(bool hurry) {
  if (running_ || has_stragglers() || !has_work()) return false;
  if (hurry) return true;
  const MutexLock lock(mutex_);
  return gathered_ >= kGroupBytes ||
         (any_published_ && services_.clock->now() - oldest_ >= kGroupAge);
}

bool Committer::begin(Sender& sender) SPECKV_UNCHECKED {
  bool stolen = false;
  // The token is kept across the I/O: two processes must not write one page of records at
  // a time. A dead holder's commit is simply done again.
  if (!tier_.header().commit.try_lock(table_.mapping().self(), stolen)) return false;
  {
    const MutexLock lock(mutex_);
    cleared_ = std::exchange(quarantined_, kNone);
    any_published_ = false;
    gathered_ = 0;
    pages_.swap(dirty_);
    for (const std::uint32_t page : pages_)
      is_dirty_[page] = 0;
  }
  std::sort(pages_.begin(), pages_.end());
  committing_.swap(waiting_);
  running_ = true;
  ++serial_;
  flushing_ = false;
  result_ = Code::ok;
  sent_ = 0;
  deadline_ = services_.clock->now() + tier_.device->info().timeout;
  send_pages(sender);
  return true;
}

// As many pages as the buffer holds, neighbours in one transfer; after the last, the
// flush.
void Committer::send_pages(Sender& sender) {
  const std::size_t room = buffer_.size() / kPoolPage;
  const std::size_t batch = std::min(room, pages_.size() - sent_);
  if (batch == 0) {
    flushing_ = true;
    outstanding_ = 1;
    sender.send(
        {Transfer::Op::flush, 0, {region_.region, region_.offset, 0}, next_tag()});
    return;
  }
  {
    const TierLock lock(tier_);
    for (std::size_t i = 0; i < batch; ++i) {
      pool_.encode_page(table_, pages_[sent_ + i],
                        buffer_.subspan(i * kPoolPage, kPoolPage));
    }
  }
  outstanding_ = 0;
  for (std::size_t i = 0; i < batch;) {
    std::size_t run = 1;
    while (i + run < batch && pages_[sent_ + i + run] == pages_[sent_ + i] + run)
      ++run;
    ++outstanding_;
    sender.send({Transfer::Op::write,
                 tier_.geometry.table_offset + pages_[sent_ + i] * kPoolPage,
                 {region_.region, region_.offset + i * kPoolPage, run * kPoolPage},
                 next_tag()});
    i += run;
  }
  sent_ += batch;
}

std::uint64_t Committer::next_tag() noexcept {
  return kTag + serial_ * kTagsPerCommit + next_tag_++ % kTagsPerCommit;
}

void Committer::completed(const Completion& done, Sender& sender) {
  if (!running_ || (done.tag - kTag) / kTagsPerCommit != serial_) {
    if (stragglers_ > 0) --stragglers_;
    return;
  }
  if (done.code != Code::ok) result_ = done.code;
  if (--outstanding_ > 0) return;
  if (result_ != Code::ok) {
    fail(result_);
  } else if (!flushing_) {
    send_pages(sender);
  } else {
    finish();
  }
}

void Committer::finish() SPECKV_UNCHECKED {
  {
    const TierLock lock(tier_);
    ++tier_.header().generation;
  }
  tier_.header().commit.unlock();
  running_ = false;
  for (std::uint32_t node = std::exchange(cleared_, kNone), next = kNone; node != kNone;
       node = next) {
    next = tier_.node(node).next;
    table_.release_quarantined(tier_.number, node);
  }
  for (const Waiting& waiting : committing_)
    waiting.op->finish(waiting.index, Code::ok);
  committing_.clear();
  pages_.clear();
  services_.changes.announce();
}

bool Committer::overdue() const {
  return running_ && services_.clock->now() > deadline_;
}

void Committer::fail(Code code) SPECKV_UNCHECKED {
  tier_.header().commit.unlock();
  running_ = false;
  stragglers_ += std::exchange(outstanding_, 0);
  {
    const MutexLock lock(mutex_);
    for (const std::uint32_t page : pages_)
      mark(page);
    for (std::uint32_t node = std::exchange(cleared_, kNone), next = kNone; node != kNone;
         node = next) {
      next = std::exchange(tier_.node(node).next, quarantined_);
      quarantined_ = node;
    }
  }
  for (const Waiting& waiting : committing_)
    waiting.op->finish(waiting.index, code);
  committing_.clear();
  pages_.clear();
  services_.changes.announce();
}

}  // namespace speckv

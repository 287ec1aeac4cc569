// The mover's loop: inbox, queue, deadlines, commits. What a job does is in
// mover_jobs.cpp.
#include "store/mover.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "cxlspeckv/guarded.hpp"

#include "store/victim_looks.hpp"

namespace speckv {
namespace {

constexpr RegionId kStaging{0xFFFFFF00};
constexpr std::size_t kInbox = 8192;
constexpr std::size_t kStagingBytes = 32ULL << 20;
constexpr std::size_t kMaxTasks = 32, kMinTasks = 2;
constexpr std::size_t kCommitPages = 64;
constexpr std::size_t kDemotions = 8;  // at a time
// Transfers that a full queue has not taken: of the tasks, a commit, and some probes.
constexpr std::size_t kUnsent = kMaxTasks * kMaxReadGroups + kCommitPages + 8;
constexpr std::uint64_t kProbeTag = Committer::kTag - 1;

}  // namespace

Mover::Mover(BlockTable& table, Services& services, Router& router, std::uint32_t tier)
    : table_(table),
      services_(services),
      router_(router),
      number_(tier),
      tier_(table.tier(tier)) {}

Result<std::unique_ptr<Mover>> Mover::open(BlockTable& table, Services& services,
                                           Router& router, std::uint32_t tier,
                                           Pool* pool) {
  auto mover = std::unique_ptr<Mover>(new Mover(table, services, router, tier));
  if (Status ready = mover->set_up(pool); !ready.ok()) return ready;
  return mover;
}

Status Mover::set_up(Pool* pool) {
  const DeviceInfo& info = tier_.device->info();
  align_ = std::max<std::uint64_t>(info.alignment, kFrameAlign);
  // Memory devices are written in place; queue devices through staging memory.
  std::uint64_t slot = 0, header = 0;
  if (!tier_.memory) {
    for (const BlockLayout& layout : services_.layouts) {
      const LayerCodecs raw(*find_codec(CodecId::raw));
      slot = std::max(slot, align_up(max_frame_bytes(layout, raw), align_) + align_);
      for (const Codec* codec : builtin_codecs()) {
        slot = std::max(
            slot,
            align_up(max_frame_bytes(layout, LayerCodecs(*codec)), align_) + align_);
      }
      header = std::max(header, align_up(frame_header_bytes(layout.layers), align_));
    }
    tasks_.resize(std::clamp(kStagingBytes / (slot + header), kMinTasks, kMaxTasks));
  }
  const std::size_t pages = pool != nullptr ? kCommitPages * kPoolPage : 0;
  const std::size_t staging = align_up(tasks_.size() * (slot + header), kPoolPage);
  memory_ = aligned_buffer(storage_, staging + pages + align_,
                           std::max<std::uint64_t>(align_, kPoolPage));
  probe_ = {kStaging, staging + pages, align_};
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    tasks_[i].staging = memory_.subspan(i * (slot + header), slot);
    tasks_[i].header = memory_.subspan(i * (slot + header) + slot, header);
  }
  to_submit_.reserve(kUnsent);
  if (Status s = tier_.device->attach(kStaging, memory_); !s.ok()) return s;
  attached_ = true;
  auto queue = tier_.device->open_queue(kMaxTasks + kCommitPages + 8);
  if (!queue) return queue.error();
  queue_ = *std::move(queue);
  if (pool != nullptr) {
    committer_ = std::make_unique<Committer>(table_, services_, number_, *pool,
                                             Segment{kStaging, staging, pages},
                                             memory_.subspan(staging, pages));
  }
  return {};
}

void Mover::start() {
  thread_ = std::jthread([this] { run(); });
}

void Mover::stop() noexcept {
  stop_.store(true);
  queue_->wake();
}

void Mover::join() {
  if (thread_.joinable()) thread_.join();
}

Mover::~Mover() {
  if (thread_.joinable()) {
    stop();
    join();
  }
  queue_.reset();  // waits for what it accepted, so the staging memory is ours again
  if (attached_) (void)tier_.device->detach(kStaging);
  for (Task& task : tasks_) {
    if (task.step == Task::Step::lost) lost(task);
  }
}

bool Mover::post(Job& job) {
  {
    const MutexLock lock(inbox_mutex_);
    const std::size_t room = job.op == nullptr ? kInbox / 2 : kInbox;
    if (inbox_.size() >= room || stop_.load()) return false;
    inbox_.push_back(std::move(job));
  }
  queue_->wake();
  return true;
}

void Mover::published(std::uint32_t node, std::uint64_t bytes) noexcept {
  committer_->published(node, bytes);
}

void Mover::quarantine(std::uint32_t node) noexcept {
  committer_->quarantine(node);
}

void Mover::relieve(std::uint32_t from) noexcept {
  const std::uint32_t bit = 1U << from;
  if ((relieve_.fetch_or(bit) & bit) == 0) queue_->wake();
}

void Mover::run() {
  while (!finished()) {
    router_.tick();
    take_inbox();
    probe();
    poll();
    expire();
    release_overdue();
    start_demotions();
    start_jobs();
    start_commit();
    if (!to_submit_.empty()) {
      const std::size_t taken = queue_->submit(to_submit_);
      to_submit_.erase(to_submit_.begin(),
                       to_submit_.begin() + static_cast<std::ptrdiff_t>(taken));
    }
    queue_->wait(nap());
  }
}

// While stopping: hints are dropped, operations are not, and what is written is
// committed.
bool Mover::finished() {
  if (!stop_.load()) return false;
  take_inbox();
  for (auto job = waiting_.begin(); job != waiting_.end();) {
    if (job->op == nullptr) {
      end(*job, Code::cancelled);
      job = waiting_.erase(job);
    } else {
      ++job;
    }
  }
  if (!waiting_.empty() || running_ > lost_tasks()) return false;
  if (committer_ == nullptr || tier_.fenced()) return true;
  commit_wanted_ = true;
  return !committer_->running() && !committer_->has_work();
}

void Mover::take_inbox() {
  {
    const MutexLock lock(inbox_mutex_);
    taken_.swap(inbox_);
  }
  for (Job& job : taken_) {
    if (job.op != nullptr) soonest_ = std::min(soonest_, job.op->deadline);
    (void)set_aside(job);
  }
  taken_.clear();
}

// Puts a job where it waits; without memory for that it ends here.
bool Mover::set_aside(Job& job) {
  static_assert(std::is_nothrow_move_constructible_v<Job>);  // or it would be lost
  const Code kept = guarded([&] {
    waiting_.push_back(std::move(job));
    return Code::ok;
  });
  if (kept != Code::ok) end(job, kept);
  return kept == Code::ok;
}

// To the mover of `tier`; busy, or no_space, if that cannot take it now.
Code Mover::hand_over(Job& job, std::uint32_t tier) {
  return guarded([&] { return router_.post(tier, job) ? Code::ok : Code::busy; });
}

void Mover::start_jobs() {
  // One pass: what must wait keeps its order. A queue without a free task starts nothing.
  for (std::size_t n = waiting_.size(); n > 0; --n) {
    if (!tier_.memory && idle_task() == nullptr) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    if (begin(job) == Started::later) (void)set_aside(job);
  }
}

// Units that shall be free in a tier above, for the next blocks.
std::uint64_t Mover::room_to_keep(const TierState& source, bool pressed) const {
  const std::uint64_t total = source.geometry.units;
  std::uint64_t largest = 0;
  for (const BlockLayout& layout : services_.layouts) {
    largest = std::max<std::uint64_t>(
        largest, source.units_for(frame_header_bytes(layout.layers) + layout.bytes()));
  }
  const std::uint64_t keep = room_at_rest(total, largest);
  if (!pressed) return keep;
  return std::max({keep, largest, std::min(2 * largest, total / 2)});
}

void Mover::start_demotions() {
  if (stop_.load() || services_.clock->now() < demote_again_ || tier_.fenced()) return;
  for (std::uint32_t from = 0; from < number_; ++from) {
    if (table_.demotion_target(from) != number_) continue;
    TierState& source = table_.tier(from);
    const bool pressed = (relieve_.load() >> from & 1U) != 0;
    const std::uint64_t goal = room_to_keep(source, pressed);
    Leaving& leaving = leaving_[from];
    while (leaving.blocks < kDemotions) {
      std::uint32_t used = 0;
      {
        const TierLock lock(source);
        used = source.extents().used_units();
      }
      if (source.geometry.units - used + leaving.units >= goal) {
        relieve_.fetch_and(~(1U << from));
        break;
      }
      Job job;
      job.kind = Job::Kind::move;
      job.target = number_;
      job.demotion = &leaving;
      const BlockTable::Demotion found = table_.demote_one(from, job.source);
      if (found == BlockTable::Demotion::nothing) {
        relieve_.fetch_and(~(1U << from));
        break;
      }
      services_.changes.announce();
      if (found == BlockTable::Demotion::freed) continue;
      job.key = job.source.key;
      job.leaving_units = source.units_for(job.source.frame_bytes);
      leaving.units += job.leaving_units;
      ++leaving.blocks;
      if (!set_aside(job)) return;
    }
  }
}

void Mover::start_commit() {
  if (committer_ == nullptr || tier_.fenced()) return;
  // With nothing else to do there is no group to wait for.
  commit_wanted_ |= hurry_.exchange(false);
  const bool hurry = commit_wanted_ || (running_ == 0 && waiting_.empty());
  if (committer_->due(hurry) && committer_->begin(*this)) commit_wanted_ = false;
}

void Mover::poll() {
  Completion done[64];
  for (std::size_t n; (n = queue_->poll(done)) > 0;) {
    for (std::size_t i = 0; i < n; ++i) {
      const Completion& c = done[i];
      if (c.tag == kProbeTag) {
        probed(c.code);
        continue;
      }
      if (c.tag >= Committer::kTag) {
        if (committer_ == nullptr) continue;
        committer_->completed(c, *this);
        if (c.code != Code::ok) fence(c.code);
        continue;
      }
      const std::uint32_t bit = 1U << c.tag % kMaxReadGroups;
      if (c.tag / kMaxReadGroups >= tasks_.size()) continue;  // nothing of ours
      Task& task = tasks_[c.tag / kMaxReadGroups];
      if ((task.awaited & bit) == 0) continue;
      task.awaited &= ~bit;
      if (task.answer == Code::ok) task.answer = c.code;
      answered(task);
    }
  }
}

// Of a load, layers are handed over as they land; all else waits for the last answer.
void Mover::answered(Task& task) {
  if (task.step == Task::Step::read && task.answer == Code::ok) decode_ready(task);
  if (task.awaited != 0) return;
  if (task.step == Task::Step::lost) {
    lost(task);
  } else if (const Code code = task.answer; code != Code::ok) {
    failed(task, code);
    if (code != Code::no_space) fence(code);  // full is not broken
  } else if (task.step == Task::Step::write) {
    breaker_.succeeded();
    written(task);
  } else {
    breaker_.succeeded();
    landed(task);
  }
}

// Counts a failure, and fences the tier when there were too many.
void Mover::fence(Code code) {
  tier_.counters().io_errors.fetch_add(1, std::memory_order_relaxed);
  if (!breaker_.failed(code == Code::timed_out) || breaker_.is_open()) return;
  breaker_.open(services_.clock->now());
  tier_.set_fenced(true);
  if (committer_ != nullptr) {
    if (committer_->running()) committer_->fail(code);
    committer_->refuse(code);
  }
  services_.say(LogLevel::error, [&] {
    return "tier " + tier_.name + " is fenced after " + std::string(to_string(code)) +
           ": its blocks are misses";
  });
  services_.emit(Event::Kind::fence, {}, number_, 0);
}

void Mover::probe() {
  const Clock::time_point now = services_.clock->now();
  if (breaker_.probe_is_overdue(now)) breaker_.probe_failed(now);
  if (!breaker_.should_probe(now, tier_.device->info().timeout)) return;
  if (to_submit_.size() == kUnsent) {  // earlier probes have not even left
    breaker_.probe_failed(now);
    return;
  }
  send({Transfer::Op::read, tier_.geometry.data_offset, probe_, kProbeTag});
}

// A device that still owes the answers to a commit has not come back: its late writes
// could undo a newer commit's.
void Mover::probed(Code code) {
  if (!breaker_.is_open()) return;
  if (code != Code::ok || (committer_ != nullptr && committer_->has_stragglers())) {
    breaker_.probe_failed(services_.clock->now());
    return;
  }
  breaker_.close(services_.clock->now());
  tier_.set_fenced(false);
  services_.say(LogLevel::info, [&] { return "tier " + tier_.name + " answers again"; });
}

std::size_t Mover::lost_tasks() const {
  return static_cast<std::size_t>(
      std::count_if(tasks_.begin(), tasks_.end(),
                    [](const Task& task) { return task.step == Task::Step::lost; }));
}

void Mover::expire() {
  const Clock::time_point now = services_.clock->now();
  bool any = false;
  for (Task& task : tasks_) {
    if (task.step == Task::Step::idle || task.step == Task::Step::lost) continue;
    if (now <= task.deadline) continue;
    // The device may still use the memory: the slot and the buffer wait for its answer,
    // the caller does not.
    task.job.let_go(Code::timed_out);
    task.from = task.step == Task::Step::write ? 1 : 0;
    task.step = Task::Step::lost;
    any = true;
  }
  if (committer_ != nullptr && committer_->overdue()) {
    committer_->fail(Code::timed_out);
    any = true;
  }
  if (any) fence(Code::timed_out);
}

// Answers operations whose deadline has passed. What has not begun is dropped. What the
// device has goes on for nobody: it moves staging memory only, so the caller's is no
// longer touched by anyone.
void Mover::release_overdue() {
  const Clock::time_point now = services_.clock->now();
  if (now < soonest_) return;
  soonest_ = Clock::time_point::max();
  const auto passed = [&](const Job& job) {
    if (job.op == nullptr) return false;
    if (job.op->deadline > now) soonest_ = std::min(soonest_, job.op->deadline);
    return job.op->deadline <= now;
  };
  for (std::size_t n = waiting_.size(); n > 0; --n) {
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    if (passed(job)) {
      end(job, Code::timed_out);
    } else {
      (void)set_aside(job);
    }
  }
  for (Task& task : tasks_) {
    if (passed(task.job)) task.job.let_go(Code::timed_out);
  }
  if (committer_ != nullptr) {
    soonest_ = std::min(soonest_, committer_->release_overdue(now));
  }
}

std::chrono::nanoseconds Mover::nap() const {
  if (soonest_ == Clock::time_point::max()) return longest_nap();
  const std::chrono::nanoseconds left = soonest_ - services_.clock->now();
  return std::clamp(left, std::chrono::nanoseconds(0), longest_nap());
}

std::chrono::nanoseconds Mover::longest_nap() const {
  using std::chrono::milliseconds;
  if (!to_submit_.empty()) return milliseconds(1);
  if (running_ > 0 || (committer_ != nullptr && committer_->running()))
    return milliseconds(10);
  if (!waiting_.empty() || stop_.load()) return milliseconds(1);
  if (committer_ != nullptr && committer_->has_work()) return milliseconds(1);
  return milliseconds(50);
}

Mover::Task* Mover::idle_task() {
  for (Task& task : tasks_) {
    if (task.step == Task::Step::idle) return &task;
  }
  return nullptr;
}

void Mover::send(const Transfer& transfer) {
  if (transfer.op == Transfer::Op::read) {
    tier_.counters().bytes_read.fetch_add(transfer.memory.length,
                                          std::memory_order_relaxed);
  } else {
    tier_.counters().bytes_written.fetch_add(transfer.memory.length,
                                             std::memory_order_relaxed);
  }
  to_submit_.push_back(transfer);
}

// REQUIRES: task is idle.
void Mover::start_task(Task& task, Job& job, Task::Step step) {
  task.step = step;
  task.job = std::move(job);
  task.answer = task.decoded = Code::ok;
  task.from = 0;
  ++running_;
}

void Mover::submit(Task& task, Transfer::Op op, std::uint64_t offset, MutableBytes memory,
                   std::uint32_t group) {
  const auto index = static_cast<std::uint64_t>(&task - tasks_.data());
  const std::uint64_t tag = index * kMaxReadGroups + group;
  task.awaited |= 1U << group;
  const auto at = static_cast<std::uint64_t>(memory.data() - memory_.data());
  task.deadline = services_.clock->now() + tier_.device->info().timeout;
  send({op, offset, {kStaging, at, memory.size()}, tag});
}

}  // namespace speckv

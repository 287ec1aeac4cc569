// store/mover.hpp -- the thread of one tier: it owns the tier's queue and staging memory,
// moves blocks in and out, demotes in the background, and commits what must survive.
//
// post(), wake() and quarantine() from any thread; everything else on the mover's own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.hpp"
#include "store/breaker.hpp"
#include "store/committer.hpp"
#include "store/job.hpp"
#include "store/services.hpp"
#include "store/transfer.hpp"

namespace speckv {

inline constexpr std::uint32_t kMaxReadGroups = 8;  // of one block

class Mover final : private Committer::Sender {
 public:
  // Hands a job to the mover that can go on with it; false: its inbox is full, and the
  // job is untouched.
  struct Router {
    virtual bool post(std::uint32_t tier, Job& job) = 0;
    // Somebody waits for what that tier's next commit frees.
    virtual void hurry(std::uint32_t tier) = 0;
    // Called now and then, for what nobody else has a thread for.
    virtual void tick() = 0;

   protected:
    ~Router() = default;
  };

  static Result<std::unique_ptr<Mover>> open(BlockTable& table, Services& services,
                                             Router& router, std::uint32_t tier,
                                             Pool* pool);
  ~Mover();

  void start();
  // Takes no more; then join() finishes what has an operation, drops hints, and commits.
  void stop() noexcept;
  void join();
  // False: the inbox is full, and the job is untouched. Hints get half of it. Without
  // memory for the inbox std::bad_alloc, the job untouched.
  bool post(Job& job) SPECKV_EXCLUDES(inbox_mutex_);
  void wake() noexcept { queue_->wake(); }
  void published(std::uint32_t node, std::uint64_t bytes) noexcept;
  void quarantine(std::uint32_t node) noexcept;
  void hurry() noexcept {
    hurry_.store(true);
    queue_->wake();
  }
  // Blocks of tier `from` should move here until it has room.
  void relieve(std::uint32_t from) noexcept;

 private:
  // A load's layers are read in groups, so that some are ready before all have landed.
  static constexpr std::uint64_t kGroupBytes = 256 << 10;  // at least
  // A job with staging memory and transfers under way.
  struct Task {
    enum class Step : std::uint8_t { idle, header, read, write, lost };
    Step step = Step::idle;
    std::uint32_t awaited = 0;  // bit g: the transfer of group g has not been answered
    Code answer = Code::ok;     // the first of the device that was not ok
    Code decoded = Code::ok;    // of what has landed so far
    std::array<std::uint64_t, kMaxReadGroups> group_end{};  // in `staging`, for read
    Job job{};
    Copy target{};            // being filled, by write
    std::uint64_t from = 0;   // offset in the frame that `staging` begins at, for read
    std::uint64_t frame = 0;  // bytes of the frame, for write
    MutableBytes staging{}, header{};
    Clock::time_point deadline{};
  };
  enum class Started : std::uint8_t { done, later, running };

  Mover(BlockTable& table, Services& services, Router& router, std::uint32_t tier);
  Status set_up(Pool* pool);
  void send(const Transfer& transfer) override;  // Committer::Sender

  void run();
  bool finished();
  void take_inbox();
  bool set_aside(Job& job);
  Code hand_over(Job& job, std::uint32_t tier);
  void start_jobs();
  std::uint64_t room_to_keep(const TierState& source, bool pressed) const;
  void start_demotions();
  void start_commit();
  void probe();
  void poll();
  void probed(Code code);
  void expire();
  void release_overdue();
  std::size_t lost_tasks() const;
  std::chrono::nanoseconds nap() const;
  std::chrono::nanoseconds longest_nap() const;

  Started begin(Job& job);
  Started begin_save(Job& job);
  Started begin_load(Job& job);
  Started begin_move(Job& job);
  Started read(Job& job, const Copy& copy, bool header_only);
  void read_groups(Task& task, std::uint64_t lead, std::uint64_t bytes,
                   std::uint32_t layers);
  Started stored_meanwhile(Job& job);
  Started gone(Job& job);
  Started await_commit(Job& job, std::uint32_t node);
  void committed_later(Job& job);
  Started fill(Job& job, Bytes frame);
  Started write(Job& job, const Copy& target, std::uint64_t frame, Task& task);
  void forward(Job& job, std::uint32_t tier);
  void answered(Task& task);
  void decode_ready(Task& task);
  void landed(Task& task);
  void loaded(Task& task);
  void written(Task& task);
  void lost(Task& task);
  void failed(Task& task, Code code);
  bool waits_for_commit(const Job& job) const;
  void hurry_commit(std::uint32_t tier);
  void pass_down(Job& job, Code why);
  void end(Job& job, Code code);
  Code load_mapped(Job& job, const Copy& copy);
  void note_corrupted(Job& job, const Copy& copy);
  std::uint32_t wanted_layers(const Job& job, std::uint32_t& first) const;
  Task* idle_task();
  void start_task(Task& task, Job& job, Task::Step step);
  void submit(Task& task, Transfer::Op op, std::uint64_t offset, MutableBytes memory,
              std::uint32_t group = 0);
  void fence(Code code);

  BlockTable& table_;
  Services& services_;
  Router& router_;
  const std::uint32_t number_;
  TierState& tier_;
  std::uint64_t align_ = 64;
  std::vector<std::byte> storage_;
  // Staging, the committer's pages, the probe's bytes: registered with the device.
  MutableBytes memory_{};
  Segment probe_{};
  std::vector<Task> tasks_;
  std::size_t running_ = 0;
  CodingScratch scratch_;
  bool attached_ = false;  // memory_, to the device
  std::unique_ptr<Queue> queue_;
  std::vector<Transfer> to_submit_;  // reserved for all that can wait at once
  std::unique_ptr<Committer> committer_;
  bool commit_wanted_ = false;
  std::atomic<bool> hurry_{false};  // the same, asked for by others
  Breaker breaker_;
  std::deque<Job> waiting_;
  // No operation with a job here has an earlier deadline.
  Clock::time_point soonest_ = Clock::time_point::max();
  std::array<Leaving, kMaxTiers> leaving_{};  // by where from
  Clock::time_point demote_again_{};
  std::atomic<std::uint32_t> relieve_{0};  // bit t: tier t is under pressure

  Mutex inbox_mutex_;
  std::vector<Job> inbox_ SPECKV_GUARDED_BY(inbox_mutex_);
  std::vector<Job> taken_;
  std::atomic<bool> stop_{false};
  std::jthread thread_;
};

}  // namespace speckv

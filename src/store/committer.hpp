// store/committer.hpp -- group commits of a persistent tier: records, then one flush.
//
// What was written since the last commit is reported saved only after the flush; what was
// given up becomes free only after it. One thread, the mover's; published() and
// quarantine() from any. Neither needs memory: what is due are bits, what is given up is
// linked through its nodes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.hpp"
#include "store/operation_state.hpp"
#include "store/pool.hpp"
#include "store/services.hpp"

namespace speckv {

class Committer {
 public:
  // Sends `transfer` on the mover's queue; its tag is one of the committer's.
  struct Sender {
    virtual void send(const Transfer& transfer) = 0;

   protected:
    ~Sender() = default;
  };
  static constexpr std::uint64_t kTag = 1ULL << 32;  // tags from here on are ours

  // `buffer`: attached as `region` at `offset`; a multiple of kPoolPage.
  Committer(BlockTable& table, Services& services, std::uint32_t tier, Pool& pool,
            Segment region, MutableBytes buffer);

  // A slot was filled: its record is due. Any thread.
  void published(std::uint32_t node, std::uint64_t bytes) noexcept
      SPECKV_EXCLUDES(mutex_);
  // A slot was given up: it is free once its record is cleared. Any thread.
  void quarantine(std::uint32_t node) noexcept SPECKV_EXCLUDES(mutex_);
  // `op` is finished by the commit that covers all that was published before; now, with
  // no_space, if there is no memory to remember it.
  void add(std::shared_ptr<OperationState> op, std::size_t index) noexcept;
  // Answers operations whose deadline has passed; when the next one does.
  Clock::time_point release_overdue(Clock::time_point now);
  // The tier is fenced: nobody is to wait for it.
  void refuse(Code code);

  bool running() const noexcept { return running_; }
  // Transfers of commits that were given up, whose pages the device may still read.
  bool has_stragglers() const noexcept { return stragglers_ > 0; }
  bool has_work() SPECKV_EXCLUDES(mutex_);
  // Whether a commit should begin: enough has gathered, or `hurry` (nothing else to do,
  // or somebody waits for quarantined room).
  bool due(bool hurry) SPECKV_EXCLUDES(mutex_);
  // False if another process is committing.
  bool begin(Sender& sender);
  void completed(const Completion& done, Sender& sender);
  bool overdue() const;
  // Ends a commit that cannot be finished: its operations get `code`, its records stay
  // due.
  void fail(Code code);

 private:
  struct Waiting {
    std::shared_ptr<OperationState> op;
    std::size_t index = 0;
  };
  void mark(std::uint32_t page) noexcept SPECKV_REQUIRES(mutex_);
  void send_pages(Sender& sender);
  void finish();
  std::uint64_t next_tag() noexcept;

  BlockTable& table_;
  Services& services_;
  TierState& tier_;
  Pool& pool_;
  Segment region_;
  MutableBytes buffer_;

  std::vector<Waiting> waiting_;  // of the next commit

  std::uint64_t next_tag_ = 0;
  bool running_ = false, flushing_ = false;
  std::uint32_t outstanding_ = 0, stragglers_ = 0;
  Code result_ = Code::ok;
  std::vector<std::uint32_t> pages_;  // of the running one
  std::uint32_t cleared_ = kNone;     // given up before it; linked by Node::next
  std::size_t sent_ = 0;
  std::uint64_t serial_ =
      0;  // tells stragglers of a failed commit from the present one's
  std::vector<Waiting> committing_;
  Clock::time_point deadline_{};

  Mutex mutex_;
  std::vector<std::uint32_t> dirty_ SPECKV_GUARDED_BY(mutex_);    // pages of the next one
  std::vector<std::uint8_t> is_dirty_ SPECKV_GUARDED_BY(mutex_);  // by page
  std::uint32_t quarantined_ SPECKV_GUARDED_BY(mutex_) = kNone;   // linked by Node::next
  bool any_published_ SPECKV_GUARDED_BY(mutex_) = false;
  std::uint64_t gathered_ SPECKV_GUARDED_BY(mutex_) = 0;  // bytes published
  Clock::time_point oldest_ SPECKV_GUARDED_BY(mutex_){};
};

}  // namespace speckv

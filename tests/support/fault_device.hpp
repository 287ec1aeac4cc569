// support/fault_device.hpp -- wraps any Device, and lets a test decide what goes wrong.
//
// A queue device that does every transfer on the inner one at submit(), in order, under
// one lock; only when (and whether) the answer comes is up to the test. With a write
// cache, the inner device gets to see a write when it is flushed; after power_cut() it
// holds exactly what a disk would, and can be opened again.
#pragma once

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <optional>

#include "cxlspeckv/device.hpp"

#include "device/os.hpp"
#include "device/queue.hpp"
#include "support/write_cache.hpp"

namespace speckv::test {

struct Fault {
  enum class Kind : std::uint8_t {
    fail,   // does nothing, and answers `code`
    delay,  // answers `delay` later
    lose,   // does nothing, and answers only to answer_lost()
    tear,   // moves the first `bytes` only (whole sectors), and answers `code`
  };
  Kind kind = Kind::fail;
  Code code = Code::io_error;
  std::chrono::nanoseconds delay{0};
  std::uint64_t bytes = 0;
};

struct FaultOptions {
  bool write_cache = false;    // implies DeviceInfo::persistent
  std::uint32_t sector = 512;  // of tearing; at least the inner device's alignment
  std::chrono::nanoseconds timeout{0};  // 0: the inner device's
};

// Any thread; the controls, too.
class FaultDevice final : public Device {
 public:
  explicit FaultDevice(std::shared_ptr<Device> inner, FaultOptions options = {});
  ~FaultDevice() override;

  // ---- Controls -------------------------------------------------------------------
  // The nth transfer from now (0: the next one), counting those of `only` if given.
  void inject(std::uint64_t nth, Fault fault, std::optional<Transfer::Op> only = {});
  // Every transfer answers `code`, until heal(). heal() also drops what was injected.
  void fail_all(Code code = Code::io_error);
  void heal();
  // From now on, completions that are ready together come out in any order.
  void reorder(std::uint64_t seed);
  void answer_lost(Code code = Code::io_error);
  // Drops, keeps or tears what was not flushed. From then on everything fails.
  void power_cut(std::uint64_t seed);

  std::uint64_t transfers() const;  // submitted so far
  std::size_t unflushed() const;    // writes in the cache
  std::size_t lost() const;         // not answered yet

  // ---- Device ---------------------------------------------------------------------
  const DeviceInfo& info() const noexcept override { return info_; }
  Status attach(RegionId region, MutableBytes memory) override;
  Status detach(RegionId region) override;
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override;

 private:
  friend class FaultQueue;
  using Clock = std::chrono::steady_clock;
  struct Armed {
    std::uint64_t left;
    Fault fault;
    std::optional<Transfer::Op> only;
  };
  struct Answer {
    const Queue* queue;
    Completion completion;
    Clock::time_point due;
    bool lost;
    std::uint64_t cached;  // id in the write cache, or 0
  };

  // All of these REQUIRE the lock.
  std::optional<Fault> next_fault(Transfer::Op op);
  Answer perform(const Queue* queue, const Transfer& transfer);
  Code execute(const Transfer& transfer, std::uint64_t limit, std::uint64_t& cached);
  Code execute_cached(const Transfer& transfer, MutableBytes memory,
                      std::uint64_t& cached);
  Code write_all(const std::vector<CachedWrite>& writes);
  Code forward(const Transfer& transfer);
  bool ready(const Answer& answer, const Queue* queue) const;

  static constexpr RegionId kStaging{0xFFFFFFFF};
  static constexpr std::size_t kStagingBytes = 1U << 20;
  struct FreeAligned {
    void operator()(std::byte* bytes) const noexcept {
      ::operator delete (bytes, std::align_val_t{4096});
    }
  };

  const std::shared_ptr<Device> inner_;
  const FaultOptions options_;
  DeviceInfo info_;
  RegionTable regions_;
  std::unique_ptr<std::byte, FreeAligned> staging_;
  std::unique_ptr<Queue> queue_;  // of the inner device

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Answer> answers_;  // of all queues, not polled yet
  std::vector<Armed> armed_;
  std::optional<Code> failing_;
  std::optional<std::mt19937_64> order_;
  WriteCache cache_;
  std::uint64_t transfers_ = 0;
};

}  // namespace speckv::test

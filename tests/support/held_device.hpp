// support/held_device.hpp -- a disk that takes transfers and does them when the test says
// so, and a clock that moves when the test says so.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cxlspeckv/metrics.hpp"

#include "support/heap_device.hpp"

namespace speckv::test {

class ManualClock final : public Clock {
 public:
  time_point now() noexcept override { return time_point(at_.load()); }
  void advance(std::chrono::nanoseconds by) { at_.store(at_.load() + by); }

 private:
  std::atomic<std::chrono::nanoseconds> at_{std::chrono::hours(1)};
};

// What is held moves its bytes only when it is let go, like a device that is late. Any
// thread; the controls, too.
class HeldDevice final : public Device {
 public:
  explicit HeldDevice(std::uint64_t bytes,
                      HeapDevice::Kind kind = HeapDevice::Kind::volatile_disk)
      : inner_(bytes, kind) {}

  // From now on only the first `pass` transfers (of `only`) are done, until let_go().
  void hold(std::optional<Transfer::Op> only = {}, std::size_t pass = 0) {
    const std::lock_guard lock(mutex_);
    holding_ = true;
    only_ = only;
    pass_ = pass;
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    holding_ = false;
  }
  // Whether it holds that many, within ten seconds.
  bool holds(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10),
                             [&] { return held_ == count; });
  }

  MutableBytes raw() noexcept { return inner_.raw(); }  // what a bit flip would hit
  const DeviceInfo& info() const noexcept override { return inner_.info(); }
  Status attach(RegionId region, MutableBytes memory) override {
    return inner_.attach(region, memory);
  }
  Status detach(RegionId region) override { return inner_.detach(region); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override {
    return std::unique_ptr<Queue>(new HeldQueue(*this, *inner_.open_queue(depth)));
  }

 private:
  class HeldQueue final : public Queue {
   public:
    HeldQueue(HeldDevice& device, std::unique_ptr<Queue> inner)
        : device_(device), inner_(std::move(inner)) {}
    std::size_t submit(std::span<const Transfer> batch) noexcept override {
      for (const Transfer& t : batch) {
        if (device_.keeps(t)) {
          held_.push_back(t);
        } else {
          inner_->submit({&t, 1});
        }
      }
      return batch.size();
    }
    std::size_t poll(std::span<Completion> out) noexcept override {
      if (!held_.empty() && device_.gives(held_.size())) {
        inner_->submit(held_);
        held_.clear();
      }
      return inner_->poll(out);
    }
    void wait(std::chrono::nanoseconds at_most) noexcept override {
      inner_->wait(at_most);
    }
    void wake() noexcept override { inner_->wake(); }

   private:
    HeldDevice& device_;
    std::unique_ptr<Queue> inner_;
    std::vector<Transfer> held_;
  };

  bool keeps(const Transfer& transfer) {
    const std::lock_guard lock(mutex_);
    if (!holding_ || (only_ && *only_ != transfer.op)) return false;
    if (pass_ > 0) {
      --pass_;
      return false;
    }
    ++held_;
    changed_.notify_all();
    return true;
  }
  bool gives(std::size_t count) {
    const std::lock_guard lock(mutex_);
    if (holding_) return false;
    held_ -= count;
    changed_.notify_all();
    return true;
  }

  HeapDevice inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool holding_ = false;
  std::optional<Transfer::Op> only_;
  std::size_t pass_ = 0, held_ = 0;
};

}  // namespace speckv::test

// support/gated_device.hpp -- a disk on the heap whose answers wait behind a gate: while
// it is closed transfers are taken and nothing completes.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

#include "support/heap_device.hpp"

namespace speckv::test {

// Any thread; the gate, too.
class GatedDevice final : public Device {
 public:
  explicit GatedDevice(std::uint64_t bytes)
      : inner_(bytes, HeapDevice::Kind::volatile_disk) {}

  void close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open() {
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }

  const DeviceInfo& info() const noexcept override { return inner_.info(); }
  Status attach(RegionId region, MutableBytes memory) override {
    return inner_.attach(region, memory);
  }
  Status detach(RegionId region) override { return inner_.detach(region); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override {
    auto queue = inner_.open_queue(depth);
    return std::unique_ptr<Queue>(new Gated(*this, *std::move(queue)));
  }

 private:
  class Gated final : public Queue {
   public:
    Gated(GatedDevice& device, std::unique_ptr<Queue> inner)
        : device_(device), inner_(std::move(inner)) {}
    std::size_t submit(std::span<const Transfer> batch) noexcept override {
      return inner_->submit(batch);
    }
    std::size_t poll(std::span<Completion> out) noexcept override {
      const std::lock_guard lock(device_.mutex_);
      return device_.open_ ? inner_->poll(out) : 0;
    }
    void wait(std::chrono::nanoseconds at_most) noexcept override {
      std::unique_lock lock(device_.mutex_);
      if (!device_.open_) {
        device_.changed_.wait_for(lock, at_most,
                                  [this] { return woken_ || device_.open_; });
        woken_ = false;
        return;
      }
      lock.unlock();
      inner_->wait(at_most);
    }
    void wake() noexcept override {
      {
        const std::lock_guard lock(device_.mutex_);
        woken_ = true;
      }
      device_.changed_.notify_all();
      inner_->wake();
    }

   private:
    GatedDevice& device_;
    std::unique_ptr<Queue> inner_;
    bool woken_ = false;
  };

  HeapDevice inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
};

}  // namespace speckv::test

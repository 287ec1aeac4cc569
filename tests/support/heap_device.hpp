// support/heap_device.hpp -- a device on the heap: memory, or a disk that answers at
// once. What it holds outlives the stores opened on it, so a test can open it again.
#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "cxlspeckv/device.hpp"

namespace speckv::test {

class HeapDevice final : public Device {
 public:
  enum class Kind { memory, persistent_memory, disk, volatile_disk };

  HeapDevice(std::uint64_t bytes, Kind kind) : HeapDevice({}, kind, bytes + 4096) {
    const auto at = reinterpret_cast<std::uintptr_t>(storage_.data());
    bytes_ = MutableBytes(storage_).subspan((at + 4095) / 4096 * 4096 - at, bytes);
    info_.capacity = bytes;
  }
  // In the caller's memory, which starts a page.
  HeapDevice(MutableBytes bytes, Kind kind) : HeapDevice(bytes, kind, 0) {}
  const DeviceInfo& info() const noexcept override { return info_; }
  DeviceInfo& mutable_info() noexcept { return info_; }  // before it is shared
  MutableBytes memory() noexcept override {
    return info_.memory ? bytes_ : MutableBytes{};
  }
  MutableBytes raw() noexcept { return bytes_; }  // what a bit flip would hit

  Status attach(RegionId region, MutableBytes memory) override {
    const std::lock_guard lock(mutex_);
    const bool taken = !regions_.emplace(region, memory).second;
    return taken ? Status(Code::invalid_argument, "region id taken") : Status();
  }
  Status detach(RegionId region) override {
    const std::lock_guard lock(mutex_);
    return regions_.erase(region) == 1 ? Status() : Status(Code::not_found, "no region");
  }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t) override {
    return std::unique_ptr<Queue>(new HeapQueue(*this));
  }

 private:
  HeapDevice(MutableBytes bytes, Kind kind, std::size_t own)
      : storage_(own), bytes_(bytes) {
    info_.name = "heap:";
    info_.capacity = bytes.size();
    info_.memory = kind == Kind::memory || kind == Kind::persistent_memory;
    info_.persistent = kind == Kind::persistent_memory || kind == Kind::disk;
    info_.alignment = info_.memory ? 64 : 512;
    info_.timeout = std::chrono::seconds(10);
  }

  class HeapQueue final : public Queue {
   public:
    explicit HeapQueue(HeapDevice& device) : device_(device) {}
    std::size_t submit(std::span<const Transfer> batch) noexcept override {
      for (const Transfer& t : batch)
        done_.push_back({t.tag, device_.run(t)});
      return batch.size();
    }
    std::size_t poll(std::span<Completion> out) noexcept override {
      std::size_t n = 0;
      while (n < out.size() && !done_.empty()) {
        out[n++] = done_.front();
        done_.pop_front();
      }
      return n;
    }
    void wait(std::chrono::nanoseconds at_most) noexcept override {
      if (!done_.empty()) return;
      std::unique_lock lock(mutex_);
      awake_.wait_for(lock, at_most, [this] { return woken_; });
      woken_ = false;
    }
    void wake() noexcept override {
      {
        const std::lock_guard lock(mutex_);
        woken_ = true;
      }
      awake_.notify_one();
    }

   private:
    HeapDevice& device_;
    std::deque<Completion> done_;
    std::mutex mutex_;
    std::condition_variable awake_;
    bool woken_ = false;
  };

  Code run(const Transfer& t) {
    if (t.op == Transfer::Op::flush) return Code::ok;
    const std::lock_guard lock(mutex_);
    const auto region = regions_.find(t.memory.region);
    if (region == regions_.end() || t.memory.offset > region->second.size() ||
        t.memory.length > region->second.size() - t.memory.offset ||
        t.offset > bytes_.size() || t.memory.length > bytes_.size() - t.offset ||
        t.offset % info_.alignment != 0 || t.memory.length % info_.alignment != 0) {
      return Code::invalid_argument;
    }
    std::byte* const memory = region->second.data() + t.memory.offset;
    std::byte* const device = bytes_.data() + t.offset;
    const bool writes = t.op == Transfer::Op::write;
    std::memcpy(writes ? device : memory, writes ? memory : device, t.memory.length);
    return Code::ok;
  }

  DeviceInfo info_;
  std::vector<std::byte> storage_;
  MutableBytes bytes_;
  std::mutex mutex_;
  std::map<RegionId, MutableBytes> regions_;
};

}  // namespace speckv::test

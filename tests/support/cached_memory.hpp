// support/cached_memory.hpp -- persistent memory behind a processor's cache: a line is on
// the medium once a flush said so, or when the cache liked; a power cut loses the rest.
#pragma once

#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "support/heap_device.hpp"

namespace speckv::test {

// Any thread. What is on the medium is in another device, which outlives this one.
class CachedMemory final : public Device {
 public:
  // REQUIRES: medium is persistent memory, of whole lines.
  explicit CachedMemory(std::shared_ptr<HeapDevice> medium)
      : medium_(std::move(medium)),
        inner_(medium_->info().capacity, HeapDevice::Kind::persistent_memory) {
    copy(medium_->raw(), inner_.raw());
  }

  const DeviceInfo& info() const noexcept override { return inner_.info(); }
  MutableBytes memory() noexcept override { return inner_.memory(); }
  Status attach(RegionId region, MutableBytes memory) override {
    return inner_.attach(region, memory);
  }
  Status detach(RegionId region) override { return inner_.detach(region); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override {
    return std::unique_ptr<Queue>(new FlushingQueue(*this, *inner_.open_queue(depth)));
  }

  // From now on nothing reaches the medium; of the lines that had not, some do.
  void power_cut(std::uint64_t seed) {
    const std::lock_guard lock(mutex_);
    const MutableBytes cached = inner_.raw(), medium = medium_->raw();
    std::mt19937_64 random(seed);
    for (std::size_t at = 0; !ended_ && at < cached.size(); at += kLine)
      if (random() % 2 == 0) copy(cached.subspan(at, kLine), medium.subspan(at, kLine));
    ended_ = true;
  }
  // The process dies here: what it does from now on is undone by the next one.
  void fail_all() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    at_death_.resize(inner_.raw().size());
    copy(inner_.raw(), at_death_);
  }
  // REQUIRES: fail_all() was called, and no store has it open.
  void heal() {
    const std::lock_guard lock(mutex_);
    ended_ = false;
    copy(at_death_, inner_.raw());
  }

 private:
  static constexpr std::size_t kLine = 64;

  class FlushingQueue final : public Queue {
   public:
    FlushingQueue(CachedMemory& device, std::unique_ptr<Queue> inner)
        : device_(device), inner_(std::move(inner)) {}
    std::size_t submit(std::span<const Transfer> batch) noexcept override {
      for (const Transfer& t : batch)
        if (t.op == Transfer::Op::flush) device_.flush();
      return inner_->submit(batch);
    }
    std::size_t poll(std::span<Completion> out) noexcept override {
      return inner_->poll(out);
    }
    void wait(std::chrono::nanoseconds at_most) noexcept override {
      inner_->wait(at_most);
    }
    void wake() noexcept override { inner_->wake(); }

   private:
    CachedMemory& device_;
    std::unique_ptr<Queue> inner_;
  };

  void flush() {
    const std::lock_guard lock(mutex_);
    if (!ended_) copy(inner_.raw(), medium_->raw());
  }

  // By words, as memory does it, while others may write: what they do not wait for a
  // flush of may arrive or not. REQUIRES: whole words, aligned.
  __attribute__((no_sanitize("thread"))) static void copy(Bytes from,
                                                          MutableBytes to) noexcept {
    using Word [[gnu::may_alias]] = std::uint64_t;
    const auto* source = reinterpret_cast<const volatile Word*>(from.data());
    auto* target = reinterpret_cast<Word*>(to.data());
    for (std::size_t i = 0; i < from.size() / sizeof(Word); ++i)
      target[i] = source[i];
  }

  const std::shared_ptr<HeapDevice> medium_;
  HeapDevice inner_;
  std::mutex mutex_;
  bool ended_ = false;
  std::vector<std::byte> at_death_;
};

}  // namespace speckv::test

#include "device/memory.hpp"

#include <cerrno>
#include <cstring>

#include <sys/mman.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "device/os.hpp"

namespace speckv {
namespace {

#if defined(__x86_64__)
constexpr unsigned kClwbBit = 1U << 24;  // CPUID leaf 7, EBX

bool has_clwb() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kClwbBit) != 0;
}

__attribute__((target("clwb"))) void write_back(MutableBytes bytes) noexcept {
  constexpr std::size_t kLine = 64;
  for (std::size_t at = 0; at < bytes.size(); at += kLine)
    _mm_clwb(bytes.data() + at);
  _mm_sfence();
}
#else
bool has_clwb() noexcept {
  return false;
}
void write_back(MutableBytes) noexcept {}
#endif

// Executes at submit(), on the caller's thread: there is nobody to hand the work to.
class MemoryQueue final : public Queue {
 public:
  MemoryQueue(MemoryDevice& device, std::uint32_t depth, Waker waker)
      : device_(device), depth_(depth), ring_(depth), waker_(std::move(waker)) {}

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    const RegionTable::Reader regions(device_.regions());
    std::size_t taken = 0;
    for (; taken < batch.size() && held_ < depth_; ++taken, ++held_) {
      ring_.push({batch[taken].tag, execute(batch[taken], regions)});
    }
    return taken;
  }

  std::size_t poll(std::span<Completion> out) noexcept override {
    const std::size_t count = ring_.pop(out);
    held_ -= static_cast<std::uint32_t>(count);
    return count;
  }

  void wait(std::chrono::nanoseconds at_most) noexcept override {
    if (ring_.empty()) {
      waker_.wait(at_most);
    } else {
      waker_.consume();
    }
  }

  void wake() noexcept override { waker_.wake(); }

 private:
  Code execute(const Transfer& transfer, const RegionTable::Reader& regions) noexcept {
    Lent lent;
    const Code code = check(device_.info(), regions, transfer, lent);
    if (code != Code::ok) return code;
    if (transfer.op == Transfer::Op::flush) return device_.flush();
    std::byte* here = device_.memory().data() + transfer.offset;
    const bool reading = transfer.op == Transfer::Op::read;
    // memmove: a region may be part of the device itself.
    std::memmove(reading ? lent.memory.data() : here, reading ? here : lent.memory.data(),
                 lent.memory.size());
    return Code::ok;
  }

  MemoryDevice& device_;
  const std::uint32_t depth_;
  std::uint32_t held_ = 0;  // accepted and not yet polled
  CompletionRing ring_;
  Waker waker_;
};

}  // namespace

bool can_write_back_cache_lines() noexcept {
  static const bool can = has_clwb();
  return can;
}

MappedBytes::~MappedBytes() {
  if (base_ != nullptr) ::munmap(base_, mapped_);
}

MemoryDevice::MemoryDevice(DeviceInfo info, MappedBytes mapping, Durability durability,
                           std::shared_ptr<void> behind)
    : info_(std::move(info)),
      behind_(std::move(behind)),
      mapping_(std::move(mapping)),
      durability_(durability) {}

Result<std::unique_ptr<Queue>> MemoryDevice::open_queue(std::uint32_t depth) {
  if (Status status = check_depth(depth); !status.ok()) return status;
  Result<Waker> waker = Waker::create();
  if (!waker.ok()) return waker.error();
  return std::unique_ptr<Queue>(
      std::make_unique<MemoryQueue>(*this, depth, std::move(*waker)));
}

Code MemoryDevice::flush() const noexcept {
  const MutableBytes all = mapping_.bytes();
  switch (durability_) {
    case Durability::none:
      return Code::ok;
    case Durability::msync:
      return ::msync(all.data(), all.size(), MS_SYNC) == 0 ? Code::ok : Code::io_error;
    case Durability::cache_lines:
      write_back(all);
      return Code::ok;
  }
  return Code::internal;
}

}  // namespace speckv

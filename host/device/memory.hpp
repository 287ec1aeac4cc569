// device/memory.hpp -- a device that is mapped, whatever is behind the mapping.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include "cxlspeckv/device.hpp"

#include "device/queue.hpp"
#include "device/uri.hpp"

namespace speckv {

// Owns a mapping. One thread.
class MappedBytes {
 public:
  MappedBytes() noexcept = default;
  MappedBytes(void* base, std::size_t mapped, std::size_t used) noexcept
      : base_(static_cast<std::byte*>(base)), mapped_(mapped), used_(used) {}
  MappedBytes(MappedBytes&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)),
        mapped_(other.mapped_),
        used_(other.used_) {}
  MappedBytes& operator=(MappedBytes&&) = delete;
  ~MappedBytes();

  MutableBytes bytes() const noexcept { return {base_, used_}; }

 private:
  std::byte* base_ = nullptr;
  std::size_t mapped_ = 0, used_ = 0;
};

// How bytes that were stored into a mapping become durable.
enum class Durability : std::uint8_t {
  none,         // not at all
  msync,        // the kernel writes dirty pages back
  cache_lines,  // there is no page cache: only the processor's caches are in the way
};

// Whether this processor can write its caches back (Durability::cache_lines).
bool can_write_back_cache_lines() noexcept;

// uri.size bytes of anonymous memory, zero, starting on a huge page, so that the kernel
// can use one from the first byte on.
Result<MappedBytes> map_anonymous(const DeviceUri& uri);

class MemoryDevice final : public Device {
 public:
  // `behind`: what must stay as long as the mapping, if anything.
  MemoryDevice(DeviceInfo info, MappedBytes mapping, Durability durability,
               std::shared_ptr<void> behind = nullptr);

  const DeviceInfo& info() const noexcept override { return info_; }
  MutableBytes memory() noexcept override { return mapping_.bytes(); }
  Status attach(RegionId region, MutableBytes memory) override {
    return regions_.attach(region, memory);
  }
  Status detach(RegionId region) override { return regions_.detach(region); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override;

  const RegionTable& regions() const noexcept { return regions_; }
  Code flush() const noexcept;

 private:
  const DeviceInfo info_;
  const std::shared_ptr<void> behind_;
  const MappedBytes mapping_;
  const Durability durability_;
  RegionTable regions_;
};

}  // namespace speckv

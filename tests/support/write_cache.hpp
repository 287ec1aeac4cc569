// support/write_cache.hpp -- the volatile cache of a disk, and what a power cut makes of
// it.
//
// Writes are kept in order. A flush makes durable what was acknowledged before it;
// anything else may be lost, kept or torn. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace speckv::test {

struct CachedWrite {
  std::uint64_t id = 0;
  std::uint64_t offset = 0;
  std::vector<std::byte> bytes{};
  bool acknowledged = false;
};

class WriteCache {
 public:
  // Returns the id to acknowledge the write with.
  std::uint64_t add(std::uint64_t offset, std::span<const std::byte> bytes) {
    writes_.push_back({++last_id_, offset, {bytes.begin(), bytes.end()}, false});
    return last_id_;
  }

  void acknowledge(std::uint64_t id) {
    for (CachedWrite& write : writes_)
      write.acknowledged |= write.id == id;
  }

  // Puts what the cache knows of [offset, offset + bytes.size()) over `bytes`.
  void overlay(std::uint64_t offset, std::span<std::byte> bytes) const {
    for (const CachedWrite& write : writes_) {
      const std::uint64_t first = std::max(offset, write.offset);
      const std::uint64_t last =
          std::min(offset + bytes.size(), write.offset + write.bytes.size());
      if (first >= last) continue;
      std::memcpy(bytes.data() + (first - offset),
                  write.bytes.data() + (first - write.offset), last - first);
    }
  }

  // Takes out what a flush makes durable, in order.
  std::vector<CachedWrite> flush() {
    const auto kept = std::stable_partition(
        writes_.begin(), writes_.end(),
        [](const CachedWrite& write) { return write.acknowledged; });
    std::vector<CachedWrite> out(std::make_move_iterator(writes_.begin()),
                                 std::make_move_iterator(kept));
    writes_.erase(writes_.begin(), kept);
    return out;
  }

  // Empties the cache and returns what had reached the medium: of each write nothing,
  // all, or some of its sectors.
  std::vector<CachedWrite> power_cut(std::uint64_t seed, std::uint32_t sector) {
    std::mt19937_64 random(seed);
    std::vector<CachedWrite> out;
    for (CachedWrite& write : std::exchange(writes_, {})) {
      switch (random() % 3) {
        case 0:
          break;
        case 1:
          out.push_back(std::move(write));
          break;
        default:
          tear(write, random, sector, out);
          break;
      }
    }
    return out;
  }

  std::size_t size() const noexcept { return writes_.size(); }

 private:
  static void tear(const CachedWrite& write, std::mt19937_64& random,
                   std::uint32_t sector, std::vector<CachedWrite>& out) {
    const std::uint64_t end = write.offset + write.bytes.size();
    for (std::uint64_t at = write.offset; at < end;) {
      const std::uint64_t next = std::min(end, (at / sector + 1) * sector);
      if (random() % 2 == 0) {
        const auto* from = write.bytes.data() + (at - write.offset);
        out.push_back({write.id, at, {from, from + (next - at)}, true});
      }
      at = next;
    }
  }

  std::uint64_t last_id_ = 0;
  std::vector<CachedWrite> writes_;
};

}  // namespace speckv::test

// support/pages.hpp -- page-aligned memory to lend to a device.
#pragma once

#include <algorithm>
#include <cstring>
#include <new>

#include "cxlspeckv/device.hpp"

namespace speckv::test {

class Memory {
 public:
  static constexpr std::size_t kUsual = 1U << 20;
  explicit Memory(std::size_t bytes = kUsual)
      : bytes_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{4096})),
               bytes) {
    fill(0);
  }
  explicit Memory(Bytes copied) : Memory(copied.size()) {
    std::ranges::copy(copied, bytes_.begin());
  }
  ~Memory() { ::operator delete (bytes_.data(), std::align_val_t{4096}); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  MutableBytes bytes() const { return bytes_; }
  void fill(std::uint64_t seed) const {  // splitmix64: quick, and different for each seed
    for (std::size_t at = 0; at < bytes_.size(); at += 8) {
      std::uint64_t word = (seed << 32) + at * 0x9E3779B97F4A7C15;
      word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9;
      word ^= word >> 27;
      std::memcpy(bytes_.data() + at, &word, 8);
    }
  }

 private:
  MutableBytes bytes_;
};

inline bool same(Bytes a, Bytes b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace speckv::test

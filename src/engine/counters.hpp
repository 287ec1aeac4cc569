// engine/counters.hpp -- what a card counts, by the numbers of the contract. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/contract.hpp"

namespace speckv::engine {

// a + b, staying at the largest value.
constexpr std::uint64_t add_saturating(std::uint64_t a, std::uint64_t b) noexcept {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

class Counters {
 public:
  void add(Counter which, std::uint64_t n = 1) noexcept {
    std::uint64_t& value = values_[static_cast<std::size_t>(which)];
    value = add_saturating(value, n);
  }
  std::uint64_t at(std::size_t number) const noexcept {
    return number < values_.size() ? values_[number] : 0;
  }
  std::uint64_t operator[](Counter which) const noexcept {
    return values_[static_cast<std::size_t>(which)];
  }

 private:
  std::array<std::uint64_t, 32> values_{};
};

}  // namespace speckv::engine

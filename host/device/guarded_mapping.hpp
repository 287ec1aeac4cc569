// device/guarded_mapping.hpp -- a mapping that its owner may take away at any moment.
//
// When a card is pulled out, the driver takes away what was mapped of it, and the next
// access raises SIGBUS. One handler for the process, installed with the first guarded
// mapping, puts zeros in the place of a mapping that was taken away, so that the access
// goes on; whoever made it asks lost() before believing what it read. Any other SIGBUS
// goes to the handler that was there before.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cxlspeckv/status.hpp"

namespace speckv {

// One thread; the memory is for any.
class GuardedMapping {
 public:
  GuardedMapping() noexcept = default;
  GuardedMapping(GuardedMapping&& other) noexcept { *this = std::move(other); }
  GuardedMapping& operator=(GuardedMapping&& other) noexcept;
  ~GuardedMapping();

  // Shared, readable and writable. no_space: too many are mapped.
  static Result<GuardedMapping> map(int fd, std::uint64_t offset, std::size_t bytes);
  std::byte* data() const noexcept { return data_; }
  // Whether what was read until now may be zeros of our own.
  bool lost() const noexcept;

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t slot_ = 0;  // in the handler's table
};

}  // namespace speckv

#include "sim/host_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>

#include <sys/mman.h>
#include <sys/stat.h>

namespace speckv::sim {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kMaxFiles = 64, kMaxRanges = 1U << 20;

// Not empty, and no byte beyond the last address.
bool is_range(std::uint64_t start, std::uint64_t length) noexcept {
  return length != 0 && length - 1 <= ~std::uint64_t{0} - start;
}

}  // namespace

HostMemory::~HostMemory() {
  for (const auto& [name, bytes] : files_)
    ::munmap(bytes.data(), bytes.size());
}

MutableBytes HostMemory::whole(const File& file, int* error) {
  struct stat about {};
  if (::fstat(file.get(), &about) != 0 || about.st_size <= 0) {
    *error = EINVAL;
    return {};
  }
  const std::pair<std::uint64_t, std::uint64_t> name{about.st_dev, about.st_ino};
  if (const auto known = files_.find(name); known != files_.end()) return known->second;
  if (files_.size() == kMaxFiles) {
    *error = ENOSPC;
    return {};
  }
  const auto size = static_cast<std::size_t>(about.st_size);
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) {
    *error = errno;
    return {};
  }
  return files_[name] = {static_cast<std::byte*>(at), size};
}

int HostMemory::map(const Range& range, const File& file, std::uint64_t offset) {
  if (!is_range(range.address, range.length) ||
      (range.address | range.length | offset) % kPage != 0) {
    return EINVAL;
  }
  if (ranges_.size() == kMaxRanges) return ENOSPC;
  const auto after = ranges_.lower_bound(range.address);
  if (after != ranges_.end() && after->first - range.address < range.length)
    return EEXIST;
  if (after != ranges_.begin()) {
    const Range& before = std::prev(after)->second.range;
    if (range.address - before.address < before.length) return EEXIST;
  }
  Mapped mapped{range};
  if (file.is_open()) {
    int error = 0;
    const MutableBytes bytes = whole(file, &error);
    if (error != 0) return error;
    if (range.length > bytes.size() || offset > bytes.size() - range.length)
      return EINVAL;
    mapped.bytes = bytes.data() + offset;
  }
  ranges_.emplace_hint(after, range.address, mapped);
  return 0;
}

int HostMemory::unmap(std::uint64_t address, std::uint64_t length,
                      std::uint64_t* removed) {
  *removed = 0;
  if (!is_range(address, length)) return EINVAL;
  const auto first = ranges_.lower_bound(address);
  const auto last = ranges_.upper_bound(address + (length - 1));
  if (first != ranges_.begin()) {
    const Range& before = std::prev(first)->second.range;
    if (address - before.address < before.length) return EINVAL;
  }
  if (first == last) return 0;
  const Range& end = std::prev(last)->second.range;
  if (end.length > length - (end.address - address)) return EINVAL;
  for (auto at = first; at != last; ++at)
    *removed += at->second.range.length;
  ranges_.erase(first, last);
  return 0;
}

MutableBytes HostMemory::view(std::uint64_t address, std::uint64_t length,
                              bool writing) const noexcept {
  const auto after = ranges_.upper_bound(address);
  if (after == ranges_.begin()) return {};
  const Mapped& found = std::prev(after)->second;
  const std::uint64_t at = address - found.range.address;
  if (at >= found.range.length || found.bytes == nullptr) return {};
  if (!(writing ? found.range.writable : found.range.readable)) return {};
  return {found.bytes + at, std::min(length, found.range.length - at)};
}

}  // namespace speckv::sim

#include "capi/address_space.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>

#include <numa.h>
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/os.hpp"

namespace speckv::capi {
namespace {

// Ranges share chunks, because the number of mappings of a process is limited.
constexpr std::size_t kChunk = std::size_t{1} << 30;
constexpr std::size_t kLargest = std::size_t{1} << 46;

std::byte* map(std::size_t bytes) noexcept {
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  // Otherwise one byte would take two megabytes.
  ::madvise(base, bytes, MADV_NOHUGEPAGE);
  return static_cast<std::byte*>(base);
}

bool has_memory(int node) noexcept {
  return ::numa_available() >= 0 && node <= ::numa_max_node() &&
         ::numa_node_size64(node, nullptr) > 0;
}

// A preference: what the kernel makes of it is not an error.
void prefer(AddressSpace::Range& range, int node) noexcept {
  if (node < 0 && range.bound) {
    ::mbind(range.base, range.bytes, MPOL_DEFAULT, nullptr, 0, 0);
    range.bound = false;
  }
  if (node < 0 || !has_memory(node)) return;
  bitmask* nodes = ::numa_allocate_nodemask();
  if (nodes == nullptr) return;
  ::numa_bitmask_setbit(nodes, static_cast<unsigned>(node));
  range.bound = ::mbind(range.base, range.bytes, MPOL_PREFERRED, nodes->maskp,
                        nodes->size + 1, 0) == 0;
  ::numa_free_nodemask(nodes);
}

}  // namespace

AddressSpace::~AddressSpace() {
  for (const Chunk& chunk : chunks_) {
    (void)store_.detach(chunk.region);  // nothing is in flight by now
    ::munmap(chunk.base, chunk.bytes);
  }
}

Status AddressSpace::map_chunk(std::size_t bytes) {
  Chunk chunk;
  chunks_.reserve(chunks_.size() + 1);
  for (const std::size_t size : {std::max(bytes, kChunk), bytes}) {
    chunk.bytes = size;
    chunk.base = map(size);
    if (chunk.base != nullptr) break;
  }
  if (chunk.base == nullptr) return os_error("reserving address space", errno);
  auto region = store_.attach({chunk.base, chunk.bytes});
  if (!region) {
    ::munmap(chunk.base, chunk.bytes);
    return region.error();
  }
  chunk.region = *region;
  chunks_.push_back(chunk);
  used_ = 0;
  return {};
}

Result<AddressSpace::Range> AddressSpace::take(std::size_t bytes, int node) {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (bytes > kLargest) return Status(Code::no_space, "more than the address space");
  const std::size_t size = std::bit_ceil(std::max(bytes, page));
  Range range;
  auto& [spare, made] = free_[size];
  if (!spare.empty()) {
    range = spare.back();
    spare.pop_back();
  } else {
    if (spare.capacity() == made) spare.reserve(std::max<std::size_t>(2 * made, 4));
    if (chunks_.empty() || chunks_.back().bytes - used_ < size) {
      if (Status mapped = map_chunk(size); !mapped.ok()) return mapped;
    }
    const Chunk& chunk = chunks_.back();
    range = {chunk.base + used_, size, chunk.region, used_, false};
    used_ += size;
    ++made;
  }
  prefer(range, node);
  return range;
}

// Into room that take() made for it.
void AddressSpace::give_back(const Range& range) noexcept {
  forget(range.base, range.bytes);
  free_.find(range.bytes)->second.spare.push_back(range);
}

void AddressSpace::forget(std::byte* first, std::size_t bytes) noexcept {
  ::madvise(first, bytes, MADV_DONTNEED);
}

}  // namespace speckv::capi

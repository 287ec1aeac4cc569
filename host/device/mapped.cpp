// dax: and shm: are shared mappings of something that other processes can open, too.
#include <cerrno>

#include <sys/mman.h>

#include "device/memory.hpp"
#include "device/open.hpp"

namespace speckv {
namespace {

struct SharedMapping {
  void* base = MAP_FAILED;
  bool direct = false;  // stores reach the medium: no page cache in between
};

SharedMapping map_shared(const Backing& backing, std::size_t size) {
  const int fd = backing.fd();
  constexpr int kProtection = PROT_READ | PROT_WRITE;
  // Only real dax takes MAP_SYNC; it promises that the file's own metadata is durable
  // before a store can be.
  void* base = ::mmap(nullptr, size, kProtection, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
  if (base != MAP_FAILED) return {base, true};
  return {::mmap(nullptr, size, kProtection, MAP_SHARED, fd, 0),
          backing.kind == Backing::Kind::character};
}

Durability durability_of(const DeviceUri& uri, bool direct, DeviceInfo& info) {
  if (uri.scheme == Scheme::shm) return Durability::none;
  info.persistent = true;
  if (!direct) return Durability::msync;
  if (can_write_back_cache_lines()) return Durability::cache_lines;
  info.persistent = false;
  info.note = "not persistent: this processor cannot write its caches back on request";
  return Durability::none;
}

}  // namespace

OpenedDevice open_mapped(const DeviceUri& uri, Opening& opening) {
  Result<Backing> opened = open_backing(uri, opening);
  if (!opened.ok()) return opened.error();
  Backing& backing = *opened;
  const auto size = static_cast<std::size_t>(backing.size);
  const SharedMapping mapping = map_shared(backing, size);
  if (mapping.base == MAP_FAILED) {
    return os_error("device \"" + uri.text + "\": mapping it", errno);
  }
  MappedBytes bytes(mapping.base, size, size);
  DeviceInfo info = info_from(uri);
  info.capacity = backing.size;
  info.memory = true;
  info.shared = true;
  info.note = backing.file->note();
  const Durability durability = durability_of(uri, mapping.direct, info);
  // Shared memory gets huge pages where the administrator allows them; files do not care.
  if (uri.scheme == Scheme::shm) ::madvise(mapping.base, size, MADV_HUGEPAGE);
  return std::shared_ptr<Device>(std::make_shared<MemoryDevice>(
      std::move(info), std::move(bytes), durability, backing.file));
}

}  // namespace speckv

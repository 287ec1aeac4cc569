// dram: and numa: are anonymous memory, filled in by the kernel as it is touched.
#include <cerrno>
#include <string>

#include <numa.h>
#include <numaif.h>
#include <sys/mman.h>

#include "device/memory.hpp"
#include "device/memory_nodes.hpp"
#include "device/open.hpp"

namespace speckv {
namespace {

constexpr std::size_t kHugePage = 2U << 20;

std::size_t round_up(std::size_t value, std::size_t unit) noexcept {
  return (value + unit - 1) / unit * unit;
}

Status bind_to_node(const DeviceUri& uri, MutableBytes bytes) {
  const std::string about = "device \"" + uri.text + "\": ";
  if (::numa_available() < 0) {
    return {Code::unsupported, about + "this kernel has no NUMA support"};
  }
  const auto absent = [&] {
    return Status(Code::not_found, about + "this machine has no memory on node " +
                                       std::to_string(uri.node) + "; nodes go up to " +
                                       std::to_string(::numa_max_node()));
  };
  if (uri.node > ::numa_max_node()) return absent();
  const long long total = ::numa_node_size64(uri.node, nullptr);
  if (total <= 0) return absent();
  // A strict binding that cannot be met ends with the out-of-memory killer, not an error.
  if (uri.size > static_cast<std::uint64_t>(total)) {
    return {Code::no_space, about + "node " + std::to_string(uri.node) + " has only " +
                                std::to_string(total) + " bytes"};
  }
  bitmask* nodes = ::numa_allocate_nodemask();
  ::numa_bitmask_setbit(nodes, static_cast<unsigned>(uri.node));
  const long bound = ::mbind(bytes.data(), round_up(bytes.size(), kHugePage), MPOL_BIND,
                             nodes->maskp, nodes->size + 1, MPOL_MF_STRICT);
  const int error = errno;
  ::numa_free_nodemask(nodes);
  if (bound == 0) return {};
  return os_error(about + "binding to node " + std::to_string(uri.node), error);
}

}  // namespace

Result<MappedBytes> map_anonymous(const DeviceUri& uri) {
  const std::size_t mapped = round_up(uri.size, kHugePage);
  void* raw = ::mmap(nullptr, mapped + kHugePage, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) {
    return os_error("device \"" + uri.text + "\": mapping its memory", errno);
  }
  auto* start = static_cast<std::byte*>(raw);
  const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(raw), kHugePage) -
                             reinterpret_cast<std::uintptr_t>(raw);
  if (before != 0) ::munmap(start, before);
  if (before != kHugePage) ::munmap(start + before + mapped, kHugePage - before);
  return MappedBytes(start + before, mapped, uri.size);
}

OpenedDevice open_anonymous(const DeviceUri& uri) {
  Result<MappedBytes> mapping = map_anonymous(uri);
  if (!mapping.ok()) return mapping.error();
  const MutableBytes bytes = mapping->bytes();
  DeviceInfo info = info_from(uri);
  info.capacity = uri.size;
  info.memory = true;
  info.numa_node = uri.node;
  if (uri.scheme == Scheme::numa) {
    if (Status status = bind_to_node(uri, bytes); !status.ok()) return status;
    for (const MemoryNode& node : memory_nodes()) {
      if (node.node == uri.node) info.note = access_text(node);
    }
  }
  if (::madvise(bytes.data(), round_up(bytes.size(), kHugePage), MADV_HUGEPAGE) != 0) {
    info.note += info.note.empty() ? "" : "; ";
    info.note += "no huge pages: the kernel refuses them";
  }
  return std::shared_ptr<Device>(std::make_shared<MemoryDevice>(
      std::move(info), std::move(*mapping), Durability::none));
}

}  // namespace speckv

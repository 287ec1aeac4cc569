// device/memory_nodes.hpp -- the NUMA nodes that have memory, as the kernel describes
// them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace speckv {

// What the firmware says of reads by the nearest CPUs (ACPI HMAT, a CXL device's CDAT);
// the kernel's access attributes, class 0.
struct MemoryAccess {
  std::uint64_t latency_ns = 0;
  std::uint64_t megabytes_per_second = 0;
};

struct MemoryNode {
  int node = 0;
  std::uint64_t bytes = 0;
  std::string cpus{};  // "" if it has none: a CXL expander or the like
  std::optional<MemoryAccess> access{};
  std::uint64_t distance = 0;  // of the nearest CPUs; 10 is local (ACPI SLIT)
};

// In the order in which they make tiers: by latency and then bandwidth; then those of
// which the firmware says nothing, by distance. Empty where the kernel has no NUMA. Any
// thread.
std::vector<MemoryNode> memory_nodes(
    const std::filesystem::path& folder = "/sys/devices/system/node");

// "reads take 400 ns, 10240 MB/s"; "" if the firmware does not say.
std::string access_text(const MemoryNode& node);

}  // namespace speckv

// What sysfs says of NUMA nodes. A file that is not there, or is no number, says nothing.
#include "device/memory_nodes.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <sstream>
#include <tuple>

namespace speckv {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The line of meminfo "Node 1 MemTotal:  441612 kB".
std::uint64_t memory_of(const fs::path& node) {
  std::ifstream file(node / "meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word, index, field, amount;
    if (words >> word >> index >> field >> amount && field == "MemTotal:") {
      return number(amount).value_or(0) * 1024;
    }
  }
  return 0;
}

std::optional<MemoryAccess> access_of(const fs::path& node) {
  const fs::path folder = node / "access0" / "initiators";
  const auto latency = number(first_line(folder / "read_latency"));
  const auto bandwidth = number(first_line(folder / "read_bandwidth"));
  if (!latency || *latency == 0) return std::nullopt;
  return MemoryAccess{*latency, bandwidth.value_or(0)};
}

// One distance for each node that is online, in their order.
std::vector<std::uint64_t> distances(const fs::path& node) {
  std::istringstream words(first_line(node / "distance"));
  std::vector<std::uint64_t> found;
  for (std::uint64_t value = 0; words >> value;)
    found.push_back(value);
  return found;
}

auto place(const MemoryNode& node) {
  constexpr auto kUnknown = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t slowness =
      node.access ? kUnknown - node.access->megabytes_per_second : 0;
  return std::tuple(node.access ? node.access->latency_ns : kUnknown, slowness,
                    node.distance, node.node);
}

std::optional<int> index_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with("node")) return std::nullopt;
  const auto index = number(std::string_view(name).substr(4));
  if (!index || *index > 1023) return std::nullopt;  // of the kernel: MAX_NUMNODES
  return static_cast<int>(*index);
}

}  // namespace

std::vector<MemoryNode> memory_nodes(const fs::path& folder) {
  std::vector<MemoryNode> nodes;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::optional<int> index = index_of(entry.path());
    if (!index) continue;
    nodes.push_back({*index, memory_of(entry.path()),
                     first_line(entry.path() / "cpulist"), access_of(entry.path()),
                     std::numeric_limits<std::uint64_t>::max()});
  }
  std::sort(nodes.begin(), nodes.end(),
            [](const MemoryNode& a, const MemoryNode& b) { return a.node < b.node; });
  for (MemoryNode& node : nodes) {
    const auto from = distances(folder / ("node" + std::to_string(node.node)));
    for (std::size_t i = 0; i < std::min(nodes.size(), from.size()); ++i) {
      if (!nodes[i].cpus.empty()) node.distance = std::min(node.distance, from[i]);
    }
  }
  std::erase_if(nodes, [](const MemoryNode& node) { return node.bytes == 0; });
  std::sort(nodes.begin(), nodes.end(),
            [](const MemoryNode& a, const MemoryNode& b) { return place(a) < place(b); });
  return nodes;
}

std::string access_text(const MemoryNode& node) {
  if (!node.access) return {};
  return "reads take " + std::to_string(node.access->latency_ns) + " ns, " +
         std::to_string(node.access->megabytes_per_second) + " MB/s";
}

}  // namespace speckv

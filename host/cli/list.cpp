// speckvctl list: what of this machine can be named in a device URI.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

#include <linux/io_uring.h>
#include <nlohmann/json.hpp>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/command.hpp"
#include "device/memory_nodes.hpp"

namespace speckv::cli {
namespace {

namespace fs = std::filesystem;

struct Row {
  std::string uri;
  std::optional<std::uint64_t> bytes{};
  std::string note{};
};

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The number of kilobytes in the line of meminfo that has `field`.
std::optional<std::uint64_t> memory_of(const fs::path& path, std::string_view field) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t at = line.find(field);
    if (at == std::string::npos) continue;
    return std::strtoull(line.c_str() + at + field.size(), nullptr, 10) * 1024;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> card_memory(const fs::path& node) {
  const std::string text =
      first_line(fs::path("/sys/class/speckv") / node.filename() / "memory_bytes");
  if (text.empty()) return std::nullopt;
  return std::strtoull(text.c_str(), nullptr, 10);
}

// The entries of `folder` that begin with `prefix` and go on with a digit, by name.
std::vector<fs::path> entries(const fs::path& folder, std::string_view prefix) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.starts_with(prefix) && name.size() > prefix.size() &&
                      name[prefix.size()] >= '0' && name[prefix.size()] <= '9';
    if (ours) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    const std::string x = a.string(), y = b.string();
    return x.size() != y.size() ? x.size() < y.size() : x < y;
  });
  return found;
}

// The fastest first, as far as the firmware knows: the order of tiers.
void add_nodes(std::vector<Row>& rows) {
  for (const MemoryNode& node : memory_nodes()) {
    std::string note = node.cpus.empty() ? "no CPUs: a CXL expander or the like"
                                         : "local to CPUs " + node.cpus;
    if (node.access) note += "; " + access_text(node);
    rows.push_back({"numa:" + std::to_string(node.node), node.bytes, note});
  }
}

void add_dax(std::vector<Row>& rows) {
  for (const fs::path& device : entries("/dev", "dax")) {
    const fs::path size = fs::path("/sys/bus/dax/devices") / device.filename() / "size";
    Row row{"dax:" + device.string()};
    const std::string text = first_line(size);
    if (!text.empty()) row.bytes = std::strtoull(text.c_str(), nullptr, 10);
    rows.push_back(row);
  }
}

// "" if this process may use io_uring, else the kernel's reason.
std::string io_uring_refusal() {
  io_uring_params params{};
  const long fd = ::syscall(SYS_io_uring_setup, 1, &params);
  if (fd < 0) return std::generic_category().message(errno);
  ::close(static_cast<int>(fd));
  return {};
}

std::vector<Row> machine() {
  std::vector<Row> rows;
  rows.push_back({"dram:", memory_of("/proc/meminfo", "MemTotal:"), "anonymous memory"});
  add_nodes(rows);
  add_dax(rows);
  const std::string refusal = io_uring_refusal();
  rows.push_back({"file:", std::nullopt,
                  refusal.empty()
                      ? "through io_uring"
                      : "io_uring is refused (" + refusal + "): pread and pwrite"});
  std::error_code error;
  const fs::space_info shared = fs::space("/dev/shm", error);
  if (!error) rows.push_back({"shm:", shared.capacity, "shared memory"});
  rows.push_back({"soft:", std::nullopt, "simulated: the card's engine in software"});
  for (const fs::path& card : entries("/dev", "speckv")) {
    rows.push_back({"cxl:" + card.string(), card_memory(card),
                    "a card's memory, through its driver"});
  }
  return rows;
}

}  // namespace

int list(const Arguments& arguments) {
  const std::vector<Row> rows = machine();
  if (arguments.json) {
    nlohmann::ordered_json devices = nlohmann::ordered_json::array();
    for (const Row& row : rows) {
      devices.push_back({{"uri", row.uri}, {"bytes", nullptr}, {"note", row.note}});
      if (row.bytes) devices.back()["bytes"] = *row.bytes;
    }
    print_json("list", {{"devices", devices}, {"io_uring", io_uring_refusal().empty()}});
    return kDone;
  }
  print(column("DEVICE", 20) + column("BYTES", 12) + "NOTE\n");
  for (const Row& row : rows) {
    print(column(row.uri, 20) + column(row.bytes ? size_text(*row.bytes) : "-", 12) +
          row.note + "\n");
  }
  return kDone;
}

}  // namespace speckv::cli

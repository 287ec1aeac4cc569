// Nodes of made-up machines, in the order of tiers.
#include "device/memory_nodes.hpp"

#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

namespace speckv {
namespace {

namespace fs = std::filesystem;

class MemoryNodes : public testing::Test {
 protected:
  void SetUp() override { fs::remove_all(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& file, const std::string& text) const {
    const fs::path path = folder_ / file;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  void node(int n, std::uint64_t kilobytes, const char* cpus,
            const char* distance) const {
    const std::string name = "node" + std::to_string(n) + "/";
    write(name + "meminfo", "Node " + std::to_string(n) + " MemTotal:       " +
                                std::to_string(kilobytes) + " kB\nNode 0 MemFree: 1 kB");
    write(name + "cpulist", cpus);
    write(name + "distance", distance);
  }
  void access(int n, const char* latency, const char* bandwidth) const {
    const std::string name = "node" + std::to_string(n) + "/access0/initiators/";
    write(name + "read_latency", latency);
    write(name + "read_bandwidth", bandwidth);
  }
  std::string order() const {
    std::string text;
    for (const MemoryNode& found : memory_nodes(folder_))
      text += std::to_string(found.node) + " ";
    return text;
  }

  const fs::path folder_ =
      fs::path(testing::TempDir()) / ("speckv_nodes_" + std::to_string(::getpid()));
};

TEST_F(MemoryNodes, none_without_numa) {
  EXPECT_TRUE(memory_nodes(folder_).empty());
}

TEST_F(MemoryNodes, by_distance_from_the_nearest_cpus_where_the_firmware_says_nothing) {
  node(0, 1000, "0-1", "10 20 30 17");
  node(1, 1000, "2-3", "20 10 40 30");
  node(2, 1000, "", "30 40 10 30");
  node(10, 1000, "", "17 30 30 10");
  EXPECT_EQ(order(), "0 1 10 2 ");
  const std::vector<MemoryNode> nodes = memory_nodes(folder_);
  EXPECT_EQ(nodes[2].distance, 17U);
  EXPECT_EQ(nodes[2].bytes, 1000U * 1024);
  EXPECT_EQ(access_text(nodes[2]), "");
}

TEST_F(MemoryNodes, by_latency_then_bandwidth_and_those_that_are_unknown_last) {
  node(0, 1000, "0-1", "10 20 20 20");
  node(1, 1000, "", "20 10 20 20");
  node(2, 1000, "", "20 20 10 20");
  node(3, 1000, "", "11 20 20 10");
  access(0, "100", "40960");
  access(1, "400", "10240");
  access(2, "400", "20480");
  EXPECT_EQ(order(), "0 2 1 3 ");
  EXPECT_EQ(access_text(memory_nodes(folder_)[1]), "reads take 400 ns, 20480 MB/s");
}

TEST_F(MemoryNodes, what_has_no_memory_is_no_tier_and_what_is_no_number_is_not_known) {
  node(0, 1000, "0", "10 20");
  node(1, 0, "1", "20 10");
  access(0, "fast", "-1");
  write("nodes/meminfo", "Node 7 MemTotal: 1 kB");
  write("has_cpu", "0");
  EXPECT_EQ(order(), "0 ");
  EXPECT_FALSE(memory_nodes(folder_)[0].access);
}

}  // namespace
}  // namespace speckv

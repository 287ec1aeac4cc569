// The file tier against fio with the same flush policy, on the same file system, in one
// run: 1 MiB blocks, O_DIRECT, a durable write a block, one data flush every 32 of them.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cxlspeckv/cxlspeckv.hpp"
#include "cxlspeckv/devices.hpp"

#include "bench/report.hpp"

namespace speckv::bench {
namespace {

constexpr std::size_t kBlock = 1 << 20, kBlocks = 512, kBatch = 64;
constexpr int kPairs = 5;

// Bytes a second, or 0 if fio said nothing usable. `kind`: "read" or "write".
double fio(const std::string& file, const std::string& kind) {
  const std::string command =
      "fio --name=bench --filename='" + file + "' --rw=" + kind +
      " --bs=1M --size=" + std::to_string(kBlocks) +
      "M --direct=1 --ioengine=io_uring --iodepth=16" +
      (kind == "write" ? " --fdatasync=32 --end_fsync=1 --overwrite=1" : "") +
      " --output-format=json 2>/dev/null";
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return 0;
  std::string text;
  char part[4096];
  while (const std::size_t n = std::fread(part, 1, sizeof part, pipe))
    text.append(part, n);
  pclose(pipe);
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded()) return 0;
  // The run time includes the flushes, which bw_bytes alone would too, but not end_fsync.
  const double milliseconds = json["jobs"][0]["job_runtime"].get<double>();
  return static_cast<double>(kBlock) * kBlocks / (milliseconds / 1e3);
}

class Tiered {
 public:
  explicit Tiered(const std::string& file) : memory_(kBlock * kBatch * 2) {
    StoreOptions options;
    options.layouts = {{.layers = 1,
                        .kv_heads = 8,
                        .head_dim = 128,
                        .tokens = 256,
                        .dtype = DType::f16}};
    Tier tier;
    tier.name = "file";
    tier.device =
        *open_device("file:" + file + "?size=" + std::to_string(kBlocks * 3) + "M");
    options.tiers.push_back(std::move(tier));
    store_ = *BlockStore::open(std::move(options));
    for (std::size_t i = 0; i < memory_.size(); i += 4) {
      const auto value = static_cast<std::uint32_t>(i * 2654435761U);
      std::memcpy(memory_.data() + i, &value, 4);
    }
    region_ = *store_->attach(memory_);
  }
  // Bytes a second of `kBlocks` new blocks, each reported saved after its flush.
  double write() {
    store_->erase(keys_);
    keys_.clear();
    for (std::size_t i = 0; i < kBlocks; ++i) {
      const std::string name = std::to_string(++names_);
      keys_.push_back(key_from(std::as_bytes(std::span(name)), "bench"));
    }
    return run(true);
  }
  double read() { return run(false); }

 private:
  double run(bool saving) {
    const double took = seconds_of([&] {
      std::vector<Operation> under_way(2);
      for (std::size_t batch = 0; batch * kBatch < kBlocks; ++batch) {
        const std::size_t half = batch % 2;
        check(under_way[half]);
        std::vector<Segment> where(kBatch);
        std::vector<BlockTransfer> blocks(kBatch);
        for (std::size_t i = 0; i < kBatch; ++i) {
          where[i] = {region_, (half * kBatch + i) * kBlock, kBlock};
          blocks[i] = {keys_[batch * kBatch + i], {&where[i], 1}, 0, {}};
        }
        under_way[half] = saving ? store_->save(blocks) : store_->load(blocks);
      }
      for (Operation& operation : under_way)
        check(operation);
    });
    return static_cast<double>(kBlock) * kBlocks / took;
  }
  static void check(Operation& operation) {
    const Status status = operation.wait();
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(1);
  }

  std::vector<std::byte> memory_;
  std::unique_ptr<BlockStore> store_;
  RegionId region_{};
  std::vector<BlockKey> keys_;
  std::uint64_t names_ = 0;
};

}  // namespace
}  // namespace speckv::bench

int main(int argc, char** argv) {
  using namespace speckv::bench;
  Report report(argc, argv);
  const char* const names[] = {"file_read_against_fio", "file_durable_write_against_fio"};
  const char* const place = std::getenv("SPECKV_BENCH_DIR");
  const std::filesystem::path folder =
      (place != nullptr ? std::filesystem::path(place)
                        : std::filesystem::current_path()) /
      ("file_bench." + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  std::vector<double> read, write;
  {
    const std::string peer = (folder / "fio").string();
    if (fio(peer, "write") == 0) {
      for (const char* name : names)
        report.skip(name, "fio is not installed or cannot run here");
      std::filesystem::remove_all(folder);
      return report.finish();
    }
    Tiered tiered((folder / "pool").string());
    tiered.write();
    for (int pair = 0; pair < kPairs; ++pair) {
      const double their_write = fio(peer, "write"), our_write = tiered.write();
      const double their_read = fio(peer, "read"), our_read = tiered.read();
      if (!(their_write > 0 && their_read > 0)) {  // or ours would be infinitely faster
        std::fprintf(stderr, "fio failed, after it had worked\n");
        std::filesystem::remove_all(folder);
        return 1;
      }
      write.push_back(our_write / their_write);
      read.push_back(our_read / their_read);
      std::printf("write %.2f of fio's %.2f GB/s, read %.2f of %.2f GB/s\n", write.back(),
                  their_write / 1e9, read.back(), their_read / 1e9);
    }
  }
  std::filesystem::remove_all(folder);
  const std::string base = "fio, 1 MiB, O_DIRECT, depth 16";
  report.add(names[0], median(read), "ratio", base);
  report.add(names[1], median(write), "ratio", base + ", fdatasync every 32 writes");
  return report.finish();
}

// speckvctl bench: bytes into a device and out of it, in turns with copies in memory.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <vector>

#include <nlohmann/json.hpp>

#include "cxlspeckv/devices.hpp"

#include "cli/command.hpp"
#include "cli/watched.hpp"

namespace speckv::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr RegionId kRegion{1};
constexpr int kTurns = 5;

// Whole pages, as every device takes them.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : bytes_(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{4096})),
               bytes) {
    std::memset(bytes_.data(), 0x5A, bytes);
  }
  ~Memory() { ::operator delete (bytes_.data(), std::align_val_t{4096}); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  MutableBytes bytes() const { return bytes_; }

 private:
  MutableBytes bytes_;
};

class Bench {
 public:
  Bench(Device& device, std::uint64_t bytes, std::uint64_t depth)
      : device_(device), bytes_(bytes), depth_(depth), memory_(bytes * depth) {}

  Status open() {
    if (Status s = device_.attach(kRegion, memory_.bytes()); !s.ok()) return s;
    auto queue = device_.open_queue(static_cast<std::uint32_t>(depth_));
    if (!queue.ok()) return queue.error();
    queue_ = *std::move(queue);
    return {};
  }

  // Bytes a second, for about so long.
  Result<double> transfers(Transfer::Op op, double seconds) {
    const std::uint64_t places = device_.info().capacity / bytes_;
    const auto start = Clock::now();
    std::uint64_t submitted = 0, done = 0;
    double passed = 0;
    while (passed < seconds || done < submitted) {
      std::vector<Transfer> batch;
      for (std::uint64_t n = submitted; passed < seconds && n < done + depth_; ++n) {
        batch.push_back(
            {op, n % places * bytes_, {kRegion, n % depth_ * bytes_, bytes_}, n});
      }
      submitted += queue_->submit(batch);
      queue_->wait(device_.info().timeout);
      std::array<Completion, 64> found{};
      const std::size_t count = queue_->poll(found);
      for (std::size_t i = 0; i < count; ++i) {
        if (found[i].code != Code::ok) {
          return Status(found[i].code,
                        "a transfer failed: " + std::string(to_string(found[i].code)));
        }
      }
      done += count;
      passed = std::chrono::duration<double>(Clock::now() - start).count();
      if (count == 0 && passed > seconds + 2 * timeout()) {
        return Status(Code::timed_out, "the device does not answer");
      }
    }
    return static_cast<double>(done * bytes_) / passed;
  }

  // The same by memcpy, between two places of the memory.
  double copies(double seconds) const {
    const Memory target(memory_.bytes().size());
    const auto start = Clock::now();
    double passed = 0;
    std::uint64_t done = 0;
    for (; passed < seconds; ++done) {
      const std::uint64_t at = done % depth_ * bytes_;
      std::memcpy(target.bytes().data() + at, memory_.bytes().data() + at, bytes_);
      passed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    return static_cast<double>(done * bytes_) / passed;
  }

 private:
  double timeout() const {
    return std::chrono::duration<double>(device_.info().timeout).count();
  }

  Device& device_;
  const std::uint64_t bytes_, depth_;
  const Memory memory_;
  std::unique_ptr<Queue> queue_;
};

double median(std::array<double, kTurns> values) {
  std::sort(values.begin(), values.end());
  return values[kTurns / 2];
}

Status check(const Arguments& arguments, const DeviceInfo& info, std::uint64_t bytes) {
  if (info.persistent || info.shared) {
    return {Code::invalid_argument,
            "this would overwrite what the device keeps; bench takes devices that keep "
            "nothing"};
  }
  if (arguments.depth == 0) return {Code::invalid_argument, "the depth is at least 1"};
  if (bytes == 0 || bytes > info.capacity || bytes > (1U << 30) / arguments.depth) {
    return {Code::invalid_argument,
            "a transfer fits into the device, and all of them into 1 GiB"};
  }
  return {};
}

}  // namespace

int bench(const Arguments& arguments) {
  const auto bytes = parse_size(arguments.bytes);
  if (!bytes.ok()) return fail(bytes.error());
  auto device = open_existing(arguments.name, DeviceUse::own);
  if (!device.ok()) return fail(device.error());
  if (Status good = check(arguments, (*device)->info(), *bytes); !good.ok()) {
    return fail(good);
  }
  Bench bench(**device, *bytes, arguments.depth);
  if (Status opened = bench.open(); !opened.ok()) return fail(opened);
  std::array<double, kTurns> writes{}, reads{}, copies{};
  for (int turn = 0; turn < kTurns; ++turn) {
    const double each = arguments.seconds / kTurns;
    const auto write = bench.transfers(Transfer::Op::write, each);
    if (!write.ok()) return fail(write.error());
    const auto read = bench.transfers(Transfer::Op::read, each);
    if (!read.ok()) return fail(read.error());
    const auto n = static_cast<std::size_t>(turn);
    writes[n] = *write;
    reads[n] = *read;
    copies[n] = bench.copies(each);
  }
  const auto whole = [](double value) { return static_cast<std::uint64_t>(value); };
  const Json told = {{"name", arguments.name},
                     {"simulated", (*device)->info().simulated},
                     {"transfer_bytes", *bytes},
                     {"depth", arguments.depth},
                     {"write_bytes_per_second", whole(median(writes))},
                     {"read_bytes_per_second", whole(median(reads))},
                     {"memcpy_bytes_per_second", whole(median(copies))}};
  if (arguments.json) {
    print_json("bench", told);
  } else {
    print_lines(told);
  }
  return kDone;
}

}  // namespace speckv::cli

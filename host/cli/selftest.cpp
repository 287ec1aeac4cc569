// speckvctl selftest: blocks through every codec on every kind of device, and a flipped
// bit.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/open_store.hpp"

#include "cli/command.hpp"
#include "cli/watched.hpp"

namespace speckv::cli {
namespace {

constexpr BlockLayout kLayout{.layers = 2,
                              .kv_heads = 2,
                              .head_dim = 64,
                              .tokens = 64,
                              .dtype = DType::f16,
                              .kind = BlockLayout::Kind::kv};
constexpr std::size_t kBlocks = 16;

struct Outcome {
  std::string device, codec;
  std::string result = "passed";  // or "skipped: why", or what is wrong
  double ratio = 0;               // plain bytes over stored bytes
  bool failed() const { return result != "passed" && !result.starts_with("skipped"); }
};

// f16 with exponents like those of KV: finite, normal, magnitudes from 2^-10 to 4.
std::vector<std::uint16_t> values() {
  std::mt19937 random(20);
  std::vector<std::uint16_t> halves(kBlocks * kLayout.bytes() / 2);
  for (std::uint16_t& half : halves) {
    const auto bits = static_cast<std::uint32_t>(random());
    half = static_cast<std::uint16_t>((bits & 0x83FF) | ((5 + (bits >> 16) % 12) << 10));
  }
  return halves;
}

double number(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const double magnitude = exponent == 0
                               ? std::ldexp(half & 1023, -24)
                               : std::ldexp(1024 + (half & 1023), exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

// The largest error that a codec may make on these values, as a share of the largest
// value: half a step, and rounding (docs/block-format.md has the exact bounds).
double allowed(const Codec& codec) {
  switch (codec.id()) {
    case CodecId::raw:
    case CodecId::lossless:
      return 0;
    case CodecId::int8:
    case CodecId::int8_delta_rle:
      return 1.0 / 200;
    case CodecId::kvq4:
      return 1.0 / 14;
    default:  // rt and hx, which bound the energy of the error, not each value's
      return 1.0 / 2;
  }
}

// One store on one device, with memory for what goes in and what comes out.
class Trial {
 public:
  Trial(const std::string& uri, const Codec& codec)
      : codec_(codec), in_(values()), out_(in_.size()) {
    config_.layouts = {kLayout};
    TierConfig& tier = config_.tiers.emplace_back();
    tier.device = uri;
    tier.codec = codec.name();
  }

  Status run(double& ratio) {
    auto store = open_store(config_, [this](StoreOptions& options) {
      device_ = options.tiers[0].device;
      return Status();
    });
    if (!store) return store.error();
    store_ = *std::move(store);
    auto from = store_->attach(std::as_writable_bytes(std::span(in_)));
    auto to = store_->attach(std::as_writable_bytes(std::span(out_)));
    if (!from) return from.error();
    if (!to) return to.error();
    name_blocks(*from, *to);
    if (Status saved = store_->save(save_).wait(); !saved.ok()) return saved;
    const TierStats stats = store_->stats(0);
    ratio = static_cast<double>(stats.plain_bytes) /
            static_cast<double>(std::max<std::uint64_t>(stats.used, 1));
    if (Status loaded = store_->load(load_).wait(); !loaded.ok()) return loaded;
    if (Status same = compare(); !same.ok()) return same;
    if (Status found = find_flipped_bit(); !found.ok()) return found;
    store_->erase(keys_);
    if (store_->match(keys_) != 0)
      return {Code::internal, "erased blocks are still there"};
    return {};
  }

 private:
  void name_blocks(RegionId from, RegionId to) {
    const std::uint64_t salt = std::random_device()();
    for (std::size_t b = 0; b < kBlocks; ++b) {
      const std::uint64_t name[2] = {salt, b};
      keys_.push_back(key_from(std::as_bytes(std::span(name)), "selftest"));
      places_.push_back({from, b * kLayout.bytes(), kLayout.bytes()});
      places_.push_back({to, b * kLayout.bytes(), kLayout.bytes()});
    }
    for (std::size_t b = 0; b < kBlocks; ++b) {
      save_.push_back({keys_[b], std::span(&places_[2 * b], 1), 0, {}});
      load_.push_back({keys_[b], std::span(&places_[2 * b + 1], 1), 0, {}});
    }
  }

  Status compare() const {
    double largest = 0;
    for (const std::uint16_t half : in_)
      largest = std::max(largest, std::abs(number(half)));
    for (std::size_t i = 0; i < in_.size(); ++i) {
      const double error = std::abs(number(in_[i]) - number(out_[i]));
      if (!(error <= allowed(codec_) * largest))
        return {Code::corrupted, "a value came back wrong by " + std::to_string(error)};
    }
    return {};
  }

  // Where the plain bytes can be seen on the device: one bit of them, turned over.
  Status find_flipped_bit() {
    const MutableBytes memory = device_->memory();
    if (memory.empty() || codec_.id() != CodecId::raw) return {};
    const Bytes block = std::as_bytes(std::span(in_)).first(kLayout.layer_bytes());
    const auto at = std::search(memory.begin(), memory.end(), block.begin(), block.end());
    if (at == memory.end()) return {Code::internal, "a raw block is not on the device"};
    *at ^= std::byte{1};
    Operation op = store_->load(std::span(load_).first(1));
    (void)op.wait();
    if (op.code(0) == Code::corrupted) return {};
    return {Code::internal, "a flipped bit was not noticed"};
  }

  const Codec& codec_;
  StoreConfig config_;
  std::vector<std::uint16_t> in_, out_;
  std::vector<BlockKey> keys_;
  std::vector<Segment> places_;
  std::vector<BlockTransfer> save_, load_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<BlockStore> store_;
};

Outcome attempt(const std::string& uri, const Codec& codec, bool named) {
  Outcome outcome;
  outcome.device = uri;
  outcome.codec = codec.name();
  const Status status = Trial(uri, codec).run(outcome.ratio);
  if (status.ok()) return outcome;
  outcome.result = status.message();
  const bool lacking =
      status.code() == Code::unsupported || status.code() == Code::not_found;
  if (lacking && !named) outcome.result = "skipped: " + outcome.result;
  return outcome;
}

// Files and shared memory of our own, gone again at the end.
class Scratch {
 public:
  Scratch() {
    const std::string name = "cxlspeckv-selftest-" + std::to_string(::getpid());
    std::error_code error;
    const auto folder = std::filesystem::temp_directory_path(error);
    file_ = (error ? "/var/tmp" : folder) / (name + ".file");
    dax_ = (error ? "/var/tmp" : folder) / (name + ".dax");
    shared_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove(file_, ignored);
    std::filesystem::remove(dax_, ignored);
    std::filesystem::remove("/dev/shm/" + shared_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  std::vector<std::string> devices() const {
    return {"soft:8M",
            "dram:8M",
            "numa:0?size=8M",
            "shm:/" + shared_ + "?size=8M",
            "dax:" + dax_.string() + "?size=8M",
            "file:" + file_.string() + "?size=8M",
            "soft:8M?throttle=cxl"};
  }

 private:
  std::filesystem::path file_, dax_;
  std::string shared_;
};

}  // namespace

int selftest(const Arguments& arguments) {
  const Scratch scratch;
  const bool named = !arguments.name.empty();
  std::vector<std::string> devices = scratch.devices();
  if (named) devices = {device_uri(arguments.name)};
  std::vector<Outcome> outcomes;
  for (const std::string& uri : devices) {
    for (const Codec* codec : builtin_codecs())
      outcomes.push_back(attempt(uri, *codec, named));
  }
  const auto failures = std::count_if(outcomes.begin(), outcomes.end(),
                                      [](const Outcome& o) { return o.failed(); });
  if (arguments.json) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const Outcome& o : outcomes) {
      rows.push_back({{"device", o.device},
                      {"codec", o.codec},
                      {"result", o.failed() ? "failed: " + o.result : o.result},
                      {"ratio", o.ratio}});
    }
    print_json("selftest", {{"passed", failures == 0}, {"trials", rows}});
  } else {
    std::size_t width = 8;
    for (const Outcome& o : outcomes)
      width = std::max(width, o.device.size() + 2);
    print(column("DEVICE", width) + column("CODEC", 16) + column("RATIO", 8) +
          "RESULT\n");
    for (const Outcome& o : outcomes) {
      std::string ratio = std::to_string(o.ratio);
      ratio.resize(std::min<std::size_t>(ratio.size(), 4));
      print(column(o.device, width) + column(o.codec, 16) + column(ratio, 8) +
            (o.failed() ? "FAILED: " : "") + o.result + "\n");
    }
  }
  if (failures != 0) say(std::to_string(failures) + " trials failed");
  return failures == 0 ? kDone : kFailed;
}

}  // namespace speckv::cli

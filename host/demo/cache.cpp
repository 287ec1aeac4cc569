#include "cache.hpp"

#include <filesystem>
#include <unordered_map>
#include <utility>

#include <stdlib.h>
#include <unistd.h>

#include "cxlspeckv/devices.hpp"

#include "model.hpp"

namespace speckv::demo {
namespace {

// Counts a transfer when it has completed, because a refused one moves nothing. Tags are
// the caller's and unique while in flight.
class CountingQueue final : public Queue {
 public:
  CountingQueue(std::unique_ptr<Queue> inner, DeviceBytes& bytes)
      : inner_(std::move(inner)), bytes_(bytes) {}

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    for (const Transfer& t : batch)
      in_flight_[t.tag] = {t.op, t.memory.length};
    const std::size_t taken = inner_->submit(batch);
    for (const Transfer& t : batch.subspan(taken))
      in_flight_.erase(t.tag);
    return taken;
  }
  std::size_t poll(std::span<Completion> out) noexcept override {
    const std::size_t done = inner_->poll(out);
    for (const Completion& completion : out.first(done))
      count(completion);
    return done;
  }
  void wait(std::chrono::nanoseconds at_most) noexcept override { inner_->wait(at_most); }
  void wake() noexcept override { inner_->wake(); }

 private:
  struct Pending {
    Transfer::Op op{};
    std::uint64_t bytes = 0;
  };

  void count(const Completion& completion) noexcept {
    const auto found = in_flight_.find(completion.tag);
    if (found == in_flight_.end()) return;
    const auto [op, bytes] = found->second;
    in_flight_.erase(found);
    if (completion.code != Code::ok) return;
    if (op == Transfer::Op::read) bytes_.read.fetch_add(bytes, std::memory_order_relaxed);
    if (op == Transfer::Op::write)
      bytes_.written.fetch_add(bytes, std::memory_order_relaxed);
  }

  std::unique_ptr<Queue> inner_;
  DeviceBytes& bytes_;
  std::unordered_map<std::uint64_t, Pending> in_flight_{};
};

class CountingDevice final : public Device {
 public:
  CountingDevice(std::shared_ptr<Device> inner, DeviceBytes& bytes)
      : inner_(std::move(inner)), bytes_(bytes) {}

  const DeviceInfo& info() const noexcept override { return inner_->info(); }
  MutableBytes memory() noexcept override { return inner_->memory(); }
  Status attach(RegionId region, MutableBytes memory) override {
    return inner_->attach(region, memory);
  }
  Status detach(RegionId region) override { return inner_->detach(region); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override {
    auto queue = inner_->open_queue(depth);
    if (!queue) return queue;
    return std::unique_ptr<Queue>(
        std::make_unique<CountingQueue>(*std::move(queue), bytes_));
  }

 private:
  std::shared_ptr<Device> inner_;
  DeviceBytes& bytes_;
};

// "file:/var/tmp/pool?size=1G" -> "file"
std::string scheme_of(const std::string& uri) {
  return uri.substr(0, uri.find(':'));
}

}  // namespace

std::shared_ptr<Device> counted(std::shared_ptr<Device> inner, DeviceBytes& bytes) {
  return std::make_shared<CountingDevice>(std::move(inner), bytes);
}

Cache::Cache() {
  static std::atomic<std::uint32_t> opened{0};
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  salt_ = std::to_string(::getpid()) + '/' + std::to_string(now) + '/' +
          std::to_string(opened.fetch_add(1));
}

Result<std::unique_ptr<Cache>> Cache::open(const CacheOptions& options) {
  std::unique_ptr<Cache> cache(new Cache);
  StoreOptions store;
  store.layouts = {kv_layout()};
  for (const std::string& uri : options.tiers) {
    auto device = open_device(uri);
    if (!device) return device.error();
    const std::size_t number = store.tiers.size();
    cache->names_.push_back(std::to_string(number) + ":" + scheme_of(uri));
    cache->memory_.push_back((*device)->info().memory);
    cache->bytes_.push_back(std::make_unique<DeviceBytes>());
    Tier tier;
    tier.name = cache->names_.back();
    tier.device = demo::counted(*std::move(device), *cache->bytes_.back());
    tier.codec = number == 0 ? nullptr : options.codec;
    store.tiers.push_back(std::move(tier));
  }
  auto opened = BlockStore::open(std::move(store));
  if (!opened) return opened.error();
  cache->store_ = *std::move(opened);
  return cache;
}

constexpr std::uint64_t kBesides = 4096;  // a block's frame: header, layers, padding

std::uint64_t bytes_for(std::uint64_t blocks) noexcept {
  constexpr std::uint64_t kPage = 2U << 20;
  return (blocks * (kv_layout().bytes() + kBesides) + kPage - 1) / kPage * kPage;
}

std::uint64_t blocks_in(std::uint64_t bytes) noexcept {
  return bytes / (kv_layout().bytes() + kBesides);
}

Result<TemporaryPool> TemporaryPool::create(std::uint64_t bytes) {
  namespace fs = std::filesystem;
  std::error_code error;
  // /tmp may be memory, which would make a poor show of a slower tier; /var/tmp is not.
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  const char* wished = ::getenv("TMPDIR");
  fs::path folder = wished != nullptr ? wished : "/var/tmp";
  if (!fs::is_directory(folder, error)) folder = fs::temp_directory_path(error);
  std::string path = (folder / "cxlspeckv-demo-XXXXXX").string();
  const int fd = ::mkstemp(path.data());
  if (fd < 0)
    return Status(Code::io_error, "cannot make a pool file in " + folder.string());
  ::close(fd);
  return TemporaryPool(std::move(path), bytes);
}

TemporaryPool::TemporaryPool(std::string path, std::uint64_t bytes)
    : path_(std::move(path)),
      uri_("file:" + path_ + "?size=" + std::to_string((bytes + 4095) / 4096 * 4096)) {}

TemporaryPool::TemporaryPool(TemporaryPool&& other) noexcept
    : path_(std::exchange(other.path_, {})), uri_(std::exchange(other.uri_, {})) {}

TemporaryPool::~TemporaryPool() {
  std::error_code error;
  if (!path_.empty()) std::filesystem::remove(path_, error);
}

}  // namespace speckv::demo

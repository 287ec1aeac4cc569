// Opening paged memory: what a device name may say more, and the store behind it.
#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>

#include <sys/random.h>

#include "cxlspeckv/open_store.hpp"

#include "capi/capi.hpp"
#include "capi/paged_memory.hpp"
#include "device/os.hpp"

namespace speckv::capi {
namespace {

constexpr std::uint64_t kLargestPage = 64 << 10, kSmallestPage = 4 << 10;
constexpr std::uint64_t kRowBytes = 256;  // 128 f16 values: a row of the int8 codecs
constexpr std::uint64_t kMostWindow = 32 << 20, kLeastWindow = 64 << 10;
constexpr std::string_view kNode = "/dev/speckv";  // the same as cxl:/dev/speckv...

struct Name {
  std::string device;
  std::uint64_t window = 0;  // 0: not given
};

// Takes the parameter "window" out of the URI, and gives memory without a size 1 GiB.
Status read_name(std::string_view given, Name& out) {
  const std::size_t question = given.find('?');
  std::string_view rest = question == std::string_view::npos ? std::string_view()
                                                             : given.substr(question + 1);
  std::string kept;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    if (!item.starts_with("window=")) {
      kept += (kept.empty() ? "?" : "&") + std::string(item);
      continue;
    }
    auto size = parse_size(item.substr(7));
    if (!size) return size.error();
    if (out.window != 0) return refused("window is given twice");
    if (*size < kLeastWindow) return refused("window is at least 64K");
    out.window = *size;
  }
  const std::string_view place = given.substr(0, question);
  const bool sized =
      place.find(':') + 1 != place.size() || kept.find("size=") != std::string::npos;
  out.device = std::string(place) + kept;
  const bool numa = place.starts_with("numa:");
  if ((place == "soft:" || place == "dram:" || numa) &&
      (numa ? kept.find("size=") == std::string::npos : !sized)) {
    out.device += (kept.empty() ? "?" : "&") + std::string("size=1G");
  }
  return {};
}

// Pages are small enough for a small device to hold several.
std::vector<BlockLayout> page_layouts(std::uint64_t capacity) {
  std::uint64_t page = kLargestPage;
  while (page > kSmallestPage && page * 8 > capacity)
    page /= 2;
  std::vector<BlockLayout> layouts;
  for (; page >= kSmallestPage; page /= 2) {
    BlockLayout layout;
    layout.layers = 1;
    layout.kv_heads = 1;
    layout.head_dim = kRowBytes / 2;
    layout.tokens = static_cast<std::uint32_t>(page / kRowBytes);
    layout.dtype = DType::f16;
    layout.kind = BlockLayout::Kind::latent;
    layouts.push_back(layout);
  }
  return layouts;
}

}  // namespace

Result<std::unique_ptr<PagedMemory>> PagedMemory::open(std::string_view device) {
  const std::string uri = (device.starts_with(kNode) ? "cxl:" : "") + std::string(device);
  Name name;
  if (Status read = read_name(uri, name); !read.ok()) return read;
  StoreConfig config;
  config.tiers.emplace_back().device = name.device;
  auto memory = std::unique_ptr<PagedMemory>(new PagedMemory);
  if (Status started = memory->start(config, name.window); !started.ok()) return started;
  return memory;
}

Status PagedMemory::start(const StoreConfig& config, std::uint64_t window) {
  if (::getrandom(salt_.data(), salt_.size(), 0) != static_cast<ssize_t>(salt_.size())) {
    return os_error("getrandom", errno);
  }
  auto store = open_store(config, [&](StoreOptions& options) {
    const DeviceInfo& info = options.tiers[0].device->info();
    options.layouts = page_layouts(info.capacity);
    options.max_blocks = info.capacity / kSmallestPage + 64;
    capacity_ = info.capacity;
    page_ = options.layouts[0].bytes();
    window_ = window != 0 ? window : std::clamp(capacity_ / 8, kLeastWindow, kMostWindow);
    patience_ = 2 * info.timeout;
    return Status();
  });
  if (!store) return store.error();
  store_ = *std::move(store);
  space_ = std::make_unique<AddressSpace>(*store_);
  stager_ = std::thread([this] { stage(); });
  return {};
}

PagedMemory::~PagedMemory() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    asked_.notify_one();
  }
  if (stager_.joinable()) stager_.join();
  // No call is under way any more. What is stored must not stay behind in a pool.
  for (auto& [id, allocation] : handles_) {
    for (Page& page : allocation->pages)
      drop_copy(page);
  }
  handles_.clear();
  space_.reset();
}

}  // namespace speckv::capi

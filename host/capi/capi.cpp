// The boundary itself, and the store as a whole. The one file that catches exceptions.
#include "capi/capi.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "cxlspeckv/guarded.hpp"
#include "cxlspeckv/open_store.hpp"

namespace speckv::capi {
namespace {

// Not a string: keeping the text of an error must not fail.
thread_local std::array<char, 512> last_error{};

void keep(std::string_view message) noexcept {
  const std::size_t length = std::min(message.size(), last_error.size() - 1);
  std::memcpy(last_error.data(), message.data(), length);
  last_error[length] = '\0';
}

constexpr bool same(Code code, speckv_status status) {
  return static_cast<int>(code) == static_cast<int>(status);
}
static_assert(same(Code::ok, SPECKV_STATUS_OK));
static_assert(same(Code::invalid_argument, SPECKV_STATUS_INVALID_ARGUMENT));
static_assert(same(Code::not_found, SPECKV_STATUS_NOT_FOUND));
static_assert(same(Code::no_space, SPECKV_STATUS_NO_SPACE));
static_assert(same(Code::busy, SPECKV_STATUS_BUSY));
static_assert(same(Code::cancelled, SPECKV_STATUS_CANCELLED));
static_assert(same(Code::timed_out, SPECKV_STATUS_TIMED_OUT));
static_assert(same(Code::corrupted, SPECKV_STATUS_CORRUPTED));
static_assert(same(Code::io_error, SPECKV_STATUS_IO_ERROR));
static_assert(same(Code::unsupported, SPECKV_STATUS_UNSUPPORTED));
static_assert(same(Code::internal, SPECKV_STATUS_INTERNAL));
static_assert(kCodeCount == SPECKV_STATUS_INTERNAL + 1);

static_assert(static_cast<int>(DType::f16) == SPECKV_F16);
static_assert(static_cast<int>(DType::bf16) == SPECKV_BF16);
static_assert(static_cast<int>(DType::f32) == SPECKV_F32);
static_assert(static_cast<int>(DType::f8e4m3) == SPECKV_F8E4M3);
static_assert(static_cast<int>(BlockLayout::Kind::latent) == SPECKV_LATENT);
static_assert(static_cast<int>(BlockLayout::Kind::interleaved) == SPECKV_INTERLEAVED);
static_assert(static_cast<int>(BlockLayout::Kind::transposed) == SPECKV_TRANSPOSED);
static_assert(static_cast<int>(BlockLayout::Kind::tiled) == SPECKV_TILED);
static_assert(static_cast<int>(Admission::second_touch) == SPECKV_SECOND_TOUCH);
static_assert(static_cast<int>(LogLevel::error) == SPECKV_LOG_ERROR);
static_assert(kNoPosition == SPECKV_NO_POSITION);
static_assert(BlockStore::kAbsent == SPECKV_ABSENT);
static_assert(BlockStore::kPending == SPECKV_PENDING);

}  // namespace

Status contained(const Body& body) noexcept {
  try {
    return guarded(body);
  } catch (...) {
    return Status(Code::internal, {});
  }
}

speckv_status answer(const Status& status) noexcept {
  if (status.ok()) return SPECKV_STATUS_OK;
  const bool silent = status.message().empty();
  keep(silent ? to_string(status.code()) : std::string_view(status.message()));
  return static_cast<speckv_status>(status.code());
}

Status read_struct(const void* given, std::size_t known, std::size_t alignment,
                   void* out) {
  if (given == nullptr) return {};
  constexpr std::size_t kMost = 4096;  // far more than any version will have
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof size);
  if (size < sizeof size || size > kMost || size % alignment != 0) {
    return refused("an options struct has an impossible size: " + std::to_string(size));
  }
  const auto* bytes = static_cast<const std::byte*>(given);
  const auto is_set = [](std::byte b) { return b != std::byte{0}; };
  if (size > known && std::any_of(bytes + known, bytes + size, is_set)) {
    return refused("an options struct asks for something that this version lacks");
  }
  std::memcpy(out, given, std::min(size, known));
  return {};
}

Status read_layout(const speckv_layout& given, BlockLayout& out) {
  if (given.dtype > SPECKV_F8E4M3) return refused("a layout has an unknown dtype");
  if (given.kind > SPECKV_TILED) return refused("a layout has an unknown kind");
  if (given.reserved[0] != 0 || given.reserved[1] != 0) {
    return refused("reserved fields of a layout must be 0");
  }
  out.layers = given.layers;
  out.kv_heads = given.kv_heads;
  out.head_dim = given.head_dim;
  out.tokens = given.tokens;
  out.dtype = static_cast<DType>(given.dtype);
  out.kind = static_cast<BlockLayout::Kind>(given.kind);
  return out.validate();
}

Status read_tenant(std::uint32_t given, TenantId& out) {
  if (given > 0xFFFF) return refused("tenants are 0 to 65535");
  out = static_cast<TenantId>(given);
  return {};
}

std::vector<BlockKey> keys_of(const speckv_key* keys, std::size_t count) {
  std::vector<BlockKey> out(count);
  for (std::size_t i = 0; i < count; ++i)
    out[i] = key_of(keys[i]);
  return out;
}

Status check_array(const void* array, std::size_t count, std::string_view name) {
  if (array == nullptr && count != 0) return null_argument(name);
  if (count > kMostInBatch) return refused(std::string(name) + ": more than 2^24");
  return {};
}

Status fill_struct(void* out, std::size_t alignment, const void* full,
                   std::size_t known) {
  std::size_t size = 0;
  std::memcpy(&size, out, sizeof size);
  if (size < sizeof size || size > 4096 || size % alignment != 0)
    return refused("stats has an impossible size: " + std::to_string(size));
  auto* const bytes = static_cast<std::byte*>(out);
  const auto* const from = static_cast<const std::byte*>(full);
  const std::size_t told = std::min(size, known);
  std::memcpy(bytes + sizeof size, from + sizeof size, told - sizeof size);
  std::memset(bytes + told, 0, size - told);
  return {};
}

Status check_unused(const std::atomic<std::size_t>& users, std::string_view of_what) {
  // acquire: pairs with the release in ~Use().
  const std::size_t count = users.load(std::memory_order_acquire);
  if (count == 0) return {};
  return {Code::busy, std::to_string(count) + " " + std::string(of_what) +
                          " of it must be freed before"};
}

namespace {

Status read_tier(const speckv_tier_options* tiers, std::size_t n, TierConfig& out) {
  speckv_tier_options given{};
  if (Status read = read_element(tiers, n, given); !read.ok()) return read;
  if (given.device == nullptr) return null_argument("tier: device");
  if (given.admission > SPECKV_SECOND_TOUCH)
    return refused("a tier has an unknown admission");
  if (given.reserved != 0) return refused("reserved fields of a tier must be 0");
  Status listed =
      check_array(given.layer_codecs, given.layer_codec_count, "tier: layer_codecs");
  if (!listed.ok()) return listed;
  out.device = given.device;
  out.codec = text(given.codec);
  out.policy = text(given.policy);
  out.name = text(given.name);
  out.capacity = given.capacity;
  out.admission = static_cast<Admission>(given.admission);
  for (std::size_t i = 0; i < given.layer_codec_count; ++i) {
    const speckv_layer_codec& choice = given.layer_codecs[i];
    if (choice.codec == nullptr) return null_argument("tier: layer codec");
    out.layers.push_back({{choice.first_layer, choice.layer_count}, choice.codec});
  }
  return {};
}

Status read_store(const speckv_store_options* options, speckv_store& store,
                  StoreConfig& out) {
  speckv_store_options given{};
  if (Status read = read_options(options, given); !read.ok()) return read;
  if (given.layouts == nullptr || given.layout_count == 0)
    return refused("a store needs a layout");
  if (given.tiers == nullptr || given.tier_count == 0)
    return refused("a store needs a tier");
  if (given.layout_count > 0xFFFF || given.tier_count > kMaxTiers)
    return refused("a store has at most 65535 layouts and 6 tiers");
  if (given.profile == nullptr && given.profile_bytes != 0)
    return null_argument("profile");
  for (std::size_t i = 0; i < given.layout_count; ++i) {
    Status read = read_layout(given.layouts[i], out.layouts.emplace_back());
    if (!read.ok()) return read;
  }
  for (std::size_t i = 0; i < given.tier_count; ++i) {
    Status read = read_tier(given.tiers, i, out.tiers.emplace_back());
    if (!read.ok()) return read;
  }
  out.name = text(given.name);
  const auto* profile = static_cast<const std::byte*>(given.profile);
  out.profile.assign(profile, profile + given.profile_bytes);
  out.max_blocks = given.max_blocks;
  store.log = given.log;
  store.log_context = given.log_context;
  return {};
}

// The store's texts are not terminated.
void forward_log(void* context, LogLevel level, std::string_view message) {
  const auto& store = *static_cast<const speckv_store*>(context);
  std::array<char, 512> copy{};
  std::memcpy(copy.data(), message.data(), std::min(message.size(), copy.size() - 1));
  store.log(store.log_context, static_cast<std::uint32_t>(level), copy.data());
}

class Visitor final : public MetricSink {
 public:
  Visitor(speckv_metric_fn* visit, void* context) : visit_(visit), context_(context) {}
  void counter(std::string_view name, Label label, std::uint64_t value) override {
    gauge(name, label, static_cast<double>(value));
  }
  void gauge(std::string_view name, Label label, double value) override {
    visit_(context_, std::string(name).c_str(), std::string(label.name).c_str(),
           std::string(label.value).c_str(), value);
  }

 private:
  speckv_metric_fn* visit_;
  void* context_;
};

speckv_tier_stats stats_of(const TierStats& s) {
  speckv_tier_stats out{};
  out.capacity = s.capacity;
  out.used = s.used;
  out.pinned = s.pinned;
  out.plain_bytes = s.plain_bytes;
  out.blocks = s.blocks;
  out.bytes_written = s.bytes_written;
  out.bytes_read = s.bytes_read;
  out.hits = s.hits;
  out.evictions = s.evictions;
  out.demotions_in = s.demotions_in;
  out.promotions_in = s.promotions_in;
  out.saves_dropped = s.saves_dropped;
  out.corrupted = s.corrupted;
  out.io_errors = s.io_errors;
  out.fenced = s.fenced ? 1 : 0;
  return out;
}

}  // namespace
}  // namespace speckv::capi

using namespace speckv;
using namespace speckv::capi;

uint32_t speckv_version(void) {
  return SPECKV_VERSION;
}

const char* speckv_status_name(speckv_status status) {
  const auto number = static_cast<unsigned>(status);
  const auto code = static_cast<Code>(number < kCodeCount ? number : kCodeCount);
  return to_string(code).data();  // names are literals
}

const char* speckv_last_error(void) {
  return last_error.data();
}

speckv_status speckv_store_open(const speckv_store_options* options,
                                speckv_store** store) {
  return guard([&]() -> Status {
    if (options == nullptr) return null_argument("options");
    if (store == nullptr) return null_argument("store");
    auto made = std::make_unique<speckv_store>();
    StoreConfig config;
    if (Status read = read_store(options, *made, config); !read.ok()) return read;
    if (made->log != nullptr) config.log = {forward_log, made.get()};
    auto opened = open_store(config);
    if (!opened) return opened.error();
    made->store = *std::move(opened);
    *store = made.release();
    return {};
  });
}

speckv_status speckv_store_close(speckv_store* store) {
  return guard([&]() -> Status {
    if (store == nullptr) return {};
    Status unused = check_unused(store->users, "ops, pins, sequences or prefetchers");
    if (!unused.ok()) return unused;
    delete store;
    return {};
  });
}

speckv_status speckv_store_remove(const char* name) {
  return guard([&]() -> Status {
    if (name == nullptr) return null_argument("name");
    return remove_store(name);
  });
}

speckv_status speckv_store_flush(speckv_store* store) {
  return guard([&]() -> Status {
    if (store == nullptr) return null_argument("store");
    return store->store->flush();
  });
}

speckv_status speckv_store_set_codec(speckv_store* store, size_t tier, const char* codec,
                                     uint32_t first_layer, uint32_t layer_count) {
  return guard([&]() -> Status {
    if (store == nullptr) return null_argument("store");
    if (codec == nullptr) return null_argument("codec");
    const Codec* found = find_codec(codec);
    if (found == nullptr)
      return {Code::not_found, "no codec \"" + std::string(codec) + "\""};
    return store->store->set_codec(tier, *found, {first_layer, layer_count});
  });
}

speckv_status speckv_store_set_quota(speckv_store* store, uint32_t tenant,
                                     uint64_t bytes) {
  return guard([&]() -> Status {
    if (store == nullptr) return null_argument("store");
    TenantId id{};
    if (Status read = read_tenant(tenant, id); !read.ok()) return read;
    return store->store->set_quota(id, bytes);
  });
}

speckv_status speckv_store_tenant_bytes(const speckv_store* store, uint32_t tenant,
                                        uint64_t* bytes) {
  return guard([&]() -> Status {
    if (store == nullptr || bytes == nullptr) return null_argument("store or bytes");
    TenantId id{};
    if (Status read = read_tenant(tenant, id); !read.ok()) return read;
    *bytes = store->store->tenant_bytes(id);
    return {};
  });
}

speckv_status speckv_store_purge(speckv_store* store, uint32_t tenant, size_t* erased) {
  return guard([&]() -> Status {
    if (store == nullptr || erased == nullptr) return null_argument("store or erased");
    TenantId id{};
    if (Status read = read_tenant(tenant, id); !read.ok()) return read;
    *erased = store->store->purge(id);
    return {};
  });
}

size_t speckv_store_tier_count(const speckv_store* store) {
  return store == nullptr ? 0 : store->store->tier_count();
}

speckv_status speckv_store_stats(const speckv_store* store, size_t tier,
                                 speckv_tier_stats* stats) {
  return guard([&]() -> Status {
    if (store == nullptr || stats == nullptr) return null_argument("store or stats");
    if (tier >= store->store->tier_count()) return {Code::not_found, "no such tier"};
    return fill_stats(stats, stats_of(store->store->stats(tier)));
  });
}

speckv_status speckv_store_report(const speckv_store* store, speckv_metric_fn* visit,
                                  void* context) {
  return guard([&]() -> Status {
    if (store == nullptr || visit == nullptr) return null_argument("store or visit");
    Visitor visitor(visit, context);
    store->store->report(visitor);
    return {};
  });
}

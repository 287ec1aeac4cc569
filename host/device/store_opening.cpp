#include "device/store_opening.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "device/index_memory.hpp"

namespace speckv {
namespace {

constexpr std::string_view kPrivate = "dram:";
constexpr const char* kNoIndex = "/none";  // in the names of what is only planned

Result<const Codec*> codec_named(const std::string& name) {
  const Codec* codec = find_codec(name.empty() ? std::string_view("raw") : name);
  if (codec != nullptr) return codec;
  std::string known;
  for (const Codec* c : builtin_codecs())
    known += (known.empty() ? "" : ", ") + std::string(c->name());
  return Status(Code::not_found, "codec \"" + name + "\": the codecs are " + known +
                                     ", hxp?slot=N, hxp?bytes_per_token=N, hxp?loss=X");
}

std::string default_name(const std::string& uri, std::size_t number) {
  return uri.substr(0, uri.find(':')) + std::to_string(number);
}

// Plain memory of a store that has a name must be a mapping that others can open.
std::string shared_uri(const std::string& uri, const std::string& index,
                       std::size_t number) {
  const std::size_t question = std::min(uri.find('?'), uri.size());
  const std::string size = uri.substr(kPrivate.size(), question - kPrivate.size());
  std::string parameters = uri.substr(question);  // "dram:4G?..." or "dram:?size=4G..."
  if (!size.empty()) {
    if (!parameters.empty()) parameters[0] = '&';
    parameters.insert(0, "?size=" + size);
  }
  return "shm:" + shared_segment(index, number) + parameters;
}

// Stands in a plan for shared memory that has not been made.
class PlannedMemory final : public Device {
 public:
  explicit PlannedMemory(const DeviceUri& uri) : info_(info_from(uri)) {
    info_.capacity = uri.size;
    info_.memory = true;
    info_.shared = true;
  }
  const DeviceInfo& info() const noexcept override { return info_; }
  Status attach(RegionId, MutableBytes) override { return none(); }
  Status detach(RegionId) override { return none(); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t) override { return none(); }

 private:
  static Status none() { return {Code::internal, "memory that is only planned"}; }
  DeviceInfo info_;
};

Result<Tier> describe_tier(const TierConfig& config, std::size_t number) {
  Tier tier;
  tier.name = config.name.empty() ? default_name(config.device, number) : config.name;
  tier.capacity = config.capacity;
  tier.admission = config.admission;
  auto codec = codec_named(config.codec);
  if (!codec) return codec.error();
  tier.codec = *codec;
  for (const CodecConfig& choice : config.layers) {
    auto special = codec_named(choice.codec);
    if (!special) return special.error();
    tier.per_layer.push_back({choice.layers, *special});
  }
  const std::string policy = config.policy.empty() ? "lru" : config.policy;
  tier.policy = make_policy(policy);
  if (tier.policy == nullptr) {
    std::string known;
    for (const std::string_view name : policy_names())
      known += (known.empty() ? "" : ", ") + std::string(name);
    return Status(Code::not_found,
                  "policy \"" + policy + "\": the policies are " + known);
  }
  return tier;
}

}  // namespace

std::string shared_segment(const std::string& index, std::size_t number) {
  return index + "-tier" + std::to_string(number);
}

bool StoreOpening::is_deferred(std::size_t tier) const {
  return !config_.name.empty() && config_.tiers[tier].device.starts_with(kPrivate);
}

Status StoreOpening::run(const AdjustOptions& adjust) {
  options_.layouts = config_.layouts;
  options_.profile = config_.profile;
  options_.max_blocks = config_.max_blocks;
  options_.clock = config_.clock;
  options_.events = config_.events;
  options_.log = config_.log;
  if (!config_.name.empty()) opening_.kind = FileClaim::Kind::share;
  if (Status s = describe_tiers(); !s.ok()) return s;
  if (Status s = open_devices(); !s.ok()) return s;
  if (Status s = adjust(options_); !s.ok()) return s;
  first_segment_ = opening_.claims.size();
  if (config_.name.empty()) return {};
  if (Status s = open_index(); !s.ok()) return s;
  return open_segments();
}

Status StoreOpening::describe_tiers() {
  if (config_.tiers.size() > kMaxTiers) {
    return {Code::invalid_argument, "a store has 1 to 6 tiers"};
  }
  for (const TierConfig& described : config_.tiers) {
    auto tier = describe_tier(described, options_.tiers.size());
    if (!tier) return tier.error();
    options_.tiers.push_back(*std::move(tier));
  }
  return {};
}

Status StoreOpening::open_devices() {
  for (std::size_t t = 0; t < options_.tiers.size(); ++t) {
    const std::string& uri = config_.tiers[t].device;
    if (!is_deferred(t)) {
      if (Status s = open_tier(t, uri); !s.ok()) return s;
      continue;
    }
    auto planned = parse_uri(shared_uri(uri, kNoIndex, t));
    if (!planned) return planned.error();
    options_.tiers[t].device = std::make_shared<PlannedMemory>(*planned);
  }
  return {};
}

// The name may be that of a pool file, which exists by now.
Status StoreOpening::open_index() {
  auto bytes = index_bytes(options_);
  if (!bytes) return bytes.error();
  auto memory = attach_index_memory(config_.name, *bytes, opening_.claims);
  if (!memory) return memory.error();
  index_ = *memory;
  auto spans = index_spans(options_, index_.process);
  if (!spans) return spans.error();
  if (Status s = reserve_index_memory(index_, *spans); !s.ok()) return s;
  options_.index = *std::move(memory);
  const std::uint64_t identity = index_identity(index_);
  for (const auto& claim : opening_.claims) {
    if (Status s = claim->share_as(identity); !s.ok()) return s;
  }
  return {};
}

Status StoreOpening::open_segments() {
  auto index = index_file(config_.name);
  if (!index) return index.error();
  for (std::size_t t = 0; t < options_.tiers.size(); ++t) {
    if (!is_deferred(t)) continue;
    const std::string uri = shared_uri(config_.tiers[t].device, *index, t);
    if (Status s = open_tier(t, uri); !s.ok()) return s;
  }
  return {};
}

Status StoreOpening::open_tier(std::size_t number, const std::string& uri) {
  auto device = open_device(uri, opening_);
  if (!device) return device.error();
  Tier& tier = options_.tiers[number];
  tier.device = *std::move(device);
  const DeviceInfo& info = tier.device->info();
  if (config_.log.write != nullptr && !info.note.empty()) {
    config_.log.write(config_.log.context, LogLevel::warning,
                      "tier " + tier.name + ": " + info.note);
  }
  return {};
}

// The index goes first: while it is there without a store in it, whoever opens the name
// may use the segments, and holds their locks.
StoreOpening::~StoreOpening() {
  if (kept_) return;
  const bool nobodys = index_.keep && abandon_index_memory(index_);
  for (std::size_t i = 0; i < opening_.claims.size(); ++i)
    opening_.claims[i]->undo(nobodys && i >= first_segment_);
}

}  // namespace speckv

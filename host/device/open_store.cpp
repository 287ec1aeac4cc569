#include "cxlspeckv/open_store.hpp"

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <utility>

#include <sys/mman.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/guarded.hpp"

namespace speckv {
namespace {

Result<const Codec*> codec_named(const std::string& name) {
  const Codec* codec = find_codec(name.empty() ? std::string_view("raw") : name);
  if (codec != nullptr) return codec;
  std::string known;
  for (const Codec* c : builtin_codecs())
    known += (known.empty() ? "" : ", ") + std::string(c->name());
  return Status(Code::not_found, "codec \"" + name + "\": the codecs are " + known);
}

std::string default_name(const std::string& uri, std::size_t number) {
  return uri.substr(0, uri.find(':')) + std::to_string(number);
}

// Where tier `number` of a named store keeps what would else be one process's memory.
std::string shared_segment(const std::string& store, std::size_t number) {
  const BlockKey key = key_from(std::as_bytes(std::span(store)), "cxlspeckv segment");
  char name[64];
  std::snprintf(name, sizeof name, "/cxlspeckv-%016llx-tier%zu",
                static_cast<unsigned long long>(key.high), number);
  return name;
}

// Plain memory of a store that has a name must be a mapping that others can open.
std::string shared_uri(const std::string& uri, const std::string& store,
                       std::size_t number) {
  constexpr std::string_view kPrivate = "dram:";
  if (store.empty() || uri.rfind(kPrivate, 0) != 0) return uri;
  const std::size_t question = std::min(uri.find('?'), uri.size());
  const std::string size = uri.substr(kPrivate.size(), question - kPrivate.size());
  std::string parameters = uri.substr(question);  // "dram:4G?..." or "dram:?size=4G..."
  if (!size.empty()) {
    if (!parameters.empty()) parameters[0] = '&';
    parameters.insert(0, "?size=" + size);
  }
  return "shm:" + shared_segment(store, number) + parameters;
}

Result<Tier> open_tier(const TierConfig& config, const std::string& store,
                       std::size_t number) {
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
  // Last: opening a device can create a file.
  auto device = open_device(shared_uri(config.device, store, number));
  if (!device) return device.error();
  tier.device = *std::move(device);
  return tier;
}

void tell(const LogSink& log, const Tier& tier) {
  const DeviceInfo& info = tier.device->info();
  if (log.write == nullptr || info.note.empty()) return;
  log.write(log.context, LogLevel::warning, "tier " + tier.name + ": " + info.note);
}

}  // namespace

Result<StoreOptions> resolve_store(const StoreConfig& config) {
  return guarded([&]() -> Result<StoreOptions> {
    StoreOptions options;
    options.layouts = config.layouts;
    options.profile = config.profile;
    options.max_blocks = config.max_blocks;
    options.clock = config.clock;
    options.events = config.events;
    options.log = config.log;
    if (config.tiers.size() > kMaxTiers) {
      return Status(Code::invalid_argument, "a store has 1 to 6 tiers");
    }
    for (const TierConfig& described : config.tiers) {
      auto tier = open_tier(described, config.name, options.tiers.size());
      if (!tier) return tier.error();
      tell(options.log, *tier);
      options.tiers.push_back(*std::move(tier));
    }
    return options;
  });
}

Result<std::unique_ptr<BlockStore>> open_store(const StoreConfig& config) {
  return guarded([&]() -> Result<std::unique_ptr<BlockStore>> {
    auto resolved = resolve_store(config);
    if (!resolved) return resolved.error();
    StoreOptions options = *std::move(resolved);
    if (!config.name.empty()) {
      auto bytes = index_bytes(options);
      if (!bytes) return bytes.error();
      auto memory = open_index_memory(config.name, *bytes);
      if (!memory) return memory.error();
      options.index = *std::move(memory);
    }
    return BlockStore::open(std::move(options));
  });
}

Result<StoreInfo> inspect_store(const std::string& name) {
  return guarded([&]() -> Result<StoreInfo> {
    auto front = peek_index_memory(name, index_front_bytes());
    if (!front) return front.error();
    auto info = inspect_index(front->bytes);
    if (info) info->processes = front->processes;
    return info;
  });
}

Status remove_store(const std::string& name) {
  return guarded([&]() -> Status {
    for (std::size_t tier = 0; tier < kMaxTiers; ++tier) {
      (void)::shm_unlink(shared_segment(name, tier).c_str());  // most never existed
    }
    return remove_index_memory(name);
  });
}

}  // namespace speckv

// speckvctl info and stats: a device, the pool on it, or a shared store, as it is.
// Nothing is created.
#include <filesystem>

#include <nlohmann/json.hpp>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/inspect.hpp"
#include "cxlspeckv/open_store.hpp"

#include "cli/command.hpp"

namespace speckv::cli {
namespace {

using Json = nlohmann::ordered_json;

// Opening a file, dax or shm device with a size can create it, or make it larger.
Status check_exists(const std::string& uri) {
  const std::size_t colon = uri.find(':'), question = uri.find('?');
  const std::string scheme = uri.substr(0, colon);
  if (scheme != "file" && scheme != "dax" && scheme != "shm") return {};
  if (question != std::string::npos && uri.find("size=", question) != std::string::npos) {
    return {Code::invalid_argument, "what exists has its size: leave size= out"};
  }
  std::string path = uri.substr(colon + 1, question - colon - 1);
  if (scheme == "shm") path = "/dev/shm" + path;
  std::error_code error;
  if (std::filesystem::exists(path, error)) return {};
  return {Code::not_found, path + ": there is no such thing"};
}

Result<std::shared_ptr<Device>> open_existing(const std::string& uri) {
  if (Status exists = check_exists(uri); !exists.ok()) return exists;
  return open_device(uri);
}

Json describe(const DeviceInfo& info) {
  return {{"name", info.name},
          {"capacity", info.capacity},
          {"alignment", info.alignment},
          {"kind", info.memory ? "memory" : "queue"},
          {"persistent", info.persistent},
          {"shared", info.shared},
          {"simulated", info.simulated},
          {"numa_node", info.numa_node < 0 ? Json() : Json(info.numa_node)},
          {"timeout_seconds", std::chrono::duration<double>(info.timeout).count()},
          {"note", info.note}};
}

Json describe(const PoolInfo& pool) {
  const auto hex = [](std::uint64_t number) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (int shift = 60; shift >= 0; shift -= 4)
      text += kDigits[(number >> shift) & 15];
    return text;
  };
  return {{"pool", hex(pool.id)},
          {"layouts", hex(pool.layouts)},
          {"capacity", pool.capacity},
          {"used", pool.used},
          {"frame_bytes", pool.frame_bytes},
          {"blocks", pool.blocks},
          {"damaged", pool.damaged},
          {"commits", pool.commits}};
}

Json describe(const StoreInfo::TierInfo& tier) {
  const TierStats& s = tier.stats;
  return {{"name", tier.name},
          {"capacity", s.capacity},
          {"used", s.used},
          {"blocks", s.blocks},
          {"plain_bytes", s.plain_bytes},
          {"bytes_written", s.bytes_written},
          {"bytes_read", s.bytes_read},
          {"hits", s.hits},
          {"evictions", s.evictions},
          {"demotions_in", s.demotions_in},
          {"promotions_in", s.promotions_in},
          {"saves_dropped", s.saves_dropped},
          {"corrupted", s.corrupted},
          {"io_errors", s.io_errors}};
}

int show(const StoreInfo& store, const Arguments& arguments) {
  Json tiers = Json::array();
  for (const StoreInfo::TierInfo& tier : store.tiers)
    tiers.push_back(describe(tier));
  if (arguments.json) {
    const Json all = {{"store", arguments.name},
                      {"processes", store.processes},
                      {"tiers", std::move(tiers)}};
    print(all.dump(2) + "\n");
    return kDone;
  }
  print(column("processes", 18) + std::to_string(store.processes) + "\n");
  for (const auto& [key, unused] : tiers.front().items()) {
    std::string line = column(key, 18);
    for (const Json& tier : tiers) {
      const Json& value = tier.at(key);
      line += column(value.is_string() ? value.get<std::string>() : value.dump(), 16);
    }
    print(line.substr(0, line.find_last_not_of(' ') + 1) + "\n");
  }
  return kDone;
}

int show(const Json& values, const Arguments& arguments) {
  if (arguments.json) {
    print(values.dump(2) + "\n");
    return kDone;
  }
  for (const auto& [key, value] : values.items()) {
    const std::string text = value.is_string()    ? value.get<std::string>()
                             : value.is_boolean() ? (value.get<bool>() ? "yes" : "no")
                             : value.is_null()    ? "-"
                                                  : value.dump();
    print(column(key, 18) + text + "\n");
  }
  return kDone;
}

}  // namespace

int info(const Arguments& arguments) {
  auto device = open_existing(arguments.name);
  if (!device) return fail(device.error());
  return show(describe((*device)->info()), arguments);
}

// A shared store is asked first: while it is open, what its pool says is a moment old. A
// pool file that nobody has open speaks for itself.
int stats(const Arguments& arguments) {
  const bool is_path = arguments.name.starts_with('/') || arguments.name.starts_with('.');
  if (is_path || arguments.name.starts_with("shm:")) {
    const auto store = inspect_store(arguments.name);
    if (store && (store->processes > 0 || !is_path)) return show(*store, arguments);
  }
  auto device = open_existing((is_path ? "file:" : "") + arguments.name);
  if (!device) return fail(device.error());
  auto pool = inspect_pool(**device);
  if (!pool) return fail(pool.error());
  return show(describe(*pool), arguments);
}

}  // namespace speckv::cli

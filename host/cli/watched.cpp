// Cards by their driver's sysfs or by the engine, stores by their index, pools by their
// records.
#include "cli/watched.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/engine.hpp"
#include "cxlspeckv/inspect.hpp"
#include "cxlspeckv/open_store.hpp"

namespace speckv::cli {
namespace {

namespace fs = std::filesystem;

std::string hex(std::uint64_t number) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4)
    text += kDigits[(number >> shift) & 15];
  return text;
}

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
  if (fs::exists(path, error)) return {};
  return {Code::not_found, path + ": there is no such thing"};
}

Look look_at(const PoolInfo& pool) {
  Look look;
  look.kind = "pool";
  look.facts = {{"pool", hex(pool.id)}, {"layouts", hex(pool.layouts)}};
  if (pool.profile != 0) look.facts["profile"] = hex(pool.profile);
  look.numbers = {{"capacity", "pool_capacity_bytes", false, pool.capacity},
                  {"used", "pool_used_bytes", false, pool.used},
                  {"frame_bytes", "pool_frame_bytes", false, pool.frame_bytes},
                  {"blocks", "pool_blocks", false, pool.blocks},
                  {"damaged", "pool_damaged", false, pool.damaged},
                  {"commits", "pool_commits_total", true, pool.commits}};
  if (pool.damaged != 0) {
    look.degrade(std::to_string(pool.damaged) + " records are damaged");
  }
  return look;
}

// Named as BlockStore::report() names them.
std::vector<Number> numbers_of(const TierStats& s) {
  return {{"capacity", "tier_capacity_bytes", false, s.capacity},
          {"used", "tier_used_bytes", false, s.used},
          {"blocks", "tier_blocks", false, s.blocks},
          {"plain_bytes", "tier_plain_bytes", false, s.plain_bytes},
          {"bytes_written", "tier_written_bytes_total", true, s.bytes_written},
          {"bytes_read", "tier_read_bytes_total", true, s.bytes_read},
          {"hits", "tier_hits_total", true, s.hits},
          {"evictions", "tier_evictions_total", true, s.evictions},
          {"demotions_in", "tier_demotions_total", true, s.demotions_in},
          {"promotions_in", "tier_promotions_total", true, s.promotions_in},
          {"saves_dropped", "tier_saves_dropped_total", true, s.saves_dropped},
          {"corrupted", "tier_corrupted_total", true, s.corrupted},
          {"io_errors", "tier_io_errors_total", true, s.io_errors}};
}

Look look_at(const StoreInfo& store) {
  Look look;
  look.kind = "store";
  look.numbers = {{"processes", "store_processes", false, store.processes}};
  for (const StoreInfo::TierInfo& tier : store.tiers) {
    look.tiers.push_back({tier.name, numbers_of(tier.stats)});
    if (tier.stats.corrupted != 0) {
      look.degrade(tier.name + ": " + std::to_string(tier.stats.corrupted) +
                   " blocks had a wrong checksum");
    }
    if (tier.stats.io_errors != 0) {
      look.degrade(tier.name + ": " + std::to_string(tier.stats.io_errors) +
                   " transfers failed");
    }
  }
  return look;
}

// The driver's attributes that are numbers of the card itself.
constexpr std::string_view kAttributes[] = {"memory_bytes", "memory_free", "contexts",
                                            "current_step"};

void add_attributes(const std::string& folder, Look& look) {
  for (const std::string_view attribute : kAttributes) {
    std::ifstream file(fs::path(folder) / attribute);
    std::uint64_t value = 0;
    if (!(file >> value)) continue;
    look.numbers.push_back(
        {std::string(attribute), "card_" + std::string(attribute), false, value});
  }
}

Result<Look> look_at_card(const std::string& name) {
  auto engine = Engine::open(name);
  if (!engine.ok()) return engine.error();
  Look look;
  look.kind = "card";
  look.facts = {{"simulated", (*engine)->info().simulated}};
  if (const auto folder = card_folder(name); folder.ok()) {
    add_attributes(*folder, look);
  } else {
    look.numbers.push_back(
        {"memory_bytes", "card_memory_bytes", false, (*engine)->info().memory});
  }
  const auto counters = (*engine)->counters();
  if (!counters.ok()) return counters.error();
  for (const auto& [key, value] : *counters)
    look.numbers.push_back({key, "card_" + key + "_total", true, value});
  const auto fatal = (*engine)->fatal();
  if (!fatal.ok()) return fatal.error();
  look.numbers.push_back({"fatal", "card_fatal", false, *fatal ? 1U : 0U});
  const auto errors =
      std::find_if(look.numbers.begin(), look.numbers.end(),
                   [](const Number& n) { return n.key == "errors_logged"; });
  if (errors != look.numbers.end() && errors->value != 0) {
    look.degrade(std::to_string(errors->value) + " errors were logged since its reset");
  }
  const auto answer = (*engine)->telemetry();
  if (*fatal || (!answer.ok() && answer.error().code() != Code::unsupported)) {
    look.state = Look::State::failed;
    look.reasons.push_back(*fatal ? "the card is in its fatal state; reset it"
                                  : answer.error().message());
  }
  return look;
}

}  // namespace

bool names_card(const std::string& name) {
  return name.starts_with("/dev/speckv") || name.starts_with("cxl:") ||
         name.starts_with("fd:") || name.starts_with("pid:") || name.starts_with("soft:");
}

Result<std::string> card_folder(const std::string& name) {
  std::string node = name.starts_with("cxl:") ? name.substr(4, name.find('?') - 4) : name;
  if (name.starts_with("fd:")) node = "/proc/self/fd/" + name.substr(3);
  struct stat st {};
  if (::stat(node.c_str(), &st) == 0 && S_ISCHR(st.st_mode)) {
    std::string folder = "/sys/dev/char/" + std::to_string(major(st.st_rdev)) + ":" +
                         std::to_string(minor(st.st_rdev));
    std::error_code error;
    const auto subsystem = fs::read_symlink(folder + "/subsystem", error);
    if (!error && subsystem.filename() == "speckv") return folder;
  }
  return Status(Code::not_found, name + ": this is no card of the driver speckv");
}

Result<std::shared_ptr<Device>> open_existing(const std::string& uri, DeviceUse use) {
  if (Status exists = check_exists(uri); !exists.ok()) return exists;
  return open_device(device_uri(uri), use);
}

// A shared store is asked first: while it is open, what its pool says is a moment old. A
// pool file that nobody has open speaks for itself.
Result<Look> look_at(const std::string& name) {
  if (names_card(name)) return look_at_card(name);
  const bool is_path = name.starts_with('/') || name.starts_with('.');
  if (is_path || name.starts_with("shm:")) {
    const auto store = inspect_store(name);
    if (store && (store->processes > 0 || !is_path)) return look_at(*store);
  }
  auto device = open_existing((is_path ? "file:" : "") + name, DeviceUse::look);
  if (!device) return device.error();
  auto pool = inspect_pool(**device);
  if (!pool) return pool.error();
  return look_at(*pool);
}

const char* state_text(Look::State state) {
  switch (state) {
    case Look::State::good:
      return "good";
    case Look::State::degraded:
      return "degraded";
    case Look::State::failed:
      break;
  }
  return "failed";
}

Json to_json(const Look& look) {
  const auto values = [](const std::vector<Number>& numbers) {
    Json all = Json::object();
    for (const Number& n : numbers)
      all[n.key] = n.value;
    return all;
  };
  Json tiers = Json::array();
  for (const Look::Tier& tier : look.tiers) {
    Json row = {{"name", tier.name}};
    row.update(values(tier.numbers));
    tiers.push_back(std::move(row));
  }
  return {{"kind", look.kind},
          {"state", state_text(look.state)},
          {"reasons", look.reasons},
          {"facts", look.facts},
          {"values", values(look.numbers)},
          {"tiers", std::move(tiers)}};
}

}  // namespace speckv::cli

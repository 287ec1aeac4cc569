// cli/watched.hpp -- a look at something that counts: a card, a shared store, a pool.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/status.hpp"

namespace speckv::cli {

using Json = nlohmann::ordered_json;

// `metric` is its name for Prometheus; what counts only ever grows.
struct Number {
  std::string key;
  std::string metric;
  bool counts = false;
  std::uint64_t value = 0;
};

// Nothing is created, enlarged or written by looking.
struct Look {
  enum class State : std::uint8_t { good, degraded, failed };
  std::string kind{};  // card, store, pool
  State state = State::good;
  std::vector<std::string> reasons{};  // why it is not good
  Json facts = Json::object();         // that are no numbers
  std::vector<Number> numbers{};
  struct Tier {
    std::string name;
    std::vector<Number> numbers;
  };
  std::vector<Tier> tiers{};  // of stores

  void degrade(const std::string& reason) {
    if (state == State::good) state = State::degraded;
    reasons.push_back(reason);
  }
};

Result<Look> look_at(const std::string& name);
const char* state_text(Look::State state);
// kind, state, reasons, facts, values and tiers.
Json to_json(const Look& look);

// "/dev/speckvN" is short for "cxl:/dev/speckvN".
inline std::string device_uri(const std::string& name) {
  return name.starts_with("/dev/speckv") ? "cxl:" + name : name;
}
// Opens a device that exists: what would create one, or make it larger, is refused.
Result<std::shared_ptr<Device>> open_existing(const std::string& uri, DeviceUse use);
// Whether a name is that of a card's node, of an open card, or of an engine in software.
bool names_card(const std::string& name);
// The folder of a card below /sys. not_found: it is no card.
Result<std::string> card_folder(const std::string& name);

}  // namespace speckv::cli

#include "figures.hpp"

#include <algorithm>
#include <fstream>
#include <thread>

#include <nlohmann/json.hpp>

namespace speckv::demo {
namespace {

// What follows the colon on the first line of `path` that starts with `key`.
std::string system_value(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "unknown";
}

template <class T>
nlohmann::json or_null(const std::optional<T>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

}  // namespace

std::optional<bool> Figure::holds() const noexcept {
  if (!bar || (!value && !skipped.empty())) return std::nullopt;
  if (!value) return false;
  return direction == ">=" ? *value >= *bar : *value <= *bar;
}

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

void set_ratio(Figure& figure, const std::vector<double>& a,
               const std::vector<double>& b) {
  constexpr std::size_t kPairs = 5;
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    ratios.push_back(a[i] / b[i]);
  if (ratios.size() < kPairs) {
    figure.skipped = "a ratio needs 5 rounds or more";
  } else {
    figure.value = median(ratios);
  }
}

std::string machine() {
  return system_value("/proc/cpuinfo", "model name") + ", " +
         std::to_string(std::thread::hardware_concurrency()) + " processors, " +
         system_value("/proc/meminfo", "MemTotal");
}

Status write_figures(const std::string& path, const std::vector<Figure>& figures) {
  auto list = nlohmann::json::array();
  for (const Figure& figure : figures) {
    nlohmann::json entry{{"name", figure.name},
                         {"value", or_null(figure.value)},
                         {"unit", figure.unit},
                         {"baseline", figure.baseline},
                         {"bar", or_null(figure.bar)},
                         {"direction", figure.direction},
                         {"holds", or_null(figure.holds())}};
    if (!figure.skipped.empty()) entry["skipped"] = figure.skipped;
    list.push_back(std::move(entry));
  }
  std::ofstream file(path);
  file << nlohmann::json{{"machine", machine()}, {"figures", list}}.dump(1) << '\n';
  file.close();
  if (!file) return Status(Code::io_error, "cannot write " + path);
  return {};
}

}  // namespace speckv::demo

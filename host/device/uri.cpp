#include "device/uri.hpp"

#include <array>
#include <charconv>
#include <limits>

namespace speckv {
namespace {

constexpr std::size_t kMaxUri = 8192;  // longer than any path that can be opened
constexpr std::string_view kExpectedSize =
    "a size is a whole number above 0 and perhaps one of K, M, G, T, as in 512M or 4G";

enum class Parameter : unsigned {
  size = 1,
  direct = 2,
  engine = 4,
  throttle = 8,
  timeout = 16
};
constexpr unsigned bit(Parameter p) noexcept {
  return static_cast<unsigned>(p);
}
struct ParameterName {
  std::string_view name;
  Parameter parameter;
};
constexpr std::array<ParameterName, 5> kParameters{{{"size", Parameter::size},
                                                    {"direct", Parameter::direct},
                                                    {"engine", Parameter::engine},
                                                    {"throttle", Parameter::throttle},
                                                    {"timeout", Parameter::timeout}}};
constexpr unsigned kCommon =
    bit(Parameter::size) | bit(Parameter::throttle) | bit(Parameter::timeout);
constexpr unsigned kOfFiles = kCommon | bit(Parameter::direct) | bit(Parameter::engine);

struct SchemeRow {
  std::string_view name;
  Scheme scheme;
  unsigned parameters;
  std::string_view example;
};
constexpr std::array<SchemeRow, 8> kSchemes{
    {{"dram", Scheme::dram, kCommon, "dram:4G"},
     {"numa", Scheme::numa, kCommon, "numa:1?size=4G"},
     {"dax", Scheme::dax, kCommon, "dax:/dev/dax0.0?size=8G"},
     {"file", Scheme::file, kOfFiles, "file:/var/lib/kv.pool?size=8G"},
     {"shm", Scheme::shm, kCommon, "shm:/kv?size=4G"},
     {"soft", Scheme::soft, kCommon, "soft:?size=1G"},
     {"cxl", Scheme::cxl, kCommon, "cxl:/dev/speckv0?size=8G"},
     {"sim", Scheme::sim, kCommon, "sim:?size=1M"}}};

Status refuse(std::string_view uri, const std::string& sentence) {
  return {Code::invalid_argument, "device \"" + std::string(uri) + "\": " + sentence};
}

// The whole of `text` as a number, digits only.
template <class T>
std::optional<T> parse_number(std::string_view text) noexcept {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

std::optional<std::chrono::nanoseconds> parse_seconds(std::string_view text) noexcept {
  const auto seconds = parse_number<double>(text);
  // At most a day; also refuses what is rounded to nothing.
  if (!seconds || !(*seconds >= 1e-3) || !(*seconds <= 86400)) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(*seconds * 1e9));
}

// Returns what is wrong with `value`, or an empty string.
std::string set_parameter(DeviceUri& uri, Parameter parameter, std::string_view value) {
  switch (parameter) {
    case Parameter::size: {
      const auto size = parse_size(value);
      if (!size.ok() || *size == 0) return std::string(kExpectedSize);
      uri.size = *size;
      return {};
    }
    case Parameter::direct:
      if (value != "0" && value != "1") return "direct is 0 or 1";
      uri.direct = value == "1";
      return {};
    case Parameter::engine:
      if (value != "uring" && value != "pread") return "engine is uring or pread";
      uri.engine = value == "uring" ? FileEngine::uring : FileEngine::pread;
      return {};
    case Parameter::throttle: {
      const auto link = find_link_model(value);
      if (!link.ok()) return link.error().message();
      uri.throttle = *link;
      return {};
    }
    case Parameter::timeout: {
      const auto timeout = parse_seconds(value);
      if (!timeout) return "timeout is a number of seconds between 0.001 and 86400";
      uri.timeout = *timeout;
      return {};
    }
  }
  return "unknown parameter";
}

std::string parse_parameters(DeviceUri& uri, const SchemeRow& row,
                             std::string_view text) {
  unsigned seen = 0;
  while (true) {
    const std::size_t end = text.find('&');
    const std::string_view item = text.substr(0, end);
    const std::size_t equals = item.find('=');
    const std::string name(item.substr(0, equals));
    if (equals == std::string_view::npos) return "\"" + name + "\" is not name=value";
    const ParameterName* found = nullptr;
    for (const auto& known : kParameters) {
      if (known.name == name && (row.parameters & bit(known.parameter)) != 0)
        found = &known;
    }
    if (found == nullptr) {
      return std::string(row.name) + ": has no parameter \"" + name + "\"";
    }
    if ((seen & bit(found->parameter)) != 0) return name + " is given twice";
    seen |= bit(found->parameter);
    std::string wrong = set_parameter(uri, found->parameter, item.substr(equals + 1));
    if (!wrong.empty()) return wrong;
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
}

// What stands between the scheme and the parameters, which are known by now.
std::string parse_place(DeviceUri& uri, std::string_view place) {
  switch (uri.scheme) {
    case Scheme::dram:
    case Scheme::soft:
    case Scheme::sim:
      if (place.empty()) return {};
      if (uri.size != 0) return "the size is given twice";
      return set_parameter(uri, Parameter::size, place);
    case Scheme::numa: {
      const auto node = parse_number<int>(place);
      if (!node || *node > 4095) return "a node is a number from 0 to 4095";
      uri.node = *node;
      return {};
    }
    case Scheme::shm:
      if (!valid_shm_name(place))
        return "a name is \"/\" and up to 254 characters, no \"/\"";
      uri.path = place;
      return {};
    case Scheme::dax:
    case Scheme::file:
    case Scheme::cxl:
      if (place.empty()) return "the path is missing";
      if (place.find('\0') != std::string_view::npos) return "the path has a NUL in it";
      uri.path = place;
      return {};
  }
  return "unknown scheme";
}

bool needs_size(Scheme scheme) noexcept {
  return scheme == Scheme::dram || scheme == Scheme::numa || scheme == Scheme::soft ||
         scheme == Scheme::sim;
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  const Status wrong{Code::invalid_argument,
                     "\"" + std::string(text.substr(0, 64)) +
                         "\" is not a size: digits and " +
                         "perhaps one of K, M, G, T, below 2^63 bytes"};
  unsigned shift = 0;
  if (!text.empty()) {
    switch (text.back()) {
      case 'K':
        shift = 10;
        break;
      case 'M':
        shift = 20;
        break;
      case 'G':
        shift = 30;
        break;
      case 'T':
        shift = 40;
        break;
      default:
        break;
    }
  }
  if (shift != 0) text.remove_suffix(1);
  const auto count = parse_number<std::uint64_t>(text);
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (!count || *count > kMost >> shift) return wrong;
  return *count << shift;
}

bool valid_shm_name(std::string_view name) noexcept {
  if (name.size() < 2 || name.size() > 255 || name.front() != '/') return false;
  const std::string_view rest = name.substr(1);
  if (rest == "." || rest == "..") return false;
  return rest.find('/') == std::string_view::npos &&
         rest.find('\0') == std::string_view::npos;
}

Result<DeviceUri> parse_uri(std::string_view text) {
  if (text.size() > kMaxUri) return refuse(text.substr(0, 64), "the name is too long");
  const std::size_t colon = text.find(':');
  const SchemeRow* row = nullptr;
  std::string known;
  for (const auto& candidate : kSchemes) {
    known += (known.empty() ? "" : ", ") + std::string(candidate.name) + ":";
    if (colon != std::string_view::npos && text.substr(0, colon) == candidate.name) {
      row = &candidate;
    }
  }
  if (row == nullptr) return refuse(text, "the schemes are " + known);

  DeviceUri uri;
  uri.scheme = row->scheme;
  uri.text = text;
  const std::string_view rest = text.substr(colon + 1);
  const std::size_t question = rest.find('?');
  std::string wrong;
  if (question != std::string_view::npos) {
    wrong = parse_parameters(uri, *row, rest.substr(question + 1));
  }
  if (wrong.empty()) wrong = parse_place(uri, rest.substr(0, question));
  if (wrong.empty() && uri.size == 0 && needs_size(uri.scheme))
    wrong = "the size is missing";
  if (!wrong.empty()) {
    return refuse(text, wrong + " (for example " + std::string(row->example) + ")");
  }
  return uri;
}

}  // namespace speckv

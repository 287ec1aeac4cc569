// speckvctl config and reset: the driver's attributes of a card, below /sys.
#include <cerrno>
#include <fstream>
#include <system_error>

#include "cli/command.hpp"
#include "cli/watched.hpp"

namespace speckv::cli {
namespace {

// What the driver lets an operator set; weights and thresholds are those of contexts that
// are opened from then on.
constexpr std::string_view kKeys[] = {"w_r",           "w_f",           "w_s",
                                      "w_d",           "evict_thresh",  "prefetch_thresh",
                                      "hysteresis",    "quota_memory",  "quota_queues",
                                      "quota_regions", "quota_contexts"};

bool known(const std::string& key) {
  for (const std::string_view candidate : kKeys) {
    if (candidate == key) return true;
  }
  return false;
}

Result<std::uint64_t> read(const std::string& folder, std::string_view key) {
  std::ifstream file(folder + "/" + std::string(key));
  std::uint64_t value = 0;
  if (file >> value) return value;
  return Status(Code::io_error, std::string(key) + ": cannot be read");
}

// errno is that of the write: a stream keeps nothing else of what the driver says.
Status write(const std::string& folder, const std::string& key,
             const std::string& value) {
  errno = 0;
  std::ofstream file(folder + "/" + key);
  file << value << "\n" << std::flush;
  const int error = errno;
  if (file) return {};
  const Code code =
      error == EINVAL || error == ERANGE ? Code::invalid_argument : Code::io_error;
  return {code, key + ": " + std::generic_category().message(error)};
}

int get(const Arguments& arguments, const std::string& folder) {
  if (!arguments.value.empty()) {
    return fail({Code::invalid_argument, "get takes no value"});
  }
  Json values = Json::object();
  for (const std::string_view key : kKeys) {
    if (!arguments.key.empty() && key != arguments.key) continue;
    const auto value = read(folder, key);
    if (!value.ok()) return fail(value.error());
    values[std::string(key)] = *value;
  }
  if (arguments.json) {
    print_json("config", {{"name", arguments.name}, {"values", values}});
  } else if (!arguments.key.empty()) {
    print(values.begin().value().dump() + "\n");
  } else {
    print_lines(values);
  }
  return kDone;
}

}  // namespace

int config(const Arguments& arguments) {
  if (!arguments.key.empty() && !known(arguments.key)) {
    std::string keys;
    for (const std::string_view key : kKeys)
      keys += (keys.empty() ? "" : ", ") + std::string(key);
    return fail({Code::invalid_argument,
                 "there is no \"" + arguments.key + "\"; there are " + keys});
  }
  const auto folder = card_folder(arguments.name);
  if (!folder.ok()) return fail(folder.error());
  if (arguments.action == "get") return get(arguments, *folder);
  if (arguments.key.empty() || arguments.value.empty()) {
    return fail({Code::invalid_argument, "set takes a key and a value"});
  }
  if (Status done = write(*folder, arguments.key, arguments.value); !done.ok()) {
    return fail(done);
  }
  return kDone;
}

int reset(const Arguments& arguments) {
  const auto folder = card_folder(arguments.name);
  if (!folder.ok()) return fail(folder.error());
  if (Status done = write(*folder, "reset", "1"); !done.ok()) return fail(done);
  return kDone;
}

}  // namespace speckv::cli

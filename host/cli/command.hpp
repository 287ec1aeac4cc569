// cli/command.hpp -- what a speckvctl command is: one row of the table in table.cpp, from
// which arguments are read, and help, man page and completion are written.
//
// Data goes to stdout, messages to stderr. Exit status: 0 done, 1 it failed, 2 bad
// arguments; of `health`: 3 degraded, 4 failed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cxlspeckv/status.hpp"

namespace speckv::cli {

inline constexpr int kDone = 0, kFailed = 1, kBadArguments = 2;
inline constexpr int kDegraded = 3, kUnhealthy = 4;
inline constexpr std::uint64_t kNotGiven = ~std::uint64_t{0};

struct Arguments {
  std::string name{};  // of a device, engine, store or pool
  bool json = false, prom = false;
  double watch = 0, interval = 1, seconds = 1;
  std::string output{}, bytes = "1M";
  std::uint64_t count = kNotGiven, depth = 8;
  // A range of tokens, and what is said of it.
  std::uint64_t request = 0, layer = 0, head = 0, position = 0, tokens = 0;
  std::uint64_t step = kNotGiven;
  bool forget = false, undo = false, victims = false, prefetches = false, others = false;
  std::uint64_t recency = kNotGiven, frequency = kNotGiven, proximity = kNotGiven,
                durability = kNotGiven;
  std::uint64_t evict = kNotGiven, prefetch = kNotGiven, hysteresis = kNotGiven;
  std::string action{}, key{}, value{};
  // Traces: what is read, and how; what they are replayed on.
  std::string trace{}, format{}, part = "all", tiers{}, policy = "lru";
  std::uint64_t block_tokens = 512, seed = 7, kv_bytes = 131072;
  double window = 21600, longest = 1e6, share = 1, warm_up = 0.2;
  std::vector<std::string> command{};  // to run
  std::uint64_t vocabulary = 4096;
};

struct Option {
  using Member =
      std::variant<bool Arguments::*, std::uint64_t Arguments::*, double Arguments::*,
                   std::string Arguments::*, std::vector<std::string> Arguments::*>;
  const char* name;   // "--json"; or "NAME", which has its place instead
  const char* value;  // what stands for its value in the help; "": it has none
  const char* help;
  Member member;
  bool required = false;
  std::uint64_t most = 0xFFFFFFFF;      // of a whole number
  std::vector<const char*> among = {};  // the only values that it may have
};

struct Command {
  const char* name;
  const char* help;
  std::vector<Option> options;
  int (*run)(const Arguments& arguments);
};

const std::vector<Command>& commands();

int list(const Arguments& arguments);
int info(const Arguments& arguments);
int health(const Arguments& arguments);
int stats(const Arguments& arguments);
int top(const Arguments& arguments);
int monitor(const Arguments& arguments);
int step(const Arguments& arguments);
int hot(const Arguments& arguments);
int evict(const Arguments& arguments);
int prefetch(const Arguments& arguments);
int share(const Arguments& arguments);
int weights(const Arguments& arguments);
int telemetry(const Arguments& arguments);
int selftest(const Arguments& arguments);
int bench(const Arguments& arguments);
int config(const Arguments& arguments);
int reset(const Arguments& arguments);
int trace(const Arguments& arguments);
int train(const Arguments& arguments);
int generate(const Arguments& arguments);

// Says what went wrong, and returns the exit status for it.
int fail(const Status& status);
void say(std::string_view text);    // a line on stderr
void print(std::string_view text);  // on stdout, as it is
// A document of docs/speckvctl.schema.json: the members of `told`, after what every
// document begins with. On many lines, or on one.
void print_json(std::string_view command, const nlohmann::ordered_json& told,
                bool one_line = false);
// What `told` has, a line each.
void print_lines(const nlohmann::ordered_json& told);

// "8G", "512M", "1000": exact, in the largest unit that divides it.
std::string size_text(unsigned long long bytes);
// Pads on the right to `width` columns.
std::string column(std::string_view text, std::size_t width);

}  // namespace speckv::cli

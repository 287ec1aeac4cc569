// speckvctl health, stats, top and monitor: one look, or one after the other.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include <unistd.h>

#include "cli/command.hpp"
#include "cli/watched.hpp"

namespace speckv::cli {
namespace {

// What Prometheus wants of a label: these three are escaped.
std::string label(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

std::string prometheus(const std::string& name, const Look& look) {
  std::string text;
  const auto family = [&](const Number& n) {
    text += "# TYPE cxlspeckv_" + n.metric + (n.counts ? " counter\n" : " gauge\n");
  };
  const auto sample = [&](const Number& n, const std::string& tier) {
    text += "cxlspeckv_" + n.metric + "{name=\"" + label(name) + "\"" +
            (tier.empty() ? "" : ",tier=\"" + label(tier) + "\"") + "} " +
            std::to_string(n.value) + "\n";
  };
  std::vector<Number> all = look.numbers;
  all.push_back({"up", "up", false, look.state == Look::State::failed ? 0U : 1U});
  all.push_back({"degraded", "degraded", false, look.reasons.empty() ? 0U : 1U});
  for (const Number& n : all) {
    family(n);
    sample(n, "");
  }
  for (std::size_t i = 0; !look.tiers.empty() && i < look.tiers[0].numbers.size(); ++i) {
    family(look.tiers[0].numbers[i]);
    for (const Look::Tier& tier : look.tiers)
      sample(tier.numbers[i], tier.name);
  }
  return text;
}

std::string trimmed(const std::string& line) {
  return line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

// A column for each tier; `cell` says what stands for a number.
template <class Cell>
std::string table(const Look& look, Cell&& cell) {
  std::string text;
  for (std::size_t i = 0; i < look.numbers.size(); ++i) {
    text += trimmed(column(look.numbers[i].key, 22) + cell(look.numbers[i], 0U, i));
  }
  if (look.tiers.empty()) return text;
  std::string line = column("tier", 22);
  for (const Look::Tier& tier : look.tiers)
    line += column(tier.name, 22);
  text += trimmed(line);
  for (std::size_t i = 0; i < look.tiers[0].numbers.size(); ++i) {
    line = column(look.tiers[0].numbers[i].key, 22);
    for (std::size_t t = 0; t < look.tiers.size(); ++t)
      line += column(cell(look.tiers[t].numbers[i], t + 1, i), 22);
    text += trimmed(line);
  }
  return text;
}

std::string plain(const Look& look) {
  std::string text;
  for (const auto& [key, value] : look.facts.items()) {
    const bool is_text = value.is_string();
    text += column(key, 22) + (is_text ? value.get<std::string>() : value.dump()) + "\n";
  }
  return text + table(look, [](const Number& n, std::size_t, std::size_t) {
           return std::to_string(n.value);
         });
}

// Replaces the file at once: whoever reads it sees all of one look.
Status write_file(const std::string& path, const std::string& text) {
  const std::string fresh = path + ".new";
  {
    std::ofstream file(fresh, std::ios::binary | std::ios::trunc);
    file << text << std::flush;
    if (!file) return {Code::io_error, fresh + ": cannot be written"};
  }
  std::error_code error;
  std::filesystem::rename(fresh, path, error);
  if (error) return {Code::io_error, path + ": " + error.message()};
  return {};
}

void rest(double seconds) {
  std::fflush(stdout);
  // sleeps: the interval that was asked for
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

Status not_there(const Status& reason) {
  return reason;
}

// Looks `count` times. show(look, number, seconds since the look before): a Status.
// missing(why there is nothing to see): ok to look again all the same.
template <class Show, class Missing = Status (*)(const Status&)>
int look_again(const Arguments& arguments, double interval, std::uint64_t count,
               Show&& show, Missing&& missing = not_there) {
  auto before = std::chrono::steady_clock::now();
  bool there = true;
  for (std::uint64_t n = 0; n < count; ++n) {
    if (n != 0) rest(interval);
    const auto look = look_at(arguments.name);
    there = look.ok();
    if (!there) {
      if (Status end = missing(look.error()); !end.ok()) return fail(end);
      continue;
    }
    const auto now = std::chrono::steady_clock::now();
    const double passed = std::chrono::duration<double>(now - before).count();
    if (Status shown = show(*look, n, passed); !shown.ok()) return fail(shown);
    before = now;
  }
  return there ? kDone : kFailed;
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char text[32];
  ::gmtime_r(&now, &parts);
  const std::size_t length = std::strftime(text, sizeof text, "%FT%TZ", &parts);
  return {text, length};
}

Json named(const Arguments& arguments, const Look& look) {
  Json told = {{"name", arguments.name}};
  told.update(to_json(look));
  return told;
}

}  // namespace

// What cannot be looked at has failed: that is an answer.
int health(const Arguments& arguments) {
  auto found = look_at(arguments.name);
  if (!found.ok() && found.error().code() == Code::invalid_argument) {
    return fail(found.error());
  }
  Look look;
  if (found.ok()) {
    look = *std::move(found);
  } else {
    look.state = Look::State::failed;
    look.reasons.push_back(found.error().message());
  }
  if (arguments.json) {
    print_json("health", {{"name", arguments.name},
                          {"state", state_text(look.state)},
                          {"reasons", look.reasons}});
  } else {
    print(std::string(state_text(look.state)) + "\n");
    for (const std::string& reason : look.reasons)
      print("  " + reason + "\n");
  }
  switch (look.state) {
    case Look::State::good:
      return kDone;
    case Look::State::degraded:
      return kDegraded;
    case Look::State::failed:
      break;
  }
  return kUnhealthy;
}

int stats(const Arguments& arguments) {
  if (arguments.json && arguments.prom) {
    return fail({Code::invalid_argument, "--json or --prom, not both"});
  }
  if (!arguments.output.empty() && !arguments.prom) {
    return fail({Code::invalid_argument, "--output is for --prom"});
  }
  const bool again = arguments.watch > 0;
  const std::uint64_t count = arguments.count != kNotGiven ? arguments.count
                              : again                      ? kNotGiven
                                                           : 1;
  const auto show = [&](const Look& look, std::uint64_t n, double) -> Status {
    if (arguments.json) {
      print_json("stats", named(arguments, look), again);
    } else if (!arguments.output.empty()) {
      return write_file(arguments.output, prometheus(arguments.name, look));
    } else if (arguments.prom) {
      print(prometheus(arguments.name, look));
    } else {
      print((n != 0 ? "\n" : "") + plain(look));
    }
    return {};
  };
  // Who reads the file is told that it is not up, and no numbers of the past. It may come
  // back as long as it is watched.
  std::string said;
  const auto missing = [&](const Status& reason) -> Status {
    if (arguments.output.empty() || reason.code() == Code::invalid_argument) {
      return reason;
    }
    Look nothing;
    nothing.state = Look::State::failed;
    nothing.reasons.push_back(reason.message());
    Status told = write_file(arguments.output, prometheus(arguments.name, nothing));
    if (!told.ok() || !again) return told.ok() ? reason : told;
    if (said != reason.message()) say(reason.message());
    said = reason.message();
    return {};
  };
  return look_again(arguments, again ? arguments.watch : 1, count, show, missing);
}

int top(const Arguments& arguments) {
  Look before;
  const bool screen = ::isatty(STDOUT_FILENO) == 1;
  const auto show = [&](const Look& look, std::uint64_t n, double seconds) -> Status {
    const auto numbers = [&](std::size_t section) -> const std::vector<Number>& {
      return section == 0 ? before.numbers : before.tiers[section - 1].numbers;
    };
    const auto cell = [&](const Number& number, std::size_t section, std::size_t i) {
      std::string text = std::to_string(number.value);
      if (!number.counts || n == 0 || seconds <= 0) return text;
      const std::uint64_t old = numbers(section)[i].value;
      const auto grown = static_cast<double>(number.value - std::min(old, number.value));
      return text + " +" + std::to_string(static_cast<std::uint64_t>(grown / seconds)) +
             "/s";
    };
    // A store may have been made anew with other tiers.
    if (look.tiers.size() != before.tiers.size() ||
        look.numbers.size() != before.numbers.size()) {
      n = 0;
    }
    print((screen ? "\x1b[H\x1b[J" : "") + now_text() + " " + arguments.name + " " +
          state_text(look.state) + "\n" + table(look, cell));
    before = look;
    return {};
  };
  return look_again(arguments, arguments.interval, arguments.count, show);
}

int monitor(const Arguments& arguments) {
  const auto show = [&](const Look& look, std::uint64_t, double) -> Status {
    Json told = {{"time", now_text()}};
    told.update(named(arguments, look));
    print_json("monitor", told, true);
    return {};
  };
  return look_again(arguments, arguments.interval, arguments.count, show);
}

}  // namespace speckv::cli

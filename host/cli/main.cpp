// speckvctl: the operator's view of devices, engines, stores and pools.
#include <cstdio>
#include <exception>
#include <iostream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"

namespace speckv::cli {
namespace {

constexpr double kLongest = 1e6;  // seconds

bool positional(const Option& option) {
  return option.name[0] != '-';
}

void add(CLI::App& app, const Option& option, Arguments& arguments) {
  const auto bind = [&](auto member) -> CLI::Option* {
    auto& target = arguments.*member;
    using Value = std::decay_t<decltype(target)>;
    if constexpr (std::is_same_v<Value, bool>) {
      return app.add_flag(option.name, target, option.help);
    } else if constexpr (std::is_same_v<Value, std::uint64_t>) {
      return app.add_option(option.name, target, option.help)
          ->check(CLI::Range(std::uint64_t{0}, option.most));
    } else if constexpr (std::is_same_v<Value, double>) {
      return app.add_option(option.name, target, option.help)
          ->check(CLI::Range(1e-3, kLongest));
    } else {
      return app.add_option(option.name, target, option.help);
    }
  };
  CLI::Option* added = std::visit(bind, option.member);
  added->required(option.required);
  if (!positional(option) && option.value[0] != '\0') added->option_text(option.value);
  if (!option.among.empty()) {
    added->check(CLI::IsMember(
        std::vector<std::string>(option.among.begin(), option.among.end())));
  }
}

// One line about what is wrong with the arguments. Of a word that is no command CLI11
// only says that a command is wanted.
int refuse(const CLI::App& app, int argc, char** argv, const std::string& reason) {
  const bool named = argc > 1 && argv[1][0] != '-';
  const std::string what = named && app.get_subcommands().empty()
                               ? std::string("no such command: ") + argv[1]
                               : reason.substr(0, reason.find('\n'));
  say(what + " (see speckvctl --help)");
  return kBadArguments;
}

int run(int argc, char** argv) {
  CLI::App app{"speckvctl: devices, engines, stores and pools of cxlspeckv"};
  app.require_subcommand(1);
  app.footer(
      "Exit status: 0 done, 1 it failed, 2 bad arguments; of health: 3 degraded, 4 "
      "failed.");
  Arguments arguments;
  const Command* chosen = nullptr;
  for (const Command& command : commands()) {
    CLI::App* sub = app.add_subcommand(command.name, command.help);
    for (const Option& option : command.options)
      add(*sub, option, arguments);
    sub->callback([&chosen, &command] { chosen = &command; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    return refuse(app, argc, argv, error.what());
  }
  return chosen->run(arguments);
}

}  // namespace

int fail(const Status& status) {
  say(status.message());
  return status.code() == Code::invalid_argument ? kBadArguments : kFailed;
}

void say(std::string_view text) {
  std::fprintf(stderr, "speckvctl: %.*s\n", static_cast<int>(text.size()), text.data());
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void print_json(std::string_view command, const nlohmann::ordered_json& told,
                bool one_line) {
  nlohmann::ordered_json document = {{"schema", 1}, {"command", command}};
  document.update(told);
  print(document.dump(one_line ? -1 : 2) + "\n");
}

void print_lines(const nlohmann::ordered_json& told) {
  for (const auto& [key, value] : told.items()) {
    const std::string text = value.is_string()    ? value.get<std::string>()
                             : value.is_boolean() ? (value.get<bool>() ? "yes" : "no")
                             : value.is_null()    ? "-"
                                                  : value.dump();
    print(column(key, 22) + text + "\n");
  }
}

std::string size_text(unsigned long long bytes) {
  constexpr std::string_view kUnits = "KMGT";
  std::string unit;
  for (const char u : kUnits) {
    if (bytes == 0 || bytes % 1024 != 0) break;
    bytes /= 1024;
    unit = u;
  }
  return std::to_string(bytes) + unit;
}

std::string column(std::string_view text, std::size_t width) {
  std::string padded(text);
  padded.resize(std::max(width, text.size() + 1), ' ');
  return padded;
}

}  // namespace speckv::cli

int main(int argc, char** argv) {
  try {
    const int status = speckv::cli::run(argc, argv);
    // What could not be written is not done.
    return std::fflush(stdout) == 0 ? status : speckv::cli::kFailed;
  } catch (const std::exception& error) {
    speckv::cli::say(error.what());
    return speckv::cli::kFailed;
  }
}

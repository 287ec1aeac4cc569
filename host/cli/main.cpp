// speckvctl: the operator's view of devices, pools and the library itself.
#include <array>
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>

#include "cli/command.hpp"

namespace speckv::cli {
namespace {

constexpr std::array<Command, 4> kCommands{{
    {"list", Takes::nothing, "", "the devices that this machine offers", list},
    {"info", Takes::a_name, "URI", "opens a device and says what it is", info},
    {"stats", Takes::a_name, "NAME",
     "what a shared store counts while it is open, or what a pool holds: a path or URI",
     stats},
    {"selftest", Takes::perhaps_a_name, "URI",
     "round trips through every codec on all kinds of device, or on one that is blank",
     selftest},
}};

int run(int argc, char** argv) {
  CLI::App app{"speckvctl: devices, pools and self-tests of cxlspeckv"};
  app.require_subcommand(1);
  app.footer("Exit status: 0 done, 1 it failed, 2 bad arguments.");
  Arguments arguments;
  const Command* chosen = nullptr;
  for (const Command& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.help);
    sub->add_flag("--json", arguments.json, "machine-readable output");
    if (command.takes != Takes::nothing) {
      CLI::Option* name = sub->add_option(command.what, arguments.name, "");
      if (command.takes == Takes::a_name) name->required();
    }
    sub->callback([&chosen, &command] { chosen = &command; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == 0;  // --help
    app.exit(error, asked ? std::cout : std::cerr, std::cerr);
    return asked ? kDone : kBadArguments;
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

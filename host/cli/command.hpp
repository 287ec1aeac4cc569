// cli/command.hpp -- what a speckvctl command is: one row of the table in main.cpp.
//
// Data goes to stdout, messages to stderr. Exit status: 0 done, 1 it failed, 2 bad
// arguments.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cxlspeckv/status.hpp"

namespace speckv::cli {

inline constexpr int kDone = 0, kFailed = 1, kBadArguments = 2;

struct Arguments {
  std::string name{};  // the positional argument, if the command takes one
  bool json = false;
};

enum class Takes : unsigned char { nothing, a_name, perhaps_a_name };

struct Command {
  const char* name;
  Takes takes;
  const char* what;  // the positional argument: its name in the help, and what it is
  const char* help;
  int (*run)(const Arguments& arguments);
};

int list(const Arguments& arguments);
int info(const Arguments& arguments);
int stats(const Arguments& arguments);
int selftest(const Arguments& arguments);

// Says what went wrong, and returns the exit status for it.
int fail(const Status& status);
void say(std::string_view text);    // a line on stderr
void print(std::string_view text);  // on stdout, as it is

// "8G", "512M", "1000": exact, in the largest unit that divides it.
std::string size_text(unsigned long long bytes);
// Pads on the right to `width` columns.
std::string column(std::string_view text, std::size_t width);

}  // namespace speckv::cli

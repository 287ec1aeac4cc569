// cli/trace.hpp -- what the actions of `speckvctl trace` share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "trace/read.hpp"
#include "trace/replay.hpp"

namespace speckv::cli {

// A file, or the standard input where it is "-". not_found, io_error.
Result<std::string> contents(const std::string& name);
// The part of the recording that the arguments select; `others`: the sessions that the
// seed does not draw. not_found, io_error: the file;
// invalid_argument: what is in it.
Result<trace::Trace> recorded(const Arguments& arguments, std::uint64_t seed,
                              bool others = false);

int record_trace(const Arguments& arguments);   // what a command's prefetchers are told
int replay_trace(const Arguments& arguments);   // replay and oracle
int compare_trace(const Arguments& arguments);  // every policy, over seeds

// What compare found. Intervals are half the width of 95 %, over seeds; `first`: what
// replay says, of the first seed.
struct Report {
  struct Row {
    std::string name, help;
    double stall = 0, stall_half = 0;  // s
    double cut = 0, cut_half = 0;      // of the stall of "lru" with the same seed
    nlohmann::ordered_json first{};
    std::vector<trace::StagedSoFar> over_time{};  // of the first seed
  };
  std::string trace, node;
  std::uint64_t seeds = 1;
  std::vector<Row> rows{};
};
int write_report(const Report& report, const Arguments& arguments);

}  // namespace speckv::cli

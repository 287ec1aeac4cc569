// rtl/command_fixture.hpp -- speckv_command at work beside the golden card.
#pragma once

#include <map>
#include <optional>

#include "Vspeckv_command.h"
#include "rtl/command_bench.hpp"

namespace speckv::rtl {

using engine::Answer;
using engine::Counter;
using engine::Descriptor;
using engine::Opcode;
using engine::Region;

// Regions 1 and 3 are all of device memory, 2 and 4 of host memory, 5 and 6 the same in
// pages, of tenant 0 and 1.
inline constexpr std::uint32_t kPaged = 5, kFirstOther = 7;

struct Outcome {
  Answer answer = Answer::ok;
  std::uint32_t result = 0, crc = 0;
};

class Command : public ::testing::Test {
 protected:
  Command();
  std::uint32_t any(std::uint64_t n) { return static_cast<std::uint32_t>(random_() % n); }

  // ---- both cards ---------------------------------------------------------------------

  void renew_regions();
  // The block has been reset: so is the model. Bytes stay.
  void start_over();
  // REQUIRES: no line is in the fast buffer.
  void renew_memory();
  void inject(engine::Inject kind, std::uint64_t argument);
  // Device memory has new bytes and no poison, the fast buffer nothing.
  void heal();
  // A descriptor, and whether all that comes of it is the same. What the golden model has
  // and the block has not (a codec) is not given to the former.
  void both(const Words& words, std::uint32_t tenant);
  void reset_both(unsigned how);  // 0: rst_ni, 1: clear_i

  // ---- the block ----------------------------------------------------------------------

  void cycle();
  void give(const Words& words, std::uint32_t tenant);
  void await();
  // The same as give() and await().
  Answer tell(const Descriptor& d);

  static Descriptor describe(Opcode opcode, std::uint16_t tag);
  static Words words_of(const Descriptor& d);
  // Most are sound; what is not is so in any way.
  Descriptor any_descriptor(std::uint32_t tenant);
  // A layer that `d`, told to be good, has left somewhere.
  void remember(const Descriptor& d, std::uint32_t tenant);

  Random random_{42};
  Sim<Vspeckv_command> sim_{9};
  std::vector<Region> regions_ = std::vector<Region>(kEntries);
  std::array<std::uint64_t, kLines> tags_{};  // of the fast buffer: line + 1
  std::uint32_t poisoned_ = 0;
  bool fault_armed_ = false, running_ = false;
  bool stalls_ = true, device_read_fails_ = false;
  Willing check_ready_;
  std::uint64_t started_at_ = 0, given_at_ = 0;
  std::optional<Outcome> outcome_;  // of the descriptor given last
  std::map<Counter, std::uint64_t> counts_;
  std::map<Answer, std::uint64_t> told_;
  std::map<bool, std::uint64_t>
      walks_;  // of a source, of a target; since the last give()

 private:
  struct Waiting {
    std::uint64_t at = 0;
    std::optional<Region> region{};
  };
  struct Coded {
    Descriptor decode{};
    std::uint32_t tenant = 0;
  };

  Job job();
  void end_walk();
  std::uint64_t& tag(std::uint64_t line) { return tags_[line % kLines]; }
  void end_job();
  void observe(std::uint64_t now);
  void take_check(std::uint64_t now);
  void compare_counts(const Descriptor& d);
  // Empty: it may not be used.
  std::vector<Range> range(const Descriptor& d, std::uint32_t tenant, bool writing);
  bool known_layer(Descriptor& d, std::uint32_t tenant);
  void any_layer(Descriptor& d);

  std::vector<std::byte> pool_ = std::vector<std::byte>(1U << 19);
  Memories mine_;
  Golden golden_;
  std::optional<Waiting> answer_;  // of the region table
  Job job_;
  std::uint64_t done_at_ = 0;
  std::optional<std::uint64_t> walk_ends_;  // the cycle
  std::map<Counter, std::uint64_t> counted_;
  std::vector<Coded> coded_;
};

}  // namespace speckv::rtl

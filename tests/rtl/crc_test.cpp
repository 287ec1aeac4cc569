// The streaming checksum against the library's: any length, back to back and with gaps,
// resets.
#include <cstdio>
#include <deque>

#include <gtest/gtest.h>

#include "Vspeckv_crc.h"
#include "base/checksum.hpp"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

TEST(Crc, IsTheLibrarys) {
  Sim<Vspeckv_crc> sim(1);
  Random random(1);
  sim->in_valid_i = 0;
  sim.reset();
  struct Wanted {
    std::uint32_t crc;
    std::uint64_t cycle;
  };
  std::deque<Wanted> wanted;
  Willing in;
  std::uint64_t messages = 0;
  const auto tick = [&] {
    sim.settle();
    const bool due = !wanted.empty() && wanted.front().cycle == sim.cycle();
    ASSERT_EQ(sim->out_valid_o != 0, due);
    if (due) {
      ASSERT_EQ(sim->out_crc_o, wanted.front().crc);
      wanted.pop_front();
      ++messages;
    }
    sim.edge();
  };
  for (std::uint64_t i = 0; i < scaled(3000, 300); ++i) {
    if (i % 50 == 0) in = Willing::any(random);
    const std::size_t size = 1 + random() % (random() % 4 == 0 ? 5000 : 200);
    std::vector<std::byte> message(size), padded(size + 63);
    for (std::byte& byte : message)
      byte = static_cast<std::byte>(random());
    std::copy(message.begin(), message.end(), padded.begin());
    // What lies behind the last byte is not the message's.
    for (std::size_t at = size; at < padded.size(); ++at)
      padded[at] = static_cast<std::byte>(random());
    const bool reset = random() % 20 == 0;
    for (std::size_t at = 0; at < size; at += 64) {
      sim->in_valid_i = 0;
      while (!in(random))
        ASSERT_NO_FATAL_FAILURE(tick());
      const Beat beat =
          beat_at(reinterpret_cast<const std::uint8_t*>(padded.data()) + at);
      std::copy(beat.begin(), beat.end(), sim->in_data_i.m_storage);
      sim->in_valid_i = 1;
      sim->in_bytes_i = static_cast<std::uint8_t>(std::min<std::size_t>(64, size - at));
      sim->in_last_i = at + 64 >= size;
      if (sim->in_last_i != 0) wanted.push_back({crc32c(0, message), sim.cycle() + 17});
      ASSERT_NO_FATAL_FAILURE(tick());
      if (reset && random() % 4 == 0) break;
    }
    sim->in_valid_i = 0;
    if (reset) {
      sim.reset();
      wanted.clear();
    }
  }
  sim->in_valid_i = 0;
  for (int i = 0; i < 20; ++i)
    ASSERT_NO_FATAL_FAILURE(tick());
  EXPECT_TRUE(wanted.empty());
  std::printf("%llu messages\n", static_cast<unsigned long long>(messages));
  EXPECT_GT(messages, 200U);
}

}  // namespace
}  // namespace speckv::rtl

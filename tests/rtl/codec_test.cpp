// The codec pipelines against the library: every bit of every unit, with the ports of
// both stalling each other at random, and resets in the middle. The rates and latencies
// that hardware/README.md promises.
#include <cstdio>
#include <type_traits>

#include <gtest/gtest.h>

#include "Vsmall_decode.h"
#include "Vsmall_encode.h"
#include "Vspeckv_decode.h"
#include "Vspeckv_encode.h"
#include "rtl/codec_bench.hpp"

namespace speckv::rtl {
namespace {

constexpr bool kEncode = true, kDecode = false;
template <bool encode>
using Block = std::conditional_t<encode, Vspeckv_encode, Vspeckv_decode>;

// Units of at most `most` values, `values` in all.
template <class Top, bool encode>
void random_units(bool int8, std::uint64_t most, std::uint64_t values) {
  const std::uint64_t seeds = 50;
  std::uint64_t compared = 0, units = 0, refused = 0, resets = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    CodecBench<Top> bench(seed, encode);
    while (compared * seeds < values * seed) {
      bench.command = Willing::any(random);
      bench.in = Willing::any(random);
      bench.out = Willing::any(random);
      std::vector<Unit> some(1 + random() % 6);
      for (Unit& unit : some) {
        const Shape shape = any_shape(random, int8, most);
        unit = encode ? unit_to_encode(random, shape) : unit_to_decode(random, shape);
      }
      const bool reset = random() % 4 == 0;
      if (!reset) {
        for (const Unit& unit : some) {
          compared += unit.bad ? 0 : unit.shape.values();
          refused += unit.bad;
        }
        units += some.size();
      }
      resets += reset;
      ASSERT_EQ(bench.run(std::move(some), reset ? 1 + random() % 2000 : 0), "");
    }
  }
  std::printf(
      "%llu values of %llu units compared, %llu units refused, %llu resets\n",
      static_cast<unsigned long long>(compared), static_cast<unsigned long long>(units),
      static_cast<unsigned long long>(refused), static_cast<unsigned long long>(resets));
  if (values < 1'000'000) return;  // too few to be sure of either
  EXPECT_GT(refused, 0U);
  EXPECT_GT(resets, 0U);
}

// At night, of scale 10, 1e9 values.
template <bool encode>
void any_units(bool int8) {
  const std::uint64_t values = scaled(1e7, 50'000);
  random_units<Block<encode>, encode>(int8, 65536,
                                      values > 10'000'000 ? 10 * values : values);
}
TEST(Encode, Int8Random) {
  any_units<kEncode>(true);
}
TEST(Encode, Kvq4Random) {
  any_units<kEncode>(false);
}
TEST(Decode, Int8Random) {
  any_units<kDecode>(true);
}
TEST(Decode, Kvq4Random) {
  any_units<kDecode>(false);
}

// The small set, whose queues hold one unit of this size and no more.
TEST(Encode, Small) {
  for (const bool int8 : {true, false})
    random_units<Vsmall_encode, kEncode>(int8, 8192, scaled(1e6, 50'000));
}
TEST(Decode, Small) {
  for (const bool int8 : {true, false})
    random_units<Vsmall_decode, kDecode>(int8, 8192, scaled(1e6, 50'000));
}

// The bytes that the codecs' first version is fixed to (tests/vectors).
template <bool encode>
void golden() {
  CodecBench<Block<encode>> bench(1, encode);
  for (const char* name : {"int8", "kvq4"}) {
    std::vector<Unit> units = golden_units(name, !encode);
    ASSERT_GE(units.size(), 8U) << name;
    EXPECT_EQ(bench.run(std::move(units)), "") << name;
  }
}
TEST(Encode, Golden) {
  golden<kEncode>();
}
TEST(Decode, Golden) {
  golden<kDecode>();
}

// The widest rows and longest units that a command may name.
template <bool encode>
void extents() {
  Random random(1);
  CodecBench<Block<encode>> bench(1, encode);
  constexpr Shape kShapes[] = {
      {true, false, false, 1, 65535},  {true, false, true, 65535, 1},
      {true, false, true, 1, 1},       {true, false, false, 7, 33},
      {false, true, false, 256, 1024}, {false, false, true, 256, 1024},
      {false, true, true, 16, 16},     {false, false, false, 16, 16},
  };
  for (const Shape& shape : kShapes) {
    std::vector<Unit> units(2);
    for (Unit& unit : units)
      unit = encode ? unit_to_encode(random, shape) : unit_to_decode(random, shape);
    EXPECT_EQ(bench.run(std::move(units)), "") << shape.text();
  }
}
TEST(Encode, Extents) {
  extents<kEncode>();
}
TEST(Decode, Extents) {
  extents<kDecode>();
}

// ---- Figures
// ------------------------------------------------------------------------------

// Plain bytes a clock, from the end of the eighth of equal units to that of the
// sixteenth.
template <bool encode>
double rate(const Shape& shape) {
  Random random(1);
  CodecBench<Block<encode>> bench(1, encode);
  std::vector<Unit> units(16);
  for (Unit& unit : units)
    unit = encode ? unit_to_encode(random, shape) : unit_to_decode(random, shape);
  std::vector<Unit> first(units.begin(), units.begin() + 8);
  EXPECT_EQ(bench.run(first), "");
  const std::uint64_t start = bench.given.back();
  CodecBench<Block<encode>> again(1, encode);
  EXPECT_EQ(again.run(units), "");
  const std::uint64_t end = again.given.back();
  return 8.0 * 2.0 * static_cast<double>(shape.values()) /
         static_cast<double>(end - start);
}

TEST(CodecFigures, PlainBytesAClock) {
  constexpr Shape kShapes[] = {{true, false, false, 64, 128},
                               {false, true, false, 64, 128},
                               {false, false, false, 64, 128},
                               {false, true, true, 16, 128},
                               {true, false, true, 16, 128}};
  for (const Shape& shape : kShapes) {
    const double encoding = rate<kEncode>(shape), decoding = rate<kDecode>(shape);
    std::printf("%-22s encode %5.2f, decode %5.2f plain bytes a clock\n",
                shape.text().c_str(), encoding, decoding);
    EXPECT_GE(encoding, 63.5) << shape.text();
    EXPECT_GE(decoding, 63.5) << shape.text();
  }
}

// Cycles from the input beat that the first output beat waits for to that output beat.
template <bool encode>
std::uint64_t latency(const Shape& shape, std::size_t waits_for) {
  Random random(1);
  CodecBench<Block<encode>> bench(1, encode);
  std::vector<Unit> units(1);
  units[0] = encode ? unit_to_encode(random, shape) : unit_to_decode(random, shape);
  EXPECT_EQ(bench.run(std::move(units)), "");
  return bench.given.front() - bench.taken[waits_for];
}

TEST(CodecFigures, Latency) {
  struct Case {
    Shape shape;
    std::size_t encode_beat, decode_beat;
  };
  // A beat of parameters holds 32 int8 rows, 16 channels of keys, or 16 rows of values.
  constexpr Case kCases[] = {{{true, false, false, 64, 128}, 32 * 4 - 1, 2},
                             {{false, true, false, 64, 128}, 63 * 4, 8},
                             {{false, false, false, 64, 128}, 16 * 4 - 1, 4}};
  for (const Case& c : kCases) {
    const std::uint64_t encoding = latency<kEncode>(c.shape, c.encode_beat);
    const std::uint64_t decoding = latency<kDecode>(c.shape, c.decode_beat);
    std::printf("%-22s encode %llu, decode %llu cycles to the first beat\n",
                c.shape.text().c_str(), static_cast<unsigned long long>(encoding),
                static_cast<unsigned long long>(decoding));
    EXPECT_LE(encoding, 64U) << c.shape.text();
    EXPECT_LE(decoding, 64U) << c.shape.text();
  }
}

}  // namespace
}  // namespace speckv::rtl

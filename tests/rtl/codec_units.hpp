// rtl/codec_units.hpp -- units of layers, plain and encoded by the library: what the
// codec pipelines are held to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cxlspeckv/codec.hpp"

#include "rtl/sim.hpp"
#include "support/blocks.hpp"

namespace speckv::rtl {

// What a command says.
struct Shape {
  bool int8 = false, keys = false, bf16 = false;
  std::uint32_t tokens = 0, channels = 0;

  std::uint64_t values() const { return std::uint64_t{tokens} * channels; }
  std::string text() const;
};

// Bytes of both sides, padded with zeros to 64.
struct Unit {
  Shape shape;
  std::vector<std::uint8_t> plain, encoded;
  bool bad = false;  // one direction refuses it; what it then gives is not compared
};

// Shapes of every kind that the command may name; a unit has at most `values` values.
Shape any_shape(Random& random, bool int8, std::uint64_t values);

// Values of any temper, encoded by the library. Now and then with a NaN or an infinity.
Unit unit_to_encode(Random& random, const Shape& shape);
// Bytes of an encoder and what the library decodes them to. Now and then damaged.
Unit unit_to_decode(Random& random, const Shape& shape);

// The units of the golden vectors of codec `name` ("int8", "kvq4"), `decoded` being the
// plain side if `decode`.
std::vector<Unit> golden_units(const std::string& name, bool decode);

}  // namespace speckv::rtl

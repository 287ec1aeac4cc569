// codec/hxp_scratch.hpp -- room for encoding an hxp unit (internal).
#pragma once

#include <cstdint>

#include "codec/fixed_unit.hpp"
#include "codec/hx_words.hpp"
#include "codec/hxp.hpp"
#include "codec/hxp_waves.hpp"

namespace speckv::hxp {

struct Scratch {
  rt::Work own, other;                        // this unit, and the head's V (or K)
  std::int32_t offset[HxShape::kMostValues];  // [token][channel], as Offsets has them
  std::int16_t number[HxShape::kMostValues];  // [channel][place]
  std::int64_t prediction[HxShape::kMostTokens];
  // Vectors have whole registers of places: [channel][columns]
  static constexpr std::size_t kMostColumns = std::size_t{2} * HxShape::kMostValues;
  Waves waves;
  alignas(64) std::uint16_t bits[kMostColumns];
  alignas(64) std::int32_t turned[kMostColumns];  // offsets
  alignas(64) std::int16_t numbers[kMostColumns];
  hx::CodedNumbers coded;
};

}  // namespace speckv::hxp

// codec/frame_units.hpp -- one unit (one head's K, or V, or latent rows) of a frame's
// layer, read alone (internal). docs/block-format.md gives the bytes.
//
// Units of most codecs start with a checksum of their own. What `int8`, `int8_delta_rle`
// and `kvq4` write is what cards read and write, too, and has none; a frame holds them
// behind the layer: one CRC-32C a unit.
#pragma once

#include <cstdint>

#include "codec/frame.hpp"

namespace speckv {

inline constexpr std::uint64_t kMaxCheckLines = UINT16_MAX;  // as an entry can say

// Lines of kFrameAlign bytes behind a layer of that codec and layout; 0: none.
std::uint64_t check_lines(CodecId codec, const BlockLayout& coded) noexcept;

// Writes the lines of an encoded layer. Returns their CRC-32C.
// REQUIRES: to.size() == check_lines(codec, coded) * kFrameAlign, more than 0.
std::uint32_t write_checks(CodecId codec, const BlockLayout& coded, Bytes layer,
                           MutableBytes to) noexcept;

// Where a unit of an accepted layer lies, from the start of the frame. `directory`: the
// layer's first Codec::directory_bytes(). corrupted: a directory that cannot be;
// unsupported: a layer whose units have no checksums (raw, or a frame of version 1).
Result<UnitSpan> frame_unit(const BlockLayout& layout, const FrameLayer& layer,
                            Bytes directory, std::uint64_t unit) noexcept;

// What a unit is read from: its bytes, the layer's directory, and what lies at
// checks_offset() (checks_bytes(); may be empty).
struct EncodedUnit {
  Bytes bytes, directory, checks;
};

// Checks and decodes one unit of an accepted frame. Safe on any bytes, like
// decode_layer(). Layouts without rows are decoded as their coded_layout().
// REQUIRES: unit is one of the layout's.
Code decode_unit(const BlockLayout& layout, const FrameInfo& info, std::uint32_t index,
                 const FrameLayer& layer, std::uint64_t unit, const EncodedUnit& from,
                 Bytes profile, const UnitTarget& to) noexcept;

}  // namespace speckv

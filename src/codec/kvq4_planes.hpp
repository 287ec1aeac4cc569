// codec/kvq4_planes.hpp -- a second nibble plane for kvq4, with which its values have
// eight bits (internal). docs/block-format.md, "kvq4 with a second plane".
//
// As QuantSpec has it: one cache, of which a draft reads the first plane (kvq4's layer,
// which stays as it is and decodes alone) and the verifying model both. Where the second
// lies is the caller's affair.
#pragma once

#include <cstdint>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

namespace speckv {

// Of a layer. REQUIRES: kvq4 supports the layout; so in what follows.
std::uint64_t second_plane_bytes(const BlockLayout& layout) noexcept;

// What `first`, kvq4's layer of these values, leaves of them. corrupted: `first` is not
// what an encoder writes. invalid_argument: sizes that are not the layout's. Any thread.
Code encode_second_plane(const BlockLayout& layout, Bytes plain, Bytes first,
                         MutableBytes second) noexcept;

// The values from both. Safe on any input: it stays within its spans, and answers
// `corrupted` rather than guess. REQUIRES: plain.size() == layout.layer_bytes().
Code decode_planes(const BlockLayout& layout, Bytes first, Bytes second,
                   MutableBytes plain) noexcept;

}  // namespace speckv

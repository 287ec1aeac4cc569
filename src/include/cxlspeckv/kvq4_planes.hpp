// cxlspeckv/kvq4_planes.hpp -- two planes of nibbles: kvq4's layer, and a second with
// which its values have eight bits. docs/block-format.md, "kvq4 with a second plane".
//
// As QuantSpec has it: one cache, of which a draft reads the first plane (kvq4's layer,
// byte for byte, which decodes alone) and the verifying model both. Where the second lies
// is the caller's affair: no frame holds it. All functions are pure: any thread.
#pragma once

#include <cstdint>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

namespace speckv {

// Of a layer; 0 for a layout that kvq4 does not take.
std::uint64_t second_plane_bytes(const BlockLayout& layout) noexcept;

// What `first`, kvq4's layer of these values, leaves of them. corrupted: `first` is not
// what an encoder writes. invalid_argument: sizes that are not the layout's. unsupported:
// a layout that kvq4 does not take.
Code encode_second_plane(const BlockLayout& layout, Bytes plain, Bytes first,
                         MutableBytes second) noexcept;

// The values from both. Safe on any input: it stays within its spans, and answers
// `corrupted` rather than guess. invalid_argument: `plain` is not a layer. unsupported:
// as above.
Code decode_planes(const BlockLayout& layout, Bytes first, Bytes second,
                   MutableBytes plain) noexcept;

}  // namespace speckv

// codec/append.hpp -- more tokens for a layer that is encoded already (internal).
// docs/block-format.md, "Appending".
//
// Codecs that keep the rows of each token apart take the tokens of a block as they come.
// In the others a token's neighbours decide about its bytes: K's scales are a channel's,
// a step or a prefix code is the whole unit's, and then one token more changes them all.
#pragma once

#include "cxlspeckv/codec.hpp"

namespace speckv {

// Whether append_tokens() takes this: `raw`, `int8`, and `kvq4` of latent rows.
bool can_append(const Codec& codec, const BlockLayout& layout) noexcept;

// Encodes tokens [first, first + count) of a plain layer into `encoded`, which is that
// layer encoded with zeros in their place; then it is what encode() makes of the whole.
// No other token's bytes are read or written. Any thread; `encoded` is the caller's.
// unsupported: can_append() is false, or a value is a NaN or an infinity (`raw` takes
// these). invalid_argument: tokens beyond the layout's, or sizes that are not its own.
// With either nothing has changed.
Code append_tokens(const Codec& codec, const LayerContext& context, std::uint32_t first,
                   std::uint32_t count, Bytes plain, MutableBytes encoded) noexcept;

}  // namespace speckv

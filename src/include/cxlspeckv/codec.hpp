// cxlspeckv/codec.hpp -- how the values of a block are written down in a tier.
//
// A codec works on one layer of a block at a time, so that a layer can be read alone. The
// frame around the layers (checksums, lengths, versions: docs/block-format.md) is not its
// business: by the time decode() runs, the bytes have passed their checksum, but they
// still count as untrusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

namespace speckv {

// Written in every frame; never reused. The same numbers are in docs/block-format.md.
enum class CodecId : std::uint16_t {
  raw = 1,
  int8 = 2,
  int8_delta_rle = 3,
  kvq4 = 4,
  lossless = 5,
  rt44 = 6,
  rt43 = 7,
  rt33 = 8,
  rt32 = 9,
  hx5120 = 10,
  hx4608 = 11,
  hx4096 = 12,
  hx3584 = 13,
  hx3072 = 14,
  hxp5120 = 15,
  hxp4096 = 16,
  hxp3360 = 17,
};

// What a codec may know about the layer besides its values.
struct LayerContext {
  const BlockLayout& layout;
  std::uint32_t layer = 0;                     // of the layout
  std::uint32_t first_position = kNoPosition;  // of the block in its sequence
  Bytes profile{};      // of the model, opaque and checked by the codec; may be empty
  bool stream = false;  // of decode(): nobody reads the values soon, so they may bypass
                        // the caches
};

// Where a unit (one head's K, or V, or latent rows) lies in an encoded layer. Units are
// numbered by head, K's first.
struct UnitSpan {
  std::uint64_t first = 0, bytes = 0;
};

// Where its values go: `tokens` rows of head_dim values, `stride` bytes from one to the
// next, all within `rows`.
struct UnitTarget {
  MutableBytes rows{};
  std::uint64_t stride = 0;
};

// Whether each token's channels lie together, as all codecs but `raw` need it.
constexpr bool has_rows(const BlockLayout& layout) noexcept {
  return layout.kind != BlockLayout::Kind::transposed &&
         layout.kind != BlockLayout::Kind::tiled;
}

// What codecs see of a layout: a store turns layers without rows into the kv layers of
// equal values before it encodes them.
constexpr BlockLayout coded_layout(BlockLayout layout) noexcept {
  if (!has_rows(layout)) layout.kind = BlockLayout::Kind::kv;
  return layout;
}

// Stateless and immutable: any thread may use one, and the built-in ones are never freed.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecId id() const noexcept = 0;
  virtual std::string_view name() const noexcept = 0;  // "raw", "int8", "kvq4"

  // Whether encode() can take this layout (dtype, head_dim); of ones without rows
  // only `raw` can, the others their coded_layout().
  virtual bool supports(const BlockLayout& layout) const noexcept = 0;

  // Upper bound for one layer. Computed without overflow for every valid layout.
  virtual std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept = 0;

  // Writes layer `context.layer` (layout.layer_bytes() plain bytes) and returns the bytes
  // of `out` used. The same input gives the same bytes on every machine.
  // unsupported: the layer holds what the codec cannot carry; the store then writes raw.
  // REQUIRES: supports(layout), out.size() >= max_layer_bytes(layout).
  virtual Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                                     MutableBytes out) const noexcept = 0;

  // The reverse. Safe on any input: stays inside its spans, and answers `corrupted`
  // rather than guess. REQUIRES: plain.size() == layout.layer_bytes().
  virtual Code decode(const LayerContext& context, Bytes encoded,
                      MutableBytes plain) const noexcept = 0;

  // One unit alone, without the rest of the layer: read the first directory_bytes() of
  // the encoded layer, then what unit_at() says, and decode that. `unsupported` from a
  // codec whose units have no checksum of their own. Safe on any input, like decode().
  // REQUIRES: unit is one of the layout's, supports(layout).
  virtual std::uint64_t directory_bytes(const BlockLayout& /*layout*/) const noexcept {
    return 0;
  }
  virtual Result<UnitSpan> unit_at(const BlockLayout& /*layout*/, Bytes /*directory*/,
                                   std::uint64_t /*unit*/) const noexcept {
    return Status{Code::unsupported, "no single units"};
  }
  virtual Code decode_unit(const LayerContext& /*context*/, std::uint64_t /*unit*/,
                           Bytes /*encoded*/, Bytes /*directory*/,
                           const UnitTarget& /*to*/) const noexcept {
    return Code::unsupported;
  }
};

// The built-in codec of that name or id; nullptr if there is none.
const Codec* find_codec(std::string_view name) noexcept;
const Codec* find_codec(CodecId id) noexcept;
std::span<const Codec* const> builtin_codecs() noexcept;

}  // namespace speckv

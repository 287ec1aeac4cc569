// codec/frame.hpp -- an encoded block: header, a directory of layers, the layers.
//
// docs/block-format.md gives every byte. The frame is what a slot holds in any tier; it
// is self-describing, names its key, and each layer has its own checksum, so that right
// bytes in the wrong place are never taken for the block, and one layer can be read
// alone; one unit alone, too (codec/frame_units.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cxlspeckv/codec.hpp"

namespace speckv {

inline constexpr std::uint32_t kFrameMagic = 0x424B5653;  // "SVKB"
// The first has no checksums of units; the second is written where a layer has them.
inline constexpr std::uint16_t kFrameVersion = 1, kFrameVersionUnits = 2;
inline constexpr std::uint64_t kFrameAlign = 64;  // of the header and of every layer
inline constexpr std::size_t kFrameFixedBytes = 48, kFrameLayerBytes = 16;

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t to) noexcept {
  return (value + to - 1) / to * to;
}

// The header with its directory, before the first layer.
constexpr std::uint64_t frame_header_bytes(std::uint32_t layers) noexcept {
  return align_up(kFrameFixedBytes + std::uint64_t{layers} * kFrameLayerBytes,
                  kFrameAlign);
}

// What the header says, besides the directory.
struct FrameInfo {
  BlockKey key{};
  std::uint32_t layers = 0;
  std::uint32_t first_position = kNoPosition;
  std::uint64_t plain_bytes = 0;
  std::uint64_t frame_bytes = 0;  // header, directory and layers
};

struct FrameLayer {
  std::uint64_t offset = 0;  // from the start of the frame
  std::uint32_t bytes = 0;
  std::uint32_t crc = 0;
  CodecId codec = CodecId::raw;
  std::uint32_t check_lines = 0;  // of kFrameAlign bytes, behind it: units' checksums ...
  std::uint32_t checks_crc = 0;   // ... and theirs

  std::uint64_t checks_offset() const noexcept {
    return offset + align_up(bytes, kFrameAlign);
  }
  std::uint64_t checks_bytes() const noexcept { return check_lines * kFrameAlign; }
  std::uint64_t end() const noexcept { return checks_offset() + checks_bytes(); }
};

// The codec of each layer: `codec_of(layer)`.
class LayerCodecs {
 public:
  explicit LayerCodecs(const Codec& all) noexcept : all_(&all) {}
  explicit LayerCodecs(std::span<const Codec* const> each) noexcept : each_(each) {}
  const Codec& of(std::uint32_t layer) const noexcept {
    return each_.empty() ? *all_ : *each_[layer];
  }

 private:
  const Codec* all_ = nullptr;
  std::span<const Codec* const> each_{};
};

// Upper bound of a whole frame: a codec that must fall back to raw is counted.
std::uint64_t max_frame_bytes(const BlockLayout& layout,
                              const LayerCodecs& codecs) noexcept;

// Of the scratch that a layer is coded with: it is gathered from its pieces there, and
// turned there if it has no rows.
constexpr std::uint64_t frame_scratch_bytes(const BlockLayout& layout) noexcept {
  return layout.layer_bytes() * (has_rows(layout) ? 1 : 2);
}

struct FrameSource {
  BlockKey key{};
  std::uint32_t first_position = kNoPosition;
  std::span<const Bytes> pieces{};  // together the plain block
  Bytes profile{};
};

// Writes a frame into `out` and returns its bytes. A layer that its codec refuses,
// or would not make smaller, is written raw. Raw layers are copied and checked in one
// pass. `scratch` has frame_scratch_bytes(). `stream`: the block will not be read again
// soon, so the copy may bypass the cache. REQUIRES: out.size() >= max_frame_bytes(),
// pieces add up to layout.bytes().
std::uint64_t encode_frame(const BlockLayout& layout, const LayerCodecs& codecs,
                           const FrameSource& source, MutableBytes out,
                           MutableBytes scratch, bool stream) noexcept;

// Reads and checks the header and directory against what the index knows. Untrusted
// input: every length and offset is checked against `frame_bytes` and the layout;
// `corrupted` otherwise. `header` holds at least frame_header_bytes(layout.layers).
Code read_frame_header(const BlockLayout& layout, BlockKey key, Bytes header,
                       std::uint64_t frame_bytes, FrameInfo& info) noexcept;

// One directory entry of a header that read_frame_header() has accepted.
FrameLayer frame_layer(Bytes header, std::uint32_t layer) noexcept;

// Checks and decodes one layer of an accepted frame into `pieces` (together
// layer_bytes()). `encoded` is exactly the layer's bytes. Raw layers are copied and
// checked in one pass; for others a layer in several pieces goes through `scratch`.
// `coder`, if not null, decodes it where the layer is of its id; else the built-in codec.
Code decode_layer(const BlockLayout& layout, const FrameInfo& info, std::uint32_t index,
                  const FrameLayer& layer, Bytes encoded, Bytes profile,
                  std::span<const MutableBytes> pieces, MutableBytes scratch, bool stream,
                  const Codec* coder = nullptr) noexcept;

// For a Sequence's tail, which is plain raw layers in place: lays out the header of a
// frame whose layers are already there, computing their checksums. Returns the frame's
// bytes.
std::uint64_t seal_raw_frame(const BlockLayout& layout, BlockKey key,
                             std::uint32_t first_position, MutableBytes frame) noexcept;
// Where raw layer `layer` lies in such a frame.
constexpr std::uint64_t raw_layer_offset(const BlockLayout& layout,
                                         std::uint32_t layer) noexcept {
  return frame_header_bytes(layout.layers) +
         layer * align_up(layout.layer_bytes(), kFrameAlign);
}

}  // namespace speckv

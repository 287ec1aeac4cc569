// store/transfer.hpp -- moving a block's bytes between memory and frames. No locks, no
// state.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/frame.hpp"
#include "store/operation_state.hpp"

namespace speckv {

// Memory that grows and is reused; one thread.
class Scratch {
 public:
  MutableBytes get(std::size_t bytes) {
    if (bytes_.size() < bytes) bytes_.resize(bytes);
    return {bytes_.data(), bytes};
  }

 private:
  std::vector<std::byte> bytes_;
};

// What coding needs besides the block; one thread's own.
struct CodingScratch {
  Scratch layer, plain, header;
  std::vector<Bytes> sources;
  std::vector<MutableBytes> pieces;
};

// From this size on, a copy bypasses the cache: the block would only push other things
// out.
inline constexpr std::uint64_t kStreamBytes = 128 << 10;

// None of these throws: without memory for scratch the answer is no_space.

// Frames the plain block in `memory`; returns the frame's bytes, 0 without memory.
std::uint64_t encode_block(const BlockLayout& layout, const LayerCodecs& codecs,
                           BlockKey key, std::uint32_t first_position, Bytes profile,
                           std::span<const MutableBytes> memory, MutableBytes out,
                           CodingScratch& scratch) noexcept;

// Decodes layers [first, first + count) of a frame into `memory`, in layer order: from
// the `ready`th of them on, which is raised after each, as far as they are there whole.
// `frame` holds some of the frame's bytes from `frame_offset` on; `header` its header.
// `own`: the codecs of the frame's tier, which decode what was encoded with them.
// corrupted, no_space, or ok.
Code decode_landed(const BlockLayout& layout, BlockKey key, Bytes header, Bytes frame,
                   std::uint64_t frame_offset, std::uint64_t frame_bytes,
                   std::uint32_t first, std::uint32_t count, const LayerCodecs& own,
                   Bytes profile, std::span<const MutableBytes> memory,
                   std::atomic<std::uint32_t>& ready, CodingScratch& scratch) noexcept;

// The same, of a frame that holds them all; `ready` may be null.
Code decode_block(const BlockLayout& layout, BlockKey key, Bytes header, Bytes frame,
                  std::uint64_t frame_offset, std::uint64_t frame_bytes,
                  std::uint32_t first, std::uint32_t count, const LayerCodecs& own,
                  Bytes profile, std::span<const MutableBytes> memory,
                  std::atomic<std::uint32_t>* ready, CodingScratch& scratch) noexcept;

// Copies a frame into another tier, checking it: as it is where the codecs agree, decoded
// and encoded again where they do not. `own`: the codecs of the tier that it comes from.
// corrupted, no_space, or ok with the bytes written.
Code transcode(const BlockLayout& layout, BlockKey key, Bytes frame,
               const LayerCodecs& own, const LayerCodecs& codecs, Bytes profile,
               MutableBytes out, std::uint64_t& out_bytes,
               CodingScratch& scratch) noexcept;

// Reads every byte of a frame and checks it. corrupted, no_space, or ok.
Code verify_frame(const BlockLayout& layout, BlockKey key, Bytes frame) noexcept;

}  // namespace speckv

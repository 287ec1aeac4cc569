#include "store/transfer.hpp"

#include <algorithm>

#include "cxlspeckv/guarded.hpp"

#include "base/checksum.hpp"

namespace speckv {
namespace {

// Deals out the caller's pieces, some bytes at a time.
class PieceCursor {
 public:
  explicit PieceCursor(std::span<const MutableBytes> pieces) : pieces_(pieces) {}

  // The next `bytes`, as pieces appended to `out`. REQUIRES: that many are left.
  void take(std::uint64_t bytes, std::vector<MutableBytes>& out) {
    while (bytes > 0) {
      const MutableBytes rest = pieces_[piece_].subspan(offset_);
      const std::size_t part = std::min<std::uint64_t>(bytes, rest.size());
      if (part > 0) out.push_back(rest.first(part));
      bytes -= part;
      offset_ += part;
      if (offset_ == pieces_[piece_].size()) {
        ++piece_;
        offset_ = 0;
      }
    }
  }

 private:
  std::span<const MutableBytes> pieces_;
  std::size_t piece_ = 0;
  std::size_t offset_ = 0;
};

// Headers are checked once and used after, so they are used from memory that nobody else
// can change in between: a tier's may be shared, or lose a bit.
Bytes own_header(const BlockLayout& layout, Bytes header, Scratch& scratch) {
  const std::uint64_t bytes =
      std::min<std::uint64_t>(frame_header_bytes(layout.layers), header.size());
  const MutableBytes copy = scratch.get(bytes);
  if (header.data() != copy.data()) std::copy_n(header.begin(), bytes, copy.begin());
  return copy;
}

// Whether a frame's layers are already written as the codecs would. A lossy layer bound
// for another lossy codec stays as it is: quantising twice would lose twice.
bool keeps_codecs(const BlockLayout& layout, Bytes header, const LayerCodecs& codecs) {
  for (std::uint32_t l = 0; l < layout.layers; ++l) {
    const CodecId is = frame_layer(header, l).codec;
    const CodecId wanted = codecs.of(l).id();
    if (is != wanted && (is == CodecId::raw || wanted == CodecId::raw)) return false;
  }
  return true;
}

Code copy_frame(const BlockLayout& layout, Bytes header, Bytes frame,
                const FrameInfo& info, MutableBytes out) {
  std::copy(header.begin(), header.end(), out.begin());
  for (std::uint32_t l = 0; l < layout.layers; ++l) {
    const FrameLayer layer = frame_layer(header, l);
    const std::uint32_t crc = copy_crc32c(0, out.data() + layer.offset,
                                          frame.subspan(layer.offset, layer.bytes),
                                          info.frame_bytes >= kStreamBytes);
    const std::uint64_t end = layer.offset + layer.bytes;
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(end),
              out.begin() + static_cast<std::ptrdiff_t>(layer.checks_offset()),
              std::byte{0});
    const std::uint32_t checks =
        copy_crc32c(0, out.data() + layer.checks_offset(),
                    frame.subspan(layer.checks_offset(), layer.checks_bytes()), false);
    if (crc != layer.crc || checks != layer.checks_crc) return Code::corrupted;
  }
  return Code::ok;
}

}  // namespace

std::uint64_t encode_block(const BlockLayout& layout, const LayerCodecs& codecs,
                           BlockKey key, std::uint32_t first_position, Bytes profile,
                           std::span<const MutableBytes> memory, MutableBytes out,
                           CodingScratch& scratch) noexcept {
  std::uint64_t frame = 0;
  (void)guarded([&] {
    scratch.sources.assign(memory.begin(), memory.end());
    const FrameSource source{key, first_position, scratch.sources, profile};
    frame = encode_frame(layout, codecs, source, out,
                         scratch.layer.get(frame_scratch_bytes(layout)),
                         layout.bytes() >= kStreamBytes);
    return Code::ok;
  });
  return frame;
}

Code decode_landed(const BlockLayout& layout, BlockKey key, Bytes header, Bytes frame,
                   std::uint64_t frame_offset, std::uint64_t frame_bytes,
                   std::uint32_t first, std::uint32_t count, const LayerCodecs& own,
                   Bytes profile, std::span<const MutableBytes> memory,
                   std::atomic<std::uint32_t>& ready, CodingScratch& scratch) noexcept {
  return guarded([&] {
    FrameInfo info;
    header = own_header(layout, header, scratch.header);
    const Code accepted = read_frame_header(layout, key, header, frame_bytes, info);
    if (accepted != Code::ok) return accepted;
    const std::uint32_t done = ready.load(std::memory_order_relaxed);
    PieceCursor cursor(memory);
    scratch.pieces.clear();
    cursor.take(layout.layer_bytes() * done, scratch.pieces);
    for (std::uint32_t l = first + done; l < first + count; ++l) {
      const FrameLayer layer = frame_layer(header, l);
      if (layer.offset < frame_offset) return Code::corrupted;
      if (layer.offset - frame_offset + layer.bytes > frame.size()) return Code::ok;
      scratch.pieces.clear();
      cursor.take(layout.layer_bytes(), scratch.pieces);
      const Code decoded = decode_layer(
          layout, info, l, layer, frame.subspan(layer.offset - frame_offset, layer.bytes),
          profile, scratch.pieces, scratch.layer.get(frame_scratch_bytes(layout)),
          layout.layer_bytes() * count >= kStreamBytes, &own.of(l));
      if (decoded != Code::ok) return decoded;
      // release: whoever reads the count sees the layer's bytes.
      ready.store(l - first + 1, std::memory_order_release);
    }
    return Code::ok;
  });
}

Code decode_block(const BlockLayout& layout, BlockKey key, Bytes header, Bytes frame,
                  std::uint64_t frame_offset, std::uint64_t frame_bytes,
                  std::uint32_t first, std::uint32_t count, const LayerCodecs& own,
                  Bytes profile, std::span<const MutableBytes> memory,
                  std::atomic<std::uint32_t>* ready, CodingScratch& scratch) noexcept {
  std::atomic<std::uint32_t> unseen{0};
  std::atomic<std::uint32_t>& done = ready != nullptr ? *ready : unseen;
  const Code code = decode_landed(layout, key, header, frame, frame_offset, frame_bytes,
                                  first, count, own, profile, memory, done, scratch);
  return code == Code::ok && done.load(std::memory_order_relaxed) != count
             ? Code::corrupted
             : code;
}

Code transcode(const BlockLayout& layout, BlockKey key, Bytes frame,
               const LayerCodecs& own, const LayerCodecs& codecs, Bytes profile,
               MutableBytes out, std::uint64_t& out_bytes,
               CodingScratch& scratch) noexcept {
  return guarded([&] {
    FrameInfo info;
    const Bytes header = own_header(layout, frame, scratch.header);
    const Code accepted = read_frame_header(layout, key, header, frame.size(), info);
    if (accepted != Code::ok) return accepted;
    if (keeps_codecs(layout, header, codecs)) {
      out_bytes = info.frame_bytes;
      return copy_frame(layout, header, frame, info, out);
    }
    const MutableBytes plain = scratch.plain.get(layout.bytes());
    const Code decoded =
        decode_block(layout, key, header, frame, 0, info.frame_bytes, 0, layout.layers,
                     own, profile, {&plain, 1}, nullptr, scratch);
    if (decoded != Code::ok) return decoded;
    out_bytes = encode_block(layout, codecs, key, info.first_position, profile,
                             {&plain, 1}, out, scratch);
    return out_bytes != 0 ? Code::ok : Code::no_space;
  });
}

Code verify_frame(const BlockLayout& layout, BlockKey key, Bytes frame) noexcept {
  return guarded([&] {
    FrameInfo info;
    Scratch scratch;
    const Bytes header = own_header(layout, frame, scratch);
    const Code accepted = read_frame_header(layout, key, header, frame.size(), info);
    if (accepted != Code::ok) return accepted;
    for (std::uint32_t l = 0; l < layout.layers; ++l) {
      const FrameLayer layer = frame_layer(header, l);
      const Bytes checks = frame.subspan(layer.checks_offset(), layer.checks_bytes());
      if (crc32c(0, frame.subspan(layer.offset, layer.bytes)) != layer.crc ||
          crc32c(0, checks) != layer.checks_crc)
        return Code::corrupted;
    }
    return Code::ok;
  });
}

}  // namespace speckv

#include "codec/frame.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "codec/frame_units.hpp"
#include "codec/turn.hpp"

namespace speckv {
namespace {

// Where each field lies; docs/block-format.md has the same table.
namespace field {
constexpr std::size_t kMagic = 0, kVersion = 4, kLayers = 6, kKeyHigh = 8, kKeyLow = 16,
                      kPlainBytes = 24, kFrameBytes = 32, kFirstPosition = 40, kCrc = 44;
constexpr std::size_t kEntryBytes = 0, kEntryCrc = 4, kEntryCodec = 8, kEntryLines = 10,
                      kEntryLinesCrc = 12;
}  // namespace field

std::byte* entry_at(MutableBytes frame, std::uint32_t layer) noexcept {
  return frame.data() + kFrameFixedBytes + std::size_t{layer} * kFrameLayerBytes;
}
const std::byte* entry_at(Bytes frame, std::uint32_t layer) noexcept {
  return frame.data() + kFrameFixedBytes + std::size_t{layer} * kFrameLayerBytes;
}

// Of the header and directory, with the field that holds it taken as 0.
std::uint32_t header_crc(Bytes header, std::uint32_t layers) noexcept {
  constexpr std::byte kZero[4]{};
  constexpr std::size_t kAfter = field::kCrc + sizeof kZero;
  std::uint32_t crc = crc32c(0, header.first(field::kCrc));
  crc = crc32c(crc, kZero);
  return crc32c(crc, header.subspan(kAfter, frame_header_bytes(layers) - kAfter));
}

void put_entry(std::byte* entry, const FrameLayer& layer) noexcept {
  store_le(entry + field::kEntryBytes, layer.bytes);
  store_le(entry + field::kEntryCrc, layer.crc);
  store_le(entry + field::kEntryCodec, static_cast<std::uint16_t>(layer.codec));
  store_le(entry + field::kEntryLines, static_cast<std::uint16_t>(layer.check_lines));
  store_le(entry + field::kEntryLinesCrc, layer.checks_crc);
}

// Of an entry; where it lies is not in it.
FrameLayer get_entry(const std::byte* entry) noexcept {
  return {.bytes = load_le<std::uint32_t>(entry + field::kEntryBytes),
          .crc = load_le<std::uint32_t>(entry + field::kEntryCrc),
          .codec = CodecId{load_le<std::uint16_t>(entry + field::kEntryCodec)},
          .check_lines = load_le<std::uint16_t>(entry + field::kEntryLines),
          .checks_crc = load_le<std::uint32_t>(entry + field::kEntryLinesCrc)};
}

// The fixed part and its checksum, over a directory that is complete and zero elsewhere.
void put_header(MutableBytes frame, const BlockLayout& layout, BlockKey key,
                std::uint32_t first_position, std::uint64_t frame_bytes,
                std::uint16_t version) noexcept {
  std::byte* at = frame.data();
  store_le(at + field::kMagic, kFrameMagic);
  store_le(at + field::kVersion, version);
  store_le(at + field::kLayers, static_cast<std::uint16_t>(layout.layers));
  store_le(at + field::kKeyHigh, key.high);
  store_le(at + field::kKeyLow, key.low);
  store_le(at + field::kPlainBytes, layout.bytes());
  store_le(at + field::kFrameBytes, frame_bytes);
  store_le(at + field::kFirstPosition, first_position);
  store_le(at + field::kCrc, header_crc(frame, layout.layers));
}

void zero(MutableBytes bytes) noexcept {
  if (!bytes.empty()) std::memset(bytes.data(), 0, bytes.size());
}

// Walks the plain block, whose pieces are cut anywhere.
class Cursor {
 public:
  explicit Cursor(std::span<const Bytes> pieces) noexcept : pieces_(pieces) {}

  // The next run of at most `limit` bytes; moves past it.
  Bytes next(std::uint64_t limit) noexcept {
    while (offset_ == pieces_.front().size()) {
      pieces_ = pieces_.subspan(1);
      offset_ = 0;
    }
    const std::size_t size =
        std::min<std::uint64_t>(limit, pieces_.front().size() - offset_);
    const Bytes run = pieces_.front().subspan(offset_, size);
    offset_ += size;
    return run;
  }

  // The next `size` bytes in one piece: in place if they lie so, else gathered.
  Bytes whole(std::uint64_t size, MutableBytes scratch) noexcept {
    Bytes run = next(size);
    if (run.size() == size) return run;
    std::uint64_t done = 0;
    for (;; run = next(size - done)) {
      std::memcpy(scratch.data() + done, run.data(), run.size());
      done += run.size();
      if (done == size) return scratch.first(size);
    }
  }

 private:
  std::span<const Bytes> pieces_;
  std::size_t offset_ = 0;
};

FrameLayer write_raw(std::uint64_t size, Cursor& plain, std::byte* to,
                     bool stream) noexcept {
  FrameLayer layer{.bytes = static_cast<std::uint32_t>(size)};
  for (std::uint64_t done = 0; done < size;) {
    const Bytes run = plain.next(size - done);
    layer.crc = copy_crc32c(layer.crc, to + done, run, stream);
    done += run.size();
  }
  return layer;
}

// `rows`: the plain layer as the codec sees it. Writes the checksums of its units, too.
FrameLayer write_coded(const LayerContext& context, const Codec& codec, Bytes rows,
                       Bytes plain, MutableBytes out) noexcept {
  const std::uint64_t bound = codec.max_layer_bytes(context.layout);
  assert(out.size() >= bound);
  const auto used = codec.encode(context, rows, out.first(bound));
  FrameLayer layer{.codec = codec.id()};
  const std::uint64_t lines = check_lines(layer.codec, context.layout);
  if (used && *used != 0 && *used < plain.size() && lines <= kMaxCheckLines) {
    layer.bytes = static_cast<std::uint32_t>(*used);
    layer.check_lines = static_cast<std::uint32_t>(lines);
  }
  // A layer that would not get smaller gains nothing from being coded.
  if (layer.bytes == 0 || layer.end() > align_up(plain.size(), kFrameAlign)) {
    return {.bytes = static_cast<std::uint32_t>(plain.size()),
            .crc = copy_crc32c(0, out.data(), plain, context.stream)};
  }
  layer.crc = crc32c(0, out.first(layer.bytes));
  if (lines > 0) {
    layer.checks_crc =
        write_checks(layer.codec, context.layout, out.first(layer.bytes),
                     out.subspan(layer.checks_offset(), layer.checks_bytes()));
  }
  return layer;
}

// Of a coded_layout(). Frames store lengths in 32 bits.
bool usable(const Codec& codec, const BlockLayout& layout) noexcept {
  return codec.id() != CodecId::raw && codec.supports(layout) &&
         codec.max_layer_bytes(layout) <= UINT32_MAX;
}

bool plausible(const BlockLayout& coded, const FrameLayer& layer) noexcept {
  if (layer.check_lines == 0 && layer.checks_crc != 0) return false;
  if (layer.codec == CodecId::raw)
    return layer.bytes == coded.layer_bytes() && layer.check_lines == 0;
  const Codec* codec = find_codec(layer.codec);
  return codec != nullptr && usable(*codec, coded) && layer.bytes > 0 &&
         layer.bytes <= codec->max_layer_bytes(coded) &&
         (layer.check_lines == 0 || layer.check_lines == check_lines(layer.codec, coded));
}

Code read_raw(const FrameLayer& layer, Bytes encoded,
              std::span<const MutableBytes> pieces, bool stream) noexcept {
  std::uint32_t crc = 0;
  for (const MutableBytes piece : pieces) {
    crc = copy_crc32c(crc, piece.data(), encoded.first(piece.size()), stream);
    encoded = encoded.subspan(piece.size());
  }
  return crc == layer.crc ? Code::ok : Code::corrupted;
}

}  // namespace

std::uint64_t max_frame_bytes(const BlockLayout& layout,
                              const LayerCodecs& codecs) noexcept {
  const BlockLayout coded = coded_layout(layout);
  std::uint64_t bytes = frame_header_bytes(layout.layers);
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    std::uint64_t most = layout.layer_bytes();
    if (const Codec& codec = codecs.of(i); usable(codec, coded)) {
      most = std::max(most, align_up(codec.max_layer_bytes(coded), kFrameAlign) +
                                check_lines(codec.id(), coded) * kFrameAlign);
    }
    bytes += align_up(most, kFrameAlign);
  }
  return bytes;
}

std::uint64_t encode_frame(const BlockLayout& layout, const LayerCodecs& codecs,
                           const FrameSource& source, MutableBytes out,
                           MutableBytes scratch, bool stream) noexcept {
  assert(out.size() >= max_frame_bytes(layout, codecs));
  const std::uint64_t size = layout.layer_bytes();
  std::uint64_t at = frame_header_bytes(layout.layers);
  zero(out.first(at));
  const BlockLayout coded = coded_layout(layout);
  Cursor cursor(source.pieces);
  std::uint16_t version = kFrameVersion;
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    const Codec& codec = codecs.of(i);
    const LayerContext context{coded, i, source.first_position, source.profile, stream};
    FrameLayer layer;
    if (usable(codec, coded)) {
      const Bytes plain = cursor.whole(size, scratch);
      Bytes rows = plain;
      if (!has_rows(layout)) {
        to_rows(layout, plain, scratch.subspan(size));
        rows = scratch.subspan(size);
      }
      layer = write_coded(context, codec, rows, plain, out.subspan(at));
    } else {
      layer = write_raw(size, cursor, out.data() + at, stream);
    }
    put_entry(entry_at(out, i), layer);
    if (layer.check_lines > 0) version = kFrameVersionUnits;
    zero(out.subspan(at + layer.bytes, layer.checks_offset() - layer.bytes));
    at += layer.end();
  }
  put_header(out, layout, source.key, source.first_position, at, version);
  return at;
}

Code read_frame_header(const BlockLayout& layout, BlockKey key, Bytes header,
                       std::uint64_t frame_bytes, FrameInfo& info) noexcept {
  const std::uint64_t header_bytes = frame_header_bytes(layout.layers);
  if (header.size() < header_bytes || frame_bytes < header_bytes) return Code::corrupted;
  const std::byte* at = header.data();
  const auto version = load_le<std::uint16_t>(at + field::kVersion);
  if (load_le<std::uint32_t>(at + field::kMagic) != kFrameMagic ||
      load_le<std::uint16_t>(at + field::kLayers) != layout.layers ||
      load_le<std::uint32_t>(at + field::kCrc) != header_crc(header, layout.layers)) {
    return Code::corrupted;
  }
  const FrameInfo found{
      .key = {load_le<std::uint64_t>(at + field::kKeyHigh),
              load_le<std::uint64_t>(at + field::kKeyLow)},
      .layers = layout.layers,
      .first_position = load_le<std::uint32_t>(at + field::kFirstPosition),
      .plain_bytes = load_le<std::uint64_t>(at + field::kPlainBytes),
      .frame_bytes = load_le<std::uint64_t>(at + field::kFrameBytes),
  };
  if (found.key != key || found.plain_bytes != layout.bytes()) return Code::corrupted;

  std::uint64_t end = header_bytes;
  std::uint16_t needed = kFrameVersion;
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    const FrameLayer layer = get_entry(entry_at(header, i));
    if (!plausible(coded_layout(layout), layer)) return Code::corrupted;
    if (layer.check_lines > 0) needed = kFrameVersionUnits;
    end += layer.end();  // at most kMaxLayers times 2^33
  }
  if (version != needed || found.frame_bytes != end || end > frame_bytes)
    return Code::corrupted;
  info = found;
  return Code::ok;
}

FrameLayer frame_layer(Bytes header, std::uint32_t layer) noexcept {
  const std::uint32_t layers = load_le<std::uint16_t>(header.data() + field::kLayers);
  assert(layer < layers);
  std::uint64_t offset = frame_header_bytes(layers);
  for (std::uint32_t i = 0; i < layer; ++i)
    offset += get_entry(entry_at(header, i)).end();
  FrameLayer found = get_entry(entry_at(header, layer));
  found.offset = offset;
  return found;
}

Code decode_layer(const BlockLayout& layout, const FrameInfo& info, std::uint32_t index,
                  const FrameLayer& layer, Bytes encoded, Bytes profile,
                  std::span<const MutableBytes> pieces, MutableBytes scratch, bool stream,
                  const Codec* coder) noexcept {
  const BlockLayout coded = coded_layout(layout);
  if (encoded.size() != layer.bytes || !plausible(coded, layer)) return Code::corrupted;
  if (layer.codec == CodecId::raw) return read_raw(layer, encoded, pieces, stream);

  if (crc32c(0, encoded) != layer.crc) return Code::corrupted;
  const std::uint64_t size = layout.layer_bytes();
  const bool whole = pieces.front().size() == size;
  const MutableBytes plain = whole ? pieces.front() : scratch.first(size);
  const bool turned = !has_rows(layout);
  const MutableBytes rows = turned ? scratch.subspan(size) : plain;
  const LayerContext context{coded, index, info.first_position, profile,
                             stream && !turned};
  const bool its_own = coder != nullptr && coder->id() == layer.codec;
  const Codec& codec = its_own ? *coder : *find_codec(layer.codec);
  const Code code = codec.decode(context, encoded, rows);
  if (code == Code::ok && turned) from_rows(layout, rows, plain);
  if (code != Code::ok || whole) return code;
  std::size_t done = 0;
  for (const MutableBytes piece : pieces) {
    if (!piece.empty()) std::memcpy(piece.data(), plain.data() + done, piece.size());
    done += piece.size();
  }
  return Code::ok;
}

std::uint64_t seal_raw_frame(const BlockLayout& layout, BlockKey key,
                             std::uint32_t first_position, MutableBytes frame) noexcept {
  const std::uint64_t size = layout.layer_bytes();
  zero(frame.first(frame_header_bytes(layout.layers)));
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    const std::uint64_t at = raw_layer_offset(layout, i);
    put_entry(entry_at(frame, i), {.bytes = static_cast<std::uint32_t>(size),
                                   .crc = crc32c(0, frame.subspan(at, size))});
    zero(frame.subspan(at + size, align_up(size, kFrameAlign) - size));
  }
  const std::uint64_t bytes = raw_layer_offset(layout, layout.layers);
  put_header(frame, layout, key, first_position, bytes, kFrameVersion);
  return bytes;
}

}  // namespace speckv

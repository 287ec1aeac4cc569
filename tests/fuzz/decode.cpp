// Any bytes to the frame reader and to every codec: nothing is written outside its spans,
// and the answer is ok or corrupted.
//
// Input: byte 0 picks the codec by its id, a unit of it behind its checksum (id + 128),
// or a whole frame (255); byte 1 the layout; the rest are the encoded bytes. Spans are
// heap blocks of exactly their size, so that AddressSanitizer sees a byte too far.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "codec/frame_units.hpp"
#include "codec/lossless.hpp"

namespace {

using namespace speckv;

constexpr BlockLayout kLayouts[] = {
    {1, 1, 16, 16, DType::f16}, {1, 2, 7, 5, DType::bf16},
    {2, 1, 80, 17, DType::f16}, {3, 1, 320, 16, DType::bf16, BlockLayout::Kind::latent},
    {1, 1, 1, 1, DType::f16},   {1, 2, 48, 18, DType::f32},
};
constexpr BlockKey kKey{1, 2};

struct Buffer {
  explicit Buffer(std::size_t bytes)
      : data(std::make_unique<std::byte[]>(bytes)), size(bytes) {}
  MutableBytes span() const { return {data.get(), size}; }
  std::unique_ptr<std::byte[]> data;
  std::size_t size;
};

void expect(bool condition) {
  if (!condition) std::abort();
}

void decode_with(const Codec& codec, const BlockLayout& layout, Bytes encoded) {
  if (!codec.supports(layout)) return;
  const Buffer plain(layout.layer_bytes());
  const Code code = codec.decode({layout}, encoded, plain.span());
  expect(code == Code::ok || code == Code::corrupted);
}

// What lies behind the checksums of units, which would stop a fuzzer.
void decode_units(const Codec& codec, const BlockLayout& layout, Bytes encoded) {
  if (!codec.supports(layout)) return;
  if (codec.id() == CodecId::lossless) {
    const UnitRows rows = unit_rows(layout, 0);
    const Buffer plain(layout.tokens * rows.stride);
    const auto width = static_cast<std::uint32_t>(bytes_of(layout.dtype));
    const lossless::Unit unit{encoded, plain.data.get()};
    (void)lossless::decode_units({layout.tokens, layout.head_dim, width, rows.stride},
                                 {&unit, 1});
    return;
  }
  const Buffer layer(codec.max_layer_bytes(layout));
  std::copy_n(encoded.begin(), std::min(encoded.size(), layer.size),
              layer.span().begin());
  for (std::uint64_t u = 0; u < layer_units(layout); ++u) {
    const auto at = codec.unit_at(layout, {}, u);
    if (!at) return;
    const MutableBytes unit = layer.span().subspan(at->first, at->bytes);
    store_le(unit.data(), crc32c(0, unit.subspan(4)));
  }
  decode_with(codec, layout, layer.span());
}

// Each unit alone, in memory of its own size; behind checksums that are made right, too.
void read_units(const BlockLayout& layout, const FrameInfo& info, std::uint32_t index,
                FrameLayer layer, MutableBytes frame) {
  const BlockLayout coded = coded_layout(layout);
  const std::uint64_t row = coded.head_dim * bytes_of(coded.dtype);
  const std::uint64_t directory_bytes = find_codec(layer.codec)->directory_bytes(coded);
  if (directory_bytes > layer.bytes) return;
  const Bytes directory = frame.subspan(layer.offset, directory_bytes);
  const MutableBytes checks = frame.subspan(layer.checks_offset(), layer.checks_bytes());
  const Buffer rows(coded.tokens * row);
  for (std::uint64_t u = 0; u < layer_units(coded); ++u) {
    const auto at = frame_unit(layout, layer, directory, u);
    if (!at) continue;
    expect(at->first + at->bytes <= layer.offset + layer.bytes);
    const Bytes unit = frame.subspan(at->first, at->bytes);
    if (!checks.empty()) store_le(checks.data() + 4 * u, crc32c(0, unit));
    layer.checks_crc = crc32c(0, checks);
    const Code code = decode_unit(layout, info, index, layer, u,
                                  {unit, directory, checks}, {}, {rows.span(), row});
    expect(code == Code::ok || code == Code::corrupted);
  }
}

// As a store reads it. Both checksums are made right, or nothing would get past them.
void read_frame(const BlockLayout& layout, Bytes input) {
  const std::uint64_t header_bytes = frame_header_bytes(layout.layers);
  if (input.size() < header_bytes) return;
  const Buffer frame(input.size());
  std::copy(input.begin(), input.end(), frame.span().begin());
  store_le(frame.data.get() + 44, std::uint32_t{0});
  store_le(frame.data.get() + 44, crc32c(0, frame.span().first(header_bytes)));

  FrameInfo info;
  const Code read = read_frame_header(layout, kKey, frame.span(), frame.size, info);
  expect(read == Code::ok || read == Code::corrupted);
  if (read != Code::ok) return;
  expect(info.frame_bytes <= frame.size);
  for (std::uint32_t i = 0; i < layout.layers; ++i) {
    FrameLayer layer = frame_layer(frame.span(), i);
    expect(layer.end() <= info.frame_bytes);
    const Bytes encoded = frame.span().subspan(layer.offset, layer.bytes);
    layer.crc = crc32c(0, encoded);
    const Buffer plain(layout.layer_bytes()), scratch(layout.layer_bytes());
    const std::size_t half = plain.size / 2;
    const MutableBytes pieces[] = {plain.span().first(half), plain.span().subspan(half)};
    const Code code = decode_layer(layout, info, i, layer, encoded, {}, pieces,
                                   scratch.span(), half % 2 != 0);
    expect(code == Code::ok || code == Code::corrupted);
    read_units(layout, info, i, layer, frame.span());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const BlockLayout& layout = kLayouts[data[1] % std::size(kLayouts)];
  const Bytes rest = std::as_bytes(std::span(data + 2, size - 2));
  if (data[0] == 255) {
    read_frame(layout, rest);
  } else if (const Codec* codec = find_codec(CodecId(data[0] & 127))) {
    data[0] < 128 ? decode_with(*codec, layout, rest)
                  : decode_units(*codec, layout, rest);
  }
  return 0;
}

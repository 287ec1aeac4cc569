// int8: rows of 8-bit values, each under a scale of its own.
#include "codec/int8.hpp"

#include <cstring>

#include "codec/kernels.hpp"

namespace speckv {
namespace {

class Int8 final : public Codec {
 public:
  CodecId id() const noexcept override { return CodecId::int8; }
  std::string_view name() const noexcept override { return "int8"; }
  bool supports(const BlockLayout& layout) const noexcept override {
    return has_16_bit_rows(layout) && max_layer_bytes(layout) <= UINT32_MAX;
  }
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    return layer_units(layout) * int8_unit(layout).bytes;
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override {
    const BlockLayout& layout = context.layout;
    const Int8Unit unit = int8_unit(layout);
    const std::uint64_t units = layer_units(layout);
    for (std::uint64_t u = 0; u < units; ++u) {
      std::byte* scales = out.data() + u * unit.bytes;
      std::byte* values = scales + padded(unit.scales);
      std::memset(scales + unit.scales, 0, padded(unit.scales) - unit.scales);
      std::memset(values + unit.values, 0, padded(unit.values) - unit.values);
    }
    if (!int8_encode_tokens(layout, 0, layout.tokens, plain, out))
      return Status{Code::unsupported, "not finite"};
    return static_cast<std::size_t>(units * unit.bytes);
  }

  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override {
    const BlockLayout& layout = context.layout;
    const Int8Unit unit = int8_unit(layout);
    const std::uint64_t units = layer_units(layout);
    const CodecLoops& loops = codec_kernel().of(layout.dtype);
    if (!supports(layout) || encoded.size() != units * unit.bytes) return Code::corrupted;
    bool sound = true;
    for (std::uint64_t u = 0; u < units; ++u) {
      const Bytes part = encoded.subspan(u * unit.bytes, unit.bytes);
      const Bytes values = part.subspan(padded(unit.scales));
      sound = sound && all_zero(values.subspan(unit.values)) &&
              all_zero(part.first(padded(unit.scales)).subspan(unit.scales));
      const auto* from = reinterpret_cast<const std::int8_t*>(values.data());
      const UnitRows rows = unit_rows(layout, u);
      std::byte* row = plain.data() + rows.first;
      for (std::uint32_t t = 0; t < layout.tokens; ++t, row += rows.stride) {
        sound = loops.int8_decode(part.data() + 2 * t,
                                  from + std::uint64_t{t} * layout.head_dim,
                                  layout.head_dim, row, context.stream) &&
                sound;
      }
    }
    if (context.stream) loops.settle();
    return sound ? Code::ok : Code::corrupted;
  }
};

}  // namespace

bool int8_encode_tokens(const BlockLayout& layout, std::uint32_t first,
                        std::uint32_t count, Bytes plain, MutableBytes out) noexcept {
  const Int8Unit unit = int8_unit(layout);
  const std::uint64_t units = layer_units(layout);
  const CodecLoops& loops = codec_kernel().of(layout.dtype);
  for (std::uint64_t u = 0; u < units; ++u) {
    std::byte* const scales = out.data() + u * unit.bytes;
    auto* const values = reinterpret_cast<std::int8_t*>(scales + padded(unit.scales));
    const UnitRows rows = unit_rows(layout, u);
    for (std::uint32_t t = first; t < first + count; ++t) {
      if (!loops.int8_encode(plain.data() + rows.first + t * rows.stride, layout.head_dim,
                             scales + 2 * t, values + std::uint64_t{t} * layout.head_dim))
        return false;
    }
  }
  return true;
}

const Codec& int8_codec() noexcept {
  static const Int8 codec;
  return codec;
}

}  // namespace speckv

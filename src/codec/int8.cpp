// int8: rows of 8-bit values, each under a scale of its own.
#include "codec/int8.hpp"

#include <cstring>

#include "codec/bare_units.hpp"
#include "codec/kernels.hpp"

namespace speckv {
namespace {

class Int8 final : public BareUnits {
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
    if (!supports(layout) || encoded.size() != units * unit.bytes) return Code::corrupted;
    bool sound = true;
    for (std::uint64_t u = 0; u < units; ++u) {
      const UnitRows rows = unit_rows(layout, u);
      sound = read_unit(context, encoded.subspan(u * unit.bytes, unit.bytes),
                        plain.data() + rows.first, rows.stride) &&
              sound;
    }
    if (context.stream) codec_kernel().of(layout.dtype).settle();
    return sound ? Code::ok : Code::corrupted;
  }

  Result<UnitSpan> bare_unit_at(const BlockLayout& layout, Bytes /*directory*/,
                                std::uint64_t unit) const noexcept override {
    const std::uint64_t bytes = int8_unit(layout).bytes;
    return UnitSpan{unit * bytes, bytes};
  }

  Code decode_bare_unit(const LayerContext& context, std::uint64_t /*unit*/,
                        Bytes encoded, const UnitTarget& to) const noexcept override {
    const bool sound = encoded.size() == int8_unit(context.layout).bytes &&
                       read_unit(context, encoded, to.rows.data(), to.stride);
    if (context.stream) codec_kernel().of(context.layout.dtype).settle();
    return sound ? Code::ok : Code::corrupted;
  }

 private:
  static bool read_unit(const LayerContext& context, Bytes encoded, std::byte* row,
                        std::uint64_t stride) noexcept {
    const BlockLayout& layout = context.layout;
    const Int8Unit unit = int8_unit(layout);
    const CodecLoops& loops = codec_kernel().of(layout.dtype);
    const Bytes values = encoded.subspan(padded(unit.scales));
    bool sound = all_zero(values.subspan(unit.values)) &&
                 all_zero(encoded.first(padded(unit.scales)).subspan(unit.scales));
    const auto* from = reinterpret_cast<const std::int8_t*>(values.data());
    for (std::uint32_t t = 0; t < layout.tokens; ++t, row += stride) {
      sound = loops.int8_decode(encoded.data() + 2 * t,
                                from + std::uint64_t{t} * layout.head_dim,
                                layout.head_dim, row, context.stream) &&
              sound;
    }
    return sound;
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

// kvq4: four bits a value, asymmetric: K in groups of one channel over the tokens of the
// block, V (and latent rows) in groups of one token over its channels.
//
// Parameters of a group: a scale (of the layer's own dtype) and a zero (int16). A value
// is (q - zero) * scale, which is exact before its one rounding: 13 bits times 11.
#include <array>
#include <cstring>

#include "codec/bare_units.hpp"
#include "codec/kernels.hpp"

namespace speckv {
namespace {

class Kvq4 final : public BareUnits {
 public:
  CodecId id() const noexcept override { return CodecId::kvq4; }
  std::string_view name() const noexcept override { return "kvq4"; }

  bool supports(const BlockLayout& layout) const noexcept override {
    const std::uint32_t d = layout.head_dim;
    return has_16_bit_rows(layout) && layout.tokens >= 16 && layout.tokens <= 256 &&
           d <= 1024 && d % (d <= 256 ? 16 : 64) == 0;
  }

  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    std::uint64_t bytes = 0;
    for (const Part& part : parts(layout))
      bytes += part.units * part.bytes;
    return bytes;
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override {
    const BlockLayout& layout = context.layout;
    const Kvq4Shape shape = kvq4_shape(layout);
    std::byte* to = out.data();
    std::uint64_t unit = 0;
    for (const Part& part : parts(layout)) {
      for (std::uint64_t u = 0; u < part.units; ++u, ++unit, to += part.bytes) {
        std::memset(to + part.parameters, 0, padded(part.parameters) - part.parameters);
        std::memset(to + part.bytes - part.tail, 0, part.tail);
        if (!part.encode(shape, plain.data() + unit_rows(layout, unit).first, to)) {
          return Status{Code::unsupported, "not finite"};
        }
      }
    }
    return static_cast<std::size_t>(to - out.data());
  }

  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override {
    const BlockLayout& layout = context.layout;
    if (!supports(layout) || encoded.size() != max_layer_bytes(layout)) {
      return Code::corrupted;
    }
    const bool sound = decode_units(context, encoded, plain);
    if (context.stream) codec_kernel().of(layout.dtype).settle();
    return sound ? Code::ok : Code::corrupted;
  }

  Result<UnitSpan> bare_unit_at(const BlockLayout& layout, Bytes /*directory*/,
                                std::uint64_t unit) const noexcept override {
    const auto [keys, values] = parts(layout);
    if (unit < keys.units) return UnitSpan{unit * keys.bytes, keys.bytes};
    const std::uint64_t before = keys.units * keys.bytes;
    return UnitSpan{before + (unit - keys.units) * values.bytes, values.bytes};
  }

  Code decode_bare_unit(const LayerContext& context, std::uint64_t unit, Bytes encoded,
                        const UnitTarget& to) const noexcept override {
    const auto [keys, values] = parts(context.layout);
    const Part& part = unit < keys.units ? keys : values;
    Kvq4Shape shape = kvq4_shape(context.layout);
    shape.stride = to.stride;
    const bool sound = encoded.size() == part.bytes &&
                       part.read(shape, encoded, to.rows.data(), context.stream);
    if (context.stream) codec_kernel().of(context.layout.dtype).settle();
    return sound ? Code::ok : Code::corrupted;
  }

 private:
  static bool decode_units(const LayerContext& context, Bytes encoded,
                           MutableBytes plain) noexcept {
    const BlockLayout& layout = context.layout;
    const Kvq4Shape shape = kvq4_shape(layout);
    std::uint64_t number = 0;
    for (const Part& part : parts(layout)) {
      for (std::uint64_t u = 0; u < part.units; ++u, ++number) {
        if (!part.read(shape, encoded.first(part.bytes),
                       plain.data() + unit_rows(layout, number).first, context.stream))
          return false;
        encoded = encoded.subspan(part.bytes);
      }
    }
    return true;
  }

  // The units of K, or of V: how many, how large, and how to do one.
  struct Part {
    std::uint64_t units, parameters, tail, bytes;
    CodecLoops::Kvq4Encode encode;
    CodecLoops::Kvq4Decode decode;

    // False: a unit that no encoder wrote.
    bool read(const Kvq4Shape& shape, Bytes unit, std::byte* plain,
              bool stream) const noexcept {
      return all_zero(unit.first(padded(parameters)).subspan(parameters)) &&
             all_zero(unit.last(tail)) && decode(shape, unit.data(), plain, stream);
    }
  };
  static std::array<Part, 2> parts(const BlockLayout& layout) noexcept {
    const Kvq4Shape shape = kvq4_shape(layout);
    const CodecLoops& loops = codec_kernel().of(layout.dtype);
    const std::uint64_t nibbles = padded(shape.nibbles());
    const std::uint64_t tail = nibbles - shape.nibbles();
    const std::uint64_t keys = shape.key_parameters(), values = shape.value_parameters();
    const std::uint64_t key_units =
        layout.kind == BlockLayout::Kind::latent ? 0 : layout.kv_heads;
    return {{{key_units, keys, tail, padded(keys) + nibbles, loops.kvq4_encode_keys,
              loops.kvq4_decode_keys},
             {layout.kv_heads, values, tail, padded(values) + nibbles,
              loops.kvq4_encode_values, loops.kvq4_decode_values}}};
  }
};

}  // namespace

const Codec& kvq4_codec() noexcept {
  static const Kvq4 codec;
  return codec;
}

}  // namespace speckv

// codec/slot_codec.hpp -- codecs whose units have one size, hence a place that is known
// without a directory (internal).
//
// Every unit starts with the CRC-32C of its other bytes, so that it can be read alone.
#pragma once

#include <cstring>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "codec/builtin.hpp"
#include "codec/kernels.hpp"

namespace speckv {

class SlotCodec : public Codec {
 public:
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept final {
    return key_units(layout) * unit_bytes(layout, true) +
           layout.kv_heads * unit_bytes(layout, false);
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept final {
    const BlockLayout& layout = context.layout;
    const std::uint64_t units = layer_units(layout), keys = key_units(layout);
    std::uint64_t at = 0;
    for (std::uint64_t u = 0; u < units; ++u) {
      const UnitRows rows = unit_rows(layout, u);
      const MutableBytes unit = out.subspan(at, unit_bytes(layout, u < keys));
      std::memset(unit.data(), 0, unit.size());
      if (!encode_slot(layout, u < keys, plain.data() + rows.first, rows.stride, unit))
        return Status{Code::unsupported, "not finite"};
      store_le(unit.data(), crc32c(0, unit.subspan(kCrcBytes)));
      at += unit.size();
    }
    return static_cast<std::size_t>(at);
  }

  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept final {
    const BlockLayout& layout = context.layout;
    if (!supports(layout) || encoded.size() != max_layer_bytes(layout))
      return Code::corrupted;
    const std::uint64_t units = layer_units(layout);
    bool sound = true;
    for (std::uint64_t u = 0; u < units && sound; ++u) {
      const UnitRows rows = unit_rows(layout, u);
      const UnitSpan at = place_of(layout, u);
      sound = read(context, u, encoded.subspan(at.first, at.bytes),
                   {.rows = plain.subspan(rows.first), .stride = rows.stride});
    }
    settle(context);
    return sound ? Code::ok : Code::corrupted;
  }

  Result<UnitSpan> unit_at(const BlockLayout& layout, Bytes /*directory*/,
                           std::uint64_t unit) const noexcept final {
    return place_of(layout, unit);
  }

  Code decode_unit(const LayerContext& context, std::uint64_t unit, Bytes encoded,
                   Bytes /*directory*/, const UnitTarget& to) const noexcept final {
    const bool sound = read(context, unit, encoded, to);
    settle(context);
    return sound ? Code::ok : Code::corrupted;
  }

  static constexpr std::size_t kCrcBytes = 4;

 protected:
  // Of a unit of K, or of V and latent rows; a multiple of 64.
  virtual std::uint64_t unit_bytes(const BlockLayout& layout,
                                   bool keys) const noexcept = 0;
  // Fills all but the checksum of a unit that is zero. False: a NaN or an infinity.
  virtual bool encode_slot(const BlockLayout& layout, bool keys, const std::byte* plain,
                           std::uint64_t stride, MutableBytes unit) const noexcept = 0;
  // False: no encoder wrote it.
  virtual bool decode_slot(const BlockLayout& layout, bool keys, Bytes unit,
                           std::byte* plain, std::uint64_t stride,
                           bool stream) const noexcept = 0;

 private:
  bool read(const LayerContext& context, std::uint64_t unit, Bytes encoded,
            const UnitTarget& to) const noexcept {
    const BlockLayout& layout = context.layout;
    const bool keys = unit < key_units(layout);
    return encoded.size() == unit_bytes(layout, keys) &&
           crc32c(0, encoded.subspan(kCrcBytes)) ==
               load_le<std::uint32_t>(encoded.data()) &&
           decode_slot(layout, keys, encoded, to.rows.data(), to.stride, context.stream);
  }
  static void settle(const LayerContext& context) noexcept {
    if (context.stream) codec_kernel().of(context.layout.dtype).settle();
  }
  static std::uint64_t key_units(const BlockLayout& layout) noexcept {
    return layout.kind == BlockLayout::Kind::latent ? 0 : layout.kv_heads;
  }
  UnitSpan place_of(const BlockLayout& layout, std::uint64_t unit) const noexcept {
    const std::uint64_t keys = key_units(layout);
    const std::uint64_t key = unit_bytes(layout, true), value = unit_bytes(layout, false);
    if (unit < keys) return {unit * key, key};
    return {keys * key + (unit - keys) * value, value};
  }
};

}  // namespace speckv

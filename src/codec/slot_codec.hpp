// codec/slot_codec.hpp -- codecs whose units have one size, hence a place that is known
// without a directory (internal).
//
// Every unit starts with the CRC-32C of its other bytes, so that it can be read alone.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>

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
    const std::uint64_t keys = key_units(layout);
    bool sound = true;
    for (std::uint64_t u = 0; u < units && sound;) {
      const std::uint64_t end = u < keys ? keys : units;
      Slot slots[kAtOnce];
      std::size_t count = 0;
      const std::uint64_t first = u;
      std::uint64_t stride = 0;
      for (; count < kAtOnce && u < end; ++count, ++u) {
        const UnitRows rows = unit_rows(layout, u);
        const UnitSpan at = place_of(layout, u);
        slots[count] = {encoded.subspan(at.first, at.bytes), plain.data() + rows.first};
        stride = rows.stride;
      }
      sound = read(context, first, std::span(slots).first(count), stride);
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
    const Slot slot{encoded, to.rows.data()};
    const bool sound = read(context, unit, {&slot, 1}, to.stride);
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
  // A unit to decode, and where its first row lies.
  struct Slot {
    Bytes encoded;
    std::byte* plain;
  };
  static constexpr std::size_t kAtOnce = 4;
  // Up to kAtOnce units. False: one that no encoder wrote.
  virtual bool decode_slots(const BlockLayout& layout, bool keys,
                            std::span<const Slot> slots, std::uint64_t stride,
                            bool stream) const noexcept = 0;

 private:
  // `unit`: the first of them. All are K, or none is.
  bool read(const LayerContext& context, std::uint64_t unit, std::span<const Slot> slots,
            std::uint64_t stride) const noexcept {
    const BlockLayout& layout = context.layout;
    const bool keys = unit < key_units(layout);
    const std::uint64_t bytes = unit_bytes(layout, keys);
    return std::all_of(slots.begin(), slots.end(),
                       [&](const Slot& slot) {
                         return slot.encoded.size() == bytes &&
                                crc32c(0, slot.encoded.subspan(kCrcBytes)) ==
                                    load_le<std::uint32_t>(slot.encoded.data());
                       }) &&
           decode_slots(layout, keys, slots, stride, context.stream);
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

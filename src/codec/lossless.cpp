// lossless: every bit pattern comes back. Values are rotated left by one bit, so that the
// sign joins the mantissa and the first byte is all exponent (bf16, f32) or exponent and
// the mantissa's top (f16). Then each byte of the values is a plane of its own: exponents
// take few values and get a prefix code, mantissas are noise and stay as they are.
//
// A layer: (end, CRC-32C) of every unit, then the units; all parts padded to 64 bytes.
#include "codec/lossless.hpp"

#include <cstring>

#include "base/checksum.hpp"
#include "base/endian.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kEntryBytes = 8;

std::uint64_t directory_size(const BlockLayout& layout) noexcept {
  return padded(layer_units(layout) * kEntryBytes);
}

lossless::Rows rows_of(const BlockLayout& layout, std::uint64_t stride) noexcept {
  return {layout.tokens, layout.head_dim,
          static_cast<std::uint32_t>(bytes_of(layout.dtype)), stride};
}

class Lossless final : public Codec {
 public:
  CodecId id() const noexcept override { return CodecId::lossless; }
  std::string_view name() const noexcept override { return "lossless"; }
  bool supports(const BlockLayout& layout) const noexcept override {
    return has_rows(layout) && max_layer_bytes(layout) <= UINT32_MAX;
  }
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    return directory_size(layout) +
           layer_units(layout) * lossless::unit_bound(rows_of(layout, 0));
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override {
    const BlockLayout& layout = context.layout;
    const std::uint64_t units = layer_units(layout);
    std::uint64_t at = directory_size(layout);
    std::memset(out.data(), 0, at);
    for (std::uint64_t u = 0; u < units; ++u) {
      const UnitRows rows = unit_rows(layout, u);
      const std::uint64_t bytes = lossless::encode_unit(
          rows_of(layout, rows.stride), plain.data() + rows.first, out.subspan(at));
      std::byte* const entry = out.data() + u * kEntryBytes;
      store_le(entry + 4, crc32c(0, out.subspan(at, bytes)));
      at += bytes;
      store_le(entry, static_cast<std::uint32_t>(at));
    }
    return static_cast<std::size_t>(at);
  }

  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override {
    const BlockLayout& layout = context.layout;
    const std::uint64_t directory = directory_size(layout);
    if (!supports(layout) || encoded.size() < directory) return Code::corrupted;
    const std::uint64_t units = layer_units(layout);
    const Bytes padding = encoded.first(directory).subspan(units * kEntryBytes);
    std::uint64_t end = directory;
    for (std::uint64_t u = 0; u < units;) {
      lossless::Unit some[lossless::kMostUnits];
      std::size_t count = 0;
      std::uint64_t stride = 0;
      for (; count < lossless::kMostUnits && u < units; ++count, ++u) {
        const auto found = unit_at(layout, encoded.first(directory), u);
        if (!found) return Code::corrupted;
        const UnitSpan unit = *found;
        if (unit.first != end || unit.bytes > encoded.size() - end)
          return Code::corrupted;
        const UnitRows rows = unit_rows(layout, u);
        some[count] = {encoded.subspan(end, unit.bytes), plain.data() + rows.first};
        stride = rows.stride;
        if (!is_sound(u, some[count].encoded, encoded)) return Code::corrupted;
        end += unit.bytes;
      }
      if (!lossless::decode_units(rows_of(layout, stride), std::span(some).first(count)))
        return Code::corrupted;
    }
    return end == encoded.size() && all_zero(padding) ? Code::ok : Code::corrupted;
  }

  std::uint64_t directory_bytes(const BlockLayout& layout) const noexcept override {
    return directory_size(layout);
  }
  Result<UnitSpan> unit_at(const BlockLayout& layout, Bytes directory,
                           std::uint64_t unit) const noexcept override {
    const std::uint64_t first =
        unit == 0 ? directory_size(layout)
                  : load_le<std::uint32_t>(directory.data() + (unit - 1) * kEntryBytes);
    const std::uint64_t end =
        load_le<std::uint32_t>(directory.data() + unit * kEntryBytes);
    if (first < directory_size(layout) || end <= first || (first | end) % 64 != 0 ||
        end - first > lossless::unit_bound(rows_of(layout, 0)))
      return Status{Code::corrupted, "bad directory"};
    return UnitSpan{first, end - first};
  }
  Code decode_unit(const LayerContext& context, std::uint64_t unit, Bytes encoded,
                   Bytes directory, const UnitTarget& to) const noexcept override {
    if (!is_sound(unit, encoded, directory)) return Code::corrupted;
    const lossless::Unit one{encoded, to.rows.data()};
    return lossless::decode_units(rows_of(context.layout, to.stride), {&one, 1})
               ? Code::ok
               : Code::corrupted;
  }

 private:
  // Whether a unit's bytes have the checksum of the directory.
  static bool is_sound(std::uint64_t unit, Bytes encoded, Bytes directory) noexcept {
    const std::byte* const entry = directory.data() + unit * kEntryBytes;
    return crc32c(0, encoded) == load_le<std::uint32_t>(entry + 4);
  }
};

}  // namespace

const Codec& lossless_codec() noexcept {
  static const Lossless codec;
  return codec;
}

}  // namespace speckv

#include "codec/frame_units.hpp"

#include <algorithm>
#include <cassert>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "codec/bare_units.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kCheckBytes = 4;

bool checks_hold(const FrameLayer& layer, const EncodedUnit& from,
                 std::uint64_t unit) noexcept {
  return from.checks.size() == layer.checks_bytes() &&
         crc32c(0, from.checks) == layer.checks_crc &&
         crc32c(0, from.bytes) ==
             load_le<std::uint32_t>(from.checks.data() + unit * kCheckBytes);
}

}  // namespace

std::uint64_t check_lines(CodecId codec, const BlockLayout& coded) noexcept {
  if (bare_units(codec) == nullptr) return 0;
  return align_up(layer_units(coded) * kCheckBytes, kFrameAlign) / kFrameAlign;
}

std::uint32_t write_checks(CodecId id, const BlockLayout& coded, Bytes layer,
                           MutableBytes to) noexcept {
  assert(!to.empty() && to.size() == check_lines(id, coded) * kFrameAlign);
  const BareUnits& codec = *bare_units(id);
  const Bytes directory = layer.first(codec.directory_bytes(coded));
  const std::uint64_t units = layer_units(coded);
  for (std::uint64_t u = 0; u < units; ++u) {
    const UnitSpan at = *codec.bare_unit_at(coded, directory, u);
    store_le(to.data() + u * kCheckBytes, crc32c(0, layer.subspan(at.first, at.bytes)));
  }
  const MutableBytes rest = to.subspan(units * kCheckBytes);
  std::fill(rest.begin(), rest.end(), std::byte{0});
  return crc32c(0, to);
}

Result<UnitSpan> frame_unit(const BlockLayout& layout, const FrameLayer& layer,
                            Bytes directory, std::uint64_t unit) noexcept {
  const BareUnits* const bare = bare_units(layer.codec);
  if (layer.codec == CodecId::raw || (bare != nullptr && layer.check_lines == 0))
    return Status{Code::unsupported, "no checksums of units"};
  const BlockLayout coded = coded_layout(layout);
  const Codec& codec = *find_codec(layer.codec);
  if (directory.size() != codec.directory_bytes(coded))
    return Status{Code::corrupted, "no directory"};
  const auto at = bare != nullptr ? bare->bare_unit_at(coded, directory, unit)
                                  : codec.unit_at(coded, directory, unit);
  if (!at) return at.error();
  if (at->first > layer.bytes || at->bytes > layer.bytes - at->first)
    return Status{Code::corrupted, "a unit beyond its layer"};
  return UnitSpan{layer.offset + at->first, at->bytes};
}

Code decode_unit(const BlockLayout& layout, const FrameInfo& info, std::uint32_t index,
                 const FrameLayer& layer, std::uint64_t unit, const EncodedUnit& from,
                 Bytes profile, const UnitTarget& to) noexcept {
  const auto at = frame_unit(layout, layer, from.directory, unit);
  if (!at) return at.error().code();
  if (from.bytes.size() != at->bytes) return Code::corrupted;
  const BlockLayout coded = coded_layout(layout);
  const LayerContext context{coded, index, info.first_position, profile};
  if (const BareUnits* const bare = bare_units(layer.codec)) {
    return checks_hold(layer, from, unit)
               ? bare->decode_bare_unit(context, unit, from.bytes, to)
               : Code::corrupted;
  }
  return find_codec(layer.codec)
      ->decode_unit(context, unit, from.bytes, from.directory, to);
}

}  // namespace speckv

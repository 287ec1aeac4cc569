// codec/bare_units.hpp -- codecs whose units have no checksum in their own bytes
// (internal).
//
// Cards read and write the same bytes, so none can be added there. A frame holds the
// checksums instead and reads such a unit alone by these functions
// (codec/frame_units.hpp); Codec::decode_unit(), which would have to deliver it
// unchecked, stays `unsupported`.
#pragma once

#include "codec/builtin.hpp"

namespace speckv {

class BareUnits : public Codec {
 public:
  // Where a unit lies in an encoded layer that starts with `directory`; REQUIRES:
  // directory.size() == directory_bytes(). corrupted: one that cannot be. Safe on any
  // bytes.
  virtual Result<UnitSpan> bare_unit_at(const BlockLayout& layout, Bytes directory,
                                        std::uint64_t unit) const noexcept = 0;
  // Decodes one whose checksum held. Safe on any bytes.
  virtual Code decode_bare_unit(const LayerContext& context, std::uint64_t unit,
                                Bytes encoded, const UnitTarget& to) const noexcept = 0;
};

// nullptr: the codec is none of them.
inline const BareUnits* bare_units(CodecId id) noexcept {
  switch (id) {
    case CodecId::int8:
      return static_cast<const BareUnits*>(&int8_codec());
    case CodecId::int8_delta_rle:
      return static_cast<const BareUnits*>(&int8_delta_rle_codec());
    case CodecId::kvq4:
      return static_cast<const BareUnits*>(&kvq4_codec());
    default:
      return nullptr;
  }
}

}  // namespace speckv

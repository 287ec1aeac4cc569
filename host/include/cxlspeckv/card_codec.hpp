// cxlspeckv/card_codec.hpp -- a codec whose work a card does, for Tier::codec.
//
// The card's ENCODE and DECODE make the bytes that the built-in codec of the same id
// makes, so a tier may change between the two at any time. Layers go to the card and come
// back by its own DMA, through memory of this codec: what a tier holds is still put there
// by the tier's device.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "cxlspeckv/codec.hpp"

namespace speckv {

// Since it was opened. Bytes are of layers that the card did.
struct CardCodecStats {
  std::uint64_t descriptors = 0;  // given to the card
  std::uint64_t encode_in = 0, encode_out = 0, decode_in = 0, decode_out = 0;
  std::uint64_t on_host = 0;  // layers that the built-in codec did in its place
};

// Any thread; the card does one layer at a time. What the card does not do (a layer
// larger than it takes, values that it refuses, no answer within the timeout, an answer
// that cannot be, coded bytes without the checksum that it told) the built-in codec does,
// so answers are that codec's. Decoded values are believed.
class CardCodec final : public Codec {
 public:
  // "soft:", or "cxl:/dev/speckvN", with timeout= if the default of devices is not
  // wanted. unsupported: the card does not have that codec. invalid_argument: no such
  // name.
  static Result<std::unique_ptr<CardCodec>> open(std::string_view uri, CodecId codec);
  ~CardCodec() override;

  CardCodecStats stats() const noexcept;

  CodecId id() const noexcept override;
  std::string_view name() const noexcept override;
  bool supports(const BlockLayout& layout) const noexcept override;
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override;
  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override;
  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override;

  class Coder;  // internal
  explicit CardCodec(const Codec& host, std::unique_ptr<Coder> coder) noexcept;

 private:
  const Codec& host_;
  const std::unique_ptr<Coder> coder_;
};

}  // namespace speckv

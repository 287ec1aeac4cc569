#include "codec/builtin.hpp"
#include "codec/slot_plan.hpp"

namespace speckv {

std::span<const Codec* const> builtin_codecs() noexcept {
  static const Codec* const codecs[] = {
      &raw_codec(),      &int8_codec(),  &int8_delta_rle_codec(), &kvq4_codec(),  //
      &lossless_codec(), rt_codecs()[0], rt_codecs()[1],          rt_codecs()[2],
      rt_codecs()[3],    hx_codecs()[0], hx_codecs()[1],          hx_codecs()[2],
      hx_codecs()[3],    hx_codecs()[4], hxp_codecs()[0],         hxp_codecs()[1],
      hxp_codecs()[2]};
  return codecs;
}

const Codec* find_codec(std::string_view name) noexcept {
  for (const Codec* codec : builtin_codecs()) {
    if (codec->name() == name) return codec;
  }
  return targeted_hxp_codec(name);
}

const Codec* find_codec(CodecId id) noexcept {
  for (const Codec* codec : builtin_codecs()) {
    if (codec->id() == id) return codec;
  }
  return nullptr;
}

}  // namespace speckv

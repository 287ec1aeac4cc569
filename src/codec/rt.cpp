// rt: a rate of 2, 3 or 4 bits a value. K without its means and divided by channel
// weights, V as it is; signs turned and rows transformed (Hadamard), so that all values
// of a row are alike; a gain a token; then an eight-state trellis-coded quantiser, whose
// decoder is shifts, XORs and a table.
#include "codec/rt.hpp"

#include <algorithm>

#include "codec/kernels.hpp"
#include "codec/slot_codec.hpp"

namespace speckv {
namespace {

class Rt final : public SlotCodec {
 public:
  constexpr Rt(CodecId id, std::string_view name, std::uint32_t key_rate,
               std::uint32_t value_rate) noexcept
      : id_(id), name_(name), key_rate_(key_rate), value_rate_(value_rate) {}

  CodecId id() const noexcept override { return id_; }
  std::string_view name() const noexcept override { return name_; }
  bool supports(const BlockLayout& layout) const noexcept override {
    const bool keys = layout.kind != BlockLayout::Kind::latent;
    return rt_takes(layout) && (!keys || layout.head_dim <= 256);
  }

 protected:
  std::uint64_t unit_bytes(const BlockLayout& layout, bool keys) const noexcept override {
    return shape_of(layout, keys, 0).bytes();
  }
  bool encode_slot(const BlockLayout& layout, bool keys, const std::byte* plain,
                   std::uint64_t stride, MutableBytes unit) const noexcept override {
    const RtShape shape = shape_of(layout, keys, stride);
    return codec_kernel()
        .of(layout.dtype)
        .rt->encode[shape.rate - 2](shape, plain, unit.data());
  }
  bool decode_slots(const BlockLayout& layout, bool keys, std::span<const Slot> slots,
                    std::uint64_t stride, bool stream) const noexcept override {
    const RtShape shape = shape_of(layout, keys, stride);
    const RtLoops::Decode of_rate =
        codec_kernel().of(layout.dtype).rt->decode[shape.rate - 2];
    return std::all_of(slots.begin(), slots.end(), [&](const Slot& slot) {
      return of_rate(shape, slot.encoded, slot.plain, stream);
    });
  }

 private:
  RtShape shape_of(const BlockLayout& layout, bool keys,
                   std::uint64_t stride) const noexcept {
    return {layout.tokens, layout.head_dim, stride, keys ? key_rate_ : value_rate_, keys};
  }

  CodecId id_;
  std::string_view name_;
  std::uint32_t key_rate_, value_rate_;
};

}  // namespace

std::span<const Codec* const> rt_codecs() noexcept {
  static const Rt rt44(CodecId::rt44, "rt44", 4, 4), rt43(CodecId::rt43, "rt43", 4, 3),
      rt33(CodecId::rt33, "rt33", 3, 3), rt32(CodecId::rt32, "rt32", 3, 2);
  static const Codec* const all[] = {&rt44, &rt43, &rt33, &rt32};
  return all;
}

}  // namespace speckv

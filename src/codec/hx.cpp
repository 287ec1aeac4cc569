// hx: slots of a fixed size, filled by the finest step that fits. Numbers of steps are
// coded channel by channel with one of sixteen static prefix codes; K without its means,
// V with a finer step for smaller tokens. 16 tokens are coded side by side.
#include "codec/hx.hpp"

#include "codec/kernels.hpp"
#include "codec/slot_codec.hpp"

namespace speckv {
namespace {

class Hx final : public SlotCodec {
 public:
  // bytes: of 8192 values.
  constexpr Hx(CodecId id, std::string_view name, std::uint32_t bytes) noexcept
      : id_(id), name_(name), bytes_(bytes) {}

  CodecId id() const noexcept override { return id_; }
  std::string_view name() const noexcept override { return name_; }
  // Small units would be all head.
  bool supports(const BlockLayout& layout) const noexcept override {
    const std::uint64_t values = std::uint64_t{layout.tokens} * layout.head_dim;
    const bool keys = layout.kind != BlockLayout::Kind::latent;
    return has_16_bit_rows(layout) && layout.tokens >= 16 &&
           layout.tokens <= HxShape::kMostTokens && layout.head_dim % 16 == 0 &&
           layout.head_dim >= 64 && layout.head_dim <= HxShape::kMostChannels &&
           (!keys || layout.head_dim <= 256) && values <= HxShape::kMostValues;
  }

 protected:
  std::uint64_t unit_bytes(const BlockLayout& layout, bool keys) const noexcept override {
    return shape_of(layout, keys, 0).slot;
  }
  bool encode_slot(const BlockLayout& layout, bool keys, const std::byte* plain,
                   std::uint64_t stride, MutableBytes unit) const noexcept override {
    return codec_kernel()
        .of(layout.dtype)
        .hx->encode(shape_of(layout, keys, stride), plain, unit);
  }
  bool decode_slots(const BlockLayout& layout, bool keys, std::span<const Slot> slots,
                    std::uint64_t stride, bool stream) const noexcept override {
    HxUnit units[HxLoops::kMostUnits];
    for (std::size_t i = 0; i < slots.size(); ++i)
      units[i] = {slots[i].encoded, slots[i].plain};
    return codec_kernel()
        .of(layout.dtype)
        .hx->decode(shape_of(layout, keys, stride), std::span(units).first(slots.size()),
                    stream);
  }

 private:
  HxShape shape_of(const BlockLayout& layout, bool keys,
                   std::uint64_t stride) const noexcept {
    const std::uint64_t values = std::uint64_t{layout.tokens} * layout.head_dim;
    return {layout.tokens, layout.head_dim, stride,
            std::max<std::uint64_t>(values * bytes_ / 8192 / 64 * 64, 64), keys};
  }

  CodecId id_;
  std::string_view name_;
  std::uint32_t bytes_;
};

}  // namespace

std::span<const Codec* const> hx_codecs() noexcept {
  static const Hx a(CodecId::hx5120, "hx5120", 5120), b(CodecId::hx4608, "hx4608", 4608),
      c(CodecId::hx4096, "hx4096", 4096), d(CodecId::hx3584, "hx3584", 3584),
      e(CodecId::hx3072, "hx3072", 3072);
  static const Codec* const all[] = {&a, &b, &c, &d, &e};
  return all;
}

}  // namespace speckv

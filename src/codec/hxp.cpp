// hxp: hx under a model's profile, with slots of a size for each layer and head. A layer
// starts with its directory, which takes its bytes from the first unit's slot.
#include "codec/hxp.hpp"

#include <cstring>
#include <map>
#include <memory>

#include "cxlspeckv/guarded.hpp"

#include "base/checksum.hpp"
#include "base/mutex.hpp"
#include "codec/kernels.hpp"
#include "codec/number.hpp"
#include "codec/slot_plan.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kCrcBytes = 4, kEntryUnit = 64;

class Hxp final : public Codec {
 public:
  constexpr Hxp(CodecId id, std::string_view name, const SlotTarget& target) noexcept
      : id_(id), name_(name), target_(target) {}
  const SlotTarget& target() const noexcept { return target_; }

  CodecId id() const noexcept override { return id_; }
  std::string_view name() const noexcept override { return name_; }
  // As hx; and the directory must not be what a layer is made of.
  bool supports(const BlockLayout& layout) const noexcept override {
    return hx_codecs()[0]->supports(layout) &&
           directory_bytes(layout) <= slot(layout, ModelProfile::kLeastSlot) / 4;
  }
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    const bool one = target_.kind == SlotTarget::Kind::slot;
    return layer_units(layout) *
           slot(layout, one ? target_.value : ModelProfile::kMostSlot);
  }

  std::uint64_t directory_bytes(const BlockLayout& layout) const noexcept override {
    return (2 * layer_units(layout) + 15) / 16 * 16;
  }
  Result<UnitSpan> unit_at(const BlockLayout& layout, Bytes directory,
                           std::uint64_t unit) const noexcept override {
    UnitSpan at;
    if (directory.size() < directory_bytes(layout) ||
        !find(layout, directory.data(), unit, at))
      return Status{Code::corrupted, "no such directory"};
    return at;
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override;
  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override;
  Code decode_unit(const LayerContext& context, std::uint64_t unit, Bytes encoded,
                   Bytes /*directory*/, const UnitTarget& to) const noexcept override {
    ModelProfile profile;
    const bool known = usable(context, profile);
    const Slot slot{encoded, to.rows.data()};
    const bool sound =
        read(context, known ? &profile : nullptr, unit, {&slot, 1}, to.stride);
    settle(context);
    return sound ? Code::ok : Code::corrupted;
  }

 private:
  static std::uint64_t slot(const BlockLayout& layout, std::uint32_t bytes) noexcept {
    const std::uint64_t values = std::uint64_t{layout.tokens} * layout.head_dim;
    return std::max<std::uint64_t>(values * bytes / 8192 / kEntryUnit * kEntryUnit,
                                   kEntryUnit);
  }
  static std::uint64_t key_units(const BlockLayout& layout) noexcept {
    return layout.kind == BlockLayout::Kind::latent ? 0 : layout.kv_heads;
  }
  static void settle(const LayerContext& context) noexcept {
    if (context.stream) codec_kernel().of(context.layout.dtype).settle();
  }
  // The profile, where the block has one and a place in its sequence.
  static bool usable(const LayerContext& context, ModelProfile& profile) noexcept {
    return context.first_position < kNoPosition - context.layout.tokens &&
           profile.open(context.profile) && profile.fits(context.layout);
  }
  static ModelProfile::Head head(const LayerContext& context,
                                 std::uint64_t unit) noexcept {
    const auto heads = context.layout.kv_heads;
    return {context.layer, unit >= heads, static_cast<std::uint32_t>(unit % heads)};
  }

  // Adds up the directory. False: an entry that no encoder writes.
  bool find(const BlockLayout& layout, const std::byte* directory, std::uint64_t unit,
            UnitSpan& at) const noexcept {
    const std::uint64_t most = slot(layout, ModelProfile::kMostSlot);
    std::uint64_t end = 0;
    for (std::uint64_t u = 0; u <= unit; ++u) {
      const std::uint64_t bytes = kEntryUnit * load_le<std::uint16_t>(directory + 2 * u);
      const std::uint64_t first = u == 0 ? directory_bytes(layout) : end;
      if (bytes > most || end + bytes <= first + HxShape::kHead) return false;
      end += bytes;
      at = {first, end - first};
    }
    return true;
  }

  // The slots that a target has under the profile; nullptr where it needs none, or where
  // there are no losses to go by. False: no memory.
  bool plan(const ModelProfile* profile,
            std::shared_ptr<const PlannedSlots>& planned) const noexcept {
    if (target_.kind == SlotTarget::Kind::table ||
        target_.kind == SlotTarget::Kind::slot || profile == nullptr ||
        !has_losses(*profile))
      return true;
    return guarded([&] {
             planned = plan_slots(*profile, target_);
             return Code::ok;
           }) == Code::ok;
  }
  // Of a unit, in bytes of 8192 values.
  std::uint32_t size(const LayerContext& context, const ModelProfile* profile,
                     const PlannedSlots* planned, std::uint64_t unit) const noexcept {
    const BlockLayout& layout = context.layout;
    if (planned != nullptr) return planned->slots[profile->index(head(context, unit))];
    const std::uint64_t values =
        std::uint64_t{layout.layers} * layer_units(layout) * layout.head_dim;
    switch (target_.kind) {
      case SlotTarget::Kind::bytes_per_token:
        return static_cast<std::uint32_t>(
            std::clamp<std::uint64_t>(std::uint64_t{target_.value} * 8192 / values,
                                      ModelProfile::kLeastSlot, ModelProfile::kMostSlot));
      case SlotTarget::Kind::loss:
        return kUnknown;
      case SlotTarget::Kind::slot:
        return target_.value;
      case SlotTarget::Kind::table:
        break;
    }
    for (std::uint32_t i = 0; profile != nullptr && i < profile->shape().targets; ++i) {
      if (profile->target(i) == target_.value)
        return std::clamp(profile->slot(i, head(context, unit)), ModelProfile::kLeastSlot,
                          ModelProfile::kMostSlot);
    }
    return target_.value;
  }

  bool write(const LayerContext& context, const ModelProfile* profile,
             hxp::Scratch* scratch, std::uint64_t unit, Bytes plain,
             MutableBytes to) const noexcept;
  struct Slot {
    Bytes encoded;
    std::byte* plain;
  };
  // Up to HxpLoops::kMostUnits, of which `unit` is the first. All are K, or none is.
  bool read(const LayerContext& context, const ModelProfile* profile, std::uint64_t unit,
            std::span<const Slot> slots, std::uint64_t stride) const noexcept;

  static constexpr std::uint32_t kUnknown = 4096;  // where no loss is known

  CodecId id_;
  std::string_view name_;
  SlotTarget target_;
};

Result<std::size_t> Hxp::encode(const LayerContext& context, Bytes plain,
                                MutableBytes out) const noexcept {
  const BlockLayout& layout = context.layout;
  ModelProfile model;
  const ModelProfile* const profile = usable(context, model) ? &model : nullptr;
  std::unique_ptr<hxp::Scratch, hxp::DeleteScratch> scratch;
  if (profile != nullptr) scratch.reset(hxp::make_scratch());
  std::shared_ptr<const PlannedSlots> planned;
  if (!plan(profile, planned) || (profile != nullptr && scratch == nullptr))
    return Status{Code::no_space, "no memory"};
  const std::uint64_t units = layer_units(layout);
  std::uint64_t end = 0;
  std::memset(out.data(), 0, directory_bytes(layout));
  for (std::uint64_t u = 0; u < units; ++u) {
    const std::uint64_t first = u == 0 ? directory_bytes(layout) : end;
    const std::uint64_t bytes = slot(layout, size(context, profile, planned.get(), u));
    end += bytes;
    store_le(out.data() + 2 * u, static_cast<std::uint16_t>(bytes / kEntryUnit));
    const MutableBytes unit = out.subspan(first, end - first);
    if (!write(context, profile, scratch.get(), u, plain, unit))
      return Status{Code::unsupported, "not finite, or too far from all else"};
    store_le(unit.data(), crc32c(0, unit.subspan(kCrcBytes)));
  }
  return static_cast<std::size_t>(end);
}

// With the profile, or without where it does not serve.
bool Hxp::write(const LayerContext& context, const ModelProfile* profile,
                hxp::Scratch* scratch, std::uint64_t unit, Bytes plain,
                MutableBytes to) const noexcept {
  const BlockLayout& layout = context.layout;
  const UnitRows rows = unit_rows(layout, unit);
  const std::byte* const first = plain.data() + rows.first;
  const bool keys = unit < key_units(layout);
  std::memset(to.data(), 0, to.size());
  if (profile != nullptr) {
    const HxpShape shape{layout.tokens, layout.head_dim, rows.stride, keys};
    const HxpBlock block{*profile, context.first_position};
    const HxpPlace at{block, head(context, unit)};
    const std::uint64_t twin = keys ? unit + layout.kv_heads : unit - layout.kv_heads;
    const std::byte* const other = plain.data() + unit_rows(layout, twin).first;
    if (codec_kernel()
            .of(layout.dtype)
            .hxp->encode(shape, at, first, other, to, *scratch))
      return true;
    std::memset(to.data(), 0, to.size());
  }
  const HxShape shape{layout.tokens, layout.head_dim, rows.stride, to.size(), keys};
  return to.size() <= HxShape::kMostSlot && to.size() > shape.words(true) &&
         codec_kernel().of(layout.dtype).hx->encode(shape, first, to);
}

bool Hxp::read(const LayerContext& context, const ModelProfile* profile,
               std::uint64_t unit, std::span<const Slot> slots,
               std::uint64_t stride) const noexcept {
  const BlockLayout& layout = context.layout;
  const CodecLoops& loops = codec_kernel().of(layout.dtype);
  const bool keys = unit < key_units(layout);
  HxpUnit under[HxpLoops::kMostUnits];  // the profile
  std::size_t count = 0;
  for (const Slot& slot : slots) {
    const Bytes encoded = slot.encoded;
    if (encoded.size() < HxShape::kHead ||
        crc32c(0, encoded.subspan(kCrcBytes)) != load_le<std::uint32_t>(encoded.data()))
      return false;
    if (encoded[5] == std::byte{HxpShape::kProfiled}) {
      const auto behind = static_cast<std::uint64_t>(&slot - slots.data());
      under[count++] = {head(context, unit + behind), encoded, slot.plain};
      continue;
    }
    if (encoded.size() > HxShape::kMostSlot) return false;
    const HxShape shape{layout.tokens, layout.head_dim, stride, encoded.size(), keys};
    const HxUnit one{encoded, slot.plain};
    if (!loops.hx->decode(shape, {&one, 1}, context.stream)) return false;
  }
  if (count == 0) return true;
  if (profile == nullptr) return false;
  const HxpShape shape{layout.tokens, layout.head_dim, stride, keys};
  const HxpBlock block{*profile, context.first_position};
  return loops.hxp->decode(shape, block, std::span(under).first(count), context.stream);
}

Code Hxp::decode(const LayerContext& context, Bytes encoded,
                 MutableBytes plain) const noexcept {
  const BlockLayout& layout = context.layout;
  if (!supports(layout) || encoded.size() < directory_bytes(layout))
    return Code::corrupted;
  ModelProfile model;
  const ModelProfile* const profile = usable(context, model) ? &model : nullptr;
  const std::uint64_t units = layer_units(layout);
  UnitSpan at;
  bool sound = find(layout, encoded.data(), units - 1, at) &&
               at.first + at.bytes == encoded.size() &&
               all_zero(encoded.first(directory_bytes(layout)).subspan(2 * units));
  for (std::uint64_t u = 0; u < units && sound;) {
    const std::uint64_t end = u < key_units(layout) ? key_units(layout) : units;
    const std::uint64_t first = u;
    Slot slots[HxpLoops::kMostUnits];
    std::size_t count = 0;
    std::uint64_t stride = 0;
    for (; count < HxpLoops::kMostUnits && u < end; ++count, ++u) {
      const UnitRows rows = unit_rows(layout, u);
      (void)find(layout, encoded.data(), u, at);  // as above, where all of it was sound
      slots[count] = {encoded.subspan(at.first, at.bytes), plain.data() + rows.first};
      stride = rows.stride;
    }
    sound = read(context, profile, first, std::span(slots).first(count), stride);
  }
  settle(context);
  return sound ? Code::ok : Code::corrupted;
}

// Codecs of targets, made when they are first asked for. Never freed, like all codecs.
class Targeted {
 public:
  const Codec* find(const SlotTarget& target) SPECKV_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const auto found = all_.find(target);
    if (found != all_.end()) return &found->second->codec;
    if (all_.size() == kMost) return nullptr;
    auto made = std::make_unique<Named>(target);
    const Codec* const codec = &made->codec;
    all_.emplace(target, std::move(made));
    return codec;
  }

 private:
  struct Named {
    explicit Named(const SlotTarget& target)
        : name(name_of(target)), codec(CodecId::hxp4096, name, target) {}
    const std::string name;
    const Hxp codec;
  };
  static constexpr std::size_t kMost = 65536;
  Mutex mutex_;
  std::map<SlotTarget, std::unique_ptr<Named>> all_ SPECKV_GUARDED_BY(mutex_);
};

Targeted& targeted() {
  static Targeted& all = *new Targeted;  // for threads that outlive static objects
  return all;
}

constexpr SlotTarget table(std::uint32_t bytes) noexcept {
  return {SlotTarget::Kind::table, bytes};
}

}  // namespace

std::span<const Codec* const> hxp_codecs() noexcept {
  static const Hxp a(CodecId::hxp5120, "hxp5120", table(5120)),
      b(CodecId::hxp4096, "hxp4096", table(4096)),
      c(CodecId::hxp3360, "hxp3360", table(3360));
  static const Codec* const all[] = {&a, &b, &c};
  return all;
}

const Codec* targeted_hxp_codec(std::string_view name) noexcept {
  const Codec* codec = nullptr;
  (void)guarded([&] {
    if (const auto target = parse_slot_target(name)) codec = targeted().find(*target);
    return Code::ok;
  });
  return codec;
}

const SlotTarget* slot_target_of(const Codec& codec) noexcept {
  const auto* const hxp = dynamic_cast<const Hxp*>(&codec);
  return hxp == nullptr ? nullptr : &hxp->target();
}

}  // namespace speckv

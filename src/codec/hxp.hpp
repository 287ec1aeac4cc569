// codec/hxp.hpp -- a unit of hx under a model's profile (internal).
// docs/block-format.md, "hxp".
#pragma once

#include <algorithm>
#include <cstdint>

#include "codec/hx.hpp"
#include "codec/profile.hpp"

namespace speckv {

struct HxpShape {
  static constexpr std::uint8_t kVersion = 1, kProfiled = 2;
  static constexpr std::uint64_t kHead = 16;  // as of hx; where that has 0: the binding
  static constexpr std::uint32_t kClasses = 4, kGains = 16;
  static constexpr std::int32_t kGainStep = 22;  // of a gain, in 64ths of an octave

  std::uint32_t tokens, channels;
  std::uint64_t stride;  // plain bytes from a token to the next
  bool keys;

  std::uint64_t tables() const noexcept { return kHead; }
  std::uint64_t offsets() const noexcept { return kHead + channels / 2; }
  std::uint64_t gains() const noexcept { return offsets() + kClasses / 2; }
  std::uint64_t classes() const noexcept { return gains() + (tokens + 1) / 2; }
  // The words: behind all this, at an even place.
  std::uint64_t words() const noexcept {
    return (classes() + (keys ? 0 : (tokens + 3) / 4) + 1) / 2 * 2;
  }
};

// What the units of a block have in common.
struct HxpBlock {
  const ModelProfile& profile;
  std::uint32_t first_position;
};
// Where a unit stands, for what depends on it.
struct HxpPlace {
  const HxpBlock& block;
  ModelProfile::Head head;
};
struct HxpUnit {
  ModelProfile::Head head;
  Bytes encoded;
  std::byte* plain;  // of the first token
};

namespace hxp {

// What a unit says that was coded there: under another profile, in another layer, head
// or position it would come back wrong.
std::uint32_t binding(const HxpPlace& place) noexcept;

// The order in which tokens are coded: by gain (K) or by class (V), then as they come.
// `rank` is one number of each token below `ranks`.
inline void sort_tokens(std::span<const std::uint8_t> rank, std::uint32_t ranks,
                        std::uint16_t* order) noexcept {
  std::uint32_t at = 0;
  for (std::uint32_t r = 0; r < ranks; ++r) {
    for (std::uint32_t t = 0; t < rank.size(); ++t) {
      if (rank[t] == r) order[at++] = static_cast<std::uint16_t>(t);
    }
  }
}
// The class of a place in that order, where all are of one size. K.
constexpr std::uint32_t class_of_place(std::uint32_t place,
                                       std::uint32_t tokens) noexcept {
  return place * HxpShape::kClasses / tokens;
}

inline std::size_t table_for(std::uint32_t table, std::int32_t offset) noexcept {
  return static_cast<std::size_t>(
      std::clamp(static_cast<std::int32_t>(table) + offset, 0, 15));
}

// In 64ths of an octave.
inline std::int32_t log_of(std::int32_t log, std::int32_t step,
                           std::uint32_t gain) noexcept {
  return log + 4 * step - HxpShape::kGainStep * static_cast<std::int32_t>(gain);
}

// Room for an encoder; too large for a stack. One thread.
struct Scratch;
struct DeleteScratch {
  void operator()(Scratch* scratch) const noexcept;
};

Scratch* make_scratch() noexcept;  // nullptr: no memory

// The definition: as HxpLoops says.
template <class F>
bool encode_unit(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
                 const std::byte* other, MutableBytes unit, Scratch& scratch) noexcept;
template <class F>
bool decode_units(const HxpShape& shape, const HxpBlock& block,
                  std::span<const HxpUnit> units, bool stream) noexcept;

}  // namespace hxp

struct HxpLoops {
  static constexpr std::size_t kMostUnits = 4;
  // All but the checksum of a unit that is zero. `plain`, `other`: the first rows of this
  // unit and of the same head's V (or K). False: a NaN or an infinity, or it does not
  // fit.
  bool (*encode)(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
                 const std::byte* other, MutableBytes unit,
                 hxp::Scratch& scratch) noexcept;
  // Units side by side, all K or all V. False: one that no encoder wrote, or not for
  // that place. REQUIRES: units.size() <= kMostUnits.
  bool (*decode)(const HxpShape& shape, const HxpBlock& block,
                 std::span<const HxpUnit> units, bool stream) noexcept;
};

namespace codec_detail {
extern const HxpLoops kHxpScalarF16, kHxpScalarBf16, kHxp256F16, kHxp256Bf16,
    kHxpAvx512F16, kHxpAvx512Bf16;
}  // namespace codec_detail

}  // namespace speckv

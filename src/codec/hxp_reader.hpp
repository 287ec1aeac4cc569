// codec/hxp_reader.hpp -- what the vector decoders of hxp do before their loops
// (internal).
//
// Rows: how vectors compute steps and their inverses of channels, and means in steps.
#pragma once

#include <bit>
#include <utility>

#include "codec/hx_reader.hpp"
#include "codec/hxp_unit.hpp"
#include "codec/hxp_waves.hpp"

namespace speckv::hxp {

// A unit whose head is sound, with its words where reading too far does no harm. Stream:
// how far the lanes are.
template <class Stream>
struct Reader {
  const std::byte* encoded;
  std::byte* to;
  Head head;
  Stream in;
  const std::byte* words_end;
  const std::byte* end;
  std::uint16_t order[HxShape::kMostTokens];
  std::uint8_t table[kMostChannels];
  std::int32_t offset[kMostChannels];  // where values are on average, unturned
  // Of the gains that occur: steps and their inverses by channel; V's means in steps.
  alignas(64) float step[HxpShape::kGains][kMostChannels];
  alignas(64) float inverse[HxpShape::kGains][kMostChannels];
  alignas(64) std::int16_t mean[HxpShape::kGains][kMostChannels];
  alignas(64) std::byte
      words[HxShape::kMostValues / 8192 * ModelProfile::kMostSlot + hx::kBeyond];
  // Of the tokens that are being decoded: classes by lane, and who has each; K's means.
  bool alike;  // all have one class
  alignas(64) std::int32_t class_of[HxShape::kLanes];
  std::uint16_t of_class[HxpShape::kClasses];
  alignas(64) std::int16_t mean_of[HxShape::kLanes][kMostChannels];
};

// Logarithms of a unit's steps.
struct Range {
  std::int32_t least, most;
};
inline Range steps_of_unit(const HxpShape& shape, const HxpPlace& place,
                           const Head& head) noexcept {
  Range steps{INT32_MAX, INT32_MIN}, gains{INT32_MAX, INT32_MIN};
  const auto widen = [](Range& range, std::int32_t x) noexcept {
    range = {std::min(range.least, x), std::max(range.most, x)};
  };
  for (std::uint32_t c = 0; c < shape.channels; ++c)
    widen(steps, place.block.profile.step(place.head, c));
  for (std::uint32_t t = 0; t < shape.tokens; ++t)
    widen(gains, head.gain[t]);
  return {log_of(head.log, steps.least, static_cast<std::uint32_t>(gains.most)),
          log_of(head.log, steps.most, static_cast<std::uint32_t>(gains.least))};
}

// Of all units: whether their heads are sound, and then whether vectors give the
// definition's results; the largest step.
struct Heads {
  bool sound = false, usual = false;
  std::int32_t most = INT32_MIN;
};
template <class F, class Stream>
Heads read_heads(const HxpShape& shape, const HxpBlock& block,
                 std::span<const HxpUnit> units, Reader<Stream>* readers) noexcept {
  Heads heads;
  heads.usual = has_whole_turns(block.profile);
  for (std::size_t u = 0; u < units.size(); ++u) {
    const HxpPlace place{block, units[u].head};
    if (!read_head(shape, place, units[u].encoded, readers[u].head)) return {};
    const Range steps = steps_of_unit(shape, place, readers[u].head);
    heads.usual = heads.usual && hx::are_usual_steps<F>(steps.least, steps.most);
    heads.most = std::max(heads.most, steps.most);
  }
  heads.sound = true;
  return heads;
}

template <class Rows, class Stream>
void open(const HxpShape& shape, const HxpPlace& place, const HxpUnit& unit,
          Reader<Stream>& reader) noexcept {
  const Head& head = reader.head;
  reader.encoded = unit.encoded.data();
  reader.to = unit.plain;
  hx::take_words(reader.encoded + shape.words(), head.words, head.escapes, reader);
  sort_tokens(std::span(head.rank).first(shape.tokens), HxpShape::kGains, reader.order);
  const Offsets offsets(place.block.profile, place.head);
  std::copy_n(offsets.means(), shape.channels, reader.offset);
  std::int32_t step[kMostChannels];
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    reader.table[c] = static_cast<std::uint8_t>(table_of(shape, reader.encoded, c));
    step[c] = 4 * place.block.profile.step(place.head, c);
  }
  bool known[HxpShape::kGains] = {};
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    const std::uint32_t gain = head.gain[t];
    if (std::exchange(known[gain], true)) continue;
    Rows::steps(log_of(head.log, 0, gain), step, shape.channels, reader.step[gain],
                reader.inverse[gain]);
    if (!shape.keys)
      Rows::means(reader.offset, shape.channels, reader.inverse[gain], reader.mean[gain]);
  }
}

// What the next tokens need.
template <class Rows, class Stream>
void begin(const HxpShape& shape, const Waves& waves, std::uint32_t first,
           std::uint32_t tokens, Reader<Stream>& reader) noexcept {
  std::fill_n(reader.of_class, HxpShape::kClasses, std::uint16_t{0});
  std::fill_n(reader.class_of, HxShape::kLanes, 0);
  for (std::uint32_t i = 0; i < tokens; ++i) {
    const std::uint32_t t = reader.order[first + i];
    const std::uint32_t v = reader.head.class_of(shape, first + i, t);
    reader.class_of[i] = static_cast<std::int32_t>(v);
    reader.of_class[v] = static_cast<std::uint16_t>(reader.of_class[v] | 1U << i);
    if (!shape.keys) continue;
    const std::uint32_t turned = 2 * waves.pairs;
    const float* const inverse = reader.inverse[reader.head.gain[t]];
    Rows::turned_means(waves, t, reader.offset, inverse, reader.mean_of[i]);
    Rows::means(reader.offset + turned, shape.channels - turned, inverse + turned,
                reader.mean_of[i] + turned);
  }
  reader.alike =
      std::popcount(reader.of_class[reader.class_of[0]]) == static_cast<int>(tokens);
}

}  // namespace speckv::hxp

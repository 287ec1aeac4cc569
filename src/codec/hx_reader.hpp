// codec/hx_reader.hpp -- what the vector decoders of hx and hxp do before their loops
// (internal).
#pragma once

#include <cstdlib>
#include <cstring>

#include "codec/hx_unit.hpp"

namespace speckv::hx {

inline constexpr std::uint32_t kStep = 32;  // channels that are finished at once
// Bytes that a lane each may take too many of before that is noticed.
inline constexpr std::uint64_t kBeyond = kStep * HxShape::kLanes * 2;

// Where every result but zero is a normal binary32 number, and not zero in F, for steps
// of 2^(least / 64) to 2^(most / 64).
template <class F>
constexpr bool are_usual_steps(std::int32_t least, std::int32_t most) noexcept {
  return most < 6400 && least >= std::max(-7200, 64 * (F::kLeast + 1));
}
// ... and not too large for F16 either: 2^13 * 2^3 is.
inline constexpr std::int32_t kSmallSteps = 64 * 3;

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
  std::uint8_t table[HxShape::kMostChannels];
  std::int32_t offset[HxShape::kMostChannels];  // means less the tables' biases
  alignas(64) std::byte words[HxShape::kMostSlot + kBeyond];
};

// Whether floats give the definition's results, and only escapes can pass kMostSteps.
template <class F>
bool is_usual(const HxShape& shape, const std::byte* unit, const Head& head) noexcept {
  constexpr std::int32_t kMostMean = HxShape::kMostSteps - 16 * 16;  // of raw 4
  std::int32_t least = head.log;
  for (std::uint32_t t = 0; !shape.keys && t < shape.tokens; ++t)
    least = std::min(least, log_of(shape, unit, head.log, t));
  std::int32_t most = 0;
  for (std::uint32_t c = 0; head.wide && c < shape.channels; ++c)
    most = std::max(most, std::abs(mean_of(shape, unit, true, c)));
  return are_usual_steps<F>(least, head.log) && most <= kMostMean;
}

// Copies words and escapes, which follow each other, and points the stream at them.
template <class Reader>
void take_words(const std::byte* from, std::uint64_t words, std::uint64_t escapes,
                Reader& reader) noexcept {
  const std::uint64_t bytes = 2 * (words + escapes);
  std::memcpy(reader.words, from, bytes);
  std::memset(reader.words + bytes, 0, kBeyond);
  reader.in.word = reader.words;
  reader.in.escape = reader.words_end = reader.words + 2 * words;
  reader.end = reader.words + bytes;
}
template <class Reader>
bool is_within(const Reader& reader) noexcept {
  return reader.in.word <= reader.words_end && reader.in.escape <= reader.end;
}
template <class Reader>
bool is_at_end(const Reader& reader) noexcept {
  return reader.in.word == reader.words_end && reader.in.escape == reader.end;
}

template <class Stream>
void open(const HxShape& shape, const HxUnit& unit, Reader<Stream>& reader) noexcept {
  const std::byte* const at = reader.encoded = unit.encoded.data();
  reader.to = unit.plain;
  take_words(at + reader.head.words, reader.head.word_count, reader.head.escapes, reader);
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    const std::uint32_t table = table_of(shape, at, c);
    reader.table[c] = static_cast<std::uint8_t>(table);
    reader.offset[c] = mean_of(shape, at, reader.head.wide, c) -
                       (std::int32_t{Table::kBias} << tables()[table].raw);
  }
}

}  // namespace speckv::hx

// Decoding an hx unit: the definition.
#include "base/endian.hpp"
#include "codec/hx.hpp"
#include "codec/log_scale.hpp"
#include "codec/number.hpp"

namespace speckv::hx {
namespace {

constexpr std::uint32_t kLanes = HxShape::kLanes;

// The words and escapes of a unit, lane by lane.
class Stream {
 public:
  Stream(const std::byte* words, std::uint64_t count, std::uint64_t escapes) noexcept
      : word_(words),
        escape_(words + 2 * count),
        words_end_(escape_),
        end_(escape_ + 2 * escapes) {}

  // The next number of a lane. False: nothing is left.
  bool next(const Table& table, std::uint32_t lane, std::int32_t& x) noexcept {
    std::uint32_t& held = held_[lane];
    std::uint32_t& count = count_[lane];
    if (count < table.most) {
      if (word_ == words_end_) return false;
      held |= std::uint32_t{load_le<std::uint16_t>(word_)} << count;
      word_ += 2;
      count += 16;
    }
    const std::uint32_t symbol = table.symbol[held % Table::kWindow];
    const std::uint32_t length = table.length[held % Table::kWindow];
    held >>= length;
    const std::uint32_t low = held & ((1U << table.raw) - 1);
    held >>= table.raw;
    count -= length + table.raw;
    if (symbol == Table::kEscape) {
      if (escape_ == end_) return false;
      x = load_le<std::int16_t>(escape_);
      escape_ += 2;
      return true;
    }
    const auto upper = static_cast<std::int32_t>(symbol) - std::int32_t{Table::kBias};
    x = upper * (1 << table.raw) + static_cast<std::int32_t>(low);
    return true;
  }
  bool at_end() const noexcept { return word_ == words_end_ && escape_ == end_; }

 private:
  const std::byte* word_;
  const std::byte* escape_;
  const std::byte* words_end_;
  const std::byte* end_;
  std::uint32_t held_[kLanes] = {}, count_[kLanes] = {};
};

// What a unit says of itself.
struct Head {
  bool wide;
  std::int32_t log;  // the step is 2^(log / 64)
  std::uint64_t words, word_count, escapes;
};

bool read_head(const HxShape& shape, Bytes unit, Head& head) noexcept {
  const std::byte* const at = unit.data();
  const auto flags = std::to_integer<std::uint8_t>(at[5]);
  head.wide = (flags & HxShape::kWideMeans) != 0;
  head.log = load_le<std::int16_t>(at + 6);
  head.word_count = load_le<std::uint16_t>(at + 8);
  head.escapes = load_le<std::uint16_t>(at + 10);
  head.words = shape.words(head.wide);
  const std::uint64_t end = head.words + 2 * (head.word_count + head.escapes);
  return std::to_integer<std::uint8_t>(at[4]) == HxShape::kVersion &&
         flags <= (shape.keys ? HxShape::kWideMeans : 0) &&
         head.log <= HxShape::kMostLog && head.log >= -HxShape::kMostLog &&
         load_le<std::uint32_t>(at + 12) == 0 && end <= unit.size() &&
         all_zero(unit.subspan(end)) &&
         (shape.keys || shape.tokens % 2 == 0 ||
          at[shape.means() + shape.tokens] == std::byte{0});
}

template <class F>
bool decode(const HxShape& shape, Bytes unit, std::byte* plain) noexcept {
  constexpr std::int32_t kMost = HxShape::kMostSteps;
  if (unit.size() < shape.words(true)) return false;
  Head head;
  if (!read_head(shape, unit, head)) return false;
  const std::byte* const at = unit.data();
  Stream stream(at + head.words, head.word_count, head.escapes);
  number::Scaled step[kLanes];
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t lanes = std::min(kLanes, shape.tokens - first);
    for (std::uint32_t i = 0; i < lanes; ++i) {
      const auto gain =
          shape.keys ? 0 : std::to_integer<std::int32_t>(at[shape.means() + first + i]);
      step[i] = log_scale::power64(head.log - 4 * gain);
    }
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const auto pair = std::to_integer<std::uint32_t>(at[shape.tables() + c / 2]);
      const Table& table = tables()[pair >> c % 2 * 4 & 15];
      std::int32_t mean = 0;
      if (shape.keys) {
        const std::byte* const means = at + shape.means();
        mean = head.wide ? load_le<std::int16_t>(means + 2 * c)
                         : load_le<std::int8_t>(means + c);
      }
      for (std::uint32_t i = 0; i < lanes; ++i) {
        std::int32_t x = 0;
        if (!stream.next(table, i, x)) return false;
        const std::int32_t n = std::clamp(x + mean, -kMost, kMost);
        store_le(plain + (first + i) * shape.stride + 2 * c,
                 number::product<F>(n, step[i]));
      }
    }
  }
  return stream.at_end();
}

}  // namespace

bool decode_f16(const HxShape& shape, Bytes unit, std::byte* plain) noexcept {
  return decode<number::F16>(shape, unit, plain);
}
bool decode_bf16(const HxShape& shape, Bytes unit, std::byte* plain) noexcept {
  return decode<number::Bf16>(shape, unit, plain);
}

}  // namespace speckv::hx

// Decoding an hx unit: the definition.
#include "base/endian.hpp"
#include "codec/hx.hpp"
#include "codec/hx_unit.hpp"

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

template <class F>
bool decode_one(const HxShape& shape, Bytes unit, std::byte* plain) noexcept {
  constexpr std::int32_t kMost = HxShape::kMostSteps;
  Head head;
  if (!read_head(shape, unit, head)) return false;
  const std::byte* const at = unit.data();
  Stream stream(at + head.words, head.word_count, head.escapes);
  number::Scaled step[kLanes];
  for (std::uint32_t first = 0; first < shape.tokens; first += kLanes) {
    const std::uint32_t lanes = std::min(kLanes, shape.tokens - first);
    for (std::uint32_t i = 0; i < lanes; ++i)
      step[i] = log_scale::power64(log_of(shape, at, head.log, first + i));
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      const Table& table = tables()[table_of(shape, at, c)];
      const std::int32_t mean = mean_of(shape, at, head.wide, c);
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

template <class F>
bool decode_units(const HxShape& shape, std::span<const HxUnit> units,
                  bool /*stream*/) noexcept {
  return std::all_of(units.begin(), units.end(), [&](const HxUnit& unit) {
    return decode_one<F>(shape, unit.encoded, unit.plain);
  });
}
template bool decode_units<number::F16>(const HxShape&, std::span<const HxUnit>,
                                        bool) noexcept;
template bool decode_units<number::Bf16>(const HxShape&, std::span<const HxUnit>,
                                         bool) noexcept;

}  // namespace speckv::hx

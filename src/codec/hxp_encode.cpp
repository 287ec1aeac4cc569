// Encoding an hxp unit: the definition.
#include "codec/hxp_encode.hpp"

#include <cstdlib>
#include <new>

#include "codec/hx_encode.hpp"
#include "codec/hx_lanes.hpp"
#include "codec/hxp_gains.hpp"
#include "codec/hxp_offsets.hpp"
#include "codec/hxp_scratch.hpp"

namespace speckv::hxp {

Scratch* make_scratch() noexcept {
  return new (std::nothrow) Scratch;
}
void DeleteScratch::operator()(Scratch* scratch) const noexcept {
  delete scratch;
}

namespace {

constexpr std::uint32_t kClasses = HxpShape::kClasses;

template <class F>
class Encoder {
 public:
  Encoder(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
          MutableBytes unit, Scratch& scratch) noexcept
      : shape_(shape), place_(place), plain_(plain), unit_(unit), s_(scratch) {}

  bool run(const std::byte* other) noexcept {
    const RtShape whole{shape_.tokens, shape_.channels, shape_.stride, 0, false};
    if (!rt::load_unit<F>(whole, plain_, s_.own) ||
        !rt::load_unit<F>(whole, other, s_.other) || unit_.size() < shape_.words())
      return false;
    const rt::Work& keys = shape_.keys ? s_.own : s_.other;
    const rt::Work& values = shape_.keys ? s_.other : s_.own;
    predict_gains(
        shape_, place_, keys.exponent, values.exponent,
        [&](std::uint32_t t) noexcept {
          return sums_of(place_, keys.x + at(t, 0), values.x + at(t, 0), shape_.channels);
        },
        s_.prediction, gain_);
    const Offsets offsets(place_.block.profile, place_.head);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t)
      offsets.at(place_.block.first_position + t,
                 s_.offset + std::size_t{t} * shape_.channels);
    order_tokens();
    const std::int32_t guess = guess_step();
    const auto tries = [this](std::int32_t log) noexcept { return fits(log); };
    if (!hx::search(guess, least_log(), tries, tries)) return false;
    write();
    return true;
  }

 private:
  std::size_t at(std::uint32_t t, std::uint32_t c) const noexcept {
    return std::size_t{t} * shape_.channels + c;
  }
  std::int32_t step(std::uint32_t c) const noexcept {
    return place_.block.profile.step(place_.head, c);
  }

  // The deviation of a value from its offset, in fixed point.
  std::int64_t deviation(std::uint32_t t, std::uint32_t c) const noexcept {
    constexpr std::int64_t kMost = std::int64_t{1} << 20;
    const std::int64_t offset =
        scaled(s_.offset[at(t, c)], -kOffsetBits - s_.own.exponent);
    return s_.own.x[at(t, c)] - std::clamp(offset, -kMost, kMost);
  }

  // K by gain; V by the size of what will be coded, of which the decoder is told.
  void order_tokens() noexcept {
    std::int32_t size[HxShape::kMostTokens] = {};
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      size[t] = gain_[t];
      if (shape_.keys) continue;
      std::uint64_t energy = 0;
      for (std::uint32_t c = 0; c < shape_.channels; ++c)
        energy += square(deviation(t, c));
      size[t] = size_of(energy, gain_[t]);
    }
    choose_order(shape_, size, order_);
  }

  static std::uint64_t square(std::int64_t x) noexcept {
    return static_cast<std::uint64_t>(x * x);
  }

  std::int32_t guess_step() noexcept {
    std::int64_t log[kClasses] = {}, steps = 0;
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      std::uint64_t energy[kClasses] = {};
      for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
        const number::Scaled finer =
            log_scale::power64(HxpShape::kGainStep * std::int32_t{gain_[t]});
        energy[order_.class_of[t]] +=
            square((deviation(t, c) * finer.significand) >> -finer.exponent);
      }
      for (std::uint32_t v = 0; v < kClasses; ++v)
        log[v] += log_scale::log2_of(energy[v]) - log_scale::log2_of(order_.tokens_of[v]);
      steps += step(c);
    }
    return compare_classes(shape_, log, steps, s_.own.exponent, unit_.size(), offset_);
  }

  // No number of steps may pass what a decoder takes.
  std::int32_t least_log() const noexcept {
    std::int32_t least = -HxShape::kMostLog;
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      for (std::uint32_t c = 0; c < shape_.channels; ++c) {
        const auto size = static_cast<std::uint32_t>(std::abs(s_.own.x[at(t, c)]));
        const std::int32_t above =
            static_cast<int>(std::bit_width(size)) + s_.own.exponent;
        least = std::max(least, 64 * (above - 13) + 1 - log_of(0, step(c), gain_[t]));
      }
    }
    return least;
  }

  // Quantises by the step, chooses the tables, and counts.
  bool fits(std::int32_t log) noexcept {
    log_ = log;
    std::uint64_t bits = 0;
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      quantise(c);
      bits += choose_table(c);
    }
    if (shape_.words() + bits / 8 > unit_.size()) return false;
    size_ = hx::stream_size(shape_.tokens, shape_.channels, numbers());
    return shape_.words() + 2 * (size_.words + size_.escapes) <= unit_.size();
  }

  std::int16_t* column(std::uint32_t c) noexcept {
    return s_.number + std::size_t{c} * shape_.tokens;
  }

  void quantise(std::uint32_t c) noexcept {
    for (std::uint32_t i = 0; i < shape_.tokens; ++i) {
      const std::uint32_t t = order_.token[i];
      const number::Scaled inverse =
          log_scale::inverse64(log_of(log_, step(c), gain_[t]));
      const auto value = load_le<std::uint16_t>(plain_ + t * shape_.stride + 2 * c);
      column(c)[i] = static_cast<std::int16_t>(number::signed_times<F>(value, inverse) -
                                               steps_of(s_.offset[at(t, c)], inverse));
    }
  }

  // The cheapest of five tables around that of the mean sizes. Returns its bits.
  std::uint64_t choose_table(std::uint32_t c) noexcept {
    std::uint64_t size[kClasses] = {};
    for (std::uint32_t i = 0; i < shape_.tokens; ++i)
      size[order_.class_of[order_.token[i]]] +=
          static_cast<std::uint64_t>(std::abs(column(c)[i]));
    const std::int32_t middle = middle_table(offset_, [&](std::uint32_t v) noexcept {
      return size[v] == 0 ? 0
                          : log_scale::log2_of(size[v]) -
                                log_scale::log2_of(order_.tokens_of[v]) + kMeanToTable;
    });
    std::uint64_t best = UINT64_MAX;
    for (std::int32_t j = std::max(middle - 2, 0); j <= std::min(middle + 2, 15); ++j) {
      const hx::Table* table[kClasses];
      for (std::uint32_t v = 0; v < kClasses; ++v)
        table[v] = &hx::tables()[table_for(static_cast<std::uint32_t>(j), offset_[v])];
      std::uint64_t bits = 0;
      for (std::uint32_t i = 0; i < shape_.tokens; ++i) {
        const hx::Table& of = *table[order_.class_of[order_.token[i]]];
        bits += of.cost[of.symbol_of(column(c)[i])];
      }
      if (bits < best) {
        best = bits;
        table_[c] = static_cast<std::uint8_t>(j);
      }
    }
    return best;
  }

  auto numbers() noexcept {
    return [this, &all = hx::tables()](std::uint32_t c, std::uint32_t i) noexcept {
      return hx::Number{
          all[table_for(table_[c], offset_[order_.class_of[order_.token[i]]])],
          column(c)[i]};
    };
  }

  void write() noexcept {
    write_parameters(
        shape_, place_,
        {log_, size_.words, size_.escapes, table_, offset_, gain_, order_.class_of},
        unit_.data());
    std::byte* const words = unit_.data() + shape_.words();
    hx::write_stream(shape_.tokens, shape_.channels, words, words + 2 * size_.words,
                     numbers());
  }

  const HxpShape& shape_;
  const HxpPlace& place_;
  const std::byte* plain_;
  MutableBytes unit_;
  Scratch& s_;
  std::uint8_t gain_[HxShape::kMostTokens] = {};
  Order order_;
  std::int32_t offset_[kClasses] = {};
  std::int32_t log_ = 0;
  std::uint8_t table_[256] = {};
  hx::StreamSize size_;
};

}  // namespace

template <class F>
bool encode_unit(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
                 const std::byte* other, MutableBytes unit, Scratch& scratch) noexcept {
  return Encoder<F>(shape, place, plain, unit, scratch).run(other);
}
template bool encode_unit<number::F16>(const HxpShape&, const HxpPlace&, const std::byte*,
                                       const std::byte*, MutableBytes, Scratch&) noexcept;
template bool encode_unit<number::Bf16>(const HxpShape&, const HxpPlace&,
                                        const std::byte*, const std::byte*, MutableBytes,
                                        Scratch&) noexcept;

}  // namespace speckv::hxp

namespace speckv::codec_detail {
const HxpLoops kHxpScalarF16{hxp::encode_unit<number::F16>,
                             hxp::decode_units<number::F16>};
const HxpLoops kHxpScalarBf16{hxp::encode_unit<number::Bf16>,
                              hxp::decode_units<number::Bf16>};
}  // namespace speckv::codec_detail

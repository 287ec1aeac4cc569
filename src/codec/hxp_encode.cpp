// Encoding an hxp unit: the definition.
#include <cstdlib>
#include <new>

#include "codec/hx_encode.hpp"
#include "codec/hx_lanes.hpp"
#include "codec/hxp.hpp"
#include "codec/hxp_gains.hpp"
#include "codec/hxp_offsets.hpp"

namespace speckv::hxp {

struct Scratch {
  rt::Work own, other;                        // this unit, and the head's V (or K)
  std::int32_t offset[HxShape::kMostValues];  // [token][channel], as Offsets has them
  std::int16_t number[HxShape::kMostValues];  // [channel][place]
  std::int64_t prediction[HxShape::kMostTokens];
};
Scratch* make_scratch() noexcept {
  return new (std::nothrow) Scratch;
}
void DeleteScratch::operator()(Scratch* scratch) const noexcept {
  delete scratch;
}

namespace {

constexpr std::uint32_t kClasses = HxpShape::kClasses;

constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) noexcept {
  return a / b - (a % b < 0 ? 1 : 0);
}

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
    predict_gains(shape_, place_, shape_.keys ? s_.own : s_.other,
                  shape_.keys ? s_.other : s_.own, s_.prediction, gain_);
    const Offsets offsets(place_.block.profile, place_.head);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t)
      offsets.at(place_.block.first_position + t,
                 s_.offset + std::size_t{t} * shape_.channels);
    choose_order();
    const std::int32_t guess = compare_classes();
    if (!hx::search(guess, least_log(),
                    [this](std::int32_t log) noexcept { return fits(log); }))
      return false;
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
  void choose_order() noexcept {
    std::int32_t size[HxShape::kMostTokens] = {};
    std::uint16_t sorted[HxShape::kMostTokens] = {};
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      sorted[t] = static_cast<std::uint16_t>(t);
      size[t] = gain_[t];
      if (shape_.keys) continue;
      std::uint64_t energy = 0;
      for (std::uint32_t c = 0; c < shape_.channels; ++c)
        energy += square(deviation(t, c));
      size[t] =
          log_scale::log2_of(energy) + HxpShape::kGainStep / 2 * std::int32_t{gain_[t]};
    }
    std::sort(sorted, sorted + shape_.tokens, [&](std::uint16_t a, std::uint16_t b) {
      return size[a] != size[b] ? size[a] < size[b] : a < b;
    });
    for (std::uint32_t i = 0; i < shape_.tokens; ++i)
      class_[sorted[i]] = static_cast<std::uint8_t>(class_of_place(i, shape_.tokens));
    sort_tokens(std::span(class_).first(shape_.tokens), kClasses, order_);
    if (shape_.keys) std::copy_n(sorted, shape_.tokens, order_);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t)
      ++tokens_of_[class_[t]];
  }

  static std::uint64_t square(std::int64_t x) noexcept {
    return static_cast<std::uint64_t>(x * x);
  }

  // The offsets of the classes' tables, and a first guess of the step.
  std::int32_t compare_classes() noexcept {
    std::int64_t log[kClasses] = {}, steps = 0;
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      std::uint64_t energy[kClasses] = {};
      for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
        const number::Scaled finer =
            log_scale::power64(HxpShape::kGainStep * std::int32_t{gain_[t]});
        energy[class_[t]] +=
            square((deviation(t, c) * finer.significand) >> -finer.exponent);
      }
      for (std::uint32_t v = 0; v < kClasses; ++v)
        log[v] += log_scale::log2_of(energy[v]) - log_scale::log2_of(tokens_of_[v]);
      steps += step(c);
    }
    const std::int64_t d = shape_.channels;
    const std::int64_t mean = floor_div(log[0] + log[1] + log[2] + log[3], 4);
    for (std::uint32_t v = 0; v < kClasses; ++v)
      offset_[v] = static_cast<std::int32_t>(std::clamp<std::int64_t>(
          floor_div(10 * (log[v] - mean) + 64 * d, 128 * d), -8, 7));
    const auto room = static_cast<std::int64_t>(unit_.size() - shape_.words());
    const std::int64_t guess = floor_div(2 * mean - 4 * steps, d) +
                               std::int64_t{64} * s_.own.exponent + 141 -
                               room * 512 / (d * shape_.tokens);
    return static_cast<std::int32_t>(guess);
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
      const std::uint32_t t = order_[i];
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
      size[class_[order_[i]]] += static_cast<std::uint64_t>(std::abs(column(c)[i]));
    std::int32_t sum = 128;
    for (std::uint32_t v = 0; v < kClasses; ++v) {
      // As in hx: log2(1.2533 mean / 0.35) / 0.4, from sixteenths.
      const std::int32_t log = size[v] == 0 ? 0
                                            : log_scale::log2_of(size[v]) -
                                                  log_scale::log2_of(tokens_of_[v]) + 29;
      sum += 10 * log - 64 * offset_[v];
    }
    const std::int32_t middle = std::clamp(sum >> 8, 0, 15);
    std::uint64_t best = UINT64_MAX;
    for (std::int32_t j = std::max(middle - 2, 0); j <= std::min(middle + 2, 15); ++j) {
      const hx::Table* table[kClasses];
      for (std::uint32_t v = 0; v < kClasses; ++v)
        table[v] = &hx::tables()[table_for(static_cast<std::uint32_t>(j), offset_[v])];
      std::uint64_t bits = 0;
      for (std::uint32_t i = 0; i < shape_.tokens; ++i) {
        const hx::Table& of = *table[class_[order_[i]]];
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
      return hx::Number{all[table_for(table_[c], offset_[class_[order_[i]]])],
                        column(c)[i]};
    };
  }

  void write() noexcept {
    std::byte* const to = unit_.data();
    to[4] = std::byte{HxpShape::kVersion};
    to[5] = std::byte{HxpShape::kProfiled};
    store_le(to + 6, static_cast<std::int16_t>(log_));
    store_le(to + 8, static_cast<std::uint16_t>(size_.words));
    store_le(to + 10, static_cast<std::uint16_t>(size_.escapes));
    store_le(to + 12, binding(place_));
    const auto put = [to](std::uint64_t first, std::uint32_t i, std::uint32_t bits,
                          std::uint32_t value) noexcept {
      const std::uint32_t each = 8 / bits;
      to[first + i / each] |= static_cast<std::byte>(value << i % each * bits);
    };
    for (std::uint32_t c = 0; c < shape_.channels; ++c)
      put(shape_.tables(), c, 4, table_[c]);
    for (std::uint32_t v = 0; v < kClasses; ++v)
      put(shape_.offsets(), v, 4, static_cast<std::uint32_t>(offset_[v]) & 15);
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      put(shape_.gains(), t, 4, gain_[t]);
      if (!shape_.keys) put(shape_.classes(), t, 2, class_[t]);
    }
    std::byte* const words = to + shape_.words();
    hx::write_stream(shape_.tokens, shape_.channels, words, words + 2 * size_.words,
                     numbers());
  }

  const HxpShape& shape_;
  const HxpPlace& place_;
  const std::byte* plain_;
  MutableBytes unit_;
  Scratch& s_;
  std::uint8_t gain_[HxShape::kMostTokens] = {}, class_[HxShape::kMostTokens] = {};
  std::uint16_t order_[HxShape::kMostTokens] = {};  // token of a place
  std::uint32_t tokens_of_[kClasses] = {};
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

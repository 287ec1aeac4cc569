// Encoding an hx unit: the definition.
#include "codec/hx_encode.hpp"

#include <cstdlib>
#include <cstring>

#include "codec/fixed_unit.hpp"
#include "codec/hx_lanes.hpp"
#include "codec/number.hpp"

namespace speckv::hx {
namespace {

template <class F>
class Encoder {
 public:
  // NOLINTNEXTLINE(clang-analyzer-optin.*): the large arrays are filled before use
  Encoder(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept
      : shape_(shape), plain_(plain), unit_(unit) {}

  bool run() noexcept {
    const RtShape whole{shape_.tokens, shape_.channels, shape_.stride, 0, shape_.keys};
    if (!rt::load_unit<F>(whole, plain_, work_)) return false;
    if (shape_.keys) rt::remove_means(whole, work_);
    sum_up();
    choose_gains(shape_, sums_, gain_);
    const auto tries = [this](std::int32_t log) noexcept { return fits(log); };
    if (!search(first_guess(shape_, sums_, gain_), least_log(shape_, sums_, gain_), tries,
                tries))
      return false;
    write_parameters(
        shape_, {log_, wide_, size_.words, size_.escapes, table_, mean_, gain_}, unit_);
    write_words();
    return true;
  }

 private:
  std::int32_t fixed(std::uint32_t t, std::uint32_t c) const noexcept {
    return work_.x[std::size_t{t} * shape_.channels + c];
  }

  std::int16_t& number_at(std::uint32_t c, std::uint32_t t) noexcept {
    return x_[std::size_t{c} * shape_.tokens + t];
  }

  static std::uint64_t square(std::int64_t x) noexcept {
    return static_cast<std::uint64_t>(x * x);
  }

  void sum_up() noexcept {
    sums_.exponent = work_.exponent;
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      sums_.energy[t] = sums_.most[t] = 0;
      for (std::uint32_t c = 0; c < shape_.channels; ++c) {
        const std::int32_t x = fixed(t, c) + (shape_.keys ? work_.mean[c] : 0);
        sums_.energy[t] += square(fixed(t, c));
        sums_.most[t] =
            std::max(sums_.most[t], static_cast<std::uint32_t>(x < 0 ? -x : x));
      }
    }
    for (std::uint32_t c = 0; c < shape_.channels; ++c) {
      std::uint64_t energy = 0;
      for (std::uint32_t t = 0; t < shape_.tokens; ++t)
        energy += square(fixed(t, c));
      sums_.channel_logs +=
          log_scale::log2_of(energy) - log_scale::log2_of(shape_.tokens);
    }
  }

  // Quantises by the step, chooses the tables, and counts.
  bool fits(std::int32_t log) noexcept {
    log_ = log;
    quantise();
    std::uint64_t bits = 0;
    for (std::uint32_t c = 0; c < shape_.channels; ++c)
      bits += choose_table(c);
    if (shape_.words(wide_) + bits / 8 > shape_.slot) return false;
    size_ = stream_size(shape_.tokens, shape_.channels, numbers());
    return shape_.words(wide_) + 2 * (size_.words + size_.escapes) <= shape_.slot;
  }

  void quantise() noexcept {
    wide_ = false;
    for (std::uint32_t c = 0; shape_.keys && c < shape_.channels; ++c) {
      mean_[c] = static_cast<std::int16_t>(rt::mean_steps64(work_, c, log_));
      wide_ = wide_ || mean_[c] > INT8_MAX || mean_[c] < INT8_MIN;
    }
    for (std::uint32_t t = 0; t < shape_.tokens; ++t) {
      const number::Scaled inverse =
          log_scale::inverse64(log_ - 4 * std::int32_t{gain_[t]});
      const std::byte* const row = plain_ + t * shape_.stride;
      for (std::uint32_t c = 0; c < shape_.channels; ++c) {
        const std::int32_t n =
            number::signed_times<F>(load_le<std::uint16_t>(row + 2 * c), inverse);
        number_at(c, t) = static_cast<std::int16_t>(n - (shape_.keys ? mean_[c] : 0));
      }
    }
  }

  // The cheapest of three tables around that of the mean size. Returns its bits.
  std::uint64_t choose_table(std::uint32_t c) noexcept {
    std::uint64_t size = 0;
    for (std::uint32_t t = 0; t < shape_.tokens; ++t)
      size += static_cast<std::uint64_t>(std::abs(number_at(c, t)));
    // log2(1.2533 mean / 0.35) / 0.4, from sixteenths.
    const std::int32_t log =
        size == 0 ? 0 : log_scale::log2_of(size) - log_scale::log2_of(shape_.tokens) + 29;
    const std::int32_t middle = std::clamp((log * 10 + 32) >> 6, 0, 15);
    std::uint64_t best = UINT64_MAX;
    for (std::int32_t j = std::max(middle - 1, 0); j <= std::min(middle + 1, 15); ++j) {
      const Table& table = tables()[static_cast<std::size_t>(j)];
      std::uint64_t bits = 0;
      for (std::uint32_t t = 0; t < shape_.tokens; ++t)
        bits += table.cost[table.symbol_of(number_at(c, t))];
      if (bits < best) {
        best = bits;
        table_[c] = static_cast<std::uint8_t>(j);
      }
    }
    return best;
  }

  auto numbers() noexcept {
    return [this, &all = tables()](std::uint32_t c, std::uint32_t t) noexcept {
      return Number{all[table_[c]], number_at(c, t)};
    };
  }
  void write_words() noexcept {
    std::byte* const words = unit_.data() + shape_.words(wide_);
    write_stream(shape_.tokens, shape_.channels, words, words + 2 * size_.words,
                 numbers());
  }

  const HxShape& shape_;
  const std::byte* plain_;
  MutableBytes unit_;
  rt::Work work_;
  Sums sums_;
  std::uint8_t gain_[HxShape::kMostTokens] = {};  // V: sixteenths
  std::int32_t log_ = 0;                          // of the step, in 64ths
  bool wide_ = false;
  std::int16_t mean_[HxShape::kMostChannels] = {};
  std::uint8_t table_[HxShape::kMostChannels] = {};
  StreamSize size_;
  std::int16_t x_[HxShape::kMostValues];  // [channel][token]
};

}  // namespace

template <class F>
bool encode_unit(const HxShape& shape, const std::byte* plain,
                 MutableBytes unit) noexcept {
  return Encoder<F>(shape, plain, unit).run();
}
template bool encode_unit<number::F16>(const HxShape&, const std::byte*,
                                       MutableBytes) noexcept;
template bool encode_unit<number::Bf16>(const HxShape&, const std::byte*,
                                        MutableBytes) noexcept;

}  // namespace speckv::hx

namespace speckv::codec_detail {
const HxLoops kHxScalarF16{hx::encode_unit<number::F16>, hx::decode_units<number::F16>};
const HxLoops kHxScalarBf16{hx::encode_unit<number::Bf16>,
                            hx::decode_units<number::Bf16>};
}  // namespace speckv::codec_detail

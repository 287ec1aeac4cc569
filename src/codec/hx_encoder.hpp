// codec/hx_encoder.hpp -- the vector encoders of hx, whatever the instruction set
// (internal): sums in one pass, quantising and counting by channels, a token a lane; then
// the words.
#pragma once

#include "codec/fixed_unit.hpp"
#include "codec/hx_encode.hpp"
#include "codec/hx_words.hpp"
#include "codec/kernels_float.hpp"

namespace speckv::hx {

// Unusual: only the definition can say.
enum class Outcome : std::uint8_t { done, refused, unusual };

// What an encoder knows of its unit.
class EncoderState {
 protected:
  static constexpr std::uint32_t kLanes = HxShape::kLanes;
  static constexpr std::uint32_t kMostColumns = 2 * HxShape::kMostValues;

  // NOLINTNEXTLINE(clang-analyzer-optin.*): the large arrays are filled before use
  EncoderState(const HxShape& shape, const std::byte* plain, MutableBytes unit) noexcept
      : shape_(shape),
        plain_(plain),
        unit_(unit),
        columns_((shape.tokens + 31) / 32 * 32),
        groups_((shape.tokens + kLanes - 1) / kLanes),
        tokens_log_(log_scale::log2_of(shape.tokens)) {}

  // The mean of a channel from the sum over its tokens, and what their squares are less
  // when it is gone.
  std::uint64_t take_mean(std::uint32_t c, std::int32_t total) noexcept {
    const auto tokens = static_cast<std::int32_t>(shape_.tokens);
    const std::int32_t up = total + tokens / 2;
    const std::int32_t mean = up / tokens - (up % tokens < 0 ? 1 : 0);
    plain_mean_[c] = mean;
    return static_cast<std::uint64_t>(
        std::int64_t{mean} * (std::int64_t{tokens} * mean - 2 * std::int64_t{total}));
  }
  // Around which table the cheapest of a channel is looked for: log2(1.2533 mean / 0.35)
  // / 0.4, from sixteenths. size: the sum of magnitudes.
  std::int32_t middle_table(std::uint32_t size) const noexcept {
    const std::int32_t of_mean =
        size == 0 ? 0 : log_scale::log2_of(size) - tokens_log_ + 29;
    return std::clamp((of_mean * 10 + 32) >> 6, 0, 15);
  }
  bool is_over(std::uint64_t cost) const noexcept {
    return shape_.words(wide_) + cost / 8 > shape_.slot;
  }
  Numbers numbers() const noexcept {
    return {shape_.tokens, shape_.channels, columns_, x_};
  }

  const HxShape& shape_;
  const std::byte* plain_;
  MutableBytes unit_;
  const std::uint32_t columns_, groups_;  // columns_: tokens, to a multiple of 32
  const std::int32_t tokens_log_;
  Sums sums_;
  bool unusual_ = false, wide_ = false;
  std::int32_t log_ = 0;
  Trial trial_;
  std::uint8_t most_gain_ = 0;
  std::uint8_t gain_[HxShape::kMostTokens] = {};
  alignas(64) std::int16_t mean_[HxShape::kMostChannels] = {};
  alignas(64) std::int32_t plain_mean_[HxShape::kMostChannels];
  alignas(64) std::uint16_t bits_[kMostColumns];  // [channel][token]
  alignas(64) std::int16_t x_[kMostColumns];      // [channel][token]
  CodedNumbers coded_;
};

// Loops, a kind of EncoderState, has what differs:
//   turn()  fills bits_, with zeros behind the last token; the largest magnitude
//   sum_up()  sums_ and plain_mean_, when sums_.exponent is known
//   find_means()  mean_ and wide_, from plain_mean_ and log_
//   quantise(inverse)  x_ by the tokens' inverse steps, 0 behind the last token
//   price(inverse)  that, trial_.table, and what all cost; or what the first ones do, if
//     that is too much already
//   find_lengths(lengths)  of each token what it takes of the words
//   write(words)
//   costs_  tables, as count_words() takes them
template <class F, class Loops>
class Encoder final : private Loops {
 public:
  using Loops::Loops;

  Outcome run() noexcept {
    const std::uint32_t most = this->turn();
    if (most >= F::kInfinity) return Outcome::refused;
    const std::uint32_t top = std::max(most >> F::kMantissa, 1U);
    if (!codec_detail::has_fixed_point<F>(top)) return Outcome::unusual;
    constexpr int kLift = rt::kFixedBits - (F::kMantissa + 1);
    this->sums_.exponent = static_cast<std::int32_t>(top) - 1 + F::kLeast - kLift;
    this->sum_up();
    const HxShape& shape = this->shape_;
    choose_gains(shape, this->sums_, this->gain_);
    this->most_gain_ = *std::max_element(this->gain_, this->gain_ + shape.tokens);
    const bool found = search(
        first_guess(shape, this->sums_, this->gain_),
        least_log(shape, this->sums_, this->gain_),
        [this](std::int32_t log) noexcept { return fits(log); },
        [this](std::int32_t log) noexcept { return again(log); });
    if (this->unusual_) return Outcome::unusual;
    if (!found) return Outcome::refused;
    if (!this->trial_.counted) count();
    write_parameters(shape,
                     {this->log_, this->wide_, this->trial_.words, this->trial_.escapes,
                      this->trial_.table, this->mean_, this->gain_},
                     this->unit_);
    this->write(this->unit_.data() + shape.words(this->wide_));
    return Outcome::done;
  }

 private:
  // Means and inverse steps. False: beyond what vectors can do.
  bool take_step(std::int32_t log) noexcept {
    this->log_ = log;
    const std::int32_t least = log - 4 * std::int32_t{this->most_gain_};
    if (this->unusual_ || log >= 6400 || least <= -6400) {
      this->unusual_ = true;
      return false;
    }
    if (this->shape_.keys) this->find_means();
    for (std::uint32_t t = 0; t < this->shape_.tokens; ++t)
      inverse_[t] = codec_detail::as_float(
          log_scale::inverse64(log - 4 * std::int32_t{this->gain_[t]}));
    return true;
  }
  // Quantises by the step, chooses the tables, and counts, where that is in doubt.
  bool fits(std::int32_t log) noexcept {
    if (!take_step(log)) return true;  // ends the search
    this->trial_.cost = this->price(inverse_);
    if (this->is_over(this->trial_.cost)) return false;
    const std::uint64_t first = this->shape_.words(this->wide_);
    this->trial_.counted = is_in_doubt(this->trial_.cost, first, this->shape_.slot);
    if (this->trial_.counted) count();
    if (this->trial_.counted &&
        first + 2 * (this->trial_.words + this->trial_.escapes) > this->shape_.slot)
      return false;
    fitted_ = this->trial_;
    return true;
  }
  // Quantises by the last step that fitted, of which the rest is known.
  bool again(std::int32_t log) noexcept {
    if (!take_step(log)) return true;
    this->quantise(inverse_);
    this->trial_ = fitted_;
    return true;
  }

  void count() noexcept {
    alignas(64) std::uint16_t lengths[HxShape::kMostTokens + 32];
    this->find_lengths(lengths);
    const Taken taken = count_words(
        this->numbers(),
        lengths, [this](std::uint32_t c, std::uint32_t) noexcept -> const auto& {
          return this->costs_[this->trial_.table[c]];
        });
    this->trial_.words = taken.words;
    this->trial_.escapes = (this->trial_.cost - taken.bits) / 16;
  }

  alignas(64) float inverse_[HxShape::kMostTokens + 32] = {};  // steps, by token
  Trial fitted_;  // of the last step that did
};

// As HxLoops::encode.
template <class F, class Loops>
bool encode_with(const HxShape& shape, const std::byte* plain,
                 MutableBytes unit) noexcept {
  const Outcome outcome = Encoder<F, Loops>(shape, plain, unit).run();
  if (outcome == Outcome::unusual) return encode_unit<F>(shape, plain, unit);
  return outcome == Outcome::done;
}

}  // namespace speckv::hx

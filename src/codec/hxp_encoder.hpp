// codec/hxp_encoder.hpp -- the vector encoders of hxp, whatever the instruction set
// (internal): sums by rows, quantising and counting by channels, a place a lane; then the
// words.
#pragma once

#include "codec/hx_encoder.hpp"
#include "codec/hxp_encoder_state.hpp"
#include "codec/hxp_gains.hpp"

namespace speckv::hxp {

using hx::Outcome;

// Loops, a kind of EncoderState, has what differs:
//   largest_of(plain)  the largest magnitude of a unit's values
//   take(plain, work)  work.x, when work.exponent is known
//   sums_of_token(k, v)  by weight_
//   find_deviations()  of all values from their offsets: s_.other.x and s_.offset
//   energy_of(x)  the sum of squares of a token's deviations
//   sum_classes(log)  as compare_classes() takes them
//   finest()  the largest 64 (bits of a value) - 4 (its channel's step) + 22 (its gain)
//   prepare()  values and offsets by channels, in the order of places, and the tables of
//     the classes
//   quantise()  numbers by log_
//   price()  that, trial_.table, and what all cost; or what the first ones do, if that is
//     too much already
//   find_lengths(lengths)  of each place what it takes of the words
//   write(words)
//   costs_  tables, as count_words() takes them
template <class F, class Loops>
class Encoder final : private Loops {
 public:
  using Loops::Loops;

  Outcome run(const std::byte* other) noexcept {
    if (this->unit_.size() < this->shape_.words()) return Outcome::refused;
    Outcome outcome = load(this->plain_, this->s_.own);
    if (outcome == Outcome::done) outcome = load(other, this->s_.other);
    if (outcome != Outcome::done) return outcome;
    take_profile();
    predict();
    this->find_deviations();
    order_tokens();
    const std::int32_t guess = guess_step();
    const std::int32_t least = std::max(
        -HxShape::kMostLog, this->finest() + 64 * (this->s_.own.exponent - 13) + 1);
    this->prepare();
    const bool found = hx::search(
        guess, least, [this](std::int32_t log) noexcept { return fits(log); },
        [this](std::int32_t log) noexcept { return again(log); });
    if (this->unusual_) return Outcome::unusual;
    if (!found) return Outcome::refused;
    if (!this->trial_.counted) count();
    write_parameters(
        this->shape_, this->place_,
        {this->log_, this->trial_.words, this->trial_.escapes, this->trial_.table,
         this->offset_, this->gain_, this->order_.class_of},
        this->unit_.data());
    this->write(this->unit_.data() + this->shape_.words());
    return Outcome::done;
  }

 private:
  static constexpr std::uint32_t kClasses = HxpShape::kClasses;

  // Fixed-point numbers.
  Outcome load(const std::byte* plain, rt::Work& work) noexcept {
    const std::uint32_t most = this->largest_of(plain);
    if (most >= F::kInfinity) return Outcome::refused;
    const std::uint32_t top = std::max(most >> F::kMantissa, 1U);
    if (!codec_detail::has_fixed_point<F>(top)) return Outcome::unusual;
    constexpr int kLift = rt::kFixedBits - (F::kMantissa + 1);
    work.exponent = static_cast<std::int32_t>(top) - 1 + F::kLeast - kLift;
    this->take(plain, work);
    return Outcome::done;
  }

  void take_profile() noexcept {
    const ModelProfile& profile = this->place_.block.profile;
    for (std::uint32_t c = 0; c < this->shape_.channels; ++c) {
      this->step_[c] = profile.step(this->place_.head, c);
      this->least_step_ = std::min(this->least_step_, this->step_[c]);
      this->most_step_ = std::max(this->most_step_, this->step_[c]);
    }
    for (std::uint32_t i = 0; i < 2 * this->shape_.channels; ++i)
      this->weight_[i] = profile.weight(this->place_.head, ModelProfile::kSizes + i);
  }

  void predict() noexcept {
    const bool of_keys = this->shape_.keys;
    const rt::Work& keys = of_keys ? this->s_.own : this->s_.other;
    const rt::Work& values = of_keys ? this->s_.other : this->s_.own;
    predict_gains(
        this->shape_, this->place_, keys.exponent, values.exponent,
        [&](std::uint32_t t) noexcept {
          return this->sums_of_token(keys.x + this->at(t, 0), values.x + this->at(t, 0));
        },
        this->s_.prediction, this->gain_);
  }

  void order_tokens() noexcept {
    const std::uint32_t tokens = this->shape_.tokens;
    std::int32_t size[HxShape::kMostTokens] = {};
    for (std::uint32_t t = 0; t < tokens; ++t)
      size[t] = this->shape_.keys
                    ? this->gain_[t]
                    : size_of(this->energy_of(this->s_.other.x + this->at(t, 0)),
                              this->gain_[t]);
    choose_order(this->shape_, size, this->order_);
    for (std::uint32_t i = 0; i < tokens; ++i)
      this->gain_at_[i] = this->gain_[this->order_.token[i]];
    for (std::uint32_t v = 0; v < kClasses; ++v)
      this->tokens_log_[v] = log_scale::log2_of(this->order_.tokens_of[v]);
  }

  std::int32_t guess_step() noexcept {
    std::int64_t log[kClasses] = {}, steps = 0;
    this->sum_classes(log);
    for (std::uint32_t c = 0; c < this->shape_.channels; ++c)
      steps += this->step_[c];
    return compare_classes(this->shape_, log, steps, this->s_.own.exponent,
                           this->unit_.size(), this->offset_);
  }

  // False: beyond what vectors can do.
  bool take_step(std::int32_t log) noexcept {
    this->log_ = log;
    this->unusual_ = this->unusual_ || log_of(log, this->most_step_, 0) >= 6400 ||
                     log_of(log, this->least_step_, HxpShape::kGains - 1) <= -6400;
    return !this->unusual_;
  }
  // Quantises by the step, chooses the tables, and counts, where that is in doubt.
  bool fits(std::int32_t log) noexcept {
    if (!take_step(log)) return true;  // ends the search
    this->trial_.cost = this->price();
    if (this->is_over(this->trial_.cost)) return false;
    const std::uint64_t first = this->shape_.words(), room = this->unit_.size();
    this->trial_.counted = hx::is_in_doubt(this->trial_.cost, first, room);
    if (this->trial_.counted) count();
    if (this->trial_.counted &&
        first + 2 * (this->trial_.words + this->trial_.escapes) > room)
      return false;
    fitted_ = this->trial_;
    return true;
  }
  // Quantises by the last step that fitted, of which the rest is known.
  bool again(std::int32_t log) noexcept {
    if (!take_step(log)) return true;
    this->quantise();
    this->trial_ = fitted_;
    return true;
  }

  void count() noexcept {
    alignas(64) std::uint16_t lengths[HxShape::kMostTokens + Loops::kBlock];
    this->find_lengths(lengths);
    const hx::Taken taken = hx::count_words(
        this->all_numbers(),
        lengths, [this](std::uint32_t c, std::uint32_t at) noexcept -> const auto& {
          return this->costs_[table_for(this->trial_.table[c],
                                        this->offset_[this->class_at(at)])];
        });
    this->trial_.words = taken.words;
    this->trial_.escapes = (this->trial_.cost - taken.bits) / 16;
  }

  hx::Trial fitted_;  // of the last step that did
};

// As HxpLoops::encode.
template <class F, class Loops>
bool encode_with(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
                 const std::byte* other, MutableBytes unit, Scratch& scratch) noexcept {
  if (has_whole_turns(place.block.profile)) {
    const Outcome outcome =
        Encoder<F, Loops>(shape, place, plain, unit, scratch).run(other);
    if (outcome != Outcome::unusual) return outcome == Outcome::done;
  }
  return encode_unit<F>(shape, place, plain, other, unit, scratch);
}

}  // namespace speckv::hxp

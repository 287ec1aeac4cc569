// codec/hxp_encoder_state.hpp -- what the vector encoders of hxp know of their unit
// (internal).
#pragma once

#include "codec/hx_words.hpp"
#include "codec/hxp_encode.hpp"
#include "codec/hxp_scratch.hpp"

namespace speckv::hxp {

class EncoderState {
 protected:
  static constexpr std::uint32_t kLanes = HxShape::kLanes, kClasses = HxpShape::kClasses,
                                 kTables = 16, kBlock = 64;

  EncoderState(const HxpShape& shape, const HxpPlace& place, const std::byte* plain,
               MutableBytes unit, Scratch& scratch) noexcept
      : shape_(shape),
        place_(place),
        plain_(plain),
        unit_(unit),
        s_(scratch),
        columns_((shape.tokens + kBlock - 1) / kBlock * kBlock) {}

  std::size_t at(std::uint32_t t, std::uint32_t c) const noexcept {
    return std::size_t{t} * shape_.channels + c;
  }
  std::uint32_t class_at(std::uint32_t place) const noexcept {
    return order_.class_of[order_.token[place]];
  }
  const std::int16_t* numbers(std::uint32_t c) const noexcept {
    return s_.numbers + std::size_t{c} * columns_;
  }
  hx::Numbers all_numbers() const noexcept {
    return {shape_.tokens, shape_.channels, columns_, s_.numbers};
  }
  bool is_over(std::uint64_t cost) const noexcept {
    return shape_.words() + cost / 8 > unit_.size();
  }

  const HxpShape& shape_;
  const HxpPlace& place_;
  const std::byte* plain_;
  MutableBytes unit_;
  Scratch& s_;
  const std::uint32_t columns_;  // tokens, to a multiple of kBlock
  bool unusual_ = false;
  std::int32_t log_ = 0, least_step_ = INT32_MAX, most_step_ = INT32_MIN;
  hx::Trial trial_;
  Order order_;
  std::int32_t offset_[kClasses] = {}, tokens_log_[kClasses] = {};
  std::uint8_t gain_[HxShape::kMostTokens] = {};
  alignas(64) std::int32_t step_[kMostChannels] = {};
  std::int32_t mean_[kMostChannels];  // of channels, unturned
  alignas(64) std::int32_t weight_[2 * kMostChannels];
  alignas(64) std::int32_t gain_at_[HxShape::kMostTokens] = {};  // of places
};

}  // namespace speckv::hxp

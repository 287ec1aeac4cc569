// support/codec_promise.hpp -- what a codec says of the values that come back.
#pragma once

#include "cxlspeckv/codec.hpp"

namespace speckv::test {

enum class Promise {
  exact,    // every bit
  bounded,  // every value within a bound of docs/block-format.md
  close,    // the energy of the error, on values like those of models
};

inline Promise promise_of(const Codec& codec) {
  switch (codec.id()) {
    case CodecId::raw:
    case CodecId::lossless:
      return Promise::exact;
    case CodecId::int8:
    case CodecId::int8_delta_rle:
    case CodecId::kvq4:
      return Promise::bounded;
    default:
      return Promise::close;
  }
}
inline bool is_exact(const Codec& codec) {
  return promise_of(codec) == Promise::exact;
}
inline bool is_bounded(const Codec& codec) {
  return promise_of(codec) == Promise::bounded;
}

}  // namespace speckv::test

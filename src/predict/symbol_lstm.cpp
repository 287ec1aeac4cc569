// States to bytes and back.
#include "predict/symbol_lstm.hpp"

#include <limits>

#include "base/endian.hpp"

namespace speckv::predict {

std::array<std::byte, kStateBytes> write_state(const Int8State& state) noexcept {
  std::array<std::byte, kStateBytes> bytes;
  std::byte* at = bytes.data();
  const auto put = [&](const auto& layers) {
    for (const auto& layer : layers) {
      for (const auto value : layer) {
        store_le(at, value);
        at += sizeof value;
      }
    }
  };
  put(state.c);
  put(state.h);
  return bytes;
}

std::optional<Int8State> read_state(Bytes bytes) noexcept {
  Int8State state;
  const std::byte* at = bytes.data();
  bool good = true;
  const auto get = [&](auto& layers) {
    for (auto& layer : layers) {
      for (auto& value : layer) {
        using T = std::remove_reference_t<decltype(value)>;
        value = load_le<T>(at);
        good = good && value != std::numeric_limits<T>::min();
        at += sizeof value;
      }
    }
  };
  get(state.c);
  get(state.h);
  if (!good) return std::nullopt;
  return state;
}

}  // namespace speckv::predict

// host/demo/fidelity.hpp -- what a codec in the lower tier does to the model's
// predictions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "workload.hpp"

namespace speckv::demo {

// Over the tokens that follow a past which went through the codec.
struct Divergence {
  double nats = 0;       // mean Kullback-Leibler divergence from the exact predictions
  double same_best = 0;  // share of tokens whose most likely successor is the same one
  std::uint32_t tokens = 0;
};

struct Fidelity {
  std::string codec{};
  double ratio = 0;  // plain bytes over stored bytes in the lower tier
  double coded =
      0;  // share of the past that had left the fast tier when it was read again
  // Nothing where nothing went through the codec.
  std::optional<Divergence> within{};  // positions that the model was trained on
  std::optional<Divergence> beyond{};  // later ones, if the context goes there
};

// For each codec: prefills sequences into a store that keeps a quarter of them, so that
// their blocks go down through the codec and come back; then lets them read on in the
// text, and compares with the same in a store that keeps everything.
Result<std::vector<Fidelity>> measure_fidelity(const Settings& settings,
                                               const std::vector<const Codec*>& codecs,
                                               Model& model,
                                               const std::vector<std::uint32_t>& text,
                                               const Progress& progress);

// Of `other` from `exact`, two lists of logits of one length.
double divergence(std::span<const float> exact, std::span<const float> other);

}  // namespace speckv::demo

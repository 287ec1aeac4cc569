// support/lstm_cases.hpp -- LSTMs and their input from a seed, as tests/vectors/lstm.txt
// says, and that file's cases.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "predict/lstm_weights.hpp"

namespace speckv::test {

class Lcg {
 public:
  explicit Lcg(std::uint32_t seed) : state_(seed) {}
  std::uint32_t next() { return state_ = state_ * 1664525 + 1013904223; }
  float number(double scale) {
    return static_cast<float>((next() >> 8) / 8388608.0 * scale - scale);
  }
  void fill(std::vector<float>& values, double scale) {
    for (float& value : values)
      value = number(scale);
  }

 private:
  std::uint32_t state_;
};

struct LstmCase {
  std::string name;
  predict::LstmShape shape;
  double scale = 0;
  std::uint32_t seed = 0, steps = 0;
  std::size_t best = 0;
  std::string states, h;  // hexadecimal
  std::vector<std::uint32_t> answer;
  std::vector<double> logits;
};
std::vector<LstmCase> lstm_cases();

// The parameters of a seed; `lcg` goes on with the input.
predict::LstmWeights random_lstm(const predict::LstmShape& shape, double scale, Lcg& lcg);

}  // namespace speckv::test

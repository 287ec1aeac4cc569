#include "predict/lstm_trainer.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "predict/matrix_product.hpp"

namespace speckv::predict {
namespace {

constexpr float kLeast = 1e-12F;  // probability, before its logarithm is taken
constexpr double kMostNorm = 1;   // of all gradients together
constexpr float kInputLimit = 127.0F / 128;

float sigmoid(float x) noexcept {
  return 1 / (1 + std::exp(-x));
}

// Softmax in place; returns the loss. What is left are the gradients of the logits, times
// `scale`.
double softmax(std::span<float> z, const Target& target, float scale) noexcept {
  const float most = *std::max_element(z.begin(), z.end());
  float sum = 0;
  for (float& x : z)
    sum += x = std::exp(x - most);
  for (float& x : z)
    x /= sum;
  const std::size_t end = target.or_later ? z.size() : target.output + 1;
  float right = 0;
  for (std::size_t k = target.output; k < end; ++k)
    right += z[k];
  right = std::max(right, kLeast);
  for (std::size_t k = 0; k < z.size(); ++k) {
    const bool wanted = k >= target.output && k < end;
    z[k] = (z[k] - (wanted ? z[k] / right : 0)) * scale;
  }
  return -std::log(static_cast<double>(right));
}

void add_bias(std::span<const float> bias, std::vector<float>& rows) noexcept {
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] += bias[i % bias.size()];
}

void sum_columns(const std::vector<float>& rows, std::vector<float>& to) noexcept {
  for (std::size_t i = 0; i < rows.size(); ++i)
    to[i % to.size()] += rows[i];
}

}  // namespace

LstmWeights random_weights(const LstmShape& shape, std::uint64_t seed) {
  LstmWeights w = LstmWeights::zero(shape);
  std::mt19937_64 random(seed);
  const auto fill = [&](std::vector<float>& values, double most) {
    for (float& value : values)
      value =
          static_cast<float>((static_cast<double>(random() >> 11) * 0x1p-52 - 1) * most);
  };
  fill(w.embedding, 0.2);
  for (FloatMatrix& layer : w.layers) {
    fill(layer.weight, 1 / std::sqrt(double{kHidden}));
    std::fill_n(layer.bias.begin() + kHidden, kHidden, 1.0F);
  }
  fill(w.head.weight, 1 / std::sqrt(double{kHidden}));
  fill(w.tail.weight, 1 / std::sqrt(double{kHidden}));
  return w;
}

LstmTrainer::LstmTrainer(LstmWeights start) : weights_(std::move(start)) {
  parameters_ = {
      &weights_.embedding,        &weights_.layers[0].weight, &weights_.layers[0].bias,
      &weights_.layers[1].weight, &weights_.layers[1].bias,   &weights_.head.weight,
      &weights_.head.bias,        &weights_.tail.weight,      &weights_.tail.bias};
  for (const std::vector<float>* p : parameters_)
    moments_.emplace_back(p->size());
}

void LstmTrainer::forward(const TrainingBatch& batch) {
  const std::size_t width = weights_.shape.inputs;
  inputs_ = batch.inputs;
  if (weights_.shape.vocabulary != 0) {
    inputs_.resize(batch.classes.size() * width);
    for (std::size_t i = 0; i < batch.classes.size(); ++i)
      std::copy_n(&weights_.embedding[batch.classes[i] * width], width,
                  &inputs_[i * width]);
  }
  for (float& x : inputs_)
    x = std::clamp(x, -kInputLimit, kInputLimit);
  forward(0, batch, inputs_.data());
  forward(1, batch, layers_[0].outputs.data());
}

void LstmTrainer::forward(std::size_t l, const TrainingBatch& batch,
                          const float* inputs) {
  Layer& layer = layers_[l];
  const FloatMatrix& matrix = weights_.layers[l];
  const std::size_t columns = matrix.columns, width = columns - kHidden;
  const std::size_t n = batch.sequences, all = batch.steps * n;
  layer.in.resize(all * columns);
  layer.gates.assign(all * kGateRows, 0);
  layer.cells.resize(all * kHidden);
  layer.outputs.resize(all * kHidden);
  const std::vector<float> weight = transposed(matrix.weight.data(), kGateRows, columns);
  for (std::size_t t = 0; t < batch.steps; ++t) {
    for (std::size_t s = 0; s < n; ++s) {
      float* to = &layer.in[(t * n + s) * columns];
      std::copy_n(inputs + (t * n + s) * width, width, to);
      if (t == 0)
        std::fill_n(to + width, kHidden, 0.0F);
      else
        std::copy_n(&layer.outputs[((t - 1) * n + s) * kHidden], kHidden, to + width);
    }
    float* gates = &layer.gates[t * n * kGateRows];
    add_product(n, kGateRows, columns, &layer.in[t * n * columns], weight.data(), gates);
    for (std::size_t s = 0; s < n; ++s, gates += kGateRows) {
      const std::size_t at = (t * n + s) * kHidden;
      for (std::size_t k = 0; k < kHidden; ++k) {
        float& i = gates[k];
        float& f = gates[kHidden + k];
        float& g = gates[2 * kHidden + k];
        float& o = gates[3 * kHidden + k];
        i = sigmoid(i + matrix.bias[k]);
        f = sigmoid(f + matrix.bias[kHidden + k]);
        g = std::tanh(g + matrix.bias[2 * kHidden + k]);
        o = sigmoid(o + matrix.bias[3 * kHidden + k]);
        const float last = t == 0 ? 0 : layer.cells[at - n * kHidden + k];
        layer.cells[at + k] = f * last + i * g;
        layer.outputs[at + k] = o * std::tanh(layer.cells[at + k]);
      }
    }
  }
}

TrainingLoss LstmTrainer::compare(const TrainingBatch& batch, bool learn,
                                  std::vector<float>& dh) {
  const std::size_t all = batch.steps * batch.sequences;
  const std::size_t outputs = weights_.shape.outputs();
  const std::vector<float>& h = layers_[1].outputs;
  logits_.assign(all * outputs, 0);
  const std::vector<float> weight =
      transposed(weights_.head.weight.data(), outputs, kHidden);
  add_product(all, outputs, kHidden, h.data(), weight.data(), logits_.data());
  add_bias(weights_.head.bias, logits_);
  TrainingLoss loss;
  for (const Target& target : batch.targets)
    loss.targets += target.output != Target::kNone ? 1 : 0;
  const float scale = 1 / static_cast<float>(std::max<std::uint64_t>(1, loss.targets));
  if (learn) dh.assign(all * kHidden, 0);
  for (std::size_t at = 0; at < all; ++at) {
    const auto z = std::span(logits_).subspan(at * outputs, outputs);
    if (batch.targets[at].output == Target::kNone) {
      std::fill(z.begin(), z.end(), 0.0F);
      continue;
    }
    loss.nats += softmax(z, batch.targets[at], scale);
    if (batch.targets[at].tail != Target::kNone)
      loss.nats += compare_tail(batch, at, scale, learn, dh);
  }
  if (!learn) return loss;
  add_product(all, kHidden, outputs, logits_.data(), weights_.head.weight.data(),
              dh.data());
  const std::vector<float> across = transposed(logits_.data(), all, outputs);
  add_product(outputs, kHidden, all, across.data(), h.data(),
              moments_[5].gradient.data());
  sum_columns(logits_, moments_[6].gradient);
  return loss;
}

double LstmTrainer::compare_tail(const TrainingBatch& batch, std::size_t at, float scale,
                                 bool learn, std::vector<float>& dh) {
  const LstmShape& shape = weights_.shape;
  const std::uint32_t row = batch.targets[at].tail;
  const std::uint32_t first = row / shape.cluster * shape.cluster;
  const std::uint32_t rows = std::min(shape.cluster, shape.tail() - first);
  const float* h = &layers_[1].outputs[at * kHidden];
  const float* weight = &weights_.tail.weight[std::size_t{first} * kHidden];
  std::vector<float> z(weights_.tail.bias.begin() + first,
                       weights_.tail.bias.begin() + first + rows);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t k = 0; k < kHidden; ++k)
      z[r] += weight[r * kHidden + k] * h[k];
  }
  const double loss = softmax(z, {.output = row - first}, scale);
  for (std::size_t r = 0; learn && r < rows; ++r) {
    float* gradient = &moments_[7].gradient[(first + r) * kHidden];
    moments_[8].gradient[first + r] += z[r];
    for (std::size_t k = 0; k < kHidden; ++k) {
      gradient[k] += z[r] * h[k];
      dh[at * kHidden + k] += z[r] * weight[r * kHidden + k];
    }
  }
  return loss;
}

// Takes the gradients of its outputs, returns those of its inputs.
std::vector<float> LstmTrainer::backward(std::size_t l, const TrainingBatch& batch,
                                         const std::vector<float>& dh) {
  Layer& layer = layers_[l];
  const FloatMatrix& matrix = weights_.layers[l];
  const std::size_t columns = matrix.columns, width = columns - kHidden;
  const std::size_t n = batch.sequences, all = batch.steps * n;
  std::vector<float> dc(n * kHidden), in(n * columns), to(all * width);
  for (std::size_t t = batch.steps; t-- > 0;) {
    for (std::size_t s = 0; s < n; ++s) {
      const std::size_t at = (t * n + s) * kHidden;
      float* gates = &layer.gates[(t * n + s) * kGateRows];
      for (std::size_t k = 0; k < kHidden; ++k) {
        const float i = gates[k], f = gates[kHidden + k];
        const float g = gates[2 * kHidden + k], o = gates[3 * kHidden + k];
        const float tanh = std::tanh(layer.cells[at + k]);
        const float last = t == 0 ? 0 : layer.cells[at - n * kHidden + k];
        const float d = dh[at + k] + in[s * columns + width + k];
        const float cell = dc[s * kHidden + k] + d * o * (1 - tanh * tanh);
        gates[k] = cell * g * i * (1 - i);
        gates[kHidden + k] = cell * last * f * (1 - f);
        gates[2 * kHidden + k] = cell * i * (1 - g * g);
        gates[3 * kHidden + k] = d * tanh * o * (1 - o);
        dc[s * kHidden + k] = cell * f;
      }
    }
    std::fill(in.begin(), in.end(), 0.0F);
    add_product(n, columns, kGateRows, &layer.gates[t * n * kGateRows],
                matrix.weight.data(), in.data());
    for (std::size_t s = 0; s < n; ++s)
      std::copy_n(&in[s * columns], width, &to[(t * n + s) * width]);
  }
  const std::vector<float> across = transposed(layer.gates.data(), all, kGateRows);
  add_product(kGateRows, columns, all, across.data(), layer.in.data(),
              moments_[1 + 2 * l].gradient.data());
  sum_columns(layer.gates, moments_[2 + 2 * l].gradient);
  return to;
}

void LstmTrainer::adam(double rate) {
  constexpr float kFirst = 0.9F, kSecond = 0.999F;
  ++steps_;
  double norm = 0;
  for (const Moments& m : moments_) {
    for (const float g : m.gradient)
      norm += static_cast<double>(g) * static_cast<double>(g);
  }
  const auto cut = static_cast<float>(std::min(1.0, kMostNorm / std::sqrt(norm + 1e-30)));
  const auto n = static_cast<double>(steps_);
  const double first = 1 - std::pow(static_cast<double>(kFirst), n);
  const double second = 1 - std::pow(static_cast<double>(kSecond), n);
  const auto step = static_cast<float>(rate / first);
  const auto root = static_cast<float>(1 / second);
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    Moments& m = moments_[p];
    float* values = parameters_[p]->data();
    for (std::size_t i = 0; i < m.gradient.size(); ++i) {
      const float g = m.gradient[i] * cut;
      m.first[i] = kFirst * m.first[i] + (1 - kFirst) * g;
      m.second[i] = kSecond * m.second[i] + (1 - kSecond) * g * g;
      values[i] -= step * m.first[i] / (std::sqrt(m.second[i] * root) + 1e-8F);
      m.gradient[i] = 0;
    }
  }
  for (float& x : weights_.embedding)
    x = std::clamp(x, -kInputLimit, kInputLimit);
}

TrainingLoss LstmTrainer::train(const TrainingBatch& batch, double rate) {
  std::vector<float> dh;
  forward(batch);
  const TrainingLoss loss = compare(batch, true, dh);
  const std::vector<float> between = backward(1, batch, dh);
  const std::vector<float> first = backward(0, batch, between);
  const std::size_t width = weights_.shape.inputs;
  for (std::size_t i = 0; i < batch.classes.size(); ++i) {
    float* gradient = &moments_[0].gradient[batch.classes[i] * width];
    for (std::size_t k = 0; k < width; ++k)
      gradient[k] += first[i * width + k];
  }
  adam(rate);
  return loss;
}

TrainingLoss LstmTrainer::loss(const TrainingBatch& batch) {
  std::vector<float> none;
  forward(batch);
  return compare(batch, false, none);
}

}  // namespace speckv::predict

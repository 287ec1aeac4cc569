#include "predict/return_fitter.hpp"

#include <algorithm>

#include "predict/int8_arithmetic.hpp"

namespace speckv::predict {
namespace {

constexpr std::size_t kBatch = 16;      // windows
constexpr std::uint32_t kHeldBack = 8;  // one session in so many
constexpr std::uint32_t kTries = 8;     // for a window of similar length
constexpr double kWorthIt = 1e-3;       // of the loss: less is no gain

std::uint64_t mixed(std::uint64_t x) noexcept {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

}  // namespace

void ReturnWindow::append(const ReturnFeatures& features) noexcept {
  if (steps == kMost) {
    std::copy(input.begin() + kKept, input.end(), input.begin());
    target.fill({});
    steps = kKept;
    ++number;
  }
  std::transform(features.begin(), features.end(), input[steps].begin(), int8::input);
  target[steps] = {};
  ++steps;
}

ReturnFitter::ReturnFitter(LstmWeights start, std::uint64_t seed,
                           std::uint32_t most_windows)
    : trainer_(std::move(start)),
      random_(seed),
      learn_(most_windows),
      judge_(std::max(1U, most_windows / kHeldBack)) {}

void ReturnFitter::Pool::add(std::uint64_t key, const ReturnWindow& window) {
  if (const std::uint32_t* at = places.find(key)) {
    windows[*at] = window;
    return;
  }
  bool fresh = false;
  if (windows.size() < most) {
    places.touch(key, static_cast<std::uint32_t>(windows.size()), fresh);
    windows.push_back(window);
    keys.push_back(key);
    return;
  }
  places.erase(keys[next]);
  places.touch(key, static_cast<std::uint32_t>(next), fresh);
  windows[next] = window;
  keys[next] = key;
  next = (next + 1) % most;
}

void ReturnFitter::add(SessionId session, const ReturnWindow& window) {
  const std::uint64_t key = mixed(session * 0x9E3779B97F4A7C15 + window.number);
  (mixed(session) % kHeldBack == 0 ? judge_ : learn_).add(key, window);
}

const ReturnWindow& ReturnFitter::similar(std::size_t steps) {
  std::size_t at = 0;
  for (std::uint32_t i = 0; i < kTries; ++i) {
    at = random_() % learn_.windows.size();
    const std::size_t found = learn_.windows[at].steps;
    if (found <= 2 * steps && steps <= 2 * found) break;
  }
  return learn_.windows[at];
}

TrainingBatch ReturnFitter::batch_of(const std::vector<const ReturnWindow*>& windows) {
  TrainingBatch batch{.sequences = windows.size()};
  for (const ReturnWindow* window : windows)
    batch.steps = std::max(batch.steps, window->steps);
  batch.inputs.resize(batch.steps * batch.sequences * kReturnFeatures);
  batch.targets.resize(batch.steps * batch.sequences);
  for (std::size_t s = 0; s < windows.size(); ++s) {
    for (std::size_t t = 0; t < windows[s]->steps; ++t) {
      const std::size_t at = t * batch.sequences + s;
      batch.targets[at] = windows[s]->target[t];
      for (std::size_t k = 0; k < kReturnFeatures; ++k)
        batch.inputs[at * kReturnFeatures + k] =
            static_cast<float>(windows[s]->input[t][k]) / 128;
    }
  }
  return batch;
}

bool ReturnFitter::step(double rate) {
  if (learn_.windows.empty()) return false;
  std::vector<const ReturnWindow*> chosen = {
      &learn_.windows[random_() % learn_.windows.size()]};
  while (chosen.size() < kBatch)
    chosen.push_back(&similar(chosen[0]->steps));
  trainer_.train(batch_of(chosen), rate);
  return true;
}

double ReturnFitter::held_back_loss(LstmTrainer& of) {
  TrainingLoss sum;
  std::vector<const ReturnWindow*> some;
  for (const ReturnWindow& window : judge_.windows) {
    some.push_back(&window);
    if (some.size() < 4 * kBatch && &window != &judge_.windows.back()) continue;
    const TrainingLoss loss = of.loss(batch_of(some));
    sum.nats += loss.nats;
    sum.targets += loss.targets;
    some.clear();
  }
  return sum.mean();
}

LstmWeights ReturnFitter::fit(std::uint32_t epochs, std::uint32_t patience, double rate,
                              const std::function<bool(const Progress&)>& told) {
  LstmWeights best = trainer_.weights();
  double least = held_back_loss(trainer_);
  std::uint32_t in_vain = 0;
  for (std::uint32_t epoch = 1; epoch <= epochs && in_vain < patience; ++epoch) {
    for (std::size_t i = 0; i < windows(); i += kBatch)
      step(rate);
    const double loss = held_back_loss(trainer_);
    if (loss < least * (1 - kWorthIt)) {
      least = loss;
      best = trainer_.weights();
      in_vain = 0;
    } else {
      ++in_vain;
      rate /= 2;
    }
    if (!told({epoch, epochs, loss, least})) break;
  }
  return best;
}

}  // namespace speckv::predict

#include "generator.hpp"

#include <algorithm>
#include <utility>

namespace speckv::demo {

std::uint32_t most_likely(std::span<const float> logits) noexcept {
  const auto best = std::max_element(logits.begin(), logits.end());
  return static_cast<std::uint32_t>(best - logits.begin());
}

Generator::Generator(Model& model, Cache& cache, std::vector<std::uint32_t> prompt)
    : model_(&model), cache_(&cache), tokens_(std::move(prompt)) {}

Status Generator::prefill() {
  if (kv_ == nullptr) {
    auto created =
        Sequence::create(cache_->store(), {.model = "kvlm12m", .salt = cache_->salt()});
    if (!created) return created.error();
    kv_ = *std::move(created);
  }
  const std::span all(tokens_);
  while (kv_->size() + 1 < all.size()) {
    const auto done = run(all.subspan(kv_->size(), all.size() - 1 - kv_->size()), 0);
    if (!done) return done.error();
  }
  return {};
}

Status Generator::step() {
  const std::uint32_t last = tokens_.back();
  const auto logits = run({&last, 1}, 1);
  if (!logits) return logits.error();
  tokens_.push_back(most_likely(*logits));
  return {};
}

Result<std::vector<float>> Generator::follow(std::span<const std::uint32_t> tokens) {
  std::vector<float> all;
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  while (kv_->size() + 1 < tokens_.size()) {
    const auto rest =
        std::span(tokens_).subspan(kv_->size(), tokens_.size() - 1 - kv_->size());
    const auto logits = run(rest, kBlockTokens);
    if (!logits) return logits.error();
    all.insert(all.end(), logits->begin(), logits->end());
  }
  return all;
}

Status Generator::bring() {
  if (kv_ == nullptr || kv_->size() == 0) return {};
  const auto view = kv_->view();
  return view ? Status() : view.error();
}

bool Generator::stage() noexcept {
  return kv_ == nullptr || kv_->stage().ok();
}

void Generator::drop() {
  if (kv_ == nullptr) return;
  const std::vector<BlockKey> keys(kv_->keys().begin(), kv_->keys().end());
  kv_.reset();
  cache_->store().erase(keys);
}

Result<std::span<const float>> Generator::run(std::span<const std::uint32_t> tokens,
                                              std::uint32_t logit_rows) {
  const std::uint32_t first = kv_->size();
  const auto taken = kv_->append(tokens);
  if (!taken) return taken.error();
  const auto view = kv_->view();
  if (!view) return view.error();
  lay_out(*view);
  return model_->forward(tokens.first(*taken), first, spans_,
                         std::min(logit_rows, *taken));
}

void Generator::lay_out(const View& view) {
  const std::size_t blocks = view.block_count();
  spans_.block_count = static_cast<std::uint32_t>(blocks);
  spans_.blocks.resize(blocks * ModelShape::layers);
  spans_.tail.resize(ModelShape::layers);
  for (std::uint32_t layer = 0; layer < ModelShape::layers; ++layer) {
    for (std::size_t n = 0; n < blocks; ++n) {
      spans_.blocks[layer * blocks + n] = view.layer(n, layer);
    }
    spans_.tail[layer] = kv_->tail(layer);
  }
}

}  // namespace speckv::demo

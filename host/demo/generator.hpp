// host/demo/generator.hpp -- one sequence of text: its tokens, and its KV in a store.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cxlspeckv/sequence.hpp"

#include "cache.hpp"
#include "model.hpp"

namespace speckv::demo {

// One thread. The last token's KV is always still to come: it is computed by the step
// that asks what follows.
class Generator {
 public:
  // REQUIRES: `prompt` is not empty; model and cache outlive this.
  Generator(Model& model, Cache& cache, std::vector<std::uint32_t> prompt);

  // Computes the KV of all tokens but the last, unless it is there.
  Status prefill();
  // Appends the most likely next token.
  Status step();
  // Appends `tokens`, and returns the logits that each of them was to be predicted from;
  // [token][vocabulary].
  Result<std::vector<float>> follow(std::span<const std::uint32_t> tokens);

  // Brings the KV into the fastest tier, and waits until it is there.
  Status bring();
  // Starts to bring the KV into the fastest tier: a hint. False: ask again later.
  bool stage() noexcept;
  // Forgets the KV (not the text), in the store as well.
  void drop();

  bool has_kv() const noexcept { return kv_ != nullptr; }
  std::span<const BlockKey> keys() const noexcept {
    return kv_ ? kv_->keys() : std::span<const BlockKey>();
  }
  const std::vector<std::uint32_t>& tokens() const noexcept { return tokens_; }

 private:
  // Runs tokens of one block at the end of the KV.
  Result<std::span<const float>> run(std::span<const std::uint32_t> tokens,
                                     std::uint32_t logit_rows);
  void lay_out(const View& view);

  Model* model_;
  Cache* cache_;
  std::vector<std::uint32_t> tokens_;
  std::unique_ptr<Sequence> kv_{};
  KvSpans spans_{};
};

// The index of the largest value, the first of equals.
std::uint32_t most_likely(std::span<const float> logits) noexcept;

}  // namespace speckv::demo

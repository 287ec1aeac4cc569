// host/demo/model.hpp -- a llama-like language model of twelve million parameters.
//
// The forward pass takes a few new tokens of one sequence at a time and keeps nothing:
// keys and values are read and written where the caller says. One token's result has the
// same bits whether it came alone (decode) or with others (prefill), on any number of
// threads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

#include "kernels.hpp"
#include "team.hpp"

namespace speckv::demo {

struct ModelShape {
  static constexpr std::uint32_t vocabulary = 4096, width = 384, layers = 6;
  static constexpr std::uint32_t heads = 4, kv_heads = 2, head_dim = 128, hidden = 1024;
  static constexpr std::uint32_t trained_context = 1024;  // it never saw later positions
  static constexpr float rope_base = 10000.0F;
};

// Tokens of a block: also the most that one forward pass takes.
inline constexpr std::uint32_t kBlockTokens = 64;
BlockLayout kv_layout() noexcept;

// Where the keys and values of one sequence lie while a batch runs: for each layer, its
// blocks in order, every one a whole layer of kv_layout() (K [head][token][channel], then
// V). The last block is open: the batch's rows are written to `tail`, which is the same
// memory. `blocks` is [layer][block].
struct KvSpans {
  std::vector<Bytes> blocks{};
  std::vector<MutableBytes> tail{};
  std::uint32_t block_count = 0;

  std::span<const Bytes> layer(std::uint32_t n) const noexcept {
    return std::span(blocks).subspan(std::size_t{n} * block_count, block_count);
  }
};

class Model {
 public:
  // Reads the weights (binary16, in the order of data/README.md). not_found: no such
  // file. corrupted: not the size of this model, or values that are no numbers.
  // `max_tokens`: the longest sequence. REQUIRES: team and kernels outlive the model.
  static Result<Model> open(const std::string& path, std::uint32_t max_tokens, Team& team,
                            const Kernels& kernels);

  // Runs `tokens` at positions [first, first + tokens.size()), which lie in the last
  // block of `kv`, and leaves their keys and values there. The logits of the last
  // `logit_rows` tokens, row after row, are valid until the next call. REQUIRES: every
  // token < vocabulary; positions < max_tokens.
  std::span<const float> forward(std::span<const std::uint32_t> tokens,
                                 std::uint32_t first, const KvSpans& kv,
                                 std::uint32_t logit_rows);

  // Floating-point operations of forward(), attention included.
  static double operations(std::uint32_t tokens, std::uint32_t first,
                           std::uint32_t logit_rows) noexcept;

  std::uint32_t max_tokens() const noexcept { return max_tokens_; }
  const Kernels& kernels() const noexcept { return *kernels_; }

 private:
  // A matrix of `rows` outputs and `depth` inputs, as panels of kPanel outputs each.
  struct Matrix {
    std::vector<Half> panels{};
    std::uint32_t depth = 0, rows = 0;
    const Half* panel(std::size_t n) const noexcept {
      return &panels[n * kPanel * depth];
    }
    std::size_t panel_count() const noexcept { return rows / kPanel; }
  };
  struct Layer {
    std::vector<float> attention_gain{}, hidden_gain{};
    Matrix qkv{}, output{}, gate_up{}, down{};
  };
  class Reader;

  Model(Team& team, const Kernels& kernels, std::uint32_t max_tokens);

  void embed(std::span<const std::uint32_t> tokens);
  void normalize(std::size_t rows, const std::vector<float>& gain);
  // Columns [64 n, 64 n + 64) of x * matrix, by whichever kernel suits the row count.
  void multiply_panel(const Matrix& matrix, std::size_t n, const float* x,
                      std::size_t x_stride, std::size_t rows, float* out,
                      std::size_t out_stride, bool add, unsigned thread);
  void rotate_and_store(std::size_t rows, std::uint32_t first, MutableBytes tail);
  void rotate(const float* in, std::uint32_t position, float* out) const noexcept;
  void attend(std::size_t rows, std::uint32_t first, std::span<const Bytes> blocks);
  void attend_rows(std::size_t head, std::size_t row, std::size_t rows, std::size_t batch,
                   std::uint32_t first, std::span<const Bytes> blocks, unsigned thread);
  void feed_forward(std::size_t rows, const Layer& layer);

  Team* team_;
  const Kernels* kernels_;
  std::uint32_t max_tokens_;
  Matrix embedding_;  // of the input, and (tied) of the logits
  std::vector<Layer> layers_;
  std::vector<float> final_gain_;
  std::vector<float> cosine_, sine_;  // [position][head_dim / 2]

  // Buffers of one forward pass. Rows are padded, so that eight of them do not fall into
  // the same set of the first-level cache.
  std::vector<float> state_, normal_, projected_, queries_, mixed_, hidden_, logits_;
  std::vector<std::vector<float>> scratch_;  // one a thread
};

}  // namespace speckv::demo

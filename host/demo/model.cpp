#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

namespace speckv::demo {
namespace {

using S = ModelShape;

constexpr std::size_t kPad = 16;  // one cache line
constexpr std::size_t kWidthStride = S::width + kPad;
constexpr std::size_t kQkvRows = (S::heads + 2 * S::kv_heads) * S::head_dim;
constexpr std::size_t kQkvStride = kQkvRows + kPad;
constexpr std::size_t kMixedStride = S::heads * S::head_dim + kPad;
constexpr std::size_t kHiddenStride = S::hidden + kPad;
constexpr std::size_t kGroup =
    S::heads / S::kv_heads;  // query heads that share a KV head

// From this many rows on, widening a panel once costs less than converting it per tile.
constexpr std::size_t kWideningPays = 9;

// A thread's scratch: a widened panel (or a block's keys and values), then rows of scores
// or of the two halves of the gated unit.
constexpr std::size_t kScratchPanel = kPanel * std::max(S::hidden, 2 * S::head_dim);
constexpr std::size_t kScratchRows = 2 * kPanel * kBlockTokens;

constexpr std::size_t kHeadValues = std::size_t{kBlockTokens} * S::head_dim;

const Half* halves(Bytes bytes) noexcept {
  return reinterpret_cast<const Half*>(bytes.data());
}

constexpr std::uint64_t weight_count() {
  constexpr std::uint64_t kLayer = 2 * S::width + kQkvRows * S::width +
                                   std::uint64_t{S::width} * S::heads * S::head_dim +
                                   std::uint64_t{3} * S::hidden * S::width;
  return std::uint64_t{S::vocabulary} * S::width + S::layers * kLayer + S::width;
}

}  // namespace

BlockLayout kv_layout() noexcept {
  return {.layers = S::layers,
          .kv_heads = S::kv_heads,
          .head_dim = S::head_dim,
          .tokens = kBlockTokens,
          .dtype = DType::f16};
}

// ---- Weights -----------------------------------------------------------------------

// Hands out consecutive tensors of the weights file.
class Model::Reader {
 public:
  Reader(std::vector<Half> values, const Kernels& kernels)
      : values_(std::move(values)), kernels_(kernels) {}

  Matrix matrix(std::size_t rows, std::size_t depth) {
    Matrix out{.panels = std::vector<Half>(rows * depth),
               .depth = static_cast<std::uint32_t>(depth),
               .rows = static_cast<std::uint32_t>(rows)};
    for (std::size_t row = 0; row < rows; ++row) {
      Half* to = &out.panels[row / kPanel * kPanel * depth + row % kPanel];
      for (std::size_t k = 0; k < depth; ++k)
        to[k * kPanel] = values_[next_ + k];
      next_ += depth;
    }
    return out;
  }
  std::vector<float> vector(std::size_t count) {
    std::vector<float> out(count);
    kernels_.widen(&values_[next_], count, out.data());
    next_ += count;
    return out;
  }

 private:
  std::vector<Half> values_;
  const Kernels& kernels_;
  std::size_t next_ = 0;
};

namespace {

Result<std::vector<Half>> read_weights(const std::string& path) {
  struct Close {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) return Status(Code::not_found, "cannot open the model's weights: " + path);
  std::vector<Half> values(weight_count());
  const std::size_t got =
      std::fread(values.data(), sizeof(Half), values.size(), file.get());
  if (got != values.size() || std::fgetc(file.get()) != EOF) {
    return Status(Code::corrupted, path + " is not " +
                                       std::to_string(weight_count() * sizeof(Half)) +
                                       " bytes, as the weights of this model are");
  }
  const auto no_number = [](Half value) { return (value & 0x7C00U) == 0x7C00U; };
  if (std::any_of(values.begin(), values.end(), no_number)) {
    return Status(Code::corrupted, path + " holds weights that are not finite numbers");
  }
  return values;
}

}  // namespace

Model::Model(Team& team, const Kernels& kernels, std::uint32_t max_tokens)
    : team_(&team),
      kernels_(&kernels),
      max_tokens_(max_tokens),
      state_(kBlockTokens * kWidthStride),
      normal_(kBlockTokens * kWidthStride),
      projected_(kBlockTokens * kQkvStride),
      queries_(std::size_t{kBlockTokens} * S::heads * S::head_dim),
      mixed_(kBlockTokens * kMixedStride),
      hidden_(kBlockTokens * kHiddenStride),
      logits_(std::size_t{kBlockTokens} * S::vocabulary),
      scratch_(team.threads(), std::vector<float>(kScratchPanel + kScratchRows)) {
  constexpr std::size_t kPairs = S::head_dim / 2;
  cosine_.resize(max_tokens * kPairs);
  sine_.resize(max_tokens * kPairs);
  for (std::size_t i = 0; i < cosine_.size(); ++i) {
    const std::size_t position = i / kPairs, pair = i % kPairs;
    const double power = -static_cast<double>(pair) / kPairs;
    const double angle = static_cast<double>(position) *
                         std::pow(static_cast<double>(S::rope_base), power);
    cosine_[i] = static_cast<float>(std::cos(angle));
    sine_[i] = static_cast<float>(std::sin(angle));
  }
}

Result<Model> Model::open(const std::string& path, std::uint32_t max_tokens, Team& team,
                          const Kernels& kernels) {
  auto values = read_weights(path);
  if (!values) return values.error();
  Reader reader(*std::move(values), kernels);
  Model model(team, kernels, max_tokens);
  model.embedding_ = reader.matrix(S::vocabulary, S::width);
  for (std::uint32_t n = 0; n < S::layers; ++n) {
    Layer& layer = model.layers_.emplace_back();
    layer.attention_gain = reader.vector(S::width);
    layer.hidden_gain = reader.vector(S::width);
    layer.qkv = reader.matrix(kQkvRows, S::width);
    layer.output = reader.matrix(S::width, std::size_t{S::heads} * S::head_dim);
    layer.gate_up = reader.matrix(2 * S::hidden, S::width);
    layer.down = reader.matrix(S::width, S::hidden);
  }
  model.final_gain_ = reader.vector(S::width);
  return model;
}

// ---- The forward pass --------------------------------------------------------------

std::span<const float> Model::forward(std::span<const std::uint32_t> tokens,
                                      std::uint32_t first, const KvSpans& kv,
                                      std::uint32_t logit_rows) {
  const std::size_t rows = tokens.size();
  embed(tokens);
  for (std::uint32_t n = 0; n < S::layers; ++n) {
    const Layer& layer = layers_[n];
    normalize(rows, layer.attention_gain);
    team_->for_each(layer.qkv.panel_count(), [&](std::size_t p, unsigned thread) {
      multiply_panel(layer.qkv, p, normal_.data(), kWidthStride, rows,
                     projected_.data() + p * kPanel, kQkvStride, false, thread);
    });
    rotate_and_store(rows, first, kv.tail[n]);
    attend(rows, first, kv.layer(n));
    team_->for_each(layer.output.panel_count(), [&](std::size_t p, unsigned thread) {
      multiply_panel(layer.output, p, mixed_.data(), kMixedStride, rows,
                     state_.data() + p * kPanel, kWidthStride, true, thread);
    });
    feed_forward(rows, layer);
  }
  if (logit_rows == 0) return {};
  normalize(rows, final_gain_);
  const float* last = normal_.data() + (rows - logit_rows) * kWidthStride;
  team_->for_each(embedding_.panel_count(), [&](std::size_t p, unsigned thread) {
    multiply_panel(embedding_, p, last, kWidthStride, logit_rows,
                   logits_.data() + p * kPanel, S::vocabulary, false, thread);
  });
  return std::span(logits_).first(std::size_t{logit_rows} * S::vocabulary);
}

double Model::operations(std::uint32_t tokens, std::uint32_t first,
                         std::uint32_t logit_rows) noexcept {
  constexpr double kMatrix =
      2.0 * S::width * (kQkvRows + S::heads * S::head_dim + 3.0 * S::hidden);
  constexpr double kPerKey = 4.0 * S::heads * S::head_dim;
  const double keys = tokens * (first + (tokens + 1) / 2.0);
  return S::layers * (tokens * kMatrix + keys * kPerKey) +
         2.0 * logit_rows * S::width * S::vocabulary;
}

void Model::embed(std::span<const std::uint32_t> tokens) {
  std::vector<Half> row(S::width);
  for (std::size_t r = 0; r < tokens.size(); ++r) {
    const Half* from = embedding_.panel(tokens[r] / kPanel) + tokens[r] % kPanel;
    for (std::size_t k = 0; k < S::width; ++k)
      row[k] = from[k * kPanel];
    kernels_->widen(row.data(), S::width, &state_[r * kWidthStride]);
  }
}

void Model::normalize(std::size_t rows, const std::vector<float>& gain) {
  for (std::size_t r = 0; r < rows; ++r) {
    kernels_->rms_norm(&state_[r * kWidthStride], gain.data(), S::width,
                       &normal_[r * kWidthStride]);
  }
}

void Model::multiply_panel(const Matrix& matrix, std::size_t n, const float* x,
                           std::size_t x_stride, std::size_t rows, float* out,
                           std::size_t out_stride, bool add, unsigned thread) {
  if (rows < kWideningPays) {
    kernels_->multiply_half(x, x_stride, rows, matrix.panel(n), kPanel, matrix.depth, out,
                            out_stride, add);
    return;
  }
  float* panel = scratch_[thread].data();
  kernels_->widen(matrix.panel(n), kPanel * matrix.depth, panel);
  kernels_->multiply(x, x_stride, rows, panel, kPanel, matrix.depth, out, out_stride,
                     add);
}

void Model::rotate(const float* in, std::uint32_t position, float* out) const noexcept {
  constexpr std::size_t kPairs = S::head_dim / 2;
  const float* cosine = &cosine_[position * kPairs];
  const float* sine = &sine_[position * kPairs];
  for (std::size_t i = 0; i < kPairs; ++i) {
    out[i] = in[i] * cosine[i] - in[i + kPairs] * sine[i];
    out[i + kPairs] = in[i + kPairs] * cosine[i] + in[i] * sine[i];
  }
}

// Turns queries and keys to their positions, puts queries where attention wants them
// ([head][row], so that the heads of a group are one matrix), keys and values into the
// tail.
void Model::rotate_and_store(std::size_t rows, std::uint32_t first, MutableBytes tail) {
  auto* keys = reinterpret_cast<Half*>(tail.data());
  Half* values = keys + S::kv_heads * kHeadValues;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto position = static_cast<std::uint32_t>(first + r);
    const float* row = &projected_[r * kQkvStride];
    for (std::size_t h = 0; h < S::heads; ++h) {
      rotate(row + h * S::head_dim, position, &queries_[(h * rows + r) * S::head_dim]);
    }
    const float* key = row + S::heads * S::head_dim;
    const float* value = key + S::kv_heads * S::head_dim;
    for (std::size_t h = 0; h < S::kv_heads; ++h) {
      const std::size_t at = (h * kBlockTokens + position % kBlockTokens) * S::head_dim;
      float turned[S::head_dim];
      rotate(key + h * S::head_dim, position, turned);
      kernels_->narrow(turned, S::head_dim, keys + at);
      kernels_->narrow(value + h * S::head_dim, S::head_dim, values + at);
    }
  }
}

// Shares out (KV head, rows): as few pieces as give every thread work, because each piece
// unpacks all of its head's keys and values again.
void Model::attend(std::size_t rows, std::uint32_t first, std::span<const Bytes> blocks) {
  const std::size_t wanted = (team_->threads() + S::kv_heads - 1) / S::kv_heads;
  const std::size_t piece = (rows + wanted - 1) / wanted;
  const std::size_t pieces = (rows + piece - 1) / piece;
  team_->for_each(S::kv_heads * pieces, [&](std::size_t n, unsigned thread) {
    const std::size_t row = n / S::kv_heads * piece;
    attend_rows(n % S::kv_heads, row, std::min(piece, rows - row), rows, first, blocks,
                thread);
  });
}

// Rows [row, row + rows) of the batch, in all query heads of one KV head: a running
// softmax over the blocks, in their order.
void Model::attend_rows(std::size_t head, std::size_t row, std::size_t rows,
                        std::size_t batch, std::uint32_t first,
                        std::span<const Bytes> blocks, unsigned thread) {
  constexpr std::size_t kDim = S::head_dim;
  const float softener = 1.0F / std::sqrt(static_cast<float>(kDim));
  float* keys = scratch_[thread].data();  // [channel][token]
  float* values = keys + kHeadValues;     // [token][channel]
  float* scores = keys + kScratchPanel;
  float maximum[kGroup * kBlockTokens];
  float total[kGroup * kBlockTokens];
  std::fill_n(maximum, kGroup * rows, -1e30F);
  std::fill_n(total, kGroup * rows, 0.0F);
  const auto out = [&](std::size_t g, std::size_t r) {
    return &mixed_[(row + r) * kMixedStride + (head * kGroup + g) * kDim];
  };
  for (std::size_t g = 0; g < kGroup; ++g) {
    for (std::size_t r = 0; r < rows; ++r)
      std::fill_n(out(g, r), kDim, 0.0F);
  }

  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const Half* plain = halves(blocks[b]) + head * kHeadValues;
    kernels_->transpose_keys(plain, kDim, keys);
    const std::size_t begin = b * kBlockTokens;
    // Tokens of this block that the last row sees; values beyond were never written.
    const std::size_t seen =
        std::min<std::size_t>(first + row + rows - begin, kBlockTokens);
    kernels_->widen(plain + S::kv_heads * kHeadValues, seen * kDim, values);
    for (std::size_t g = 0; g < kGroup; ++g) {
      const float* query = &queries_[((head * kGroup + g) * batch + row) * kDim];
      kernels_->multiply(query, kDim, rows, keys, kPanel, kDim, scores, kPanel, false);
      for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t tokens =
            std::min<std::size_t>(first + row + r + 1 - begin, kBlockTokens);
        const std::size_t at = g * rows + r;
        const float fade = kernels_->softmax_step(scores + r * kPanel, tokens, softener,
                                                  &maximum[at], &total[at]);
        if (fade != 1.0F) kernels_->scale(out(g, r), kDim, fade);
      }
      for (std::size_t c = 0; c < kDim; c += kPanel) {
        kernels_->multiply(scores, kPanel, rows, values + c, kDim, seen, out(g, 0) + c,
                           kMixedStride, true);
      }
    }
  }
  for (std::size_t g = 0; g < kGroup; ++g) {
    for (std::size_t r = 0; r < rows; ++r) {
      kernels_->scale(out(g, r), kDim, 1.0F / total[g * rows + r]);
    }
  }
}

void Model::feed_forward(std::size_t rows, const Layer& layer) {
  normalize(rows, layer.hidden_gain);
  const std::size_t panels = layer.gate_up.panel_count() / 2;
  team_->for_each(panels, [&](std::size_t p, unsigned thread) {
    float* gate = scratch_[thread].data() + kScratchPanel;
    float* up = gate + kPanel * kBlockTokens;
    multiply_panel(layer.gate_up, p, normal_.data(), kWidthStride, rows, gate, kPanel,
                   false, thread);
    multiply_panel(layer.gate_up, p + panels, normal_.data(), kWidthStride, rows, up,
                   kPanel, false, thread);
    for (std::size_t r = 0; r < rows; ++r) {
      kernels_->gated(gate + r * kPanel, up + r * kPanel, kPanel,
                      &hidden_[r * kHiddenStride + p * kPanel]);
    }
  });
  team_->for_each(layer.down.panel_count(), [&](std::size_t p, unsigned thread) {
    multiply_panel(layer.down, p, hidden_.data(), kHiddenStride, rows,
                   state_.data() + p * kPanel, kWidthStride, true, thread);
  });
}

}  // namespace speckv::demo

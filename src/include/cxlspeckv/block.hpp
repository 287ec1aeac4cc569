// cxlspeckv/block.hpp -- what is stored, and how it is named.
//
// A block is the K and V of `tokens` consecutive tokens for the layers of one group.
// Sealed, it never changes, and its key is a hash of everything that decided its bytes.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "cxlspeckv/status.hpp"

namespace speckv {

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

// The content name of a block: BLAKE2b-128, chained over the prefix. Equal keys name the
// same content, which is why a sealed block is never rewritten.
struct BlockKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(const BlockKey&) const = default;
};

enum class DType : std::uint8_t { f16, bf16, f32, f8e4m3 };
constexpr std::size_t bytes_of(DType dtype) noexcept {
  return dtype == DType::f32 ? 4 : dtype == DType::f8e4m3 ? 1 : 2;
}

// How the blocks of one group of layers are laid out. A plain block is, in this order,
//   [layer][K, then V][head][token][channel]      (Kind::kv)
//   [layer][head][token][channel]                 (Kind::latent: one row a token)
//   [layer][head][token][K, then V][channel]      (Kind::interleaved: pages of engines)
//   [layer][head][K [channel][token], then V [token][channel]]
//                                        (Kind::transposed: pages of engines on CPUs)
//   [layer][head][K [token / 16][channel / 2][token % 16][channel % 2],
//            then V [channel / 16][token / 2][channel % 16][token % 2]]
//                                        (Kind::tiled: those of engines that use AMX)
// of little-endian `dtype` values. A store may hold several layouts (hybrid models).
struct BlockLayout {
  enum class Kind : std::uint8_t { kv, latent, interleaved, transposed, tiled };

  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t tokens = 64;
  DType dtype = DType::bf16;
  Kind kind = Kind::kv;

  bool operator==(const BlockLayout&) const = default;

  // Rows of head_dim values in one layer.
  constexpr std::uint64_t layer_rows() const noexcept {
    return std::uint64_t{kind == Kind::latent ? 1U : 2U} * kv_heads * tokens;
  }
  constexpr std::uint64_t layer_bytes() const noexcept {
    return layer_rows() * head_dim * bytes_of(dtype);
  }
  constexpr std::uint64_t bytes() const noexcept { return layer_bytes() * layers; }

  // invalid_argument unless every extent is at least 1, layers <= kMaxLayers and
  // bytes() <= kMaxBlockBytes (checked without overflow), and tiled ones have multiples
  // of 16 tokens and channels of 16 bits.
  Status validate() const;
};
inline constexpr std::uint32_t kMaxLayers = 1024;
inline constexpr std::uint64_t kMaxBlockBytes = 256ULL << 20;

// A run of layers; count 0 means "to the last one".
struct LayerRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;

  // The number of layers meant, or 0 if the range does not lie inside `layout`.
  std::uint32_t resolve(const BlockLayout& layout) const noexcept;
};

// The first position of a block whose place in its sequence is not known.
inline constexpr std::uint32_t kNoPosition = 0xFFFFFFFF;

// Names the blocks of one sequence: key n covers the model, the layout, the tenant's salt
// and every token up to the end of block n. One thread; copyable, which is how a fork
// shares its past.
class KeyChain {
 public:
  // `model` identifies weights and rank layout; `salt` keeps tenants apart. Any lengths.
  KeyChain(std::string_view model, const BlockLayout& layout, std::string_view salt);

  // The key of the block that holds `tokens` after all that was appended before.
  BlockKey append(std::span<const std::uint32_t> tokens);

  // Names the past that append() continues: the last key, or that of the empty sequence.
  BlockKey last() const noexcept { return last_; }
  // Goes on after `key`, which this chain (or an equal one) gave earlier.
  void rewind(BlockKey key) noexcept { last_ = key; }

 private:
  BlockKey last_;
};

// Hashes an engine's own longer key into ours, with its tenant's salt.
BlockKey key_from(Bytes engine_key, std::string_view salt);

}  // namespace speckv

template <>
struct std::hash<speckv::BlockKey> {
  std::size_t operator()(const speckv::BlockKey& key) const noexcept {
    return static_cast<std::size_t>(key.low);  // already uniform
  }
};

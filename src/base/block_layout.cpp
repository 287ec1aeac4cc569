#include <string>

#include "cxlspeckv/block.hpp"

namespace speckv {
namespace {

Status wrong(std::string message) {
  return {Code::invalid_argument, std::move(message)};
}

}  // namespace

Status BlockLayout::validate() const {
  if (layers == 0 || kv_heads == 0 || head_dim == 0 || tokens == 0) {
    return wrong("a block layout needs at least one layer, head, channel and token");
  }
  if (layers > kMaxLayers) {
    return wrong("a block layout has at most " + std::to_string(kMaxLayers) + " layers");
  }
  if (dtype > DType::f8e4m3) return wrong("a block layout of an unknown dtype");
  if (kind > Kind::tiled) return wrong("a block layout of an unknown kind");
  if (kind == Kind::tiled &&
      (bytes_of(dtype) != 2 || tokens % 16 != 0 || head_dim % 16 != 0)) {
    return wrong(
        "a tiled block layout has multiples of 16 tokens and channels of 16 bits");
  }
  // Each factor is below 2^32 and the product so far at most 2^28: no step overflows.
  std::uint64_t size =
      std::uint64_t{layers} * (kind == Kind::latent ? 1 : 2) * bytes_of(dtype);
  for (const std::uint64_t extent : {kv_heads, head_dim, tokens}) {
    size *= extent;
    if (size > kMaxBlockBytes) {
      return wrong("a block is at most " + std::to_string(kMaxBlockBytes >> 20) +
                   " MiB; this layout asks for more");
    }
  }
  return {};
}

std::uint32_t LayerRange::resolve(const BlockLayout& layout) const noexcept {
  if (first >= layout.layers) return 0;
  const std::uint32_t rest = layout.layers - first;
  if (count == 0) return rest;
  return count <= rest ? count : 0;
}

}  // namespace speckv

#include "codec/append.hpp"

#include <cassert>
#include <cstring>

#include "base/endian.hpp"
#include "codec/int8.hpp"
#include "codec/kernels.hpp"
#include "codec/number.hpp"

namespace speckv {
namespace {

struct Tokens {
  std::uint32_t first, end;
};

// A token of latent rows: parameters of 1024 channels in groups of 64, and nibbles.
constexpr std::size_t kMostKvq4Token = 64 + 512;

// Calls visit(unit, token, its row) for the rows of some tokens, until one is false.
template <class Visit>
bool for_rows(const BlockLayout& layout, const Tokens& tokens, Bytes plain,
              const Visit& visit) noexcept {
  for (std::uint64_t u = 0; u < layer_units(layout); ++u) {
    const UnitRows rows = unit_rows(layout, u);
    for (std::uint32_t t = tokens.first; t < tokens.end; ++t) {
      if (!visit(u, t, plain.data() + rows.first + t * rows.stride)) return false;
    }
  }
  return true;
}

bool are_finite(const BlockLayout& layout, const Tokens& tokens, Bytes plain) noexcept {
  const std::uint32_t infinity =
      layout.dtype == DType::f16 ? number::F16::kInfinity : number::Bf16::kInfinity;
  return for_rows(layout, tokens, plain,
                  [&](std::uint64_t, std::uint32_t, const std::byte* row) noexcept {
                    for (std::uint32_t c = 0; c < layout.head_dim; ++c) {
                      const auto bits = load_le<std::uint16_t>(row + 2 * c);
                      if ((bits & number::kMagnitude) >= infinity) return false;
                    }
                    return true;
                  });
}

void append_raw(const BlockLayout& layout, const Tokens& tokens, Bytes plain,
                MutableBytes encoded) noexcept {
  const std::uint64_t bytes = std::uint64_t{layout.head_dim} * bytes_of(layout.dtype);
  (void)for_rows(layout, tokens, plain,
                 [&](std::uint64_t, std::uint32_t, const std::byte* row) noexcept {
                   std::memcpy(encoded.data() + (row - plain.data()), row, bytes);
                   return true;
                 });
}

// Each token as a unit of its own, whose two parts go where the layer's have its place.
void append_kvq4(const BlockLayout& layout, const Tokens& tokens, Bytes plain,
                 MutableBytes encoded) noexcept {
  const Kvq4Shape whole = kvq4_shape(layout);
  assert(whole.group > 0);
  Kvq4Shape one = whole;
  one.tokens = 1;
  const auto encode = codec_kernel().of(layout.dtype).kvq4_encode_values;
  const std::uint64_t nibbles = padded(whole.value_parameters());
  const std::uint64_t bytes = nibbles + padded(whole.nibbles());
  (void)for_rows(layout, tokens, plain,
                 [&](std::uint64_t u, std::uint32_t t, const std::byte* row) noexcept {
                   std::byte alone[kMostKvq4Token];
                   if (!encode(one, row, alone)) return false;
                   std::byte* const unit = encoded.data() + u * bytes;
                   std::memcpy(unit + t * one.value_parameters(), alone,
                               one.value_parameters());
                   std::memcpy(unit + nibbles + t * one.row_bytes(),
                               alone + padded(one.value_parameters()), one.row_bytes());
                   return true;
                 });
}

}  // namespace

bool can_append(const Codec& codec, const BlockLayout& layout) noexcept {
  if (!has_rows(layout) || !codec.supports(layout)) return false;
  return codec.id() == CodecId::raw || codec.id() == CodecId::int8 ||
         (codec.id() == CodecId::kvq4 && layout.kind == BlockLayout::Kind::latent);
}

Code append_tokens(const Codec& codec, const LayerContext& context, std::uint32_t first,
                   std::uint32_t count, Bytes plain, MutableBytes encoded) noexcept {
  const BlockLayout& layout = context.layout;
  if (!can_append(codec, layout)) return Code::unsupported;
  if (first > layout.tokens || count > layout.tokens - first ||
      plain.size() != layout.layer_bytes() ||
      encoded.size() != codec.max_layer_bytes(layout))
    return Code::invalid_argument;
  const Tokens tokens{first, first + count};
  if (codec.id() == CodecId::raw) {
    append_raw(layout, tokens, plain, encoded);
    return Code::ok;
  }
  if (!are_finite(layout, tokens, plain)) return Code::unsupported;
  if (codec.id() == CodecId::kvq4) {
    append_kvq4(layout, tokens, plain, encoded);
  } else {
    (void)int8_encode_tokens(layout, first, count, plain, encoded);
  }
  return Code::ok;
}

}  // namespace speckv

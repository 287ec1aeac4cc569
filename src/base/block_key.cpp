#include <algorithm>

#include <sodium.h>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/profile.hpp"

#include "base/endian.hpp"

namespace speckv {
namespace {

// Personalisation strings: no input of one use can be taken for an input of another.
// Changing what is hashed means changing the string, as old keys then name nothing.
using Purpose = unsigned char[crypto_generichash_blake2b_PERSONALBYTES];
constexpr Purpose kStart = {'s', 'p', 'e', 'c', 'k', 'v', ' ', 's',
                            't', 'a', 'r', 't', ' ', '1', 0,   0};
constexpr Purpose kAppend = {'s', 'p', 'e', 'c', 'k', 'v', ' ', 'b',
                             'l', 'o', 'c', 'k', ' ', '1', 0,   0};
constexpr Purpose kForeign = {'s', 'p', 'e', 'c', 'k', 'v', ' ', 'e',
                              'n', 'g', 'i', 'n', 'e', ' ', '1', 0};

class KeyHash {
 public:
  explicit KeyHash(const Purpose& purpose) noexcept {
    crypto_generichash_blake2b_init_salt_personal(&state_, nullptr, 0, sizeof(BlockKey),
                                                  nullptr, purpose);
  }
  void number(std::uint64_t value) noexcept {
    std::byte bytes[sizeof value];
    store_le(bytes, value);
    raw(bytes);
  }
  // Preceded by its length, so that neighbouring fields cannot trade bytes.
  void field(Bytes bytes) noexcept {
    number(bytes.size());
    raw(bytes);
  }
  void field(std::string_view text) noexcept {
    field(std::as_bytes(std::span(text.data(), text.size())));
  }
  void tokens(std::span<const std::uint32_t> tokens) noexcept {
    number(tokens.size());
    std::byte bytes[64 * sizeof(std::uint32_t)];
    for (std::size_t done = 0; done < tokens.size(); done += 64) {
      const std::size_t count = std::min<std::size_t>(64, tokens.size() - done);
      for (std::size_t i = 0; i < count; ++i)
        store_le(bytes + 4 * i, tokens[done + i]);
      raw({bytes, 4 * count});
    }
  }
  BlockKey finish() noexcept {
    std::byte digest[sizeof(BlockKey)];
    crypto_generichash_blake2b_final(&state_, reinterpret_cast<unsigned char*>(digest),
                                     sizeof digest);
    return {load_le<std::uint64_t>(digest), load_le<std::uint64_t>(digest + 8)};
  }

 private:
  void raw(Bytes bytes) noexcept {
    crypto_generichash_blake2b_update(
        &state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  }
  crypto_generichash_blake2b_state state_{};
};

}  // namespace

KeyChain::KeyChain(std::string_view model, const BlockLayout& layout,
                   std::string_view salt) {
  KeyHash hash(kStart);
  hash.field(model);
  hash.field(salt);
  hash.number(layout.layers);
  hash.number(layout.kv_heads);
  hash.number(layout.head_dim);
  hash.number(layout.tokens);
  hash.number(static_cast<std::uint64_t>(layout.dtype));
  hash.number(static_cast<std::uint64_t>(layout.kind));
  last_ = hash.finish();
}

BlockKey KeyChain::append(std::span<const std::uint32_t> tokens) {
  KeyHash hash(kAppend);
  hash.number(last_.high);
  hash.number(last_.low);
  hash.tokens(tokens);
  last_ = hash.finish();
  return last_;
}

BlockKey key_from(Bytes engine_key, std::string_view salt) {
  KeyHash hash(kForeign);
  hash.field(salt);
  hash.field(engine_key);
  return hash.finish();
}

BlockKey profile_model(std::string_view name, Bytes tokenizer) {
  return key_from(tokenizer, name);
}

}  // namespace speckv

// host/demo/tokenizer.hpp -- byte-pair encoding, as the demo's model was trained with.
//
// Immutable once opened: any thread may use it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cxlspeckv/status.hpp"

namespace speckv::demo {

class Tokenizer {
 public:
  // Reads [[left, right, id], ...]: tokens 0..255 are the bytes, and each rule joins two
  // earlier tokens into the next id. Untrusted. not_found: no such file; corrupted: what
  // is wrong with it.
  static Result<Tokenizer> open(const std::string& path, std::uint32_t vocabulary);

  // Any bytes; decode(encode(text)) == text.
  std::vector<std::uint32_t> encode(std::string_view text) const;
  // Tokens beyond the vocabulary are left out.
  std::string decode(std::span<const std::uint32_t> tokens) const;

 private:
  Tokenizer();
  Status learn(std::uint64_t left, std::uint64_t right, std::uint64_t id);
  void encode_word(std::string_view word, std::vector<std::uint32_t>& out) const;

  std::vector<std::string> spelling_{};                        // of each token
  std::unordered_map<std::uint64_t, std::uint32_t> merges_{};  // (left, right) -> joined
};

}  // namespace speckv::demo

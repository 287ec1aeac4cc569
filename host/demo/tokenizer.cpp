#include "tokenizer.hpp"

#include <algorithm>
#include <fstream>

#include <nlohmann/json.hpp>

namespace speckv::demo {
namespace {

// No token of a useful vocabulary is longer; it bounds what a bad file can make us
// allocate.
constexpr std::size_t kMaxSpelling = 256;

constexpr std::uint64_t pair_of(std::uint64_t left, std::uint64_t right) noexcept {
  return left << 32 | right;
}

enum class Kind { space, letter, digit, other };

Kind kind_of(char c) noexcept {
  const auto byte = static_cast<unsigned char>(c);
  if (byte == ' ' || (byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 31)) {
    return Kind::space;
  }
  if ((byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z')) return Kind::letter;
  if (byte >= '0' && byte <= '9') return Kind::digit;
  return Kind::other;
}

// Length of the run of one kind that starts at `at`.
std::size_t run_at(std::string_view text, std::size_t at) noexcept {
  std::size_t end = at;
  while (end < text.size() && kind_of(text[end]) == kind_of(text[at]))
    ++end;
  return end - at;
}

// Length of the first word: a run of letters, of digits or of signs, each with the one
// blank before it; or a run of white space, which leaves its last character to the word
// that follows.
std::size_t word_length(std::string_view text) noexcept {
  const bool blank = text[0] == ' ' && text.size() > 1 && kind_of(text[1]) != Kind::space;
  if (blank) return 1 + run_at(text, 1);
  const std::size_t run = run_at(text, 0);
  if (kind_of(text[0]) != Kind::space || run == text.size()) return run;
  return run > 1 ? run - 1 : 1;
}

bool is_id(const nlohmann::json& value) {
  return value.is_number_unsigned();
}

}  // namespace

Tokenizer::Tokenizer() {
  for (int byte = 0; byte < 256; ++byte)
    spelling_.emplace_back(1, static_cast<char>(byte));
}

Result<Tokenizer> Tokenizer::open(const std::string& path, std::uint32_t vocabulary) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Status(Code::not_found, "cannot open the tokenizer's rules: " + path);
  const auto rules = nlohmann::json::parse(file, nullptr, false);
  if (!rules.is_array())
    return Status(Code::corrupted, path + " is not a JSON list of rules");
  Tokenizer tokenizer;
  for (const auto& rule : rules) {
    const bool sound = rule.is_array() && rule.size() == 3 &&
                       std::all_of(rule.begin(), rule.end(), is_id);
    Status status = sound ? tokenizer.learn(rule[0].get<std::uint64_t>(),
                                            rule[1].get<std::uint64_t>(),
                                            rule[2].get<std::uint64_t>())
                          : Status(Code::corrupted, "not three token numbers");
    if (!status.ok()) {
      return Status(Code::corrupted, path + ", rule " +
                                         std::to_string(tokenizer.merges_.size()) + ": " +
                                         status.message());
    }
  }
  if (tokenizer.spelling_.size() != vocabulary) {
    return Status(Code::corrupted,
                  path + " makes " + std::to_string(tokenizer.spelling_.size()) +
                      " tokens; the model has " + std::to_string(vocabulary));
  }
  return tokenizer;
}

Status Tokenizer::learn(std::uint64_t left, std::uint64_t right, std::uint64_t id) {
  const std::size_t next = spelling_.size();
  if (id != next) return Status(Code::corrupted, "ids must rise by one");
  if (left >= next || right >= next)
    return Status(Code::corrupted, "joins unknown tokens");
  if (spelling_[left].size() + spelling_[right].size() > kMaxSpelling) {
    return Status(Code::corrupted, "makes a token of more than 256 bytes");
  }
  if (!merges_.emplace(pair_of(left, right), static_cast<std::uint32_t>(id)).second) {
    return Status(Code::corrupted, "repeats an earlier rule");
  }
  spelling_.push_back(spelling_[left] + spelling_[right]);
  return {};
}

std::vector<std::uint32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::uint32_t> out;
  while (!text.empty()) {
    const std::size_t length = word_length(text);
    encode_word(text.substr(0, length), out);
    text.remove_prefix(length);
  }
  return out;
}

// Applies the oldest rule that fits anywhere, everywhere, until none fits. A rule can
// only make way for younger ones, so each pass over the word settles one rule.
void Tokenizer::encode_word(std::string_view word,
                            std::vector<std::uint32_t>& out) const {
  std::vector<std::uint32_t> parts;
  for (const char c : word)
    parts.push_back(static_cast<unsigned char>(c));
  for (;;) {
    std::uint32_t oldest = UINT32_MAX;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto rule = merges_.find(pair_of(parts[i], parts[i + 1]));
      if (rule != merges_.end()) oldest = std::min(oldest, rule->second);
    }
    if (oldest == UINT32_MAX) break;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const bool pair = i + 1 < parts.size();
      const auto rule =
          pair ? merges_.find(pair_of(parts[i], parts[i + 1])) : merges_.end();
      if (rule != merges_.end() && rule->second == oldest) {
        parts[kept++] = oldest;
        ++i;
      } else {
        parts[kept++] = parts[i];
      }
    }
    parts.resize(kept);
  }
  out.insert(out.end(), parts.begin(), parts.end());
}

std::string Tokenizer::decode(std::span<const std::uint32_t> tokens) const {
  std::string text;
  for (const std::uint32_t token : tokens) {
    if (token < spelling_.size()) text += spelling_[token];
  }
  return text;
}

}  // namespace speckv::demo

// trace/lines.hpp -- text as lines and words, and errors that say where.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include "cxlspeckv/status.hpp"

namespace speckv::trace {

// The lines of a text, counted from 1. A last line without an end is a line; "\r\n" ends
// one, too.
class Lines {
 public:
  Lines(std::string_view text, std::string name) : rest_(text), name_(std::move(name)) {}

  std::optional<std::string_view> next() noexcept {
    if (rest_.empty()) return std::nullopt;
    ++number_;
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  // Of the line that was given last.
  Status wrong(std::string_view why) const {
    return {Code::invalid_argument,
            name_ + ":" + std::to_string(number_) + ": " + std::string(why)};
  }

 private:
  std::string_view rest_;
  std::string name_;
  std::size_t number_ = 0;
};

// Words of a line, each separated from the next by one `separator`. A word that is not
// there, or that is no number in range, leaves `bad` set.
class Words {
 public:
  explicit Words(std::string_view line, char separator = ' ')
      : rest_(line), separator_(separator) {}

  std::string_view word() noexcept {
    if (!more_) {
      bad = true;
      return {};
    }
    const std::size_t end = rest_.find(separator_);
    more_ = end != std::string_view::npos;
    const std::string_view word = rest_.substr(0, end);
    rest_.remove_prefix(more_ ? end + 1 : rest_.size());
    return word;
  }

  template <class T>
  T number(T least, T most) noexcept {
    const std::string_view text = word();
    T value{};
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    if (!whole || !(value >= least && value <= most)) bad = true;
    return bad ? least : value;
  }
  bool done() const noexcept { return !more_; }

  bool bad = false;

 private:
  std::string_view rest_;
  char separator_;
  bool more_ = true;
};

inline constexpr double kLongestTrace = 1e9;  // s
inline constexpr std::uint32_t kMostTokens = 1U << 30;

}  // namespace speckv::trace

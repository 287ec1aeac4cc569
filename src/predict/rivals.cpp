// Counting and looking back: what the LSTM is told beside.
#include <algorithm>
#include <array>
#include <vector>

#include "predict/recent_table.hpp"
#include "predict/sequence_predictors.hpp"

namespace speckv::predict {
namespace {

constexpr std::uint64_t kSeed = 0x9E3779B97F4A7C15;

std::uint64_t mixed(std::uint64_t hash, std::uint32_t symbol) noexcept {
  hash = (hash ^ symbol) * 0xFF51AFD7ED558CCD + kSeed;
  return hash ^ hash >> 29;
}

bool among(std::span<const Candidate> some, std::uint32_t symbol) noexcept {
  return std::any_of(some.begin(), some.end(),
                     [&](const Candidate& one) { return one.symbol == symbol; });
}

}  // namespace

struct NgramPredictor::Tables {
  static constexpr std::size_t kFollowers = 6;
  struct Row {
    std::uint64_t context = 0;
    std::uint32_t total = 0;
    std::array<std::uint32_t, kFollowers> symbol{}, count{};  // the most common first

    void add(std::uint32_t what) noexcept {
      ++total;
      std::size_t at = 0;
      while (at < kFollowers && count[at] != 0 && symbol[at] != what)
        ++at;
      if (at == kFollowers) {  // takes the place of the rarest
        --at;
        count[at] = 0;
      }
      symbol[at] = what;
      ++count[at];
      for (; at > 0 && count[at] > count[at - 1]; --at) {
        std::swap(count[at], count[at - 1]);
        std::swap(symbol[at], symbol[at - 1]);
      }
    }
  };
  struct Past {
    std::array<std::uint32_t, kMostOrder> symbol{};  // the newest first
    std::uint32_t known = 0;
  };

  Tables(std::uint32_t most, std::uint32_t streams, std::uint32_t contexts)
      : order(std::min(most, kMostOrder)),
        rows(order + 1, std::vector<Row>(contexts)),
        past(streams) {}

  static std::uint64_t context(const Past& p, std::uint32_t length) noexcept {
    std::uint64_t hash = kSeed + length;
    for (std::uint32_t i = 0; i < length; ++i)
      hash = mixed(hash, p.symbol[i]);
    return hash;
  }
  std::size_t place(std::uint64_t hash, std::uint32_t length) const noexcept {
    return hash & (rows[length].size() - 1);
  }

  std::uint32_t order;
  std::vector<std::vector<Row>> rows;  // by the length of the context
  RecentTable<Past> past;
  bool learns = true;
};

NgramPredictor::NgramPredictor(std::uint32_t order, std::uint32_t streams,
                               std::uint32_t contexts)
    : tables_(std::make_unique<Tables>(order, streams, contexts)) {}
NgramPredictor::~NgramPredictor() = default;

void NgramPredictor::learn(bool on) noexcept {
  tables_->learns = on;
}

void NgramPredictor::observe(StreamId stream, std::uint32_t symbol) noexcept {
  bool fresh = false;
  Tables::Past& past = tables_->past.touch(stream, {}, fresh);
  const std::uint32_t longest = std::min(tables_->order, past.known);
  for (std::uint32_t length = 0; tables_->learns && length <= longest; ++length) {
    const std::uint64_t hash = Tables::context(past, length);
    Tables::Row& row = tables_->rows[length][tables_->place(hash, length)];
    if (row.context != hash) row = {.context = hash};
    row.add(symbol);
  }
  std::shift_right(past.symbol.begin(), past.symbol.end(), 1);
  past.symbol[0] = symbol;
  past.known = std::min(past.known + 1, kMostOrder);
}

std::size_t NgramPredictor::predict(StreamId stream,
                                    std::span<Candidate> best) const noexcept {
  const Tables::Past* past = tables_->past.find(stream);
  if (past == nullptr) return 0;
  std::size_t count = 0;
  float left = 1;
  for (std::uint32_t length = std::min(tables_->order, past->known) + 1; length-- > 0;) {
    const std::uint64_t hash = Tables::context(*past, length);
    const Tables::Row& row = tables_->rows[length][tables_->place(hash, length)];
    if (row.context != hash) continue;
    const float share = left / static_cast<float>(row.total + 1);
    for (std::size_t i = 0; i < Tables::kFollowers && row.count[i] != 0; ++i) {
      if (count == best.size()) return count;
      if (among(best.first(count), row.symbol[i])) continue;
      best[count++] = {row.symbol[i], share * static_cast<float>(row.count[i])};
      left = std::max(0.0F, left - share * static_cast<float>(row.count[i]));
    }
  }
  return count;
}

void NgramPredictor::forget(StreamId stream) noexcept {
  tables_->past.erase(stream);
}

struct SuffixPredictor::Streams {
  static constexpr std::uint32_t kMost = 4096, kPlaces = 4 * kMost;
  static constexpr std::array<std::uint32_t, 3> kLengths = {8, 4, 2};
  struct Past {
    std::vector<std::uint32_t> symbol;  // of the last kMost, by number modulo kMost
    std::uint32_t length = 0;
    // By length and hash: the number of the symbol that followed, plus 1.
    std::array<std::vector<std::uint32_t>, kLengths.size()> followed;
  };

  static std::uint32_t at(const Past& p, std::uint32_t number) noexcept {
    return p.symbol[number % kMost];
  }
  static std::size_t hash(const Past& p, std::uint32_t length) noexcept {
    std::uint64_t h = kSeed;
    for (std::uint32_t i = 1; i <= length; ++i)
      h = mixed(h, at(p, p.length - i));
    return h % kPlaces;
  }
  // Whether what followed at `number` came after the same symbols as are the last now.
  static bool same(const Past& p, std::uint32_t number, std::uint32_t length) noexcept {
    if (number < length || p.length - number + length > kMost) return false;
    for (std::uint32_t i = 1; i <= length; ++i) {
      if (at(p, number - i) != at(p, p.length - i)) return false;
    }
    return true;
  }

  explicit Streams(std::uint32_t count) : past(count) {}
  RecentTable<Past> past;
};

SuffixPredictor::SuffixPredictor(std::uint32_t streams)
    : streams_(std::make_unique<Streams>(streams)) {}
SuffixPredictor::~SuffixPredictor() = default;

void SuffixPredictor::observe(StreamId stream, std::uint32_t symbol) noexcept {
  bool fresh = false;
  Streams::Past& p = streams_->past.touch(stream, {}, fresh);
  if (fresh) {
    p.symbol.resize(Streams::kMost);
    for (auto& one : p.followed)
      one.assign(Streams::kPlaces, 0);
  }
  for (std::size_t k = 0; k < Streams::kLengths.size(); ++k) {
    if (p.length >= Streams::kLengths[k])
      p.followed[k][Streams::hash(p, Streams::kLengths[k])] = p.length + 1;
  }
  p.symbol[p.length % Streams::kMost] = symbol;
  ++p.length;
}

std::size_t SuffixPredictor::predict(StreamId stream,
                                     std::span<Candidate> best) const noexcept {
  const Streams::Past* p = streams_->past.find(stream);
  std::size_t count = 0;
  for (std::size_t k = 0; p != nullptr && k < Streams::kLengths.size(); ++k) {
    const std::uint32_t length = Streams::kLengths[k];
    if (p->length < length || count == best.size()) continue;
    const std::uint32_t number = p->followed[k][Streams::hash(*p, length)];
    if (number == 0 || !Streams::same(*p, number - 1, length)) continue;
    const std::uint32_t symbol = Streams::at(*p, number - 1);
    // An honest guess: longer repeats go on more often.
    if (!among(best.first(count), symbol))
      best[count++] = {symbol, length == 8 ? 0.9F : length == 4 ? 0.6F : 0.3F};
  }
  return count;
}

void SuffixPredictor::forget(StreamId stream) noexcept {
  streams_->past.erase(stream);
}

}  // namespace speckv::predict

#include "fidelity.hpp"

#include <algorithm>
#include <cmath>

namespace speckv::demo {
namespace {

constexpr std::uint32_t kRead = kBlockTokens;  // tokens read on after each past
constexpr std::size_t kPasts = 4;              // on each side of the trained context

struct Past {
  std::size_t start = 0;
  std::uint32_t tokens = 0;  // whole blocks
  bool beyond = false;
};

// Short and long pasts in turn, so that a quarter of the memory holds some of both.
std::vector<Past> choose_pasts(const Settings& settings, std::size_t text) {
  const auto whole = [](std::uint32_t tokens) {
    return tokens / kBlockTokens * kBlockTokens;
  };
  const std::uint32_t trained = ModelShape::trained_context;
  const std::uint32_t near = whole(std::min(settings.context, trained) - kRead);
  const std::uint32_t far = whole(settings.context - kRead);
  std::vector<Past> pasts;
  for (std::size_t n = 0; n < kPasts; ++n) {
    for (const bool beyond : {false, true}) {
      const std::uint32_t tokens = beyond ? far : near;
      if (tokens == 0 || (beyond && far < trained)) continue;
      const std::size_t start = window(text, tokens + kRead + 1, n, kPasts);
      pasts.push_back({start, tokens, beyond});
    }
  }
  return pasts;
}

std::uint64_t blocks_of(const std::vector<Past>& pasts) {
  std::uint64_t blocks = 0;
  for (const Past& past : pasts)
    blocks += (past.tokens + kRead) / kBlockTokens;
  return blocks;
}

struct Reading {
  std::vector<std::vector<float>> logits{};  // of what follows each past
  double coded = 0;
};

// How many blocks of a past lie in the fast tier only.
std::size_t still_fast(Cache& cache, const Generator& reader) {
  std::vector<std::int8_t> tiers(reader.keys().size());
  cache.store().lookup(reader.keys(), tiers);
  return static_cast<std::size_t>(std::count(tiers.begin(), tiers.end(), 0));
}

Result<Reading> read_on(Cache& cache, Model& model, const std::vector<Past>& pasts,
                        const std::vector<std::uint32_t>& text,
                        const std::function<void()>& done_one) {
  const std::span all(text);
  std::vector<Generator> readers;
  for (const Past& past : pasts) {
    const auto prompt = all.subspan(past.start, past.tokens + 1);
    readers.emplace_back(model, cache, std::vector(prompt.begin(), prompt.end()));
    if (Status status = readers.back().prefill(); !status.ok()) return status;
    done_one();
  }
  Reading result;
  std::size_t blocks = 0, fast = 0;
  for (std::size_t n = 0; n < pasts.size(); ++n) {
    blocks += readers[n].keys().size();
    fast += still_fast(cache, readers[n]);
    auto read =
        readers[n].follow(all.subspan(pasts[n].start + pasts[n].tokens + 1, kRead));
    if (!read) return read.error();
    result.logits.push_back(*std::move(read));
  }
  if (blocks > 0)
    result.coded = 1 - static_cast<double>(fast) / static_cast<double>(blocks);
  return result;
}

void add(std::optional<Divergence>& to, std::span<const float> exact,
         std::span<const float> other) {
  constexpr std::size_t kRow = ModelShape::vocabulary;
  if (!to) to.emplace();
  for (std::size_t at = 0; at + kRow <= exact.size(); at += kRow) {
    const auto x = exact.subspan(at, kRow), y = other.subspan(at, kRow);
    to->nats += divergence(x, y);
    to->same_best += most_likely(x) == most_likely(y) ? 1 : 0;
    ++to->tokens;
  }
}

void average(std::optional<Divergence>& sums) {
  if (!sums) return;
  sums->nats /= sums->tokens;
  sums->same_best /= sums->tokens;
}

Result<std::unique_ptr<Cache>> open_cache(std::uint64_t blocks, std::uint64_t fast,
                                          const Codec* codec) {
  CacheOptions options{.tiers = {"dram:" + std::to_string(bytes_for(fast))},
                       .codec = codec};
  if (codec == nullptr) return Cache::open(options);
  auto pool = TemporaryPool::create(2 * bytes_for(blocks));
  if (!pool) return pool.error();
  options.tiers.push_back(pool->uri());
  return Cache::open(options);
}

}  // namespace

double divergence(std::span<const float> exact, std::span<const float> other) {
  const auto log_sum = [](std::span<const float> logits) {
    const double top = double{*std::max_element(logits.begin(), logits.end())};
    double sum = 0;
    for (const float logit : logits)
      sum += std::exp(double{logit} - top);
    return top + std::log(sum);
  };
  const double exact_sum = log_sum(exact), other_sum = log_sum(other);
  double nats = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double p = double{exact[i]} - exact_sum, q = double{other[i]} - other_sum;
    nats += std::exp(p) * (p - q);
  }
  return nats;
}

Result<std::vector<Fidelity>> measure_fidelity(const Settings& settings,
                                               const std::vector<const Codec*>& codecs,
                                               Model& model,
                                               const std::vector<std::uint32_t>& text,
                                               const Progress& progress) {
  const std::vector<Past> pasts = choose_pasts(settings, text.size());
  const std::uint64_t blocks = blocks_of(pasts);
  std::uint32_t longest = 0;
  for (const Past& past : pasts)
    longest = std::max(longest, past.tokens + kRead);
  // A quarter, but at least one sequence and everybody's open block.
  const std::uint64_t fast =
      std::max(blocks / 4, longest / kBlockTokens + pasts.size() + 1);

  std::size_t done = 0;
  const auto done_one = [&] {
    progress(static_cast<double>(++done) /
             static_cast<double>(pasts.size() * (codecs.size() + 1)));
  };
  auto plain = open_cache(blocks, blocks + pasts.size(), nullptr);
  if (!plain) return plain.error();
  const auto exact = read_on(**plain, model, pasts, text, done_one);
  if (!exact) return exact.error();

  std::vector<Fidelity> results;
  for (const Codec* codec : codecs) {
    auto cache = open_cache(blocks, fast, codec);
    if (!cache) return cache.error();
    const auto read = read_on(**cache, model, pasts, text, done_one);
    if (!read) return read.error();
    Fidelity& result = results.emplace_back(
        Fidelity{.codec = std::string(codec->name()), .coded = read->coded});
    if (read->coded <= 0) continue;
    for (std::size_t n = 0; n < pasts.size(); ++n) {
      add(pasts[n].beyond ? result.beyond : result.within, exact->logits[n],
          read->logits[n]);
    }
    average(result.within);
    average(result.beyond);
    const TierStats stats = (*cache)->store().stats(1);
    if (stats.used > 0) {
      result.ratio =
          static_cast<double>(stats.plain_bytes) / static_cast<double>(stats.used);
    }
  }
  return results;
}

}  // namespace speckv::demo

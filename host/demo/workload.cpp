#include "workload.hpp"

#include <algorithm>
#include <chrono>
#include <list>
#include <optional>
#include <thread>

namespace speckv::demo {
namespace {

using Seconds = std::chrono::duration<double>;
using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point start) {
  return Seconds(steady_clock::now() - start).count();
}

// One way of coping: its store and its copy of all conversations.
class Lane {
 public:
  Lane(Way way, const Settings& settings) : way_(way), settings_(settings) {}

  Status open(Model& model, const std::vector<std::vector<std::uint32_t>>& prompts);
  // KV for the prompts: of all, or of as many of the last as (c) can keep.
  Status prefill(const std::function<void()>& done_one);
  Status round(WayResult& result, const std::function<void()>& done_one);
  void close();

  std::vector<Generator>& conversations() noexcept { return conversations_; }
  Cache& cache() noexcept { return *cache_; }
  double prefill_flops() const noexcept { return operations_ / prefill_seconds_; }
  TierResult tell_tier(std::size_t tier) const;
  std::uint64_t blocks_that_left() const noexcept;

 private:
  CacheOptions cache_options() const;
  Status turn(std::size_t n, WayResult& result);
  Status compute(std::size_t n);
  void make_room(std::size_t n);
  void note_what_left(std::size_t n);

  Way way_;
  const Settings& settings_;
  std::unique_ptr<Cache> cache_{};
  std::vector<Generator> conversations_{};  // gone before the cache
  std::list<std::size_t> kept_{};           // of (c): least recently used first
  std::vector<std::vector<bool>> left_{};   // of (b): [conversation][block]
  double operations_ = 0, prefill_seconds_ = 0;
};

std::string memory_of(std::uint64_t blocks) {
  return "dram:" + std::to_string(bytes_for(blocks));
}

CacheOptions Lane::cache_options() const {
  // A spare block each for what is being written while nothing may be given up.
  if (way_ == all_fast)
    return {.tiers = {memory_of(settings_.blocks() + settings_.sequences)}};
  if (way_ == recompute) return {.tiers = {memory_of(settings_.fast_blocks() + 1)}};
  if (!settings_.tiers.empty())
    return {.tiers = settings_.tiers, .codec = settings_.codec};
  return {.tiers = {memory_of(settings_.fast_blocks())}, .codec = settings_.codec};
}

Status Lane::open(Model& model, const std::vector<std::vector<std::uint32_t>>& prompts) {
  CacheOptions options = cache_options();
  std::optional<TemporaryPool> pool;
  if (way_ == tiered && settings_.tiers.empty()) {
    auto created = TemporaryPool::create(2 * bytes_for(settings_.blocks()));
    if (!created) return created.error();
    pool.emplace(*std::move(created));
    options.tiers.push_back(pool->uri());
  }
  auto opened = Cache::open(options);
  if (!opened) return opened.error();
  cache_ = *std::move(opened);
  for (const auto& prompt : prompts)
    conversations_.emplace_back(model, *cache_, prompt);
  left_.assign(prompts.size(), std::vector<bool>(settings_.blocks_each()));
  return {};
}

Status Lane::prefill(const std::function<void()>& done_one) {
  const std::size_t count = conversations_.size();
  const std::size_t kept = way_ == recompute ? settings_.kept() : count;
  for (std::size_t n = count - kept; n < count; ++n) {
    if (Status status = compute(n); !status.ok()) return status;
    done_one();
  }
  return {};
}

Status Lane::round(WayResult& result, const std::function<void()>& done_one) {
  const auto start = steady_clock::now();
  for (std::size_t n = 0; n < conversations_.size(); ++n) {
    if (Status status = turn(n, result); !status.ok()) return status;
    done_one();
  }
  result.round_seconds.push_back(seconds_since(start));
  return {};
}

Status Lane::turn(std::size_t n, WayResult& result) {
  const auto start = steady_clock::now();
  Generator& now = conversations_[n];
  const std::size_t next = (n + 1) % conversations_.size();
  bool staged = way_ != tiered;
  if (way_ == recompute) {
    if (Status status = compute(n); !status.ok()) return status;
  }
  for (std::uint32_t i = 0; i < settings_.turn; ++i) {
    if (Status status = now.step(); !status.ok()) return status;
    if (i == 0) result.first_token_seconds.push_back(seconds_since(start));
    if (!staged) {
      note_what_left(next);
      staged = conversations_[next].stage();
    }
  }
  return {};
}

// Prefills a conversation whose KV is not there.
Status Lane::compute(std::size_t n) {
  if (way_ == recompute) make_room(n);
  Generator& conversation = conversations_[n];
  if (conversation.has_kv()) return {};
  const auto start = steady_clock::now();
  if (Status status = conversation.prefill(); !status.ok()) return status;
  prefill_seconds_ += seconds_since(start);
  const auto tokens = static_cast<std::uint32_t>(conversation.tokens().size()) - 1;
  for (std::uint32_t first = 0; first < tokens; first += kBlockTokens) {
    operations_ += Model::operations(std::min(kBlockTokens, tokens - first), first, 0);
  }
  return {};
}

// Drops whole sequences, the least recently used first, until n's KV fits beside the
// rest.
void Lane::make_room(std::size_t n) {
  kept_.remove(n);
  while (kept_.size() >= settings_.kept()) {
    conversations_[kept_.front()].drop();
    kept_.pop_front();
  }
  kept_.push_back(n);
}

void Lane::note_what_left(std::size_t n) {
  const auto keys = conversations_[n].keys();
  std::vector<std::int8_t> tiers(keys.size());
  cache_->store().lookup(keys, tiers);
  for (std::size_t b = 0; b < keys.size(); ++b) {
    if (tiers[b] != 0) left_[n][b] = true;
  }
}

std::uint64_t Lane::blocks_that_left() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& blocks : left_) {
    sum += static_cast<std::uint64_t>(std::count(blocks.begin(), blocks.end(), true));
  }
  return sum;
}

// The store's statistics of a tier beside its device's. What was asked for in the
// background may still be under way: the two are compared once it has landed.
TierResult Lane::tell_tier(std::size_t tier) const {
  const DeviceBytes& device = cache_->device_bytes(tier);
  const auto deadline = steady_clock::now() + std::chrono::seconds(30);
  TierResult result{.name = cache_->tier_name(tier), .counted = cache_->counted(tier)};
  do {
    std::this_thread::yield();
    const std::uint64_t written = device.written, read = device.read;
    result.stats = cache_->store().stats(tier);
    result.bytes_agree = !result.counted || (written == result.stats.bytes_written &&
                                             read == result.stats.bytes_read);
  } while (!result.bytes_agree && steady_clock::now() < deadline);
  return result;
}

void Lane::close() {
  for (Generator& conversation : conversations_)
    conversation.drop();
  conversations_.clear();
}

// Turns a count of finished pieces of work into progress.
class Meter {
 public:
  Meter(const Settings& settings, const Progress& progress)
      : progress_(progress),
        total_(kPrefill * (2 * settings.sequences + settings.kept()) +
               (3 + kPrefill) * settings.rounds * settings.sequences) {}
  void prefilled() { add(kPrefill); }
  void turned(Way way) { add(way == recompute ? 1 + kPrefill : 1); }

 private:
  static constexpr double kPrefill = 8;  // in turns of the default workload, about
  void add(double work) {
    done_ += work;
    progress_(std::min(done_ / total_, 1.0));
  }
  const Progress& progress_;
  double total_, done_ = 0;
};

Status run_rounds(std::array<Lane, kWays>& lanes, const Settings& settings,
                  WorkloadResult& result, Meter& meter) {
  for (std::uint32_t round = 0; round < settings.rounds; ++round) {
    for (std::size_t i = 0; i < kWays; ++i) {
      // Another one starts each round: none is always the one after the noisy one.
      const auto way = static_cast<Way>((i + round) % kWays);
      Status status = lanes[way].round(result.ways[way], [&] { meter.turned(way); });
      if (!status.ok()) return status;
    }
  }
  return {};
}

}  // namespace

std::uint32_t Settings::fast_blocks() const noexcept {
  if (tiers.empty()) return std::max(blocks() / 4, least_blocks());
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(blocks_in(fast_bytes), blocks() + sequences));
}

std::size_t window(std::size_t text, std::size_t length, std::size_t n,
                   std::size_t count) {
  return count < 2 ? 0 : (text - length) * n / (count - 1);
}

std::vector<std::vector<std::uint32_t>> prompts_of(
    const Settings& settings, const std::vector<std::uint32_t>& text) {
  std::vector<std::vector<std::uint32_t>> prompts;
  for (std::uint32_t n = 0; n < settings.sequences; ++n) {
    const auto from =
        text.begin() + static_cast<std::ptrdiff_t>(
                           window(text.size(), settings.context, n, settings.sequences));
    prompts.emplace_back(from, from + settings.context);
  }
  return prompts;
}

Result<WorkloadResult> run_workload(const Settings& settings, Model& model,
                                    const std::vector<std::uint32_t>& text,
                                    const Progress& progress) {
  const auto prompts = prompts_of(settings, text);
  WorkloadResult result;
  Meter meter(settings, progress);
  std::array<Lane, kWays> lanes{Lane(all_fast, settings), Lane(tiered, settings),
                                Lane(recompute, settings)};
  for (Lane& lane : lanes) {
    if (Status status = lane.open(model, prompts); !status.ok()) return status;
  }
  for (Lane& lane : lanes) {
    if (Status status = lane.prefill([&] { meter.prefilled(); }); !status.ok())
      return status;
  }
  if (Status status = run_rounds(lanes, settings, result, meter); !status.ok())
    return status;

  result.prefill_flops = lanes[all_fast].prefill_flops();
  auto& expected = lanes[all_fast].conversations();
  for (const Way way : {all_fast, tiered, recompute}) {
    auto& got = lanes[way].conversations();
    result.same_tokens[way] =
        std::equal(got.begin(), got.end(), expected.begin(), expected.end(),
                   [](const auto& x, const auto& y) { return x.tokens() == y.tokens(); });
  }
  for (const Generator& conversation : lanes[tiered].conversations()) {
    const auto tokens = static_cast<std::uint32_t>(conversation.tokens().size()) - 1;
    result.blocks += (tokens + kBlockTokens - 1) / kBlockTokens;
  }
  result.blocks_that_left = lanes[tiered].blocks_that_left();
  for (std::size_t t = 0; t < lanes[tiered].cache().store().tier_count(); ++t) {
    result.tiers.push_back(lanes[tiered].tell_tier(t));
  }
  result.sample = lanes[tiered].conversations().front().tokens();
  result.sample_prompt = settings.context;
  for (Lane& lane : lanes)
    lane.close();
  return result;
}

}  // namespace speckv::demo

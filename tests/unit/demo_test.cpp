// The demo's tokenizer, its forward pass (whose keys and values are compared with an
// independent one), and its workload on a real store.
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "demo/fidelity.hpp"
#include "demo/tokenizer.hpp"
#include "demo/workload.hpp"
#include "support/heap_device.hpp"

namespace speckv::demo {
namespace {

const std::string kData = SPECKV_SOURCE_DATA;

std::string read_file(const std::string& path) {
  std::stringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

// A file that is gone when the test ends.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content)
      : path_(testing::TempDir() + "demo_test_" + std::to_string(::getpid())) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// ---- Tokenizer ---------------------------------------------------------------------

Tokenizer shipped_tokenizer() {
  auto tokenizer = Tokenizer::open(kData + "/merges.json", ModelShape::vocabulary);
  EXPECT_TRUE(tokenizer.ok());
  return *std::move(tokenizer);
}

TEST(DemoTokenizer, the_shipped_text_survives_and_has_its_known_length) {
  const std::string text = read_file(kData + "/northanger.txt");
  const Tokenizer tokenizer = shipped_tokenizer();
  const auto tokens = tokenizer.encode(text);
  EXPECT_EQ(tokens.size(), 16129U);
  EXPECT_EQ(tokenizer.decode(tokens), text);
}

TEST(DemoTokenizer, any_bytes_survive) {
  const Tokenizer tokenizer = shipped_tokenizer();
  std::mt19937 random(14);
  for (int round = 0; round < 200; ++round) {
    std::string text(random() % 300, ' ');
    for (char& c : text)
      c = round % 2 == 0 ? static_cast<char>(random()) : " \n\tab1."[random() % 7];
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
  EXPECT_TRUE(tokenizer.encode("").empty());
}

TEST(DemoTokenizer, words_never_join_across_white_space) {
  const Tokenizer tokenizer = shipped_tokenizer();
  const auto joined = [&](std::string_view left, std::string_view right) {
    auto out = tokenizer.encode(left);
    const auto more = tokenizer.encode(right);
    out.insert(out.end(), more.begin(), more.end());
    return out;
  };
  EXPECT_EQ(tokenizer.encode("the  end"), joined("the ", " end"));
  EXPECT_EQ(tokenizer.encode("a\n\nThe"), joined("a\n", "\nThe"));
  EXPECT_EQ(tokenizer.encode("year1817,"), joined("year", "1817,"));
}

TEST(DemoTokenizer, bad_rules_are_refused_with_a_reason) {
  for (const char* rules :
       {"", "{}", "[[1]]", "[[1,2,\"x\"]]", "[[1,2,257]]", "[[1,300,256]]",
        "[[-1,2,256]]", "[[1,2,256],[1,2,257]]", "[[1,2,256]", "[[1,2,256.5]]",
        "[[1,2,256]]", "[[18446744073709551615,2,256]]"}) {
    const TemporaryFile file(rules);
    const auto tokenizer = Tokenizer::open(file.path(), ModelShape::vocabulary);
    ASSERT_FALSE(tokenizer.ok()) << rules;
    EXPECT_EQ(tokenizer.error().code(), Code::corrupted) << rules;
    EXPECT_FALSE(tokenizer.error().message().empty());
  }
  EXPECT_EQ(Tokenizer::open(kData + "/no such file", 4096).error().code(),
            Code::not_found);
}

// ---- Model -------------------------------------------------------------------------

// Keys and values in plain memory, every byte of which is NaN until it is written.
class PlainKv {
 public:
  const KvSpans& grow(std::uint32_t tokens) {
    const BlockLayout layout = kv_layout();
    while (blocks_.size() * kBlockTokens < tokens) {
      blocks_.emplace_back(layout.bytes(), std::byte{0xFF});
    }
    spans_ = {};
    spans_.block_count = static_cast<std::uint32_t>(blocks_.size());
    for (std::uint32_t layer = 0; layer < layout.layers; ++layer) {
      const std::size_t at = layer * layout.layer_bytes();
      for (auto& block : blocks_) {
        spans_.blocks.push_back(Bytes(block).subspan(at, layout.layer_bytes()));
      }
      spans_.tail.push_back(
          MutableBytes(blocks_.back()).subspan(at, layout.layer_bytes()));
    }
    return spans_;
  }
  Half value(std::size_t layer, std::size_t kind, std::size_t head, std::size_t token,
             std::size_t channel) const {
    const BlockLayout layout = kv_layout();
    const std::size_t row =
        (kind * layout.kv_heads + head) * kBlockTokens + token % kBlockTokens;
    Half out;
    std::memcpy(
        &out,
        &blocks_[token / kBlockTokens][layer * layout.layer_bytes() +
                                       (row * layout.head_dim + channel) * sizeof(Half)],
        sizeof(Half));
    return out;
  }

 private:
  std::vector<std::vector<std::byte>> blocks_;
  KvSpans spans_;
};

Model shipped_model(Team& team, const Kernels& kernels = best_kernels()) {
  auto model = Model::open(kData + "/kvlm12m_fp16.bin", 512, team, kernels);
  EXPECT_TRUE(model.ok());
  return *std::move(model);
}

std::vector<std::uint32_t> shipped_tokens(std::size_t first, std::size_t count) {
  const auto tokens = shipped_tokenizer().encode(read_file(kData + "/northanger.txt"));
  const auto from = tokens.begin() + static_cast<std::ptrdiff_t>(first);
  return {from, from + static_cast<std::ptrdiff_t>(count)};
}

// Logits of all tokens, `batch` at a time.
std::vector<float> run(Model& model, PlainKv& kv, std::span<const std::uint32_t> tokens,
                       std::uint32_t batch) {
  std::vector<float> logits;
  for (std::uint32_t p = 0; p < tokens.size();) {
    const auto left = static_cast<std::uint32_t>(tokens.size()) - p;
    const std::uint32_t count = std::min({batch, left, kBlockTokens - p % kBlockTokens});
    const auto out =
        model.forward(tokens.subspan(p, count), p, kv.grow(p + count), count);
    logits.insert(logits.end(), out.begin(), out.end());
    p += count;
  }
  return logits;
}

TEST(DemoModel, keys_and_values_match_an_independent_forward_pass) {
  Team team(2);
  Model model = shipped_model(team);
  PlainKv kv;
  run(model, kv, shipped_tokens(200, 256), kBlockTokens);
  std::ifstream golden(SPECKV_TEST_VECTORS "/model_golden.txt");
  std::string line;
  int checked = 0;
  while (std::getline(golden, line)) {
    if (line.starts_with('#')) continue;
    std::istringstream fields(line);
    std::size_t layer = 0, kind = 0, head = 0, token = 0, channel = 0;
    float expected = 0;
    fields >> layer >> kind >> head >> token >> channel >> expected;
    ASSERT_TRUE(fields) << line;
    const Half half[16] = {kv.value(layer, kind, head, token, channel)};
    float value[16];
    model.kernels().widen(half, 16, value);
    // Both were rounded to 11 bits, and differ by sums in different orders before.
    ASSERT_NEAR(value[0], expected, 2e-3F * std::abs(expected) + 1e-3F) << line;
    ++checked;
  }
  EXPECT_EQ(checked, 360);
}

TEST(DemoModel, predicts_text_as_well_as_it_was_trained_to) {
  Team team(2);
  Model model = shipped_model(team);
  PlainKv kv;
  const auto tokens = shipped_tokens(200, 512);
  const auto logits = run(model, kv, tokens, kBlockTokens);
  double nats = 0;
  for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
    const auto row =
        std::span(logits).subspan(t * ModelShape::vocabulary, ModelShape::vocabulary);
    double sum = 0;
    for (const float logit : row)
      sum += std::exp(double{logit});
    nats += std::log(sum) - double{row[tokens[t + 1]]};
  }
  nats /= static_cast<double>(tokens.size() - 1);
  EXPECT_GT(nats, 3.8);
  EXPECT_LT(nats, 4.2);
}

TEST(DemoModel, decode_and_prefill_give_the_same_bits_on_any_number_of_threads) {
  const auto tokens = shipped_tokens(200, 150);
  Team one(1);
  Model model = shipped_model(one);
  PlainKv kv;
  const auto expected = run(model, kv, tokens, kBlockTokens);
  for (const unsigned threads : {1U, 2U, 5U}) {
    Team team(threads);
    Model other = shipped_model(team);
    for (const std::uint32_t batch : {1U, 7U, 64U}) {
      PlainKv fresh;
      ASSERT_EQ(run(other, fresh, tokens, batch), expected) << threads << ' ' << batch;
    }
  }
}

TEST(DemoModel, every_instruction_set_computes_the_same_model) {
  const auto tokens = shipped_tokens(200, 70);
  Team team(2);
  Model best = shipped_model(team);
  PlainKv kv;
  const auto expected = run(best, kv, tokens, kBlockTokens);
  for (const char* name : {"avx512", "avx2", "portable"}) {
    const Kernels* set = find_kernels(name);
    if (set == nullptr) continue;  // not on this machine
    Model model = shipped_model(team, *set);
    PlainKv fresh;
    const auto logits = run(model, fresh, tokens, kBlockTokens);
    ASSERT_EQ(logits.size(), expected.size());
    for (std::size_t i = 0; i < logits.size(); ++i) {
      ASSERT_NEAR(logits[i], expected[i], 0.02F) << set->name;
    }
  }
}

TEST(DemoModel, weights_of_another_size_or_that_are_no_numbers_are_refused) {
  Team team(1);
  const auto code_of = [&](const std::string& path) {
    return Model::open(path, 64, team, best_kernels()).error().code();
  };
  EXPECT_EQ(code_of(kData + "/no such file"), Code::not_found);
  std::string weights = read_file(kData + "/kvlm12m_fp16.bin");
  EXPECT_EQ(code_of(TemporaryFile(weights.substr(0, weights.size() - 1)).path()),
            Code::corrupted);
  EXPECT_EQ(code_of(TemporaryFile(weights + 'x').path()), Code::corrupted);
  weights[1000001] = '\x7E';
  EXPECT_EQ(code_of(TemporaryFile(weights).path()), Code::corrupted);
}

// ---- Sequences on a store ----------------------------------------------------------

std::unique_ptr<Cache> memory_cache() {
  auto cache = Cache::open({.tiers = {"dram:" + std::to_string(bytes_for(24))}});
  EXPECT_TRUE(cache.ok());
  return *std::move(cache);
}

void step(Generator& generator, int times) {
  for (int i = 0; i < times; ++i)
    ASSERT_TRUE(generator.step().ok());
}

TEST(DemoGenerator, goes_on_as_before_after_its_kv_was_dropped) {
  Team team(2);
  Model model = shipped_model(team);
  const auto cache = memory_cache();
  Generator kept(model, *cache, shipped_tokens(0, 150));
  Generator dropped(model, *cache, shipped_tokens(0, 150));
  ASSERT_TRUE(kept.prefill().ok());
  ASSERT_TRUE(dropped.prefill().ok());
  step(kept, 100);  // over two ends of blocks
  step(dropped, 50);
  dropped.drop();
  EXPECT_FALSE(dropped.has_kv());
  ASSERT_TRUE(dropped.prefill().ok());
  step(dropped, 50);
  EXPECT_EQ(kept.tokens(), dropped.tokens());
}

TEST(DemoGenerator, following_its_own_text_predicts_that_text) {
  Team team(2);
  Model model = shipped_model(team);
  const auto cache = memory_cache();
  Generator writer(model, *cache, shipped_tokens(0, 100));
  Generator reader(model, *cache, shipped_tokens(0, 100));
  ASSERT_TRUE(writer.prefill().ok());
  ASSERT_TRUE(reader.prefill().ok());
  step(writer, 70);
  const auto written = std::span(writer.tokens()).subspan(100);
  const auto logits = reader.follow(written);
  ASSERT_TRUE(logits.ok());
  ASSERT_EQ(logits->size(), written.size() * ModelShape::vocabulary);
  for (std::size_t i = 0; i < written.size(); ++i) {
    const auto row =
        std::span(*logits).subspan(i * ModelShape::vocabulary, ModelShape::vocabulary);
    ASSERT_EQ(most_likely(row), written[i]) << i;
  }
  EXPECT_EQ(reader.tokens(), writer.tokens());
}

Settings small_settings() {
  return {.sequences = 10,
          .context = 320,
          .turn = 6,
          .rounds = 2,
          .codec = find_codec("raw")};
}

TEST(DemoWorkload, three_ways_write_one_text_and_counters_agree) {
  Team team(2);
  Model model = shipped_model(team);
  double done = 0;
  const auto result =
      run_workload(small_settings(), model, shipped_tokens(0, 3000), [&](double d) {
        EXPECT_GE(d, done);
        done = d;
      });
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_EQ(done, 1.0);
  for (const bool same : result->same_tokens)
    EXPECT_TRUE(same);
  for (const WayResult& way : result->ways) {
    EXPECT_EQ(way.round_seconds.size(), 2U);
    EXPECT_EQ(way.first_token_seconds.size(), 20U);
  }
  EXPECT_EQ(result->blocks, 60U);  // five full and an open one each
  EXPECT_GE(result->blocks_that_left * 4, result->blocks * 3);
  ASSERT_EQ(result->tiers.size(), 2U);
  EXPECT_FALSE(result->tiers[0].counted);
  EXPECT_TRUE(result->tiers[1].counted);
  EXPECT_TRUE(result->tiers[1].bytes_agree);
  EXPECT_GT(result->tiers[1].stats.bytes_written, 40 * kv_layout().bytes());
  EXPECT_GT(result->tiers[1].stats.bytes_read, 40 * kv_layout().bytes());
  EXPECT_EQ(result->sample.size(), 320U + 12U);
}

TEST(DemoWorkload, a_codec_below_shrinks_what_is_stored) {
  Team team(2);
  Model model = shipped_model(team);
  Settings settings = small_settings();
  settings.codec = find_codec("kvq4");
  const auto result =
      run_workload(settings, model, shipped_tokens(0, 3000), [](double) {});
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_TRUE(result->same_tokens[recompute]);
  const TierStats& stats = result->tiers[1].stats;
  EXPECT_GT(stats.plain_bytes, 3 * stats.used);
  EXPECT_TRUE(result->tiers[1].bytes_agree);
}

TEST(DemoWorkload, tiers_that_cannot_be_opened_are_an_error) {
  Team team(1);
  Model model = shipped_model(team);
  Settings settings = small_settings();
  settings.tiers = {"dram:16M", "no-such-scheme:"};
  const auto result =
      run_workload(settings, model, shipped_tokens(0, 3000), [](double) {});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::invalid_argument);
}

TEST(DemoWorkload, windows_spread_over_the_whole_text) {
  EXPECT_EQ(window(1000, 100, 0, 4), 0U);
  EXPECT_EQ(window(1000, 100, 1, 4), 300U);
  EXPECT_EQ(window(1000, 100, 3, 4), 900U);
  EXPECT_EQ(window(1000, 100, 0, 1), 0U);
}

TEST(DemoFidelity, an_exact_codec_changes_nothing_and_four_bits_more_than_eight) {
  Team team(2);
  Model model = shipped_model(team);
  const std::vector<const Codec*> codecs{find_codec("raw"), find_codec("int8"),
                                         find_codec("kvq4")};
  const auto result = measure_fidelity(small_settings(), codecs, model,
                                       shipped_tokens(0, 3000), [](double) {});
  ASSERT_TRUE(result.ok()) << result.error().message();
  ASSERT_EQ(result->size(), 3U);
  for (const Fidelity& fidelity : *result) {
    ASSERT_TRUE(fidelity.within);
    EXPECT_FALSE(fidelity.beyond);  // the context ends before
    EXPECT_EQ(fidelity.within->tokens, 256U);
    EXPECT_GT(fidelity.coded, 0.5);
  }
  EXPECT_EQ((*result)[0].within->nats, 0);
  EXPECT_EQ((*result)[0].within->same_best, 1);
  EXPECT_GT((*result)[1].within->nats, 0);
  EXPECT_GT((*result)[2].within->nats, 5 * (*result)[1].within->nats);
  EXPECT_LT((*result)[2].within->nats, 0.01);
}

TEST(DemoFidelity, a_text_that_stays_in_the_fast_tier_tells_nothing_of_a_codec) {
  Team team(2);
  Model model = shipped_model(team);
  Settings settings = small_settings();
  settings.context = 2 * kBlockTokens;
  const auto result = measure_fidelity(settings, {find_codec("kvq4")}, model,
                                       shipped_tokens(0, 3000), [](double) {});
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_EQ(result->front().coded, 0);
  EXPECT_FALSE(result->front().within);
}

TEST(DemoWorkload, the_fast_tier_is_the_first_that_is_named) {
  Settings settings = small_settings();
  EXPECT_EQ(settings.fast_blocks(), settings.least_blocks());  // more than a quarter
  settings.tiers = {"dram:64M", "dram:1G"};
  settings.fast_bytes = bytes_for(20);
  EXPECT_GE(settings.fast_blocks(), 20U);
  EXPECT_LE(bytes_for(settings.fast_blocks()), settings.fast_bytes);
  settings.fast_bytes = bytes_for(100000);  // (c) needs no more than there is
  EXPECT_EQ(settings.fast_blocks(), settings.blocks() + settings.sequences);
}

TEST(DemoFidelity, divergence_is_the_textbook_sum) {
  const float even[] = {0.0F, 0.0F}, odds[] = {std::log(3.0F), 0.0F};
  EXPECT_NEAR(divergence(even, odds),
              0.5 * std::log(0.5 / 0.75) + 0.5 * std::log(0.5 / 0.25), 1e-7);
  EXPECT_EQ(divergence(odds, odds), 0);
}

TEST(DemoCache, a_counted_device_counts_what_completed_well) {
  DeviceBytes bytes;
  const auto device = counted(
      std::make_shared<test::HeapDevice>(1 << 20, test::HeapDevice::Kind::disk), bytes);
  std::vector<std::byte> memory(4096);
  constexpr RegionId kRegion{1};
  ASSERT_TRUE(device->attach(kRegion, memory).ok());
  {
    auto queue = device->open_queue(8);
    ASSERT_TRUE(queue.ok());
    const Transfer batch[] = {
        {Transfer::Op::write, 0, {kRegion, 0, 4096}, 1},
        {Transfer::Op::read, 512, {kRegion, 0, 1024}, 2},
        {Transfer::Op::flush, 0, {}, 3},
        {Transfer::Op::read, 2U << 20, {kRegion, 0, 1024}, 4},  // beyond the device
    };
    ASSERT_EQ((*queue)->submit(batch), 4U);
    EXPECT_EQ(bytes.written, 0U);
    Completion done[8];
    std::size_t count = 0;
    while (count < 4)
      count += (*queue)->poll(done);
  }
  EXPECT_EQ(bytes.written, 4096U);
  EXPECT_EQ(bytes.read, 1024U);
  EXPECT_TRUE(device->detach(kRegion).ok());
}

}  // namespace
}  // namespace speckv::demo

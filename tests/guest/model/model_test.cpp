// The demo's model goes on writing from KV that a card has coded and keeps: library,
// driver, PCI, the card's encoder, its memory, its decoder, and back. Once on the engine
// in software (soft:), once on /dev/speckv0: the same bytes come back, so the same tokens
// follow.
#include "demo/model.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/card_codec.hpp"
#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/engine.hpp"
#include "cxlspeckv/store.hpp"

#include "demo/generator.hpp"
#include "demo/tokenizer.hpp"

namespace speckv::demo {
namespace {

// What TCG computes, and Verilator simulates, in minutes. docs/performance.md.
constexpr std::uint32_t kSequences = 2, kBlocks = 8, kTurn = 32;
constexpr std::uint32_t kPrompt = kBlocks * kBlockTokens;
// Layers are stored in groups: a block of the store has three of them.
constexpr std::uint32_t kGroups = 2, kStored = kSequences * kBlocks * kGroups;
constexpr std::uint64_t kPlain = std::uint64_t{kSequences} * kBlocks * kBlockTokens *
                                 ModelShape::layers * ModelShape::kv_heads *
                                 ModelShape::head_dim * 2 * sizeof(Half);
static_assert(kStored >= 32 && kSequences * kTurn >= 64);
BlockLayout group_layout() {
  BlockLayout layout = kv_layout();
  layout.layers /= kGroups;
  return layout;
}
constexpr std::size_t kText = 12000;  // characters with more than enough tokens
constexpr const char* kCard = "/dev/speckv0";

// For guest.py, which shows such lines.
class Stopwatch {
 public:
  void note(const char* what) {
    const auto now = std::chrono::steady_clock::now();
    std::printf("NOTE model: %s: %.1f s\n", what,
                std::chrono::duration<double>(now - start_).count());
    std::fflush(stdout);
    start_ = now;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// The KV of one sequence: kBlocks whole blocks and an open one. NaN until written.
class Kv {
 public:
  MutableBytes block(std::size_t n) {
    return MutableBytes(memory_).subspan(n * layout_.bytes(), layout_.bytes());
  }
  Bytes prompt() const { return Bytes(memory_).first(kBlocks * layout_.bytes()); }
  // The last of `count` blocks is the open one.
  KvSpans spans(std::uint32_t count) {
    KvSpans spans;
    spans.block_count = count;
    for (std::uint32_t layer = 0; layer < layout_.layers; ++layer) {
      const auto of = [&](std::size_t n) {
        return block(n).subspan(layer * layout_.layer_bytes(), layout_.layer_bytes());
      };
      for (std::uint32_t n = 0; n < count; ++n)
        spans.blocks.push_back(of(n));
      spans.tail.push_back(of(count - 1));
    }
    return spans;
  }

 private:
  const BlockLayout layout_ = kv_layout();
  std::vector<std::byte> memory_ =
      std::vector<std::byte>((kBlocks + 1) * layout_.bytes(), std::byte{0xFF});
};

struct Prompt {
  std::vector<std::uint32_t> tokens{};  // the last one's KV is still to come
  Kv kv{};
};

struct Turn {
  std::vector<Kv> kv = std::vector<Kv>(kSequences);
  std::vector<std::uint32_t> tokens{};
  TierStats tier{};
  CardCodecStats codec{};
};

std::map<std::string, std::uint64_t> counters(Engine& card) {
  const auto all = card.counters();
  EXPECT_TRUE(all.ok());
  return all.ok() ? std::map<std::string, std::uint64_t>(all->begin(), all->end())
                  : std::map<std::string, std::uint64_t>();
}

class DemoOnCard : public testing::Test {
 protected:
  void SetUp() override {
    auto model = Model::open(SPECKV_SOURCE_DATA "/kvlm12m_fp16.bin",
                             kPrompt + kBlockTokens, team_, best_kernels());
    ASSERT_TRUE(model.ok()) << model.error().message();
    model_.emplace(*std::move(model));
    const auto tokenizer =
        Tokenizer::open(SPECKV_SOURCE_DATA "/merges.json", ModelShape::vocabulary);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message();
    std::stringstream text;
    text << std::ifstream(SPECKV_SOURCE_DATA "/northanger.txt").rdbuf();
    const auto tokens = tokenizer->encode(text.str().substr(0, kText));
    ASSERT_GT(tokens.size(), kSequences * (kPrompt + 1));
    for (std::uint32_t s = 0; s < kSequences; ++s) {
      const auto from = tokens.begin() + s * (kPrompt + 1);
      prompts_.emplace_back().tokens.assign(from, from + kPrompt + 1);
    }
    watch_.note("read");
  }

  void prefill() {
    for (Prompt& prompt : prompts_) {
      for (std::uint32_t b = 0; b < kBlocks; ++b) {
        const std::uint32_t first = b * kBlockTokens;
        model_->forward(std::span(prompt.tokens).subspan(first, kBlockTokens), first,
                        prompt.kv.spans(b + 1), 0);
      }
    }
    watch_.note("prefill of 1,024 tokens");
  }

  // A store of one tier, whose layers `codec` codes.
  static Result<std::unique_ptr<BlockStore>> open_store(const std::string& device,
                                                        const Codec& codec) {
    auto opened = open_device(device);
    if (!opened.ok()) return opened.error();
    StoreOptions options;
    options.layouts = {group_layout()};
    Tier tier;
    tier.name = "card";
    tier.device = *std::move(opened);
    tier.codec = &codec;
    options.tiers.push_back(std::move(tier));
    return BlockStore::open(std::move(options));
  }

  // Moves the prompt's blocks between the store and `kv`, one after the other.
  static void move(BlockStore& store, const Prompt& prompt, Kv& kv, bool save) {
    const BlockLayout layout = group_layout();
    for (std::uint32_t g = 0; g < kGroups; ++g) {
      KeyChain chain("kvlm12m, group " + std::to_string(g), layout, "guest");
      for (std::uint32_t b = 0; b < kBlocks; ++b) {
        const std::uint32_t first = b * kBlockTokens;
        const BlockKey key =
            chain.append(std::span(prompt.tokens).subspan(first, kBlockTokens));
        const auto region = store.attach(kv.block(b));
        ASSERT_TRUE(region.ok());
        const Segment segment{*region, g * layout.bytes(), layout.bytes()};
        const BlockTransfer block{key, {&segment, 1}, first, {}};
        Operation op = save ? store.save({&block, 1}) : store.load({&block, 1});
        const Status status = op.wait();
        EXPECT_TRUE(status.ok()) << "block " << b << ": " << status.message();
        EXPECT_TRUE(store.detach(*region).ok());
      }
    }
  }

  // All prompts into the store, back from it into fresh memory, and on from there.
  void decode(BlockStore& store, const CardCodec& codec, Turn& turn) {
    for (Prompt& prompt : prompts_)
      move(store, prompt, prompt.kv, true);
    EXPECT_EQ(store.stats(0).blocks, kStored);
    watch_.note("32 blocks saved");
    for (std::uint32_t s = 0; s < kSequences; ++s)
      move(store, prompts_[s], turn.kv[s], false);
    watch_.note("32 blocks loaded");
    for (std::uint32_t s = 0; s < kSequences; ++s) {
      const KvSpans spans = turn.kv[s].spans(kBlocks + 1);
      std::uint32_t token = prompts_[s].tokens.back();
      for (std::uint32_t n = 0; n < kTurn; ++n) {
        token = most_likely(model_->forward({&token, 1}, kPrompt + n, spans, 1));
        turn.tokens.push_back(token);
      }
    }
    watch_.note("64 tokens decoded");
    turn.tier = store.stats(0);
    turn.codec = codec.stats();
  }

  void run(const std::string& device, const char* engine, Turn& turn,
           Engine* card = nullptr) {
    const auto codec = CardCodec::open(engine, CodecId::kvq4);
    ASSERT_TRUE(codec.ok()) << codec.error().message();
    const auto store = open_store(device, **codec);
    ASSERT_TRUE(store.ok()) << store.error().message();
    const auto before = card != nullptr ? counters(*card) : counted_;
    decode(**store, **codec, turn);
    if (card == nullptr) return;
    for (const auto& [name, value] : counters(*card))
      counted_[name] = value - before.at(name);
  }

  Stopwatch watch_;
  Team team_{2};
  std::optional<Model> model_;
  std::vector<Prompt> prompts_;
  std::map<std::string, std::uint64_t> counted_;  // by the card, during its turn
};

TEST_F(DemoOnCard, WritesTheSameTokensAsOnTheEngineInSoftware) {
  ASSERT_NO_FATAL_FAILURE(prefill());
  Turn soft, card;
  ASSERT_NO_FATAL_FAILURE(run("soft:16M", "soft:", soft));
  auto engine = Engine::open(kCard);
  ASSERT_TRUE(engine.ok()) << engine.error().message();
  ASSERT_NO_FATAL_FAILURE(run(std::string("cxl:") + kCard + "?size=16M",
                              (std::string("cxl:") + kCard).c_str(), card,
                              engine->get()));

  ASSERT_EQ(card.tokens.size(), kSequences * kTurn);
  EXPECT_EQ(card.tokens, soft.tokens);
  for (std::uint32_t s = 0; s < kSequences; ++s) {
    const auto same = [](Bytes x, Bytes y) { return std::ranges::equal(x, y); };
    EXPECT_TRUE(same(card.kv[s].prompt(), soft.kv[s].prompt())) << s;
    EXPECT_FALSE(same(card.kv[s].prompt(), prompts_[s].kv.prompt())) << "not coded";
  }

  // What the library knows, and what the card has counted.
  EXPECT_EQ(card.codec.on_host, 0U);
  EXPECT_EQ(card.codec.encode_in, kPlain);
  EXPECT_EQ(card.codec.decode_out, kPlain);
  EXPECT_EQ(card.codec.encode_out, soft.codec.encode_out);
  EXPECT_EQ(counted_["encode_in"], card.codec.encode_in);
  EXPECT_EQ(counted_["encode_out"], card.codec.encode_out);
  EXPECT_EQ(counted_["decode_in"], card.codec.decode_in);
  EXPECT_EQ(counted_["decode_out"], card.codec.decode_out);
  const std::uint64_t copied = card.tier.bytes_written + card.tier.bytes_read;
  EXPECT_GT(card.tier.bytes_written, card.codec.encode_out);
  EXPECT_EQ(counted_["bytes_read"], card.codec.encode_in + card.codec.decode_in + copied);
  EXPECT_EQ(counted_["bytes_written"],
            card.codec.encode_out + card.codec.decode_out + copied);
  EXPECT_EQ(counted_["completions"], counted_["descriptors"]);
  EXPECT_EQ(counted_["failures"], 0U);
  EXPECT_EQ(card.tier.corrupted + card.tier.io_errors, 0U);
}

}  // namespace
}  // namespace speckv::demo

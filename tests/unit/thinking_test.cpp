// The demo's conversations with think times, recorded, and replayed afterwards by the
// rules of a live store: the same decisions, as far as real blocks take real time.
#include "demo/thinking.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "predict/return_predictor.hpp"
#include "trace/node.hpp"
#include "trace/read.hpp"
#include "trace/replay.hpp"

namespace speckv::demo {
namespace {

const std::string kData = SPECKV_SOURCE_DATA;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Thinking : public testing::Test {
 protected:
  void SetUp() override {
    folder = std::filesystem::temp_directory_path() /
             ("thinking_test_" + std::to_string(std::random_device()()));
    std::filesystem::create_directory(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  trace::ReplayResult replay(const std::string& way) const {
    const std::string node_file = folder / "node.toml";
    const auto node = trace::read_node(read_file(node_file), node_file);
    EXPECT_TRUE(node.ok()) << node.error().message();
    const std::string file = folder / (way + ".trace");
    const auto trace = trace::read_trace(read_file(file), "", {.name = file});
    EXPECT_TRUE(trace.ok()) << trace.error().message();
    trace::ReplayOptions options{
        .as_recorded = true, .kv_bytes_per_token = kv_layout().bytes() / kBlockTokens};
    options.live = PrefetchOptions{};
    options.live->learned = way == "learned" || way == "retained";
    options.live->hinted = way == "hinted";
    options.live->stage = way != "retained";
    std::unique_ptr<predict::ReturnPredictor> predictor;
    if (options.live->learned) {
      predictor = *predict::make_return_predictor({.sessions = options.live->sessions});
      options.predictor = predictor.get();
    }
    auto result = trace::replay(*trace, *node, options);
    EXPECT_TRUE(result.ok());
    return *std::move(result);
  }

  std::filesystem::path folder;
};

TEST_F(Thinking, counters_agree_with_the_recording_replayed) {
  Team team(1);
  auto model = Model::open(kData + "/kvlm12m_fp16.bin", 512, team, best_kernels());
  ASSERT_TRUE(model.ok());
  Settings settings;
  settings.sequences = 8;
  settings.context = 256;
  settings.turn = 4;
  settings.rounds = 4;
  settings.codec = find_codec("raw");
  settings.speculation = {"off", "retained", "learned", "hinted"};
  settings.recordings = folder;
  std::vector<std::uint32_t> text(8 * 256 + 512);
  std::iota(text.begin(), text.end(), 100U);
  const auto results = run_thinking(settings, *model, text, [](double) {});
  ASSERT_TRUE(results.ok()) << results.error().message();
  const std::uint64_t block = kv_layout().bytes();
  for (const ThinkingResult& was : *results) {
    SCOPED_TRACE(was.speculation);
    const trace::ReplayResult again = replay(was.speculation);
    EXPECT_EQ(again.requests, settings.sequences * (settings.rounds + 1));
    const auto& [learned, hinted] = again.sources;
    const auto told = [&](const auto& s) {
      std::string line;
      for (const std::uint64_t bytes : {s.staged, s.useful, s.late, s.wasted, s.retained})
        line += std::to_string(bytes / block) + " ";
      return line;
    };
    std::cout << was.speculation << ": there " << was.in_fast_tier << " of " << was.blocks
              << ", learned " << told(was.stats.learned) << " hinted "
              << told(was.stats.hinted) << "\n  replayed: there " << again.top_hits
              << ", learned " << told(learned) << " hinted " << told(hinted) << "\n";
    // Off: to the block. Told: what lands or goes as a turn comes. Learned: besides, what
    // was kept decides what goes next, and whether a newcomer is there by then is chance.
    const std::map<std::string, std::uint64_t> blocks_off = {
        {"off", 0}, {"hinted", 6}, {"retained", 8}, {"learned", 12}};
    const std::uint64_t off = blocks_off.at(was.speculation);
    const auto near = [&](std::uint64_t now, std::uint64_t then, const char* what) {
      EXPECT_NEAR(static_cast<double>(now / block), static_cast<double>(then / block),
                  static_cast<double>(off))
          << what;
    };
    near(again.top_hits * block, was.in_fast_tier * block, "there");
    for (const auto& [now, then] :
         {std::pair(learned, was.stats.learned), std::pair(hinted, was.stats.hinted)}) {
      near(now.staged, then.staged, "staged");
      near(now.useful, then.useful, "useful");
      near(now.late, then.late, "late");
      near(now.wasted, then.wasted, "wasted");
      near(now.retained, then.retained, "retained");
    }
    if (was.speculation == "hinted") {
      EXPECT_GT(was.stats.hinted.staged, 8 * block);
      EXPECT_GT(10 * was.in_fast_tier, 8 * was.blocks);
    }
    RecordProperty(was.speculation + "_there", static_cast<int>(was.in_fast_tier));
    RecordProperty(was.speculation + "_replayed", static_cast<int>(again.top_hits));
  }
}

}  // namespace
}  // namespace speckv::demo

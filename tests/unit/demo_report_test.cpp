// What the demo says: figures for `./run bench`, its table, and what it takes for a
// failure.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "demo/report.hpp"

namespace speckv::demo {
namespace {

TEST(DemoFigures, the_median_is_the_middle) {
  EXPECT_FALSE(median({}));
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
}

TEST(DemoFigures, a_ratio_wants_five_pairs_and_pairs_them_in_order) {
  Figure few, enough;
  set_ratio(few, {1, 2, 3, 4}, {1, 1, 1, 1});
  EXPECT_FALSE(few.value);
  EXPECT_FALSE(few.skipped.empty());
  set_ratio(enough, {2, 4, 6, 8, 30}, {1, 2, 2, 2, 3});
  EXPECT_EQ(enough.value, 3);
}

TEST(DemoFigures, whether_a_bar_holds_is_computed) {
  Figure figure{.name = "x", .value = 0.8, .bar = 0.8};
  EXPECT_EQ(figure.holds(), true);
  figure.value = 0.79;
  EXPECT_EQ(figure.holds(), false);
  figure.direction = "<=";
  EXPECT_EQ(figure.holds(), true);
  figure.value.reset();
  EXPECT_EQ(figure.holds(), false);  // missing without a reason
  figure.skipped = "no such device here";
  EXPECT_FALSE(figure.holds());
  EXPECT_FALSE((Figure{.value = 1.0}).holds());  // told, not judged
}

TEST(DemoFigures, are_written_as_json_with_nulls_where_there_is_nothing) {
  const std::string path =
      testing::TempDir() + "demo_report_" + std::to_string(::getpid());
  ASSERT_TRUE(
      write_figures(
          path, {{.name = "a\"b", .value = 1.5, .unit = "ratio", .baseline = "memcpy"},
                 {.name = "c", .skipped = "no"}})
          .ok());
  std::stringstream content;
  content << std::ifstream(path).rdbuf();
  std::filesystem::remove(path);
  const std::string json = content.str();
  for (const char* part :
       {"\"machine\": \"", "\"a\\\"b\"", "\"value\": 1.5", "\"bar\": null",
        "\"holds\": null", "\"value\": null", "\"skipped\": \"no\"", "\"figures\": [",
        "\"name\": \"c\"", "\"unit\": \"ratio\"", "\"baseline\": \"memcpy\"",
        "\"direction\": \">=\""}) {
    EXPECT_NE(json.find(part), std::string::npos) << part;
  }
  EXPECT_FALSE(write_figures("/no such folder/x", {}).ok());
}

// A run of five rounds of 2 * 10 tokens, in which (b) took 1 s a round.
struct Outcome {
  Settings settings{.sequences = 2, .turn = 10, .rounds = 5, .codec = find_codec("raw")};
  WorkloadResult workload{};
  std::vector<Fidelity> fidelity{};
  Report report{settings, workload, fidelity, 4e9};

  Outcome() {
    workload.ways[all_fast] = {std::vector<double>(5, 0.5),
                               std::vector<double>(10, 0.001)};
    workload.ways[tiered] = {std::vector<double>(5, 1.0), std::vector<double>(10, 0.002)};
    workload.ways[recompute] = {std::vector<double>(5, 4.0),
                                std::vector<double>(10, 0.25)};
    workload.same_tokens = {true, true, true};
    workload.prefill_flops = 3e9;
    workload.blocks = 100;
    workload.blocks_that_left = 74;
    workload.tiers = {{.name = "0:dram"}, {.name = "1:file", .counted = true}};
    workload.tiers[1].stats.plain_bytes = 300;
    workload.tiers[1].stats.used = 100;
    fidelity = {
        {.codec = "int8", .ratio = 1.96, .coded = 1, .within = Divergence{.nats = 2e-6}}};
  }
  Figure figure(const std::string& name) const {
    for (const Figure& figure : figures(report)) {
      if (figure.name == name) return figure;
    }
    ADD_FAILURE() << "no figure " << name;
    return {};
  }
};

TEST(DemoReport, ratios_compare_tokens_a_second) {
  const Outcome run;
  EXPECT_EQ(run.figure("demo_tiers_against_recompute").value, 4.0);
  EXPECT_EQ(run.figure("demo_tiers_against_recompute").holds(), true);
  EXPECT_EQ(run.figure("demo_tiers_against_all_fast").value, 0.5);
  EXPECT_EQ(run.figure("demo_tiers_against_all_fast").holds(), false);
  EXPECT_EQ(run.figure("demo_blocks_that_left_the_fast_tier").holds(), false);
  EXPECT_EQ(run.figure("demo_prefill").value, 0.75);
  EXPECT_EQ(run.figure("demo_kl_int8_to_1024").value, 2e-6);
  EXPECT_FALSE(run.figure("demo_kl_int8_beyond_1024").skipped.empty());
}

TEST(DemoReport, a_codec_that_nothing_went_through_has_no_figures) {
  Outcome run;
  run.fidelity = {{.codec = "int8"}};
  EXPECT_FALSE(run.figure("demo_kl_int8_to_1024").value);
  EXPECT_FALSE(run.figure("demo_kl_int8_to_1024").skipped.empty());
  EXPECT_NE(table(run.report).find("int8      (so little text"), std::string::npos);
  EXPECT_EQ(table(run.report).find("nats"), std::string::npos);
}

TEST(DemoReport, equal_tokens_are_a_bar_for_exact_codecs_only) {
  Outcome run;
  run.workload.same_tokens[tiered] = false;
  EXPECT_EQ(run.figure("demo_tiers_tokens_equal").holds(), false);
  EXPECT_FALSE(check(run.report).ok());
  run.settings.codec = find_codec("kvq4");
  EXPECT_FALSE(run.figure("demo_tiers_tokens_equal").holds());
  EXPECT_TRUE(check(run.report).ok());
}

TEST(DemoReport, counters_that_differ_and_texts_that_differ_are_failures) {
  Outcome run;
  EXPECT_TRUE(check(run.report).ok());
  run.workload.tiers[1].bytes_agree = false;
  EXPECT_FALSE(check(run.report).ok());
  run.workload.tiers[1].bytes_agree = true;
  run.workload.same_tokens[recompute] = false;
  EXPECT_FALSE(check(run.report).ok());
}

TEST(DemoReport, the_table_tells_speeds_tiers_and_codecs) {
  const Outcome run;
  const std::string text = table(run.report);
  for (const char* part :
       {"40               1.00 ms", "20               2.00 ms", "5             250.00 ms",
        "75 % of this machine's 4", "1:file", "3.00\n", "74 % of 100 blocks",
        "1:file agree", "int8        1.96     100 %", "2.0e-06 nats"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\nin\n" << text;
  }
}

TEST(DemoReport, speculation_has_a_row_a_way_and_changes_no_text) {
  const Outcome run;
  EXPECT_EQ(table(run.report).find("speculation"), std::string::npos) << "nobody asked";
  Report report{run.settings, run.workload, run.fidelity, 4e9};
  report.thinking = {{.speculation = "off", .stall_seconds = {0.001, 0.002, 0.006}},
                     {.speculation = "hinted",
                      .stall_seconds = {0.0005},
                      .first_token_seconds = {0.0015},
                      .blocks = 200,
                      .in_fast_tier = 150}};
  report.thinking[1].stats.hinted = {.staged = 7U << 20,
                                     .useful = 5U << 20,
                                     .late = 0,
                                     .wasted = 2U << 20,
                                     .retained = 9U << 20};
  const std::string text = table(report);
  for (const char* part :
       {"off            2.00 /    3.00 ms", "hinted         0.50 /    0.50 ms",
        "1.50 ms       75 %     7 MiB     5 MiB     0 MiB     2 MiB     9 MiB"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\nin\n" << text;
  EXPECT_TRUE(check(report).ok());
  report.thinking[1].same_text = false;
  EXPECT_FALSE(check(report).ok());
}

TEST(DemoThinking, turns_come_in_order_and_a_quarter_of_the_users_is_quick) {
  const auto arrivals = think_times(16, 400);
  std::vector<std::size_t> turns(16);
  double before = 0;
  for (const Arrival& arrival : arrivals) {
    EXPECT_LE(before, arrival.at);
    before = arrival.at;
    ++turns.at(arrival.conversation);
  }
  for (std::size_t n = 0; n < turns.size(); ++n)
    EXPECT_EQ(turns[n] * 16 > arrivals.size(), n % 4 == 0) << n;
}

}  // namespace
}  // namespace speckv::demo

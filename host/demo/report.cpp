#include "report.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <numeric>

namespace speckv::demo {
namespace {

constexpr std::uint32_t kMiB = 1U << 20;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void append(std::string& to, const char* format, ...) {
  char line[256];
  std::va_list values;
  va_start(values, format);
  const int length = std::vsnprintf(line, sizeof line, format, values);
  va_end(values);
  if (length > 0)
    to.append(line,
              std::min<std::size_t>(static_cast<std::size_t>(length), sizeof line - 1));
}

double mebibytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / kMiB;
}

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double tokens_per_second(const Settings& settings, const WayResult& way) {
  const double seconds =
      std::accumulate(way.round_seconds.begin(), way.round_seconds.end(), 0.0);
  const double tokens = static_cast<double>(settings.sequences) * settings.turn *
                        static_cast<double>(way.round_seconds.size());
  return tokens / seconds;
}

void add_ways(std::string& out, const Report& report) {
  constexpr const char* kNames[kWays] = {"(a) everything in the fast tier",
                                         "(b) tiers, the next turn staged ahead",
                                         "(c) dropped and computed again"};
  append(out, "%-39s %9s %21s %10s\n", "", "tokens/s", "first token, median",
         "same text");
  for (const Way way : {all_fast, tiered, recompute}) {
    const WayResult& result = report.workload.ways[way];
    append(out, "%-39s %9.0f %18.2f ms %10s\n", kNames[way],
           tokens_per_second(report.settings, result),
           1e3 * median(result.first_token_seconds).value_or(0),
           way == all_fast                    ? "-"
           : report.workload.same_tokens[way] ? "yes"
                                              : "NO");
  }
}

void add_tiers(std::string& out, const Report& report) {
  append(out, "\n%-9s %9s %9s %7s %8s %8s %8s %9s %9s %6s\n", "(b) tier", "capacity",
         "used", "blocks", "hits", "evicted", "moved in", "written", "read", "ratio");
  for (const TierResult& tier : report.workload.tiers) {
    const TierStats& s = tier.stats;
    append(out,
           "%-9s %5.0f MiB %5.0f MiB %7" PRIu64 " %8" PRIu64 " %8" PRIu64 " %8" PRIu64,
           tier.name.c_str(), mebibytes(s.capacity), mebibytes(s.used), s.blocks, s.hits,
           s.evictions, s.demotions_in + s.promotions_in);
    append(out, " %5.0f MiB %5.0f MiB", mebibytes(s.bytes_written),
           mebibytes(s.bytes_read));
    // Open blocks, which are nobody's to encode, are among the first tier's.
    if (&tier == &report.workload.tiers.front()) {
      out += "      -\n";
    } else {
      append(out, " %6.2f\n", share(s.plain_bytes, s.used));
    }
  }
}

constexpr const char* kOutOfReach = "the context does not reach there";
constexpr const char* kNothingCoded =
    "so little text that all of it stayed in the fast tier";

void add_fidelity(std::string& out, const Report& report) {
  if (report.fidelity.empty()) return;
  append(out, "\n%-9s %6s %9s   %-34s %s\n", "codec", "ratio", "through it",
         "positions to 1,024: KL, same choice", "beyond, where the model is weaker");
  const auto add = [&](const std::optional<Divergence>& d) {
    if (d) append(out, "  %8.1e nats, %5.1f %%%12s", d->nats, 100 * d->same_best, "");
    if (!d) append(out, "  (%s)", kOutOfReach);
  };
  for (const Fidelity& f : report.fidelity) {
    if (f.coded <= 0) {
      append(out, "%-9s (%s)\n", f.codec.c_str(), kNothingCoded);
      continue;
    }
    append(out, "%-9s %6.2f %7.0f %% ", f.codec.c_str(), f.ratio, 100 * f.coded);
    add(f.within);
    add(f.beyond);
    out += '\n';
  }
}

double mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(values.size());
}

void add_thinking(std::string& out, const Report& report) {
  if (report.thinking.empty()) return;
  append(out, "\n%-11s %20s %21s %10s %9s %9s %9s %9s %9s\n", "speculation",
         "stall, median / mean", "first token, median", "there", "staged", "useful",
         "late", "wasted", "kept");
  for (const ThinkingResult& r : report.thinking) {
    const PrefetchStats::Source& s =
        r.speculation == "hinted" ? r.stats.hinted : r.stats.learned;
    append(out, "%-11s %7.2f / %7.2f ms %18.2f ms %8.0f %% %5.0f MiB",
           r.speculation.c_str(), 1e3 * median(r.stall_seconds).value_or(0),
           1e3 * mean(r.stall_seconds), 1e3 * median(r.first_token_seconds).value_or(0),
           100 * share(r.in_fast_tier, r.blocks), mebibytes(s.staged));
    append(out, " %5.0f MiB %5.0f MiB %5.0f MiB %5.0f MiB\n", mebibytes(s.useful),
           mebibytes(s.late), mebibytes(s.wasted), mebibytes(s.retained));
  }
  append(
      out,
      "Users think for %.1f to %.1f s, three of four for %.1f to %.1f s; time in which "
      "nothing happens is skipped.\n",
      kQuickThinks / 2, kQuickThinks * 1.5, kSlowThinks / 2, kSlowThinks * 1.5);
  append(out,
         "Hints come %.0f s ahead. There: blocks in the fast tier when their turn "
         "arrived. Kept: each time that last use\nwould have given it up.\n",
         kHintLead);
}

std::vector<double> inverse(std::vector<double> values) {
  for (double& value : values)
    value = 1 / value;
  return values;
}

bool exact(const Settings& settings) {
  return settings.codec == nullptr || settings.codec->id() == CodecId::raw;
}

void add_divergences(std::vector<Figure>& out, const Fidelity& fidelity) {
  const auto add = [&](const char* where, const std::optional<Divergence>& d) {
    Figure figure{.name = "demo_kl_" + fidelity.codec + where,
                  .unit = "nats",
                  .baseline = "exact KV, teacher-forced"};
    if (d) figure.value = d->nats;
    if (!d) figure.skipped = fidelity.coded > 0 ? kOutOfReach : kNothingCoded;
    out.push_back(figure);
  };
  add("_to_1024", fidelity.within);
  add("_beyond_1024", fidelity.beyond);
}

}  // namespace

std::string sample_text(const WorkloadResult& result, const Tokenizer& tokenizer) {
  constexpr std::size_t kShown = 60;  // tokens of the prompt
  const std::span all(result.sample);
  const std::size_t from =
      result.sample_prompt - std::min<std::size_t>(kShown, result.sample_prompt);
  std::string out =
      "... " + tokenizer.decode(all.subspan(from, result.sample_prompt - from));
  return out + "\n>>> " + tokenizer.decode(all.subspan(result.sample_prompt)) + "\n";
}

std::string table(const Report& report) {
  const WorkloadResult& w = report.workload;
  std::string out;
  add_ways(out, report);
  append(out,
         "Prefill, as (c) pays for it: %.0f GFLOP/s, %.0f %% of this machine's %.0f.\n",
         w.prefill_flops / 1e9, 100 * w.prefill_flops / report.peak_flops,
         report.peak_flops / 1e9);
  add_tiers(out, report);
  append(out, "%.0f %% of %" PRIu64 " blocks left the fast tier.",
         100 * share(w.blocks_that_left, w.blocks), w.blocks);
  for (const TierResult& tier : w.tiers) {
    if (!tier.counted) continue;
    append(out, " The device's own byte counts of %s %s.", tier.name.c_str(),
           tier.bytes_agree ? "agree" : "DIFFER");
  }
  out += '\n';
  add_fidelity(out, report);
  add_thinking(out, report);
  return out;
}

std::vector<Figure> figures(const Report& report) {
  const WorkloadResult& w = report.workload;
  const auto rates = [&](Way way) { return inverse(w.ways[way].round_seconds); };
  std::vector<Figure> out;

  Figure against_c{.name = "demo_tiers_against_recompute",
                   .unit = "ratio",
                   .baseline = "tokens/s with KV dropped and prefilled again",
                   .bar = 3.0};
  set_ratio(against_c, rates(tiered), rates(recompute));
  out.push_back(against_c);
  Figure against_a{.name = "demo_tiers_against_all_fast",
                   .unit = "ratio",
                   .baseline = "tokens/s with all KV in the fast tier",
                   .bar = 0.8};
  set_ratio(against_a, rates(tiered), rates(all_fast));
  out.push_back(against_a);

  Figure equal{.name = "demo_tiers_tokens_equal",
               .value = w.same_tokens[tiered] ? 1.0 : 0.0,
               .unit = "boolean",
               .baseline = "tokens with all KV in the fast tier"};
  if (exact(report.settings)) equal.bar = 1.0;
  out.push_back(equal);
  out.push_back({.name = "demo_blocks_that_left_the_fast_tier",
                 .value = share(w.blocks_that_left, w.blocks),
                 .unit = "share",
                 .baseline = "all blocks",
                 .bar = 0.75});
  out.push_back({.name = "demo_prefill",
                 .value = w.prefill_flops / report.peak_flops,
                 .unit = "ratio",
                 .baseline = "multiply-adds on registers"});
  for (const Fidelity& fidelity : report.fidelity)
    add_divergences(out, fidelity);
  return out;
}

Status check(const Report& report) {
  const WorkloadResult& w = report.workload;
  if (!w.same_tokens[recompute]) {
    return Status(Code::internal, "(c) did not write the text of (a)");
  }
  if (exact(report.settings) && !w.same_tokens[tiered]) {
    return Status(Code::internal,
                  "(b) did not write the text of (a), though its codec is exact");
  }
  for (const ThinkingResult& r : report.thinking) {
    if (exact(report.settings) && !r.same_text) {
      return Status(Code::internal,
                    "speculation " + r.speculation + " changed what was written");
    }
  }
  for (const TierResult& tier : w.tiers) {
    if (!tier.bytes_agree) {
      return Status(Code::internal, "the store's byte counts of tier " + tier.name +
                                        " are not the device's");
    }
  }
  return {};
}

ProgressBar::~ProgressBar() {
  if (shown_ && drawn_ >= 0) std::fprintf(stderr, "\r%78s\r", "");
}

void ProgressBar::draw(double done, const char* what) {
  constexpr int kWidth = 40;
  const int permille = static_cast<int>(done * 1000);
  if (!shown_ || permille == drawn_) return;
  drawn_ = permille;
  const int filled = permille * kWidth / 1000;
  std::fprintf(stderr, "\r[%.*s%.*s] %3d %%  %-20s", filled,
               "########################################", kWidth - filled,
               "........................................", permille / 10, what);
  std::fflush(stderr);
}

}  // namespace speckv::demo

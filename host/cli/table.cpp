// The commands of speckvctl, in the order of the help.
#include "cli/command.hpp"

namespace speckv::cli {
namespace {

using Options = std::vector<Option>;

const Option kJson{"--json", "", "machine-readable output", &Arguments::json};

Option name_of(const char* what, const char* help, bool required = true) {
  return {what, what, help, &Arguments::name, required};
}

const Option kEngine = name_of("ENGINE",
                               "soft:, /dev/speckvN, fd:N (an open card that the shell "
                               "passes on) or pid:N (the card "
                               "that a process has open)");
const Option kWatched = name_of(
    "NAME",
    "/dev/speckvN, soft:, a shared store (shm:/kv), or the path or URI of a pool");
const Option kCount{"--count", "N", "how many times; for ever if not given",
                    &Arguments::count};
const Option kInterval{"--interval", "SECONDS", "time between two of them, 1",
                       &Arguments::interval};

Options operator+(Options left, Options right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Options range() {
  return {kEngine,
          {"--request", "N", "of the tokens; 0: a shared prefix", &Arguments::request},
          {"--layer", "N", "of the tokens, 0", &Arguments::layer, false, 0xFFFF},
          {"--head", "N", "of the tokens, 0", &Arguments::head, false, 0xFF},
          {"--position", "N", "of the first token, 0", &Arguments::position},
          {"--tokens", "N", "how many", &Arguments::tokens, true, 0xFFFF},
          kJson};
}

Option byte(const char* name, const char* help, std::uint64_t Arguments::*member) {
  return {name, "N", help, member, false, 0xFF};
}

std::vector<Command> make() {
  return {
      {"list",
       "the devices that this machine offers; whether io_uring may be used",
       {kJson},
       list},
      {"info",
       "opens a device and says what it is",
       {name_of("URI", "of the device"), kJson},
       info},
      {"health",
       "whether something is well: exit status 0 good, 3 degraded (it works, and has "
       "failed before), 4 failed",
       {kWatched, kJson},
       health},
      {"stats",
       "what it counts",
       {kWatched,
        kJson,
        {"--prom", "", "in the text format of Prometheus", &Arguments::prom},
        {"--watch", "SECONDS", "again and again, after so many seconds",
         &Arguments::watch},
        {"--output", "FILE", "into this file, which is always whole", &Arguments::output},
        kCount},
       stats},
      {"top",
       "what it counts by the second, on a screen",
       {kWatched, kInterval, kCount},
       top},
      {"monitor",
       "one line of JSON at every interval: its state, what it counts",
       {kWatched, kInterval, kCount},
       monitor},
      {"step",
       "tells the engine that decoding has come to a step",
       {kEngine, {"STEP", "STEP", "the step", &Arguments::step, true}, kJson},
       step},
      {"hot", "blocks of these tokens are used now, and often", range(), hot},
      {"evict", "blocks of these tokens are not wanted until they are used again",
       range() + Options{{"--forget", "", "they are gone", &Arguments::forget}}, evict},
      {"prefetch", "blocks of these tokens are wanted at a step",
       range() + Options{{"--step", "N", "the step", &Arguments::step, true}}, prefetch},
      {"share", "one reference more to blocks of these tokens: not to be evicted",
       range() + Options{{"--undo", "", "one less", &Arguments::undo}}, share},
      {"weights",
       "how blocks are scored: says it, or sets what is given, for its tenant",
       {kEngine, byte("--recency", "weight, 0 to 255", &Arguments::recency),
        byte("--frequency", "weight", &Arguments::frequency),
        byte("--proximity", "weight of the step that a block is due",
             &Arguments::proximity),
        byte("--durability", "weight of references", &Arguments::durability),
        byte("--evict", "threshold of candidates for eviction", &Arguments::evict),
        byte("--prefetch", "threshold of candidates for prefetching",
             &Arguments::prefetch),
        byte("--hysteresis", "of both thresholds", &Arguments::hysteresis), kJson},
       weights},
      {"telemetry",
       "what the engine knows about its tenant's blocks",
       {kEngine,
        {"--victims", "", "takes the candidates for eviction", &Arguments::victims},
        {"--prefetches", "", "takes the candidates for prefetching",
         &Arguments::prefetches},
        kJson},
       telemetry},
      {"selftest",
       "round trips through every codec on all kinds of device, or on one that is blank",
       {name_of("URI", "of the device", false), kJson},
       selftest},
      {"bench",
       "how fast a device moves bytes, next to a copy in memory",
       {name_of("URI", "of the device: one that keeps nothing"),
        {"--bytes", "SIZE", "of a transfer, 1M", &Arguments::bytes},
        {"--depth", "N", "transfers at a time, 8", &Arguments::depth, false, 4096},
        {"--seconds", "SECONDS", "of each measurement, 1", &Arguments::seconds},
        kJson},
       bench},
      {"config",
       "reads or sets what a card's driver is told by its operator",
       {{"ACTION", "ACTION", "get or set", &Arguments::action, true, 0, {"get", "set"}},
        name_of("CARD", "/dev/speckvN"),
        {"KEY", "KEY", "which of them; all if not given", &Arguments::key},
        {"VALUE", "VALUE", "what to set it to", &Arguments::value},
        kJson},
       config},
      {"reset",
       "resets a card: all work in flight fails, its memory keeps its bytes",
       {name_of("CARD", "/dev/speckvN")},
       reset},
      {"trace",
       "recorded requests: what is in them, in one form, and replayed on tiers",
       {{"ACTION",
         "ACTION",
         "record, info, convert, replay, oracle or compare",
         &Arguments::action,
         true,
         0,
         {"record", "info", "convert", "replay", "oracle", "compare"}},
        {"COMMAND", "COMMAND",
         "of record, after --: what to run; what its prefetchers are told is recorded",
         &Arguments::command},
        {"--trace", "FILE", "the recording, of all but record; -: the standard input",
         &Arguments::trace},
        {"--format", "NAME", "of the recording; told from its first line if not given",
         &Arguments::format},
        {"--block-tokens", "N", "tokens of a block, where the format leaves it open, 512",
         &Arguments::block_tokens},
        {"--window", "SECONDS",
         "within which sessions begin that have no common clock, 21600",
         &Arguments::window},
        {"--seed", "N", "of what is drawn, 7", &Arguments::seed},
        {"--part",
         "PART",
         "all sessions, 60 % to train with, or the other 40 % to test with",
         &Arguments::part,
         false,
         0,
         {"all", "train", "test"}},
        {"--share", "SHARE", "of the sessions, 1", &Arguments::share},
        {"--longest", "SECONDS", "what arrives later is left out", &Arguments::longest},
        {"--kv-bytes", "N", "bytes of KV that a token has, 131072", &Arguments::kv_bytes},
        {"--tiers", "FILE",
         "of replay and the others: the node, such as data/nodes/a.toml",
         &Arguments::tiers},
        {"--policy", "NAME",
         "of replay: lru, lfu, s3fifo, arc, semantic, on-schedule, retention, learned, "
         "hint-0.5, hint-2, hint-10, oracle-retention or oracle, live-retention, "
         "live-learned, live-hint-2, recorded-retention, recorded-learned or "
         "recorded-hints; lru if not given",
         &Arguments::policy},
        {"--warm-up", "SHARE", "of the time that is not measured, 0.2",
         &Arguments::warm_up},
        {"--others", "",
         "learn from the sessions that --share leaves out, too, of the time that is not "
         "measured",
         &Arguments::others},
        {"--count", "N", "of compare: so many seeds from --seed on, 1", &Arguments::count,
         false, 1000},
        {"--output", "FILE",
         "of record and convert: into this file; of compare: a page of HTML",
         &Arguments::output},
        kJson},
       trace},
      {"train",
       "fits the LSTM of which block comes next to 60 % of a recording's sessions, and "
       "says how often it and simpler predictors are right on the others",
       {{"--trace", "FILE", "the recording; -: the standard input", &Arguments::trace,
         true},
        {"--output", "FILE", "the weights go there (docs/lstm-format.md)",
         &Arguments::output, true},
        {"--format", "NAME", "of the recording; told from its first line if not given",
         &Arguments::format},
        {"--block-tokens", "N", "tokens of a block, where the format leaves it open, 512",
         &Arguments::block_tokens},
        {"--vocabulary", "N", "blocks that it knows at most, 2 to 32768, 4096",
         &Arguments::vocabulary, false, 32768},
        {"--count", "N", "batches at most, 400; it stops where nothing is gained",
         &Arguments::count, false, 1000000},
        {"--seed", "N", "of what is drawn, 7", &Arguments::seed},
        {"--share", "SHARE", "of the sessions, 1", &Arguments::share},
        kJson},
       train},
      {"generate",
       "writes what comes with this program, from the table of its commands",
       {{"WHAT",
         "WHAT",
         "man (the manual page) or bash (completion)",
         &Arguments::action,
         true,
         0,
         {"man", "bash"}}},
       generate},
  };
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> table = make();
  return table;
}

}  // namespace speckv::cli

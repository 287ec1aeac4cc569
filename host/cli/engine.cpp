// speckvctl step, hot, evict, prefetch, share, weights and telemetry: what an operator
// tells an engine, and asks it.
#include "cxlspeckv/engine.hpp"

#include <nlohmann/json.hpp>

#include "cli/command.hpp"

namespace speckv::cli {
namespace {

using Json = nlohmann::ordered_json;

int tell(const char* command, const Arguments& arguments, const Json& told) {
  if (arguments.json) {
    print_json(command, told);
  } else {
    print_lines(told);
  }
  return kDone;
}

int say_hint(const char* command, const Arguments& a, BlockHint hint,
             std::uint64_t due = 0) {
  auto engine = Engine::open(a.name);
  if (!engine.ok()) return fail(engine.error());
  TokenRange range;
  range.first.request = static_cast<std::uint32_t>(a.request);
  range.first.layer = static_cast<std::uint16_t>(a.layer);
  range.first.head = static_cast<std::uint8_t>(a.head);
  range.first.position = static_cast<std::uint32_t>(a.position);
  range.tokens = static_cast<std::uint32_t>(a.tokens);
  const auto blocks = (*engine)->hint(hint, range, static_cast<std::uint32_t>(due));
  if (!blocks.ok()) return fail(blocks.error());
  return tell(command, a, {{"name", a.name}, {"blocks", *blocks}});
}

Json describe(const ScoreWeights& w) {
  return {{"recency", w.recency},      {"frequency", w.frequency},
          {"proximity", w.step},       {"durability", w.durability},
          {"evict", w.evict},          {"prefetch", w.prefetch},
          {"hysteresis", w.hysteresis}};
}

Json describe(const std::vector<EngineCandidate>& candidates) {
  Json rows = Json::array();
  for (const EngineCandidate& c : candidates) {
    rows.push_back({{"request", c.block.request},
                    {"layer", c.block.layer},
                    {"head", c.block.head},
                    {"position", c.block.position},
                    {"score", c.score}});
  }
  return rows;
}

int show(const Arguments& a, const char* what,
         const Result<std::vector<EngineCandidate>>& candidates) {
  if (!candidates.ok()) return fail(candidates.error());
  const Json rows = describe(*candidates);
  if (a.json) {
    print_json("telemetry", {{"name", a.name}, {what, rows}});
    return kDone;
  }
  print(column("REQUEST", 12) + column("LAYER", 8) + column("HEAD", 8) +
        column("POSITION", 12) + "SCORE\n");
  for (const Json& row : rows) {
    print(column(row["request"].dump(), 12) + column(row["layer"].dump(), 8) +
          column(row["head"].dump(), 8) + column(row["position"].dump(), 12) +
          row["score"].dump() + "\n");
  }
  return kDone;
}

}  // namespace

int step(const Arguments& arguments) {
  auto engine = Engine::open(arguments.name);
  if (!engine.ok()) return fail(engine.error());
  const auto found = (*engine)->step(static_cast<std::uint32_t>(arguments.step));
  if (!found.ok()) return fail(found.error());
  return tell(
      "step", arguments,
      {{"name", arguments.name}, {"step", arguments.step}, {"candidates", *found}});
}

int hot(const Arguments& arguments) {
  return say_hint("hot", arguments, BlockHint::hot);
}

int evict(const Arguments& arguments) {
  return say_hint("evict", arguments,
                  arguments.forget ? BlockHint::forget : BlockHint::evictable);
}

int prefetch(const Arguments& arguments) {
  return say_hint("prefetch", arguments, BlockHint::prefetchable, arguments.step);
}

int share(const Arguments& arguments) {
  return say_hint("share", arguments,
                  arguments.undo ? BlockHint::unshare : BlockHint::share);
}

int weights(const Arguments& arguments) {
  auto engine = Engine::open(arguments.name);
  if (!engine.ok()) return fail(engine.error());
  const auto before = (*engine)->telemetry();
  if (!before.ok()) return fail(before.error());
  ScoreWeights wanted = before->weights;
  const auto set = [](std::uint64_t given, std::uint8_t& weight) {
    if (given != kNotGiven) weight = static_cast<std::uint8_t>(given);
  };
  set(arguments.recency, wanted.recency);
  set(arguments.frequency, wanted.frequency);
  set(arguments.proximity, wanted.step);
  set(arguments.durability, wanted.durability);
  set(arguments.evict, wanted.evict);
  set(arguments.prefetch, wanted.prefetch);
  set(arguments.hysteresis, wanted.hysteresis);
  if (wanted != before->weights) {
    if (Status done = (*engine)->set_weights(wanted); !done.ok()) return fail(done);
  }
  Json told = {{"name", arguments.name}};
  told.update(describe(wanted));
  return tell("weights", arguments, told);
}

int telemetry(const Arguments& arguments) {
  if (arguments.victims && arguments.prefetches) {
    return fail({Code::invalid_argument, "--victims or --prefetches, not both"});
  }
  auto engine = Engine::open(arguments.name);
  if (!engine.ok()) return fail(engine.error());
  if (arguments.victims) return show(arguments, "victims", (*engine)->victims());
  if (arguments.prefetches) return show(arguments, "prefetches", (*engine)->prefetches());
  const auto t = (*engine)->telemetry();
  if (!t.ok()) return fail(t.error());
  return tell("telemetry", arguments,
              {{"name", arguments.name},
               {"step", t->step},
               {"blocks", t->blocks},
               {"shared", t->shared},
               {"waiting_victims", t->waiting_victims},
               {"waiting_prefetches", t->waiting_prefetches},
               {"hits", t->hits},
               {"misses", t->misses},
               {"inserted", t->inserted},
               {"replaced", t->replaced},
               {"refused", t->refused},
               {"removed", t->removed},
               {"scans", t->scans},
               {"victims", t->victims},
               {"prefetches", t->prefetches},
               {"bytes_read", t->bytes_read},
               {"bytes_written", t->bytes_written},
               {"failures", t->failures}});
}

}  // namespace speckv::cli

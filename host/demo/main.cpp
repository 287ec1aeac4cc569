// cxlspeckv_demo -- a language model decodes text while its KV cache lives in tiers.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "demo/cache.hpp"
#include "demo/fidelity.hpp"
#include "demo/report.hpp"
#include "demo/tokenizer.hpp"
#include "demo/workload.hpp"

namespace speckv::demo {
namespace {

constexpr int kFailed = 1, kUsage = 2;

int say(int exit_code, const std::string& message) {
  std::fprintf(stderr, "cxlspeckv_demo: %s\n", message.c_str());
  return exit_code;
}

// The folder of the model's files: share/cxlspeckv of where the program is installed, or
// data of the source tree that it is built in; "" if neither is there.
std::string find_data(const std::string& wished) {
  namespace fs = std::filesystem;
  if (!wished.empty()) return wished;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  for (fs::path up = program.parent_path(); up != up.root_path(); up = up.parent_path()) {
    for (const fs::path& folder : {up / "share" / "cxlspeckv", up / "data"}) {
      if (fs::is_regular_file(folder / "kvlm12m_fp16.bin", error)) return folder.string();
    }
  }
  return {};
}

Result<std::string> read_text(const std::string& path) {
  constexpr std::uintmax_t kMost = 256U << 20;
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return Status(Code::not_found, "--text: cannot read " + path);
  if (size > kMost)
    return Status(Code::invalid_argument, "--text: " + path + " is larger than 256 MiB");
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// Declares the options. CLI11 checks numbers against their ranges.
void declare(CLI::App& app, Settings& settings, std::string& codec) {
  app.add_option("--tiers", settings.tiers,
                 "device URIs, fastest first; the first must be memory\n"
                 "(default: a quarter of the KV in dram:, all of it in a temporary file)")
      ->delimiter(',')
      ->type_name("URI,URI");
  app.add_option("--codec", codec, "codec of the tiers below the first (default: raw)")
      ->type_name("NAME");
  const auto number = [&](const char* name, std::uint32_t& value, const char* text,
                          std::uint32_t least, std::uint32_t most) {
    const std::string range = std::to_string(least) + " to " + std::to_string(most);
    app.add_option(name, value, text)
        ->check(CLI::Range(least, most, range))
        ->type_name("N")
        ->capture_default_str();
  };
  number("--sequences", settings.sequences, "how many take turns", 2, 4096);
  number("--context", settings.context, "tokens of text before the first turn", 128,
         65536);
  number("--turn", settings.turn, "tokens generated a turn", 2, 4096);
  number("--rounds", settings.rounds, "turns of every sequence", 1, 4096);
  number("--threads", settings.threads, "threads that compute", 1, 256);
  const CLI::Validator named(
      [](const std::string& name) { return std::string(name.empty() ? "no name" : ""); },
      "");
  app.add_option("--speculation", settings.speculation,
                 "compare these where users think between turns: off, retained, learned, "
                 "hinted")
      ->delimiter(',')
      ->check(CLI::IsMember({"off", "retained", "learned", "hinted"}))
      ->type_name("WAY,WAY");
  app.add_option("--recordings", settings.recordings,
                 "write there what each of these asked for, for speckvctl trace replay")
      ->check(CLI::ExistingDirectory)
      ->type_name("DIR");
  app.add_option("--text", settings.text, "text to read (default: the one shipped)")
      ->check(named)
      ->type_name("FILE");
  app.add_option("--model", settings.model, "folder of the model's files")
      ->check(named)
      ->type_name("DIR");
  app.add_option("--json", settings.json, "write the figures there")
      ->check(named)
      ->type_name("FILE");
  app.add_flag("--progress", settings.progress,
               "draw the progress bar even if nobody may look");
}

// The most floating-point operations a second that the team's threads can do.
double measure_peak(Team& team, const Kernels& kernels) {
  constexpr std::size_t kCount = 2'000'000, kOperations = 2 * 64 * 4;
  double best = 0;
  std::vector<float> sums(team.threads());
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    team.for_each(sums.size(),
                  [&](std::size_t n, unsigned) { sums[n] += kernels.burn(kCount); });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    const double operations = double{kCount * kOperations} * team.threads();
    best = std::max(best, operations / time.count());
  }
  return best;
}

// Tells what a store or device said. Where the user named the tiers, it was about those.
int say_about_tiers(const Settings& settings, const Status& status) {
  const bool theirs = !settings.tiers.empty() && status.code() != Code::io_error &&
                      status.code() != Code::internal;
  return say(theirs ? kUsage : kFailed, (theirs ? "--tiers: " : "") + status.message());
}

void introduce(const Settings& settings) {
  const auto mebibytes = [](std::uint64_t blocks) {
    return static_cast<double>(kv_layout().bytes() * blocks) / (1U << 20);
  };
  const std::uint64_t fast =
      settings.tiers.empty() ? settings.fast_blocks() : blocks_in(settings.fast_bytes);
  std::printf("%u sequences of %u tokens take turns of %u tokens: %.0f MiB of KV; ",
              settings.sequences, settings.context, settings.turn,
              mebibytes(settings.blocks()));
  std::printf("the fast tier holds %.0f MiB.\n%s; %u threads, %s.\n", mebibytes(fast),
              machine().c_str(), settings.threads, best_kernels().name);
  if (settings.longest() > ModelShape::trained_context) {
    std::printf(
        "The model was trained on at most %u tokens: what it writes beyond is weaker.\n",
        ModelShape::trained_context);
  }
}

int measure(const Settings& settings, Model& model, Team& team,
            const Tokenizer& tokenizer, const std::vector<std::uint32_t>& text) {
  introduce(settings);
  const double peak = measure_peak(team, model.kernels());
  Result<WorkloadResult> workload = Status(Code::internal, "did not run");
  Result<std::vector<Fidelity>> fidelity = Status(Code::internal, "did not run");
  Result<std::vector<ThinkingResult>> thinking = std::vector<ThinkingResult>();
  {
    ProgressBar bar(settings.progress || ::isatty(STDERR_FILENO) == 1);
    workload = run_workload(settings, model, text,
                            [&](double done) { bar.draw(done * 0.85, "taking turns"); });
    if (!workload) return say_about_tiers(settings, workload.error());
    const std::vector<const Codec*> codecs{find_codec("int8"), find_codec("kvq4")};
    fidelity = measure_fidelity(settings, codecs, model, text, [&](double done) {
      bar.draw(0.85 + done * 0.15, "comparing codecs");
    });
    if (!fidelity) return say(kFailed, fidelity.error().message());
    if (!settings.speculation.empty()) {
      thinking = run_thinking(settings, model, text,
                              [&](double done) { bar.draw(done, "users think"); });
    }
    if (!thinking) return say(kFailed, thinking.error().message());
  }
  const Report report{settings, *workload, *fidelity, peak, *thinking};
  std::printf("\n%s\n%s", sample_text(*workload, tokenizer).c_str(),
              table(report).c_str());
  if (!settings.json.empty()) {
    const Status written = write_figures(settings.json, figures(report));
    if (!written.ok()) return say(kFailed, written.message());
  }
  const Status sound = check(report);
  return sound.ok() ? 0 : say(kFailed, sound.message());
}

// Opens the tiers that the user named, before much else is done, to see what they hold.
Result<std::uint64_t> fast_bytes(const Settings& settings) {
  const auto cache = Cache::open({.tiers = settings.tiers, .codec = settings.codec});
  if (!cache) return cache.error();
  const std::uint64_t bytes = (*cache)->store().stats(0).capacity;
  if (blocks_in(bytes) >= settings.least_blocks()) return bytes;
  return Status(Code::invalid_argument,
                "the first holds " + std::to_string(blocks_in(bytes)) +
                    " blocks; a turn needs " + std::to_string(settings.least_blocks()) +
                    ", " + std::to_string(bytes_for(settings.least_blocks()) >> 20) +
                    " MiB");
}

int run(Settings settings) {
  if (!settings.tiers.empty()) {
    const auto bytes = fast_bytes(settings);
    if (!bytes) return say_about_tiers(settings, bytes.error());
    settings.fast_bytes = *bytes;
  }
  const std::string data = find_data(settings.model);
  if (data.empty())
    return say(kFailed, "the model's files are not here; name them: --model");
  const auto say_about_model = [&](const Status& status) {
    return settings.model.empty() ? say(kFailed, status.message())
                                  : say(kUsage, "--model: " + status.message());
  };
  const auto tokenizer = Tokenizer::open(data + "/merges.json", ModelShape::vocabulary);
  if (!tokenizer) return say_about_model(tokenizer.error());
  const auto text =
      read_text(settings.text.empty() ? data + "/northanger.txt" : settings.text);
  if (!text) return say(kUsage, text.error().message());
  const auto tokens = tokenizer->encode(*text);
  constexpr std::uint32_t kMore =
      2 * kBlockTokens;  // to read on in, and to start elsewhere
  if (tokens.size() < settings.context + kMore) {
    return say(kUsage, "--context: the text has " + std::to_string(tokens.size()) +
                           " tokens, and needs to have " +
                           std::to_string(settings.context + kMore));
  }
  Team team(settings.threads);
  auto model = Model::open(data + "/kvlm12m_fp16.bin", settings.longest() + kMore, team,
                           best_kernels());
  if (!model) return say_about_model(model.error());
  return measure(settings, *model, team, *tokenizer, tokens);
}

// What is wrong with the settings beyond what their ranges say; "" if nothing.
std::string find_fault(const Settings& settings, const std::string& codec) {
  if (settings.codec == nullptr) return "--codec: no codec has the name " + codec;
  if (!settings.codec->supports(kv_layout()))
    return "--codec: " + codec + " does not take halves";
  if (settings.longest() > 1U << 17)
    return "--rounds: sequences would pass 131072 tokens";
  if (settings.tiers.size() > kMaxTiers) return "--tiers: more than the store can have";
  if (!settings.speculation.empty() && !settings.tiers.empty())
    return "--speculation: has tiers of its own, and does not go with --tiers";
  if (!settings.recordings.empty() && settings.speculation.empty())
    return "--recordings: of --speculation, which was not asked for";
  if (!settings.json.empty() && !std::ofstream(settings.json, std::ios::app)) {
    return "--json: cannot write " + settings.json;
  }
  return {};
}

int start(int count, char** words) {
  CLI::App app(
      "A small language model decodes text while its KV cache lives in bounded tiers.");
  Settings settings;
  std::string codec = "raw";
  declare(app, settings, codec);
  try {
    app.parse(count, words);
  } catch (const CLI::Success& wish) {  // --help
    return app.exit(wish);
  } catch (const CLI::ParseError& error) {
    const std::string message = error.what();
    return say(kUsage, message.substr(0, message.find('\n')));
  }
  settings.codec = find_codec(codec);
  const std::string fault = find_fault(settings, codec);
  return fault.empty() ? run(settings) : say(kUsage, fault);
}

}  // namespace
}  // namespace speckv::demo

int main(int count, char** words) {
  try {
    return speckv::demo::start(count, words);
  } catch (const std::exception& error) {  // no memory left, say
    std::fprintf(stderr, "cxlspeckv_demo: %s\n", error.what());
    return speckv::demo::kFailed;
  }
}

// speckvctl train: the LSTM of which block comes next, from a recording.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/trace.hpp"
#include "predict/sequence_training.hpp"

namespace speckv::cli {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kLongest = 4096;  // blocks of a session that count,
constexpr std::size_t kMost = 200'000;  // and of all that are judged
constexpr std::uint32_t kBatches = 400;

// Each session's blocks in the order in which its requests ask for them.
std::vector<predict::Stream> streams_of(const trace::Trace& recording) {
  std::vector<predict::Stream> streams(recording.sessions);
  for (const trace::Request& request : recording.requests) {
    predict::Stream& stream = streams[request.session];
    const auto chain = recording.chain(request);
    const std::size_t room = kLongest - stream.size();
    stream.insert(stream.end(), chain.begin(),
                  chain.begin() + static_cast<std::ptrdiff_t>(
                                      std::min<std::size_t>(room, chain.size())));
  }
  return streams;
}

// As many sessions as there is time to judge.
std::vector<predict::Stream> first_of(std::vector<predict::Stream> streams) {
  std::size_t blocks = 0, count = 0;
  while (count < streams.size() && blocks < kMost)
    blocks += streams[count++].size();
  streams.resize(count);
  return streams;
}

Result<std::vector<predict::Stream>> part_of(const Arguments& arguments,
                                             const char* part) {
  Arguments some = arguments;
  some.part = part;
  auto recording = recorded(some, arguments.seed);
  if (!recording.ok())
    return Status(recording.error().code(),
                  std::string("to ") + part + ": " + recording.error().message());
  return streams_of(*recording);
}

void draw(std::uint32_t batch, std::uint64_t of, double loss) {
  std::fprintf(stderr, "\rbatch %u of at most %llu, %.3f nats a block ", batch,
               static_cast<unsigned long long>(of), loss);
}

// A file that takes the place of what is there once it is whole, and is gone otherwise.
class NewFile {
 public:
  explicit NewFile(std::string path)
      : path_(std::move(path)),
        part_(path_ + ".part"),
        file_(part_, std::ios::binary | std::ios::trunc) {}
  ~NewFile() {
    std::error_code error;
    std::filesystem::remove(part_, error);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  bool good() const { return file_.good(); }
  bool replace(const std::vector<std::byte>& bytes) {
    // NOLINTNEXTLINE(*-reinterpret-cast): how streams want bytes
    file_.write(reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
    file_.close();
    std::error_code error;
    if (file_.good()) std::filesystem::rename(part_, path_, error);
    return file_.good() && !error;
  }
  Status failure() const { return {Code::io_error, "cannot write " + path_}; }

 private:
  const std::string path_, part_;
  std::ofstream file_;
};

double rounded(double value) {
  return std::round(value * 1e4) / 1e4;
}

}  // namespace

int train(const Arguments& arguments) {
  // The file first, so that nothing is computed that could not be kept.
  NewFile file(arguments.output);
  if (!file.good()) return fail(file.failure());
  const auto learned = part_of(arguments, "train");
  if (!learned.ok()) return fail(learned.error());
  const auto held_out = part_of(arguments, "test");
  if (!held_out.ok()) return fail(held_out.error());
  const std::uint64_t batches = arguments.count == kNotGiven ? kBatches : arguments.count;
  predict::SequenceTraining how{
      .vocabulary = static_cast<std::uint32_t>(arguments.vocabulary),
      .batches = static_cast<std::uint32_t>(batches),
      .seed = arguments.seed};
  const bool watched = ::isatty(STDERR_FILENO) == 1;
  if (watched)
    how.progress = [&](std::uint32_t n, double loss) { draw(n, batches, loss); };
  const auto trained = predict::train_sequences(*learned, how);
  if (watched) std::fputc('\n', stderr);
  if (!trained.ok()) return fail(trained.error());
  const auto judged =
      predict::judge_sequences(trained->weights, *learned, first_of(*held_out));
  if (!judged.ok()) return fail(judged.error());
  const std::vector<std::byte> bytes = predict::write_weights(trained->weights);
  if (!file.replace(bytes)) return fail(file.failure());
  ordered_json told = {{"batches", trained->batches},
                       {"nats_a_block", rounded(trained->loss)},
                       {"vocabulary", trained->weights.shape.vocabulary},
                       {"bytes", bytes.size()},
                       {"judged_blocks", judged->symbols},
                       {"unknown_blocks", judged->unknown}};
  for (const predict::SequenceScore& score : judged->scores)
    told["right_" + std::string(score.name)] = rounded(score.share(judged->symbols));
  if (arguments.json) {
    print_json("train", told);
  } else {
    print_lines(told);
  }
  return kDone;
}

}  // namespace speckv::cli

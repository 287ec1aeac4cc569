// Runs a fuzz target without libFuzzer: every file of its corpus, then mutants of them.
//
//   fuzz_NAME CORPUS_FOLDER
//
// Each file has 200 mutants times SPECKV_TEST_SCALE, from a fixed seed, so that a failure
// comes back. A corpus without files fails: a target that was given nothing has shown
// nothing.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

Input read_input(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A heap copy of exactly that size, so that AddressSanitizer sees a read past the end.
void run(const Input& input) {
  std::vector<std::uint8_t> exact(input);
  exact.shrink_to_fit();
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  Input operator()(Input input) {
    for (auto rounds = 1 + below(4); rounds > 0; --rounds)
      change(input);
    return input;
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  void change(Input& input) {
    const auto byte = static_cast<std::uint8_t>(random_());
    const std::size_t at = below(input.size());
    const std::size_t run = 1 + below(std::min<std::size_t>(input.size() - at, 8));
    const auto here = input.begin() + static_cast<std::ptrdiff_t>(at);
    if (input.empty() || (random_() % 8 == 0 && input.size() < 65536)) {
      input.insert(here, byte);
      return;
    }
    switch (random_() % 6) {
      case 0:
        input[at] = byte;
        break;
      case 1:
        input[at] ^= static_cast<std::uint8_t>(1U << (byte & 7));
        break;
      case 2:
        std::fill_n(here, std::min(run, input.size() - at), byte & 1 ? 0xFF : 0);
        break;
      case 3:
        input.resize(at);
        break;  // truncated
      case 4:
        input.erase(here);
        break;
      default:
        std::swap(input[at], input[below(input.size())]);
        break;
    }
  }

  std::mt19937_64 random_;
};

std::size_t mutants_per_file() {
  const char* const scale = std::getenv("SPECKV_TEST_SCALE");
  const double factor = scale == nullptr ? 1 : std::strtod(scale, nullptr);
  return static_cast<std::size_t>(std::clamp(200 * factor, 20.0, 5000.0));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], error)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  if (files.empty()) {
    std::fprintf(stderr, "%s: no corpus files\n", argv[1]);
    return 1;
  }
  std::sort(files.begin(), files.end());

  const std::size_t mutants = mutants_per_file();
  std::uint64_t seed = 1;
  for (const auto& path : files) {
    const Input input = read_input(path);
    std::printf("%s (%zu bytes)\n", path.filename().c_str(), input.size());
    std::fflush(stdout);  // names the file that a crash belongs to
    run(input);
    Mutator mutate(seed++);
    for (std::size_t i = 0; i < mutants; ++i)
      run(mutate(input));
  }
  std::printf("%zu inputs and %zu mutants\n", files.size(), files.size() * mutants);
  return 0;
}

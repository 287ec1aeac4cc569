// Any weights file: refused with a sentence, or a network that runs, and is written as it
// was read. The first byte says what follows: a file as it is, or changes to a good one
// (of floats, of whole numbers), whose checksum is then made right: 4 bytes say where, 4
// what is there.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "predict/lstm.hpp"
#include "support/lstm_cases.hpp"

namespace {

using namespace speckv;
using namespace speckv::predict;

void require(bool holds) {
  if (!holds) std::abort();
}

std::vector<std::byte> good(bool floats) {
  test::Lcg lcg(1);
  const LstmWeights weights = test::random_lstm(
      {.inputs = 8, .vocabulary = 20, .shortlist = 8, .cluster = 5}, 0.2, lcg);
  return floats ? write_weights(weights) : write_weights(*quantise(weights));
}

std::vector<std::byte> changed(const std::vector<std::byte>& file, Bytes changes) {
  std::vector<std::byte> to = file;
  for (; changes.size() >= 8; changes = changes.subspan(8)) {
    // Most of a file is weights, which have few rules: half of the changes go to its
    // head.
    const auto where = load_le<std::uint32_t>(changes.data());
    const std::size_t room = where % 2 == 0 ? 200 : to.size() - 4;
    std::copy_n(changes.begin() + 4, 4,
                to.begin() + static_cast<std::ptrdiff_t>(where / 2 % (room - 4)));
  }
  const std::size_t body = to.size() - 4;
  store_le(to.data() + body, crc32c(0, Bytes(to).first(body)));
  return to;
}

void check(Bytes file) {
  const auto read = read_int8(file);
  if (!read.ok()) {
    const Code code = read.error().code();
    require(code == Code::corrupted || code == Code::unsupported ||
            code == Code::invalid_argument);
    require(!read.error().message().empty());
    return;
  }
  require(read->shape.validate().ok());
  const auto written = write_weights(*read);
  const auto floats = read_weights(file);
  require(floats.ok() ? std::ranges::equal(write_weights(*floats), file)
                      : std::ranges::equal(written, file));
  const Int8Lstm net(*read);
  Int8State state;
  const std::vector<std::int8_t> in(read->shape.inputs, 127);
  net.step(state, in);
  std::vector<std::uint32_t> p(read->shape.outputs());
  net.distribution(state, p);
  std::uint64_t sum = 0;
  for (const std::uint32_t one : p)
    sum += one;
  require(sum <= 65536);
  ClassAnswer best[8];
  if (read->shape.vocabulary != 0) {
    for (std::size_t i = 0; i < net.best(state, best); ++i)
      require(best[i].class_index < read->shape.vocabulary && best[i].class_index != 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<std::byte> floats = good(true), whole = good(false);
  if (size == 0) return 0;
  const Bytes rest = std::as_bytes(std::span(data, size)).subspan(1);
  if (data[0] % 4 == 0)
    check(rest);
  else
    check(changed(data[0] % 4 == 1 ? floats : whole, rest));
  return 0;
}

// The weights file (docs/lstm-format.md).
#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "predict/int8_arithmetic.hpp"
#include "predict/lstm_weights.hpp"

namespace speckv::predict {
namespace {

constexpr std::uint64_t kMagic = 0x4D54534C564B5053;  // "SPKVLSTM"
constexpr std::uint32_t kVersion = 1, kFloats = 0, kWhole = 1;
constexpr std::size_t kHeader = 64, kChecksum = 4;
constexpr float kLargest = 512;  // of a float; no trained network comes near

struct Header {
  std::uint32_t precision = kFloats;
  LstmShape shape;
};

std::uint64_t matrix_bytes(std::uint64_t rows, std::uint64_t columns,
                           std::uint32_t precision) {
  if (precision == kFloats) return 4 * rows * (columns + 1);
  return 4 + rows * (4 + 1 + columns);
}

// Of the whole file; the shape alone decides it.
std::uint64_t file_bytes(const Header& header) {
  const LstmShape& s = header.shape;
  std::uint64_t size = kHeader + kChecksum + std::uint64_t{4} * s.vocabulary;
  size += std::uint64_t{s.vocabulary} * s.inputs * (header.precision == kFloats ? 4 : 1);
  for (std::uint32_t l = 0; l < kLstmLayers; ++l)
    size += matrix_bytes(kGateRows, s.columns(l), header.precision);
  size += matrix_bytes(s.outputs(), kHidden, header.precision);
  if (header.precision == kFloats) return size + matrix_bytes(s.tail(), kHidden, kFloats);
  for (std::uint32_t c = 0; c < s.clusters(); ++c)
    size += matrix_bytes(std::min(s.cluster, s.tail() - c * s.cluster), kHidden, kWhole);
  return size;
}

class Writer {
 public:
  explicit Writer(const Header& header) : bytes_(file_bytes(header)) {
    const LstmShape& s = header.shape;
    put(kMagic);
    for (const std::uint32_t field : {kVersion, header.precision, s.inputs, kHidden,
                                      kLstmLayers, s.vocabulary, s.shortlist, s.cluster})
      put(field);
    at_ = kHeader;
  }
  template <class T>
  void put(T value) {
    store_le(bytes_.data() + at_, value);
    at_ += sizeof value;
  }
  void put(float value) { put(std::bit_cast<std::uint32_t>(value)); }
  template <class T>
  void put(const std::vector<T>& values) {
    for (const T value : values)
      put(value);
  }
  void put(const FloatMatrix& matrix) {
    put(matrix.bias);
    put(matrix.weight);
  }
  void put(const Int8Matrix& matrix) {
    put(matrix.shift);
    for (std::uint32_t r = 0; r < matrix.rows; ++r)
      put(matrix.bias[r]);
    for (std::uint32_t r = 0; r < matrix.rows; ++r)
      put(static_cast<std::uint8_t>(matrix.multiplier[r]));
    for (std::uint32_t r = 0; r < matrix.rows; ++r) {
      for (std::uint32_t c = 0; c < matrix.columns; ++c)
        put(matrix.at(r, c));
    }
  }
  std::vector<std::byte> finish() {
    put(crc32c(0, Bytes(bytes_).first(at_)));
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

// Reads what open_file() measured: it never runs over the end. A number that no writer
// writes is remembered, so that it is asked for once.
class Reader {
 public:
  explicit Reader(Bytes file) : file_(file) {}

  bool good() const { return good_; }
  void require(bool holds) { good_ = good_ && holds; }

  template <class T>
  T get() {
    const T value = load_le<T>(file_.data() + at_);
    at_ += sizeof(T);
    return value;
  }
  float number() {
    const auto value = std::bit_cast<float>(get<std::uint32_t>());
    require(std::abs(value) <= kLargest);  // nor a NaN
    return value;
  }
  std::int8_t byte() {
    const auto value = get<std::int8_t>();
    require(value != -128);
    return value;
  }
  void symbols(const LstmShape& shape, std::vector<std::uint32_t>& to) {
    to.reserve(shape.vocabulary);
    for (std::uint32_t i = 0; i < shape.vocabulary; ++i)
      to.push_back(get<std::uint32_t>());
    // Sorted, and not hashed: a file could choose such as make any hash slow.
    std::vector<std::uint32_t> known(to.begin() + (to.empty() ? 0 : kUnknown + 1),
                                     to.end());
    std::sort(known.begin(), known.end());
    require(std::adjacent_find(known.begin(), known.end()) == known.end());
  }
  void floats(std::vector<float>& to) {
    for (float& value : to)
      value = number();
  }
  void matrix(FloatMatrix& to) {
    floats(to.bias);
    floats(to.weight);
  }
  void matrix(Int8Matrix& to) {
    to.shift = get<std::uint32_t>();
    require(to.shift >= 1 && to.shift <= int8::kMostShift);
    for (std::uint32_t r = 0; r < to.rows; ++r) {
      to.bias[r] = get<std::int32_t>();
      require(to.bias[r] >= -int8::kMostBias && to.bias[r] <= int8::kMostBias);
    }
    for (std::uint32_t r = 0; r < to.rows; ++r) {
      to.multiplier[r] = get<std::uint8_t>();
      require(to.multiplier[r] != 0);
    }
    for (std::uint32_t r = 0; r < to.rows; ++r) {
      for (std::uint32_t c = 0; c < to.columns; ++c)
        to.set(r, c, byte());
    }
    if (good_) to.settle();
  }

 private:
  Bytes file_;
  std::size_t at_ = kHeader;
  bool good_ = true;
};

Status corrupted(const char* what) {
  return {Code::corrupted, what};
}

Status number_that_nobody_writes() {
  return corrupted("weights: a number that no writer writes");
}

Result<Header> open_file(Bytes file) {
  if (file.size() < kHeader + kChecksum) return corrupted("weights: cut off");
  if (load_le<std::uint64_t>(file.data()) != kMagic)
    return corrupted("weights: not a weights file");
  const auto field = [&](std::size_t i) {
    return load_le<std::uint32_t>(file.data() + 8 + 4 * i);
  };
  if (field(0) != kVersion) {
    return Status{Code::unsupported, "weights: version " + std::to_string(field(0)) +
                                         "; this library reads version 1"};
  }
  const std::size_t body = file.size() - kChecksum;
  if (crc32c(0, file.first(body)) != load_le<std::uint32_t>(file.data() + body))
    return corrupted("weights: wrong checksum");
  for (std::size_t i = 8; 8 + 4 * i < kHeader; ++i) {
    if (field(i) != 0) return corrupted("weights: a reserved field is not zero");
  }
  if (field(1) > kWhole) return corrupted("weights: no such kind of number");
  if (field(3) != kHidden || field(4) != kLstmLayers)
    return Status{Code::invalid_argument, "weights: not 2 layers of 128"};
  const Header header{field(1),
                      {.inputs = field(2),
                       .vocabulary = field(5),
                       .shortlist = field(6),
                       .cluster = field(7)}};
  if (Status valid = header.shape.validate(); !valid.ok()) return valid;
  if (file_bytes(header) != file.size()) return corrupted("weights: of another length");
  return header;
}

LstmWeights read_floats(const LstmShape& shape, Reader& reader) {
  LstmWeights to = LstmWeights::zero(shape);
  to.symbols.clear();
  reader.symbols(shape, to.symbols);
  reader.floats(to.embedding);
  for (FloatMatrix& layer : to.layers)
    reader.matrix(layer);
  reader.matrix(to.head);
  reader.matrix(to.tail);
  return to;
}

}  // namespace

std::vector<std::byte> write_weights(const LstmWeights& weights) {
  Writer writer({kFloats, weights.shape});
  writer.put(weights.symbols);
  writer.put(weights.embedding);
  for (const FloatMatrix& layer : weights.layers)
    writer.put(layer);
  writer.put(weights.head);
  writer.put(weights.tail);
  return writer.finish();
}

std::vector<std::byte> write_weights(const Int8Weights& weights) {
  Writer writer({kWhole, weights.shape});
  writer.put(weights.symbols);
  writer.put(weights.embedding);
  for (const Int8Matrix& layer : weights.layers)
    writer.put(layer);
  writer.put(weights.head);
  for (const Int8Matrix& cluster : weights.tail)
    writer.put(cluster);
  return writer.finish();
}

Result<LstmWeights> read_weights(Bytes file) {
  const Result<Header> header = open_file(file);
  if (!header.ok()) return header.error();
  if (header->precision != kFloats) {
    return Status{Code::invalid_argument,
                  "weights: whole numbers only; training needs a file of floats"};
  }
  Reader reader(file);
  LstmWeights weights = read_floats(header->shape, reader);
  if (!reader.good()) return number_that_nobody_writes();
  return weights;
}

Result<Int8Weights> read_int8(Bytes file) {
  const Result<Header> header = open_file(file);
  if (!header.ok()) return header.error();
  Reader reader(file);
  if (header->precision == kFloats) {
    const LstmWeights weights = read_floats(header->shape, reader);
    if (!reader.good()) return number_that_nobody_writes();
    return quantise(weights);
  }
  Int8Weights to;
  to.shape = header->shape;
  const LstmShape& s = to.shape;
  reader.symbols(s, to.symbols);
  to.embedding.resize(std::size_t{s.vocabulary} * s.inputs);
  for (std::int8_t& value : to.embedding)
    value = reader.byte();
  for (std::uint32_t l = 0; l < kLstmLayers; ++l)
    reader.matrix(to.layers[l] = Int8Matrix(kGateRows, s.columns(l)));
  reader.matrix(to.head = Int8Matrix(s.outputs(), kHidden));
  for (std::uint32_t c = 0; c < s.clusters(); ++c) {
    const std::uint32_t rows = std::min(s.cluster, s.tail() - c * s.cluster);
    reader.matrix(to.tail.emplace_back(rows, kHidden));
  }
  if (!reader.good()) return number_that_nobody_writes();
  return to;
}

}  // namespace speckv::predict

// int8_delta_rle, as published and corrected: the values of int8, the differences along a
// row taken modulo 256 so that none can overflow, and runs of equal differences as
// (value, count) pairs. A row that pairs would not make shorter holds its differences as
// they are.
//
// A layer: the length of every unit (u32), then the units; every part padded to 64 bytes.
// A unit: `tokens` scales, `tokens` row lengths (u16), the rows.
#include <cstring>

#include "base/endian.hpp"
#include "codec/bare_units.hpp"
#include "codec/kernels.hpp"

namespace speckv {
namespace {

constexpr std::uint32_t kMaxChannels = 4096;  // of a row, which is staged on the stack
constexpr unsigned kMaxRun = 255;

std::uint64_t directory_size(const BlockLayout& layout) noexcept {
  return padded(layer_units(layout) * sizeof(std::uint32_t));
}
// Scales and row lengths.
std::uint64_t unit_head(const BlockLayout& layout) noexcept {
  return std::uint64_t{layout.tokens} * 4;
}
std::uint64_t unit_bound(const BlockLayout& layout) noexcept {
  return padded(unit_head(layout) + std::uint64_t{layout.tokens} * layout.head_dim);
}

// Turns values into differences, in place.
void differences(std::uint8_t* row, std::size_t channels) noexcept {
  for (std::size_t i = channels; i-- > 1;) {
    row[i] = static_cast<std::uint8_t>(row[i] - row[i - 1]);
  }
}

void sums(std::uint8_t* row, std::size_t channels) noexcept {
  for (std::size_t i = 1; i < channels; ++i) {
    row[i] = static_cast<std::uint8_t>(row[i] + row[i - 1]);
  }
}

// Writes pairs while they stay shorter than the row; returns the bytes used, or
// `channels` with the differences themselves.
std::size_t write_row(const std::uint8_t* row, std::size_t channels,
                      std::byte* out) noexcept {
  std::size_t used = 0;
  for (std::size_t i = 0; i < channels;) {
    if (used + 2 >= channels) {
      std::memcpy(out, row, channels);
      return channels;
    }
    std::size_t end = i + 1;
    while (end < channels && end - i < kMaxRun && row[end] == row[i])
      ++end;
    out[used++] = std::byte{row[i]};
    out[used++] = static_cast<std::byte>(end - i);
    i = end;
  }
  return used;
}

// REQUIRES: in.size() <= channels.
bool read_row(Bytes in, std::size_t channels, std::uint8_t* row) noexcept {
  if (in.size() == channels) {
    std::memcpy(row, in.data(), channels);
    return true;
  }
  std::size_t done = 0;
  for (std::size_t i = 0; i + 1 < in.size(); i += 2) {
    const auto count = std::to_integer<std::size_t>(in[i + 1]);
    if (count == 0 || count > channels - done) return false;
    std::memset(row + done, std::to_integer<int>(in[i]), count);
    done += count;
  }
  return done == channels && in.size() % 2 == 0;
}

std::int8_t* as_values(std::uint8_t* row) noexcept {
  return reinterpret_cast<std::int8_t*>(row);
}

// Encodes one unit of rows; returns its bytes, or 0 if it holds what int8 cannot carry.
std::size_t write_unit(const BlockLayout& layout, const std::byte* plain,
                       std::uint64_t stride, std::byte* out) noexcept {
  std::uint8_t row[kMaxChannels];
  std::byte* lengths = out + std::size_t{layout.tokens} * 2;
  const CodecLoops& loops = codec_kernel().of(layout.dtype);
  std::size_t used = unit_head(layout);
  for (std::uint32_t t = 0; t < layout.tokens; ++t, plain += stride) {
    if (!loops.int8_encode(plain, layout.head_dim, out + 2 * t, as_values(row))) return 0;
    differences(row, layout.head_dim);
    const std::size_t length = write_row(row, layout.head_dim, out + used);
    store_le(lengths + 2 * t, static_cast<std::uint16_t>(length));
    used += length;
  }
  std::memset(out + used, 0, padded(used) - used);
  return padded(used);
}

bool read_unit(const BlockLayout& layout, Bytes unit, std::byte* plain,
               std::uint64_t stride) noexcept {
  const CodecLoops& loops = codec_kernel().of(layout.dtype);
  std::uint8_t row[kMaxChannels];
  if (unit.size() < unit_head(layout)) return false;
  const std::byte* lengths = unit.data() + std::size_t{layout.tokens} * 2;
  Bytes rest = unit.subspan(unit_head(layout));
  for (std::uint32_t t = 0; t < layout.tokens; ++t, plain += stride) {
    const std::size_t length = load_le<std::uint16_t>(lengths + 2 * t);
    if (length > layout.head_dim || length > rest.size()) return false;
    if (!read_row(rest.first(length), layout.head_dim, row)) return false;
    rest = rest.subspan(length);
    sums(row, layout.head_dim);
    if (!loops.int8_decode(unit.data() + 2 * t, as_values(row), layout.head_dim, plain,
                           false))
      return false;
  }
  return rest.size() < padded(1) && all_zero(rest);
}

class Int8DeltaRle final : public BareUnits {
 public:
  CodecId id() const noexcept override { return CodecId::int8_delta_rle; }
  std::string_view name() const noexcept override { return "int8_delta_rle"; }
  bool supports(const BlockLayout& layout) const noexcept override {
    return has_16_bit_rows(layout) && layout.head_dim <= kMaxChannels &&
           max_layer_bytes(layout) <= UINT32_MAX;
  }
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    return directory_size(layout) + layer_units(layout) * unit_bound(layout);
  }

  Result<std::size_t> encode(const LayerContext& context, Bytes plain,
                             MutableBytes out) const noexcept override {
    const BlockLayout& layout = context.layout;
    const std::uint64_t units = layer_units(layout);
    std::size_t used = directory_size(layout);
    std::memset(out.data(), 0, used);
    for (std::uint64_t u = 0; u < units; ++u) {
      const UnitRows rows = unit_rows(layout, u);
      const std::size_t bytes =
          write_unit(layout, plain.data() + rows.first, rows.stride, out.data() + used);
      if (bytes == 0) return Status{Code::unsupported, "not finite"};
      store_le(out.data() + 4 * u, static_cast<std::uint32_t>(bytes));
      used += bytes;
    }
    return used;
  }

  Code decode(const LayerContext& context, Bytes encoded,
              MutableBytes plain) const noexcept override {
    const BlockLayout& layout = context.layout;
    const std::uint64_t units = layer_units(layout);
    const std::uint64_t directory = directory_size(layout);
    if (!supports(layout) || encoded.size() < directory) return Code::corrupted;
    Bytes rest = encoded.subspan(directory);
    for (std::uint64_t u = 0; u < units; ++u) {
      const std::size_t bytes = load_le<std::uint32_t>(encoded.data() + 4 * u);
      if (bytes > rest.size()) return Code::corrupted;
      const UnitRows rows = unit_rows(layout, u);
      if (!read_unit(layout, rest.first(bytes), plain.data() + rows.first, rows.stride)) {
        return Code::corrupted;
      }
      rest = rest.subspan(bytes);
    }
    const Bytes padding = encoded.first(directory).subspan(4 * units);
    return rest.empty() && all_zero(padding) ? Code::ok : Code::corrupted;
  }

  std::uint64_t directory_bytes(const BlockLayout& layout) const noexcept override {
    return directory_size(layout);
  }
  Result<UnitSpan> bare_unit_at(const BlockLayout& layout, Bytes directory,
                                std::uint64_t unit) const noexcept override {
    const std::uint64_t most = unit_bound(layout);
    UnitSpan at{directory_size(layout), 0};
    for (std::uint64_t u = 0; u <= unit; ++u) {
      at.first += at.bytes;
      at.bytes = load_le<std::uint32_t>(directory.data() + 4 * u);
      if (at.bytes > most) return Status{Code::corrupted, "a unit is too long"};
    }
    return at;
  }
  Code decode_bare_unit(const LayerContext& context, std::uint64_t /*unit*/,
                        Bytes encoded, const UnitTarget& to) const noexcept override {
    return read_unit(context.layout, encoded, to.rows.data(), to.stride)
               ? Code::ok
               : Code::corrupted;
  }
};

}  // namespace

const Codec& int8_delta_rle_codec() noexcept {
  static const Int8DeltaRle codec;
  return codec;
}

}  // namespace speckv

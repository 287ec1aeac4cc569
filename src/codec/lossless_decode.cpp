// Decoding a unit of `lossless`: planes strip by strip, put together where they end up.
// Token t belongs to stream t mod 4 of a coded plane, so that four rows are decoded side
// by side.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/endian.hpp"
#include "codec/kernels.hpp"
#include "codec/lossless.hpp"
#include "codec/lossless_loops.hpp"
#include "codec/prefix_code.hpp"

namespace speckv::lossless {
namespace {

// One plane of a unit, and how far it has been read.
struct Plane {
  Mode mode = Mode::raw;
  const std::byte* raw = nullptr;
  DecodeTable table;
  InStream in[kStreams];
};

bool open_coded(Bytes part, Plane& plane) noexcept {
  if (part.size() < kPartHead) return false;
  std::array<std::uint8_t, kSymbols> lengths;
  for (std::uint32_t s = 0; s < kSymbols; s += 2) {
    const auto pair = std::to_integer<std::uint8_t>(part[s / 2]);
    lengths[s] = pair & 15;
    lengths[s + 1] = static_cast<std::uint8_t>(pair >> 4);
  }
  if (!prefix::fill_table(lengths, kMost, plane.table)) return false;
  Bytes rest = part.subspan(kPartHead);
  for (std::uint32_t i = 0; i < kStreams; ++i) {
    const auto bytes = load_le<std::uint32_t>(part.data() + kLengthsBytes + 4 * i);
    if (bytes > rest.size()) return false;
    plane.in[i] = {rest.data(), bytes, 0};
    rest = rest.subspan(bytes);
  }
  return rest.empty();
}

// n symbols of each of the first `streams` streams.
void read_strip(const LosslessLoops& loops, std::span<const Source> sources,
                std::uint32_t streams, std::uint32_t n) noexcept {
  if (streams == kStreams) {
    std::size_t s = 0;
    for (; s + 2 <= sources.size(); s += 2)
      loops.read_two(sources[s], sources[s + 1], n);
    if (s < sources.size()) loops.read(sources[s], n);
    return;
  }
  for (const Source& source : sources) {
    for (std::uint32_t i = 0; i < streams; ++i) {
      for (std::uint32_t c = 0; c < n; ++c)
        source.to[i][c] = read_one(*source.table, source.in[i]);
    }
  }
}

class UnitReader {
 public:
  // Finds the planes' parts, checks all that can be checked before.
  bool open(const Rows& rows, const Unit& unit) noexcept {
    rows_ = &rows;
    plain_ = unit.plain;
    const std::uint64_t head = rows.width * kPlaneBytes;
    if (unit.encoded.size() < head) return false;
    Bytes rest = unit.encoded.subspan(head);
    for (std::uint32_t p = 0; p < rows.width; ++p) {
      const std::byte* const at = unit.encoded.data() + p * kPlaneBytes;
      const auto bytes = load_le<std::uint32_t>(at + 4);
      if (load_le<std::uint16_t>(at + 2) != 0 || bytes > rest.size() ||
          !open_plane(p, std::to_integer<std::uint8_t>(at[0]),
                      std::to_integer<std::uint8_t>(at[1]), rest.first(bytes)))
        return false;
      rest = rest.subspan(bytes);
    }
    return rest.size() < padded(1) && all_zero(rest);
  }

  // The coded planes. Returns how many they are.
  std::size_t sources(Source* to) noexcept {
    std::size_t coded = 0;
    for (std::uint32_t p = 0; p < rows_->width; ++p) {
      if (planes_[p].mode == Mode::coded)
        to[coded++] = {&planes_[p].table, planes_[p].in, symbols_[p]};
    }
    return coded;
  }

  // Channels [c, c + n) of `streams` rows from t on, of whose coded planes the symbols
  // are there.
  void merge(const LosslessLoops& loops, std::uint32_t t, std::uint32_t streams,
             std::uint32_t c, std::uint32_t n) const noexcept {
    const std::uint32_t width = rows_->width;
    for (std::uint32_t i = 0; i < streams; ++i) {
      const std::uint8_t* from[kMostWidth];
      for (std::uint32_t p = 0; p < width; ++p) {
        const std::uint64_t at = std::uint64_t{t + i} * rows_->channels + c;
        from[p] = planes_[p].mode == Mode::raw
                      ? reinterpret_cast<const std::uint8_t*>(planes_[p].raw + at)
                      : symbols_[p][i];
      }
      loops.merge[width / 2](from, n, plain_ + (t + i) * rows_->stride + width * c);
    }
  }

  bool at_end() const noexcept {
    return std::all_of(planes_, planes_ + rows_->width, [](const Plane& plane) {
      return plane.mode != Mode::coded ||
             std::all_of(plane.in, plane.in + kStreams,
                         [](const InStream& in) { return in.at_end(); });
    });
  }

 private:
  bool open_plane(std::uint32_t p, std::uint8_t mode, std::uint8_t symbol,
                  Bytes part) noexcept {
    Plane& plane = planes_[p];
    plane.mode = Mode{mode};
    switch (plane.mode) {
      case Mode::raw:
        plane.raw = part.data();
        return symbol == 0 &&
               part.size() == std::uint64_t{rows_->tokens} * rows_->channels;
      case Mode::constant:
        std::memset(symbols_[p], symbol, sizeof symbols_[p]);
        return part.empty();
      case Mode::coded:
        return symbol == 0 && open_coded(part, plane);
    }
    return false;
  }

  const Rows* rows_ = nullptr;
  std::byte* plain_ = nullptr;
  Plane planes_[kMostWidth];
  alignas(64) std::uint8_t symbols_[kMostWidth][kStreams][kStrip];
};

}  // namespace

bool decode_units(const Rows& rows, std::span<const Unit> units) noexcept {
  const LosslessLoops& loops = *codec_kernel().lossless;
  UnitReader readers[kMostUnits];
  Source sources[kMostUnits * kMostWidth];
  std::size_t coded = 0;
  for (std::size_t u = 0; u < units.size(); ++u) {
    if (!readers[u].open(rows, units[u])) return false;
    coded += readers[u].sources(sources + coded);
  }
  for (std::uint32_t t = 0; t < rows.tokens; t += kStreams) {
    for (std::uint32_t c = 0; c < rows.channels; c += kStrip) {
      const std::uint32_t n = std::min(kStrip, rows.channels - c);
      const std::uint32_t streams = std::min(kStreams, rows.tokens - t);
      read_strip(loops, std::span(sources).first(coded), streams, n);
      for (std::size_t u = 0; u < units.size(); ++u)
        readers[u].merge(loops, t, streams, c, n);
    }
  }
  return std::all_of(readers, readers + units.size(),
                     [](const UnitReader& reader) { return reader.at_end(); });
}

}  // namespace speckv::lossless

// The planes of one unit. Token t belongs to stream t mod 4 of a coded plane, so that
// four rows are decoded side by side.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/endian.hpp"
#include "codec/lossless.hpp"
#include "codec/prefix_code.hpp"

namespace speckv::lossless {
namespace {

using prefix::BitReader;
using prefix::BitWriter;
using prefix::Code;

constexpr std::uint32_t kStreams = 4, kSymbols = 256;
constexpr int kMost = 11;  // bits of a code
constexpr std::uint64_t kPlaneBytes = 8, kLengthsBytes = kSymbols / 2,
                        kPartHead = kLengthsBytes + kStreams * 4;

enum class Mode : std::uint8_t { raw, constant, coded };

// Which bits of a rotated value belong to plane `plane`; the first is the highest.
template <class W>
constexpr int shift_of(std::uint32_t plane) noexcept {
  return static_cast<int>(8 * (sizeof(W) - 1 - plane));
}

using Counts = std::array<std::array<std::uint32_t, kSymbols>, kStreams>;

// ---- Encoding ------------------------------------------------------------------------

template <class W>
class Encoder {
 public:
  Encoder(const Rows& rows, const std::byte* plain, MutableBytes out) noexcept
      : rows_(rows), plain_(plain), out_(out) {}

  std::uint64_t run() noexcept {
    at_ = sizeof(W) * kPlaneBytes;
    for (std::uint32_t plane = 0; plane < sizeof(W); ++plane) {
      const std::uint64_t first = at_;
      const Mode mode = write_plane(plane);
      std::byte* const head = out_.data() + plane * kPlaneBytes;
      const std::uint32_t symbol =
          mode == Mode::constant ? symbol_at(plain_, 0, plane) : 0;
      store_le(head, static_cast<std::uint16_t>(static_cast<std::uint32_t>(mode) |
                                                symbol << 8));
      store_le(head + 2, std::uint16_t{0});
      store_le(head + 4, static_cast<std::uint32_t>(at_ - first));
    }
    const std::uint64_t end = padded(at_);
    std::memset(out_.data() + at_, 0, end - at_);
    return end;
  }

 private:
  const std::byte* row(std::uint32_t token) const noexcept {
    return plain_ + token * rows_.stride;
  }
  static std::uint8_t symbol_at(const std::byte* row, std::uint32_t c,
                                std::uint32_t plane) noexcept {
    const W value = std::rotl(load_le<W>(row + sizeof(W) * c), 1);
    return static_cast<std::uint8_t>(value >> shift_of<W>(plane));
  }

  void count(std::uint32_t plane, Counts& counts) const noexcept {
    for (std::uint32_t t = 0; t < rows_.tokens; ++t) {
      auto& of = counts[t % kStreams];
      for (std::uint32_t c = 0; c < rows_.channels; ++c)
        ++of[symbol_at(row(t), c, plane)];
    }
  }

  Mode write_plane(std::uint32_t plane) noexcept {
    Counts counts{};
    count(plane, counts);
    std::array<std::uint32_t, kSymbols> all{};
    for (const auto& of : counts) {
      for (std::uint32_t s = 0; s < kSymbols; ++s)
        all[s] += of[s];
    }
    const auto symbols = kSymbols - std::count(all.begin(), all.end(), 0U);
    if (symbols == 1) return Mode::constant;
    std::array<std::uint8_t, kSymbols> lengths;
    prefix::code_lengths(all, kMost, lengths);
    std::array<std::uint64_t, kStreams> bytes{};
    std::uint64_t total = kPartHead;
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      for (std::uint32_t s = 0; s < kSymbols; ++s)
        bytes[i] += std::uint64_t{counts[i][s]} * lengths[s];
      bytes[i] = (bytes[i] + 7) / 8;
      total += bytes[i];
    }
    if (total >= std::uint64_t{rows_.tokens} * rows_.channels) {
      write_raw(plane);
      return Mode::raw;
    }
    write_coded(plane, lengths, bytes);
    return Mode::coded;
  }

  void write_raw(std::uint32_t plane) noexcept {
    for (std::uint32_t t = 0; t < rows_.tokens; ++t) {
      for (std::uint32_t c = 0; c < rows_.channels; ++c)
        out_[at_ + c] = std::byte{symbol_at(row(t), c, plane)};
      at_ += rows_.channels;
    }
  }

  void write_coded(std::uint32_t plane, std::span<const std::uint8_t> lengths,
                   std::span<const std::uint64_t> bytes) noexcept {
    std::array<Code, kSymbols> codes;
    prefix::assign_codes(lengths, kMost, codes);
    for (std::uint32_t s = 0; s < kSymbols; s += 2)
      out_[at_ + s / 2] = static_cast<std::byte>(lengths[s] | lengths[s + 1] << 4);
    for (std::uint32_t i = 0; i < kStreams; ++i)
      store_le(out_.data() + at_ + kLengthsBytes + 4 * i,
               static_cast<std::uint32_t>(bytes[i]));
    at_ += kPartHead;
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      BitWriter writer(out_.subspan(at_, bytes[i]));
      for (std::uint32_t t = i; t < rows_.tokens; t += kStreams) {
        for (std::uint32_t c = 0; c < rows_.channels; ++c)
          writer.put(codes[symbol_at(row(t), c, plane)]);
      }
      writer.finish();
      at_ += bytes[i];
    }
  }

  const Rows& rows_;
  const std::byte* plain_;
  MutableBytes out_;
  std::uint64_t at_ = 0;
};

// ---- Decoding ------------------------------------------------------------------------

// Planes are put together in the plain rows: each of a value's bytes where it belongs in
// the rotated value, and at the end the rotation is taken back.
template <class W>
class Decoder {
 public:
  Decoder(const Rows& rows, Bytes unit, std::byte* plain) noexcept
      : rows_(rows), unit_(unit), plain_(plain) {}

  bool run() noexcept {
    constexpr std::uint64_t kHead = sizeof(W) * kPlaneBytes;
    if (unit_.size() < kHead) return false;
    Bytes rest = unit_.subspan(kHead);
    for (std::uint32_t plane = 0; plane < sizeof(W); ++plane) {
      const std::byte* const head = unit_.data() + plane * kPlaneBytes;
      const auto bytes = load_le<std::uint32_t>(head + 4);
      if (load_le<std::uint16_t>(head + 2) != 0 || bytes > rest.size()) return false;
      const auto symbol = std::to_integer<std::uint8_t>(head[1]);
      if (!read_plane(plane, std::to_integer<std::uint8_t>(head[0]), symbol,
                      rest.first(bytes)))
        return false;
      rest = rest.subspan(bytes);
    }
    rotate_back();
    return rest.size() < padded(1) && all_zero(rest);
  }

 private:
  std::byte* row(std::uint32_t token) const noexcept {
    return plain_ + token * rows_.stride;
  }

  bool read_plane(std::uint32_t plane, std::uint8_t mode, std::uint8_t symbol,
                  Bytes part) noexcept {
    switch (Mode{mode}) {
      case Mode::raw:
        if (symbol != 0 || part.size() != std::uint64_t{rows_.tokens} * rows_.channels)
          return false;
        for (std::uint32_t t = 0; t < rows_.tokens; ++t)
          lay(row(t), part.data() + std::uint64_t{t} * rows_.channels, plane);
        return true;
      case Mode::constant:
        for (std::uint32_t t = 0; t < rows_.tokens; ++t) {
          for (std::uint32_t c = 0; c < rows_.channels; ++c)
            place_of(row(t), plane)[sizeof(W) * c] = std::byte{symbol};
        }
        return part.empty();
      case Mode::coded:
        return symbol == 0 && read_coded(plane, part);
    }
    return false;
  }

  // The plane's byte of a row's first value.
  static std::byte* place_of(std::byte* row, std::uint32_t plane) noexcept {
    return row + shift_of<W>(plane) / 8;
  }

  // A row of a raw plane.
  void lay(std::byte* row, const std::byte* from, std::uint32_t plane) const noexcept {
    const int shift = shift_of<W>(plane);
    const auto others = static_cast<W>(~(W{0xFF} << shift));
    for (std::uint32_t c = 0; c < rows_.channels; ++c) {
      const W now = load_le<W>(row + sizeof(W) * c);
      const auto symbol = std::to_integer<W>(from[c]);
      store_le(row + sizeof(W) * c, static_cast<W>((now & others) | symbol << shift));
    }
  }

  void rotate_back() noexcept {
    for (std::uint32_t t = 0; t < rows_.tokens; ++t) {
      std::byte* const at = row(t);
      for (std::uint32_t c = 0; c < rows_.channels; ++c)
        store_le(at + sizeof(W) * c, std::rotr(load_le<W>(at + sizeof(W) * c), 1));
    }
  }

  using Table = std::array<std::uint16_t, 1U << kMost>;

  // The next symbol of a stream that holds a code's bits.
  static void take(const Table& table, BitReader& in, std::byte* to) noexcept {
    const std::uint16_t entry = table[in.peek() & (table.size() - 1)];
    *to = static_cast<std::byte>(entry);
    in.skip(entry >> 8);
  }

  static constexpr std::uint32_t kPerRefill = 5;  // codes in 56 bits

  void read_row(const Table& table, BitReader& in, std::byte* to) const noexcept {
    for (std::uint32_t c = 0; c < rows_.channels; ++c, to += sizeof(W)) {
      in.refill();
      take(table, in, to);
    }
  }

  // Rows t to t + 3, one of each stream.
  void read_four(const Table& table, std::array<BitReader, kStreams>& in, std::uint32_t t,
                 std::uint32_t plane) const noexcept {
    BitReader a = in[0], b = in[1], c = in[2], d = in[3];
    std::byte* to[kStreams];
    for (std::uint32_t i = 0; i < kStreams; ++i)
      to[i] = place_of(row(t + i), plane);
    std::uint64_t at = 0;
    const auto step = [&] {
      take(table, a, to[0] + at);
      take(table, b, to[1] + at);
      take(table, c, to[2] + at);
      take(table, d, to[3] + at);
      at += sizeof(W);
    };
    const auto refill = [&] {
      a.refill();
      b.refill();
      c.refill();
      d.refill();
    };
    for (std::uint32_t n = rows_.channels / kPerRefill; n > 0; --n) {
      refill();
      for (std::uint32_t i = 0; i < kPerRefill; ++i)
        step();
    }
    refill();
    for (std::uint32_t n = rows_.channels % kPerRefill; n > 0; --n)
      step();
    in = {a, b, c, d};
  }

  bool read_coded(std::uint32_t plane, Bytes part) noexcept {
    if (part.size() < kPartHead) return false;
    std::array<std::uint8_t, kSymbols> lengths;
    for (std::uint32_t s = 0; s < kSymbols; s += 2) {
      const auto pair = std::to_integer<std::uint8_t>(part[s / 2]);
      lengths[s] = pair & 15;
      lengths[s + 1] = static_cast<std::uint8_t>(pair >> 4);
    }
    std::array<Code, kSymbols> codes;
    if (!prefix::assign_codes(lengths, kMost, codes)) return false;
    Table table;
    prefix::fill_table(codes, table);

    std::array<Bytes, kStreams> streams;
    Bytes rest = part.subspan(kPartHead);
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      const auto bytes = load_le<std::uint32_t>(part.data() + kLengthsBytes + 4 * i);
      if (bytes > rest.size()) return false;
      streams[i] = rest.first(bytes);
      rest = rest.subspan(bytes);
    }
    std::array<BitReader, kStreams> in{BitReader(streams[0]), BitReader(streams[1]),
                                       BitReader(streams[2]), BitReader(streams[3])};
    std::uint32_t t = 0;
    for (; t + kStreams <= rows_.tokens; t += kStreams)
      read_four(table, in, t, plane);
    for (; t < rows_.tokens; ++t)
      read_row(table, in[t % kStreams], place_of(row(t), plane));
    return rest.empty() && std::all_of(in.begin(), in.end(),
                                       [](const BitReader& r) { return r.at_end(); });
  }

  const Rows& rows_;
  Bytes unit_;
  std::byte* plain_;
};

}  // namespace

std::uint64_t unit_bound(const Rows& rows) noexcept {
  return padded(rows.width * (kPlaneBytes + std::uint64_t{rows.tokens} * rows.channels));
}

std::uint64_t encode_unit(const Rows& rows, const std::byte* plain,
                          MutableBytes out) noexcept {
  switch (rows.width) {
    case 1:
      return Encoder<std::uint8_t>(rows, plain, out).run();
    case 2:
      return Encoder<std::uint16_t>(rows, plain, out).run();
    default:
      return Encoder<std::uint32_t>(rows, plain, out).run();
  }
}

bool decode_unit(const Rows& rows, Bytes unit, std::byte* plain) noexcept {
  switch (rows.width) {
    case 1:
      return Decoder<std::uint8_t>(rows, unit, plain).run();
    case 2:
      return Decoder<std::uint16_t>(rows, unit, plain).run();
    default:
      return Decoder<std::uint32_t>(rows, unit, plain).run();
  }
}

}  // namespace speckv::lossless

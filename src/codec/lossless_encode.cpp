// Encoding a unit of `lossless`: one pass that counts, and one for each plane.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/endian.hpp"
#include "codec/kernels.hpp"
#include "codec/lossless.hpp"
#include "codec/lossless_loops.hpp"
#include "codec/prefix_code.hpp"

namespace speckv::lossless {
namespace {

using Counts = std::array<std::uint32_t, kSymbols>;

// Not less than log2(n), by at most 0.02.
double most_log2(std::uint64_t n) noexcept {
  const double m = static_cast<double>(n) / static_cast<double>(std::bit_floor(n)) - 1;
  return static_cast<double>(std::bit_width(n)) - 1 + m * (1 + 0.3444 * (1 - m)) + 0.01;
}

// Whether no prefix code can bring these symbols below a byte each: by their entropy.
// That spares noise the search for the best code.
bool is_noise(const Counts& counts, std::uint64_t total) noexcept {
  double bits = static_cast<double>(total) * (most_log2(total) - 0.02);
  for (const std::uint32_t count : counts) {
    if (count != 0) bits -= count * most_log2(count);
  }
  return bits > 8 * (static_cast<double>(total) - static_cast<double>(kPartHead) + 1);
}

class Encoder {
 public:
  // NOLINTNEXTLINE(clang-analyzer-optin.*): the scratch rows are filled before use
  Encoder(const Rows& rows, const std::byte* plain, MutableBytes out) noexcept
      : rows_(rows), plain_(plain), out_(out), loops_(*codec_kernel().lossless) {}

  std::uint64_t run() noexcept {
    count();
    at_ = rows_.width * kPlaneBytes;
    for (std::uint32_t p = 0; p < rows_.width; ++p) {
      const std::uint64_t first = at_;
      const Mode mode = write_plane(p);
      std::byte* const head = out_.data() + p * kPlaneBytes;
      const std::uint32_t symbol = mode == Mode::constant ? symbols_[p][0][0] : 0;
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
  // Calls work(t, rows, c, n) for channels [c, c + n) of `rows` rows from t on, whose
  // planes are then in symbols_.
  template <class Work>
  void for_strips(Work&& work) noexcept {
    for (std::uint32_t t = 0; t < rows_.tokens; t += kStreams) {
      const std::uint32_t rows = std::min(kStreams, rows_.tokens - t);
      for (std::uint32_t c = 0; c < rows_.channels; c += kStrip) {
        const std::uint32_t n = std::min(kStrip, rows_.channels - c);
        for (std::uint32_t i = 0; i < rows; ++i) {
          std::uint8_t* to[kMostWidth];
          for (std::uint32_t p = 0; p < rows_.width; ++p)
            to[p] = symbols_[p][i];
          loops_.split[rows_.width / 2](plain_ + (t + i) * rows_.stride + rows_.width * c,
                                        n, to);
        }
        work(t, rows, c, n);
      }
    }
  }

  // Streams have counts of their own, so that a symbol that comes again does not wait
  // for its last count; a channel and its neighbour, for the same reason.
  void count() noexcept {
    for (std::uint32_t p = 0; p < rows_.width; ++p) {
      for (Counts& of : counts_[p])
        of.fill(0);
    }
    for_strips([&](std::uint32_t, std::uint32_t rows, std::uint32_t, std::uint32_t n) {
      for (std::uint32_t p = 0; p < rows_.width; ++p) {
        auto& of = counts_[p];
        const auto& from = symbols_[p];
        if (rows == kStreams) {
          for (std::uint32_t c = 0; c < n; ++c) {
            ++of[0][from[0][c]];
            ++of[1][from[1][c]];
            ++of[2][from[2][c]];
            ++of[3][from[3][c]];
          }
          continue;
        }
        for (std::uint32_t i = 0; i < rows; ++i) {
          for (std::uint32_t c = 0; c < n; ++c)
            ++of[i][from[i][c]];
        }
      }
    });
  }

  Mode write_plane(std::uint32_t p) noexcept {
    const std::uint64_t values = std::uint64_t{rows_.tokens} * rows_.channels;
    Counts all{};
    std::uint32_t symbols = 0;
    for (std::uint32_t s = 0; s < kSymbols; ++s) {
      for (const Counts& of : counts_[p])
        all[s] += of[s];
      symbols += all[s] != 0 ? 1U : 0U;
    }
    if (symbols == 1) return Mode::constant;
    if (!is_noise(all, values)) {
      std::array<std::uint8_t, kSymbols> lengths;
      prefix::code_lengths(all, kMost, lengths);
      std::array<std::uint64_t, kStreams> bytes{};
      std::uint64_t total = kPartHead;
      for (std::uint32_t i = 0; i < kStreams; ++i) {
        for (std::uint32_t s = 0; s < kSymbols; ++s)
          bytes[i] += std::uint64_t{counts_[p][i][s]} * lengths[s];
        bytes[i] = (bytes[i] + 7) / 8;
        total += bytes[i];
      }
      if (total < values) {
        write_coded(p, lengths, bytes);
        return Mode::coded;
      }
    }
    write_raw(p);
    return Mode::raw;
  }

  void write_raw(std::uint32_t p) noexcept {
    std::byte* const to = out_.data() + at_;
    for_strips([&](std::uint32_t t, std::uint32_t rows, std::uint32_t c,
                   std::uint32_t n) {
      for (std::uint32_t i = 0; i < rows; ++i)
        std::memcpy(to + std::uint64_t{t + i} * rows_.channels + c, symbols_[p][i], n);
    });
    at_ += std::uint64_t{rows_.tokens} * rows_.channels;
  }

  void write_coded(std::uint32_t p, std::span<const std::uint8_t> lengths,
                   std::span<const std::uint64_t> bytes) noexcept {
    std::array<prefix::Code, kSymbols> codes;
    prefix::assign_codes(lengths, kMost, codes);
    EncodeTable table;
    for (std::uint32_t s = 0; s < kSymbols; ++s)
      table[s] = entry_of(codes[s].bits, codes[s].length);
    for (std::uint32_t s = 0; s < kSymbols; s += 2)
      out_[at_ + s / 2] = static_cast<std::byte>(lengths[s] | lengths[s + 1] << 4);
    OutStream streams[kStreams];
    std::uint64_t first = at_ + kPartHead;
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      store_le(out_.data() + at_ + kLengthsBytes + 4 * i,
               static_cast<std::uint32_t>(bytes[i]));
      streams[i] = {out_.data() + first, out_.data() + first + bytes[i]};
      first += bytes[i];
    }
    at_ = first;
    for_strips([&](std::uint32_t, std::uint32_t rows, std::uint32_t, std::uint32_t n) {
      if (rows == kStreams) return loops_.write(table, symbols_[p], n, streams);
      for (std::uint32_t i = 0; i < rows; ++i) {
        for (std::uint32_t c = 0; c < n; ++c)
          write_one(table, symbols_[p][i][c], streams[i]);
      }
    });
    for (OutStream& stream : streams)
      stream.finish();
  }

  const Rows& rows_;
  const std::byte* plain_;
  MutableBytes out_;
  const LosslessLoops& loops_;
  std::uint64_t at_ = 0;
  std::array<Counts, kStreams> counts_[kMostWidth];
  alignas(64) std::uint8_t symbols_[kMostWidth][kStreams][kStrip];
};

}  // namespace

std::uint64_t unit_bound(const Rows& rows) noexcept {
  return padded(rows.width * (kPlaneBytes + std::uint64_t{rows.tokens} * rows.channels));
}

std::uint64_t encode_unit(const Rows& rows, const std::byte* plain,
                          MutableBytes out) noexcept {
  return Encoder(rows, plain, out).run();
}

}  // namespace speckv::lossless

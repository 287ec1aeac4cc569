// rtl/command_bench.hpp -- what stands around speckv_command: the golden card, which gets
// the same descriptors, and a mover that carries out jobs on memories like the golden
// card's, with the library's codecs.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/codec.hpp"

#include "base/checksum.hpp"
#include "engine/card.hpp"
#include "rtl/sim.hpp"

namespace speckv::rtl {

// As speckv_command is verilated. Device memory ends within a line of the fast buffer.
inline constexpr std::uint64_t kDevice = 200 * 1024 + 64, kHost = 160 * 1024;
inline constexpr std::uint32_t kMaxLength = 1U << 17, kMaxLayer = 1U << 15, kLines = 4;
inline constexpr std::uint32_t kEntries = 16, kTenants = 2;
inline constexpr std::uint64_t kLine = engine::Memory::kLine;
// Bus addresses at which lists of pages lie.
inline constexpr std::uint64_t kLists = 1ULL << 41, kListBytes = 4096;
using Words = std::array<std::uint32_t, 16>;  // a descriptor

// A range of one of the two memories.
struct Range {
  bool device = false;
  std::uint64_t first = 0, bytes = 0;
  bool operator==(const Range&) const = default;
  bool meets(const Range& other) const {
    return device == other.device && first < other.first + other.bytes &&
           other.first < first + bytes;
  }
};

// The list that a range's offsets go through, if there is one.
struct Pages {
  bool there = false;
  std::uint64_t list = 0;
  std::uint32_t shift = 0;
  bool operator==(const Pages&) const = default;
};

struct Memories {
  std::vector<std::byte> device = std::vector<std::byte>(kDevice);
  std::vector<std::byte> host = std::vector<std::byte>(kHost);
  std::vector<std::byte> lists = std::vector<std::byte>(kListBytes);

  // The page that an entry names; nothing if it cannot be read.
  std::optional<std::uint64_t> page(const Pages& pages, std::uint64_t number) const;
  // What lies together of a range; of a page that nobody knows, a range of no memory.
  std::vector<Range> pieces(const Range& range, const Pages& pages) const;
  // Empty if not all of it is there.
  MutableBytes at(const Range& range) {
    auto& memory = range.device ? device : host;
    if (range.bytes > memory.size() || range.first > memory.size() - range.bytes)
      return {};
    return MutableBytes(memory).subspan(range.first, range.bytes);
  }
  // What of the range is there becomes as it is in `other`.
  void take(Memories& other, Range range) {
    const std::uint64_t size = range.device ? kDevice : kHost;
    range.first = std::min(range.first, size);
    range.bytes = std::min(range.bytes, size - range.first);
    const MutableBytes from = other.at(range);
    std::copy(from.begin(), from.end(), at(range).begin());
  }
};

// The golden card with a queue for each tenant.
class Golden final : private engine::HostPort {
 public:
  Golden()
      : card_({.memory = memories.device,
               .buffer_bytes = kLines * kLine,
               .directory_entries = 0,
               .regions = kEntries,
               .max_length = kMaxLength,
               .max_layer = kMaxLayer,
               .max_network = 0,
               .doorbells_are_memory = false},
              *this) {}

  void reset(const std::vector<engine::Region>& regions) {
    namespace region = engine::region;
    namespace queue = engine::queue;
    card_.write32(engine::csr::kControl, 2);
    card_.write32(engine::csr::kControl, 1);
    for (std::uint32_t n = 1; n < regions.size(); ++n) {
      const std::uint32_t at = engine::kRegionWindow + n * engine::kRegionStride;
      write64(at + region::kBase, regions[n].base);
      write64(at + region::kLength, regions[n].length);
      card_.write32(at + region::kControl, regions[n].control);
    }
    for (std::uint32_t q = 0; q < kTenants; ++q) {
      const std::uint32_t at = engine::kQueueWindow + q * engine::kQueueStride;
      rings_[q] = {};
      tails_[q] = 0;
      write64(at + queue::kSubmissionBase, kRings + q * sizeof(Rings));
      write64(at + queue::kCompletionBase,
              kRings + q * sizeof(Rings) + offsetof(Rings, completions));
      card_.write32(at + queue::kSetup,
                    static_cast<std::uint32_t>(queue::kSetupDepthLog2.put(1) |
                                               queue::kSetupTenant.put(q)));
      card_.write32(at + queue::kControl, 1);
    }
  }

  engine::CompletionEntry carry_out(std::uint32_t tenant, const Words& words) {
    const std::uint32_t n = tails_[tenant]++;
    Rings& rings = rings_[tenant];
    std::memcpy(rings.descriptors.data() + n % 2 * sizeof words, words.data(),
                sizeof words);
    card_.write32(engine::kDoorbellWindow + tenant * engine::kDoorbellStride +
                      engine::doorbell::kTail,
                  tails_[tenant]);
    while (card_.work(1)) {}
    const auto entry =
        engine::CompletionEntry::load(rings.completions.data() + n % 2 * 16);
    EXPECT_EQ(entry.status & 1U, 1U ^ (n / 2 & 1U)) << "no completion";
    return entry;
  }
  void inject(engine::Inject kind, std::uint64_t argument) {
    write64(engine::csr::kInjectArgument, argument);
    card_.write32(engine::csr::kInject, static_cast<std::uint32_t>(kind));
  }
  std::uint64_t counter(engine::Counter counter) {
    card_.write32(engine::csr::kSnapshot, 1);
    const auto at = engine::csr::kCounter + 8 * static_cast<std::uint32_t>(counter);
    return card_.read32(at) | std::uint64_t{card_.read32(at + 4)} << 32;
  }

  Memories memories;

 private:
  struct alignas(64) Rings {
    std::array<std::byte, 128> descriptors{};
    std::array<std::byte, 64> completions{};
  };
  static constexpr std::uint64_t kRings = 1ULL << 40;

  void write64(std::uint32_t offset, std::uint64_t value) {
    card_.write32(offset, static_cast<std::uint32_t>(value));
    card_.write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  MutableBytes view(std::uint64_t address, std::uint64_t length, bool) noexcept override {
    MutableBytes all = memories.host;
    if (address >= kLists) {
      all = memories.lists;
      address -= kLists;
    } else if (address >= kRings) {
      all = {reinterpret_cast<std::byte*>(rings_.data()), sizeof rings_};
      address -= kRings;
    }
    if (address >= all.size()) return {};
    return all.subspan(address, std::min<std::uint64_t>(length, all.size() - address));
  }
  void interrupt(std::uint32_t) noexcept override {}

  std::array<Rings, kTenants> rings_{};
  std::array<std::uint32_t, kTenants> tails_{};
  engine::Card card_;
};

// A job of the mover, as speckv_command tells of it.
struct Job {
  enum Kind : std::uint8_t { copy, fill, check, stage, encode, decode };
  std::uint8_t kind = copy;
  Range source{}, target{};
  Pages source_pages{}, target_pages{};
  bool nowhere = false, int8 = false;
  std::uint64_t pattern = 0;
  BlockLayout layout{};
  std::uint32_t unit_bytes = 0;
  bool operator==(const Job&) const = default;
};

// What it says when it is done.
struct Done {
  bool read_error = false, write_error = false, bad = false;
  std::uint32_t crc = 0;
  std::vector<Range> written{};
};

// Carries a job out, all at once.
Done carry_out(const Job& job, Memories& memories);

}  // namespace speckv::rtl

// Any descriptors in any rings, and any register writes: the engine answers what it took
// once each, stays inside the memory that the bus and the regions give it, and goes on.
//
// The input is a list of actions. The first byte of each chooses: a descriptor as 64 raw
// bytes, or one that is sound but for a few edits; a doorbell; a register; some work.
#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "engine/card.hpp"
#include "predict/lstm_weights.hpp"
#include "require.hpp"
#include "support/lstm_cases.hpp"

using namespace speckv;
using namespace speckv::engine;
using speckv::test::require;

namespace {

constexpr std::uint32_t kDepthLog2 = 3, kDepth = 1U << kDepthLog2;
constexpr std::uint64_t kBase = 0x100000;  // bus address of the arena
constexpr std::size_t kArena = 64 << 10, kRings = 4096, kMine = 32 << 10;
constexpr std::size_t kCardBytes = 64 << 10;
constexpr std::uint64_t kNetwork = 0x10000000;  // bus address of a weights file

const std::vector<std::byte>& network() {
  static const std::vector<std::byte> file = [] {
    speckv::test::Lcg lcg(1);
    return write_weights(*quantise(speckv::test::random_lstm(
        {.inputs = 8, .vocabulary = 60, .shortlist = 20, .cluster = 15}, 0.4, lcg)));
  }();
  return file;
}

// Rings, then a region that may be written, then one that may only be read; and, for
// reading, a weights file.
struct Arena final : HostPort {
  MutableBytes view(std::uint64_t address, std::uint64_t length,
                    bool writing) noexcept override {
    if (address >= kNetwork && address - kNetwork < file.size()) {
      require(!writing, "the weights file is written to");
      const std::uint64_t at = address - kNetwork;
      return MutableBytes(file).subspan(at, std::min(length, file.size() - at));
    }
    if (address < kBase || address - kBase >= bytes.size()) return {};
    const std::uint64_t at = address - kBase;
    return MutableBytes(bytes).subspan(at, std::min<std::uint64_t>(length, kArena - at));
  }
  void interrupt(std::uint32_t vector) noexcept override {
    require(vector < kVectors, "an interrupt that does not exist");
  }
  alignas(64) std::array<std::byte, kArena> bytes{};
  std::vector<std::byte> file = network();
};

class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t b = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return b;
  }
  std::uint32_t word() {
    std::uint32_t w = 0;
    for (int i = 0; i < 4; ++i)
      w = w << 8 | byte();
    return w;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

class Host {
 public:
  Host() {
    set_region(1, kBase + kRings, kMine, true, false);
    set_region(2, kBase + kRings + kMine, kArena - kRings - kMine, false, false);
    set_region(3, 0, kCardBytes, true, true);
    set_region(4, kNetwork, arena_.file.size(), false, false);
    card_.write32(kQueueWindow + queue::kSubmissionBase, kBase);
    card_.write32(kQueueWindow + queue::kCompletionBase, kBase + 2048);
    card_.write32(kQueueWindow + queue::kSetup,
                  static_cast<std::uint32_t>(queue::kSetupDepthLog2.put(kDepthLog2)));
    card_.write32(kQueueWindow + queue::kControl,
                  static_cast<std::uint32_t>(queue::kControlEnable.put(1) |
                                             queue::kControlInterrupt.put(1)));
    card_.write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlEnable.put(1)));
    for (std::size_t i = kRings; i < kArena; ++i)
      arena_.bytes[i] = static_cast<std::byte>(i * 37 >> 3);
  }

  void run(Input input) {
    while (!input.empty()) {
      const std::uint8_t action = input.byte();
      switch (action % 8) {
        case 0:
          push_raw(input);
          break;
        case 1:
        case 2:
        case 3:
          push_edited(input, action >> 3);
          break;
        case 4:  // anywhere in BAR0 and a little beyond it
          wild_ = true;
          card_.write32(input.word() % (kBar0Bytes + 64), input.word());
          break;
        case 5:  // where the queue's and the card's registers are
          wild_ = true;
          card_.write32(
              (input.byte() % 2 == 0 ? 0 : kQueueWindow) + input.byte() * 4U % 256,
              input.word());
          break;
        case 6:
          card_.doorbell(0).arm.store(input.byte());
          card_.doorbell(0).step.store(input.word());
          break;
        default:
          drain();
      }
    }
    drain();
    if (wild_) {
      for (std::uint32_t at = 0; at < kBar0Bytes; at += at < kMsixTableWindow ? 4 : 508)
        (void)card_.read32(at);
      return;
    }
    require(submitted_ == taken_, "a descriptor is not answered");
    for (std::size_t i = kRings + kMine; i < kArena; ++i) {
      require(arena_.bytes[i] == static_cast<std::byte>(i * 37 >> 3),
              "memory that may only be read was written");
    }
  }

 private:
  void set_region(std::uint32_t id, std::uint64_t base, std::uint64_t length, bool write,
                  bool device) {
    const std::uint32_t at = kRegionWindow + id * kRegionStride;
    card_.write32(at + region::kBase, static_cast<std::uint32_t>(base));
    card_.write32(at + region::kLength, static_cast<std::uint32_t>(length));
    card_.write32(at + region::kControl,
                  static_cast<std::uint32_t>(region::kControlValid.put(1) |
                                             region::kControlRead.put(1) |
                                             region::kControlWrite.put(write) |
                                             region::kControlDevice.put(device)));
  }

  void push_raw(Input& input) {
    std::array<std::byte, Descriptor::kBytes> raw{};
    for (std::byte& b : raw)
      b = static_cast<std::byte>(input.byte());
    push(raw.data());
  }

  // A descriptor that would do something, then `edits` bytes of it changed.
  void push_edited(Input& input, int edits) {
    Descriptor d;
    d.opcode = input.byte() % 14;
    d.src_region = 1 + input.byte() % 3U;
    d.dst_region = 1 + input.byte() % 3U;
    d.src_offset = input.byte() * 64U;
    d.dst_offset = input.byte() * 64U;
    d.length = 1U << input.byte() % 16;
    const std::uint8_t how = input.byte();
    switch (Opcode{d.opcode}) {
      case Opcode::encode:
      case Opcode::decode:
        d.codec = 1 + how % 4;
        d.dtype = how >> 2 & 1;
        d.kind = how >> 3 & 1;
        d.heads = 1 + (how >> 4 & 1);
        d.head_dim = 16;
        d.tokens = static_cast<std::uint16_t>(16 + (how >> 5) * 16);
        d.room = 8192;
        if (Opcode{d.opcode} == Opcode::encode)
          d.length = 32U * d.heads * d.tokens * (d.kind == 0 ? 2 : 1);
        break;
      case Opcode::hint:
      case Opcode::step:
        d = Descriptor{.opcode = d.opcode};
        d.step = input.byte();
        if (Opcode{d.opcode} == Opcode::hint) {
          d.hint = 1 + how % 6;
          d.step = d.hint == 3 ? d.step : 0;
          d.tokens = input.byte();
          d.address_low = input.byte() * 32U;
        }
        break;
      case Opcode::weights:
        d = Descriptor{.opcode = d.opcode};
        d.recency = how;
        d.durability = input.byte();
        d.evict = 20;
        d.prefetch = 100;
        break;
      case Opcode::telemetry:
        d.report = how % 3;
        d.src_region = 0;
        d.src_offset = 0;
        break;
      case Opcode::predict:
        if (how % 4 == 0) {
          d = Descriptor{.opcode = d.opcode};
          d.task = static_cast<std::uint8_t>(Task::network);
          d.src_region = 4;
          d.length = static_cast<std::uint32_t>(network().size());
          break;
        }
        d.length = 4 * (1 + d.length % 256);
        d.answers = 1 + how % 16;
        d.state_region = how >> 6;
        d.state_offset = d.state_region == 0 ? 0 : input.byte() * 64U;
        break;
      default:
        break;
    }
    const bool may_be_named =
        Opcode{d.opcode} == Opcode::copy || Opcode{d.opcode} == Opcode::prefetch;
    if (may_be_named && how % 2 == 0) {
      d.flags = flag::kNamed;
      d.tokens = 64;
      d.address_low = std::uint64_t{input.byte()} * 64;
    }
    std::array<std::byte, Descriptor::kBytes> raw{};
    d.store(raw.data());
    for (int i = 0; i < edits % 4; ++i) {
      const std::uint8_t at = input.byte();
      raw[at % raw.size()] = static_cast<std::byte>(input.byte());
    }
    push(raw.data());
  }

  void push(std::byte* raw) {
    if (submitted_ - taken_ == kDepth) drain();
    if (submitted_ - taken_ == kDepth) return;  // the queue does not work any more
    store_le(raw + 2, static_cast<std::uint16_t>(submitted_));
    std::memcpy(arena_.bytes.data() + submitted_ % kDepth * Descriptor::kBytes, raw,
                Descriptor::kBytes);
    card_.doorbell(0).tail.store(++submitted_);
  }

  // Lets the engine work; every answer is of a descriptor that was submitted, in order.
  void drain() {
    while (card_.work(5)) {}
    if (wild_) return;  // the rings may be anywhere now
    while (true) {
      const auto entry = CompletionEntry::load(arena_.bytes.data() + 2048 +
                                               taken_ % kDepth * CompletionEntry::kBytes);
      const bool there =
          completion::kStatusPhase.get(entry.status) == ((taken_ / kDepth & 1) ^ 1);
      if (!there || taken_ == submitted_) return;
      require(entry.tag == static_cast<std::uint16_t>(taken_), "another's answer");
      require(completion::kStatusCode.get(entry.status) <=
                  static_cast<std::uint64_t>(Answer::bus_error),
              "an answer that does not exist");
      require(entry.reserved12 == 0, "reserved bytes of a completion");
      ++taken_;
    }
  }

  Arena arena_;
  std::vector<std::byte> memory_ = std::vector<std::byte>(kCardBytes);
  Card card_{CardOptions{.memory = memory_,
                         .buffer_bytes = 16 << 10,
                         .directory_entries = 64,
                         .regions = 16,
                         .max_length = 512 << 10,
                         .max_layer = 512 << 10,
                         .max_network = 256 << 10},
             arena_};
  std::uint32_t submitted_ = 0, taken_ = 0;
  bool wild_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto host = std::make_unique<Host>();
  host->run(Input({data, size}));
  return 0;
}

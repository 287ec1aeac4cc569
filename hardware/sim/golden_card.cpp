// The model of src/engine as a card, and the same on a bus that spoils what passes.
#include <cstring>
#include <vector>

#include "engine/card.hpp"
#include "sim/card.hpp"

namespace speckv::sim {
namespace {

constexpr std::uint32_t kBudget = 32;  // descriptors until the bus is looked at again

class GoldenCard : public Card {
 public:
  GoldenCard(MutableBytes memory, engine::HostPort& port)
      : card_({.memory = memory, .doorbells_are_memory = false, .memory_is_shared = true},
              port) {}
  std::uint32_t read32(std::uint32_t offset) override { return card_.read32(offset); }
  void write32(std::uint32_t offset, std::uint32_t value) override {
    card_.write32(offset, value);
  }
  bool run() override { return card_.work(kBudget); }
  void reset() override {
    card_.write32(engine::csr::kControl,
                  static_cast<std::uint32_t>(engine::csr::kControlReset.put(1)));
  }

 private:
  engine::Card card_;
};

// The card writes into a copy of host memory, which is spoiled before it gets there: when
// the card turns to anything else.
class SpoilingPort : public engine::HostPort {
 public:
  SpoilingPort(Fault fault, engine::HostPort& port) : fault_(fault), port_(port) {}

  MutableBytes view(std::uint64_t address, std::uint64_t length,
                    bool writing) noexcept override {
    settle();
    const MutableBytes bytes = port_.view(address, length, writing);
    const bool completion = length == engine::CompletionEntry::kBytes;
    const bool meant = writing && !bytes.empty() && completion == (fault_ != Fault::data);
    if (!meant || ++count_ % kPeriod != 0) return bytes;
    target_ = bytes;
    copy_.assign(bytes.begin(), bytes.end());
    return copy_;
  }
  void interrupt(std::uint32_t vector) noexcept override {
    settle();
    port_.interrupt(vector);
  }
  void settle() noexcept {
    if (target_.empty()) return;
    if (fault_ != Fault::lost) {
      copy_[fault_ == Fault::tag ? 0 : copy_.size() / 2] ^= std::byte{1};
      // As with any completion: the half with the phase goes last.
      for (std::size_t at = copy_.size(); at > 0;) {
        const std::size_t piece = at % 8 == 0 ? 8 : at % 8;
        at -= piece;
        std::memcpy(target_.data() + at, copy_.data() + at, piece);
      }
    }
    target_ = {};
  }

 protected:
  ~SpoilingPort() = default;

 private:
  static constexpr std::uint32_t kPeriod = 3;

  const Fault fault_;
  engine::HostPort& port_;
  MutableBytes target_{};
  std::vector<std::byte> copy_;
  std::uint32_t count_ = 0;
};

class FaultyCard final : private SpoilingPort, public GoldenCard {
 public:
  FaultyCard(Fault fault, MutableBytes memory, engine::HostPort& port)
      : SpoilingPort(fault, port),
        GoldenCard(memory, static_cast<SpoilingPort&>(*this)) {}
  bool run() override {
    const bool more = GoldenCard::run();
    settle();
    return more;
  }
};

}  // namespace

std::unique_ptr<Card> golden_card(MutableBytes memory, engine::HostPort& port) {
  return std::make_unique<GoldenCard>(memory, port);
}

std::unique_ptr<Card> faulty_card(Fault fault, MutableBytes memory,
                                  engine::HostPort& port) {
  return std::make_unique<FaultyCard>(fault, memory, port);
}

}  // namespace speckv::sim

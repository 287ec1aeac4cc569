// The card's RTL as an engine of the conformance suite: alone, with and without stalls,
// and as a PCI function behind a socket.
#include <array>
#include <map>

#include "sim/rtl/rtl_card.hpp"
#include "support/engine_fixture.hpp"
#include "support/vfio_user_bar0.hpp"

namespace speckv::test {
namespace {

// Host memory in pages, as an IOMMU would have it, in front of a card that works when it
// is called.
class RtlBar0 final : public Bar0, private engine::HostPort {
 public:
  RtlBar0(std::uint64_t memory_bytes, const sim::RtlOptions& options)
      : card_(sim::rtl_card(options, pages(memory_bytes), *this)) {}

  std::uint32_t read32(std::uint32_t offset) override {
    return there(offset) ? card_->read32(offset) : 0;
  }
  void write32(std::uint32_t offset, std::uint32_t value) override {
    if (there(offset)) card_->write32(offset, value);
  }
  MutableBytes allocate(std::size_t bytes) override {
    const MutableBytes memory = pages(bytes);
    reachable_[bus_address(memory.data())] = memory;
    return memory;
  }
  std::uint64_t bus_address(const std::byte* at) override {
    return reinterpret_cast<std::uintptr_t>(at);
  }
  std::byte* doorbell_page(std::uint32_t) override { return nullptr; }
  void kick() override {}
  std::uint64_t interrupts(std::uint32_t vector) override {
    run();
    return interrupts_.at(vector);
  }
  bool wait_interrupt(std::uint32_t vector, std::uint64_t seen) override {
    while (interrupts_.at(vector) <= seen && card_->run()) {}
    return interrupts_.at(vector) > seen;
  }
  void run() override {
    while (card_->run()) {}
  }

 private:
  struct Free {
    void operator()(std::byte* bytes) const {
      ::operator delete (bytes, std::align_val_t{4096});
    }
  };

  static bool there(std::uint32_t offset) {
    return offset % 4 == 0 && offset < engine::kBar0Bytes;
  }
  MutableBytes pages(std::size_t bytes) {
    auto* memory =
        static_cast<std::byte*>(::operator new (bytes, std::align_val_t{4096}));
    std::fill_n(memory, bytes, std::byte{0});
    all_.emplace_back(memory);
    return {memory, bytes};
  }
  MutableBytes view(std::uint64_t address, std::uint64_t length, bool) noexcept override {
    const auto after = reachable_.upper_bound(address);
    if (after == reachable_.begin()) return {};
    const auto& [base, memory] = *std::prev(after);
    if (address - base >= memory.size()) return {};
    return memory.subspan(address - base, std::min<std::uint64_t>(
                                              length, memory.size() - (address - base)));
  }
  void interrupt(std::uint32_t vector) noexcept override { ++interrupts_[vector]; }

  std::vector<std::unique_ptr<std::byte, Free>> all_;
  std::map<std::uint64_t, MutableBytes> reachable_;
  std::array<std::uint64_t, engine::kVectors> interrupts_{};
  const std::unique_ptr<sim::RtlCard> card_;
};

}  // namespace

std::unique_ptr<EngineUnderTest> rtl_engine(bool stalls) {
  const sim::RtlOptions options{
      .seed = 7, .latency = stalls ? 20U : 1U, .stalls = stalls};
  return engine_on(std::make_unique<RtlBar0>(kCardBytes, options));
}

std::unique_ptr<EngineUnderTest> rtl_pci_engine() {
  return engine_on(
      vfio_user_bar0(kCardBytes, [](MutableBytes memory, engine::HostPort& port) {
        return sim::rtl_card({}, memory, port);
      }));
}

}  // namespace speckv::test

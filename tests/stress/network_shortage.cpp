// A network that PREDICT is given while memory runs out: no_space, nothing is leaked, and
// the tenant's last network answers as before.
#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "engine/card.hpp"
#include "shortage/shortage.hpp"
#include "support/lstm_cases.hpp"

namespace speckv::test {
namespace {

using namespace engine;

std::vector<std::byte> network(std::uint32_t seed) {
  Lcg lcg(seed);
  return write_weights(*quantise(random_lstm(
      {.inputs = 16, .vocabulary = 90, .shortlist = 30, .cluster = 25}, 0.3, lcg)));
}

// A ring of 16, two weights files, a history and its answers, each in a region.
class Host final : HostPort {
 public:
  Host() : files_{network(1), network(2)} {
    for (std::uint32_t i = 0; i < 2; ++i)
      set_region(1 + i, kFiles + i * kFile, files_[i].size());
    set_region(3, kPage, sizeof page_);
    write64(kQueueWindow + queue::kSubmissionBase, kPage);
    write64(kQueueWindow + queue::kCompletionBase, kPage + 1024);
    card_.write32(kQueueWindow + queue::kSetup,
                  static_cast<std::uint32_t>(queue::kSetupDepthLog2.put(4)));
    card_.write32(kQueueWindow + queue::kControl,
                  static_cast<std::uint32_t>(queue::kControlEnable.put(1)));
    card_.write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlEnable.put(1)));
  }

  Answer give(std::uint32_t which) {
    Descriptor d;
    d.opcode = static_cast<std::uint8_t>(Opcode::predict);
    d.task = static_cast<std::uint8_t>(Task::network);
    d.src_region = 1 + which;
    d.length = static_cast<std::uint32_t>(files_[which].size());
    return answer(d);
  }
  // What comes after two symbols; nothing, and a failure, without an answer.
  std::array<std::byte, 128> ask() {
    std::memset(page_ + kAnswers, 0, 128);
    store_le(page_ + kHistory, 1007U);
    store_le(page_ + kHistory + 4, 1012U);
    Descriptor d;
    d.opcode = static_cast<std::uint8_t>(Opcode::predict);
    d.src_region = d.dst_region = 3;
    d.src_offset = kHistory;
    d.dst_offset = kAnswers;
    d.length = 8;
    d.answers = 16;
    EXPECT_EQ(answer(d), Answer::ok);
    std::array<std::byte, 128> told;
    std::memcpy(told.data(), page_ + kAnswers, told.size());
    return told;
  }

 private:
  static constexpr std::uint64_t kPage = 4096, kFiles = 1 << 20, kFile = 1 << 20;
  static constexpr std::size_t kHistory = 1536, kAnswers = 2048;

  MutableBytes view(std::uint64_t address, std::uint64_t length,
                    bool /*writing*/) noexcept override {
    MutableBytes all(page_);
    std::uint64_t at = address - kPage;
    if (address >= kFiles) {
      all = files_[address / kFile - 1];
      at = address % kFile;
    }
    return all.subspan(at, std::min<std::uint64_t>(length, all.size() - at));
  }
  void interrupt(std::uint32_t) noexcept override {}

  void write64(std::uint32_t at, std::uint64_t value) {
    card_.write32(at, static_cast<std::uint32_t>(value));
    card_.write32(at + 4, static_cast<std::uint32_t>(value >> 32));
  }
  void set_region(std::uint32_t id, std::uint64_t base, std::uint64_t length) {
    const std::uint32_t at = kRegionWindow + id * kRegionStride;
    write64(at + region::kBase, base);
    write64(at + region::kLength, length);
    card_.write32(at + region::kControl,
                  static_cast<std::uint32_t>(region::kControlValid.put(1) |
                                             region::kControlRead.put(1) |
                                             region::kControlWrite.put(1)));
  }
  Answer answer(const Descriptor& d) {
    d.store(page_ + submitted_ % 16 * Descriptor::kBytes);
    const std::size_t slot = submitted_ % 16;
    card_.doorbell(0).tail.store(++submitted_);
    while (card_.work(1)) {}
    const auto entry =
        CompletionEntry::load(page_ + 1024 + slot * CompletionEntry::kBytes);
    return static_cast<Answer>(completion::kStatusCode.get(entry.status));
  }

  alignas(64) std::byte page_[4096] = {};
  std::array<std::vector<std::byte>, 2> files_;
  std::vector<std::byte> memory_ = std::vector<std::byte>(4096);
  Card card_{CardOptions{.memory = memory_, .buffer_bytes = 0, .directory_entries = 0},
             *this};
  std::uint32_t submitted_ = 0;
};

TEST(NetworkShortage, is_no_space_and_the_last_network_stays) {
  for (const Shortage what : {Shortage::one_allocation, Shortage::memory}) {
    Host host;
    ASSERT_EQ(host.give(1), Answer::ok);
    const auto others = host.ask();
    ASSERT_EQ(host.give(0), Answer::ok);
    const auto first = host.ask();
    ASSERT_NE(first, others);
    const std::int64_t before = live();
    for (std::uint64_t n = 0;; ++n) {
      want(what, n);
      const Answer answer = host.give(1);
      const std::uint64_t refused = denied();
      supply();
      if (refused == 0) {
        EXPECT_EQ(answer, Answer::ok);
        EXPECT_GE(n, 10U);  // every one of its allocations failed once
        break;
      }
      ASSERT_EQ(answer, Answer::no_space) << n;
      ASSERT_EQ(live(), before) << n;
      ASSERT_EQ(host.ask(), first) << n;
    }
    EXPECT_EQ(host.ask(), others);
  }
}

}  // namespace
}  // namespace speckv::test

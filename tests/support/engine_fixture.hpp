// support/engine_fixture.hpp -- an engine with memory, regions and a queue, for tests.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "cxlspeckv/address.hpp"

#include "support/engine_under_test.hpp"

namespace speckv::test {

struct EngineCase {
  const char* name;
  std::unique_ptr<EngineUnderTest> (*make)();
};
inline void PrintTo(const EngineCase& c, std::ostream* out) {
  *out << c.name;
}

constexpr std::uint64_t kCardBytes = 1U << 20, kHostBytes = 256U << 10;

#ifdef SPECKV_DRIVER_ENGINE  // in a guest kernel: tests/guest
std::unique_ptr<EngineUnderTest> driver_engine();
inline const EngineCase kEngines[] = {{"driver", driver_engine}};
#elif defined(SPECKV_RTL_ENGINE)  // tests/rtl
std::unique_ptr<EngineUnderTest> rtl_engine(bool stalls);
std::unique_ptr<EngineUnderTest> rtl_pci_engine();
inline const EngineCase kEngines[] = {
    {"rtl", [] { return rtl_engine(false); }},
    {"rtl_stalls", [] { return rtl_engine(true); }},
    {"rtl_vfio_user", rtl_pci_engine},
};
#else
inline const EngineCase kEngines[] = {
    {"model", [] { return engine_on(model_bar0(kCardBytes)); }},
    {"model_bare", [] { return engine_on(bare_model_bar0(kCardBytes)); }},
    {"soft", [] { return engine_on(soft_bar0(kCardBytes)); }},
    {"vfio_user", [] { return engine_on(vfio_user_bar0(kCardBytes)); }},
};
#endif

class EngineFixture : public testing::TestWithParam<EngineCase> {
 protected:
  using Descriptor = engine::Descriptor;
  using Opcode = engine::Opcode;
  using Answer = engine::Answer;

  void SetUp() override {
    queue_.reset();
    engine_ = GetParam().make();
    facts_ = engine_->facts();
    host_ = engine_->allocate(kHostBytes);
    host_id_ = engine_->host_region(kTenant, host_);
    card_id_ = engine_->card_region(kTenant, 0, kCardBytes);
    queue_ = engine_->open_queue(kTenant, 5);
  }
  void TearDown() override { queue_.reset(); }

  static constexpr std::uint32_t kTenant = 3, kOther = 5;

  static Descriptor make(Opcode opcode) {
    Descriptor d;
    d.opcode = static_cast<std::uint8_t>(opcode);
    return d;
  }
  // A copy from host memory to the card, or back.
  Descriptor to_card(std::uint64_t from, std::uint64_t to, std::uint32_t length) const {
    return copy(host_id_, from, card_id_, to, length);
  }
  Descriptor from_card(std::uint64_t from, std::uint64_t to, std::uint32_t length) const {
    return copy(card_id_, from, host_id_, to, length);
  }
  static Descriptor copy(std::uint32_t src, std::uint64_t from, std::uint32_t dst,
                         std::uint64_t to, std::uint32_t length) {
    Descriptor d = make(Opcode::copy);
    d.src_region = src;
    d.src_offset = from;
    d.dst_region = dst;
    d.dst_offset = to;
    d.length = length;
    return d;
  }
  static void name(Descriptor& d, const KvAddress& address, std::uint16_t tokens) {
    const PackedAddress packed = pack(address);
    d.address_low = packed.low;
    d.address_high = static_cast<std::uint32_t>(packed.high);
    d.tokens = tokens;
  }

  struct Told {
    Answer answer{};
    std::uint32_t result = 0, crc = 0;
  };
  // Does all of them, each answered once; tags are overwritten. The answers in order.
  static std::vector<Told> run(QueueUnderTest& queue, std::vector<Descriptor> batch) {
    std::vector<Told> told(batch.size());
    std::vector<int> times(batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i)
      batch[i].tag = static_cast<std::uint16_t>(i);
    for (std::size_t submitted = 0, answered = 0; answered < batch.size();) {
      submitted += queue.submit(std::span(batch).subspan(submitted));
      const auto found = queue.wait();
      if (found.empty()) break;
      for (const engine::CompletionEntry& entry : found) {
        told.at(entry.tag) = told_by(entry);
        ++times.at(entry.tag);
      }
      answered += found.size();
    }
    EXPECT_TRUE(std::ranges::all_of(times, [](int n) { return n == 1; }));
    EXPECT_TRUE(queue.poll().empty());
    return told;
  }
  static Told told_by(const engine::CompletionEntry& entry) {
    return {static_cast<Answer>(engine::completion::kStatusCode.get(entry.status)),
            entry.result, entry.crc};
  }
  Told run(const Descriptor& d) { return run(*queue_, {d}).front(); }
  Answer answer(const Descriptor& d) { return run(d).answer; }

  void randomise(MutableBytes bytes, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (std::byte& b : bytes)
      b = static_cast<std::byte>(random());
  }
  std::vector<std::byte> host_copy() const { return {host_.begin(), host_.end()}; }
  bool host_is(Bytes expected) const { return std::ranges::equal(host_, expected); }

  std::unique_ptr<EngineUnderTest> engine_;
  EngineFacts facts_;
  MutableBytes host_;
  std::uint32_t host_id_ = 0, card_id_ = 0;
  std::unique_ptr<QueueUnderTest> queue_;
};

}  // namespace speckv::test

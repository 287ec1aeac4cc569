// rtl/card_bench.hpp -- the whole card, verilated, with one queue or some, two regions
// for each, and host and device memory that a test sees.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "engine/contract.hpp"
#include "sim/rtl/rtl_card.hpp"

namespace speckv::test {

inline constexpr std::uint64_t kCard = 1U << 20, kHost = 1U << 19, kRings = 1U << 16;
// Of queue 0; the next queue's stand behind them.
inline constexpr std::uint64_t kSubmission = 0, kCompletion = 1U << 15;
inline constexpr std::uint32_t kDepthLog2 = 6, kHostRegion = 1, kCardRegion = 2;

// Host memory is there from bus address 0 on, the rings first. Queue q is of tenant q,
// and so are its regions of all of host and device memory: 2 q more than those of queue
// 0.
class CardBench final : private engine::HostPort {
 public:
  static constexpr std::uint32_t kMost = 8;  // queues

  explicit CardBench(const sim::RtlOptions& options, std::uint32_t queues = 1)
      : queues_(queues),
        memory_(kCard / 8),
        host_(kHost / 8),
        card_(sim::rtl_card(options, bytes(memory_), *this)) {
    set_up();
  }

  void set_up() {
    write(engine::csr::kControl, 1);
    for (std::uint32_t q = 0; q < queues_; ++q) {
      region(kHostRegion + 2 * q, 0, kHost, q, 0);
      region(kCardRegion + 2 * q, 0, kCard, q, 1);
      set_up_queue(q);
    }
    while (card_->run()) {}
  }
  // REQUIRES: it is off.
  void set_up_queue(std::uint32_t q = 0) {
    namespace queue = engine::queue;
    const std::uint32_t at = engine::kQueueWindow + q * engine::kQueueStride;
    std::memset(host() + submission(q), 0, kSubmissionBytes);
    std::memset(host() + completion(q), 0, kCompletionBytes);
    tail_[q] = 0;
    write(at + queue::kSubmissionBase, submission(q));
    write(at + queue::kCompletionBase, completion(q));
    write(at + queue::kSetup,
          queue::kSetupDepthLog2.put(kDepthLog2) | queue::kSetupTenant.put(q));
    write(at + queue::kControl, 1);
  }
  sim::RtlCard& card() { return *card_; }
  std::byte* host() { return bytes(host_).data(); }
  std::byte* memory() { return bytes(memory_).data(); }
  std::uint32_t read(std::uint32_t offset) { return card_->read32(offset); }
  void write(std::uint32_t offset, std::uint64_t value) {
    card_->write32(offset, static_cast<std::uint32_t>(value));
  }
  std::uint64_t counter(engine::Counter counter) {
    write(engine::csr::kSnapshot, 1);
    const std::uint32_t at =
        engine::csr::kCounter + 8 * static_cast<std::uint32_t>(counter);
    return read(at) | std::uint64_t{read(at + 4)} << 32;
  }
  // Interrupts of a vector since a test last began to count.
  std::uint32_t& interrupts(std::uint32_t vector) { return interrupts_.at(vector); }

  void put(engine::Descriptor d, std::uint32_t q = 0) {
    d.tag = static_cast<std::uint16_t>(tail_[q]);
    d.store(slot(tail_[q]++, q));
  }
  // Where descriptor n lies.
  std::byte* slot(std::uint32_t n, std::uint32_t q) {
    return host() + submission(q) + n % (1U << kDepthLog2) * engine::Descriptor::kBytes;
  }
  void ring(std::uint32_t q = 0) { ring_at(q, tail_[q]); }
  void ring_at(std::uint32_t q, std::uint32_t tail) {
    write(engine::kDoorbellWindow + q * engine::kDoorbellStride + engine::doorbell::kTail,
          tail);
  }
  // Cycles from just before queue 0's doorbell to its last completion in host memory.
  std::uint64_t serve() {
    card_->first_host_read();
    const std::uint64_t begin = card_->cycles();
    ring();
    const std::uint32_t last = tail() - 1;
    while (!completed(last) && card_->run()) {}
    EXPECT_TRUE(completed(last));
    first_read = card_->first_host_read() - begin;
    return card_->cycles() - begin;
  }
  engine::Answer serve(const engine::Descriptor& d) {
    put(d);
    serve();
    return answer(tail() - 1);
  }
  bool completed(std::uint32_t n, std::uint32_t q = 0) {
    return (entry(n, q).status & 1) == phase(n);
  }
  engine::Answer answer(std::uint32_t n, std::uint32_t q = 0) {
    return static_cast<engine::Answer>(
        engine::completion::kStatusCode.get(entry(n, q).status));
  }
  engine::CompletionEntry entry(std::uint32_t n, std::uint32_t q = 0) {
    return engine::CompletionEntry::load(host() + completion(q) +
                                         (n % (1U << kDepthLog2)) *
                                             engine::CompletionEntry::kBytes);
  }
  // By register. False: it has not ended after that many looks.
  bool reset(std::uint32_t looks = 1U << 16) {
    using engine::csr::kControlReset;
    write(engine::csr::kControl, kControlReset.put(1));
    while (kControlReset.get(read(engine::csr::kControl)) != 0) {
      if (looks-- == 0) return false;
      card_->run();
    }
    return true;
  }
  void run(std::uint32_t times) {
    for (; times > 0; --times)
      card_->run();
  }
  std::uint32_t tail(std::uint32_t q = 0) const { return tail_[q]; }
  std::uint64_t first_read = 0;

 private:
  static constexpr std::uint64_t kSubmissionBytes = engine::Descriptor::kBytes
                                                    << kDepthLog2;
  static constexpr std::uint64_t kCompletionBytes = engine::CompletionEntry::kBytes
                                                    << kDepthLog2;
  static_assert(kMost * kSubmissionBytes <= kCompletion &&
                kCompletion + kMost * kCompletionBytes <= kRings);

  static std::uint64_t submission(std::uint32_t q) {
    return kSubmission + q * kSubmissionBytes;
  }
  static std::uint64_t completion(std::uint32_t q) {
    return kCompletion + q * kCompletionBytes;
  }
  static MutableBytes bytes(std::vector<std::uint64_t>& words) {
    return {reinterpret_cast<std::byte*>(words.data()), 8 * words.size()};
  }
  static unsigned phase(std::uint32_t n) { return (n >> kDepthLog2 & 1) ^ 1; }
  void region(std::uint32_t id, std::uint64_t base, std::uint64_t length,
              std::uint32_t tenant, std::uint32_t device) {
    const std::uint32_t at = engine::kRegionWindow + id * engine::kRegionStride;
    write(at + engine::region::kBase, base);
    write(at + engine::region::kLength, length);
    write(at + engine::region::kControl,
          1U | device << 1 | 3U << 2 | engine::region::kControlTenant.put(tenant));
  }
  MutableBytes view(std::uint64_t address, std::uint64_t length, bool) noexcept override {
    if (address >= kHost) return {};
    return bytes(host_).subspan(address, std::min(length, kHost - address));
  }
  void interrupt(std::uint32_t vector) noexcept override { ++interrupts_[vector]; }

  const std::uint32_t queues_;
  std::vector<std::uint64_t> memory_, host_;
  std::array<std::uint32_t, engine::kVectors> interrupts_{};
  std::unique_ptr<sim::RtlCard> card_;
  std::array<std::uint32_t, kMost> tail_{};
};

inline engine::Descriptor make(engine::Opcode opcode, std::uint32_t from,
                               std::uint64_t source, std::uint32_t to,
                               std::uint64_t target, std::uint32_t length) {
  engine::Descriptor d;
  d.opcode = static_cast<std::uint8_t>(opcode);
  d.src_region = from;
  d.src_offset = source;
  d.dst_region = to;
  d.dst_offset = target;
  d.length = length;
  return d;
}
// A layer of 64 KB plain bytes, between the beginning of device memory and host memory
// behind the rings.
inline engine::Descriptor layer(engine::Opcode opcode, std::uint8_t codec,
                                std::uint32_t length) {
  engine::Descriptor d = opcode == engine::Opcode::encode
                             ? make(opcode, kHostRegion, kRings, kCardRegion, 0, length)
                             : make(opcode, kCardRegion, 0, kHostRegion, kRings, length);
  d.codec = codec;
  d.heads = 2;
  d.head_dim = 128;
  d.tokens = 64;
  d.room = 1U << 17;
  return d;
}

}  // namespace speckv::test

#include "support/engine_under_test.hpp"

#include <array>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>

#include <gtest/gtest.h>

#include "device/ring.hpp"
#include "device/soft_engine.hpp"

namespace speckv::test {

using namespace engine;
using namespace std::chrono_literals;

std::uint64_t read64(Bar0& bar0, std::uint32_t offset) {
  return bar0.read32(offset) | std::uint64_t{bar0.read32(offset + 4)} << 32;
}

void write64(Bar0& bar0, std::uint32_t offset, std::uint64_t value) {
  bar0.write32(offset, static_cast<std::uint32_t>(value));
  bar0.write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
}

namespace {

struct FreePages {
  void operator()(std::byte* bytes) const {
    ::operator delete (bytes, std::align_val_t{4096});
  }
};

// Zeroed pages, freed together.
class Pages {
 public:
  MutableBytes allocate(std::size_t bytes) {
    auto* memory =
        static_cast<std::byte*>(::operator new (bytes, std::align_val_t{4096}));
    std::fill_n(memory, bytes, std::byte{0});
    const std::lock_guard lock(mutex_);
    all_.emplace_back(memory);
    return {memory, bytes};
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<std::byte, FreePages>> all_;
};

// ---- The driver's part
// ---------------------------------------------------------------------

class Bar0Queue final : public QueueUnderTest {
 public:
  Bar0Queue(Bar0& bar0, std::uint32_t number, std::uint32_t tenant,
            std::uint32_t depth_log2)
      : bar0_(bar0),
        number_(number),
        depth_(1U << depth_log2),
        descriptors_(bar0.allocate(std::size_t{depth_} * Descriptor::kBytes)),
        completions_(bar0.allocate(std::size_t{depth_} * CompletionEntry::kBytes)),
        page_(bar0.doorbell_page(number)),
        ring_(descriptors_.data(), completions_.data(),
              page_ != nullptr ? page_ : stand_in_.data(), depth_, page_ != nullptr) {
    write64(bar0, queue_register(number, queue::kSubmissionBase),
            bar0.bus_address(descriptors_.data()));
    write64(bar0, queue_register(number, queue::kCompletionBase),
            bar0.bus_address(completions_.data()));
    bar0.write32(queue_register(number, queue::kSetup),
                 static_cast<std::uint32_t>(queue::kSetupDepthLog2.put(depth_log2) |
                                            queue::kSetupTenant.put(tenant)));
    bar0.write32(queue_register(number, queue::kControl),
                 static_cast<std::uint32_t>(queue::kControlEnable.put(1) |
                                            queue::kControlInterrupt.put(1)));
  }
  ~Bar0Queue() override {
    const std::uint32_t control = queue_register(number_, queue::kControl);
    bar0_.write32(control, static_cast<std::uint32_t>(queue::kControlReset.put(1)));
    while (queue::kControlReset.get(bar0_.read32(control)) != 0)
      bar0_.run();
  }

  std::uint32_t depth() const override { return depth_; }

  std::size_t submit(std::span<const Descriptor> batch) override {
    std::size_t count = 0;
    for (; count < batch.size() && ring_.room() > 0; ++count)
      ring_.push(batch[count]);
    const bool kick = ring_.publish();
    if (page_ == nullptr) {
      bar0_.write32(doorbell_register(number_, doorbell::kTail), ring_.tail());
    }
    if (kick) bar0_.kick();
    return count;
  }

  std::vector<CompletionEntry> poll() override {
    std::vector<CompletionEntry> found;
    while (const auto entry = ring_.take())
      found.push_back(*entry);
    return found;
  }

  std::vector<CompletionEntry> wait() override {
    while (true) {
      auto found = poll();
      if (!found.empty()) return found;
      const std::uint64_t seen = bar0_.interrupts(number_);
      const bool sleep = ring_.arm();
      if (page_ == nullptr) {
        bar0_.write32(doorbell_register(number_, doorbell::kArm), ring_.taken() + 1);
      }
      if (sleep && !bar0_.wait_interrupt(number_, seen)) {
        ADD_FAILURE() << "queue " << number_ << ": no completion within half a minute";
        return {};
      }
    }
  }

  void step(std::uint32_t step) override {
    bar0_.write32(doorbell_register(number_, doorbell::kStep), step);
    bar0_.kick();
  }

 private:
  Bar0& bar0_;
  const std::uint32_t number_, depth_;
  const MutableBytes descriptors_, completions_;
  std::byte* const page_;
  alignas(64) std::array<std::byte, 256> stand_in_{};
  Ring ring_;
};

class Bar0Engine final : public EngineUnderTest {
 public:
  explicit Bar0Engine(std::unique_ptr<Bar0> bar0) : bar0_(std::move(bar0)) {
    bar0_->write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlEnable.put(1)));
  }

  EngineFacts facts() override {
    return {read64(*bar0_, csr::kFeatures),       read64(*bar0_, csr::kCodecs),
            read64(*bar0_, csr::kMemoryBytes),    bar0_->read32(csr::kOpcodes),
            bar0_->read32(csr::kMaxLength),       bar0_->read32(csr::kMaxLayer),
            1U << bar0_->read32(csr::kBlockShift)};
  }
  MutableBytes allocate(std::size_t bytes) override { return bar0_->allocate(bytes); }

  std::uint32_t host_region(std::uint32_t tenant, MutableBytes memory,
                            Access access) override {
    return add(bar0_->bus_address(memory.data()), memory.size(), tenant, access, false);
  }
  std::uint32_t card_region(std::uint32_t tenant, std::uint64_t offset,
                            std::uint64_t length, Access access) override {
    return add(offset, length, tenant, access, true);
  }
  void drop_region(std::uint32_t id) override {
    bar0_->write32(region_register(id, region::kControl), 0);
    bar0_->write32(csr::kInvalidate, id);
    while (csr::kInvalidateBusy.get(bar0_->read32(csr::kInvalidate)) != 0)
      bar0_->run();
  }
  std::unique_ptr<QueueUnderTest> open_queue(std::uint32_t tenant,
                                             std::uint32_t depth_log2) override {
    return std::make_unique<Bar0Queue>(*bar0_, next_queue_++ % kMaxQueues, tenant,
                                       depth_log2);
  }
  Bar0* bar0() override { return bar0_.get(); }

 private:
  std::uint32_t add(std::uint64_t base, std::uint64_t length, std::uint32_t tenant,
                    Access access, bool device) {
    const std::uint32_t id = next_region_++;
    write64(*bar0_, region_register(id, region::kBase), base);
    write64(*bar0_, region_register(id, region::kLength), length);
    bar0_->write32(region_register(id, region::kControl),
                   static_cast<std::uint32_t>(region::kControlValid.put(1) |
                                              region::kControlDevice.put(device) |
                                              region::kControlRead.put(access.read) |
                                              region::kControlWrite.put(access.write) |
                                              region::kControlTenant.put(tenant)));
    return id;
  }

  const std::unique_ptr<Bar0> bar0_;
  std::uint32_t next_region_ = 1, next_queue_ = 0;
};

// ---- The model, and the software engine
// ------------------------------------------------------

class ModelBar0 final : public Bar0, private HostPort {
 public:
  ModelBar0(std::uint64_t memory_bytes, CardOptions options)
      : card_(with_memory(options, pages_.allocate(memory_bytes)), *this) {}

  std::uint32_t read32(std::uint32_t offset) override { return card_.read32(offset); }
  void write32(std::uint32_t offset, std::uint32_t value) override {
    card_.write32(offset, value);
  }
  // Only what was allocated here can be reached: anything else is a fault on the bus.
  MutableBytes allocate(std::size_t bytes) override {
    const MutableBytes memory = pages_.allocate(bytes);
    reachable_[bus_address(memory.data())] = memory;
    return memory;
  }
  std::uint64_t bus_address(const std::byte* at) override {
    return reinterpret_cast<std::uintptr_t>(at);
  }
  std::byte* doorbell_page(std::uint32_t) override { return nullptr; }
  void kick() override {}
  std::uint64_t interrupts(std::uint32_t vector) override { return interrupts_[vector]; }
  bool wait_interrupt(std::uint32_t vector, std::uint64_t seen) override {
    run();
    return interrupts_[vector] > seen;
  }
  void run() override {
    while (card_.work(16)) {}
  }

 private:
  MutableBytes view(std::uint64_t address, std::uint64_t length, bool) noexcept override {
    auto after = reachable_.upper_bound(address);
    if (after == reachable_.begin()) return {};
    const auto& [base, memory] = *std::prev(after);
    if (address - base >= memory.size()) return {};
    // In pieces, as an IOMMU would have it.
    const std::uint64_t piece = std::min<std::uint64_t>(
        {length, memory.size() - (address - base), 4096 - address % 4096});
    return memory.subspan(address - base, piece);
  }
  void interrupt(std::uint32_t vector) noexcept override { ++interrupts_[vector]; }
  static CardOptions with_memory(CardOptions options, MutableBytes memory) {
    options.memory = memory;
    return options;
  }

  Pages pages_;
  std::map<std::uint64_t, MutableBytes> reachable_;
  std::array<std::uint64_t, kVectors> interrupts_{};
  Card card_;
};

class SoftBar0 final : public Bar0 {
 public:
  explicit SoftBar0(std::uint64_t memory_bytes)
      : engine_(CardOptions{.memory = pages_.allocate(memory_bytes)}) {
    EXPECT_TRUE(engine_.start().ok());
    for (std::uint32_t i = 0; i < kMaxQueues; ++i)
      engine_.listen(i, &ears_[i]);
  }
  ~SoftBar0() override {
    for (std::uint32_t i = 0; i < kMaxQueues; ++i)
      engine_.listen(i, nullptr);
  }

  std::uint32_t read32(std::uint32_t offset) override { return engine_.read32(offset); }
  void write32(std::uint32_t offset, std::uint32_t value) override {
    engine_.write32(offset, value);
  }
  MutableBytes allocate(std::size_t bytes) override { return pages_.allocate(bytes); }
  std::uint64_t bus_address(const std::byte* at) override {
    return reinterpret_cast<std::uintptr_t>(at);
  }
  std::byte* doorbell_page(std::uint32_t queue) override {
    return reinterpret_cast<std::byte*>(&engine_.doorbell(queue));
  }
  void kick() override { engine_.kick(); }
  std::uint64_t interrupts(std::uint32_t vector) override {
    if (vector >= kMaxQueues) return 0;
    const std::lock_guard lock(ears_[vector].mutex);
    return ears_[vector].count;
  }
  bool wait_interrupt(std::uint32_t vector, std::uint64_t seen) override {
    Ear& ear = ears_[vector];
    std::unique_lock lock(ear.mutex);
    return ear.heard.wait_for(lock, 30s, [&] { return ear.count > seen; });
  }
  void run() override { std::this_thread::yield(); }

 private:
  struct Ear final : QueueListener {
    std::mutex mutex;
    std::condition_variable heard;
    std::uint64_t count = 0;
    void completed() noexcept override {
      {
        const std::lock_guard lock(mutex);
        ++count;
      }
      heard.notify_all();
    }
    void failed() noexcept override {}
  };

  Pages pages_;
  std::array<Ear, kMaxQueues> ears_;
  SoftEngine engine_;
};

}  // namespace

std::unique_ptr<EngineUnderTest> engine_on(std::unique_ptr<Bar0> bar0) {
  return std::make_unique<Bar0Engine>(std::move(bar0));
}
std::unique_ptr<Bar0> model_bar0(std::uint64_t memory_bytes) {
  return std::make_unique<ModelBar0>(memory_bytes, CardOptions{});
}

std::unique_ptr<Bar0> bare_model_bar0(std::uint64_t memory_bytes) {
  return std::make_unique<ModelBar0>(
      memory_bytes,
      CardOptions{.buffer_bytes = 0, .directory_entries = 0, .max_network = 0});
}
std::unique_ptr<Bar0> soft_bar0(std::uint64_t memory_bytes) {
  return std::make_unique<SoftBar0>(memory_bytes);
}

}  // namespace speckv::test

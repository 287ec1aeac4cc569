// sim: the card's RTL, verilated, in this process, which plays the driver's part as it
// does for soft: (host/device/soft_port.cpp). Linked into a program, it answers to the
// name.
#include <algorithm>
#include <atomic>
#include <bit>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "device/card_port.hpp"
#include "device/memory.hpp"
#include "device/os.hpp"
#include "device/simulated.hpp"
#include "device/soft_engine.hpp"
#include "rtl/bit_flips.hpp"
#include "sim/rtl/rtl_card.hpp"

namespace speckv::test {
namespace {

using namespace engine;

constexpr std::uint32_t kCardRegion = 1;  // all of the card's memory
constexpr std::uint32_t kTenant = 0;
constexpr std::size_t kBeat = 64;  // what the card reads at least

constexpr std::uint32_t region_register(std::uint32_t number, std::uint32_t offset) {
  return kRegionWindow + number * kRegionStride + offset;
}
constexpr std::uint32_t queue_register(std::uint32_t number, std::uint32_t offset) {
  return kQueueWindow + number * kQueueStride + offset;
}
constexpr std::uint32_t bits(std::uint64_t fields) {
  return static_cast<std::uint32_t>(fields);
}

// A queue pair as the engine sees it: its doorbells are memory here, and carried to the
// card's registers.
struct Opened {
  DoorbellPage page{};
  QueueListener* listener = nullptr;
  std::uint32_t tail = 0, arm = 0;  // as the card knows them

  void begin(QueueListener* who) {
    page.tail = page.arm = page.step = 0;
    page.need_kick = 1;  // somebody has to carry them
    tail = arm = 0;
    listener = who;
  }
};

// The card, and the thread in which its time passes. Any thread.
class RtlEngine final : private HostPort {
 public:
  explicit RtlEngine(MutableBytes memory) : card_(sim::rtl_card({}, memory, *this)) {
    worker_ = std::thread([this] { run(); });
  }
  ~RtlEngine() {
    stop_.store(true);
    kick();
    worker_.join();
  }

  // Uses the card while it does nothing else: use(card).
  template <class Use>
  auto with_card(Use&& use) {
    const std::lock_guard lock(mutex_);
    return use(*card_);
  }
  Opened& queue(std::uint32_t number) { return queues_[number]; }
  void kick() noexcept {
    kicks_.fetch_add(1);
    kicks_.notify_one();
  }
  // REQUIRES: inside with_card(). What the card may reach from then on, rings or data, or
  // no more.
  void reach(MutableBytes memory, bool rings) { reachable_.push_back({memory, rings}); }
  void leave(MutableBytes memory) {
    const auto same = [&](const Reachable& r) {
      return r.memory.data() == memory.data();
    };
    const auto at = std::ranges::find_if(reachable_, same);
    if (at != reachable_.end()) reachable_.erase(at);
  }

 private:
  void run() {
    while (!stop_.load()) {
      const std::uint32_t kicks = kicks_.load();
      bool more = false;
      {
        const std::lock_guard lock(mutex_);
        carry_doorbells();
        flip_bits();
        more = card_->run();
        if (std::exchange(errors_, false)) tell_errors();
      }
      if (!more) kicks_.wait(kicks);
    }
  }

  void flip_bits() {
    if (card_->flipped(flipping_)) bit_flips.done.fetch_add(1);
    const std::uint32_t within = bit_flips.within.load();
    if (within == 0 || reachable_.empty()) return;
    const auto any = [&](std::uint32_t n) {
      return static_cast<std::uint32_t>(random_() % n);
    };
    sim::Flip flip{.end = ~std::uint64_t{0}, .nth = 1 + any(within), .bit = any(512)};
    flipping_ = any(2) == 0 ? sim::Bus::host : sim::Bus::memory;
    if (flipping_ == sim::Bus::host) {
      const Reachable& r = reachable_[random_() % reachable_.size()];
      if (r.rings) return;
      flip.from = reinterpret_cast<std::uintptr_t>(r.memory.data()) / kBeat * kBeat;
      flip.end = flip.from + r.memory.size();
    }
    card_->flip(flipping_, any(2) == 0, flip);
  }

  void carry_doorbells() {
    for (std::uint32_t n = 0; n < kMaxQueues; ++n) {
      Opened& queue = queues_[n];
      if (queue.listener == nullptr) continue;
      const std::uint32_t page = kDoorbellWindow + n * kDoorbellStride;
      if (const auto tail = queue.page.tail.load(); tail != queue.tail)
        card_->write32(page + doorbell::kTail, queue.tail = tail);
      if (const auto arm = queue.page.arm.load(); arm != queue.arm)
        card_->write32(page + doorbell::kArm, queue.arm = arm);
    }
  }

  void tell_errors() {
    while (card_->read32(csr::kErrorPending) != 0) {
      const std::uint32_t info = card_->read32(csr::kErrorInfo);
      card_->write32(csr::kErrorPop, 0);
      const auto number = static_cast<std::uint32_t>(csr::kErrorInfoQueue.get(info));
      if (number < kMaxQueues && queues_[number].listener != nullptr)
        queues_[number].listener->failed();
    }
  }

  // Whole beats around what was registered, as the pages of a real one would have them.
  MutableBytes view(std::uint64_t address, std::uint64_t length, bool) noexcept override {
    for (const auto& [memory, rings] : reachable_) {
      const auto base = reinterpret_cast<std::uintptr_t>(memory.data());
      const std::uint64_t first = base / kBeat * kBeat;
      const std::uint64_t last = (base + memory.size() + kBeat - 1) / kBeat * kBeat;
      if (address < first || address >= last) continue;
      return {reinterpret_cast<std::byte*>(address),
              static_cast<std::size_t>(std::min(length, last - address))};
    }
    return {};
  }
  void interrupt(std::uint32_t vector) noexcept override {
    if (vector >= kMaxQueues) {
      errors_ = true;
    } else if (queues_[vector].listener != nullptr) {
      queues_[vector].listener->completed();
    }
  }

  struct Reachable {
    MutableBytes memory;
    bool rings;
  };

  TurnMutex mutex_;  // guards what follows, but for the pages
  std::vector<Reachable> reachable_;
  std::array<Opened, kMaxQueues> queues_{};
  bool errors_ = false;
  sim::Bus flipping_ = sim::Bus::host;
  std::minstd_rand random_{1};
  std::unique_ptr<sim::RtlCard> card_;
  std::atomic<std::uint32_t> kicks_{0};
  std::atomic<bool> stop_{false};
  std::thread worker_;
};

// REQUIRES: inside with_card().
void write64(sim::RtlCard& card, std::uint32_t offset, std::uint64_t value) {
  card.write32(offset, static_cast<std::uint32_t>(value));
  card.write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
}
void set_region(sim::RtlCard& card, std::uint32_t number, std::uint64_t base,
                std::uint64_t length, std::uint64_t control) {
  write64(card, region_register(number, region::kBase), base);
  write64(card, region_register(number, region::kLength), length);
  card.write32(
      region_register(number, region::kControl),
      bits(region::kControlValid.put(1) | region::kControlRead.put(1) |
           region::kControlWrite.put(1) | region::kControlTenant.put(kTenant) | control));
}
void reset_queue(sim::RtlCard& card, std::uint32_t number) {
  card.write32(queue_register(number, queue::kControl),
               bits(queue::kControlReset.put(1)));
  while (queue::kControlReset.get(card.read32(queue_register(number, queue::kControl))) !=
         0) {
    card.run();
  }
}

class RtlQueue final : public CardQueue, private QueueListener {
 public:
  RtlQueue(RtlEngine& engine, std::vector<std::uint32_t>& free, std::uint32_t number,
           std::uint32_t entries, Waker waker)
      : engine_(engine),
        free_(free),
        number_(number),
        entries_(entries),
        waker_(std::move(waker)),
        rings_(entries_ + (entries_ + 3) / 4) {
    engine_.with_card([&](sim::RtlCard& card) {
      engine_.reach(bytes(), true);
      enable(card);
    });
  }
  ~RtlQueue() override {
    engine_.with_card([&](sim::RtlCard& card) {
      reset_queue(card, number_);
      engine_.queue(number_).listener = nullptr;
      engine_.leave(bytes());
    });
    free_.push_back(number_);
  }

  Ring& ring() noexcept override { return *ring_; }
  void kick() noexcept override { engine_.kick(); }
  Health health() const noexcept override {
    return failed_.load() ? Health::failed : Health::good;
  }
  bool restart() noexcept override {
    engine_.with_card([&](sim::RtlCard& card) {
      reset_queue(card, number_);
      std::fill(rings_.begin(), rings_.end(), Line{});
      failed_.store(false);
      enable(card);
    });
    return true;
  }
  void await(std::chrono::nanoseconds at_most) noexcept override {
    engine_.kick();  // carries what was armed
    waker_.wait(at_most);
  }
  void wake() noexcept override { waker_.wake(); }

 private:
  // Descriptors, then completions, a cache line at a time.
  struct alignas(kBeat) Line {
    std::byte bytes[kBeat]{};
  };

  MutableBytes bytes() { return {rings_.data()->bytes, rings_.size() * sizeof(Line)}; }

  void enable(sim::RtlCard& card) {
    std::byte* submission = rings_.data()->bytes;
    std::byte* completion = rings_[entries_].bytes;
    Opened& opened = engine_.queue(number_);
    opened.begin(this);
    ring_.emplace(submission, completion, reinterpret_cast<std::byte*>(&opened.page),
                  entries_, true);
    write64(card, queue_register(number_, queue::kSubmissionBase),
            reinterpret_cast<std::uintptr_t>(submission));
    write64(card, queue_register(number_, queue::kCompletionBase),
            reinterpret_cast<std::uintptr_t>(completion));
    const auto depth = static_cast<unsigned>(std::countr_zero(entries_));
    card.write32(
        queue_register(number_, queue::kSetup),
        bits(queue::kSetupDepthLog2.put(depth) | queue::kSetupTenant.put(kTenant)));
    card.write32(queue_register(number_, queue::kControl),
                 bits(queue::kControlEnable.put(1) | queue::kControlInterrupt.put(1)));
  }

  // QueueListener: with the engine's lock held.
  void completed() noexcept override { waker_.wake(); }
  void failed() noexcept override {
    failed_.store(true);
    waker_.wake();
  }

  RtlEngine& engine_;
  std::vector<std::uint32_t>& free_;  // the port's, whose owner calls one at a time
  const std::uint32_t number_, entries_;
  Waker waker_;
  std::vector<Line> rings_;
  std::optional<Ring> ring_;
  std::atomic<bool> failed_{false};
};

class RtlPort final : public CardPort {
 public:
  explicit RtlPort(MappedBytes mapping)
      : mapping_(std::move(mapping)), engine_(mapping_.bytes()) {
    engine_.with_card([&](sim::RtlCard& card) {
      max_length_ = card.read32(csr::kMaxLength);
      for (std::uint32_t n = card.read32(csr::kRegions) - 1; n > kCardRegion; --n)
        free_regions_.push_back(n);
      set_region(card, kCardRegion, 0, mapping_.bytes().size(),
                 region::kControlDevice.put(1));
      card.write32(csr::kControl, bits(csr::kControlEnable.put(1)));
    });
    for (std::uint32_t n = kMaxQueues; n > 0; --n)
      free_queues_.push_back(n - 1);
    memory_of_.resize(kMaxRegions);
  }

  std::uint32_t memory_region() const noexcept override { return kCardRegion; }
  std::uint32_t max_length() const noexcept override { return max_length_; }
  Result<Region> add_region(MutableBytes memory) override {
    if (free_regions_.empty())
      return Status(Code::no_space, "the card's region table is full");
    const std::uint32_t number = free_regions_.back();
    free_regions_.pop_back();
    memory_of_[number] = memory;
    engine_.with_card([&](sim::RtlCard& card) {
      engine_.reach(memory, false);
      set_region(card, number, reinterpret_cast<std::uintptr_t>(memory.data()),
                 memory.size(), 0);
    });
    return Region{number, 0};
  }
  void drop_region(std::uint32_t number) noexcept override {
    engine_.with_card([&](sim::RtlCard& card) {
      card.write32(region_register(number, region::kControl), 0);
      card.write32(csr::kInvalidate, bits(csr::kInvalidateRegion.put(number)));
      while (csr::kInvalidateBusy.get(card.read32(csr::kInvalidate)) != 0)
        card.run();
      engine_.leave(memory_of_[number]);
    });
    free_regions_.push_back(number);
  }
  Result<std::unique_ptr<CardQueue>> open_queue(std::uint32_t entries) override {
    Result<Waker> waker = Waker::create();
    if (!waker.ok()) return waker.error();
    if (free_queues_.empty())
      return Status(Code::no_space, "all queues of the card are open");
    const std::uint32_t number = free_queues_.back();
    free_queues_.pop_back();
    return std::unique_ptr<CardQueue>(std::make_unique<RtlQueue>(
        engine_, free_queues_, number, entries, std::move(*waker)));
  }

 private:
  const MappedBytes mapping_;
  RtlEngine engine_;
  std::uint32_t max_length_ = 0;
  std::vector<std::uint32_t> free_regions_, free_queues_;
  std::vector<MutableBytes> memory_of_;  // by region
};

OpenedDevice open_rtl(const DeviceUri& uri) {
  if (uri.size % 4096 != 0) {
    return Status(Code::invalid_argument,
                  "device \"" + uri.text + "\": a card's size is a multiple of 4096");
  }
  Result<MappedBytes> mapping = map_anonymous(uri);
  if (!mapping.ok()) return mapping.error();
  DeviceInfo info = info_from(uri);
  info.capacity = uri.size;
  info.simulated = true;
  info.note = "the card's RTL, verilated";
  return card_device(std::move(info), std::make_unique<RtlPort>(std::move(*mapping)));
}

const bool answers = (set_simulated_opener(open_rtl), true);

}  // namespace
}  // namespace speckv::test

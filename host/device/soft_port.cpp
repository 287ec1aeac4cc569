// soft: the card's engine in software, in this process, which plays the driver's part: it
// writes the registers of regions and queues.
#include <algorithm>
#include <atomic>
#include <bit>
#include <optional>
#include <vector>

#include "device/card_port.hpp"
#include "device/memory.hpp"
#include "device/open.hpp"
#include "device/os.hpp"
#include "device/soft_engine.hpp"

namespace speckv {
namespace {

using namespace engine;

constexpr std::uint32_t kCardRegion = 1;  // all of the card's memory
constexpr std::uint32_t kTenant = 0;      // a process is one tenant of its own card

constexpr std::uint32_t region_register(std::uint32_t number, std::uint32_t offset) {
  return kRegionWindow + number * kRegionStride + offset;
}
constexpr std::uint32_t queue_register(std::uint32_t number, std::uint32_t offset) {
  return kQueueWindow + number * kQueueStride + offset;
}

class SoftPort final : public CardPort {
 public:
  explicit SoftPort(MappedBytes mapping)
      : mapping_(std::move(mapping)), engine_(CardOptions{.memory = mapping_.bytes()}) {}

  Status start();
  SoftEngine& engine() noexcept { return engine_; }
  void close_queue(std::uint32_t number);

  std::uint32_t memory_region() const noexcept override { return kCardRegion; }
  std::uint32_t max_length() const noexcept override { return max_length_; }
  std::uint64_t features() const noexcept override { return features_; }
  std::uint64_t codecs() const noexcept override { return codecs_; }
  Result<Region> add_region(MutableBytes memory) override;
  void drop_region(std::uint32_t number) noexcept override {
    engine_.write32(region_register(number, region::kControl), 0);
    free_regions_.push_back(number);
  }
  Result<std::unique_ptr<CardQueue>> open_queue(std::uint32_t entries) override;

 private:
  void set_region(std::uint32_t number, std::uint64_t base, std::uint64_t length,
                  std::uint32_t control);

  const MappedBytes mapping_;
  SoftEngine engine_;
  std::uint32_t max_length_ = 0;
  std::uint64_t features_ = 0, codecs_ = 0;
  std::vector<std::uint32_t> free_regions_;
  std::vector<std::uint32_t> free_queues_;
};

class SoftQueue final : public CardQueue, private QueueListener {
 public:
  SoftQueue(SoftPort& port, std::uint32_t number, std::uint32_t entries, Waker waker)
      : port_(port),
        number_(number),
        entries_(entries),
        waker_(std::move(waker)),
        rings_(entries_ + (entries_ + 3) / 4) {
    port_.engine().listen(number_, this);
    enable();
  }
  ~SoftQueue() override {
    port_.engine().listen(number_, nullptr);
    port_.close_queue(number_);
  }

  Ring& ring() noexcept override { return *ring_; }
  void kick() noexcept override { port_.engine().kick(); }
  Health health() const noexcept override {
    return failed_.load() ? Health::failed : Health::good;
  }
  bool restart() noexcept override {
    port_.engine().write32(queue_register(number_, queue::kControl),
                           static_cast<std::uint32_t>(queue::kControlReset.put(1)));
    const std::uint32_t status = port_.engine().read32(csr::kStatus);
    if (csr::kStatusFatal.get(status) != 0) return false;
    std::fill(rings_.begin(), rings_.end(), Line{});
    failed_.store(false);
    enable();
    return true;
  }
  void await(std::chrono::nanoseconds at_most) noexcept override { waker_.wait(at_most); }
  void wake() noexcept override { waker_.wake(); }

 private:
  // Descriptors, then completions, a cache line at a time.
  struct alignas(64) Line {
    std::byte bytes[64]{};
  };

  void enable();

  // QueueListener: by the engine's thread.
  void completed() noexcept override { waker_.wake(); }
  void failed() noexcept override {
    failed_.store(true);
    waker_.wake();
  }

  SoftPort& port_;
  const std::uint32_t number_, entries_;
  Waker waker_;
  std::vector<Line> rings_;
  std::optional<Ring> ring_;
  std::atomic<bool> failed_{false};
};

void SoftQueue::enable() {
  std::byte* submission = rings_.data()->bytes;
  std::byte* completion = rings_[entries_].bytes;
  auto* page = reinterpret_cast<std::byte*>(&port_.engine().doorbell(number_));
  ring_.emplace(submission, completion, page, entries_, true);
  port_.engine().with_card([&](Card& card) {
    const auto set = [&](std::uint32_t offset, std::uint64_t value, bool wide) {
      card.write32(queue_register(number_, offset), static_cast<std::uint32_t>(value));
      if (!wide) return;
      card.write32(queue_register(number_, offset + 4),
                   static_cast<std::uint32_t>(value >> 32));
    };
    set(queue::kSubmissionBase, reinterpret_cast<std::uintptr_t>(submission), true);
    set(queue::kCompletionBase, reinterpret_cast<std::uintptr_t>(completion), true);
    set(queue::kSetup,
        queue::kSetupDepthLog2.put(static_cast<unsigned>(std::countr_zero(entries_))) |
            queue::kSetupTenant.put(kTenant),
        false);
    set(queue::kControl, queue::kControlEnable.put(1) | queue::kControlInterrupt.put(1),
        false);
  });
  port_.engine().kick();  // it may sleep without need_kick of this queue
}

Status SoftPort::start() {
  if (Status status = engine_.start(); !status.ok()) return status;
  max_length_ = engine_.read32(csr::kMaxLength);
  const auto wide = [this](std::uint32_t at) {
    return engine_.read32(at) | std::uint64_t{engine_.read32(at + 4)} << 32;
  };
  features_ = wide(csr::kFeatures);
  codecs_ = wide(csr::kCodecs);
  for (std::uint32_t n = engine_.read32(csr::kRegions) - 1; n > kCardRegion; --n)
    free_regions_.push_back(n);
  for (std::uint32_t n = kMaxQueues; n > 0; --n)
    free_queues_.push_back(n - 1);
  set_region(kCardRegion, 0, mapping_.bytes().size(),
             static_cast<std::uint32_t>(region::kControlDevice.put(1)));
  engine_.write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlEnable.put(1)));
  return {};
}

void SoftPort::set_region(std::uint32_t number, std::uint64_t base, std::uint64_t length,
                          std::uint32_t control) {
  const std::uint64_t all = region::kControlValid.put(1) | region::kControlRead.put(1) |
                            region::kControlWrite.put(1) |
                            region::kControlTenant.put(kTenant) | control;
  engine_.write64(region_register(number, region::kBase), base);
  engine_.write64(region_register(number, region::kLength), length);
  engine_.write32(region_register(number, region::kControl),
                  static_cast<std::uint32_t>(all));
}

Result<CardPort::Region> SoftPort::add_region(MutableBytes memory) {
  if (free_regions_.empty()) {
    return Status(Code::no_space, "the card's region table is full");
  }
  const std::uint32_t number = free_regions_.back();
  free_regions_.pop_back();
  set_region(number, reinterpret_cast<std::uintptr_t>(memory.data()), memory.size(), 0);
  return Region{number, 0};
}

Result<std::unique_ptr<CardQueue>> SoftPort::open_queue(std::uint32_t entries) {
  Result<Waker> waker = Waker::create();
  if (!waker.ok()) return waker.error();
  if (free_queues_.empty()) {
    return Status(Code::no_space, "all queues of the card are open");
  }
  const std::uint32_t number = free_queues_.back();
  free_queues_.pop_back();
  return std::unique_ptr<CardQueue>(
      std::make_unique<SoftQueue>(*this, number, entries, std::move(*waker)));
}

void SoftPort::close_queue(std::uint32_t number) {
  engine_.write32(queue_register(number, queue::kControl),
                  static_cast<std::uint32_t>(queue::kControlReset.put(1)));
  free_queues_.push_back(number);
}

}  // namespace

Result<SoftCard> open_soft_card(const DeviceUri& uri) {
  Result<MappedBytes> mapping = map_anonymous(uri);
  if (!mapping.ok()) return mapping.error();
  auto port = std::make_unique<SoftPort>(std::move(*mapping));
  if (Status status = port->start(); !status.ok()) return status;
  SoftEngine& engine = port->engine();
  return SoftCard{std::move(port), &engine};
}

OpenedDevice open_soft(const DeviceUri& uri) {
  auto card = open_soft_card(uri);
  if (!card.ok()) return card.error();
  DeviceInfo info = info_from(uri);
  info.capacity = uri.size;
  info.simulated = true;
  info.note = "the card's engine in software";
  return card_device(std::move(info), std::move(card->port));
}

}  // namespace speckv

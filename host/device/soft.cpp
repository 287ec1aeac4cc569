// soft: the card's engine in software, behind the library's Device.
//
// A queue of the device is a queue pair of the engine, with its rings in this process: a
// transfer becomes a COPY between a region of the card and one of the caller. Wrong
// transfers are refused by the engine, as a card would.
#include <algorithm>
#include <array>
#include <bit>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "device/memory.hpp"
#include "device/open.hpp"
#include "device/os.hpp"
#include "device/ring.hpp"
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

Code code_of_answer(Answer answer) noexcept {
  switch (answer) {
    case Answer::ok:
      return Code::ok;
    case Answer::bad_desc:
    case Answer::bad_region:
      return Code::invalid_argument;
    case Answer::corrupted:
    case Answer::poison:
      return Code::corrupted;
    case Answer::aborted:
    case Answer::bus_error:
      return Code::io_error;
    case Answer::unsupported:
    case Answer::unencodable:
      return Code::unsupported;
    case Answer::no_space:
      return Code::no_space;
    case Answer::not_found:
      return Code::not_found;
    case Answer::busy:
      return Code::busy;
  }
  return Code::internal;
}

class SoftDevice final : public Device {
 public:
  SoftDevice(DeviceInfo info, MappedBytes mapping)
      : info_(std::move(info)),
        mapping_(std::move(mapping)),
        engine_(CardOptions{.memory = mapping_.bytes()}) {}

  Status start();
  const DeviceInfo& info() const noexcept override { return info_; }
  Status attach(RegionId region, MutableBytes memory) override;
  Status detach(RegionId region) override;
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override;

  SoftEngine& engine() noexcept { return engine_; }
  std::uint32_t max_length() const noexcept { return max_length_; }
  void close_queue(std::uint32_t number);

  // The card's numbers for the caller's regions, while they are looked at.
  class Numbers {
   public:
    explicit Numbers(const SoftDevice& device)
        : lock_(device.mutex_), regions_(device.regions_) {}
    std::uint32_t of(RegionId id) const noexcept {
      const auto where = regions_.find(id);
      return where == regions_.end() ? 0 : where->second;  // 0: the engine refuses it
    }

   private:
    std::shared_lock<std::shared_mutex> lock_;
    const std::unordered_map<RegionId, std::uint32_t>& regions_;
  };

 private:
  void set_region(std::uint32_t number, std::uint64_t base, std::uint64_t length,
                  std::uint32_t control);

  const DeviceInfo info_;
  const MappedBytes mapping_;
  SoftEngine engine_;
  std::uint32_t max_length_ = 0;
  mutable std::shared_mutex mutex_;  // guards what follows
  std::unordered_map<RegionId, std::uint32_t> regions_;
  std::vector<std::uint32_t> free_regions_;
  std::vector<std::uint32_t> free_queues_;
};

class SoftQueue final : public Queue, private QueueListener {
 public:
  SoftQueue(SoftDevice& device, std::uint32_t number, std::uint32_t depth, Waker waker)
      : device_(device),
        number_(number),
        depth_(depth),
        entries_(std::bit_ceil(std::max(depth, 2U))),
        waker_(std::move(waker)),
        rings_(entries_ + (entries_ + 3) / 4),
        ring_(make_ring()),
        slots_(depth) {
    for (std::uint32_t i = depth; i > 0; --i)
      free_.push_back(static_cast<std::uint16_t>(i - 1));
    device_.engine().listen(number_, this);
    enable();
  }

  ~SoftQueue() override {
    // What was accepted is finished, or has been given up with the queue.
    const auto deadline = deadline_after(device_.info().timeout);
    std::array<Completion, 64> done{};
    while (free_.size() < depth_) {
      while (poll(done) != 0) {}
      const auto left = deadline - std::chrono::steady_clock::now();
      if (free_.size() == depth_ || left <= left.zero()) break;
      wait(left);
    }
    device_.engine().listen(number_, nullptr);
    device_.close_queue(number_);
  }

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    const SoftDevice::Numbers numbers(device_);
    std::size_t count = 0;
    for (; count < batch.size() && !free_.empty(); ++count) {
      const std::uint16_t slot = free_.back();
      free_.pop_back();
      slots_[slot] = {batch[count].tag, true};
      ring_.push(describe(batch[count], numbers, slot));
    }
    if (count != 0 && ring_.publish()) device_.engine().kick();
    return count;
  }

  std::size_t poll(std::span<Completion> out) noexcept override {
    std::size_t count = 0;
    for (; count < out.size(); ++count) {
      const auto entry = ring_.take();
      if (!entry) break;
      const auto answer = static_cast<Answer>(completion::kStatusCode.get(entry->status));
      out[count] = release(entry->tag, code_of_answer(answer));
    }
    if (count < out.size() && failed_.load()) count += recover(out.subspan(count));
    return count;
  }

  void wait(std::chrono::nanoseconds at_most) noexcept override {
    const auto deadline = deadline_after(at_most);
    while (!woken_.exchange(false) && !failed_.load() && ring_.arm()) {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= left.zero()) return;
      waker_.wait(left);
    }
  }

  void wake() noexcept override {
    woken_.store(true);
    waker_.wake();
  }

 private:
  struct Slot {
    std::uint64_t tag = 0;
    bool busy = false;
  };
  // Descriptors, then completions, a cache line at a time.
  struct alignas(64) Line {
    std::byte bytes[64]{};
  };

  Ring make_ring() noexcept {
    auto* page = reinterpret_cast<std::byte*>(&device_.engine().doorbell(number_));
    return {rings_.data()->bytes, rings_[entries_].bytes, page, entries_, true};
  }

  void enable() {
    device_.engine().with_card([&](Card& card) {
      const auto set = [&](std::uint32_t offset, std::uint64_t value, bool wide) {
        card.write32(queue_register(number_, offset), static_cast<std::uint32_t>(value));
        if (!wide) return;
        card.write32(queue_register(number_, offset + 4),
                     static_cast<std::uint32_t>(value >> 32));
      };
      set(queue::kSubmissionBase, reinterpret_cast<std::uintptr_t>(rings_.data()->bytes),
          true);
      set(queue::kCompletionBase,
          reinterpret_cast<std::uintptr_t>(rings_[entries_].bytes), true);
      set(queue::kSetup,
          queue::kSetupDepthLog2.put(static_cast<unsigned>(std::countr_zero(entries_))) |
              queue::kSetupTenant.put(kTenant),
          false);
      set(queue::kControl, queue::kControlEnable.put(1) | queue::kControlInterrupt.put(1),
          false);
    });
    device_.engine().kick();  // it may sleep without need_kick of this queue
  }

  Descriptor describe(const Transfer& transfer, const SoftDevice::Numbers& numbers,
                      std::uint16_t slot) const noexcept {
    Descriptor d;
    d.tag = slot;
    if (transfer.op == Transfer::Op::flush) {
      d.opcode = static_cast<std::uint8_t>(Opcode::fence);
      return d;
    }
    const bool reading = transfer.op == Transfer::Op::read;
    if (!reading && transfer.op != Transfer::Op::write) {
      d.opcode = 0xFF;  // the enum may come from anywhere; the engine refuses it
      return d;
    }
    const std::uint32_t mine = numbers.of(transfer.memory.region);
    d.opcode = static_cast<std::uint8_t>(Opcode::copy);
    d.src_region = reading ? kCardRegion : mine;
    d.dst_region = reading ? mine : kCardRegion;
    d.src_offset = reading ? transfer.offset : transfer.memory.offset;
    d.dst_offset = reading ? transfer.memory.offset : transfer.offset;
    if (transfer.memory.length <= device_.max_length()) {  // else 0, which is refused
      d.length = static_cast<std::uint32_t>(transfer.memory.length);
    }
    return d;
  }

  Completion release(std::uint16_t slot, Code code) noexcept {
    slots_[slot].busy = false;
    free_.push_back(slot);
    return {slots_[slot].tag, code};
  }

  // The queue went into error: it is reset, what it had not answered failed, and once all
  // of that is told it starts anew. Returns how many of `out` were told.
  std::size_t recover(std::span<Completion> out) noexcept {
    if (!reset_) {
      device_.engine().write32(queue_register(number_, queue::kControl),
                               static_cast<std::uint32_t>(queue::kControlReset.put(1)));
      reset_ = true;
      if (ring_.ready()) return 0;  // answered before the reset: told by the next poll()
    }
    std::size_t count = 0;
    for (std::uint16_t slot = 0; slot < slots_.size() && count < out.size(); ++slot) {
      if (slots_[slot].busy) out[count++] = release(slot, Code::io_error);
    }
    if (free_.size() == depth_) {
      std::fill(rings_.begin(), rings_.end(), Line{});
      std::destroy_at(&ring_);
      std::construct_at(&ring_, make_ring());
      reset_ = false;
      failed_.store(false);
      enable();
    }
    return count;
  }

  // QueueListener: by the engine's thread.
  void completed() noexcept override { waker_.wake(); }
  void failed() noexcept override {
    failed_.store(true);
    waker_.wake();
  }

  SoftDevice& device_;
  const std::uint32_t number_, depth_, entries_;
  Waker waker_;
  std::vector<Line> rings_;
  Ring ring_;
  std::vector<Slot> slots_;
  std::vector<std::uint16_t> free_;  // slots that carry nothing
  std::atomic<bool> woken_{false}, failed_{false};
  bool reset_ = false;
};

Status SoftDevice::start() {
  if (Status status = engine_.start(); !status.ok()) return status;
  max_length_ = engine_.read32(csr::kMaxLength);
  for (std::uint32_t n = engine_.read32(csr::kRegions) - 1; n > kCardRegion; --n)
    free_regions_.push_back(n);
  for (std::uint32_t n = kMaxQueues; n > 0; --n)
    free_queues_.push_back(n - 1);
  set_region(kCardRegion, 0, info_.capacity,
             static_cast<std::uint32_t>(region::kControlDevice.put(1)));
  engine_.write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlEnable.put(1)));
  return {};
}

void SoftDevice::set_region(std::uint32_t number, std::uint64_t base,
                            std::uint64_t length, std::uint32_t control) {
  const std::uint64_t all = region::kControlValid.put(1) | region::kControlRead.put(1) |
                            region::kControlWrite.put(1) |
                            region::kControlTenant.put(kTenant) | control;
  engine_.write64(region_register(number, region::kBase), base);
  engine_.write64(region_register(number, region::kLength), length);
  engine_.write32(region_register(number, region::kControl),
                  static_cast<std::uint32_t>(all));
}

Status SoftDevice::attach(RegionId id, MutableBytes memory) {
  if (id == RegionId{}) return {Code::invalid_argument, "region id 0 is never valid"};
  if (memory.empty()) return {Code::invalid_argument, "a region cannot be empty"};
  const std::unique_lock lock(mutex_);
  if (regions_.contains(id)) {
    return {Code::invalid_argument,
            "region id " + std::to_string(static_cast<std::uint32_t>(id)) + " is taken"};
  }
  if (free_regions_.empty()) {
    return {Code::no_space, "the card's region table is full"};
  }
  const std::uint32_t number = free_regions_.back();
  free_regions_.pop_back();
  regions_.emplace(id, number);
  set_region(number, reinterpret_cast<std::uintptr_t>(memory.data()), memory.size(), 0);
  return {};
}

Status SoftDevice::detach(RegionId id) {
  const std::unique_lock lock(mutex_);
  const auto where = regions_.find(id);
  if (where == regions_.end()) {
    return {Code::not_found,
            "no region has the id " + std::to_string(static_cast<std::uint32_t>(id))};
  }
  engine_.write32(region_register(where->second, region::kControl), 0);
  free_regions_.push_back(where->second);
  regions_.erase(where);
  return {};
}

Result<std::unique_ptr<Queue>> SoftDevice::open_queue(std::uint32_t depth) {
  if (Status status = check_depth(depth); !status.ok()) return status;
  Result<Waker> waker = Waker::create();
  if (!waker.ok()) return waker.error();
  std::uint32_t number = 0;
  {
    const std::unique_lock lock(mutex_);
    if (free_queues_.empty()) {
      return Status(Code::no_space, "all queues of the card are open");
    }
    number = free_queues_.back();
    free_queues_.pop_back();
  }
  return std::unique_ptr<Queue>(
      std::make_unique<SoftQueue>(*this, number, depth, std::move(*waker)));
}

void SoftDevice::close_queue(std::uint32_t number) {
  engine_.write32(queue_register(number, queue::kControl),
                  static_cast<std::uint32_t>(queue::kControlReset.put(1)));
  const std::unique_lock lock(mutex_);
  free_queues_.push_back(number);
}

}  // namespace

OpenedDevice open_soft(const DeviceUri& uri) {
  Result<MappedBytes> mapping = map_anonymous(uri);
  if (!mapping.ok()) return mapping.error();
  DeviceInfo info = info_from(uri);
  info.capacity = uri.size;
  info.simulated = true;
  info.note = "the card's engine in software";
  auto device = std::make_shared<SoftDevice>(std::move(info), std::move(*mapping));
  if (Status status = device->start(); !status.ok()) return status;
  return std::shared_ptr<Device>(std::move(device));
}

}  // namespace speckv

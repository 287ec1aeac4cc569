// A device behind a link that costs time. Transfers are forwarded at once, and
// completions held until the link would have delivered them.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>

#include "cxlspeckv/devices.hpp"

#include "device/os.hpp"
#include "device/queue.hpp"

namespace speckv {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

struct Preset {
  std::string_view name;
  LinkModel link;
};
constexpr std::array<Preset, 5> kPresets{{{"dram", {100ns, 0}},
                                          {"cxl", {250ns, 28e9}},
                                          {"cxl-far", {640ns, 17e9}},
                                          {"nvme", {80us, 7e9}},
                                          {"gbe", {200us, 118e6}}}};

// The link that all queues of a device share: one transfer occupies it at a time.
class Link {
 public:
  explicit Link(LinkModel model) noexcept : model_(model) {}

  // When a transfer of that many bytes which starts now will have arrived.
  steady_clock::time_point pass(std::uint64_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    free_at_ = std::max(free_at_, steady_clock::now()) + occupancy(bytes);
    return free_at_ + model_.latency;
  }

 private:
  nanoseconds occupancy(std::uint64_t bytes) const noexcept {
    if (!(model_.bytes_per_second > 0)) return 0ns;
    constexpr double kMost = 3600e9;  // an hour: absurd links must not overflow
    const double ns =
        std::ceil(static_cast<double>(bytes) / model_.bytes_per_second * 1e9);
    return nanoseconds(static_cast<std::int64_t>(std::min(ns, kMost)));
  }

  const LinkModel model_;
  std::mutex mutex_;
  steady_clock::time_point free_at_{};
};

class ThrottledDevice final : public Device {
 public:
  ThrottledDevice(std::shared_ptr<Device> inner, LinkModel model)
      : inner_(std::move(inner)), info_(inner_->info()), link_(model) {
    info_.memory = false;
    info_.simulated = true;
    if (!info_.note.empty()) info_.note += "; ";
    info_.note += "throttled";
  }

  const DeviceInfo& info() const noexcept override { return info_; }
  Status attach(RegionId region, MutableBytes memory) override {
    if (Status status = inner_->attach(region, memory); !status.ok()) return status;
    Status status = regions_.attach(region, memory);
    if (!status.ok()) (void)inner_->detach(region);
    return status;
  }
  Status detach(RegionId region) override {
    if (Status status = inner_->detach(region); !status.ok()) return status;
    return regions_.detach(region);
  }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override;

  const RegionTable& regions() const noexcept { return regions_; }
  Link& link() noexcept { return link_; }

 private:
  const std::shared_ptr<Device> inner_;
  DeviceInfo info_;
  RegionTable regions_;
  Link link_;
};

class ThrottledQueue final : public Queue {
 public:
  ThrottledQueue(ThrottledDevice& device, std::unique_ptr<Queue> inner,
                 std::uint32_t depth)
      : device_(device), inner_(std::move(inner)), slots_(depth), forwarded_(depth) {
    for (std::uint32_t i = depth; i > 0; --i)
      free_.push_back(i - 1);
    arrived_.reserve(depth);
  }

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    batch = batch.first(std::min(batch.size(), free_.size()));
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const std::uint32_t index = free_.back();
      free_.pop_back();
      slots_[index] = {batch[i].tag, Code::ok, due(batch[i])};
      forwarded_[i] = batch[i];
      forwarded_[i].tag = index;
    }
    const std::size_t taken = inner_->submit(std::span(forwarded_).first(batch.size()));
    for (std::size_t i = batch.size(); i > taken; --i) {
      free_.push_back(static_cast<std::uint32_t>(forwarded_[i - 1].tag));
    }
    return taken;
  }

  std::size_t poll(std::span<Completion> out) noexcept override {
    collect();
    const auto now = steady_clock::now();
    std::size_t count = 0;
    for (std::size_t i = 0; i < arrived_.size() && count < out.size();) {
      const Slot& slot = slots_[arrived_[i]];
      if (slot.due > now) {
        ++i;
        continue;
      }
      out[count++] = {slot.tag, slot.code};
      free_.push_back(arrived_[i]);
      arrived_[i] = arrived_.back();
      arrived_.pop_back();
    }
    return count;
  }

  void wait(nanoseconds at_most) noexcept override {
    const auto deadline = deadline_after(at_most);
    while (true) {
      collect();
      auto until = deadline;
      for (const std::uint32_t index : arrived_)
        until = std::min(until, slots_[index].due);
      const auto now = steady_clock::now();
      if (woken_.exchange(false) || until <= now) return;
      inner_->wait(until - now);
    }
  }

  void wake() noexcept override {
    woken_.store(true);
    inner_->wake();
  }

 private:
  struct Slot {
    std::uint64_t tag = 0;
    Code code = Code::ok;
    steady_clock::time_point due{};
  };

  // A transfer that the inner device will refuse must not occupy the link: its length may
  // be anything.
  steady_clock::time_point due(const Transfer& transfer) noexcept {
    const RegionTable::Reader regions(device_.regions());
    Lent lent;
    const Code code = check(device_.info(), regions, transfer, lent);
    return code == Code::ok ? device_.link().pass(lent.memory.size())
                            : steady_clock::now();
  }

  void collect() noexcept {
    std::array<Completion, 64> done{};
    std::size_t count = 0;
    while ((count = inner_->poll(done)) != 0) {
      for (std::size_t i = 0; i < count; ++i) {
        const auto index = static_cast<std::uint32_t>(done[i].tag);
        slots_[index].code = done[i].code;
        arrived_.push_back(index);
      }
    }
  }

  ThrottledDevice& device_;
  const std::unique_ptr<Queue> inner_;  // its tags are indices of slots_
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> arrived_;  // done inside, perhaps not due yet
  std::vector<Transfer> forwarded_;     // scratch of submit()
  std::atomic<bool> woken_{false};
};

Result<std::unique_ptr<Queue>> ThrottledDevice::open_queue(std::uint32_t depth) {
  Result<std::unique_ptr<Queue>> inner = inner_->open_queue(depth);
  if (!inner.ok()) return inner.error();
  return std::unique_ptr<Queue>(
      std::make_unique<ThrottledQueue>(*this, std::move(*inner), depth));
}

}  // namespace

Result<LinkModel> find_link_model(std::string_view preset) {
  std::string known;
  for (const Preset& candidate : kPresets) {
    if (candidate.name == preset) return candidate.link;
    known += (known.empty() ? "" : ", ") + std::string(candidate.name);
  }
  return Status(Code::invalid_argument, "no link is called \"" +
                                            std::string(preset.substr(0, 64)) +
                                            "\"; there are " + known);
}

std::shared_ptr<Device> throttled(std::shared_ptr<Device> inner, LinkModel link) {
  return std::make_shared<ThrottledDevice>(std::move(inner), link);
}

}  // namespace speckv

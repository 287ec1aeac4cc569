#include "support/fault_device.hpp"

#include <algorithm>
#include <cstring>

namespace speckv::test {

using Lock = std::unique_lock<std::mutex>;

class FaultQueue final : public Queue {
 public:
  FaultQueue(FaultDevice& device, std::uint32_t depth) : device_(device), depth_(depth) {}

  // A device that still owes an answer may still touch the memory: it is waited for.
  ~FaultQueue() override {
    Lock lock(device_.mutex_);
    const auto deadline = deadline_after(device_.info_.timeout);
    while (true) {
      auto until = FaultDevice::Clock::time_point::min();
      for (const auto& answer : device_.answers_) {
        if (answer.queue == this)
          until = std::max(until, answer.lost ? deadline : answer.due);
      }
      until = std::min(until, deadline);
      if (until <= FaultDevice::Clock::now()) break;
      device_.changed_.wait_until(lock, until);
    }
    for (const auto& answer : device_.answers_) {
      if (answer.queue == this) device_.cache_.acknowledge(answer.cached);
    }
    device_.answers_.remove_if([&](const auto& answer) { return answer.queue == this; });
  }

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    const Lock lock(device_.mutex_);
    std::size_t taken = 0;
    for (; taken < batch.size() && held_ < depth_; ++taken, ++held_) {
      device_.answers_.push_back(device_.perform(this, batch[taken]));
    }
    device_.changed_.notify_all();
    return taken;
  }

  std::size_t poll(std::span<Completion> out) noexcept override {
    const Lock lock(device_.mutex_);
    std::size_t count = 0;
    for (; count < out.size(); ++count) {
      const auto chosen = choose();
      if (chosen == device_.answers_.end()) break;
      out[count] = chosen->completion;
      device_.cache_.acknowledge(chosen->cached);
      device_.answers_.erase(chosen);
      --held_;
    }
    return count;
  }

  void wait(std::chrono::nanoseconds at_most) noexcept override {
    Lock lock(device_.mutex_);
    const auto deadline = deadline_after(at_most);
    while (!woken_ && choose() == device_.answers_.end()) {
      auto until = deadline;
      for (const auto& answer : device_.answers_) {
        if (answer.queue == this && !answer.lost) until = std::min(until, answer.due);
      }
      if (device_.changed_.wait_until(lock, until) == std::cv_status::timeout &&
          FaultDevice::Clock::now() >= deadline) {
        break;
      }
    }
    woken_ = false;
  }

  void wake() noexcept override {
    const Lock lock(device_.mutex_);
    woken_ = true;
    device_.changed_.notify_all();
  }

 private:
  std::list<FaultDevice::Answer>::iterator choose() {
    auto& answers = device_.answers_;
    auto chosen = answers.end();
    std::uint64_t seen = 0;
    for (auto it = answers.begin(); it != answers.end(); ++it) {
      if (!device_.ready(*it, this)) continue;
      // Each of those seen so far is equally likely.
      if (seen++ == 0 || (device_.order_ && (*device_.order_)() % seen == 0)) chosen = it;
      if (!device_.order_) break;
    }
    return chosen;
  }

  FaultDevice& device_;
  const std::uint32_t depth_;
  std::uint32_t held_ = 0;  // accepted and not yet polled
  bool woken_ = false;
};

FaultDevice::FaultDevice(std::shared_ptr<Device> inner, FaultOptions options)
    : inner_(std::move(inner)),
      options_([&] {
        options.sector = std::max(options.sector, inner_->info().alignment);
        return options;
      }()),
      info_(inner_->info()),
      staging_(static_cast<std::byte*>(
          ::operator new (kStagingBytes, std::align_val_t{4096}))) {
  info_.memory = false;
  info_.persistent |= options_.write_cache;
  if (options_.timeout.count() > 0) info_.timeout = options_.timeout;
  Result<std::unique_ptr<Queue>> queue = inner_->open_queue(1);
  if (queue.ok()) queue_ = std::move(*queue);
  if (!inner_->attach(kStaging, {staging_.get(), kStagingBytes}).ok()) queue_.reset();
}

FaultDevice::~FaultDevice() {
  queue_.reset();
  [[maybe_unused]] const Status detached = inner_->detach(kStaging);
}

void FaultDevice::inject(std::uint64_t nth, Fault fault,
                         std::optional<Transfer::Op> only) {
  const Lock lock(mutex_);
  armed_.push_back({nth, fault, only});
}

void FaultDevice::fail_all(Code code) {
  const Lock lock(mutex_);
  failing_ = code;
}

void FaultDevice::heal() {
  const Lock lock(mutex_);
  failing_.reset();
  armed_.clear();
}

void FaultDevice::reorder(std::uint64_t seed) {
  const Lock lock(mutex_);
  order_.emplace(seed);
}

void FaultDevice::answer_lost(Code code) {
  const Lock lock(mutex_);
  for (Answer& answer : answers_) {
    if (answer.lost) answer.completion.code = code;
    answer.lost = false;
  }
  changed_.notify_all();
}

void FaultDevice::power_cut(std::uint64_t seed) {
  const Lock lock(mutex_);
  failing_ = Code::io_error;
  [[maybe_unused]] const Code code = write_all(cache_.power_cut(seed, options_.sector));
}

std::uint64_t FaultDevice::transfers() const {
  const Lock lock(mutex_);
  return transfers_;
}

std::size_t FaultDevice::unflushed() const {
  const Lock lock(mutex_);
  return cache_.size();
}

std::size_t FaultDevice::lost() const {
  const Lock lock(mutex_);
  return static_cast<std::size_t>(std::count_if(answers_.begin(), answers_.end(),
                                                [](const Answer& a) { return a.lost; }));
}

Status FaultDevice::attach(RegionId region, MutableBytes memory) {
  if (Status status = inner_->attach(region, memory); !status.ok()) return status;
  return regions_.attach(region, memory);
}

Status FaultDevice::detach(RegionId region) {
  if (Status status = regions_.detach(region); !status.ok()) return status;
  return inner_->detach(region);
}

Result<std::unique_ptr<Queue>> FaultDevice::open_queue(std::uint32_t depth) {
  if (Status status = check_depth(depth); !status.ok()) return status;
  if (queue_ == nullptr) return Status(Code::io_error, "the inner device has no queue");
  return std::unique_ptr<Queue>(std::make_unique<FaultQueue>(*this, depth));
}

bool FaultDevice::ready(const Answer& answer, const Queue* queue) const {
  return answer.queue == queue && !answer.lost && answer.due <= Clock::now();
}

std::optional<Fault> FaultDevice::next_fault(Transfer::Op op) {
  std::optional<Fault> found;
  for (auto it = armed_.begin(); it != armed_.end();) {
    const bool counts = !it->only || *it->only == op;
    if (counts && it->left == 0) {
      if (!found) found = it->fault;
      it = armed_.erase(it);
    } else {
      if (counts) --it->left;
      ++it;
    }
  }
  if (failing_) found = Fault{Fault::Kind::fail, *failing_};
  return found;
}

FaultDevice::Answer FaultDevice::perform(const Queue* queue, const Transfer& transfer) {
  ++transfers_;
  const Fault fault = next_fault(transfer.op).value_or(Fault{Fault::Kind::delay});
  Answer answer{queue, {transfer.tag, fault.code}, Clock::now() + fault.delay, false, 0};
  if (fault.kind == Fault::Kind::fail) return answer;
  answer.lost = fault.kind == Fault::Kind::lose;
  if (answer.lost) return answer;
  const bool torn = fault.kind == Fault::Kind::tear;
  const Code code =
      execute(transfer, torn ? fault.bytes : transfer.memory.length, answer.cached);
  answer.completion.code = torn && code == Code::ok ? fault.code : code;
  if (answer.completion.code != Code::ok)
    answer.cached = 0;  // nobody was told it is there
  return answer;
}

// Moves the first `limit` bytes of it.
Code FaultDevice::execute(const Transfer& transfer, std::uint64_t limit,
                          std::uint64_t& cached) {
  Lent lent;
  {
    const RegionTable::Reader regions(regions_);
    const Code code = check(info_, regions, transfer, lent);
    if (code != Code::ok) return code;
  }
  Transfer part = transfer;
  if (limit < part.memory.length)
    part.memory.length = limit / options_.sector * options_.sector;
  if (transfer.op != Transfer::Op::flush && part.memory.length == 0) return Code::ok;
  if (!options_.write_cache) return forward(part);
  return execute_cached(part, lent.memory.first(part.memory.length), cached);
}

Code FaultDevice::execute_cached(const Transfer& transfer, MutableBytes memory,
                                 std::uint64_t& cached) {
  if (transfer.op == Transfer::Op::write) {
    cached = cache_.add(transfer.offset, memory);
    return Code::ok;
  }
  if (transfer.op == Transfer::Op::flush) {
    const Code code = write_all(cache_.flush());
    return code == Code::ok ? forward(transfer) : code;
  }
  const Code code = forward(transfer);
  if (code == Code::ok) cache_.overlay(transfer.offset, memory);
  return code;
}

Code FaultDevice::write_all(const std::vector<CachedWrite>& writes) {
  for (const CachedWrite& write : writes) {
    for (std::size_t at = 0; at < write.bytes.size(); at += kStagingBytes) {
      const std::size_t length = std::min(kStagingBytes, write.bytes.size() - at);
      std::memcpy(staging_.get(), write.bytes.data() + at, length);
      const Code code =
          forward({Transfer::Op::write, write.offset + at, {kStaging, 0, length}});
      if (code != Code::ok) return code;
    }
  }
  return Code::ok;
}

Code FaultDevice::forward(const Transfer& transfer) {
  if (queue_->submit({&transfer, 1}) != 1) return Code::internal;
  const auto deadline = deadline_after(inner_->info().timeout);
  Completion completion;
  while (queue_->poll({&completion, 1}) == 0) {
    const auto left = deadline - Clock::now();
    if (left.count() <= 0) return Code::timed_out;
    queue_->wait(left);
  }
  return completion.code;
}

}  // namespace speckv::test

// A tenant of a card as a Device: a transfer becomes a COPY between the card's memory and
// a region of the caller, or several, one after the other, if it is longer than one
// descriptor may be; a flush becomes a FENCE. Wrong transfers are refused by the engine,
// as a card would. What the card answers is believed no further than it can be checked.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "device/card_port.hpp"
#include "device/os.hpp"
#include "device/queue.hpp"

namespace speckv {
namespace {

using namespace engine;
using Health = CardQueue::Health;

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
  return Code::io_error;  // no answer that a card could give
}

class CardDevice final : public Device {
 public:
  CardDevice(DeviceInfo info, std::unique_ptr<CardPort> port)
      : info_(std::move(info)), port_(std::move(port)) {}

  const DeviceInfo& info() const noexcept override { return info_; }
  Status attach(RegionId region, MutableBytes memory) override {
    return attach(region, memory.size(), [&] { return port_->add_region(memory); });
  }
  Status attach(RegionId region, const DmaBuf& memory) {
    return attach(region, memory.length, [&] { return port_->add_dmabuf(memory); });
  }
  Status detach(RegionId region) override;
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override;
  std::uint32_t max_length() const noexcept { return port_->max_length(); }
  void close_queue(std::unique_ptr<CardQueue> queue) {
    const std::unique_lock lock(mutex_);
    queue.reset();
  }

  // Makes descriptors, while the table of regions stands still.
  class Writer {
   public:
    explicit Writer(const CardDevice& device) : lock_(device.mutex_), device_(device) {}
    // Its first descriptor, and how many bytes are left after that.
    Descriptor describe(const Transfer& transfer, std::uint16_t tag,
                        std::uint64_t& left) const noexcept;

   private:
    std::shared_lock<std::shared_mutex> lock_;
    const CardDevice& device_;
  };

 private:
  struct Row {
    CardPort::Region region{};
    std::uint64_t length = 0;
  };

  template <class Add>
  Status attach(RegionId id, std::uint64_t length, Add add);

  const DeviceInfo info_;
  const std::unique_ptr<CardPort> port_;
  mutable std::shared_mutex mutex_;  // guards what follows, and the port
  std::unordered_map<RegionId, Row> regions_;
};

Descriptor CardDevice::Writer::describe(const Transfer& transfer, std::uint16_t tag,
                                        std::uint64_t& left) const noexcept {
  Descriptor d;
  d.tag = tag;
  left = 0;
  if (transfer.op == Transfer::Op::flush) {
    d.opcode = static_cast<std::uint8_t>(Opcode::fence);
    return d;
  }
  const bool reading = transfer.op == Transfer::Op::read;
  if (!reading && transfer.op != Transfer::Op::write) {
    d.opcode = 0xFF;  // the enum may come from anywhere; the engine refuses it
    return d;
  }
  // A region may be larger than the caller's memory, by parts of pages: the engine would
  // let pass what is outside of one and inside of the other. Region 0 is never valid.
  CardPort::Region mine{};
  const auto& [id, offset, length] = transfer.memory;
  const auto where = device_.regions_.find(id);
  const std::uint64_t longest = device_.max_length();
  const std::uint64_t capacity = device_.info().capacity;
  // In pieces, the engine would see too late that not all of it lies in the card.
  const bool fits =
      length <= longest || (length <= capacity && transfer.offset <= capacity - length);
  if (fits && where != device_.regions_.end() && length <= where->second.length &&
      offset <= where->second.length - length) {
    mine = where->second.region;
    left = length - std::min(length, longest);
  }
  const std::uint32_t card = device_.port_->memory_region();
  d.opcode = static_cast<std::uint8_t>(Opcode::copy);
  d.src_region = reading ? card : mine.number;
  d.dst_region = reading ? mine.number : card;
  d.src_offset = reading ? transfer.offset : mine.first + offset;
  d.dst_offset = reading ? mine.first + offset : transfer.offset;
  d.length = static_cast<std::uint32_t>(std::min(length, longest));
  return d;
}

class RingQueue final : public Queue {
 public:
  RingQueue(CardDevice& device, std::unique_ptr<CardQueue> card, std::uint32_t depth)
      : device_(device), card_(std::move(card)), slots_(depth) {
    dead_.reserve(depth);
    for (std::uint32_t i = depth; i > 0; --i)
      free_.push_back(static_cast<std::uint16_t>(i - 1));
  }

  ~RingQueue() override {
    // What was accepted is finished, or has been given up with the queue.
    const auto deadline = deadline_after(device_.info().timeout);
    std::array<Completion, 64> done{};
    while (free_.size() < slots_.size()) {
      while (poll(done) != 0) {}
      const auto left = deadline - std::chrono::steady_clock::now();
      if (free_.size() == slots_.size() || left <= left.zero()) break;
      wait(left);
    }
    device_.close_queue(std::move(card_));
  }

  std::size_t submit(std::span<const Transfer> batch) noexcept override {
    const CardDevice::Writer writer(device_);
    std::size_t count = 0;
    for (; count < batch.size() && !free_.empty(); ++count) {
      const std::uint16_t slot = free_.back();
      free_.pop_back();
      Slot& its = slots_[slot];
      its = {.tag = batch[count].tag, .busy = true};
      its.piece = writer.describe(batch[count], slot, its.left);
      card_->ring().push(its.piece);
    }
    if (count != 0 && card_->ring().publish()) card_->kick();
    return count;
  }

  std::size_t poll(std::span<Completion> out) noexcept override {
    // Before the ring is looked at: nothing comes into it afterwards.
    const bool good = card_->health() == Health::good;
    std::size_t count = 0;
    while (count < out.size() && !dead_.empty()) {
      out[count++] = release(dead_.back(), Code::io_error);
      dead_.pop_back();
    }
    bool lied = false, more = false;
    while (count < out.size() && !lied) {
      const auto entry = card_->ring().take();
      if (!entry || card_->lost()) break;
      lied = entry->tag >= slots_.size() || !slots_[entry->tag].busy;
      if (lied) break;
      const auto answer = static_cast<Answer>(completion::kStatusCode.get(entry->status));
      if (answer == Answer::ok && next_piece(slots_[entry->tag])) {
        more = true;
      } else {
        out[count++] = release(entry->tag, code_of_answer(answer));
      }
    }
    if (more && card_->ring().publish()) card_->kick();
    if (count < out.size() && in_flight() && (!good || lied || card_->lost())) {
      recover();
      return count + poll(out.subspan(count));
    }
    // Who never waits hears of a failure here.
    if (count != 0 || more || !in_flight()) {
      idle_polls_ = 0;
    } else if (++idle_polls_ % kPollsBetweenLooks == 0) {
      card_->look();
    }
    return count;
  }

  void wait(std::chrono::nanoseconds at_most) noexcept override {
    const auto deadline = deadline_after(at_most);
    while (!woken_.exchange(false) && dead_.empty()) {
      const bool good = card_->health() == Health::good;
      if (!good && in_flight()) return;
      if (good && !card_->ring().arm()) return;
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= left.zero()) return;
      card_->await(left);
    }
  }

  void wake() noexcept override {
    woken_.store(true);
    card_->wake();
  }

 private:
  static constexpr std::uint32_t kPollsBetweenLooks = 1024;
  struct Slot {
    std::uint64_t tag = 0;
    bool busy = false;
    std::uint64_t left = 0;  // bytes after this piece
    Descriptor piece{};
  };

  // In the place of the one that was answered, so that there is room. False: it was the
  // last.
  bool next_piece(Slot& slot) noexcept {
    if (slot.left == 0) return false;
    const std::uint64_t length = std::min<std::uint64_t>(slot.left, device_.max_length());
    slot.piece.src_offset += slot.piece.length;
    slot.piece.dst_offset += slot.piece.length;
    slot.piece.length = static_cast<std::uint32_t>(length);
    slot.left -= length;
    card_->ring().push(slot.piece);
    return true;
  }

  bool in_flight() const noexcept { return free_.size() + dead_.size() < slots_.size(); }

  Completion release(std::uint16_t slot, Code code) noexcept {
    slots_[slot].busy = false;
    free_.push_back(slot);
    return {slots_[slot].tag, code};
  }

  // The queue is in error, lies, or has gone: what it had not answered has failed, and it
  // starts anew if it can.
  void recover() noexcept {
    (void)card_->restart();
    for (std::size_t n = 0; n < slots_.size(); ++n) {
      const auto slot = static_cast<std::uint16_t>(n);
      const bool told = std::find(dead_.begin(), dead_.end(), slot) != dead_.end();
      if (slots_[slot].busy && !told) dead_.push_back(slot);
    }
  }

  CardDevice& device_;
  std::unique_ptr<CardQueue> card_;
  std::vector<Slot> slots_;
  std::vector<std::uint16_t> free_;  // slots that carry nothing
  std::vector<std::uint16_t> dead_;  // slots whose failure is to be told
  std::uint32_t idle_polls_ = 0;
  std::atomic<bool> woken_{false};
};

template <class Add>
Status CardDevice::attach(RegionId id, std::uint64_t length, Add add) {
  if (id == RegionId{}) return {Code::invalid_argument, "region id 0 is never valid"};
  if (length == 0) return {Code::invalid_argument, "a region cannot be empty"};
  const std::unique_lock lock(mutex_);
  if (regions_.contains(id)) {
    return {Code::invalid_argument,
            "region id " + std::to_string(static_cast<std::uint32_t>(id)) + " is taken"};
  }
  const Result<CardPort::Region> region = add();
  if (!region.ok()) return region.error();
  regions_.emplace(id, Row{*region, length});
  return {};
}

Status CardDevice::detach(RegionId id) {
  const std::unique_lock lock(mutex_);
  const auto where = regions_.find(id);
  if (where == regions_.end()) {
    return {Code::not_found,
            "no region has the id " + std::to_string(static_cast<std::uint32_t>(id))};
  }
  port_->drop_region(where->second.region.number);
  regions_.erase(where);
  return {};
}

Result<std::unique_ptr<Queue>> CardDevice::open_queue(std::uint32_t depth) {
  if (Status status = check_depth(depth); !status.ok()) return status;
  const std::unique_lock lock(mutex_);
  auto card = port_->open_queue(std::bit_ceil(std::max(depth, 2U)));
  if (!card.ok()) return card.error();
  return std::unique_ptr<Queue>(
      std::make_unique<RingQueue>(*this, std::move(*card), depth));
}

}  // namespace

Status attach_dmabuf(Device& device, RegionId region, const DmaBuf& memory) {
  auto* card = dynamic_cast<CardDevice*>(&device);
  if (card != nullptr) return card->attach(region, memory);
  return {Code::unsupported, "only a card (cxl:) reaches memory of other devices"};
}

std::shared_ptr<Device> card_device(DeviceInfo info, std::unique_ptr<CardPort> port) {
  return std::make_shared<CardDevice>(std::move(info), std::move(port));
}

}  // namespace speckv

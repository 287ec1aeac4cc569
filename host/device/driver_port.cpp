// cxl: a card behind the kernel driver. Memory is pinned by the driver and named by its
// regions; rings and doorbell page are mapped, so that nothing on the way of a transfer
// calls the kernel but a kick of an engine that sleeps.
#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/eventfd.h>

#include "device/card_port.hpp"
#include "device/driver_file.hpp"
#include "device/guarded_mapping.hpp"
#include "device/open.hpp"

namespace speckv {
namespace {

using namespace engine;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t page_up(std::uint64_t n) noexcept {
  return (n + kPage - 1) / kPage * kPage;
}

class DriverQueue final : public CardQueue {
 public:
  DriverQueue(const DriverFile& file, std::uint32_t entries, Fd event, Waker waker)
      : file_(file),
        entries_(entries),
        event_(std::move(event)),
        waker_(std::move(waker)) {}
  ~DriverQueue() override { close(); }

  Status open();
  Ring& ring() noexcept override { return *ring_; }
  void kick() noexcept override { look(); }
  Health health() const noexcept override {
    return id_ != 0 && lost() ? Health::gone : health_;
  }
  // A kick tells the state of the queue, whether or not there is anything to kick.
  void look() noexcept override {
    if (id_ == 0) return;
    speckv_object args{};
    args.id = id_;
    note(file_.call(SPECKV_IOC_QUEUE_KICK, args));
  }
  bool lost() const noexcept override {
    return id_ == 0 || rings_.lost() || doorbell_.lost();
  }
  bool restart() noexcept override;
  void await(std::chrono::nanoseconds at_most) noexcept override {
    waker_.wait(at_most, event_.get());
    std::uint64_t raised = 0;
    const bool told = ::read(event_.get(), &raised, sizeof raised) == sizeof raised;
    if (told && !ring_->ready()) look();  // not of a completion, or late
  }
  void wake() noexcept override { waker_.wake(); }

 private:
  void note(int error) noexcept {
    if (error == ENODEV) {
      health_ = Health::gone;
    } else if (error != 0 && error != EINVAL) {  // EINVAL: this card needs no kicks
      health_ = Health::failed;
    }
  }
  void renew() noexcept {
    const std::size_t descriptors = std::size_t{entries_} * Descriptor::kBytes;
    const bool need_kick = (file_.facts().out_features & feature::kNeedKick) != 0;
    ring_.emplace(rings_.data(), rings_.data() + descriptors, doorbell_.data(), entries_,
                  need_kick);
  }
  // Afterwards the engine does nothing for the queue.
  void close() noexcept {
    speckv_object args{};
    args.id = id_;
    if (id_ != 0) (void)file_.call(SPECKV_IOC_QUEUE_DESTROY, args);
    id_ = 0;
  }

  const DriverFile& file_;
  const std::uint32_t entries_;
  const Fd event_;
  Waker waker_;
  std::uint32_t id_ = 0;  // 0: none
  GuardedMapping rings_, doorbell_;
  std::optional<Ring> ring_;
  Health health_ = Health::good;
};

Status DriverQueue::open() {
  speckv_queue_create made{};
  made.depth = entries_;
  made.eventfd = event_.get();
  if (const int error = file_.call(SPECKV_IOC_QUEUE_CREATE, made); error != 0) {
    return file_.error("opening a queue of " + std::to_string(entries_), error);
  }
  id_ = made.out_id;
  const std::uint64_t bytes =
      std::uint64_t{entries_} * (Descriptor::kBytes + CompletionEntry::kBytes);
  auto rings = GuardedMapping::map(file_.fd(), made.out_ring_offset, page_up(bytes));
  auto doorbell = GuardedMapping::map(file_.fd(), made.out_doorbell_offset, kPage);
  if (!rings.ok() || !doorbell.ok()) {
    close();
    return rings.ok() ? doorbell.error() : rings.error();
  }
  rings_ = *std::move(rings);
  doorbell_ = *std::move(doorbell);
  renew();
  health_ = Health::good;
  return {};
}

// A queue that cannot be reset is destroyed, so that the engine is known to have let go
// of the memory; its rings stay mapped until there is another, and lead nowhere.
bool DriverQueue::restart() noexcept {
  if (health() == Health::gone) {
    health_ = Health::gone;
    close();
    return false;
  }
  speckv_object args{};
  args.id = id_;
  if (id_ != 0 && file_.call(SPECKV_IOC_QUEUE_RESET, args) == 0) {
    renew();
    health_ = Health::good;
    return true;
  }
  if (id_ != 0) {
    close();
    health_ = Health::failed;
    return false;
  }
  return open().ok();
}

class DriverPort final : public CardPort {
 public:
  explicit DriverPort(DriverFile file, std::chrono::nanoseconds patience)
      : file_(std::move(file)), patience_(patience) {}

  Status take_memory(std::uint64_t bytes);
  const DriverFile& file() const noexcept { return file_; }
  std::uint32_t memory_region() const noexcept override { return memory_; }
  std::uint32_t max_length() const noexcept override {
    return file_.facts().out_max_length;
  }
  std::uint64_t features() const noexcept override { return file_.facts().out_features; }
  std::uint64_t codecs() const noexcept override { return file_.facts().out_codecs; }
  Result<Region> add_region(MutableBytes memory) override;
  Result<Region> add_dmabuf(const DmaBuf& memory) override;
  void drop_region(std::uint32_t number) noexcept override {
    parked_.push_back(number);
    drop_parked();
  }
  Result<std::unique_ptr<CardQueue>> open_queue(std::uint32_t entries) override;

 private:
  // Carries out a call that makes a region: OK, and the id is there.
  template <class T>
  Status make_region(unsigned long number, T& made);
  // True: none is left.
  bool drop_parked() noexcept {
    while (!parked_.empty()) {
      speckv_object args{};
      args.id = parked_.back();
      if (file_.call(SPECKV_IOC_REGION_DESTROY, args) == EBUSY) return false;
      parked_.pop_back();
    }
    return true;
  }

  const DriverFile file_;
  const std::chrono::nanoseconds patience_;
  std::uint32_t memory_ = 0;
  // Regions that nobody names any more, but which the driver keeps while anything of ours
  // is in flight. Their pages stay pinned so long.
  std::vector<std::uint32_t> parked_;
};

Status DriverPort::take_memory(std::uint64_t bytes) {
  speckv_region_create made{};
  made.length = bytes;
  const int error = file_.call(SPECKV_IOC_REGION_CREATE, made);
  if (error != 0) {
    return file_.error("taking " + std::to_string(bytes) + " bytes of card memory",
                       error);
  }
  memory_ = made.out_id;
  return {};
}

template <class T>
Status DriverPort::make_region(unsigned long number, T& made) {
  int error = file_.call(number, made);
  // Nothing is submitted meanwhile, so what is in flight ends soon, and parked regions
  // can be given back.
  const auto deadline = deadline_after(patience_);
  while ((error == EDQUOT || error == ENOSPC) && !parked_.empty()) {
    if (!drop_parked() && std::chrono::steady_clock::now() > deadline) break;
    if (!parked_.empty()) {
      // sleeps: the driver tells nobody that all queues of a file have become idle
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    } else {
      error = file_.call(number, made);
    }
  }
  if (error == 0) return {};
  Status status = file_.error("registering memory", error);
  if (error != EDQUOT) return status;
  return {status.code(), status.message() + " (ulimit -l, or the card's quotas)"};
}

Result<CardPort::Region> DriverPort::add_region(MutableBytes memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  speckv_region_create made{};
  made.flags = SPECKV_REGION_USER;
  made.user_va = address / kPage * kPage;
  made.length = page_up(address + memory.size()) - made.user_va;
  if (Status done = make_region(SPECKV_IOC_REGION_CREATE, made); !done.ok()) return done;
  return Region{made.out_id, address - made.user_va};
}

Result<CardPort::Region> DriverPort::add_dmabuf(const DmaBuf& memory) {
  speckv_region_import made{};
  made.flags = memory.read_only ? SPECKV_REGION_READ_ONLY : 0;
  made.fd = memory.fd;
  made.offset = memory.offset;
  made.length = memory.length;
  if (Status done = make_region(SPECKV_IOC_REGION_IMPORT, made); !done.ok()) return done;
  return Region{made.out_id, 0};
}

Result<std::unique_ptr<CardQueue>> DriverPort::open_queue(std::uint32_t entries) {
  Result<Waker> waker = Waker::create();
  if (!waker.ok()) return waker.error();
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return os_error("eventfd", errno);
  auto queue =
      std::make_unique<DriverQueue>(file_, entries, std::move(event), std::move(*waker));
  if (Status status = queue->open(); !status.ok()) return status;
  return std::unique_ptr<CardQueue>(std::move(queue));
}

constexpr std::uint32_t opcode_bit(Opcode opcode) noexcept {
  return 1U << static_cast<unsigned>(opcode);
}

}  // namespace

Result<std::unique_ptr<CardPort>> open_driver_port(const DeviceUri& uri) {
  auto file = DriverFile::open(uri.path);
  if (!file.ok()) return file.error();
  return std::unique_ptr<CardPort>(
      std::make_unique<DriverPort>(*std::move(file), uri.timeout));
}

OpenedDevice open_cxl(const DeviceUri& uri) {
  auto file = DriverFile::open(uri.path);
  if (!file.ok()) return file.error();
  const speckv_query& facts = file->facts();
  constexpr std::uint32_t kNeeded = opcode_bit(Opcode::copy) | opcode_bit(Opcode::fence);
  if ((facts.out_opcodes & kNeeded) != kNeeded) {
    return Status(Code::unsupported, uri.path + ": this card does not copy");
  }
  DeviceInfo info = info_from(uri);
  info.capacity = uri.size != 0 ? uri.size : facts.out_free / kPage * kPage;
  if (info.capacity % kPage != 0) {
    return Status(Code::invalid_argument, "device \"" + uri.text +
                                              "\": its size must be a multiple of " +
                                              std::to_string(kPage));
  }
  if (info.capacity == 0) {
    return Status(Code::no_space, uri.path + ": no card memory is free");
  }
  info.simulated = file->emulated();
  if (info.simulated) info.note = "the driver's engine in software";
  auto port = std::make_unique<DriverPort>(std::move(*file), info.timeout);
  if (Status taken = port->take_memory(info.capacity); !taken.ok()) return taken;
  return card_device(std::move(info), std::move(port));
}

}  // namespace speckv

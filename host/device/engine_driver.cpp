// An Engine on a card behind the driver: the driver's calls, which need no queue; and,
// for descriptors that name blocks, a queue and two regions, made when first needed.
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#include "device/driver_file.hpp"
#include "device/engine_backend.hpp"

namespace speckv {
namespace {

using namespace engine;
namespace fs = std::filesystem;

constexpr std::size_t kPage = 4096;

// What a call that carries out a descriptor says, with the card's own reason.
Status refused(const DriverFile& file, int error) {
  switch (error) {
    case ENOENT:
      return refusal(Answer::not_found);
    case EBUSY:
      return refusal(Answer::busy);
    case ENOSPC:
      return refusal(Answer::no_space);
    case EINVAL:
      return refusal(Answer::bad_desc);
    case EOPNOTSUPP:
      return refusal(Answer::unsupported);
    default:
      return file.error("asking the card", error);
  }
}

class DriverBackend final : public Engine::Backend {
 public:
  explicit DriverBackend(DriverFile file) : file_(std::move(file)) {
    info.name = file_.name();
    info.block_tokens = std::max(file_.facts().out_block_tokens, 1U);
    info.memory = file_.facts().out_memory;
    info.simulated = file_.emulated();
  }
  ~DriverBackend() override {
    // The file may be another's, too: nothing of ours stays in it.
    drop(SPECKV_IOC_QUEUE_DESTROY, queue_);
    drop(SPECKV_IOC_REGION_DESTROY, places_.host);
    drop(SPECKV_IOC_REGION_DESTROY, places_.card);
  }

  Result<std::uint32_t> ask(const Descriptor& d, MutableBytes answer) override {
    switch (static_cast<Opcode>(d.opcode)) {
      case Opcode::step: {
        speckv_step args{};
        args.step = d.step;
        return told(SPECKV_IOC_STEP, args, args.out_candidates);
      }
      case Opcode::hint: {
        speckv_hint args{};
        args.hint = d.hint;
        args.address_low = d.address_low;
        args.address_high = d.address_high;
        args.tokens = d.tokens;
        args.step = d.step;
        return told(SPECKV_IOC_HINT, args, args.out_blocks);
      }
      case Opcode::weights: {
        speckv_weights args{};
        args.recency = d.recency;
        args.frequency = d.frequency;
        args.step_weight = d.step_weight;
        args.durability = d.durability;
        args.evict = d.evict;
        args.prefetch = d.prefetch;
        args.hysteresis = d.hysteresis;
        return told(SPECKV_IOC_WEIGHTS, args, d.step);
      }
      case Opcode::telemetry: {
        speckv_telemetry_read args{};
        args.report = d.report;
        args.buffer = reinterpret_cast<std::uintptr_t>(answer.data());
        args.length = static_cast<std::uint32_t>(answer.size());
        return told(SPECKV_IOC_TELEMETRY, args, args.out_length);
      }
      default:
        return carry_out(d);
    }
  }

  Result<Places> places() override {
    if (queue_ != 0) return places_;
    if (places_.card == 0) {
      speckv_region_create card{};
      card.length = kPage;
      if (const int error = call(SPECKV_IOC_REGION_CREATE, card); error != 0) {
        return file_.error("taking a page of card memory", error);
      }
      places_.card = card.out_id;
    }
    if (places_.host == 0) {
      speckv_region_create host{};
      host.flags = SPECKV_REGION_USER;
      host.length = kPage;
      host.user_va = reinterpret_cast<std::uintptr_t>(page_.data());
      if (const int error = call(SPECKV_IOC_REGION_CREATE, host); error != 0) {
        return file_.error("registering a page", error);
      }
      places_.host = host.out_id;
    }
    speckv_queue_create queue{};
    queue.depth = 2;
    queue.eventfd = -1;
    if (const int error = call(SPECKV_IOC_QUEUE_CREATE, queue); error != 0) {
      return file_.error("opening a queue", error);
    }
    queue_ = queue.out_id;
    return places_;
  }

  Result<Counters> counters() override {
    std::ifstream file(file_.sysfs() + "/telemetry");
    Counters all;
    std::string name;
    for (std::uint64_t value = 0; file >> name >> value;)
      all.emplace_back(name, value);
    if (!all.empty()) return all;
    return Status(Code::io_error, info.name + ": its counters cannot be read");
  }
  Result<bool> fatal() override {
    std::ifstream file(file_.sysfs() + "/state");
    std::string state;
    if (file >> state) return state != "ready";
    return Status(Code::io_error, info.name + ": its state cannot be read");
  }

 private:
  template <class T>
  int call(unsigned long number, T& args) const noexcept {
    int error = EINTR;
    while (error == EINTR)
      error = file_.call(number, args);
    return error;
  }
  // `value` is written by the call.
  template <class T>
  Result<std::uint32_t> told(unsigned long number, T& args,
                             const std::uint32_t& value) const {
    const int error = call(number, args);
    if (error != 0) return refused(file_, error);
    return value;
  }
  void drop(unsigned long number, std::uint32_t id) noexcept {
    speckv_object args{};
    args.id = id;
    if (id != 0) (void)call(number, args);
  }

  Result<std::uint32_t> carry_out(const Descriptor& d) {
    std::byte raw[Descriptor::kBytes];
    d.store(raw);
    speckv_batch args{};
    args.queue = queue_;
    args.count = 1;
    args.entries = reinterpret_cast<std::uintptr_t>(raw);
    if (const int error = call(SPECKV_IOC_SUBMIT, args); error != 0) {
      return renew(error);
    }
    std::byte answer[CompletionEntry::kBytes];
    args.entries = reinterpret_cast<std::uintptr_t>(answer);
    // The driver's watchdog answers if the card does not. In a file that is another's,
    // too, it may be his completions that can be read.
    const auto deadline = deadline_after(std::chrono::seconds(10));
    while (std::chrono::steady_clock::now() < deadline) {
      pollfd ready{file_.fd(), POLLIN, 0};
      (void)::poll(&ready, 1, 1000);
      args.out_count = 0;
      if (const int error = call(SPECKV_IOC_REAP, args); error != 0) return renew(error);
      if (args.out_count != 0) break;
    }
    if (args.out_count == 0) return renew(ETIMEDOUT);
    const CompletionEntry entry = CompletionEntry::load(answer);
    const auto code = static_cast<Answer>(completion::kStatusCode.get(entry.status));
    if (code != Answer::ok) return refusal(code);
    return entry.result;
  }
  // After an error the next descriptor gets another queue.
  Status renew(int error) {
    drop(SPECKV_IOC_QUEUE_DESTROY, std::exchange(queue_, 0));
    return refused(file_, error);
  }

  const DriverFile file_;
  std::uint32_t queue_ = 0;
  Places places_{};
  alignas(kPage) std::array<std::byte, kPage> page_{};
};

Result<int> number_of(std::string_view text) {
  int number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= 0) {
    return number;
  }
  return Status(Code::invalid_argument,
                "\"" + std::string(text.substr(0, 64)) + "\" is not a number");
}

Result<Fd> copy_of(int fd) {
  Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return os_error("descriptor " + std::to_string(fd), errno);
  return copy;
}

// The first card that another process has open; the kernel decides whether we may.
Result<Fd> card_of_process(int pid) {
  const std::string who = "process " + std::to_string(pid);
  const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return os_error(who, errno);
  std::error_code error;
  const fs::path folder = "/proc/" + std::to_string(pid) + "/fd";
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::error_code vanished;
    const std::string target = fs::read_symlink(entry.path(), vanished).string();
    if (vanished || !target.starts_with("/dev/speckv")) continue;
    const auto number = number_of(entry.path().filename().string());
    if (!number.ok()) continue;
    Fd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), *number, 0)));
    if (!copy) return os_error(who, errno);
    return copy;
  }
  if (error) return os_error(who, error.value());
  return Status(Code::not_found, who + " has no card open");
}

Result<DriverFile> open_named(std::string_view name) {
  const std::string text(name);
  if (name.starts_with("/")) return DriverFile::open(text);
  const auto rest = name.substr(std::min(name.size(), name.find(':') + 1));
  if (name.starts_with("cxl:") && rest.find('?') == std::string_view::npos) {
    return DriverFile::open(std::string(rest));
  }
  const bool pid = name.starts_with("pid:");
  if (!pid && !name.starts_with("fd:")) {
    return Status(
        Code::invalid_argument,
        "engine \"" + text +
            "\": they are soft:, /dev/speckvN, cxl:/dev/speckvN, fd:N and pid:N");
  }
  const auto number = number_of(rest);
  if (!number.ok()) return number.error();
  auto file = pid ? card_of_process(*number) : copy_of(*number);
  if (!file.ok()) return file.error();
  return DriverFile::adopt(*std::move(file), text);
}

}  // namespace

OpenedBackend open_driver_backend(std::string_view name) {
  auto file = open_named(name);
  if (!file.ok()) return file.error();
  return OpenedBackend(std::make_unique<DriverBackend>(*std::move(file)));
}

}  // namespace speckv

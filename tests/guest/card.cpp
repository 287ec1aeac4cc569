#include "card.hpp"

#include <chrono>
#include <climits>
#include <thread>

namespace guest {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

std::atomic_ref<std::uint32_t> shared(std::uint32_t* word) {
  return std::atomic_ref<std::uint32_t>(*word);
}

int batch(const Fd& card, unsigned long number, std::uint32_t queue, const void* entries,
          std::uint32_t count, std::uint32_t* taken) {
  speckv_batch args{};
  args.queue = queue;
  args.entries = reinterpret_cast<std::uintptr_t>(entries);
  args.count = count;
  const int error = call(card, number, args);
  if (taken != nullptr) *taken = error == 0 ? args.out_count : 0;
  return error;
}

}  // namespace

int submit(const Fd& card, std::uint32_t queue, const speckv_desc* descs,
           std::uint32_t count, std::uint32_t* taken) {
  return batch(card, SPECKV_IOC_SUBMIT, queue, descs, count, taken);
}

int reap(const Fd& card, std::uint32_t queue, speckv_cpl* cpls, std::uint32_t count,
         std::uint32_t* taken) {
  return batch(card, SPECKV_IOC_REAP, queue, cpls, count, taken);
}

speckv_cpl carry_out(const Fd& card, std::uint32_t queue, const speckv_desc& desc) {
  speckv_cpl cpl{};
  cpl.status = 0xffff;
  EXPECT_EQ(submit(card, queue, &desc, 1), 0);
  std::uint32_t taken = 0;
  pollfd ready{card.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 20000), 1);
  EXPECT_EQ(reap(card, queue, &cpl, 1, &taken), 0);
  EXPECT_EQ(taken, 1U);
  return cpl;
}

MappedQueue::MappedQueue(const Fd& card, std::uint32_t depth, int eventfd)
    : card_(card), depth_(depth), made_(make_queue(card, depth, eventfd)) {
  const std::size_t bytes = depth * (sizeof(speckv_desc) + sizeof(speckv_cpl));
  rings_ =
      Mapping(card.get(), made_.out_ring_offset, (bytes + kPage - 1) / kPage * kPage);
  doorbell_ = Mapping(card.get(), made_.out_doorbell_offset, kPage);
}

void MappedQueue::push(const speckv_desc& desc) {
  descs()[tail_ % depth_] = desc;
  ++tail_;
}

int MappedQueue::ring() {
  shared(word(SPECKV_DOORBELL_TAIL)).store(tail_, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!need_kick()) return 0;
  speckv_object args{};
  args.id = id();
  return call(card_, SPECKV_IOC_QUEUE_KICK, args);
}

bool MappedQueue::need_kick() const noexcept {
  return shared(word(SPECKV_DOORBELL_NEED_KICK)).load(std::memory_order_relaxed) != 0;
}

bool MappedQueue::take(speckv_cpl* cpl) {
  auto* cpls = reinterpret_cast<std::uint64_t*>(descs() + depth_);
  std::uint64_t* at = cpls + std::size_t{head_ % depth_} * 2;
  std::uint64_t halves[2] = {
      std::atomic_ref<std::uint64_t>(at[0]).load(std::memory_order_acquire), 0};
  const unsigned phase = 1U ^ (head_ / depth_ & 1U);
  if ((halves[0] >> 16 & 1) != phase) return false;
  halves[1] = at[1];
  std::memcpy(cpl, halves, sizeof *cpl);
  ++head_;
  return true;
}

bool MappedQueue::take_in_time(speckv_cpl* cpl) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!take(cpl)) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

void MappedQueue::arm(std::uint32_t completions) {
  shared(word(SPECKV_DOORBELL_ARM)).store(completions, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

Uring::Uring(unsigned entries, unsigned flags)
    : error_(io_uring_queue_init(entries, &ring_, flags)) {}

Uring::~Uring() {
  if (error_ == 0) io_uring_queue_exit(&ring_);
}

void Uring::push(const Fd& card, std::uint32_t queue, const speckv_desc& desc,
                 std::uint64_t user, unsigned command, std::uint32_t reserved) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  ASSERT_NE(entry, nullptr);
  speckv_submit args{};
  args.queue = queue;
  args.__reserved = reserved;
  args.desc = desc;
  const bool large = (ring_.flags & IORING_SETUP_SQE128) != 0;
  std::memset(entry, 0, large ? 128 : 64);
  entry->opcode = IORING_OP_URING_CMD;
  entry->fd = card.get();
  entry->cmd_op = command;
  entry->user_data = user;
  std::memcpy(entry->cmd, &args, large ? sizeof args : 16);
}

bool Uring::wait(std::uint64_t* user, int* result) {
  io_uring_cqe* answer = nullptr;
  __kernel_timespec patience{20, 0};
  int error = 0;
  do {
    error = io_uring_wait_cqe_timeout(&ring_, &answer, &patience);
  } while (error == -EINTR);
  if (error != 0) return false;
  *user = answer->user_data;
  *result = answer->res;
  io_uring_cqe_seen(&ring_, answer);
  return true;
}

int Uring::run(const Fd& card, std::uint32_t queue, const speckv_desc& desc,
               unsigned command, std::uint32_t reserved) {
  std::uint64_t user = 0;
  int result = 0;
  push(card, queue, desc, 1, command, reserved);
  EXPECT_EQ(submit(), 1);
  EXPECT_TRUE(wait(&user, &result));
  return result;
}

Home::Home(const std::string& card) {
  const auto target = [](const std::string& link) {
    char path[PATH_MAX];
    return ::realpath(link.c_str(), path) != nullptr ? std::string(path) + '/' : "";
  };
  folder = target("/sys/class/speckv/" + card + "/device");
  driver = target(folder + "driver");
  const std::size_t end = folder.size() - 1;
  const std::size_t begin = folder.rfind('/', end - 1) + 1;
  device = folder.substr(begin, end - begin);
}

bool Home::write(const char* file) const {
  return write_file(driver + file, device);
}

bool on_pci() {
  return ::access((std::string(kSysfs) + "device/vendor").c_str(), F_OK) == 0;
}

bool write_file(const std::string& name, const std::string& text) {
  const Fd file(::open(name.c_str(), O_WRONLY | O_CLOEXEC));
  return file.get() >= 0 && ::write(file.get(), text.data(), text.size()) ==
                                static_cast<ssize_t>(text.size());
}

std::string read_file(const std::string& name, std::size_t most) {
  const Fd file(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(most, '\0');
  std::size_t length = 0;
  ssize_t got = 0;
  while ((got = ::read(file.get(), text.data() + length, most - length)) > 0)
    length += static_cast<std::size_t>(got);
  text.resize(length);
  return text;
}

}  // namespace guest

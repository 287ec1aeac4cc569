// What the tests in the guest share: calls, mapped queues, io_uring. One thread each.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "card_codes.h"
#include "regs.h"
#include "speckv_ioctl.h"
#include "system.hpp"

namespace guest {

constexpr std::size_t kPage = 4096;
constexpr const char* kCard = "/dev/speckv0";

// A file descriptor that closes itself; -1: none.
class Fd {
 public:
  explicit Fd(int fd = -1) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { reset(); }
  void reset() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

inline Fd open_card(const char* name = kCard) {
  return Fd(::open(name, O_RDWR | O_CLOEXEC));
}

// 0 or the errno of an ioctl whose structure begins with its size.
template <typename T>
int call(const Fd& card, unsigned long number, T& args) {
  args.size = sizeof args;
  return ::ioctl(card.get(), number, &args) == 0 ? 0 : errno;
}

inline speckv_query query(const Fd& card) {
  speckv_query answer{};
  EXPECT_EQ(call(card, SPECKV_IOC_QUERY, answer), 0);
  return answer;
}
inline bool has(const Fd& card, std::uint64_t feature) {
  return (query(card).out_features & feature) != 0;
}
inline bool has_codec(const Fd& card, unsigned codec) {
  return (query(card).out_codecs >> codec & 1) != 0;
}

struct Mapping {
  void* at = MAP_FAILED;
  std::size_t length = 0;
  Mapping() = default;
  Mapping(int fd, std::uint64_t offset, std::size_t bytes)
      : at(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                  static_cast<off_t>(offset))),
        length(bytes) {}
  Mapping(Mapping&& other) noexcept
      : at(std::exchange(other.at, MAP_FAILED)), length(other.length) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(at, other.at);
    std::swap(length, other.length);
    return *this;
  }
  ~Mapping() { reset(); }
  void reset() {
    if (good()) ::munmap(std::exchange(at, MAP_FAILED), length);
  }
  bool good() const noexcept { return at != MAP_FAILED; }
  std::uint8_t* bytes() const noexcept { return static_cast<std::uint8_t*>(at); }
};

// Memory of the card, or (at != nullptr) the caller's. Aborts the test on failure.
inline speckv_region_create make_region(const Fd& card, std::size_t length,
                                        void* at = nullptr, std::uint32_t flags = 0) {
  speckv_region_create args{};
  args.flags = flags | (at != nullptr ? SPECKV_REGION_USER : 0U);
  args.length = length;
  args.user_va = reinterpret_cast<std::uintptr_t>(at);
  EXPECT_EQ(call(card, SPECKV_IOC_REGION_CREATE, args), 0);
  return args;
}

inline speckv_queue_create make_queue(const Fd& card, std::uint32_t depth,
                                      int eventfd = -1) {
  speckv_queue_create args{};
  args.depth = depth;
  args.eventfd = eventfd;
  EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_CREATE, args), 0);
  return args;
}

inline speckv_desc nop(std::uint16_t tag) {
  speckv_desc desc{};
  desc.opcode = SPECKV_OP_NOP;
  desc.tag = tag;
  return desc;
}

inline speckv_desc copy(std::uint32_t from, std::uint64_t from_offset, std::uint32_t to,
                        std::uint64_t to_offset, std::uint32_t length) {
  speckv_desc desc{};
  desc.opcode = SPECKV_OP_COPY;
  desc.length = length;
  desc.src_region = from;
  desc.dst_region = to;
  desc.src_offset = from_offset;
  desc.dst_offset = to_offset;
  return desc;
}

inline unsigned code_of(const speckv_cpl& cpl) {
  return cpl.status >> 1U;
}

// 0 or an errno; `taken`: how many descriptors went in, or completions came out.
int submit(const Fd& card, std::uint32_t queue, const speckv_desc* descs,
           std::uint32_t count, std::uint32_t* taken = nullptr);
int reap(const Fd& card, std::uint32_t queue, speckv_cpl* cpls, std::uint32_t count,
         std::uint32_t* taken);
// One descriptor by SUBMIT and REAP. Waits at most 20 seconds.
speckv_cpl carry_out(const Fd& card, std::uint32_t queue, const speckv_desc& desc);

// A queue whose rings and doorbell this process has mapped.
class MappedQueue {
 public:
  MappedQueue(const Fd& card, std::uint32_t depth, int eventfd = -1);
  bool good() const noexcept { return rings_.good() && doorbell_.good(); }
  std::uint32_t id() const noexcept { return made_.out_id; }
  // Without regard to room: what the protocol allows is the caller's to know.
  void push(const speckv_desc& desc);
  int ring();  // 0 or the errno of the kick
  bool need_kick() const noexcept;
  bool take(speckv_cpl* cpl);
  bool take_in_time(speckv_cpl* cpl);  // within 20 seconds
  void arm(std::uint32_t completions);
  std::uint32_t submitted() const noexcept { return tail_; }
  std::uint32_t taken() const noexcept { return head_; }
  void renew() noexcept { tail_ = head_ = 0; }
  std::uint32_t* word(std::uint32_t offset) const noexcept {
    return reinterpret_cast<std::uint32_t*>(doorbell_.bytes() + offset);
  }
  speckv_desc* descs() const noexcept { return static_cast<speckv_desc*>(rings_.at); }

 private:
  const Fd& card_;
  std::uint32_t depth_, tail_ = 0, head_ = 0;
  speckv_queue_create made_{};
  Mapping rings_, doorbell_;
};

// An io_uring whose entries have 128 bytes.
class Uring {
 public:
  explicit Uring(unsigned entries, unsigned flags = IORING_SETUP_SQE128);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;
  int error() const noexcept { return error_; }
  void push(const Fd& card, std::uint32_t queue, const speckv_desc& desc,
            std::uint64_t user, unsigned command = SPECKV_URING_SUBMIT,
            std::uint32_t reserved = 0);
  int submit() { return io_uring_submit(&ring_); }
  // The next answer within 20 seconds; false: none came.
  bool wait(std::uint64_t* user, int* result);
  // One descriptor, and its answer.
  int run(const Fd& card, std::uint32_t queue, const speckv_desc& desc,
          unsigned command = SPECKV_URING_SUBMIT, std::uint32_t reserved = 0);

 private:
  io_uring ring_{};
  int error_;
};

}  // namespace guest

#include "support/vfio_user_bar0.hpp"

#include <array>
#include <cstring>

#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/endian.hpp"

namespace speckv::test {
namespace {

using sim::File;

constexpr std::size_t kHeader = 16;

File memory_file(std::uint64_t bytes) {
  File file(::memfd_create("speckv test", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
  return file;
}

bool receive_all(int socket, MutableBytes to) {
  while (!to.empty()) {
    const ssize_t got = ::recv(socket, to.data(), to.size(), 0);
    if (got <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

}  // namespace

VfioUserClient::VfioUserClient(std::uint64_t memory_bytes,
                               const sim::PciFunction::MakeCard& make) {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  socket_ = File(ends[0]);
  theirs_ = File(ends[1]);
  function_ = sim::PciFunction::create(memory_file(memory_bytes), memory_bytes, make);
  server_ = std::thread([this] {
    served_ = sim::VfioUser(theirs_, *function_).serve();
    theirs_ = File();  // whoever still asks is told
  });
}

VfioUserClient::~VfioUserClient() {
  socket_ = File();
  if (server_.joinable()) server_.join();
}

bool VfioUserClient::served() {
  ::shutdown(socket_.get(), SHUT_WR);
  server_.join();
  return served_;
}

bool VfioUserClient::send_raw(Bytes bytes) {
  return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

VfioUserClient::Answer VfioUserClient::ask(std::uint16_t command, Bytes body,
                                           const std::vector<int>& files) {
  const std::lock_guard lock(mutex_);
  std::vector<std::byte> bytes(kHeader);
  store_le(bytes.data(), std::uint16_t{77});
  store_le(bytes.data() + 2, command);
  store_le(bytes.data() + 4, static_cast<std::uint32_t>(kHeader + body.size()));
  bytes.insert(bytes.end(), body.begin(), body.end());
  alignas(cmsghdr) std::byte control[CMSG_SPACE(16 * sizeof(int))]{};
  iovec place{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  if (!files.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
    auto* c = reinterpret_cast<cmsghdr*>(control);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
    std::memcpy(CMSG_DATA(c), files.data(), files.size() * sizeof(int));
  }
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) return {};

  Answer answer;
  std::array<std::byte, kHeader> head{};
  iovec into{head.data(), head.size()};
  msghdr reply{};
  reply.msg_iov = &into;
  reply.msg_iovlen = 1;
  reply.msg_control = control;
  reply.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket_.get(), &reply, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  if (got != static_cast<ssize_t>(kHeader)) return {};
  if (const cmsghdr* c = CMSG_FIRSTHDR(&reply); c != nullptr) {
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(c), sizeof descriptor);
    answer.file = File(descriptor);
  }
  EXPECT_EQ(load_le<std::uint16_t>(head.data()), 77);
  EXPECT_EQ(load_le<std::uint16_t>(head.data() + 2), command);
  answer.body.resize(load_le<std::uint32_t>(head.data() + 4) - kHeader);
  const auto flags = load_le<std::uint32_t>(head.data() + 8);
  const int error = load_le<std::int32_t>(head.data() + 12);
  EXPECT_EQ(flags, error == 0 ? 1U : 0x21U);
  if (!receive_all(socket_.get(), answer.body)) return {};
  answer.error = error;
  return answer;
}

namespace {

enum Command : std::uint16_t { kDmaMap = 2, kSetIrqs = 8, kRead = 9, kWrite = 10 };

class VfioUserBar0 final : public Bar0 {
 public:
  VfioUserBar0(std::uint64_t memory_bytes, const sim::PciFunction::MakeCard& make)
      : client_(memory_bytes, make) {
    write(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND,
          Fields().add(std::uint16_t{PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER}));
    for (std::uint32_t i = 0; i < engine::kVectors; ++i) {
      eventfds_[i] = File(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      EXPECT_EQ(client_
                    .ask(kSetIrqs,
                         Fields()
                             .add(std::uint32_t{20})
                             .add(std::uint32_t{VFIO_IRQ_SET_DATA_EVENTFD |
                                                VFIO_IRQ_SET_ACTION_TRIGGER})
                             .add(std::uint32_t{VFIO_PCI_MSIX_IRQ_INDEX})
                             .add(i)
                             .add(std::uint32_t{1}),
                         {eventfds_[i].get()})
                    .error,
                0);
    }
  }
  ~VfioUserBar0() override {
    for (const MutableBytes& memory : memory_)
      ::munmap(memory.data(), memory.size());
  }

  std::uint32_t read32(std::uint32_t offset) override {
    const auto answer = client_.ask(
        kRead,
        Fields().add(std::uint64_t{offset}).add(std::uint32_t{0}).add(std::uint32_t{4}));
    if (offset >= engine::kBar0Bytes) {  // no bus leads there
      EXPECT_EQ(answer.error, EINVAL);
      return 0;
    }
    if (answer.error != 0 || answer.body.size() != 20) {
      ADD_FAILURE() << "read of " << offset << ": " << answer.error;
      return 0;
    }
    const auto value = load_le<std::uint32_t>(answer.body.data() + 16);
    // A read over two words is the bus's to cut: registers have none that is not aligned.
    return offset % 4 == 0 ? value : 0;
  }
  void write32(std::uint32_t offset, std::uint32_t value) override {
    const int error = write(0, offset, Fields().add(value));
    EXPECT_EQ(error, offset < engine::kBar0Bytes ? 0 : EINVAL);
  }
  // Bus addresses are those of this process: any will do.
  MutableBytes allocate(std::size_t bytes) override {
    const std::size_t pages = (bytes + 4095) / 4096 * 4096;
    const File file = memory_file(pages);
    void* at = ::mmap(nullptr, pages, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    auto* memory = static_cast<std::byte*>(at);
    {
      const std::lock_guard lock(mutex_);
      memory_.emplace_back(memory, pages);
    }
    const Fields body =
        Fields()
            .add(std::uint32_t{32})
            .add(std::uint32_t{VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE})
            .add(std::uint64_t{0})
            .add(bus_address(memory))
            .add(std::uint64_t{pages});
    EXPECT_EQ(client_.ask(kDmaMap, body, {file.get()}).error, 0);
    return {memory, bytes};
  }
  std::uint64_t bus_address(const std::byte* at) override {
    return reinterpret_cast<std::uintptr_t>(at);
  }
  std::byte* doorbell_page(std::uint32_t) override { return nullptr; }
  void kick() override {}
  std::uint64_t interrupts(std::uint32_t vector) override {
    std::uint64_t more = 0;
    if (::eventfd_read(eventfds_[vector].get(), &more) == 0) seen_[vector] += more;
    return seen_[vector];
  }
  bool wait_interrupt(std::uint32_t vector, std::uint64_t seen) override {
    pollfd ready{eventfds_[vector].get(), POLLIN, 0};
    while (interrupts(vector) <= seen) {
      if (::poll(&ready, 1, 30000) != 1) return false;
    }
    return true;
  }
  // The card works by itself; after an answer it has done some more.
  void run() override { read32(engine::csr::kId); }

 private:
  int write(std::uint32_t region, std::uint64_t offset, Bytes value) {
    Fields body;
    body.add(offset).add(region).add(static_cast<std::uint32_t>(value.size()));
    for (const std::byte b : value)
      body.add(b);
    return client_.ask(kWrite, body).error;
  }

  VfioUserClient client_;
  std::mutex mutex_;  // memory_
  std::array<File, engine::kVectors> eventfds_{};
  std::array<std::uint64_t, engine::kVectors> seen_{};
  std::vector<MutableBytes> memory_;
};

}  // namespace

std::unique_ptr<Bar0> vfio_user_bar0(std::uint64_t memory_bytes) {
  return vfio_user_bar0(memory_bytes, sim::golden_card);
}
std::unique_ptr<Bar0> vfio_user_bar0(std::uint64_t memory_bytes,
                                     const sim::PciFunction::MakeCard& make) {
  return std::make_unique<VfioUserBar0>(memory_bytes, make);
}

}  // namespace speckv::test

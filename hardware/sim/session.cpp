// Messages of vfio-user: how they are received and sent.
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>

#include "base/endian.hpp"
#include "sim/vfio_user.hpp"

namespace speckv::sim {
namespace {

constexpr std::size_t kHeader = 16;
constexpr std::size_t kMaxMessage = kHeader + (1U << 20) + 64;
constexpr std::size_t kMaxFiles = 16;
constexpr std::uint32_t kTypeMask = 0xF, kTypeReply = 1, kNoReply = 0x10, kError = 0x20;

// All of the bytes. False: the other side has gone.
bool read_all(int socket, MutableBytes to) {
  while (!to.empty()) {
    const ssize_t got = ::recv(socket, to.data(), to.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

void take_files(msghdr& message, std::vector<File>& files) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(c) + i * sizeof(int), sizeof descriptor);
      files.emplace_back(descriptor);
    }
  }
}

}  // namespace

// `size`: of the body. `ended`: the client went, between two messages.
bool VfioUser::receive_header(Request& request, std::size_t* size, bool* ended) {
  std::byte head[kHeader];
  alignas(cmsghdr) std::byte control[CMSG_SPACE(kMaxFiles * sizeof(int))];
  iovec place{head, sizeof head};
  msghdr message{};
  message.msg_iov = &place;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  *ended = got == 0;
  if (got <= 0) return false;
  take_files(message, request.files);
  if ((message.msg_flags & MSG_CTRUNC) != 0) return false;
  const auto done = static_cast<std::size_t>(got);
  if (!read_all(socket_.get(), MutableBytes(head).subspan(done))) return false;
  const auto whole = load_le<std::uint32_t>(head + 4);
  const auto flags = load_le<std::uint32_t>(head + 8);
  if (whole < kHeader || whole > kMaxMessage || (flags & kTypeMask) != 0) return false;
  request.id = load_le<std::uint16_t>(head);
  request.command = load_le<std::uint16_t>(head + 2);
  request.wants_reply = (flags & kNoReply) == 0;
  *size = whole - kHeader;
  return true;
}

bool VfioUser::receive(Request& request, bool* ended) {
  std::size_t size = 0;
  if (!receive_header(request, &size, ended)) return false;
  request.body.resize(size);
  return read_all(socket_.get(), request.body);
}

bool VfioUser::send(const Request& request, const Reply& reply) {
  std::vector<std::byte> bytes(kHeader + reply.body.size());
  store_le(bytes.data(), request.id);
  store_le(bytes.data() + 2, request.command);
  store_le(bytes.data() + 4, static_cast<std::uint32_t>(bytes.size()));
  store_le(bytes.data() + 8, kTypeReply | (reply.error != 0 ? kError : 0U));
  store_le(bytes.data() + 12, static_cast<std::uint32_t>(reply.error));
  std::copy(reply.body.begin(), reply.body.end(), bytes.begin() + kHeader);
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int))]{};
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    iovec place{bytes.data() + sent, bytes.size() - sent};
    msghdr message{};
    message.msg_iov = &place;
    message.msg_iovlen = 1;
    if (reply.file >= 0 && sent == 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(c), &reply.file, sizeof reply.file);
    }
    const ssize_t now = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) return false;
    sent += static_cast<std::size_t>(now);
  }
  return true;
}

bool VfioUser::serve() {
  bool more = false;
  while (true) {
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, more ? 0 : -1) > 0) {
      Request request;
      bool ended = false;
      if (!receive(request, &ended)) return ended;
      const Reply reply = handle(request);
      if (request.wants_reply && !send(request, reply)) return false;
    }
    more = function_.run();
  }
}

}  // namespace speckv::sim

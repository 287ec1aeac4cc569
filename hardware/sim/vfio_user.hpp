// sim/vfio_user.hpp -- the server side of vfio-user: QEMU's words, checked, to a
// PciFunction.
//
// One client over one stream socket. Everything that comes in is untrusted: lengths,
// offsets, counts and numbers are checked before they are used, and what is wrong is
// answered with an errno and changes nothing. Only a stream that cannot be read any more
// ends the session.
#pragma once

#include <cstdint>
#include <vector>

#include "cxlspeckv/block.hpp"

#include "sim/file.hpp"
#include "sim/pci_function.hpp"

namespace speckv::sim {

// A request, and its answer.
struct Request {
  std::uint16_t id = 0, command = 0;
  bool wants_reply = true;
  std::vector<std::byte> body;
  std::vector<File> files;
};
struct Reply {
  int error = 0;  // an errno; the body is then empty
  std::vector<std::byte> body;
  int file = -1;  // sent along, and kept
};

class VfioUser {
 public:
  // Both outlive it.
  VfioUser(const File& socket, PciFunction& function)
      : socket_(socket), function_(function) {}
  // Serves until the client goes. False: it went in the middle of a message, or sent what
  // is no message.
  bool serve();

  // What one request does. For tests; serve() calls it.
  Reply handle(Request& request);

 private:
  bool receive(Request& request, bool* ended);
  bool receive_header(Request& request, std::size_t* size, bool* ended);
  bool send(const Request& request, const Reply& reply);

  Reply version(const Request& request);
  Reply map(const Request& request);
  Reply unmap(const Request& request);
  Reply device_info(const Request& request);
  Reply region_info(const Request& request);
  Reply irq_info(const Request& request);
  Reply set_irqs(Request& request);
  Reply region_read(const Request& request);
  Reply region_write(const Request& request);
  Reply reset(const Request& request);
  std::uint64_t region_bytes(std::uint32_t region) const noexcept;

  const File& socket_;
  PciFunction& function_;
};

}  // namespace speckv::sim

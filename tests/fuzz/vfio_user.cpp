// Any requests, one after the other: each has an answer, and the card reaches nothing but
// what was mapped.
//
// The input is a list of requests: command, number of files, length of the body, body.
#include "sim/vfio_user.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include <sys/mman.h>

using namespace speckv;
using namespace speckv::sim;

namespace {

constexpr std::uint64_t kCardBytes = 64 << 10, kHostBytes = 64 << 10;

void require(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

File memory_file(std::uint64_t bytes) {
  File file(::memfd_create("fuzz", MFD_CLOEXEC));
  require(::ftruncate(file.get(), static_cast<off_t>(bytes)) == 0, "no memory file");
  return file;
}

struct Setup {
  std::unique_ptr<PciFunction> function =
      PciFunction::create(memory_file(kCardBytes), kCardBytes, golden_card);
  File host = memory_file(kHostBytes), nobody;
  VfioUser server{nobody, *function};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Setup setup;
  setup.function->reset();
  setup.function->host_memory().unmap_all();
  std::span<const std::uint8_t> left(data, size);
  while (left.size() >= 3) {
    Request request;
    request.command = left[0];
    for (int files = left[1] % 4; files > 0; --files)
      request.files.emplace_back(::dup(setup.host.get()));
    const std::size_t length = std::min<std::size_t>(left[2], left.size() - 3);
    for (const std::uint8_t b : left.subspan(3, length))
      request.body.push_back(static_cast<std::byte>(b));
    left = left.subspan(3 + length);
    const Reply reply = setup.server.handle(request);
    require(reply.error >= 0 && (reply.error == 0 || reply.body.empty()),
            "an error with a body, or no errno");
    require(reply.file < 0 || reply.file == setup.function->memory_file().get(),
            "a file that is nobody's business");
    setup.function->run();
  }
  return 0;
}

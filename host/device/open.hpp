// device/open.hpp -- one opener per kind of device; open_device() chooses.
#pragma once

#include <memory>
#include <string>

#include "cxlspeckv/device.hpp"

#include "device/file_claim.hpp"
#include "device/os.hpp"
#include "device/uri.hpp"

namespace speckv {

using OpenedDevice = Result<std::shared_ptr<Device>>;

// For whom a device is opened, and what was opened for them so far.
struct Opening {
  FileClaim::Kind kind = FileClaim::Kind::own;
  FileClaims claims{};
};

OpenedDevice open_anonymous(const DeviceUri& uri);  // dram, numa
OpenedDevice open_soft(const DeviceUri& uri);
OpenedDevice open_cxl(const DeviceUri& uri);
OpenedDevice open_mapped(const DeviceUri& uri, Opening& opening);  // dax, shm
OpenedDevice open_file(const DeviceUri& uri, Opening& opening);

// open_device(), which adds to opening.claims what it has locked or made, even if it is
// refused later.
OpenedDevice open_device(std::string_view name, Opening& opening);

// What the URI alone decides.
DeviceInfo info_from(const DeviceUri& uri);

// A file, block device or devdax device, open and of a known size.
struct Backing {
  enum class Kind { regular, block, character };
  std::shared_ptr<FileClaim> file{};
  Kind kind = Kind::regular;
  std::uint64_t size = 0;

  int fd() const noexcept { return file->fd().get(); }
};

// Opens or creates uri.path (for shm: the shared memory of that name), locks it and makes
// it uri.size long, every byte of it allocated: a full disk shows here and not as a
// SIGBUS or a failed write later. Puts things back as they were if that fails. uri.size
// 0, and for those who only look: as it is. invalid_argument: larger than uri.size,
// smaller and not blank, the same as an earlier claim's, or not a file. no_space.
// not_found. busy: somebody else's.
Result<Backing> open_backing(const DeviceUri& uri, Opening& opening);

}  // namespace speckv

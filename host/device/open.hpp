// device/open.hpp -- one opener per kind of device; open_device() chooses.
#pragma once

#include <memory>
#include <string>

#include "cxlspeckv/device.hpp"

#include "device/os.hpp"
#include "device/uri.hpp"

namespace speckv {

using OpenedDevice = Result<std::shared_ptr<Device>>;

OpenedDevice open_anonymous(const DeviceUri& uri);  // dram, numa
OpenedDevice open_soft(const DeviceUri& uri);
OpenedDevice open_cxl(const DeviceUri& uri);
OpenedDevice open_mapped(const DeviceUri& uri);  // dax, shm
OpenedDevice open_file(const DeviceUri& uri);

// What the URI alone decides.
DeviceInfo info_from(const DeviceUri& uri);

// A file, block device or devdax device, open and of a known size.
struct Backing {
  enum class Kind { regular, block, character };
  Fd fd{};
  Kind kind = Kind::regular;
  std::uint64_t size = 0;
  std::string note{};
};

// Opens or creates uri.path (for shm: the shared memory of that name) and makes it
// uri.size long, every byte of it allocated: a full disk shows here and not as a SIGBUS
// or a failed write later. Puts things back as they were if that fails. uri.size 0: as it
// is. invalid_argument: larger than uri.size, smaller and not blank, or not a file.
// no_space. not_found.
Result<Backing> open_backing(const DeviceUri& uri);

}  // namespace speckv

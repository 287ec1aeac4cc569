#include "device/open.hpp"

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/guarded.hpp"

#include "device/simulated.hpp"

namespace speckv {
namespace {

OpenedDevice open_scheme(const DeviceUri& uri) {
  switch (uri.scheme) {
    case Scheme::dram:
    case Scheme::numa:
      return open_anonymous(uri);
    case Scheme::soft:
      return open_soft(uri);
    case Scheme::cxl:
      return open_cxl(uri);
    case Scheme::sim:
      return open_simulated(uri);
    case Scheme::dax:
    case Scheme::shm:
      return open_mapped(uri);
    case Scheme::file:
      return open_file(uri);
  }
  return Status(Code::internal, "a scheme without an opener");
}

}  // namespace

OpenedDevice open_device(std::string_view name) {
  return guarded([&]() -> OpenedDevice {
    Result<DeviceUri> parsed = parse_uri(name);
    if (!parsed.ok()) return parsed.error();
    const DeviceUri uri = std::move(*parsed);
    OpenedDevice device = open_scheme(uri);
    if (!device.ok() || !uri.throttle) return device;
    return throttled(std::move(*device), *uri.throttle);
  });
}

}  // namespace speckv

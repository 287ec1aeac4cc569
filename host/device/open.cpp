#include "device/open.hpp"

#include <memory>
#include <utility>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/guarded.hpp"

#include "device/simulated.hpp"

namespace speckv {
namespace {

OpenedDevice open_scheme(const DeviceUri& uri, Opening& opening) {
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
      return open_mapped(uri, opening);
    case Scheme::file:
      return open_file(uri, opening);
  }
  return Status(Code::internal, "a scheme without an opener");
}

}  // namespace

OpenedDevice open_device(std::string_view name, Opening& opening) {
  Result<DeviceUri> parsed = parse_uri(name);
  if (!parsed.ok()) return parsed.error();
  const DeviceUri uri = std::move(*parsed);
  OpenedDevice device = open_scheme(uri, opening);
  if (!device.ok() || !uri.throttle) return device;
  return throttled(std::move(*device), *uri.throttle);
}

OpenedDevice open_device(std::string_view name, DeviceUse use) {
  return guarded([&]() -> OpenedDevice {
    const auto undo = [](const Opening* opening) {
      for (const auto& claim : opening->claims)
        claim->undo(false);
    };
    Opening opening;
    std::unique_ptr<Opening, decltype(undo)> refused(&opening, undo);
    if (use == DeviceUse::look) opening.kind = FileClaim::Kind::look;
    OpenedDevice device = open_device(name, opening);
    if (device.ok()) (void)refused.release();
    return device;
  });
}

}  // namespace speckv

// speckvctl info: a device, as it is. Nothing is created.
#include <chrono>

#include "cli/command.hpp"
#include "cli/watched.hpp"

namespace speckv::cli {

int info(const Arguments& arguments) {
  auto device = open_existing(arguments.name, DeviceUse::look);
  if (!device) return fail(device.error());
  const DeviceInfo& info = (*device)->info();
  const Json told = {
      {"name", info.name},
      {"capacity", info.capacity},
      {"alignment", info.alignment},
      {"kind", info.memory ? "memory" : "queue"},
      {"persistent", info.persistent},
      {"shared", info.shared},
      {"simulated", info.simulated},
      {"numa_node", info.numa_node < 0 ? Json() : Json(info.numa_node)},
      {"timeout_seconds", std::chrono::duration<double>(info.timeout).count()},
      {"note", info.note}};
  if (arguments.json) {
    print_json("info", told);
  } else {
    print_lines(told);
  }
  return kDone;
}

}  // namespace speckv::cli

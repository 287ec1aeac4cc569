// Devices, policies, addresses and the version.
#include "cxlspeckv/address.hpp"
#include "cxlspeckv/cxlspeckv.h"
#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/tier.hpp"

#include "bindings.hpp"

namespace speckv::python {
namespace {

py::dict describe_device(const std::string& uri) {
  const auto device = value_of(unlocked([&] { return open_device(uri); }));
  const DeviceInfo& info = device->info();
  py::dict described;
  described["name"] = info.name;
  described["capacity"] = info.capacity;
  described["memory"] = info.memory;
  described["persistent"] = info.persistent;
  described["shared"] = info.shared;
  described["simulated"] = info.simulated;
  described["numa_node"] = info.numa_node;
  described["note"] = info.note;
  return described;
}

py::tuple pack_address(std::uint32_t request, std::uint16_t layer, std::uint8_t head,
                       std::uint32_t position, std::uint8_t kind) {
  if (kind > 1) raise(Code::invalid_argument, "kind is 0 (key) or 1 (value)");
  const PackedAddress packed =
      pack(KvAddress{request, layer, head, position, static_cast<KvKind>(kind)});
  return py::make_tuple(packed.high, packed.low);
}

py::tuple unpack_address(std::uint64_t high, std::uint64_t low) {
  const auto address = unpack(PackedAddress{high, low});
  if (!address) raise(Code::invalid_argument, "a bit beyond the 89 is set");
  return py::make_tuple(address->request, address->layer, address->head,
                        address->position, static_cast<int>(address->kind));
}

}  // namespace

void bind_machine(py::module_& module) {
  module.def("describe_device", &describe_device);
  module.def("policies", [] {
    py::list names;
    for (const std::string_view name : policy_names())
      names.append(name);
    return py::tuple(names);
  });
  module.def("pack_address", &pack_address);
  module.def("unpack_address", &unpack_address);
  module.def("version", &speckv_version);
  module.def("code_names", [] {
    py::list names;
    for (std::uint8_t code = 0; code < kCodeCount; ++code)
      names.append(to_string(static_cast<Code>(code)));
    return py::tuple(names);
  });
}

}  // namespace speckv::python

// A Result is not its value until somebody has looked.
// fails with: (cannot convert|no viable conversion|no known conversion)
#include "cxlspeckv/devices.hpp"

std::uint64_t use() {
  const auto size = speckv::parse_size("4G");
#ifdef SPECKV_OFFENCE
  const std::uint64_t bytes = size;
  return bytes;
#endif
  return size ? *size : 0;
}

// A region is named by an id that the store gave out, never by a number or an address.
// fails with: (cannot convert|no viable conversion|cannot initialize|could not convert)
#include "cxlspeckv/device.hpp"

speckv::Segment use(speckv::RegionId region) {
#ifdef SPECKV_OFFENCE
  return {1U, 0, 64};
#endif
  return {region, 0, 64};
}

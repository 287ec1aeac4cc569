// Ids of different things do not stand in for each other.
// fails with: (cannot convert|cannot initialize|no viable conversion)
#include "cxlspeckv/store.hpp"

speckv::Status use(speckv::BlockStore& store, speckv::LayoutId layout,
                   speckv::TenantId tenant) {
  static_cast<void>(layout);
#ifdef SPECKV_OFFENCE
  return store.set_quota(layout, 1);
#endif
  return store.set_quota(tenant, 1);
}

// Overlooking a Status is an error.
// fails with: (nodiscard|unused-result)
#include "cxlspeckv/store.hpp"

void use(speckv::BlockStore& store) {
  if (!store.flush().ok()) return;
#ifdef SPECKV_OFFENCE
  store.flush();
#endif
}

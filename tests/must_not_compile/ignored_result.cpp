// Overlooking a Result is an error.
// fails with: (nodiscard|unused-result)
#include "cxlspeckv/store.hpp"

bool use(speckv::BlockStore& store, speckv::MutableBytes memory) {
#ifdef SPECKV_OFFENCE
  store.attach(memory);
#endif
  return store.attach(memory).ok();
}

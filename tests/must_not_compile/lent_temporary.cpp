// Memory that is lent outlives the call: a temporary cannot be attached.
// fails with: (cannot convert|no viable conversion|no matching|could not convert)
#include <vector>

#include "cxlspeckv/store.hpp"

bool use(speckv::BlockStore& store, std::vector<std::byte>& memory) {
#ifdef SPECKV_OFFENCE
  return store.attach(std::vector<std::byte>(64)).ok();
#endif
  return store.attach(memory).ok();
}

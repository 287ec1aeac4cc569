// Dropping a Pin, which would unpin at once, is an error.
// fails with: (nodiscard|unused-result)
#include "cxlspeckv/store.hpp"

speckv::Pin make() {
  return {};
}

bool use() {
#ifdef SPECKV_OFFENCE
  make();
#endif
  const speckv::Pin pin = make();
  return static_cast<bool>(pin);
}

// A copied Pin would be released twice.
// fails with: (use of deleted function|deleted constructor|implicitly-deleted)
#include <utility>

#include "cxlspeckv/store.hpp"

void use(speckv::Pin& pin) {
  const speckv::Pin moved = std::move(pin);
#ifdef SPECKV_OFFENCE
  const speckv::Pin copy = moved;
#endif
}

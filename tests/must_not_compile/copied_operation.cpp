// Memory is lent to one Operation: it can be moved, not copied.
// fails with: (use of deleted function|deleted constructor|implicitly-deleted)
#include <utility>

#include "cxlspeckv/operation.hpp"

void use(speckv::Operation& operation) {
  const speckv::Operation moved = std::move(operation);
#ifdef SPECKV_OFFENCE
  const speckv::Operation copy = moved;
#endif
}

// A View holds its blocks once.
// fails with: (use of deleted function|deleted constructor|implicitly-deleted)
#include <utility>

#include "cxlspeckv/sequence.hpp"

void use(speckv::View& view) {
  const speckv::View moved = std::move(view);
#ifdef SPECKV_OFFENCE
  const speckv::View copy = moved;
#endif
}

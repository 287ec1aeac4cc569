// A store has one owner.
// fails with: (use of deleted function|deleted constructor|call to deleted)
#include "cxlspeckv/store.hpp"

void use(speckv::BlockStore& store) {
  speckv::BlockStore& same = store;
#ifdef SPECKV_OFFENCE
  speckv::BlockStore copy(same);
#endif
  static_cast<void>(same);
}

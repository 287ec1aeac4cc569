// Dropping an Operation, which would wait on the spot, is an error.
// fails with: (nodiscard|unused-result)
#include "cxlspeckv/store.hpp"

bool use(speckv::BlockStore& store, std::span<const speckv::BlockTransfer> blocks) {
#ifdef SPECKV_OFFENCE
  store.save(blocks);
#endif
  return store.save(blocks).wait().ok();
}

// fuzz/require.hpp -- what fuzz targets hold a store to; a broken promise ends the
// process, which is what libFuzzer looks for.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "support/store_fixture.hpp"

namespace speckv::test {

inline void require(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// Opening damaged memory is refused for one of these reasons, or the store works.
inline bool opens(const StoreUnderTest& store) {
  if (store) return true;
  const Code code = store.error().code();
  require(code == Code::corrupted || code == Code::invalid_argument, "odd refusal");
  return false;
}

// What nobody damaged opens, with the `held` blocks that it had of 0 to `blocks`: else a
// target that refuses all would pass.
inline void require_sound(StoreUnderTest& store, std::uint64_t blocks,
                          std::uint64_t held) {
  require(static_cast<bool>(store), "what is sound was refused");
  std::uint64_t found = 0;
  for (std::uint64_t n = 0; n < blocks; ++n)
    found += store.load(n) == Code::ok ? 1U : 0U;
  require(found == held, "a sound block was not found");
}

// Blocks 0 to `blocks` are there with the right bytes, or not at all.
inline void require_right_or_refused(StoreUnderTest& store, std::uint64_t blocks) {
  for (std::uint64_t n = 0; n < blocks; ++n) {
    const Code code = store.load(n);
    require(code == Code::ok || code == Code::not_found || code == Code::corrupted ||
                code == Code::invalid_argument,
            "a load answered oddly, or with wrong bytes");
  }
}

}  // namespace speckv::test

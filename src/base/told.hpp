// base/told.hpp -- a failure whose code is told even where there is no memory for its
// text.
#pragma once

#include <new>

#include "cxlspeckv/status.hpp"

namespace speckv {

// `text()` makes the sentence; without memory there is none.
template <class F>
Status told(Code code, F&& text) {
  try {
    return {code, text()};
  } catch (const std::bad_alloc&) {
    return {code, {}};
  }
}

}  // namespace speckv

// cxlspeckv/guarded.hpp -- where exceptions of the standard library end: at the doors of
// this one, and of devices that somebody else writes.
#pragma once

#include <new>
#include <system_error>
#include <type_traits>

#include "cxlspeckv/status.hpp"

namespace speckv {

// Runs `body`, which answers a Code, a Status or a Result. Without memory the answer is
// no_space, without a thread it is busy: both say so in texts that need no memory
// themselves.
template <class F>
std::invoke_result_t<F&> guarded(F&& body) {
  using Answer = std::invoke_result_t<F&>;
  if constexpr (std::is_same_v<Answer, Code>) {
    try {
      return body();
    } catch (const std::bad_alloc&) {
      return Code::no_space;
    } catch (const std::system_error&) {
      return Code::busy;
    }
  } else {
    try {
      return body();
    } catch (const std::bad_alloc&) {
      return Status(Code::no_space, "out of memory");
    } catch (const std::system_error&) {
      return Status(Code::busy, "no more threads");
    }
  }
}

}  // namespace speckv

#include "cxlspeckv/status.hpp"

namespace speckv {

std::string_view to_string(Code code) noexcept {
  switch (code) {
    case Code::ok:
      return "ok";
    case Code::invalid_argument:
      return "invalid_argument";
    case Code::not_found:
      return "not_found";
    case Code::no_space:
      return "no_space";
    case Code::busy:
      return "busy";
    case Code::cancelled:
      return "cancelled";
    case Code::timed_out:
      return "timed_out";
    case Code::corrupted:
      return "corrupted";
    case Code::io_error:
      return "io_error";
    case Code::unsupported:
      return "unsupported";
    case Code::internal:
      return "internal";
  }
  return "unknown";
}

}  // namespace speckv

// cxlspeckv/status.hpp -- how every call that can fail answers.
//
// Errors are values: nothing in the library throws, aborts or prints. Both types are
// [[nodiscard]], so that none can be overlooked. A cache miss is an answer, not an error.
#pragma once

#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace speckv {

// One list, in one order, for C++, C (speckv_status), Python and docs/errors.md.
enum class Code : std::uint8_t {
  ok,
  invalid_argument,  // the caller broke a stated rule
  not_found,         // no such block, device or codec
  no_space,          // every byte is taken and nothing may be evicted
  busy,              // try again: a queue is full, or somebody holds the object
  cancelled,         // by the caller
  timed_out,         // the caller's deadline passed, or the device's
  corrupted,         // bytes failed a checksum or did not decode
  io_error,          // the device said no
  unsupported,       // this device, kernel or build cannot
  internal,          // a bug in this library
};
inline constexpr std::uint8_t kCodeCount = static_cast<std::uint8_t>(Code::internal) + 1;

// The name as written above; "unknown" for a value out of range.
std::string_view to_string(Code code) noexcept;

// ok, or a code with a sentence for a person. Immutable.
class [[nodiscard]] Status {
 public:
  Status() noexcept = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const noexcept { return code_ == Code::ok; }
  Code code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }  // "" when ok

 private:
  Code code_ = Code::ok;
  std::string message_;
};

// A T, or the reason why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  // NOLINTBEGIN(google-explicit-constructor): so that `return value;` reads as it should
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status error) : state_(std::in_place_index<1>, std::move(error)) {
    assert(!this->error().ok());
  }
  // NOLINTEND(google-explicit-constructor)

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  // REQUIRES: !ok()
  const Status& error() const noexcept { return known(std::get_if<1>(&state_)); }

  // REQUIRES: ok()
  T& operator*() & noexcept { return known(std::get_if<0>(&state_)); }
  const T& operator*() const& noexcept { return known(std::get_if<0>(&state_)); }
  T&& operator*() && noexcept { return std::move(known(std::get_if<0>(&state_))); }
  T* operator->() noexcept { return std::get_if<0>(&state_); }
  const T* operator->() const noexcept { return std::get_if<0>(&state_); }

 private:
  // *there, in words that keep g++ from seeing a null dereference in every caller.
  template <class U>
  static U& known(U* there) noexcept {
    if (there == nullptr) __builtin_unreachable();
    return *there;
  }

  std::variant<T, Status> state_;
};

}  // namespace speckv

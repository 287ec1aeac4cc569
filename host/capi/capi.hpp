// capi/capi.hpp -- what the files of the C API share: the boundary that no exception
// passes, option structs that grow, and the objects behind the handles.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "cxlspeckv/cxlspeckv.h"
#include "cxlspeckv/cxlspeckv.hpp"
#include "cxlspeckv/devices.hpp"

namespace speckv::capi {

// A callable that is lent for the length of a call.
class Body {
 public:
  template <class F>
  explicit Body(F& f) noexcept
      : object_(&f), call_([](void* o) -> Status { return (*static_cast<F*>(o))(); }) {}
  Status operator()() const { return call_(object_); }

 private:
  void* object_;
  Status (*call_)(void*);
};

// Runs the body of a call. Whatever it throws becomes a status (capi.cpp).
Status contained(const Body& body) noexcept;
// The status of a call, its text kept for speckv_last_error().
speckv_status answer(const Status& status) noexcept;

template <class F>
Status contained_call(F&& body) noexcept {
  return contained(Body(body));
}
template <class F>
speckv_status guard(F&& body) noexcept {
  return answer(contained_call(body));
}

inline Status refused(std::string_view what) {
  return {Code::invalid_argument, std::string(what)};
}
inline Status null_argument(std::string_view name) {
  return refused(std::string(name) + " is NULL");
}

// Copies an options struct of `given` size into `known` bytes at `out`; see cxlspeckv.h.
// `given` may be NULL: then `out` keeps its zeros.
Status read_struct(const void* given, std::size_t known, std::size_t alignment,
                   void* out);

template <class T>
Status read_options(const T* given, T& out) {
  static_assert(std::is_trivially_copyable_v<T> && offsetof(T, size) == 0);
  return read_struct(given, sizeof(T), alignof(T), &out);
}

// The same for the n-th element of an array, which is as far apart as the first is long.
template <class T>
Status read_element(const T* array, std::size_t n, T& out) {
  const auto* first = reinterpret_cast<const std::byte*>(array);
  const std::byte* element = first + n * array->size;
  if (const auto* at = reinterpret_cast<const T*>(element); at->size != array->size) {
    return refused("the elements of an array of options differ in size");
  }
  return read_struct(element, sizeof(T), alignof(T), &out);
}

Status read_layout(const speckv_layout& given, BlockLayout& out);
Status read_tenant(std::uint32_t given, TenantId& out);
// "" for NULL.
inline std::string_view text(const char* given) noexcept {
  return given == nullptr ? std::string_view() : given;
}
inline std::string_view bytes_as_text(const void* given, std::size_t bytes) noexcept {
  return {static_cast<const char*>(given), bytes};
}

// "For ever" is left as it is; anything that would overflow a clock counts as that.
inline std::chrono::nanoseconds duration(std::uint64_t ns) noexcept {
  constexpr std::uint64_t kMost = 1ULL << 62;
  if (ns >= kMost) return std::chrono::nanoseconds::max();
  return std::chrono::nanoseconds(static_cast<std::int64_t>(ns));
}

inline BlockKey key_of(const speckv_key& key) noexcept {
  return {key.high, key.low};
}
inline speckv_key key_of(const BlockKey& key) noexcept {
  return {key.high, key.low};
}
std::vector<BlockKey> keys_of(const speckv_key* keys, std::size_t count);

inline constexpr std::size_t kMostInBatch = std::size_t{1} << 24;
// count elements at `array`: not NULL unless there are none, and not absurdly many.
Status check_array(const void* array, std::size_t count, std::string_view name);

// Of a field of options: zero is the default.
template <class T, class U>
void take(U given, T& out) {
  if (given != 0) out = static_cast<T>(given);
}

// A struct that the library fills in, as far as the caller's size reaches.
Status fill_struct(void* out, std::size_t alignment, const void* full, std::size_t known);
template <class T>
Status fill_stats(T* out, const T& full) {
  static_assert(std::is_trivially_copyable_v<T> && offsetof(T, size) == 0);
  return fill_struct(out, alignof(T), &full, sizeof(T));
}

// Counts one user of something while it lives.
class Use {
 public:
  Use() noexcept = default;
  explicit Use(std::atomic<std::size_t>& count) noexcept : count_(&count) {
    count.fetch_add(1, std::memory_order_relaxed);
  }
  Use(Use&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
  Use& operator=(Use&&) = delete;
  // release: what the user did happens before whoever reads 0 frees the thing.
  ~Use() {
    if (count_ != nullptr) count_->fetch_sub(1, std::memory_order_release);
  }

 private:
  std::atomic<std::size_t>* count_ = nullptr;
};

// ok if nobody uses the thing; else busy, saying how many `of_what` do.
Status check_unused(const std::atomic<std::size_t>& users, std::string_view of_what);

}  // namespace speckv::capi

// ---- behind the handles; members are destroyed last to first ------------------------

struct speckv_store {
  speckv_log_fn* log = nullptr;
  void* log_context = nullptr;
  std::atomic<std::size_t> users{0};
  std::unique_ptr<speckv::BlockStore> store{};
};

struct speckv_completions {
  std::atomic<std::size_t> users{0};
  std::unique_ptr<speckv::EventfdCompletionQueue> queue{};
};

struct speckv_op {
  speckv::capi::Use of_store, of_completions;
  speckv::Operation operation{};
};

struct speckv_pin {
  speckv::capi::Use of_store;
  speckv::Pin pin{};
};

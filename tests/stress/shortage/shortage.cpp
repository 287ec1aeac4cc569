#include "shortage/shortage.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>
#include <system_error>
#include <thread>

namespace {

using speckv::test::Shortage;

std::atomic<Shortage> shortage{Shortage::none};
std::atomic<std::uint64_t> seen{0}, fails_at{0}, in_vain{0};
std::atomic<std::int64_t> alive{0};  // allocations that were not given back

bool deny(Shortage one, Shortage all) noexcept {
  const Shortage now = shortage.load();
  if (now != one && now != all) return false;
  const std::uint64_t n = seen.fetch_add(1);
  const bool fails = now == one ? n == fails_at.load() : n >= fails_at.load();
  if (fails) in_vain.fetch_add(1);
  return fails;
}

void* take(std::size_t bytes, std::size_t alignment) {
  if (deny(Shortage::one_allocation, Shortage::memory)) throw std::bad_alloc();
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment;
  void* const at = std::aligned_alloc(alignment, size * alignment);
  if (at == nullptr) throw std::bad_alloc();
  alive.fetch_add(1);
  return at;
}

void give(void* at) noexcept {
  if (at == nullptr) return;
  alive.fetch_sub(1);
  // NOLINTNEXTLINE(cppcoreguidelines-no-malloc): this is where RAII ends
  std::free(at);
}

}  // namespace

// The array and nothrow forms of the standard library end here.
void* operator new(std::size_t bytes) {
  return take(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes) {
  return operator new(bytes);
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return operator new(bytes, alignment);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return operator new(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void* operator new[](std::size_t bytes, const std::nothrow_t& tag) noexcept {
  return operator new(bytes, tag);
}
void operator delete(void* at) noexcept {
  give(at);
}
void operator delete[](void* at) noexcept {
  give(at);
}
void operator delete(void* at, std::size_t) noexcept {
  give(at);
}
void operator delete[](void* at, std::size_t) noexcept {
  give(at);
}
void operator delete(void* at, std::align_val_t) noexcept {
  give(at);
}
void operator delete[](void* at, std::align_val_t) noexcept {
  give(at);
}
void operator delete(void* at, std::size_t, std::align_val_t) noexcept {
  give(at);
}
void operator delete[](void* at, std::size_t, std::align_val_t) noexcept {
  give(at);
}
void operator delete(void* at, const std::nothrow_t&) noexcept {
  give(at);
}
void operator delete[](void* at, const std::nothrow_t&) noexcept {
  give(at);
}

// std::thread::_M_start_thread of libstdc++, which the linker wraps (CMakeLists.txt):
// pthread_create itself belongs to the sanitizers.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" void
__real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
    std::thread* self, std::unique_ptr<std::thread::_State> state, void (*depend)());
extern "C" void
__wrap__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
    std::thread* self, std::unique_ptr<std::thread::_State> state, void (*depend)()) {
  if (deny(Shortage::one_thread, Shortage::one_thread))
    throw std::system_error(std::make_error_code(std::errc{EAGAIN}));
  __real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
      self, std::move(state), depend);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace speckv::test {

void want(Shortage what, std::uint64_t n) noexcept {
  seen = 0;
  in_vain = 0;
  fails_at = n;
  shortage = what;
}
void supply() noexcept {
  shortage = Shortage::none;
}
std::uint64_t asked() noexcept {
  return seen;
}
std::uint64_t denied() noexcept {
  return in_vain;
}
std::int64_t live() noexcept {
  return alive;
}

}  // namespace speckv::test

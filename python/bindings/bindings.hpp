// bindings.hpp -- what the parts of cxlspeckv._core share.
//
// No logic lives here: Python objects become C++ arguments, Codes become exceptions, and
// lifetimes are kept. Objects are used under the GIL, which is given up around every call
// into the library.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/status.hpp"

namespace speckv::python {

namespace py = pybind11;

// Raises the exception of `errors.py` that belongs to the code.
[[noreturn]] void raise(Code code, const std::string& message);
inline void check(const Status& status) {
  if (!status.ok()) raise(status.code(), status.message());
}
template <class T>
T value_of(Result<T> result) {
  if (!result) raise(result.error().code(), result.error().message());
  return *std::move(result);
}

// Runs `body` without the GIL.
template <class F>
decltype(auto) unlocked(F&& body) {
  const py::gil_scoped_release release;
  return std::forward<F>(body)();
}

// From a float of seconds. None is the longest time, negative is refused.
std::chrono::nanoseconds duration(const py::object& seconds);

Bytes bytes_in(const py::bytes& object);

// Keys: a buffer of n x 16 bytes, or a sequence of objects of 16 bytes.
class Keys {
 public:
  explicit Keys(const py::object& from);
  std::span<const BlockKey> get() const noexcept { return keys_; }
  std::size_t size() const noexcept { return keys_.size(); }

 private:
  std::vector<BlockKey> keys_;
};
BlockKey key_in(const py::object& from);
py::bytes bytes_of_keys(std::span<const BlockKey> keys);

// Token ids: integers of 0 to 2^32 - 1, from any array or sequence.
std::vector<std::uint32_t> tokens_in(const py::object& from);

// An array of the layout's dtype (bf16 and f8e4m3 as their bits) over `memory`, which
// `owner` keeps, and read-only; without an owner a copy.
py::array array_of(const BlockLayout& layout, std::vector<py::ssize_t> shape,
                   const std::byte* memory, const py::handle& owner);
// The shape of one layer of a plain block.
std::vector<py::ssize_t> layer_shape(const BlockLayout& layout);

// A writable buffer, or a DLPack tensor in host memory, and what keeps it alive.
class Lent {
 public:
  explicit Lent(const py::object& from);
  Lent(MutableBytes memory, py::object owner)
      : memory_(memory), owner_(std::move(owner)) {}
  Lent(Lent&& other) noexcept;
  Lent& operator=(Lent&&) = delete;
  ~Lent();
  MutableBytes memory() const noexcept { return memory_; }

 private:
  bool take_buffer(const py::object& from);
  bool take_dlpack(const py::object& from);

  Py_buffer view_{};
  MutableBytes memory_{};
  py::object owner_{};
};

void bind_blocks(py::module_& module);
void bind_store(py::module_& module);
void bind_operation(py::module_& module);
void bind_sequence(py::module_& module);
void bind_prefetcher(py::module_& module);
void bind_stream_prefetcher(py::module_& module);
void bind_codecs(py::module_& module);
void bind_machine(py::module_& module);
void bind_engine(py::module_& module);

}  // namespace speckv::python

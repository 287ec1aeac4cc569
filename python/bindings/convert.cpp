// Between Python objects and the arguments of the C++ API.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "bindings.hpp"

namespace speckv::python {

static_assert(sizeof(BlockKey) == 16, "a key is 16 bytes for Python");

void raise(Code code, const std::string& message) {
  const py::tuple classes = py::module_::import("cxlspeckv.errors").attr("BY_CODE");
  PyErr_SetString(classes[static_cast<std::size_t>(code)].ptr(), message.c_str());
  throw py::error_already_set();
}

std::chrono::nanoseconds duration(const py::object& seconds) {
  using std::chrono::nanoseconds;
  if (seconds.is_none()) return nanoseconds::max();
  const double value = seconds.cast<double>();
  if (!(value >= 0)) raise(Code::invalid_argument, "a time is at least 0 seconds");
  constexpr double kMost = 9e9;  // seconds: below 2^63 nanoseconds
  if (value >= kMost) return nanoseconds::max();
  return nanoseconds(static_cast<std::int64_t>(value * 1e9));
}

Bytes bytes_in(const py::bytes& object) {
  const std::string_view text = object;
  return std::as_bytes(std::span(text.data(), text.size()));
}

namespace {

// A contiguous, readable buffer while this lives.
class Readable {
 public:
  explicit Readable(const py::handle& from) {
    held_ = PyObject_GetBuffer(from.ptr(), &view_, PyBUF_SIMPLE) == 0;
    if (!held_) PyErr_Clear();
  }
  Readable(const Readable&) = delete;
  Readable& operator=(const Readable&) = delete;
  ~Readable() {
    if (held_) PyBuffer_Release(&view_);
  }
  explicit operator bool() const noexcept { return held_; }
  const void* data() const noexcept { return view_.buf; }
  std::size_t size() const noexcept { return static_cast<std::size_t>(view_.len); }

 private:
  Py_buffer view_{};
  bool held_ = false;
};

}  // namespace

BlockKey key_in(const py::object& from) {
  BlockKey key;
  const Readable bytes(from);
  if (!bytes || bytes.size() != sizeof key)
    raise(Code::invalid_argument, "a key is 16 bytes");
  std::memcpy(&key, bytes.data(), sizeof key);
  return key;
}

Keys::Keys(const py::object& from) {
  if (const Readable bytes(from); bytes) {
    if (bytes.size() % sizeof(BlockKey) != 0)
      raise(Code::invalid_argument, "keys are 16 bytes each");
    keys_.resize(bytes.size() / sizeof(BlockKey));
    if (!keys_.empty()) std::memcpy(keys_.data(), bytes.data(), bytes.size());
    return;
  }
  if (!py::isinstance<py::sequence>(from))
    raise(Code::invalid_argument,
          "keys are a buffer of n x 16 bytes, or a sequence of keys");
  const auto list = py::reinterpret_borrow<py::sequence>(from);
  keys_.reserve(list.size());
  for (const py::handle key : list)
    keys_.push_back(key_in(py::reinterpret_borrow<py::object>(key)));
}

py::bytes bytes_of_keys(std::span<const BlockKey> keys) {
  return {reinterpret_cast<const char*>(keys.data()), keys.size_bytes()};
}

std::vector<std::uint32_t> tokens_in(const py::object& from) {
  const py::array given = py::array::ensure(from);
  if (!given) {
    PyErr_Clear();
    raise(Code::invalid_argument, "tokens are an array or a sequence of integers");
  }
  if (given.size() == 0) return {};
  const char kind = given.dtype().kind();
  if (given.ndim() != 1 || (kind != 'i' && kind != 'u'))
    raise(Code::invalid_argument, "tokens are a list of integers, of one dimension");
  const auto wide = py::array_t<std::int64_t, py::array::forcecast>::ensure(given);
  const auto values = wide.unchecked<1>();
  std::vector<std::uint32_t> tokens(static_cast<std::size_t>(values.size()));
  for (py::ssize_t i = 0; i < values.size(); ++i) {
    const std::int64_t token = values(i);
    if (token < 0 || token > std::numeric_limits<std::uint32_t>::max())
      raise(Code::invalid_argument,
            "a token is 0 to 2^32 - 1, not " + std::to_string(token));
    tokens[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>(token);
  }
  return tokens;
}

// ---- lent memory

namespace {

// The stable part of DLPack's ABI (dlpack.h, version 0): what a "dltensor" capsule holds.
struct DLTensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t ndim;
  std::uint8_t type_code, type_bits;
  std::uint16_t type_lanes;
  std::int64_t *shape, *strides;  // strides in elements; null: contiguous
  std::uint64_t byte_offset;
};
constexpr std::int32_t kDLCPU = 1, kDLCUDAHost = 3;

// From the lowest byte of a strided array to the end of its highest. Strides in bytes;
// null: contiguous.
template <class Int>
MutableBytes extent(void* first, std::size_t item, int ndim, const Int* shape,
                    const Int* strides, Int unit) {
  std::ptrdiff_t low = 0, high = 0;
  auto packed = static_cast<std::ptrdiff_t>(item);
  for (int d = ndim - 1; d >= 0; --d) {
    if (shape[d] == 0) return {};
    const auto step =
        strides == nullptr ? packed : static_cast<std::ptrdiff_t>(strides[d] * unit);
    const std::ptrdiff_t reach = step * static_cast<std::ptrdiff_t>(shape[d] - 1);
    (reach < 0 ? low : high) += reach;
    packed *= static_cast<std::ptrdiff_t>(shape[d]);
  }
  return {static_cast<std::byte*>(first) + low,
          static_cast<std::size_t>(high - low) + item};
}

}  // namespace

bool Lent::take_buffer(const py::object& from) {
  if (!PyObject_CheckBuffer(from.ptr())) return false;
  if (PyObject_GetBuffer(from.ptr(), &view_, PyBUF_STRIDED) != 0) {
    PyErr_Clear();
    view_ = {};
    return false;
  }
  memory_ = extent<Py_ssize_t>(view_.buf, static_cast<std::size_t>(view_.itemsize),
                               view_.ndim, view_.shape, view_.strides, 1);
  return true;
}

bool Lent::take_dlpack(const py::object& from) {
  if (!py::hasattr(from, "__dlpack__")) return false;
  py::object capsule;
  try {
    capsule = from.attr("__dlpack__")();
  } catch (const py::error_already_set& refused) {  // read-only, needs a gradient, ...
    raise(Code::invalid_argument, refused.what());
  }
  // Not consumed: the capsule frees the tensor when it goes.
  const auto* tensor =
      static_cast<const DLTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (tensor == nullptr) throw py::error_already_set();
  if (tensor->device_type != kDLCPU && tensor->device_type != kDLCUDAHost)
    raise(Code::unsupported, "only memory of the host can be attached");
  const std::size_t item = (std::size_t{tensor->type_bits} * tensor->type_lanes + 7) / 8;
  memory_ = extent<std::int64_t>(
      static_cast<std::byte*>(tensor->data) + tensor->byte_offset, item, tensor->ndim,
      tensor->shape, tensor->strides, static_cast<std::int64_t>(item));
  owner_ = capsule;
  return true;
}

Lent::Lent(const py::object& from) {
  if (!take_buffer(from) && !take_dlpack(from))
    raise(Code::invalid_argument, "neither a writable buffer nor a DLPack tensor");
}

Lent::Lent(Lent&& other) noexcept
    : view_(std::exchange(other.view_, {})),
      memory_(other.memory_),
      owner_(std::move(other.owner_)) {}

Lent::~Lent() {
  if (view_.obj != nullptr) PyBuffer_Release(&view_);
}

}  // namespace speckv::python

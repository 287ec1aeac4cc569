// cxlspeckv/speckv.h: the published calls, on paged memory.
#include <mutex>
#include <shared_mutex>

#include "cxlspeckv/speckv.h"

#include "capi/capi.hpp"
#include "capi/paged_memory.hpp"

namespace {

using namespace speckv;
using namespace speckv::capi;

// The device that is open. Calls share the lock, init and finalize take it alone.
struct Library {
  std::shared_mutex mutex;
  std::unique_ptr<PagedMemory> memory;
};

// Never destroyed: a program may end without speckv_finalize(), from any thread.
Library& library() {
  static Library& only = *new Library;
  return only;
}

speckv_status_t classic_status(speckv_status status) noexcept {
  switch (status) {
    case SPECKV_STATUS_OK:
      return SPECKV_OK;
    case SPECKV_STATUS_INVALID_ARGUMENT:
    case SPECKV_STATUS_NOT_FOUND:
      return SPECKV_ERR_INVAL;
    case SPECKV_STATUS_NO_SPACE:
      return SPECKV_ERR_NOMEM;
    case SPECKV_STATUS_IO_ERROR:
      return SPECKV_ERR_DRIVER;
    default:
      return SPECKV_ERR_GENERAL;
  }
}

// Runs a call on the open device.
template <class F>
speckv_status_t call(F&& body) noexcept {
  return classic_status(guard([&]() -> Status {
    Library& its = library();
    const std::shared_lock lock(its.mutex);
    if (its.memory == nullptr)
      return refused("no device is open: call speckv_init first");
    return body(*its.memory);
  }));
}

Status check_depth(std::uint32_t depth) {
  if (depth >= 1 && depth <= PagedMemory::kMaxDepth) return {};
  return refused("a prefetch depth is 1 to 16");
}

}  // namespace

speckv_status_t speckv_init(const char* dev_path) {
  bool opening = false;
  const speckv_status status = guard([&]() -> Status {
    if (dev_path == nullptr) return null_argument("dev_path");
    Library& its = library();
    const std::lock_guard lock(its.mutex);
    if (its.memory != nullptr) return {Code::busy, "a device is open already"};
    opening = true;
    auto opened = PagedMemory::open(dev_path);
    if (!opened) return opened.error();
    its.memory = *std::move(opened);
    return {};
  });
  if (status != SPECKV_STATUS_OK && opening) return SPECKV_ERR_DRIVER;
  return classic_status(status);
}

void speckv_finalize(void) {
  (void)guard([]() -> Status {
    Library& its = library();
    const std::lock_guard lock(its.mutex);
    its.memory.reset();
    return {};
  });
}

speckv_status_t speckv_alloc(size_t bytes, const speckv_alloc_hint_t* hint,
                             speckv_handle_t* out_handle) {
  return call([&](PagedMemory& memory) -> Status {
    if (out_handle == nullptr) return null_argument("out_handle");
    if (hint != nullptr && hint->reserved != 0) return refused("reserved must be 0");
    constexpr std::uint32_t kMostNodes = 4096;
    const bool named = hint != nullptr && hint->preferred_node < kMostNodes;
    auto handle =
        memory.allocate(bytes, named ? static_cast<int>(hint->preferred_node) : -1);
    if (!handle) return handle.error();
    *out_handle = *handle;
    return {};
  });
}

speckv_status_t speckv_free(speckv_handle_t handle) {
  return call([&](PagedMemory& memory) { return memory.release(handle); });
}

speckv_status_t speckv_access(speckv_handle_t handle, uint64_t offset_bytes,
                              size_t length_bytes, void** out_ptr) {
  return call([&](PagedMemory& memory) -> Status {
    if (out_ptr == nullptr) return null_argument("out_ptr");
    auto address = memory.access(handle, offset_bytes, length_bytes);
    if (!address) return address.error();
    *out_ptr = *address;
    return {};
  });
}

speckv_status_t speckv_prefetch(uint32_t /*req_id*/, uint16_t /*layer*/,
                                uint32_t /*cur_pos*/, uint32_t depth_k,
                                const int32_t* recent_tokens, uint32_t history_len) {
  return call([&](PagedMemory& memory) -> Status {
    if (recent_tokens == nullptr || history_len == 0)
      return refused("a prefetch needs recent tokens");
    if (Status valid = check_depth(depth_k); !valid.ok()) return valid;
    return memory.prefetch(depth_k);
  });
}

speckv_status_t speckv_set_prefetch_depth(uint32_t depth_k) {
  return call([&](PagedMemory& memory) -> Status {
    if (Status valid = check_depth(depth_k); !valid.ok()) return valid;
    memory.set_depth(depth_k);
    return {};
  });
}

speckv_status_t speckv_set_compression_scheme(speckv_comp_scheme_t scheme) {
  return call([&](PagedMemory& memory) -> Status {
    switch (static_cast<int>(scheme)) {
      case SPECKV_COMP_FP16:
        return memory.set_codec(*find_codec(CodecId::raw));
      case SPECKV_COMP_INT8:
        return memory.set_codec(*find_codec(CodecId::int8));
      case SPECKV_COMP_INT8_DELTA_RLE:
        return memory.set_codec(*find_codec(CodecId::int8_delta_rle));
      default:
        return refused("no such compression scheme");
    }
  });
}

// device/uri.hpp -- device names, taken apart. Parsing touches nothing on the machine.
//
//   uri   = scheme ":" place [ "?" name "=" value { "&" name "=" value } ]
//   place = a size (dram, soft, sim), a node number (numa), a path (file, dax, cxl), a
//   name (shm)
//
// There is no escaping: a path ends at the first "?".
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cxlspeckv/devices.hpp"

namespace speckv {

enum class Scheme : std::uint8_t { dram, numa, dax, file, shm, soft, cxl, sim };
enum class FileEngine : std::uint8_t { best, uring, pread };

struct DeviceUri {
  Scheme scheme{};
  std::string text{};            // as given
  std::string path{};            // of dax, file, shm, cxl
  int node = -1;                 // of numa
  std::uint64_t size = 0;        // 0: that of what exists
  std::optional<bool> direct{};  // O_DIRECT; nothing: where the file system takes it
  FileEngine engine = FileEngine::best;
  std::optional<LinkModel> throttle{};
  std::chrono::nanoseconds timeout = DeviceInfo{}.timeout;
};

// invalid_argument, with a sentence that says what would have been right.
Result<DeviceUri> parse_uri(std::string_view text);

// "/" and 1 to 254 other characters, none of them "/" or NUL; not "/." or "/..".
bool valid_shm_name(std::string_view name) noexcept;

}  // namespace speckv

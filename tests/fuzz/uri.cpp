// Any device name: parsing ends with a URI that keeps its promises, or with a sentence.
// Nothing is opened, so that a lucky name cannot create a file.
#include "device/uri.hpp"

#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const speckv::DeviceUri& uri, std::string_view text) {
  using speckv::Scheme;
  require(uri.text == text);
  require(uri.timeout.count() > 0);
  require(uri.size <= INT64_MAX);
  const bool has_path = uri.scheme == Scheme::dax || uri.scheme == Scheme::file ||
                        uri.scheme == Scheme::shm || uri.scheme == Scheme::cxl;
  require(has_path != uri.path.empty());
  require(uri.path.find('\0') == std::string::npos);
  require(has_path || uri.size != 0);
  require((uri.scheme == Scheme::numa) == (uri.node >= 0));
  if (uri.scheme == Scheme::shm) require(speckv::valid_shm_name(uri.path));
  const bool file_only = uri.direct.has_value() || uri.engine != speckv::FileEngine::best;
  require(!file_only || uri.scheme == Scheme::file);
  require(!uri.throttle || uri.throttle->latency.count() > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto uri = speckv::parse_uri(text);
  if (uri.ok()) {
    check(*uri, text);
  } else {
    require(uri.error().code() == speckv::Code::invalid_argument);
    require(!uri.error().message().empty());
  }
  const auto bytes = speckv::parse_size(text);
  require(!bytes.ok() || *bytes <= INT64_MAX);
  return 0;
}

// raw: the plain bytes. Frames copy raw layers themselves, checksum and all in one pass;
// this is the same codec for whoever has no frame.
#include <cstring>

#include "codec/builtin.hpp"

namespace speckv {
namespace {

class Raw final : public Codec {
 public:
  CodecId id() const noexcept override { return CodecId::raw; }
  std::string_view name() const noexcept override { return "raw"; }
  bool supports(const BlockLayout& /*layout*/) const noexcept override { return true; }
  std::uint64_t max_layer_bytes(const BlockLayout& layout) const noexcept override {
    return layout.layer_bytes();
  }
  Result<std::size_t> encode(const LayerContext& /*context*/, Bytes plain,
                             MutableBytes out) const noexcept override {
    std::memcpy(out.data(), plain.data(), plain.size());
    return plain.size();
  }
  Code decode(const LayerContext& /*context*/, Bytes encoded,
              MutableBytes plain) const noexcept override {
    if (encoded.size() != plain.size()) return Code::corrupted;
    std::memcpy(plain.data(), encoded.data(), plain.size());
    return Code::ok;
  }
};

}  // namespace

const Codec& raw_codec() noexcept {
  static const Raw codec;
  return codec;
}

}  // namespace speckv

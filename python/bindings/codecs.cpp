// Codecs: one layer of a block in, encoded bytes out, and back.
#include <algorithm>
#include <string>

#include <pybind11/stl.h>

#include "cxlspeckv/codec.hpp"
#include "cxlspeckv/kvq4_planes.hpp"
#include "cxlspeckv/profile.hpp"

#include "bindings.hpp"

namespace speckv::python {
namespace {

const Codec& codec_named(const std::string& name) {
  const Codec* codec = find_codec(name);
  if (codec == nullptr) raise(Code::not_found, "no codec \"" + name + "\"");
  return *codec;
}

LayerContext context_of(const BlockLayout& layout, std::uint32_t layer,
                        const py::object& first_position, const py::bytes& profile) {
  if (layer >= layout.layers)
    raise(Code::invalid_argument, "the layout has fewer layers");
  const Bytes file = bytes_in(profile);
  if (!file.empty()) check(check_profile(file, {&layout, 1}));
  return {.layout = layout,
          .layer = layer,
          .first_position = first_position.is_none()
                                ? kNoPosition
                                : first_position.cast<std::uint32_t>(),
          .profile = file};
}

Bytes bytes_of_buffer(const py::buffer_info& info) {
  if (PyBuffer_IsContiguous(info.view(), 'C') == 0)
    raise(Code::invalid_argument, "the array is not contiguous");
  return {static_cast<const std::byte*>(info.ptr),
          static_cast<std::size_t>(info.size * info.itemsize)};
}

py::bytes encode(const std::string& name, const BlockLayout& layout,
                 const py::buffer& plain, std::uint32_t layer,
                 const py::object& first_position, const py::bytes& profile) {
  const Codec& codec = codec_named(name);
  if (!codec.supports(layout))
    raise(Code::unsupported, "codec \"" + name + "\" cannot take this layout");
  const LayerContext context = context_of(layout, layer, first_position, profile);
  check(check_profile_for(codec, context.profile, {&layout, 1}));
  const py::buffer_info info = plain.request();
  const Bytes in = bytes_of_buffer(info);
  if (in.size() != layout.layer_bytes())
    raise(Code::invalid_argument, "a layer has " + std::to_string(layout.layer_bytes()) +
                                      " bytes, not " + std::to_string(in.size()));
  std::vector<std::byte> out(codec.max_layer_bytes(layout));
  const std::size_t used =
      value_of(unlocked([&] { return codec.encode(context, in, out); }));
  return {reinterpret_cast<const char*>(out.data()), used};
}

py::array decode(const std::string& name, const BlockLayout& layout,
                 const py::buffer& encoded, std::uint32_t layer,
                 const py::object& first_position, const py::bytes& profile) {
  const Codec& codec = codec_named(name);
  if (!codec.supports(layout))
    raise(Code::unsupported, "codec \"" + name + "\" cannot take this layout");
  const LayerContext context = context_of(layout, layer, first_position, profile);
  const py::buffer_info info = encoded.request();
  const Bytes in = bytes_of_buffer(info);
  py::array plain = array_of(layout, layer_shape(layout), nullptr, {});
  const MutableBytes out(static_cast<std::byte*>(plain.mutable_data()),
                         layout.layer_bytes());
  const Code code = unlocked([&] { return codec.decode(context, in, out); });
  if (code != Code::ok)
    raise(code, "codec \"" + name + "\": " + std::string(to_string(code)));
  return plain;
}

void check_planes(const BlockLayout& layout, Code code) {
  if (code == Code::unsupported) raise(code, "codec \"kvq4\" cannot take this layout");
  if (code == Code::invalid_argument)
    raise(code, "a layer has " + std::to_string(layout.layer_bytes()) + " bytes");
  if (code != Code::ok) raise(code, "planes: " + std::string(to_string(code)));
}

py::bytes encode_second(const BlockLayout& layout, const py::buffer& plain,
                        const py::buffer& first) {
  const py::buffer_info from = plain.request(), kvq4 = first.request();
  const Bytes in = bytes_of_buffer(from), plane = bytes_of_buffer(kvq4);
  std::vector<std::byte> out(second_plane_bytes(layout));
  check_planes(layout,
               unlocked([&] { return encode_second_plane(layout, in, plane, out); }));
  return {reinterpret_cast<const char*>(out.data()), out.size()};
}

py::array decode_both(const BlockLayout& layout, const py::buffer& first,
                      const py::buffer& second) {
  const py::buffer_info one = first.request(), two = second.request();
  const Bytes coarse = bytes_of_buffer(one), rest = bytes_of_buffer(two);
  py::array plain = array_of(layout, layer_shape(layout), nullptr, {});
  const MutableBytes out(static_cast<std::byte*>(plain.mutable_data()),
                         layout.layer_bytes());
  check_planes(layout,
               unlocked([&] { return decode_planes(layout, coarse, rest, out); }));
  return plain;
}

constexpr std::size_t kWithoutLosses = 7;  // parts

py::bytes write(std::uint32_t layers, std::uint32_t kv_heads, std::uint32_t head_dim,
                std::uint32_t rope_base, const std::string& model,
                const py::bytes& tokenizer, const std::vector<py::bytes>& parts) {
  if (parts.size() != kProfileParts && parts.size() != kWithoutLosses)
    raise(Code::invalid_argument, "a profile has seven parts, or nine with losses");
  std::array<Bytes, kProfileParts> views;
  for (std::size_t i = 0; i < parts.size(); ++i)
    views[i] = bytes_in(parts[i]);
  const ProfileShape shape{.layers = layers,
                           .kv_heads = kv_heads,
                           .head_dim = head_dim,
                           .pairs = static_cast<std::uint32_t>(views[0].size() / 4),
                           .targets = static_cast<std::uint32_t>(views[1].size() / 2),
                           .rope_base = rope_base,
                           .sizes = static_cast<std::uint32_t>(views[7].size() / 2),
                           .model = profile_model(model, bytes_in(tokenizer))};
  const auto file = value_of(write_profile(shape, views));
  return {reinterpret_cast<const char*>(file.data()), file.size()};
}

py::dict read_shape(const py::bytes& file) {
  const ProfileShape shape = value_of(profile_shape(bytes_in(file)));
  py::dict found;
  found["layers"] = shape.layers;
  found["kv_heads"] = shape.kv_heads;
  found["head_dim"] = shape.head_dim;
  found["pairs"] = shape.pairs;
  found["targets"] = shape.targets;
  found["rope_base"] = shape.rope_base;
  found["sizes"] = shape.sizes;
  found["model"] = bytes_of_keys({&shape.model, 1});
  return found;
}

py::list read_parts(const py::bytes& file) {
  py::list parts;
  for (const Bytes part : value_of(profile_parts(bytes_in(file))))
    parts.append(py::bytes(reinterpret_cast<const char*>(part.data()), part.size()));
  return parts;
}

py::tuple plan(const py::bytes& file, const std::string& codec) {
  const Bytes bytes = bytes_in(file);
  const SlotPlan found = value_of(unlocked([&] { return profile_plan(bytes, codec); }));
  const ProfileShape shape = value_of(profile_shape(bytes));
  py::array_t<std::uint16_t> slots(
      {py::ssize_t{shape.layers}, py::ssize_t{2}, py::ssize_t{shape.kv_heads}});
  std::copy(found.slots.begin(), found.slots.end(), slots.mutable_data());
  return py::make_tuple(slots, found.bytes_per_token, found.loss);
}

}  // namespace

std::vector<py::ssize_t> layer_shape(const BlockLayout& l) {
  const auto heads = static_cast<py::ssize_t>(l.kv_heads);
  const auto tokens = static_cast<py::ssize_t>(l.tokens);
  const auto channels = static_cast<py::ssize_t>(l.head_dim);
  switch (l.kind) {
    case BlockLayout::Kind::kv:
      return {2, heads, tokens, channels};
    case BlockLayout::Kind::latent:
      return {heads, tokens, channels};
    case BlockLayout::Kind::interleaved:
      return {heads, tokens, 2, channels};
    case BlockLayout::Kind::transposed:
    case BlockLayout::Kind::tiled:
      return {heads, 2, tokens * channels};
  }
  return {};
}

py::array array_of(const BlockLayout& layout, std::vector<py::ssize_t> shape,
                   const std::byte* memory, const py::handle& owner) {
  static constexpr const char* kTypes[] = {"<f2", "<u2", "<f4", "u1"};  // by DType
  const py::dtype dtype(kTypes[static_cast<std::size_t>(layout.dtype)]);
  py::array array(dtype, std::move(shape), memory, owner);
  if (owner) array.attr("setflags")(false);
  return array;
}

void bind_codecs(py::module_& module) {
  module.def("codecs", [] {
    py::list names;
    for (const Codec* codec : builtin_codecs())
      names.append(codec->name());
    return py::tuple(names);
  });
  module.def("supports", [](const std::string& codec, const BlockLayout& layout) {
    return codec_named(codec).supports(layout);
  });
  module.def("max_layer_bytes", [](const std::string& codec, const BlockLayout& layout) {
    return codec_named(codec).max_layer_bytes(layout);
  });
  module.def("layer_shape", [](const BlockLayout& layout) {
    return py::tuple(py::cast(layer_shape(layout)));
  });
  module.def("write_profile", &write);
  module.def("profile_shape", &read_shape);
  module.def("profile_parts", &read_parts);
  module.def("profile_plan", &plan);
  module.def("profile_model", [](const std::string& name, const py::bytes& tokenizer) {
    const BlockKey key = profile_model(name, bytes_in(tokenizer));
    return bytes_of_keys({&key, 1});
  });
  module.def("encode", &encode);
  module.def("decode", &decode);
  module.def("encode_second_plane", &encode_second);
  module.def("decode_planes", &decode_both);
}

}  // namespace speckv::python

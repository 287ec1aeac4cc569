// BlockLayout, KeyChain and keys.
#include <array>
#include <string>
#include <tuple>

#include "bindings.hpp"

namespace speckv::python {
namespace {

constexpr std::array<std::string_view, 4> kDTypes = {"f16", "bf16", "f32", "f8e4m3"};
constexpr std::array<std::string_view, 5> kKinds = {"kv", "latent", "interleaved",
                                                    "transposed", "tiled"};
static_assert(static_cast<std::size_t>(DType::f8e4m3) + 1 == kDTypes.size());
static_assert(static_cast<std::size_t>(BlockLayout::Kind::tiled) + 1 == kKinds.size());

template <class Enum, std::size_t N>
Enum named(const std::array<std::string_view, N>& names, const std::string& name,
           const char* what) {
  std::string known;
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
    known += (i == 0 ? "" : ", ") + std::string(names[i]);
  }
  raise(Code::invalid_argument,
        std::string(what) + " \"" + name + "\" is none of " + known);
}

std::string_view dtype_of(const BlockLayout& layout) {
  return kDTypes[static_cast<std::size_t>(layout.dtype)];
}
std::string_view kind_of(const BlockLayout& layout) {
  return kKinds[static_cast<std::size_t>(layout.kind)];
}

BlockLayout make_layout(std::uint32_t layers, std::uint32_t kv_heads,
                        std::uint32_t head_dim, std::uint32_t tokens,
                        const std::string& dtype, const std::string& kind) {
  const BlockLayout layout{.layers = layers,
                           .kv_heads = kv_heads,
                           .head_dim = head_dim,
                           .tokens = tokens,
                           .dtype = named<DType>(kDTypes, dtype, "dtype"),
                           .kind = named<BlockLayout::Kind>(kKinds, kind, "kind")};
  check(layout.validate());
  return layout;
}

py::tuple fields(const BlockLayout& l) {
  return py::make_tuple(l.layers, l.kv_heads, l.head_dim, l.tokens, dtype_of(l),
                        kind_of(l));
}

std::string describe(const BlockLayout& l) {
  return "BlockLayout(layers=" + std::to_string(l.layers) +
         ", kv_heads=" + std::to_string(l.kv_heads) +
         ", head_dim=" + std::to_string(l.head_dim) +
         ", tokens=" + std::to_string(l.tokens) + ", dtype='" + std::string(dtype_of(l)) +
         "', kind='" + std::string(kind_of(l)) + "')";
}

// A chain, and how many tokens a block of its layout has.
struct Chain {
  KeyChain chain;
  std::uint32_t tokens;
};

py::bytes append_blocks(Chain& self, const py::object& given) {
  const std::vector<std::uint32_t> tokens = tokens_in(given);
  std::vector<BlockKey> keys;
  keys.reserve(tokens.size() / self.tokens);
  for (std::size_t at = 0; at + self.tokens <= tokens.size(); at += self.tokens)
    keys.push_back(self.chain.append(std::span(tokens).subspan(at, self.tokens)));
  return bytes_of_keys(keys);
}

py::bytes hash_keys(const py::sequence& engine_keys, const py::bytes& salt) {
  std::vector<BlockKey> keys;
  keys.reserve(engine_keys.size());
  for (const py::handle key : engine_keys)
    keys.push_back(key_from(bytes_in(py::cast<py::bytes>(key)), std::string_view(salt)));
  return bytes_of_keys(keys);
}

}  // namespace

void bind_blocks(py::module_& module) {
  py::class_<BlockLayout>(module, "BlockLayout")
      .def(py::init(&make_layout), py::kw_only(), py::arg("layers"), py::arg("kv_heads"),
           py::arg("head_dim"), py::arg("tokens") = 64, py::arg("dtype") = "bf16",
           py::arg("kind") = "kv")
      .def_readonly("layers", &BlockLayout::layers)
      .def_readonly("kv_heads", &BlockLayout::kv_heads)
      .def_readonly("head_dim", &BlockLayout::head_dim)
      .def_readonly("tokens", &BlockLayout::tokens)
      .def_property_readonly("dtype", &dtype_of)
      .def_property_readonly("kind", &kind_of)
      .def_property_readonly("layer_bytes", &BlockLayout::layer_bytes)
      .def_property_readonly("bytes", &BlockLayout::bytes)
      .def("__eq__",
           [](const BlockLayout& self, const py::object& other) {
             return py::isinstance<BlockLayout>(other) &&
                    self == other.cast<const BlockLayout&>();
           })
      .def("__hash__", [](const BlockLayout& self) { return py::hash(fields(self)); })
      .def("__repr__", &describe)
      .def(py::pickle(&fields, [](const py::tuple& t) {
        return std::apply(make_layout,
                          t.cast<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t,
                                            std::uint32_t, std::string, std::string>>());
      }));

  py::class_<Chain>(module, "KeyChain")
      .def(py::init([](const std::string& model, const BlockLayout& layout,
                       const py::bytes& salt) {
             return Chain{KeyChain(model, layout, std::string_view(salt)), layout.tokens};
           }),
           py::arg("model"), py::arg("layout"), py::arg("salt") = py::bytes())
      .def(
          "append",
          [](Chain& self, const py::object& tokens) {
            const BlockKey key = self.chain.append(tokens_in(tokens));
            return bytes_of_keys({&key, 1});
          },
          py::arg("tokens"))
      .def("append_blocks", &append_blocks, py::arg("tokens"))
      .def_property_readonly("last",
                             [](const Chain& self) {
                               const BlockKey key = self.chain.last();
                               return bytes_of_keys({&key, 1});
                             })
      .def(
          "rewind",
          [](Chain& self, const py::object& key) { self.chain.rewind(key_in(key)); },
          py::arg("key"))
      .def("copy", [](const Chain& self) { return self; });

  module.def(
      "hash_key",
      [](const py::bytes& engine_key, const py::bytes& salt) {
        const BlockKey key = key_from(bytes_in(engine_key), std::string_view(salt));
        return bytes_of_keys({&key, 1});
      },
      py::arg("engine_key"), py::arg("salt") = py::bytes());
  module.def("hash_keys", &hash_keys, py::arg("engine_keys"),
             py::arg("salt") = py::bytes());
}

}  // namespace speckv::python

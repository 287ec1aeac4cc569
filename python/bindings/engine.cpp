// Engines: what a card knows about blocks.
#include "cxlspeckv/engine.hpp"

#include <memory>

#include "bindings.hpp"

namespace speckv::python {
namespace {

TokenRange range_of(std::uint32_t request, std::uint16_t layer, std::uint8_t head,
                    std::uint32_t position, std::uint32_t tokens) {
  return {{request, layer, head, position, KvKind::key}, tokens};
}

py::list list_of(const std::vector<EngineCandidate>& candidates) {
  py::list rows;
  for (const EngineCandidate& c : candidates) {
    rows.append(py::make_tuple(c.block.request, c.block.layer, c.block.head,
                               c.block.position, c.score));
  }
  return rows;
}

py::tuple tuple_of(const ScoreWeights& w) {
  return py::make_tuple(w.recency, w.frequency, w.step, w.durability, w.evict, w.prefetch,
                        w.hysteresis);
}

py::dict dict_of(const EngineTelemetry& t) {
  py::dict told;
  told["step"] = t.step;
  told["blocks"] = t.blocks;
  told["shared"] = t.shared;
  told["weights"] = tuple_of(t.weights);
  told["waiting_victims"] = t.waiting_victims;
  told["waiting_prefetches"] = t.waiting_prefetches;
  told["hits"] = t.hits;
  told["misses"] = t.misses;
  told["inserted"] = t.inserted;
  told["replaced"] = t.replaced;
  told["refused"] = t.refused;
  told["removed"] = t.removed;
  told["scans"] = t.scans;
  told["victims"] = t.victims;
  told["prefetches"] = t.prefetches;
  told["bytes_read"] = t.bytes_read;
  told["bytes_written"] = t.bytes_written;
  told["failures"] = t.failures;
  return told;
}

}  // namespace

void bind_engine(py::module_& module) {
  py::class_<Engine>(module, "Engine")
      .def(py::init([](const std::string& name) {
        return value_of(unlocked([&] { return Engine::open(name); }));
      }))
      .def_property_readonly("name", [](const Engine& self) { return self.info().name; })
      .def_property_readonly("block_tokens",
                             [](const Engine& self) { return self.info().block_tokens; })
      .def_property_readonly("simulated",
                             [](const Engine& self) { return self.info().simulated; })
      .def("step",
           [](Engine& self, std::uint32_t step) {
             return value_of(unlocked([&] { return self.step(step); }));
           })
      .def("hint",
           [](Engine& self, std::uint8_t hint, std::uint32_t request, std::uint16_t layer,
              std::uint8_t head, std::uint32_t position, std::uint32_t tokens,
              std::uint32_t due) {
             const TokenRange range = range_of(request, layer, head, position, tokens);
             return value_of(unlocked(
                 [&] { return self.hint(static_cast<BlockHint>(hint), range, due); }));
           })
      .def("hold",
           [](Engine& self, std::uint32_t request, std::uint16_t layer, std::uint8_t head,
              std::uint32_t position, std::uint32_t tokens) {
             const TokenRange range = range_of(request, layer, head, position, tokens);
             check(unlocked([&] { return self.hold(range); }));
           })
      .def("use",
           [](Engine& self, std::uint32_t request, std::uint16_t layer, std::uint8_t head,
              std::uint32_t position, std::uint32_t tokens) {
             const TokenRange range = range_of(request, layer, head, position, tokens);
             check(unlocked([&] { return self.use(range); }));
           })
      .def("set_weights",
           [](Engine& self, std::uint8_t recency, std::uint8_t frequency,
              std::uint8_t proximity, std::uint8_t durability, std::uint8_t evict,
              std::uint8_t prefetch, std::uint8_t hysteresis) {
             const ScoreWeights weights{recency, frequency, proximity, durability,
                                        evict,   prefetch,  hysteresis};
             check(unlocked([&] { return self.set_weights(weights); }));
           })
      .def("telemetry",
           [](Engine& self) {
             return dict_of(value_of(unlocked([&] { return self.telemetry(); })));
           })
      .def("victims",
           [](Engine& self) {
             return list_of(value_of(unlocked([&] { return self.victims(); })));
           })
      .def("prefetches", [](Engine& self) {
        return list_of(value_of(unlocked([&] { return self.prefetches(); })));
      });
}

}  // namespace speckv::python

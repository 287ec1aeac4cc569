// cxlspeckv._core. The public names are in cxlspeckv/__init__.py.
#include "bindings.hpp"

PYBIND11_MODULE(_core, module) {
  using namespace speckv::python;
  module.doc() = "The C++ API, as cxlspeckv uses it. Not public.";
  bind_blocks(module);
  bind_operation(module);
  bind_store(module);
  bind_sequence(module);
  bind_prefetcher(module);
  bind_stream_prefetcher(module);
  bind_codecs(module);
  bind_machine(module);
  bind_engine(module);
}

// Prefetchers of sessions.
#include "cxlspeckv/prefetcher.hpp"

#include <limits>

#include <pybind11/stl.h>

#include "cxlspeckv/trace_recorder.hpp"

#include "store.hpp"

namespace speckv::python {
namespace {

class Stager final : public WorkerOf<Prefetcher> {
 public:
  Stager(std::shared_ptr<Store> store, PrefetchOptions options)
      : WorkerOf(std::move(store)) {
    options.requests = &recorder_;
    worker_ =
        value_of(unlocked([&] { return Prefetcher::create(*open_->store, options); }));
    const auto layout = static_cast<std::size_t>(options.layout);
    recorder_.start(open_->store->layouts()[layout].tokens, {&Callback::log, &warn_});
  }
  ~Stager() override { end(); }

  void end() noexcept override {
    WorkerOf::end();
    unlocked([this] { recorder_.end(); });
  }

 private:
  Callback warn_{py::cpp_function([](int, const std::string& text) {
    py::module_::import("warnings").attr("warn")(text);
  })};
  EnvironmentRecorder recorder_{};
};

// A time from 0 s on; there is no "for ever" here.
std::chrono::nanoseconds life(double seconds) {
  return duration(py::float_(seconds));
}

std::shared_ptr<Stager> create(std::shared_ptr<Store> store, bool learned, bool hinted,
                               std::uint16_t layout, std::uint64_t chunk_bytes,
                               std::uint64_t most_in_flight, std::uint64_t learning_bytes,
                               double hint_life, double unread_life,
                               std::uint32_t sessions, std::uint32_t blocks,
                               std::vector<double> bytes_per_second, bool stage,
                               bool retain) {
  PrefetchOptions options;
  options.stage = stage;
  options.retain = retain;
  options.learned = learned;
  options.hinted = hinted;
  options.layout = LayoutId{layout};
  options.chunk_bytes = chunk_bytes;
  options.most_in_flight = most_in_flight;
  options.learning_bytes = learning_bytes;
  options.hint_life = life(hint_life);
  options.unread_life = life(unread_life);
  options.sessions = sessions;
  options.blocks = blocks;
  options.bytes_per_second = std::move(bytes_per_second);
  return std::make_shared<Stager>(std::move(store), std::move(options));
}

py::dict source_of(const PrefetchStats::Source& s) {
  py::dict out;
  out["chunks"] = s.chunks;
  out["displaced"] = s.displaced;
  out["staged"] = s.staged;
  out["useful"] = s.useful;
  out["late"] = s.late;
  out["wasted"] = s.wasted;
  out["unread"] = s.unread;
  out["pauses"] = s.pauses;
  out["retained"] = s.retained;
  return out;
}

py::dict stats_of(Stager& self) {
  const PrefetchStats s = self.run([](Prefetcher& it) { return it.stats(); });
  py::dict out;
  out["learned"] = source_of(s.learned);
  out["hinted"] = source_of(s.hinted);
  out["in_flight"] = s.in_flight;
  out["peak_in_flight"] = s.peak_in_flight;
  out["sessions"] = s.sessions;
  out["blocks"] = s.blocks;
  out["failed"] = s.failed;
  return out;
}

void finished(Stager& self, std::uint64_t session, const py::object& from,
              std::uint32_t input_tokens, std::uint32_t output_tokens,
              bool brings_tool_result, bool stops_for_tool, bool calls_tool,
              bool sub_agent) {
  const Keys keys(from);
  const RequestFacts facts{.input_tokens = input_tokens,
                           .output_tokens = output_tokens,
                           .brings_tool_result = brings_tool_result,
                           .stops_for_tool = stops_for_tool,
                           .calls_tool = calls_tool,
                           .sub_agent = sub_agent};
  check(
      self.run([&](Prefetcher& it) { return it.finished(session, keys.get(), facts); }));
}

double advance(Stager& self) {
  const auto again = self.run([](Prefetcher& it) { return it.advance(); });
  if (again == std::chrono::nanoseconds::max())
    return std::numeric_limits<double>::infinity();
  return std::chrono::duration<double>(again).count();
}

}  // namespace

void bind_prefetcher(py::module_& module) {
  py::class_<Stager, std::shared_ptr<Stager>>(module, "Prefetcher")
      .def(py::init(&create))
      .def("close", &Stager::end)
      .def("finished", &finished)
      .def("arrived",
           [](Stager& self, std::uint64_t session) {
             check(self.run([&](Prefetcher& it) { return it.arrived(session); }));
           })
      .def("hint",
           [](Stager& self, std::uint64_t session, double eta, double confidence) {
             check(self.run(
                 [&](Prefetcher& it) { return it.hint(session, eta, confidence); }));
           })
      .def("ended",
           [](Stager& self, std::uint64_t session) {
             check(self.run([&](Prefetcher& it) { return it.ended(session); }));
           })
      .def("advance", &advance)
      .def("stats", &stats_of);
}

}  // namespace speckv::python

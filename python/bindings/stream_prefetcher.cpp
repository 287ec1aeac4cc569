// Prefetchers of streams.
#include "cxlspeckv/stream_prefetcher.hpp"

#include "store.hpp"

namespace speckv::python {
namespace {

class Guesser final : public WorkerOf<StreamPrefetcher> {
 public:
  Guesser(std::shared_ptr<Store> store, const StreamPrefetchOptions& options)
      : WorkerOf(std::move(store)) {
    worker_ = value_of(
        unlocked([&] { return StreamPrefetcher::create(*open_->store, options); }));
  }
  ~Guesser() override { end(); }
};

StreamPrefetchOptions::Rule rule_of(const std::string& name) {
  using Rule = StreamPrefetchOptions::Rule;
  if (name == "adaptive") return Rule::adaptive;
  if (name == "fixed") return Rule::fixed;
  if (name == "bandit") return Rule::bandit;
  raise(Code::invalid_argument, "rule is adaptive, fixed or bandit, not " + name);
}

std::shared_ptr<Guesser> create(std::shared_ptr<Store> store, const std::string& rule,
                                std::uint32_t depth, float confidence,
                                std::uint32_t patience, std::uint32_t streams,
                                std::uint32_t symbols, std::uint16_t layout,
                                std::uint64_t most_in_flight,
                                std::uint64_t learning_bytes, double bytes_per_second,
                                const py::bytes& lstm) {
  StreamPrefetchOptions options;
  options.rule = rule_of(rule);
  options.depth = depth;
  options.confidence = confidence;
  options.patience = patience;
  options.streams = streams;
  options.symbols = symbols;
  options.layout = LayoutId{layout};
  options.most_in_flight = most_in_flight;
  options.learning_bytes = learning_bytes;
  options.bytes_per_second = bytes_per_second;
  options.lstm = bytes_in(lstm);
  return std::make_shared<Guesser>(std::move(store), options);
}

py::dict stats_of(Guesser& self) {
  const StreamPrefetchStats s = self.run([](StreamPrefetcher& it) { return it.stats(); });
  py::dict out;
  out["touched"] = s.touched;
  out["missed"] = s.missed;
  out["asked"] = s.asked;
  out["useful"] = s.useful;
  out["late"] = s.late;
  out["wasted"] = s.wasted;
  out["failed"] = s.failed;
  out["outstanding"] = s.outstanding;
  out["resident"] = s.resident;
  out["repeated"] = s.repeated;
  out["unlikely"] = s.unlikely;
  out["full"] = s.full;
  out["displaced"] = s.displaced;
  out["delayed"] = s.delayed;
  out["unheard"] = s.unheard;
  out["pauses"] = s.pauses;
  out["depth"] = s.depth;
  out["in_flight"] = s.in_flight;
  out["peak_in_flight"] = s.peak_in_flight;
  return out;
}

void touched(Guesser& self, std::uint64_t stream, std::uint32_t symbol,
             const py::object& block) {
  const BlockKey key = key_in(block);
  check(self.run([&](StreamPrefetcher& it) { return it.touched(stream, symbol, key); }));
}

}  // namespace

void bind_stream_prefetcher(py::module_& module) {
  py::class_<Guesser, std::shared_ptr<Guesser>>(module, "StreamPrefetcher")
      .def(py::init(&create))
      .def("close", &Guesser::end)
      .def("touched", &touched)
      .def("ended",
           [](Guesser& self, std::uint64_t stream) {
             check(self.run([&](StreamPrefetcher& it) {
               it.ended(stream);
               return Status();
             }));
           })
      .def("advance",
           [](Guesser& self) {
             check(self.run([](StreamPrefetcher& it) {
               it.advance();
               return Status();
             }));
           })
      .def("stats", &stats_of);
}

}  // namespace speckv::python

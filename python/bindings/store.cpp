// BlockStore and pins.
#include "store.hpp"

#include <limits>
#include <optional>
#include <string>

#include <pybind11/stl.h>

#include "cxlspeckv/open_store.hpp"

namespace speckv::python {

// ---- callbacks

namespace {

// Once Python ends, a thread that asks for the GIL never returns.
bool python_runs() noexcept {
  return Py_IsInitialized() != 0 && _Py_IsFinalizing() == 0;
}

}  // namespace

void Callback::log(void* self, LogLevel level, std::string_view text) {
  if (!python_runs()) return;
  const py::gil_scoped_acquire acquire;
  try {
    static_cast<Callback*>(self)->callable_(static_cast<int>(level), text);
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("the log of a cxlspeckv store");
  }
}

bool Callback::ready(void* self) {
  if (!python_runs()) return false;
  const py::gil_scoped_acquire acquire;
  try {
    return static_cast<Callback*>(self)->callable_().cast<bool>();
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("the fence of a cxlspeckv operation");
  } catch (const py::cast_error&) {}
  return false;
}

// ---- Store

SharedStore Store::get() const {
  if (store_ == nullptr) raise(Code::invalid_argument, "the store is closed");
  return store_;
}

void Store::close() {
  for (Child* child : children_)
    child->may_end();
  // end() gives up the GIL, and children may come and go meanwhile. One that is going
  // holds on to the store by itself.
  const SharedStore last = std::exchange(store_, nullptr);
  while (!children_.empty()) {
    const std::shared_ptr<Child> child = (*children_.begin())->weak_from_this().lock();
    children_.erase(children_.begin());
    if (child != nullptr) child->end();
  }
}

std::uint32_t Store::attach(Lent lent) {
  const SharedStore open = get();
  const auto region =
      static_cast<std::uint32_t>(value_of(open->store->attach(lent.memory())));
  open->lent.emplace(region, std::move(lent));
  return region;
}

void Store::detach(std::uint32_t region) {
  const SharedStore open = get();
  check(open->store->detach(RegionId{region}));
  open->lent.erase(region);
}

namespace {

// ---- arguments

// Segments [n, segments, 3] of int64 (region, offset, length), or [n, 3] for one segment
// a block. A segment of length 0 is none: it fills up the rows of blocks that have fewer.
class Transfers {
 public:
  using Segments = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

  Transfers(const py::object& from, const py::array& given, std::uint16_t layout,
            const py::object& first_positions)
      : keys_(from) {
    const auto segments = Segments::ensure(given);
    const char kind = given.dtype().kind();
    const bool shaped = segments && (segments.ndim() == 2 || segments.ndim() == 3) &&
                        segments.shape(segments.ndim() - 1) == 3 &&
                        (kind == 'i' || kind == 'u');
    if (!shaped || static_cast<std::size_t>(segments.shape(0)) != keys_.size())
      raise(Code::invalid_argument,
            "segments are integers of shape [keys, segments, 3]: region, offset, length");
    fill(segments, LayoutId{layout});
    place(first_positions);
  }
  std::span<const BlockTransfer> get() const noexcept { return blocks_; }

 private:
  void fill(const Segments& given, LayoutId layout) {
    const std::size_t each =
        given.ndim() == 2 ? 1 : static_cast<std::size_t>(given.shape(1));
    const std::int64_t* row = given.data();
    segments_.reserve(keys_.size() * each);  // spans point into it
    for (const BlockKey& key : keys_.get()) {
      const std::size_t first = segments_.size();
      for (std::size_t s = 0; s < each; ++s, row += 3) {
        if (row[0] < 0 || row[0] > std::numeric_limits<std::uint32_t>::max() ||
            row[1] < 0 || row[2] < 0)
          raise(Code::invalid_argument,
                "a segment is (region, offset, length), none negative");
        if (row[2] == 0) continue;
        segments_.push_back({RegionId{static_cast<std::uint32_t>(row[0])},
                             static_cast<std::uint64_t>(row[1]),
                             static_cast<std::uint64_t>(row[2])});
      }
      blocks_.push_back(
          {.key = key, .memory = std::span(segments_).subspan(first), .layout = layout});
    }
  }

  void place(const py::object& given) {
    if (given.is_none()) return;
    const auto positions = Segments::ensure(given);
    if (!positions || positions.ndim() != 1 ||
        static_cast<std::size_t>(positions.size()) != keys_.size())
      raise(Code::invalid_argument, "first_positions has one integer a key");
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      const std::int64_t position = positions.data()[i];
      if (position < -1 || position >= std::int64_t{kNoPosition})
        raise(Code::invalid_argument, "a position is 0 to 2^32 - 2, or -1: not known");
      blocks_[i].first_position = static_cast<std::uint32_t>(position);
    }
  }

  Keys keys_;
  std::vector<Segment> segments_;
  std::vector<BlockTransfer> blocks_;
};

using LayerPair = std::pair<std::uint32_t, std::uint32_t>;  // first, count

TransferOptions transfer_options(const LayerPair& layers, const py::object& deadline,
                                 std::uint16_t tenant, bool durable, std::uint64_t tag) {
  TransferOptions options;
  options.layers = {layers.first, layers.second};
  if (!deadline.is_none())
    options.deadline = std::max(duration(deadline), std::chrono::nanoseconds(1));
  options.tenant = TenantId{tenant};
  options.durable = durable;
  options.tag = tag;
  return options;
}

std::shared_ptr<RunningOperation> transfer(
    const std::shared_ptr<Store>& self, bool saving, const Transfers& blocks,
    const TransferOptions& options, const py::object& fence,
    const std::shared_ptr<Completions>& completions) {
  auto operation = std::make_shared<RunningOperation>(
      self, fence.is_none() ? nullptr : std::make_unique<Callback>(fence), completions);
  operation->start(saving, blocks.get(), options);
  return operation;
}

std::shared_ptr<Store> open(std::vector<BlockLayout> layouts,
                            std::vector<TierConfig> tiers, std::string name,
                            const py::bytes& profile, std::uint64_t max_blocks,
                            const py::object& log) {
  auto store = std::make_shared<OpenStore>();
  store->log = std::make_unique<Callback>(log);
  StoreConfig config;
  config.layouts = std::move(layouts);
  config.tiers = std::move(tiers);
  config.name = std::move(name);
  const Bytes bytes = bytes_in(profile);
  config.profile.assign(bytes.begin(), bytes.end());
  config.max_blocks = max_blocks;
  if (!log.is_none()) config.log = {&Callback::log, store->log.get()};
  store->store = value_of(unlocked([&] { return open_store(config); }));
  return std::make_shared<Store>(std::move(store));
}

// ---- pins

class HeldBlocks final : public ChildOf {
 public:
  HeldBlocks(const std::shared_ptr<Store>& store, BlockKey key, bool in_place)
      : ChildOf(store) {
    pins_.push_back(value_of(unlocked(
        [&] { return in_place ? open_->store->pin(key) : open_->store->retain(key); })));
  }
  // Of these, what is there.
  HeldBlocks(const std::shared_ptr<Store>& store, std::span<const BlockKey> keys)
      : ChildOf(store) {
    pins_.reserve(keys.size());
    unlocked([&] {
      for (const BlockKey& key : keys)
        if (Result<Pin> pin = open_->store->pin(key)) pins_.push_back(*std::move(pin));
    });
  }
  ~HeldBlocks() override { end(); }
  std::size_t size() const noexcept { return pins_.size(); }
  void end() noexcept override {
    const SharedStore open = std::move(open_);
    unlocked([pins = std::exchange(pins_, {})]() mutable { pins.clear(); });
  }

 private:
  std::vector<Pin> pins_;
};

// ---- numbers

struct Number {
  bool counts;
  std::string name, label, label_value;
  double value;
};

struct Numbers final : MetricSink {
  void counter(std::string_view name, Label label, std::uint64_t value) override {
    add(true, name, label, static_cast<double>(value));
  }
  void gauge(std::string_view name, Label label, double value) override {
    add(false, name, label, value);
  }
  void add(bool counts, std::string_view name, Label label, double value) {
    list.push_back({counts, std::string(name), std::string(label.name),
                    std::string(label.value), value});
  }
  std::vector<Number> list;
};

py::list report(const Store& self) {
  Numbers numbers;
  unlocked([&, store = self.get()] { store->store->report(numbers); });
  py::list list;
  for (const Number& n : numbers.list)
    list.append(py::make_tuple(n.counts, n.name, n.label, n.label_value, n.value));
  return list;
}

TierStats stats(const Store& self, std::size_t tier) {
  const SharedStore open = self.get();
  if (tier >= open->store->tier_count()) raise(Code::not_found, "no such tier");
  return unlocked([&] { return open->store->stats(tier); });
}

py::array_t<std::int8_t> lookup(const Store& self, const py::object& from) {
  const Keys keys(from);
  py::array_t<std::int8_t> tiers(static_cast<py::ssize_t>(keys.size()));
  const std::span<std::int8_t> out(tiers.mutable_data(), keys.size());
  unlocked([&, store = self.get()] { store->store->lookup(keys.get(), out); });
  return tiers;
}

void set_codec(const Store& self, std::size_t tier, const std::string& name,
               const LayerPair& layers) {
  const Codec* codec = find_codec(name);
  if (codec == nullptr) raise(Code::not_found, "no codec \"" + name + "\"");
  check(unlocked([&, store = self.get()] {
    return store->store->set_codec(tier, *codec, {layers.first, layers.second});
  }));
}

void bind_config(py::module_& module) {
  py::class_<TierConfig>(module, "TierConfig")
      .def(py::init<>())
      .def_readwrite("device", &TierConfig::device)
      .def_readwrite("codec", &TierConfig::codec)
      .def_readwrite("policy", &TierConfig::policy)
      .def_readwrite("name", &TierConfig::name)
      .def_readwrite("capacity", &TierConfig::capacity)
      .def_property(
          "second_touch",
          [](const TierConfig& t) { return t.admission == Admission::second_touch; },
          [](TierConfig& t, bool second) {
            t.admission = second ? Admission::second_touch : Admission::always;
          })
      .def("add_layers", [](TierConfig& tier, std::uint32_t first, std::uint32_t count,
                            const std::string& codec) {
        tier.layers.push_back({{first, count}, codec});
      });

  py::class_<TierStats>(module, "TierStats")
      .def_readonly("capacity", &TierStats::capacity)
      .def_readonly("used", &TierStats::used)
      .def_readonly("pinned", &TierStats::pinned)
      .def_readonly("blocks", &TierStats::blocks)
      .def_readonly("plain_bytes", &TierStats::plain_bytes)
      .def_readonly("bytes_written", &TierStats::bytes_written)
      .def_readonly("bytes_read", &TierStats::bytes_read)
      .def_readonly("hits", &TierStats::hits)
      .def_readonly("evictions", &TierStats::evictions)
      .def_readonly("demotions_in", &TierStats::demotions_in)
      .def_readonly("promotions_in", &TierStats::promotions_in)
      .def_readonly("saves_dropped", &TierStats::saves_dropped)
      .def_readonly("corrupted", &TierStats::corrupted)
      .def_readonly("io_errors", &TierStats::io_errors)
      .def_readonly("fenced", &TierStats::fenced);

  py::class_<HeldBlocks, std::shared_ptr<HeldBlocks>>(module, "Pin")
      .def("__len__", &HeldBlocks::size)
      .def("release", &HeldBlocks::end);

  module.def("parse_size",
             [](const std::string& text) { return value_of(parse_size(text)); });
  module.def("remove_store", [](const std::string& name) {
    check(unlocked([&] { return remove_store(name); }));
  });
}

}  // namespace

void bind_store(py::module_& module) {
  bind_config(module);
  py::class_<Store, std::shared_ptr<Store>>(module, "Store")
      .def(py::init(&open))
      .def("close", &Store::close)
      .def_property_readonly("is_closed", &Store::is_closed)
      .def("attach",
           [](Store& self, const py::object& from) { return self.attach(Lent(from)); })
      .def("attach_address",
           [](Store& self, std::uintptr_t address, std::size_t length, py::object owner) {
             if (address == 0) raise(Code::invalid_argument, "address 0");
             auto* const first = reinterpret_cast<std::byte*>(address);
             return self.attach(Lent({first, length}, std::move(owner)));
           })
      .def("detach", &Store::detach)
      .def("match",
           [](const Store& self, const py::object& from) {
             const Keys keys(from);
             return unlocked(
                 [&, store = self.get()] { return store->store->match(keys.get()); });
           })
      .def("lookup", &lookup)
      .def("save",
           [](const std::shared_ptr<Store>& self, const py::object& keys,
              const py::array& segments, std::uint16_t layout,
              const py::object& first_positions, const py::object& deadline,
              std::uint16_t tenant, bool durable, const py::object& fence,
              const std::shared_ptr<Completions>& completions, std::uint64_t tag) {
             return transfer(self, true,
                             Transfers(keys, segments, layout, first_positions),
                             transfer_options({}, deadline, tenant, durable, tag), fence,
                             completions);
           })
      .def("load",
           [](const std::shared_ptr<Store>& self, const py::object& keys,
              const py::array& segments, std::uint16_t layout, const LayerPair& layers,
              const py::object& deadline, const py::object& fence,
              const std::shared_ptr<Completions>& completions, std::uint64_t tag) {
             return transfer(self, false, Transfers(keys, segments, layout, py::none()),
                             transfer_options(layers, deadline, 0, false, tag), fence,
                             completions);
           })
      .def("promote",
           [](const Store& self, const py::object& from) {
             const Keys keys(from);
             check(unlocked(
                 [&, store = self.get()] { return store->store->promote(keys.get()); }));
           })
      .def("erase",
           [](const Store& self, const py::object& from) {
             const Keys keys(from);
             return unlocked(
                 [&, store = self.get()] { return store->store->erase(keys.get()); });
           })
      .def("pin",
           [](const std::shared_ptr<Store>& self, const py::object& key) {
             return std::make_shared<HeldBlocks>(self, key_in(key), true);
           })
      .def("pin_present",
           [](const std::shared_ptr<Store>& self, const py::object& keys) {
             return std::make_shared<HeldBlocks>(self, Keys(keys).get());
           })
      .def("retain",
           [](const std::shared_ptr<Store>& self, const py::object& key) {
             return std::make_shared<HeldBlocks>(self, key_in(key), false);
           })
      .def("flush",
           [](const Store& self) {
             check(unlocked([store = self.get()] { return store->store->flush(); }));
           })
      .def("set_quota",
           [](const Store& self, std::uint16_t tenant, std::uint64_t bytes) {
             check(unlocked([&, store = self.get()] {
               return store->store->set_quota(TenantId{tenant}, bytes);
             }));
           })
      .def("tenant_bytes",
           [](const Store& self, std::uint16_t tenant) {
             return self.get()->store->tenant_bytes(TenantId{tenant});
           })
      .def("purge",
           [](const Store& self, std::uint16_t tenant) {
             return unlocked([&, store = self.get()] {
               return store->store->purge(TenantId{tenant});
             });
           })
      .def("set_codec", &set_codec)
      .def_property_readonly(
          "layouts", [](const Store& self) { return self.get()->store->layouts(); })
      .def_property_readonly(
          "tier_count", [](const Store& self) { return self.get()->store->tier_count(); })
      .def("stats", &stats)
      .def("report", &report);
}

}  // namespace speckv::python

// Sequences and what attention reads of them.
#include "cxlspeckv/sequence.hpp"

#include <cstring>
#include <mutex>
#include <string>

#include "store.hpp"

namespace speckv::python {
namespace {

// One thread at a time: calls wait for each other, without the GIL.
class Request final : public ChildOf {
 public:
  Request(std::shared_ptr<Store> store, const Sequence::Options& options)
      : ChildOf(store),
        layout_(layout_of(options.layout)),
        sequence_(
            value_of(unlocked([&] { return Sequence::create(*open_->store, options); }))),
        store_(std::move(store)) {}
  Request(const Request& parent, std::unique_ptr<Sequence> fork)
      : ChildOf(parent.store_),
        layout_(parent.layout_),
        sequence_(std::move(fork)),
        store_(parent.store_) {}
  ~Request() override { end(); }

  void end() noexcept override {
    SharedStore open = std::move(open_);
    unlocked([this] {
      const std::lock_guard lock(mutex_);
      sequence_.reset();
    });
  }

  // Lets go of its blocks now. Raises while there are views.
  void release() {
    if (views_ != 0) raise(Code::busy, "views of the sequence are alive");
    end();
  }
  void lend() noexcept { ++views_; }
  void take_back(View& view) noexcept {
    --views_;
    unlocked([&] {
      const std::lock_guard lock(mutex_);
      view = View();
    });
  }

  const BlockLayout& layout() const noexcept { return layout_; }

  // Runs `body` on the sequence, alone and without the GIL. Raises once it has ended.
  template <class F>
  auto run(F&& body) {
    const SharedStore open = open_;
    if (open == nullptr)
      raise(Code::invalid_argument, "the sequence is released, or its store closed");
    return unlocked([&] {
      const std::lock_guard lock(mutex_);
      return body(*sequence_);
    });
  }

 private:
  const BlockLayout& layout_of(LayoutId id) const {
    const auto& layouts = open_->store->layouts();
    const auto index = static_cast<std::size_t>(id);
    if (index >= layouts.size()) raise(Code::invalid_argument, "no such layout");
    return layouts[index];
  }

  const BlockLayout layout_;
  std::mutex mutex_;
  std::unique_ptr<Sequence> sequence_;
  std::size_t views_ = 0;
  std::shared_ptr<Store> store_;
};

// Arrays over its bytes keep it, and it keeps its sequence and store open.
class Lens final : public ChildOf {
 public:
  Lens(std::shared_ptr<Store> store, std::shared_ptr<Request> of, View view)
      : ChildOf(std::move(store)), of_(std::move(of)), view_(std::move(view)) {
    of_->lend();
  }
  ~Lens() override { of_->take_back(view_); }
  void may_end() override {
    raise(Code::busy, "arrays or views over memory of the store are alive");
  }
  void end() noexcept override {}  // never reached: may_end() raises
  const View& view() const noexcept { return view_; }
  const BlockLayout& layout() const noexcept { return of_->layout(); }

 private:
  std::shared_ptr<Request> of_;
  View view_;
};

std::shared_ptr<Request> create(std::shared_ptr<Store> store, std::uint16_t layout,
                                const std::string& model, const py::bytes& salt,
                                std::uint16_t tenant) {
  return std::make_shared<Request>(std::move(store),
                                   Sequence::Options{.layout = LayoutId{layout},
                                                     .model = model,
                                                     .salt = std::string_view(salt),
                                                     .tenant = TenantId{tenant}});
}

// Copies rows [at, at + n) of one layer of the tail, in the order of `layer_shape` with n
// tokens instead of the block's.
void write(Request& self, std::uint32_t layer, std::uint32_t at, const py::buffer& from) {
  const BlockLayout& layout = self.layout();
  if (!has_rows(layout)) raise(Code::unsupported, "blocks of this kind have no rows");
  const py::buffer_info rows = from.request();
  const std::size_t planes = layout.kind == BlockLayout::Kind::kv ? 2 : 1;
  const std::size_t runs = planes * layout.kv_heads;  // each has its tokens in one piece
  const std::size_t row = layout.layer_bytes() / runs / layout.tokens;
  const auto given = static_cast<std::size_t>(rows.size * rows.itemsize);
  const std::size_t run = given / runs;
  if (PyBuffer_IsContiguous(rows.view(), 'C') == 0 || run * runs != given ||
      run % row != 0)
    raise(Code::invalid_argument, "rows are a contiguous array of whole rows");
  const auto* source = static_cast<const std::byte*>(rows.ptr);
  check(self.run([&](Sequence& sequence) -> Status {
    const MutableBytes tail = sequence.tail(layer);
    if (tail.empty()) return {Code::not_found, "no tail is open, or no such layer"};
    if (at > layout.tokens || run / row > layout.tokens - at)
      return {Code::invalid_argument, "rows beyond the end of the tail"};
    for (std::size_t r = 0; r < runs; ++r) {
      std::memcpy(tail.data() + (r * layout.tokens + at) * row, source + r * run, run);
    }
    return {};
  }));
}

py::object view(const std::shared_ptr<Store>& store, const std::shared_ptr<Request>& self,
                std::uint32_t first, std::uint32_t count) {
  auto view = self->run([&](Sequence& s) { return s.view(first, count); });
  return py::cast(std::make_shared<Lens>(store, self, value_of(std::move(view))));
}

py::array layer_of(const std::shared_ptr<Lens>& self, std::size_t block,
                   std::uint32_t layer) {
  if (block >= self->view().block_count() || layer >= self->layout().layers)
    raise(Code::invalid_argument, "no such block or layer");
  const Bytes bytes = self->view().layer(block, layer);
  return array_of(self->layout(), layer_shape(self->layout()), bytes.data(),
                  py::cast(self));
}

}  // namespace

void bind_sequence(py::module_& module) {
  py::class_<Lens, std::shared_ptr<Lens>>(module, "View")
      .def_property_readonly("first_token",
                             [](const Lens& self) { return self.view().first_token(); })
      .def_property_readonly("tokens",
                             [](const Lens& self) { return self.view().tokens(); })
      .def("__len__", [](const Lens& self) { return self.view().block_count(); })
      .def("layer", &layer_of, py::arg("block"), py::arg("layer"));

  py::class_<Request, std::shared_ptr<Request>>(module, "Sequence")
      .def(py::init(&create))
      .def("release", &Request::release)
      .def("adopt",
           [](Request& self, const py::object& from) {
             const auto tokens = tokens_in(from);
             return value_of(self.run([&](Sequence& s) { return s.adopt(tokens); }));
           })
      .def("append",
           [](Request& self, const py::object& from) {
             const auto tokens = tokens_in(from);
             return value_of(self.run([&](Sequence& s) { return s.append(tokens); }));
           })
      .def("write", &write)
      .def("seal",
           [](Request& self) { check(self.run([](Sequence& s) { return s.seal(); })); })
      .def("fork",
           [](Request& self) {
             auto fork = self.run([](Sequence& s) { return s.fork(); });
             return std::make_shared<Request>(self, value_of(std::move(fork)));
           })
      .def("truncate",
           [](Request& self, std::uint32_t size) {
             check(self.run([&](Sequence& s) { return s.truncate(size); }));
           })
      .def("stage",
           [](Request& self) { check(self.run([](Sequence& s) { return s.stage(); })); })
      .def("view", [](const std::shared_ptr<Request>& self,
                      const std::shared_ptr<Store>& store, std::uint32_t first,
                      std::uint32_t count) { return view(store, self, first, count); })
      .def_property_readonly(
          "size",
          [](Request& self) { return self.run([](Sequence& s) { return s.size(); }); })
      .def_property_readonly(
          "tail_first",
          [](Request& self) {
            return self.run([](Sequence& s) { return s.tail_first(); });
          })
      .def_property_readonly("keys",
                             [](Request& self) {
                               const auto keys = self.run([](Sequence& s) {
                                 return std::vector(s.keys().begin(), s.keys().end());
                               });
                               return bytes_of_keys(keys);
                             })
      .def_property_readonly("tokens", [](Request& self) {
        const auto tokens = self.run([](Sequence& s) {
          return std::vector(s.tokens().begin(), s.tokens().end());
        });
        return py::array_t<std::uint32_t>(static_cast<py::ssize_t>(tokens.size()),
                                          tokens.data());
      });
}

}  // namespace speckv::python

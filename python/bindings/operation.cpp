// Operations in flight, and the queue through which an event loop hears of them.
#include <array>
#include <string>

#include "store.hpp"

namespace speckv::python {

RunningOperation::~RunningOperation() {
  end();
}

void RunningOperation::start(bool saving, std::span<const BlockTransfer> blocks,
                             TransferOptions options) {
  const ReadyFence fence{&Callback::ready, fence_.get()};
  if (fence_ != nullptr) options.fence = &fence;
  if (completions_ != nullptr) options.completions = &completions_->queue->queue();
  size_ = blocks.size();
  operation_ = unlocked([&] {
    return std::make_shared<Operation>(saving ? open_->store->save(blocks, options)
                                              : open_->store->load(blocks, options));
  });
}

void RunningOperation::end() noexcept {
  if (operation_ == nullptr) return;
  unlocked([this, operation = operation_] { ended_.status = operation->wait(); });
  if (operation_ == nullptr) return;  // another thread was first
  for (std::size_t i = 0; i < size_; ++i) {
    ended_.codes.push_back(static_cast<std::uint8_t>(operation_->code(i)));
    ended_.layers_ready.push_back(operation_->layers_ready(i));
  }
  operation_.reset();
  open_.reset();
}

bool RunningOperation::done() const noexcept {
  return operation_ == nullptr || operation_->done();
}

void RunningOperation::wait(std::chrono::nanoseconds at_most) {
  if (const auto operation = operation_; operation != nullptr) {
    check(unlocked([&] { return operation->wait_for(at_most); }));
  } else {
    check(ended_.status);
  }
}

void RunningOperation::cancel() noexcept {
  if (operation_ != nullptr) operation_->cancel();
}

py::array_t<std::uint8_t> RunningOperation::codes() const {
  if (!done()) raise(Code::busy, "the operation still runs");
  py::array_t<std::uint8_t> codes(static_cast<py::ssize_t>(size_));
  for (std::size_t i = 0; i < size_; ++i) {
    codes.mutable_at(static_cast<py::ssize_t>(i)) =
        operation_ == nullptr ? ended_.codes[i]
                              : static_cast<std::uint8_t>(operation_->code(i));
  }
  return codes;
}

std::uint32_t RunningOperation::layers_ready(std::size_t index) const {
  if (index >= size_) raise(Code::invalid_argument, "the operation has fewer blocks");
  return operation_ == nullptr ? ended_.layers_ready[index]
                               : operation_->layers_ready(index);
}

namespace {

py::list drain(Completions& self) {
  std::array<CompletionQueue::Entry, 64> entries{};
  py::list tags;
  for (;;) {
    const std::size_t count = self.queue->drain(entries);
    for (std::size_t i = 0; i < count; ++i)
      tags.append(entries[i].tag);
    if (count < entries.size()) return tags;
  }
}

}  // namespace

void bind_operation(py::module_& module) {
  py::class_<Completions, std::shared_ptr<Completions>>(module, "Completions")
      .def(py::init([] {
        return std::make_shared<Completions>(value_of(EventfdCompletionQueue::create()));
      }))
      .def("fileno", [](const Completions& self) { return self.queue->fd(); })
      .def("drain", &drain);

  py::class_<RunningOperation, std::shared_ptr<RunningOperation>>(module, "Operation")
      .def_property_readonly("done", &RunningOperation::done)
      .def(
          "wait",
          [](RunningOperation& self, const py::object& timeout) {
            self.wait(duration(timeout));
          },
          py::arg("timeout") = py::none())
      .def("cancel", &RunningOperation::cancel)
      .def("codes", &RunningOperation::codes)
      .def("layers_ready", &RunningOperation::layers_ready, py::arg("index"))
      .def("__len__", &RunningOperation::size);
}

}  // namespace speckv::python

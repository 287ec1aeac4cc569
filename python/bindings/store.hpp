// store.hpp -- a store, what Python lends to it, and what it lends to Python.
#pragma once

#include <map>
#include <memory>
#include <unordered_set>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/store.hpp"

#include "bindings.hpp"

namespace speckv::python {

// What must be gone before its store is: an operation, a pin, a sequence.
class Child : public std::enable_shared_from_this<Child> {
 public:
  virtual ~Child() = default;
  // May raise, and then nothing is closed. Called before end(), for every child.
  virtual void may_end() {}
  // Lets go of the store. Nothing raises.
  virtual void end() noexcept = 0;
};

// Calls a Python callable from any thread.
class Callback {
 public:
  explicit Callback(py::object callable) : callable_(std::move(callable)) {}
  static void log(void* self, LogLevel level, std::string_view text);
  static bool ready(void* self);

 private:
  py::object callable_;
};

// A store and what it uses for as long as it lives. The last reference goes under the
// GIL.
struct OpenStore {
  ~OpenStore() {
    unlocked([this] { store.reset(); });
  }

  std::unique_ptr<Callback> log;
  std::map<std::uint32_t, Lent> lent;
  std::unique_ptr<BlockStore> store;
};
using SharedStore = std::shared_ptr<OpenStore>;

class Store {
 public:
  explicit Store(SharedStore store) noexcept : store_(std::move(store)) {}

  // A reference that keeps the store from ending during a call. Raises once it is closed.
  SharedStore get() const;
  bool is_closed() const noexcept { return store_ == nullptr; }
  // Waits for operations; raises `busy` while memory of the store is exported.
  void close();

  std::uint32_t attach(Lent lent);
  void detach(std::uint32_t region);

  void add(Child& child) { children_.insert(&child); }
  void remove(Child& child) noexcept { children_.erase(&child); }

 private:
  std::unordered_set<Child*> children_;
  SharedStore store_;
};

// Knows its store while it is open.
class ChildOf : public Child {
 public:
  explicit ChildOf(std::shared_ptr<Store> store)
      : open_(store->get()), store_(std::move(store)) {
    store_->add(*this);
  }
  ~ChildOf() override { store_->remove(*this); }
  ChildOf(const ChildOf&) = delete;
  ChildOf& operator=(const ChildOf&) = delete;

 protected:
  SharedStore open_;  // empty once ended

 private:
  std::shared_ptr<Store> store_;
};

// A T that works on a store and ends before it. Any thread; a call keeps what it calls
// from ending meanwhile. The class that is made of it calls end() in its destructor.
template <class T>
class WorkerOf : public ChildOf {
 public:
  using ChildOf::ChildOf;

  void end() noexcept override {
    SharedStore open = std::move(open_);
    std::shared_ptr<T> last = std::move(worker_);
    unlocked([&] { last.reset(); });
  }

  // Runs `body` without the GIL. Raises once it has ended.
  template <class F>
  auto run(F&& body) {
    const SharedStore open = open_;  // ends last
    std::shared_ptr<T> it = worker_;
    if (it == nullptr)
      raise(Code::invalid_argument, "the prefetcher, or its store, is closed");
    return unlocked([&] {
      auto answer = body(*it);
      it.reset();
      return answer;
    });
  }

 protected:
  std::shared_ptr<T> worker_;
};

// Where operations of one event loop report.
struct Completions {
  std::unique_ptr<EventfdCompletionQueue> queue;
};

// An operation, and what it needs while it runs.
class RunningOperation final : public ChildOf {
 public:
  RunningOperation(std::shared_ptr<Store> store, std::unique_ptr<Callback> fence,
                   std::shared_ptr<Completions> completions)
      : ChildOf(std::move(store)),
        fence_(std::move(fence)),
        completions_(std::move(completions)) {}
  ~RunningOperation() override;

  void start(bool saving, std::span<const BlockTransfer> blocks, TransferOptions options);
  void end() noexcept override;

  bool done() const noexcept;
  void wait(std::chrono::nanoseconds at_most);
  void cancel() noexcept;
  std::size_t size() const noexcept { return size_; }
  py::array_t<std::uint8_t> codes() const;
  std::uint32_t layers_ready(std::size_t index) const;

 private:
  // What is left of an operation whose store is closed.
  struct Ended {
    Status status;
    std::vector<std::uint8_t> codes;
    std::vector<std::uint32_t> layers_ready;
  };

  std::unique_ptr<Callback> fence_;
  std::shared_ptr<Completions> completions_;
  std::shared_ptr<Operation> operation_;
  std::size_t size_ = 0;
  Ended ended_;
};

}  // namespace speckv::python

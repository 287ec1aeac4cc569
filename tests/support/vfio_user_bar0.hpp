// support/vfio_user_bar0.hpp -- the other side of hardware/sim: a client of vfio-user.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "sim/vfio_user.hpp"
#include "support/engine_under_test.hpp"

namespace speckv::test {

// A card behind a socket, and a thread that serves it. What is wrong with an answer fails
// the test. Any thread may ask.
class VfioUserClient {
 public:
  explicit VfioUserClient(std::uint64_t memory_bytes,
                          const sim::PciFunction::MakeCard& make = sim::golden_card);
  ~VfioUserClient();
  VfioUserClient(const VfioUserClient&) = delete;
  VfioUserClient& operator=(const VfioUserClient&) = delete;

  struct Answer {
    int error = -1;  // an errno; -1: the server has gone
    std::vector<std::byte> body;
    sim::File file;
  };
  Answer ask(std::uint16_t command, Bytes body, const std::vector<int>& files = {});
  // As if somebody pulled the card out.
  void pull() noexcept { function_->pull(); }
  // Bytes as they are; false: the server takes no more.
  bool send_raw(Bytes bytes);
  // Whether the server has ended the session, and how: with true, after whole messages.
  bool served();

 private:
  std::mutex mutex_;  // from a question to its answer
  sim::File socket_, theirs_;
  std::unique_ptr<sim::PciFunction> function_;
  std::thread server_;
  bool served_ = false;
};

// As vfio_user_bar0() of engine_under_test.hpp, with another card.
std::unique_ptr<Bar0> vfio_user_bar0(std::uint64_t memory_bytes,
                                     const sim::PciFunction::MakeCard& make);

// A body, field by field.
class Fields {
 public:
  template <class T>
  Fields& add(T value) {
    const auto* at = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), at, at + sizeof value);
    return *this;
  }
  operator Bytes() const {
    return bytes_;
  }  // NOLINT(google-explicit-constructor): a body

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace speckv::test

#include "device/soft_engine.hpp"

#include <system_error>

#include "device/os.hpp"

namespace speckv {

using namespace engine;

namespace {

constexpr std::uint32_t kBatch = 32;  // descriptors between two looks at who else waits

}  // namespace

SoftEngine::SoftEngine(const CardOptions& options) : card_(options, *this) {}

SoftEngine::~SoftEngine() {
  if (!worker_.joinable()) return;
  stop_.store(true);
  kick();
  worker_.join();
}

Status SoftEngine::start() {
  try {
    worker_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return os_error("starting the thread of a software engine", error.code().value());
  }
  return {};
}

void SoftEngine::kick() noexcept {
  kicks_.fetch_add(1);
  kicks_.notify_one();
}

void SoftEngine::run() {
  while (!stop_.load()) {
    const std::uint32_t kicks = kicks_.load();
    bool more = false;
    {
      const Turn turn(*this);
      card_.set_need_kick(false);
      more = card_.work(kBatch);
      if (!more) {
        card_.set_need_kick(true);
        more = card_.work(kBatch);  // what came before need_kick could be seen
      }
    }
    if (!more) kicks_.wait(kicks);
  }
}

MutableBytes SoftEngine::view(std::uint64_t address, std::uint64_t length,
                              bool /*writing*/) noexcept {
  if (address == 0) return {};
  return {reinterpret_cast<std::byte*>(address), static_cast<std::size_t>(length)};
}

void SoftEngine::interrupt(std::uint32_t vector) noexcept {
  // The vector for errors has no queue; tell_errors() looks at the log.
  if (vector < kMaxQueues && listeners_[vector] != nullptr) {
    listeners_[vector]->completed();
  }
}

void SoftEngine::tell_errors() noexcept {
  while (card_.read32(csr::kErrorPending) != 0) {
    const std::uint32_t info = card_.read32(csr::kErrorInfo);
    card_.write32(csr::kErrorPop, 0);
    const bool fatal = (csr::kErrorInfoCause.get(info) & 0x80) != 0;
    const auto queue = static_cast<std::uint32_t>(csr::kErrorInfoQueue.get(info));
    for (std::uint32_t i = 0; i < kMaxQueues; ++i) {
      if ((fatal || i == queue) && listeners_[i] != nullptr) listeners_[i]->failed();
    }
  }
}

void SoftEngine::listen(std::uint32_t queue, QueueListener* listener) {
  const Turn turn(*this);
  listeners_[queue] = listener;
}

}  // namespace speckv

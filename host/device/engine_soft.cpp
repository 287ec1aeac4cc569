// An Engine on the engine of this process: descriptors through a queue of its own.
#include <algorithm>
#include <array>
#include <chrono>
#include <optional>

#include "device/card_port.hpp"
#include "device/engine_backend.hpp"
#include "device/os.hpp"
#include "device/soft_engine.hpp"
#include "device/uri.hpp"

namespace speckv {
namespace {

using namespace engine;

class SoftBackend final : public Engine::Backend {
 public:
  explicit SoftBackend(SoftCard card) : card_(std::move(card)) {}

  Status start(const DeviceUri& uri) {
    info.name = uri.text;
    info.memory = uri.size;
    info.simulated = true;
    info.block_tokens = 1U << card_.engine->read32(csr::kBlockShift);
    auto region = card_.port->add_region(page_);
    if (!region.ok()) return region.error();
    region_ = *region;
    auto queue = card_.port->open_queue(2);
    if (!queue.ok()) return queue.error();
    queue_ = *std::move(queue);
    return {};
  }

  Result<std::uint32_t> ask(const Descriptor& descriptor, MutableBytes answer) override {
    Descriptor d = descriptor;
    if (!answer.empty()) {
      d.dst_region = region_.number;
      d.dst_offset = region_.first;
      d.length = static_cast<std::uint32_t>(std::min(answer.size(), page_.size()));
    }
    queue_->ring().push(d);
    if (queue_->ring().publish()) queue_->kick();
    const auto entry = await();
    if (!entry) {
      (void)queue_->restart();
      return Status(Code::io_error, "the engine does not answer");
    }
    const auto code = static_cast<Answer>(completion::kStatusCode.get(entry->status));
    if (code != Answer::ok) return refusal(code);
    if (!answer.empty()) std::copy_n(page_.begin(), d.length, answer.begin());
    return entry->result;
  }
  Result<Places> places() override {
    return Places{region_.number, card_.port->memory_region(), region_.first};
  }
  Result<Counters> counters() override {
    return card_.engine->with_card([](Card& card) {
      card.write32(csr::kSnapshot, 1);
      Counters all;
      for (std::uint32_t n = 0; n < kCounterNames.size(); ++n) {
        const std::uint32_t at = csr::kCounter + 8 * n;
        all.emplace_back(kCounterNames[n],
                         card.read32(at) | std::uint64_t{card.read32(at + 4)} << 32);
      }
      return all;
    });
  }
  Result<bool> fatal() override {
    return csr::kStatusFatal.get(card_.engine->read32(csr::kStatus)) != 0;
  }

 private:
  std::optional<CompletionEntry> await() {
    const auto deadline = deadline_after(std::chrono::seconds(5));
    while (queue_->health() == CardQueue::Health::good) {
      if (const auto entry = queue_->ring().take()) return entry;
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left <= left.zero()) break;
      if (queue_->ring().arm()) queue_->await(left);
    }
    return std::nullopt;
  }

  alignas(64) std::array<std::byte, 4096> page_{};
  SoftCard card_;
  CardPort::Region region_{};
  std::unique_ptr<CardQueue> queue_{};
};

}  // namespace

OpenedBackend open_soft_backend(std::string_view name) {
  auto uri = parse_uri(name == "soft:" ? "soft:1M" : name);
  if (!uri.ok()) return uri.error();
  if (uri->throttle) {
    return Status(Code::invalid_argument, "an engine is asked, not read: no throttle");
  }
  auto card = open_soft_card(*uri);
  if (!card.ok()) return card.error();
  auto backend = std::make_unique<SoftBackend>(*std::move(card));
  if (Status started = backend->start(*uri); !started.ok()) return started;
  return OpenedBackend(std::move(backend));
}

}  // namespace speckv

// device/card_port.hpp -- one tenant of a card: what lies between the library's ring
// client and whoever owns the card, which is this process (soft:) or the kernel (cxl:).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "cxlspeckv/device.hpp"
#include "cxlspeckv/dmabuf.hpp"

#include "device/ring.hpp"

namespace speckv {

class SoftEngine;
struct DeviceUri;

// A queue pair at work. One thread, but for wake(). Once destroyed, the card touches
// neither its rings nor any memory for it.
class CardQueue {
 public:
  enum class Health : std::uint8_t { good, failed, gone };

  virtual ~CardQueue() = default;
  virtual Ring& ring() noexcept = 0;
  // After Ring::publish() has asked for it.
  virtual void kick() noexcept = 0;
  // What is known by now; look() asks, which takes longer. gone: for ever.
  virtual Health health() const noexcept = 0;
  virtual void look() noexcept {}
  // The rings read as something that the card did not write.
  virtual bool lost() const noexcept { return false; }
  // Stops the queue, whatever its state, forgets what it had not answered, and starts it
  // anew, with empty rings. False: it stays stopped.
  virtual bool restart() noexcept = 0;
  // Until the interrupt that Ring::arm() asked for, a failure, wake(), or that time.
  virtual void await(std::chrono::nanoseconds at_most) noexcept = 0;
  virtual void wake() noexcept = 0;
};

// Its owner calls one member at a time, and frees it after its queues.
class CardPort {
 public:
  // Host memory as descriptors name it: its first byte is at `first` of region `number`.
  struct Region {
    std::uint32_t number = 0;
    std::uint64_t first = 0;
  };

  virtual ~CardPort() = default;
  // The region of card memory that is this tenant's, and the longest transfer.
  virtual std::uint32_t memory_region() const noexcept = 0;
  virtual std::uint32_t max_length() const noexcept = 0;
  // As the card's registers of these names say.
  virtual std::uint64_t features() const noexcept { return 0; }
  virtual std::uint64_t codecs() const noexcept { return 0; }
  virtual Result<Region> add_region(MutableBytes memory) = 0;
  virtual Result<Region> add_dmabuf(const DmaBuf&) {
    return Status(Code::unsupported, "this card takes host memory only");
  }
  // REQUIRES: nothing in flight names it, and nothing is submitted meanwhile.
  virtual void drop_region(std::uint32_t number) noexcept = 0;
  // entries: a power of two from 2 to 4096.
  virtual Result<std::unique_ptr<CardQueue>> open_queue(std::uint32_t entries) = 0;
};

// A card of this process (soft:), and its engine, which lives in the port.
struct SoftCard {
  std::unique_ptr<CardPort> port{};
  SoftEngine* engine = nullptr;
};
Result<SoftCard> open_soft_card(const DeviceUri& uri);
// A tenant of the card of a cxl: URI that has none of its memory: memory_region() is 0.
Result<std::unique_ptr<CardPort>> open_driver_port(const DeviceUri& uri);

// The card behind `port` as a Device of info.capacity bytes.
std::shared_ptr<Device> card_device(DeviceInfo info, std::unique_ptr<CardPort> port);

}  // namespace speckv

// cxlspeckv/tier.hpp -- a device, a codec for it, and a rule for when it is full.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cxlspeckv/codec.hpp"
#include "cxlspeckv/device.hpp"

namespace speckv {

// A place in a tier for one encoded block. Dense from zero, so that a policy keeps its
// state in arrays.
enum class Slot : std::uint32_t {};

// Which slots must stay: a view of the pins, true to the moment it is asked.
class PinnedSlots {
 public:
  virtual bool contains(Slot slot) const noexcept = 0;

 protected:
  ~PinnedSlots() = default;
};

// Chooses what a full tier gives up. Called under the tier's lock: it must not block,
// allocate or call back. Its state lies in memory that it is given (offsets, no
// pointers), because other processes may share it; after a crash it is bound afresh and
// told of every filled slot again.
class Policy {
 public:
  virtual ~Policy() = default;
  virtual std::string_view name() const noexcept = 0;
  virtual std::size_t state_bytes(std::uint32_t slots) const noexcept = 0;

  // The six verbs. `state` is 64-byte aligned; all zero means empty. With `reset`,
  // whatever it holds is forgotten; without, it is what this or another process left
  // there.
  virtual void bind(MutableBytes state, std::uint32_t slots, bool reset) noexcept = 0;
  // `block`: the first 64 bits of its key, by which it is known when it comes again.
  virtual void filled(Slot slot, std::uint64_t block) noexcept = 0;
  virtual void touched(Slot slot) noexcept = 0;
  virtual void emptied(Slot slot) noexcept = 0;
  // The filled, unpinned slot to give up next; it stays filled until emptied().
  virtual std::optional<Slot> victim(const PinnedSlots& pinned) noexcept = 0;
  virtual std::uint32_t size() const noexcept = 0;  // filled slots
};

// The built-in policy of that name, or nullptr.
std::unique_ptr<Policy> make_policy(std::string_view name);
std::span<const std::string_view> policy_names() noexcept;

// What may enter a tier from above.
enum class Admission : std::uint8_t {
  always,
  second_touch,  // only what was used again since it was saved: spares flash
};

struct CodecChoice {
  LayerRange layers{};
  const Codec* codec = nullptr;
};

struct Tier {
  std::string name{};  // in metrics and on the command line; unique in the store
  std::shared_ptr<Device> device{};
  const Codec* codec = nullptr;          // nullptr: raw
  std::vector<CodecChoice> per_layer{};  // exceptions to `codec`; the last match counts
  std::unique_ptr<Policy> policy{};      // nullptr: lru
  std::uint64_t capacity = 0;            // bytes of the device to use; 0: all of it
  Admission admission = Admission::always;
};

}  // namespace speckv

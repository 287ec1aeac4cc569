// cxlspeckv/profile.hpp -- what calibration found out about a model, for codecs that want
// it (hxp). docs/profile-format.md has every byte.
//
// A store takes the file when it is opened, and checks it; so must whoever gives one to a
// codec. All functions are pure: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cxlspeckv/block.hpp"
#include "cxlspeckv/codec.hpp"

namespace speckv {

struct ProfileShape {
  std::uint32_t layers = 0, kv_heads = 0, head_dim = 0;
  std::uint32_t pairs = 0;      // of channels that the position rotates
  std::uint32_t targets = 0;    // tables of slots
  std::uint32_t rope_base = 0;  // as the model states it; the frequencies are what counts
  std::uint32_t sizes = 0;      // of slots whose losses are known: 2 to 16, or none
  BlockKey model{};             // profile_model() of its name and tokenizer

  bool operator==(const ProfileShape&) const = default;
};

// Names a model and its tokenizer; both are whatever the caller identifies them by.
BlockKey profile_model(std::string_view name, Bytes tokenizer);

enum class ProfilePart : std::uint8_t {
  frequencies,  // u32 [pair]
  targets,      // u16 [target]
  slots,        // u16 [target][layer][K, V][head]
  steps,        // i8 [layer][K, V][head][channel]
  means,        // f16 [layer][K, V][head][channel]
  exponents,    // i8 [layer][K, V][head][4]
  weights,      // i16 [layer][K, V][head][4 + 2 channels]
  sizes,        // u16 [size]
  losses,       // i16 [layer][K, V][head][size]
};
inline constexpr std::size_t kProfileParts = 9;

// The file of these parts, each as ProfilePart says, little-endian. invalid_argument: a
// shape or a part that no reader would take.
Result<std::vector<std::byte>> write_profile(
    const ProfileShape& shape, const std::array<Bytes, kProfileParts>& parts);

// Checks every byte of a file, and says of what model it is. corrupted: not a profile, or
// damaged. unsupported: of another version.
Result<ProfileShape> profile_shape(Bytes file);

// As profile_shape(); the parts, without padding. They are views of `file`.
Result<std::array<Bytes, kProfileParts>> profile_parts(Bytes file);

// What an hxp codec spends where, and what that should cost.
struct SlotPlan {
  std::vector<std::uint16_t> slots{};  // bytes of 8192 values, [layer][K, V][head]
  double bytes_per_token = 0;          // of all layers and heads
  double loss = 0;                     // over that of KIVI-4 in groups of 32 (3.20x)
};

// Of a codec by name: "hxp4096", "hxp?slot=4096", "hxp?bytes_per_token=5760",
// "hxp?loss=0.36" (docs/codecs.md). not_found: no such hxp codec. unsupported: the
// profile has no losses. invalid_argument: a target that it cannot meet. Else as
// profile_shape().
Result<SlotPlan> profile_plan(Bytes file, std::string_view codec);

// For a store: profile_shape(), and that one of the layouts is the model's
// (invalid_argument).
Status check_profile(Bytes file, std::span<const BlockLayout> layouts);

// That a codec can do what its name asks for under this profile, which check_profile()
// has taken, or under none (empty). invalid_argument: it cannot; says what it could.
Status check_profile_for(const Codec& codec, Bytes file,
                         std::span<const BlockLayout> layouts);

}  // namespace speckv

// Any profile: refused with a sentence, or one whose every number can be read, and whose
// losses make slots that codecs have. The first
// byte says what follows: a file as it is, or changes to a good one, whose checksums are
// then made right, or changes to a layer that was coded under a good one (by hxp), whose
// units' checksums are: 4 bytes say where, 4 what is there.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "base/checksum.hpp"
#include "codec/builtin.hpp"
#include "codec/slot_plan.hpp"
#include "support/blocks.hpp"
#include "support/profiles.hpp"

namespace {

using namespace speckv;

constexpr BlockLayout kLayout{1, 2, 64, 16, DType::f16};

void require(bool holds) {
  if (!holds) std::abort();
}

// Half of the changes go to the first bytes, of which most is said.
void change(std::vector<std::byte>& file, Bytes changes) {
  for (; changes.size() >= 8; changes = changes.subspan(8)) {
    const auto where = load_le<std::uint32_t>(changes.data());
    const std::size_t room = where % 2 == 0 ? 320 : file.size();
    std::copy_n(changes.begin() + 4, 4,
                file.begin() + static_cast<std::ptrdiff_t>(where / 2 % (room - 4)));
  }
}

std::vector<std::byte> changed(std::vector<std::byte> file, Bytes changes) {
  change(file, changes);
  test::seal_profile(file);
  return file;
}

// Whatever the losses are, slots are a codec's, and within what was asked for.
void allocate(const ModelProfile& profile) {
  const auto bytes =
      static_cast<std::uint32_t>(profile.heads() * profile.shape().head_dim / 2);
  for (const SlotTarget target : {SlotTarget{SlotTarget::Kind::bytes_per_token, bytes},
                                  SlotTarget{SlotTarget::Kind::loss, 360'000}}) {
    const auto plan = plan_slots(profile, target);
    require(plan->slots.size() == profile.heads());
    std::uint64_t sum = 0;
    for (const std::uint16_t slot : plan->slots) {
      require(slot >= ModelProfile::kLeastSlot && slot <= ModelProfile::kMostSlot &&
              slot % ModelProfile::kSlotStep == 0);
      sum += slot;
    }
    require(sum == plan->bytes);
    if (target.kind == SlotTarget::Kind::bytes_per_token)
      require(sum <= 4096 * profile.heads());
  }
}

void check(Bytes file) {
  const auto read = read_profile(file);
  if (!read) {
    const Code code = read.error().code();
    require(code == Code::corrupted || code == Code::unsupported);
    require(!read.error().message().empty());
    ModelProfile view;
    if (!view.open(file)) return;  // codecs look no further than this
  }
  ModelProfile profile;
  require(profile.open(file));
  const ProfileShape& s = profile.shape();
  const ModelProfile::Head last{s.layers - 1, true, s.kv_heads - 1};
  std::int64_t sum = profile.step(last, s.head_dim - 1) + profile.exponent(last, 3) +
                     profile.weight(last, 3 + 2 * s.head_dim);
  sum += profile.mean(last, s.head_dim - 1);
  for (std::uint32_t i = 0; i < s.pairs; ++i)
    sum += profile.frequency(i);
  for (std::uint32_t i = 0; i < s.targets; ++i)
    sum += profile.target(i) + profile.slot(i, last);
  for (std::uint32_t i = 0; i < s.sizes; ++i) {
    sum += profile.size(i);
    sum += profile.loss(profile.heads() - 1, i);
  }
  require(sum >= INT32_MIN);
  if (has_losses(profile)) allocate(profile);
  require(!read || has_losses(profile) == (s.sizes != 0));
}

void decode(const std::vector<std::byte>& profile, Bytes changes) {
  const Codec& codec = *find_codec("hxp4096");
  const LayerContext context{kLayout, 0, 77, profile};
  static const std::vector<std::byte> sound = [&] {
    std::vector<std::byte> out(codec.max_layer_bytes(kLayout));
    const auto used =
        codec.encode(context, test::make_block(kLayout, test::Fill::normal, 1), out);
    require(used.ok());
    out.resize(*used);
    return out;
  }();
  std::vector<std::byte> layer = sound;
  change(layer, changes);
  const Bytes directory = Bytes(layer).first(codec.directory_bytes(kLayout));
  for (std::uint64_t u = 0; u < layer_units(kLayout); ++u) {
    const auto found = codec.unit_at(kLayout, directory, u);
    if (!found) break;
    const UnitSpan at = *found;
    if (at.first + at.bytes > layer.size()) break;
    const MutableBytes unit = MutableBytes(layer).subspan(at.first, at.bytes);
    store_le(unit.data(), crc32c(0, unit.subspan(4)));
  }
  std::vector<std::byte> plain(kLayout.layer_bytes());
  const Code code = codec.decode(context, layer, plain);
  require(code == Code::ok || code == Code::corrupted);
  require(!changes.empty() || code == Code::ok);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<std::byte> good = test::random_profile(kLayout, 1);
  require(!good.empty());
  if (size == 0) return 0;
  const Bytes rest = std::as_bytes(std::span(data, size)).subspan(1);
  // A copy of exactly that size, so that AddressSanitizer sees a byte too far.
  if (data[0] % 3 == 0) {
    const std::vector<std::byte> file(rest.begin(), rest.end());
    check(file);
  } else if (data[0] % 3 == 1) {
    check(changed(good, rest));
  } else {
    decode(good, rest);
  }
  return 0;
}

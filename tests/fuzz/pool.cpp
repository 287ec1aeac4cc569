// Any superblocks and any record table before good data: opening refuses or recovers, and
// what is found loads as the right bytes, or is refused.
//
// The input edits a good pool: a byte of flags, then 4 bytes an edit (place, place,
// value, how). The flags say whether checksums are made right again, so that the fields
// behind them are reached, too; an input that is as long as the table replaces it whole.
#include <cstring>

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "require.hpp"
#include "support/invariants.hpp"

using namespace speckv;
using namespace speckv::test;

namespace {

using Kind = HeapDevice::Kind;

constexpr std::uint64_t kPool = 96 << 10, kTable = 8192, kMeta = kTable + 4096;
constexpr std::uint64_t kBlocks = 12;

StoreOptions options_on(std::shared_ptr<Device> device) {
  StoreOptions options;
  options.layouts = {small_layout()};
  options.tiers.push_back(tier_on("pool", std::move(device)));
  return options;
}

std::vector<std::byte> good_pool() {
  const auto device = std::make_shared<HeapDevice>(kPool, Kind::disk);
  {
    StoreUnderTest store(options_on(device));
    for (std::uint64_t n = 0; n < kBlocks; ++n)
      require(store.save(n) == Code::ok, "a save failed");
  }
  const std::vector<std::byte> good(device->raw().begin(), device->raw().end());
  StoreUnderTest again(options_on(device));
  require_sound(again, kBlocks, kBlocks);
  return good;
}

void edit(MutableBytes pool, std::span<const std::uint8_t> edits) {
  for (; edits.size() >= 4; edits = edits.subspan(4)) {
    const std::size_t at = (std::size_t{edits[0]} << 8 | edits[1]) % kMeta;
    const auto value = static_cast<std::byte>(edits[2]);
    switch (edits[3] % 3) {
      case 0:
        pool[at] = value;
        break;
      case 1:
        pool[at] ^= value;
        break;
      default:  // a record takes another's place
        std::memmove(pool.data() + kTable + edits[0] % 64 * 64,
                     pool.data() + kTable + edits[1] % 64 * 64, 64);
    }
  }
}

void fix_checksums(MutableBytes pool, std::uint8_t flags) {
  if ((flags & 1) != 0) {
    for (std::byte* at : {pool.data(), pool.data() + 4096})
      store_le(at + 60, crc32c(0, {at, 60}));
  }
  for (std::uint32_t n = 0; (flags & 2) != 0 && n < 64; ++n) {
    std::byte* const at = pool.data() + kTable + n * 64;
    if (std::all_of(at, at + 64, [](std::byte b) { return b == std::byte{0}; })) continue;
    std::byte place[4];
    store_le(place, n);
    store_le(at + 60, crc32c(crc32c(0, place), {at, 60}));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<std::byte> good = good_pool();
  if (size == 0 || size > kMeta + 1) return 0;
  const auto device = std::make_shared<HeapDevice>(kPool, Kind::disk);
  std::copy(good.begin(), good.end(), device->raw().begin());
  const std::span<const std::uint8_t> rest(data + 1, size - 1);
  if (size > 4096) {
    std::memcpy(device->raw().data() + kTable, rest.data(), 4095);
  } else {
    edit(device->raw(), rest);
  }
  fix_checksums(device->raw(), data[0]);

  StoreUnderTest store(options_on(device));
  if (!opens(store)) return 0;
  require_right_or_refused(store, kBlocks);
  // It goes on as a pool.
  require(store.save(100) == Code::ok && store.load(100) == Code::ok, "it cannot go on");
  const std::string faults = check_invariants(*store);
  require(faults.empty(), faults.c_str());
  return 0;
}

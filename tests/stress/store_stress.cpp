// Random operations from several threads on stores of every shape, each too small for
// what is saved, so that eviction, demotion and quarantine never stop. Never wrong bytes,
// nothing that is held is forgotten, and at the end every byte is accounted for.
#include <thread>

#include "cxlspeckv/devices.hpp"

#include "support/event_tally.hpp"
#include "support/invariants.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using Kind = HeapDevice::Kind;

struct Shape {
  const char* name;
  struct Place {
    Kind kind;
    std::uint64_t bytes;
    const char* codec = "raw";
    Admission admission = Admission::always;
    bool card = false;  // a card, in the place of `kind`; see open_card()
  };
  std::vector<Place> tiers;
  bool set_codecs = false;

  bool persistent() const {
    return std::any_of(tiers.begin(), tiers.end(), [](const Place& place) {
      return place.kind == Kind::disk || place.kind == Kind::persistent_memory;
    });
  }
  bool lossy() const {
    return set_codecs || std::any_of(tiers.begin(), tiers.end(), [](const Place& place) {
             return std::string_view(place.codec) != "raw";
           });
  }
  friend void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }
};

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint32_t kThreads = 4;
constexpr std::uint64_t kShared = 40, kOwn = 60;

constexpr auto kSecond = Admission::second_touch;
const Shape kShapes[] = {
    {"memory", {{Kind::memory, 160 * kKiB}}},
    {"memory_int8", {{Kind::memory, 160 * kKiB, "int8"}}, true},
    {"memory_disk", {{Kind::memory, 100 * kKiB}, {Kind::disk, 400 * kKiB}}},
    {"memory_volatile_disk",
     {{Kind::memory, 100 * kKiB}, {Kind::volatile_disk, 300 * kKiB}}},
    {"memory_memory_disk",
     {{Kind::memory, 80 * kKiB}, {Kind::memory, 120 * kKiB}, {Kind::disk, 300 * kKiB}}},
    {"pmem", {{Kind::persistent_memory, 300 * kKiB}}},
    {"disk", {{Kind::disk, 300 * kKiB}}},
    {"memory_pmem", {{Kind::memory, 100 * kKiB}, {Kind::persistent_memory, 300 * kKiB}}},
    {"pmem_disk_codecs",
     {{Kind::persistent_memory, 200 * kKiB}, {Kind::disk, 300 * kKiB, "int8"}},
     true},
    {"disk_memory", {{Kind::volatile_disk, 100 * kKiB}, {Kind::memory, 200 * kKiB}}},
    {"memory_vdisk_seldom_disk",
     {{Kind::memory, 100 * kKiB},
      {Kind::volatile_disk, 150 * kKiB},
      {Kind::disk, 300 * kKiB, "raw", kSecond}}},
    {"card", {{Kind::volatile_disk, 300 * kKiB, "raw", Admission::always, true}}},
    {"memory_card_disk",
     {{Kind::memory, 100 * kKiB},
      {Kind::volatile_disk, 200 * kKiB, "int8", Admission::always, true},
      {Kind::disk, 300 * kKiB}},
     true},
};

// SPECKV_TEST_CARD=/dev/speckv0 (as in the guest), or the engine in this process.
std::shared_ptr<Device> open_card(std::uint64_t bytes) {
  const char* card = std::getenv("SPECKV_TEST_CARD");
  const std::string size = "?size=" + std::to_string(bytes / kKiB) + "K";
  auto device =
      open_device((card != nullptr ? "cxl:" + std::string(card) : "soft:") + size);
  if (device.ok()) return *std::move(device);
  ADD_FAILURE() << device.error().message();
  return nullptr;
}

StoreOptions options_of(const Shape& shape) {
  StoreOptions options;
  options.layouts = BlockPool::layouts();
  for (std::size_t i = 0; i < shape.tiers.size(); ++i) {
    const Shape::Place& place = shape.tiers[i];
    std::shared_ptr<Device> device =
        place.card ? open_card(place.bytes)
                   : std::make_shared<HeapDevice>(place.bytes, place.kind);
    options.tiers.push_back(tier_on("t" + std::to_string(i), device, place.codec));
    options.tiers.back().admission = place.admission;
  }
  return options;
}

class StoreStress : public testing::TestWithParam<Shape> {};

TEST_P(StoreStress, never_answers_wrongly_and_accounts_for_every_byte) {
  const Shape& shape = GetParam();
  const BlockPool pool(kShared + kThreads * kOwn);
  EventTally events;
  StoreOptions options = options_of(shape);
  options.events = &events;
  auto opened = BlockStore::open(std::move(options));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  BlockStore& store = **opened;

  const double all =
      std::getenv("SPECKV_TEST_CARD") != nullptr ? 2e5 : 1e6;  // in a guest
  const std::uint64_t steps = scaled(all) / (std::size(kShapes) * kThreads) + 1;
  std::vector<std::unique_ptr<StressWorker>> workers;
  for (std::uint32_t i = 0; i < kThreads; ++i) {
    StressWorker::Options own;
    own.seed = 1000 + i;
    own.first_own = kShared + i * kOwn;
    own.own = kOwn;
    own.shared = kShared;
    own.tenant = TenantId{static_cast<std::uint16_t>(i + 1)};
    own.lossy = shape.lossy();
    own.persistent = shape.persistent();
    own.set_codecs = shape.set_codecs;
    own.tiers = shape.tiers.size();
    workers.push_back(std::make_unique<StressWorker>(store, pool, own));
  }
  {
    std::vector<std::jthread> threads;
    for (auto& worker : workers)
      threads.emplace_back([&worker, steps] {
        for (std::uint64_t i = 0; i < steps && worker->step(); ++i) {}
        worker->let_go();
      });
  }
  for (const auto& worker : workers)
    ASSERT_TRUE(worker->ok());
  EXPECT_EQ(check_invariants(store, [&] { return events.differs_from(store); }), "");

  (void)store.erase(pool.keys());
  EXPECT_EQ(check_invariants(store), "");
  EXPECT_EQ(used_bytes(store), 0U);
  std::uint64_t evictions = 0, demotions = 0;
  for (std::size_t t = 0; t < store.tier_count(); ++t) {
    evictions += store.stats(t).evictions;
    demotions += store.stats(t).demotions_in;
    EXPECT_EQ(store.stats(t).corrupted, 0U);
    EXPECT_EQ(store.stats(t).io_errors, 0U);
  }
  if (steps > 1000) {
    EXPECT_GT(evictions, 0U);
    EXPECT_EQ(demotions > 0, shape.tiers.size() > 1);
  }
  workers.clear();
}

INSTANTIATE_TEST_SUITE_P(Shapes, StoreStress, testing::ValuesIn(kShapes),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace speckv::test

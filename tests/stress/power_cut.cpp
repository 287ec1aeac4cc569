// The power fails while a pool is written, three times over on the same medium; and bits
// flip in it. What was reported saved is found; what is found is right.
#include <set>

#include "support/cached_memory.hpp"
#include "support/fault_device.hpp"
#include "support/invariants.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using Kind = HeapDevice::Kind;

constexpr std::uint64_t kBlocks = 60;
constexpr std::uint64_t kPool = 220 << 10;  // too small for all of them

const BlockPool& blocks() {
  static const BlockPool pool(kBlocks);
  return pool;
}

// Remembers which blocks the pool gave up by itself.
class GivenUp final : public EventSink {
 public:
  explicit GivenUp(std::uint32_t tier) : tier_(tier) {}
  void event(const Event& event) noexcept override {
    if (event.tier != tier_) return;
    if (event.kind != Event::Kind::evict && event.kind != Event::Kind::corrupted) return;
    const std::lock_guard lock(mutex_);
    keys_.insert(event.key);
  }
  bool contains(BlockKey key) {
    const std::lock_guard lock(mutex_);
    return keys_.contains(key);
  }
  void forget(BlockKey key) {
    const std::lock_guard lock(mutex_);
    keys_.erase(key);
  }

 private:
  const std::uint32_t tier_;
  std::mutex mutex_;
  std::set<BlockKey> keys_;
};

// A store on `device`, and saving and loading blocks by number.
class Machine {
 public:
  Machine(std::shared_ptr<Device> device, bool memory_above, EventSink* events) {
    StoreOptions options;
    options.layouts = BlockPool::layouts();
    options.events = events;
    if (memory_above) {
      options.tiers.push_back(
          tier_on("fast", std::make_shared<HeapDevice>(40 << 10, Kind::memory)));
    }
    options.tiers.push_back(tier_on("pool", std::move(device)));
    auto opened = BlockStore::open(std::move(options));
    if (!opened.ok()) {
      error_ = opened.error();
      return;
    }
    store_ = *std::move(opened);
    region_ = *store_->attach(memory_);
  }
  BlockStore* operator->() { return store_.get(); }
  BlockStore& operator*() { return *store_; }
  bool is_open() const { return store_ != nullptr; }
  const Status& error() const { return error_; }

  Operation save(std::uint64_t n, std::size_t slot) {
    const Bytes bytes = blocks().bytes(n);
    std::copy(bytes.begin(), bytes.end(), memory_.begin() + static_cast<long>(at(slot)));
    const Segment where{region_, at(slot), bytes.size()};
    const BlockTransfer transfer{
        blocks().key(n), {&where, 1}, 0, LayoutId{BlockPool::layout_id(n)}};
    TransferOptions options;
    options.durable = true;
    return store_->save({&transfer, 1}, options);
  }
  // ok only if the bytes are right; internal if they are not.
  Code load(std::uint64_t n) {
    const Segment where{region_, 0, blocks().bytes(n).size()};
    const BlockTransfer transfer{
        blocks().key(n), {&where, 1}, 0, LayoutId{BlockPool::layout_id(n)}};
    Operation op = store_->load({&transfer, 1});
    (void)op.wait();
    if (op.code(0) != Code::ok) return op.code(0);
    const bool right = blocks().right(n, 0, Bytes(memory_).first(where.length), false);
    return right ? Code::ok : Code::internal;
  }
  bool has(std::uint64_t n) {
    const BlockKey key = blocks().key(n);
    return store_->match({&key, 1}) == 1;
  }

  static constexpr std::size_t kSlots = 6;

 private:
  static std::size_t at(std::size_t slot) { return slot * BlockPool::layout(0).bytes(); }
  std::vector<std::byte> memory_ =
      std::vector<std::byte>(kSlots * BlockPool::layout(0).bytes());
  std::unique_ptr<BlockStore> store_;
  RegionId region_{};
  Status error_;
};

struct Shape {
  const char* name;
  bool memory_above, mapped;
  friend void PrintTo(const Shape& shape, std::ostream* out) { *out << shape.name; }
};

class PowerCut {
 public:
  PowerCut(std::uint64_t seed, const Shape& shape)
      : random_(seed),
        memory_above_(shape.memory_above),
        medium_(std::make_shared<HeapDevice>(
            kPool, shape.mapped ? Kind::persistent_memory : Kind::disk)),
        given_up_(shape.memory_above ? 1 : 0) {}

  // One life of the machine, ended by the cut.
  void live() {
    if (medium_->info().memory) {
      live_on(std::make_shared<CachedMemory>(medium_));
      return;
    }
    FaultOptions options;
    options.write_cache = true;
    const auto device = std::make_shared<FaultDevice>(medium_, options);
    if (random_() % 2 == 0) device->reorder(random_());
    live_on(device);
  }

  void check() {
    Machine machine(medium_, memory_above_, nullptr);
    ASSERT_TRUE(machine.is_open()) << machine.error().message();
    for (std::uint64_t n = 0; n < kBlocks; ++n) {
      const bool promised = promised_.contains(n) && !given_up_.contains(blocks().key(n));
      EXPECT_TRUE(machine.has(n) || !promised) << "block " << n << " is lost";
      const bool matched = machine.has(n);
      const Code code = machine.load(n);
      EXPECT_EQ(code, matched ? Code::ok : Code::not_found) << "block " << n;
    }
    EXPECT_EQ(check_invariants(*machine), "");
    kept_ += promised_.size();
  }
  std::uint64_t kept() const { return kept_; }

 private:
  template <class Cached>
  void live_on(const std::shared_ptr<Cached>& device) {
    // The process may die first: what is in the cache outlives that.
    for (std::uint64_t deaths = random_() % 3; deaths > 0; --deaths) {
      run(device, [&] { device->fail_all(); });
      device->heal();
    }
    run(device, [&] { device->power_cut(random_()); });
  }

  // Saves and erases until `end`, which comes while saves are under way.
  template <class End>
  void run(const std::shared_ptr<Device>& device, End&& end) {
    Machine machine(device, memory_above_, &given_up_);
    ASSERT_TRUE(machine.is_open()) << machine.error().message();
    for (std::uint64_t i = random_() % 2 * (random_() % 30); i > 0; --i)
      work(machine);
    std::vector<std::pair<std::uint64_t, Operation>> flying;
    for (std::size_t slot = 0; slot < Machine::kSlots; ++slot) {
      const std::uint64_t n = random_() % kBlocks;
      promised_.erase(n);
      flying.emplace_back(n, machine.save(n, slot));
    }
    for (std::uint64_t i = random_() % 40; i > 0; --i)
      std::this_thread::yield();
    for (auto& [n, op] : flying)
      if (op.done() && op.code(0) == Code::ok) promised_.insert(n);
    end();
  }

  void work(Machine& machine) {
    const std::uint64_t n = random_() % kBlocks;
    if (random_() % 5 == 0) {
      const BlockKey key = blocks().key(n);
      promised_.erase(n);
      (void)machine->erase({&key, 1});
      return;
    }
    // An eviction from now on counts; an earlier one was of an older copy.
    given_up_.forget(blocks().key(n));
    promised_.erase(n);
    Operation op = machine.save(n, 0);
    if (op.wait().ok()) promised_.insert(n);
  }

  std::mt19937_64 random_;
  const bool memory_above_;
  const std::shared_ptr<HeapDevice> medium_;
  GivenUp given_up_;
  std::set<std::uint64_t> promised_;
  std::uint64_t kept_ = 0;
};

class PowerCuts : public testing::TestWithParam<Shape> {};

TEST_P(PowerCuts, lose_nothing_that_was_reported_saved_and_never_find_anything_wrong) {
  std::uint64_t kept = 0;
  for (std::uint64_t seed = 0; seed < scaled(150); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    PowerCut cut(seed, GetParam());
    for (int life = 0; life < 3; ++life) {
      cut.live();
      if (life != 1) cut.check();  // twice in a row without a clean end in between, too
      if (testing::Test::HasFailure()) return;
    }
    kept += cut.kept();
  }
  EXPECT_GT(kept, 0U);
}

const Shape kShapes[] = {{"pool_alone", false, false},
                         {"memory_above", true, false},
                         {"mapped_pool", false, true},
                         {"memory_above_mapped", true, true}};
INSTANTIATE_TEST_SUITE_P(Tiers, PowerCuts, testing::ValuesIn(kShapes),
                         [](const auto& shape) { return shape.param.name; });

// A process dies between writing its records and their flush; the next one finds them in
// the disk's cache and commits more; then the power fails in the middle of that.
TEST(PowerCut, after_a_recovery_out_of_the_cache_find_nothing_that_is_not_there) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto medium = std::make_shared<HeapDevice>(kPool, Kind::disk);
    FaultOptions options;
    options.write_cache = true;
    options.timeout = std::chrono::milliseconds(30);
    const auto device = std::make_shared<FaultDevice>(medium, options);
    {
      Machine machine(device, false, nullptr);
      ASSERT_TRUE(machine.is_open()) << machine.error().message();
      ASSERT_TRUE(machine.save(1, 0).wait().ok());
      device->inject(0, {Fault::Kind::lose}, Transfer::Op::flush);
      EXPECT_FALSE(machine.save(2, 0).wait().ok());
      device->fail_all();
    }
    device->heal();
    device->answer_lost();
    {
      Machine machine(device, false, nullptr);
      ASSERT_TRUE(machine.is_open()) << machine.error().message();
      ASSERT_TRUE(machine.has(2)) << "it was in the cache";
      device->inject(0, {Fault::Kind::lose}, Transfer::Op::flush);
      EXPECT_FALSE(machine.save(3, 0).wait().ok());
      device->power_cut(seed);
    }
    Machine machine(medium, false, nullptr);
    ASSERT_TRUE(machine.is_open()) << machine.error().message();
    EXPECT_EQ(machine.load(1), Code::ok);
    EXPECT_EQ(machine.load(2), Code::ok) << "it was found before, and then flushed";
    const bool matched = machine.has(3);
    EXPECT_EQ(machine.load(3), matched ? Code::ok : Code::not_found);
    if (HasFailure()) return;
  }
}

TEST(BitFlips, in_a_closed_pool_are_never_delivered) {
  std::mt19937_64 random(3);
  std::uint64_t refused = 0, missing = 0;
  for (std::uint64_t round = 0; round < scaled(200); ++round) {
    const auto medium = std::make_shared<HeapDevice>(kPool, Kind::disk);
    {
      Machine machine(medium, false, nullptr);
      ASSERT_TRUE(machine.is_open()) << machine.error().message();
      for (std::uint64_t n = 0; n < 12; ++n)
        ASSERT_TRUE(machine.save(n, 0).wait().ok());
    }
    // A third of the rounds in each of superblocks, records and data.
    const std::uint64_t table = 8192, data = 16384;
    const std::uint64_t first[] = {0, table, data}, last[] = {table, data, kPool / 3};
    const std::size_t part = round % 3;
    for (std::uint64_t flips = 1 + random() % 4; flips > 0; --flips) {
      const std::uint64_t at = first[part] + random() % (last[part] - first[part]);
      medium->raw()[at] ^= static_cast<std::byte>(1U << (random() % 8));
    }
    Machine machine(medium, false, nullptr);
    if (!machine.is_open()) {
      EXPECT_EQ(machine.error().code(), Code::corrupted) << machine.error().message();
      ++refused;
      continue;
    }
    for (std::uint64_t n = 0; n < 12; ++n) {
      const Code code = machine.load(n);
      missing += code != Code::ok;
      EXPECT_TRUE(code == Code::ok || code == Code::not_found || code == Code::corrupted)
          << to_string(code);
    }
    EXPECT_EQ(check_invariants(*machine), "");
  }
  if (scaled(200) >= 100) {
    EXPECT_GT(missing, 0U);
  }
}

TEST(BitFlips, in_a_live_tier_are_found_by_every_load_that_would_deliver_them) {
  for (const Kind kind : {Kind::memory, Kind::persistent_memory, Kind::disk}) {
    std::mt19937_64 random(9);
    const auto device = std::make_shared<HeapDevice>(kPool, kind);
    StoreOptions options;
    options.layouts = {small_layout()};
    options.tiers.push_back(tier_on("t", device));
    StoreUnderTest store(std::move(options));
    ASSERT_TRUE(store);
    std::uint64_t found = 0;
    for (std::uint64_t round = 0; round < scaled(300); ++round) {
      ASSERT_EQ(store.save(round), Code::ok);
      const std::vector<std::byte> wanted = bytes_of_block(small_layout(), round);
      const MutableBytes all = device->raw();
      // Where the block's first layer lies, wherever the store put it.
      const auto at =
          std::search(all.begin(), all.end(), wanted.begin(), wanted.begin() + 64);
      ASSERT_NE(at, all.end());
      const std::size_t bit = random() % (small_layout().layer_bytes() * 8);
      at[static_cast<long>(bit / 8)] ^= static_cast<std::byte>(1U << (bit % 8));
      found += store.load(round) == Code::corrupted;
      EXPECT_EQ(store.load(round), Code::not_found);  // and it is gone
    }
    EXPECT_EQ(found, scaled(300));
    EXPECT_EQ(store->stats(0).corrupted, found);
    EXPECT_EQ(check_invariants(*store), "");
  }
}

}  // namespace
}  // namespace speckv::test

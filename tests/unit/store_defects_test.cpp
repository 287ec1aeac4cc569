// Defects that published sketches of such stores had; each test is named for one.
#include <set>

#include <gtest/gtest.h>

#include "support/event_tally.hpp"
#include "support/invariants.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::frame_bytes;
using test::HeapDevice;
using test::key_of;
using test::small_layout;
using test::StoreUnderTest;
using test::tier_on;
using Kind = HeapDevice::Kind;

StoreOptions options_on(std::vector<std::shared_ptr<Device>> devices) {
  StoreOptions options;
  options.layouts = {small_layout()};
  for (std::size_t i = 0; i < devices.size(); ++i)
    options.tiers.push_back(tier_on("t" + std::to_string(i), devices[i]));
  return options;
}
std::shared_ptr<HeapDevice> memory_for(std::uint64_t blocks) {
  return std::make_shared<HeapDevice>(blocks * frame_bytes(small_layout()), Kind::memory);
}
std::shared_ptr<HeapDevice> disk(std::uint64_t bytes) {
  return std::make_shared<HeapDevice>(bytes, Kind::disk);
}

TEST(Defects, eviction_deadlock) {
  // Every tier is full of what may not go: saves are refused, at once, and go on later.
  StoreUnderTest store(options_on({memory_for(4), memory_for(4)}));
  ASSERT_TRUE(store);
  std::vector<Pin> pins;
  for (std::uint64_t n = 0; pins.size() < 8 && n < 100; ++n) {
    (void)store.save(n);
    if (auto pin = store->pin(key_of(n)); pin.ok()) pins.push_back(*std::move(pin));
  }
  ASSERT_EQ(pins.size(), 8U);
  for (std::uint64_t n = 200; n < 210; ++n)
    EXPECT_EQ(store.save(n), Code::no_space);
  EXPECT_GE(store->stats(0).saves_dropped, 10U);
  pins.clear();
  for (std::uint64_t n = 200; n < 240; ++n)
    EXPECT_EQ(store.save(n), Code::ok);
  EXPECT_EQ(test::check_invariants(*store), "");
}

TEST(Defects, multi_page_free_leak) {
  BlockLayout large = small_layout();
  large.layers = 60;  // 120 KiB, many units
  StoreOptions options =
      options_on({std::make_shared<HeapDevice>(1 << 20, Kind::memory)});
  options.layouts = {large};
  StoreUnderTest store(std::move(options), 4);
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 0; n < 100; ++n) {
    ASSERT_EQ(store.save(n), Code::ok);
    const BlockKey key = key_of(n);
    ASSERT_EQ(store->erase({&key, 1}), 1U);
    ASSERT_EQ(store->stats(0).used, 0U) << n;
  }
}

TEST(Defects, capacity_counted_per_allocation) {
  StoreUnderTest store(options_on({memory_for(20)}));
  ASSERT_TRUE(store);
  for (std::uint64_t n = 0; n < 20; ++n) {
    ASSERT_EQ(store.save(n), Code::ok);
    ASSERT_EQ(store.save(n), Code::ok);  // the same again takes nothing
    ASSERT_EQ(store->stats(0).used, (n + 1) * frame_bytes(small_layout()));
    ASSERT_EQ(store->tenant_bytes({}), (n + 1) * frame_bytes(small_layout()));
  }
  EXPECT_EQ(store->stats(0).used, store->stats(0).capacity);
}

TEST(Defects, phantom_hit_rate) {
  StoreUnderTest store(options_on({memory_for(4)}));
  ASSERT_TRUE(store);
  ASSERT_EQ(store.save(1), Code::ok);
  for (std::uint64_t n = 100; n < 150; ++n)
    EXPECT_EQ(store.load(n), Code::not_found);
  const BlockKey key = key_of(1);
  EXPECT_EQ(store->match({&key, 1}), 1U);  // asking is no hit
  EXPECT_EQ(store->stats(0).hits, 0U);
  for (int i = 0; i < 7; ++i)
    EXPECT_EQ(store.load(1), Code::ok);
  EXPECT_EQ(store->stats(0).hits, 7U);
}

TEST(Defects, lost_completions) {
  StoreUnderTest store(options_on({memory_for(8), disk(1 << 20)}));
  ASSERT_TRUE(store);
  CompletionQueue queue;
  std::vector<Operation> operations;
  for (std::uint64_t n = 0; n < 300; ++n) {
    TransferOptions options;
    options.completions = &queue;
    options.tag = n;
    const Segment where = store.place(n % 60);
    const BlockTransfer transfer{key_of(n / 2), {&where, 1}, 0, {}};
    // Saves, loads of what is there and what is not, and nothing at all.
    const std::span<const BlockTransfer> blocks(&transfer, n % 7 == 0 ? 0U : 1U);
    operations.push_back(n % 2 == 0 ? store->save(blocks, options)
                                    : store->load(blocks, options));
  }
  for (Operation& op : operations)
    (void)op.wait();
  std::set<std::uint64_t> tags;
  CompletionQueue::Entry entries[16];
  for (std::size_t got; (got = queue.poll(entries)) > 0;)
    for (std::size_t i = 0; i < got; ++i)
      EXPECT_TRUE(tags.insert(entries[i].tag).second) << "told twice: " << entries[i].tag;
  EXPECT_EQ(tags.size(), 300U);
}

// A disk whose queue takes one transfer at a time.
class NarrowDisk final : public Device {
 public:
  explicit NarrowDisk(std::uint64_t bytes) : inner_(bytes, Kind::disk) {}
  const DeviceInfo& info() const noexcept override { return inner_.info(); }
  Status attach(RegionId region, MutableBytes memory) override {
    return inner_.attach(region, memory);
  }
  Status detach(RegionId region) override { return inner_.detach(region); }
  Result<std::unique_ptr<Queue>> open_queue(std::uint32_t depth) override {
    return std::unique_ptr<Queue>(new Narrow(*inner_.open_queue(depth)));
  }

 private:
  class Narrow final : public Queue {
   public:
    explicit Narrow(std::unique_ptr<Queue> inner) : inner_(std::move(inner)) {}
    std::size_t submit(std::span<const Transfer> batch) noexcept override {
      if (busy_ || batch.empty()) return 0;
      busy_ = true;
      return inner_->submit(batch.first(1));
    }
    std::size_t poll(std::span<Completion> out) noexcept override {
      const std::size_t got = inner_->poll(out);
      if (got > 0) busy_ = false;
      return got;
    }
    void wait(std::chrono::nanoseconds at_most) noexcept override {
      inner_->wait(at_most);
    }
    void wake() noexcept override { inner_->wake(); }

   private:
    std::unique_ptr<Queue> inner_;
    bool busy_ = false;
  };
  HeapDevice inner_;
};

TEST(Defects, partial_submit_returning_success) {
  StoreUnderTest store(options_on({std::make_shared<NarrowDisk>(1 << 20)}), 64);
  ASSERT_TRUE(store) << store.error().message();
  std::vector<Segment> where;
  std::vector<BlockTransfer> blocks;
  for (std::uint64_t n = 0; n < 50; ++n) {
    const auto bytes = test::bytes_of_block(small_layout(), n);
    std::copy(bytes.begin(), bytes.end(), store.bytes(n).begin());
    where.push_back(store.place(n));
  }
  for (std::uint64_t n = 0; n < 50; ++n)
    blocks.push_back({key_of(n), {&where[n], 1}, 0, {}});
  EXPECT_TRUE(store->save(blocks).wait().ok());
  for (std::uint64_t n = 0; n < 50; ++n)
    EXPECT_EQ(store.load(n), Code::ok) << n;
}

TEST(Defects, dirty_line_dropped_in_batch_invalidate) {
  // What only memory holds is all durable after one flush.
  const auto pool = disk(1 << 20);
  {
    StoreUnderTest store(options_on({memory_for(40), pool}));
    ASSERT_TRUE(store);
    for (std::uint64_t n = 0; n < 30; ++n)
      ASSERT_EQ(store.save(n), Code::ok);
    ASSERT_TRUE(store->flush().ok());
  }
  StoreUnderTest store(options_on({memory_for(40), pool}));
  ASSERT_TRUE(store);
  for (std::uint64_t n = 0; n < 30; ++n)
    EXPECT_EQ(store.load(n), Code::ok) << n;
}

TEST(Defects, promotion_of_an_invalid_line) {
  StoreUnderTest store(options_on({memory_for(8), disk(1 << 20)}));
  ASSERT_TRUE(store);
  ASSERT_EQ(store.save(1), Code::ok);
  const BlockKey keys[] = {key_of(1), key_of(2)};
  EXPECT_EQ(store->erase(keys), 1U);
  EXPECT_TRUE(store->promote(keys).ok());
  EXPECT_EQ(test::check_invariants(*store), "");
  EXPECT_EQ(store->stats(0).promotions_in, 0U);
  EXPECT_EQ(store.load(1), Code::not_found);
}

// Keeps what it is told, by name and label.
class Collector final : public MetricSink {
 public:
  void counter(std::string_view name, Label label, std::uint64_t value) override {
    values[std::string(name) + "/" + std::string(label.value)] =
        static_cast<double>(value);
  }
  void gauge(std::string_view name, Label label, double value) override {
    values[std::string(name) + "/" + std::string(label.value)] = value;
  }
  std::map<std::string, double> values;
};

TEST(Defects, cumulative_counter_summed_again) {
  StoreUnderTest store(options_on({memory_for(4)}));
  ASSERT_TRUE(store);
  for (std::uint64_t n = 0; n < 10; ++n)
    ASSERT_EQ(store.save(n), Code::ok);
  Collector first, second;
  store->report(first);
  store->report(second);
  EXPECT_EQ(first.values, second.values);
  EXPECT_EQ(first.values["tier_evictions_total/t0"], 6);
}

// What the tiers must hold, told by events alone.
class Replay final : public EventSink {
 public:
  void event(const Event& event) noexcept override {
    const std::lock_guard lock(mutex_);
    if (event.order != 0) pending_.emplace(event.order, event);
    while (!pending_.empty() && pending_.begin()->first == applied_ + 1) {
      apply(pending_.begin()->second);
      pending_.erase(pending_.begin());
      ++applied_;
    }
  }
  // "" or what the store says that the events do not; `unit` bytes are the smallest
  // piece of each tier.
  std::string differs_from(const BlockStore& store,
                           const std::vector<std::uint64_t>& unit) const {
    const std::lock_guard lock(mutex_);
    std::string text = impossible_ + (pending_.empty() ? "" : "an event is missing; ");
    for (std::size_t t = 0; t < unit.size(); ++t) {
      const TierStats stats = store.stats(t);
      std::uint64_t used = 0;
      for (const auto& [key, bytes] : holds_[t])
        used += (bytes + unit[t] - 1) / unit[t] * unit[t];
      if (stats.blocks != holds_[t].size() || stats.used != used)
        text += "tier " + std::to_string(t) + " holds " + std::to_string(stats.blocks) +
                " blocks, " + std::to_string(stats.used) + " bytes; by its events " +
                std::to_string(holds_[t].size()) + ", " + std::to_string(used) + "; ";
    }
    return text;
  }

 private:
  // A copy comes once and goes once, and what is moved is in another tier before.
  void apply(const Event& event) {
    auto& here = holds_[event.tier];
    const bool was_here = here.contains(event.key);
    bool was_elsewhere = false;
    for (const auto& tier : holds_)
      was_elsewhere |= &tier != &here && tier.contains(event.key);
    bool possible = was_here;
    switch (event.kind) {
      case Event::Kind::save:
        possible = !was_here;
        here[event.key] = event.bytes;
        break;
      case Event::Kind::promote:
      case Event::Kind::demote:
        possible = !was_here && was_elsewhere;
        here[event.key] = event.bytes;
        break;
      case Event::Kind::erase:
        possible = was_here || was_elsewhere;
        for (auto& tier : holds_)
          tier.erase(event.key);
        break;
      default:
        here.erase(event.key);
    }
    if (!possible)
      impossible_ += "event " + std::to_string(static_cast<int>(event.kind)) +
                     " in tier " + std::to_string(event.tier) + " cannot be; ";
  }

  mutable std::mutex mutex_;
  std::map<std::uint64_t, Event> pending_;  // by order, until none before is missing
  std::uint64_t applied_ = 0;
  std::map<BlockKey, std::uint64_t> holds_[kMaxTiers];
  std::string impossible_;
};

class Both final : public EventSink {
 public:
  void event(const Event& event) noexcept override {
    tally.event(event);
    replay.event(event);
  }
  test::EventTally tally;
  Replay replay;
};

TEST(Defects, statistics_equal_an_independent_replay) {
  Both events;
  StoreOptions options = options_on({memory_for(10), disk(200 << 10)});
  options.events = &events;
  StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store) << store.error().message();
  std::mt19937_64 random(2);
  for (int i = 0; i < 600; ++i) {
    const std::uint64_t n = random() % 80;
    const BlockKey key = key_of(n);
    switch (random() % 5) {
      case 0:
        (void)store.load(n);
        break;
      case 1:
        if (random() % 3 == 0) (void)store->erase({&key, 1});
        break;
      case 2:
        (void)store->promote({&key, 1});
        break;
      default:
        (void)store.save(n);
    }
    const auto by_events = [&] {
      return events.tally.differs_from(*store) +
             events.replay.differs_from(*store, {64, 512});
    };
    ASSERT_EQ(test::check_invariants(*store, by_events), "") << "step " << i;
    for (std::size_t t = 0; t < 2; ++t)
      ASSERT_EQ(store->stats(t).plain_bytes,
                store->stats(t).blocks * small_layout().bytes());
  }
  EXPECT_GT(store->stats(1).demotions_in, 0U);
  EXPECT_GT(store->stats(1).evictions, 0U);
  EXPECT_GT(store->stats(0).promotions_in, 0U);
}

}  // namespace
}  // namespace speckv

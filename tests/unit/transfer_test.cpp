// What TransferOptions and tiers promise: fences, deadlines, cancelling, completion
// queues, durability, admission, codecs that change while the store runs, several
// layouts.
#include <atomic>
#include <ctime>
#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "support/fault_device.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::FaultDevice;
using test::frame_bytes;
using test::HeapDevice;
using test::key_of;
using test::small_layout;
using test::StoreUnderTest;
using test::tier_on;
using Kind = HeapDevice::Kind;
using std::chrono::milliseconds;

std::shared_ptr<HeapDevice> memory_for(std::uint64_t blocks) {
  return std::make_shared<HeapDevice>(blocks * frame_bytes(small_layout()), Kind::memory);
}
std::shared_ptr<HeapDevice> heap(Kind kind) {
  return std::make_shared<HeapDevice>(4 << 20, kind);
}
StoreOptions store_on(std::vector<std::shared_ptr<Device>> devices) {
  StoreOptions options;
  options.layouts = {small_layout()};
  for (std::size_t i = 0; i < devices.size(); ++i) {
    options.tiers.push_back(tier_on("t" + std::to_string(i), devices[i]));
  }
  return options;
}

// Whether a call was refused for that reason, which it says.
testing::AssertionResult refused(Operation op, const char* why) {
  const Status status = op.wait();
  if (status.code() == Code::invalid_argument &&
      status.message().find(why) != std::string::npos)
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << status.message();
}

// One block that waits in the caller's memory, with the segment that says where.
struct Lent {
  Lent(StoreUnderTest& store, std::uint64_t number, std::size_t slot = 0)
      : where(store.place(slot)), transfer{key_of(number), {&where, 1}, 0, {}} {
    const auto bytes = test::bytes_of_block(small_layout(), number);
    std::copy(bytes.begin(), bytes.end(), store.bytes(slot).begin());
  }
  Segment where;
  BlockTransfer transfer;
};

struct Gate {
  std::atomic<bool> open{false};
  ReadyFence fence{[](void* self) { return static_cast<Gate*>(self)->open.load(); },
                   this};
};

TEST(Transfer, lent_memory_is_not_touched_before_its_fence_is_ready) {
  for (const Kind kind : {Kind::memory, Kind::volatile_disk}) {
    StoreUnderTest store(store_on({heap(kind)}));
    ASSERT_TRUE(store) << store.error().message();
    Lent block(store, 1);
    Gate gate;
    TransferOptions options;
    options.fence = &gate.fence;
    std::fill(store.bytes(0).begin(), store.bytes(0).end(), std::byte{0});
    Operation save = store->save({&block.transfer, 1}, options);
    EXPECT_EQ(save.wait_for(milliseconds(20)).code(), Code::timed_out);
    const Lent written_late(store, 1);  // as a GPU would, just before the fence
    gate.open = true;
    EXPECT_TRUE(save.wait().ok());
    EXPECT_EQ(store.load(1), Code::ok);
  }
}

TEST(Transfer, a_deadline_ends_a_wait_for_a_fence_that_never_opens) {
  StoreUnderTest store(store_on({memory_for(8)}));
  ASSERT_TRUE(store);
  Lent block(store, 1);
  Gate gate;
  TransferOptions options;
  options.fence = &gate.fence;
  options.deadline = milliseconds(30);
  Operation save = store->save({&block.transfer, 1}, options);
  EXPECT_EQ(save.wait().code(), Code::timed_out);
  EXPECT_EQ(store.load(1), Code::not_found);
}

TEST(Transfer, who_waits_takes_next_to_no_processor_time) {
  StoreUnderTest store(store_on({memory_for(8), heap(Kind::disk)}));
  ASSERT_TRUE(store);
  Lent block(store, 1);
  Gate gate;
  TransferOptions options;
  options.fence = &gate.fence;
  CompletionQueue completions;
  const std::clock_t begun = std::clock();  // of all threads
  const auto start = std::chrono::steady_clock::now();
  Operation save = store->save({&block.transfer, 1}, options);
  EXPECT_EQ(save.wait_for(milliseconds(200)).code(), Code::timed_out);
  EXPECT_FALSE(completions.wait(milliseconds(200)));
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(400));
  EXPECT_LT(std::clock() - begun, CLOCKS_PER_SEC / 10) << "something spins";
  gate.open = true;
  EXPECT_TRUE(save.wait().ok());
}

TEST(Transfer, cancelling_ends_what_has_not_begun) {
  StoreUnderTest store(store_on({memory_for(8)}));
  ASSERT_TRUE(store);
  Lent block(store, 1);
  Gate gate;
  TransferOptions options;
  options.fence = &gate.fence;
  Operation save = store->save({&block.transfer, 1}, options);
  save.cancel();
  EXPECT_EQ(save.wait().code(), Code::cancelled);
  EXPECT_EQ(store->stats(0).saves_dropped, 0U);  // nobody wanted it any more
}

TEST(Transfer, operations_report_to_one_eventfd_whether_inline_or_not) {
  StoreUnderTest store(store_on({memory_for(8), heap(Kind::disk)}));
  ASSERT_TRUE(store);
  auto completions = EventfdCompletionQueue::create();
  ASSERT_TRUE(completions.ok());
  TransferOptions options;
  options.completions = &(*completions)->queue();
  Lent one(store, 1, 0), two(store, 2, 1), absent(store, 3, 2);
  options.tag = 11;
  Operation inline_save = store->save({&one.transfer, 1}, options);
  EXPECT_TRUE(inline_save.done());
  options.tag = 12;
  options.durable = true;
  Operation durable_save = store->save({&two.transfer, 1}, options);
  options.durable = false;
  options.tag = 13;
  Operation load = store->load({&absent.transfer, 1}, options);
  std::map<std::uint64_t, Code> seen;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (seen.size() < 3 && std::chrono::steady_clock::now() < give_up) {
    ASSERT_TRUE((*completions)->queue().wait(std::chrono::seconds(10)));
    CompletionQueue::Entry entries[4];
    const std::size_t n = (*completions)->drain(entries);
    for (std::size_t i = 0; i < n; ++i)
      seen[entries[i].tag] = entries[i].code;
  }
  EXPECT_EQ(seen, (std::map<std::uint64_t, Code>{
                      {11, Code::ok}, {12, Code::ok}, {13, Code::not_found}}));
  EXPECT_TRUE(durable_save.done());
}

TEST(Transfer, a_durable_save_is_answered_after_its_flush) {
  test::FaultOptions faults;
  faults.write_cache = true;
  const auto disk = heap(Kind::disk);
  const auto cut = std::make_shared<FaultDevice>(disk, faults);
  {
    StoreUnderTest store(store_on({memory_for(8), cut}));
    ASSERT_TRUE(store) << store.error().message();
    EXPECT_EQ(store.save(1), Code::ok);  // in memory only
    TransferOptions options;
    options.durable = true;
    EXPECT_EQ(store.save(1, options), Code::ok);
    EXPECT_EQ(store.save(2, options), Code::ok);
    cut->power_cut(1);
  }
  StoreUnderTest store(store_on({memory_for(8), disk}));
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_EQ(store.load(1), Code::ok);
  EXPECT_EQ(store.load(2), Code::ok);
}

TEST(Transfer, a_disk_that_is_full_in_the_middle_of_a_save_drops_it_and_goes_on) {
  auto disk = std::make_shared<FaultDevice>(heap(Kind::volatile_disk));
  StoreUnderTest store(store_on({disk}));
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(0), Code::ok);
  for (std::uint64_t n = 0; n < 10; ++n)
    disk->inject(n, {.code = Code::no_space}, Transfer::Op::write);
  for (std::uint64_t n = 1; n <= 10; ++n)
    EXPECT_EQ(store.save(n), Code::no_space) << n;
  EXPECT_EQ(store->stats(0).saves_dropped, 10U);
  EXPECT_EQ(store->stats(0).blocks, 1U);
  EXPECT_FALSE(store->stats(0).fenced);  // full is not broken
  for (std::uint64_t n = 0; n <= 10; ++n)
    EXPECT_EQ(store.load(n), n == 0 ? Code::ok : Code::not_found) << n;
  disk->heal();
  for (std::uint64_t n = 1; n <= 10; ++n)
    EXPECT_EQ(store.save(n), Code::ok) << n;
  for (std::uint64_t n = 0; n <= 10; ++n)
    EXPECT_EQ(store.load(n), Code::ok) << n;
}

TEST(Transfer, a_save_whose_write_fails_is_counted_as_dropped) {
  auto disk = std::make_shared<FaultDevice>(heap(Kind::volatile_disk));
  StoreUnderTest store(store_on({disk}));
  ASSERT_TRUE(store) << store.error().message();
  disk->inject(0, {.code = Code::io_error}, Transfer::Op::write);
  EXPECT_EQ(store.save(1), Code::io_error);
  EXPECT_EQ(store->stats(0).saves_dropped, 1U);
  EXPECT_EQ(store->stats(0).blocks, 0U);
}

TEST(Transfer, durable_needs_a_persistent_tier) {
  StoreUnderTest store(store_on({memory_for(8)}));
  ASSERT_TRUE(store);
  TransferOptions options;
  options.durable = true;
  EXPECT_EQ(store.save(1, options), Code::unsupported);
  EXPECT_EQ(store->flush().code(), Code::unsupported);
}

TEST(Transfer, second_touch_admits_only_what_was_used_again) {
  StoreOptions options = store_on({memory_for(8), heap(Kind::disk)});
  options.tiers[1].admission = Admission::second_touch;
  StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store);
  EXPECT_EQ(store.save(1), Code::ok);
  EXPECT_EQ(store.load(1), Code::ok);
  for (std::uint64_t n = 100; n < 140; ++n)
    EXPECT_EQ(store.save(n), Code::ok);
  // Touched, it moves down in its own time; saves meanwhile step around it.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (store.tier_of(1) != 1 && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  EXPECT_EQ(store.tier_of(1), 1);
  EXPECT_EQ(store.load(1), Code::ok);
  EXPECT_EQ(store.tier_of(100), -1);  // not touched: it was forgotten
  EXPECT_EQ(store->stats(1).blocks, 1U);
}

TEST(Transfer, a_codec_can_change_while_old_blocks_still_decode) {
  StoreUnderTest store(store_on({memory_for(8)}));
  ASSERT_TRUE(store);
  EXPECT_EQ(store.save(1), Code::ok);
  ASSERT_TRUE(store->set_codec(0, *find_codec("int8")).ok());
  EXPECT_EQ(store.save(2), Code::ok);
  EXPECT_EQ(store.load(1), Code::ok);
  EXPECT_EQ(store.load(2), Code::internal);  // decoded, but lossy: not the same bytes
  ASSERT_TRUE(store->set_codec(0, *find_codec("raw")).ok());
  EXPECT_EQ(store.save(3), Code::ok);
  EXPECT_EQ(store.load(3), Code::ok);
  EXPECT_EQ(store->set_codec(1, *find_codec("raw")).code(), Code::not_found);
}

TEST(Transfer, layers_can_have_codecs_of_their_own) {
  StoreOptions options = store_on({memory_for(8)});
  options.tiers[0].per_layer = {{{1, 1}, find_codec("int8")}};
  StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store);
  EXPECT_EQ(store.save(1), Code::ok);
  EXPECT_EQ(store.load(1), Code::internal);
  const auto wanted = test::bytes_of_block(small_layout(), 1);
  const auto layer = static_cast<std::ptrdiff_t>(small_layout().layer_bytes());
  EXPECT_TRUE(std::equal(wanted.begin(), wanted.begin() + layer, store.bytes(1).begin()));
  EXPECT_FALSE(
      std::equal(wanted.begin() + layer, wanted.end(), store.bytes(1).begin() + layer));
}

// Moved up for it, two would put each other out of a full tier for ever.
TEST(Transfer, a_flush_leaves_blocks_in_the_persistent_tier_that_has_them) {
  constexpr std::uint64_t kBlocks = 40;
  StoreUnderTest store(
      store_on({std::make_shared<HeapDevice>(100 << 10, Kind::persistent_memory),
                heap(Kind::disk)}));
  ASSERT_TRUE(store) << store.error().message();
  for (std::uint64_t n = 1; n <= kBlocks; ++n)
    ASSERT_EQ(store.save(n), Code::ok) << n;
  ASSERT_TRUE(store->flush().ok());
  const std::uint64_t moved = store->stats(0).promotions_in;
  const std::uint64_t above = store->stats(0).blocks, below = store->stats(1).blocks;
  ASSERT_GE(above + below, kBlocks);
  ASSERT_GT(below, 0U);
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store->stats(0).promotions_in, moved);
  EXPECT_EQ(moved, 0U);
  for (std::uint64_t n = 1; n <= kBlocks; ++n)
    EXPECT_EQ(store.load(n), Code::ok) << n;
}

TEST(Transfer, transposed_blocks_are_coded_in_every_kind_of_tier) {
  for (const Kind kind : {Kind::memory, Kind::disk}) {
    StoreOptions options = store_on({heap(kind)});
    options.layouts[0].kind = BlockLayout::Kind::transposed;
    options.tiers[0].codec = find_codec("lossless");
    const BlockLayout layout = options.layouts[0];
    StoreUnderTest store(std::move(options));
    ASSERT_TRUE(store) << store.error().message();
    std::vector<std::byte> memory(layout.bytes());
    for (std::size_t i = 0; i < memory.size(); i += 5)
      memory[i] = static_cast<std::byte>(i % 3);
    const std::vector<std::byte> wanted = memory;
    const RegionId region = *store->attach(memory);
    const Segment parts[] = {{region, 0, 100}, {region, 100, layout.bytes() - 100}};
    const BlockTransfer block{key_of(7), parts, 0, {}};
    EXPECT_TRUE(store->save({&block, 1}).wait().ok());
    EXPECT_LT(store->stats(0).used, layout.bytes());
    std::fill(memory.begin(), memory.end(), std::byte{0});
    EXPECT_TRUE(store->load({&block, 1}).wait().ok());
    EXPECT_EQ(memory, wanted);
  }
}

TEST(Transfer, one_store_holds_several_layouts_and_refuses_to_mix_them) {
  BlockLayout latent = small_layout();
  latent.kind = BlockLayout::Kind::latent;
  latent.dtype = DType::f32;
  latent.layers = 3;
  StoreOptions options = store_on({heap(Kind::memory), heap(Kind::disk)});
  options.layouts.push_back(latent);
  StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store) << store.error().message();
  std::vector<std::byte> memory = test::bytes_of_block(latent, 7);
  const std::vector<std::byte> wanted = memory;
  const RegionId region = *store->attach(memory);
  const Segment where{region, 0, latent.bytes()};
  BlockTransfer block{key_of(7), {&where, 1}, 0, LayoutId{1}};
  EXPECT_TRUE(store->save({&block, 1}).wait().ok());
  EXPECT_EQ(store.save(8), Code::ok);
  std::fill(memory.begin(), memory.end(), std::byte{0});
  EXPECT_TRUE(store->load({&block, 1}).wait().ok());
  EXPECT_EQ(memory, wanted);
  Lent wrong(store, 7);  // the same key in the other layout
  EXPECT_TRUE(refused(store->load({&wrong.transfer, 1}), "stored in another layout"));
  block.layout = LayoutId{2};
  EXPECT_TRUE(refused(store->load({&block, 1}), "no such layout"));
}

TEST(Transfer, memory_that_is_not_registered_or_of_another_size_is_refused) {
  StoreUnderTest store(store_on({memory_for(8)}));
  ASSERT_TRUE(store);
  const char* const kOutside = "a segment is not inside a region";
  const char* const kLength = "its segments are not as long as its layers";
  const std::pair<Segment, const char*> rows[] = {
      {{RegionId{77}, 0, small_layout().bytes()}, kOutside},
      {{store.place(0).region, 1ULL << 40, small_layout().bytes()}, kOutside},
      {{store.place(0).region, ~0ULL, small_layout().bytes()}, kOutside},
      {{store.place(0).region, 0, small_layout().bytes() - 1}, kLength},
      {{store.place(0).region, 0, 0}, kLength},
      {{store.place(0).region, 0, ~0ULL}, kLength}};
  for (const auto& [wrong, why] : rows) {
    const BlockTransfer block{key_of(1), {&wrong, 1}, 0, {}};
    EXPECT_TRUE(refused(store->save({&block, 1}), why));
    EXPECT_TRUE(refused(store->load({&block, 1}), why));
  }
  // An id that was given back stays without meaning, whatever is registered after it.
  std::vector<std::byte> first(small_layout().bytes()), second = first;
  const RegionId stale = *store->attach(first);
  ASSERT_TRUE(store->detach(stale).ok());
  const RegionId fresh = *store->attach(second);
  EXPECT_NE(stale, fresh);
  const Segment gone{stale, 0, small_layout().bytes()};
  const BlockTransfer block{key_of(1), {&gone, 1}, 0, {}};
  EXPECT_TRUE(refused(store->save({&block, 1}), kOutside));
  EXPECT_EQ(store.load(1), Code::not_found);
}

TEST(Transfer, options_that_would_have_no_effect_are_refused) {
  StoreUnderTest store(store_on({memory_for(8), heap(Kind::disk)}));
  ASSERT_TRUE(store);
  ASSERT_GT(small_layout().layers, 1U);
  TransferOptions options;
  const Lent block(store, 1);
  for (const LayerRange part : {LayerRange{0, 1}, LayerRange{1, 0}}) {
    options.layers = part;
    EXPECT_TRUE(refused(store->save({&block.transfer, 1}, options), "of whole blocks"));
  }
  options.layers = {7, 1};
  EXPECT_TRUE(refused(store->save({&block.transfer, 1}, options), "no such layers"));
  EXPECT_TRUE(refused(store->load({&block.transfer, 1}, options), "no such layers"));
  EXPECT_EQ(store.tier_of(1), BlockStore::kAbsent);
  options.layers = {0, small_layout().layers};  // all of it
  EXPECT_EQ(store.save(1, options), Code::ok);
  options = {};
  options.durable = true;
  EXPECT_TRUE(refused(store->load({&block.transfer, 1}, options), "cannot be durable"));
  EXPECT_EQ(store.load(1), Code::ok);
}

TEST(Transfer, sizes_that_overflow_are_refused) {
  StoreUnderTest store(store_on({memory_for(8)}));
  ASSERT_TRUE(store);
  std::vector<std::byte> memory(small_layout().bytes());
  const std::size_t last = UINTPTR_MAX - reinterpret_cast<std::uintptr_t>(memory.data());
  for (const std::size_t size : {SIZE_MAX, last + 2}) {
    EXPECT_EQ(store->attach({memory.data(), size}).error().code(),
              Code::invalid_argument);
  }
  EXPECT_EQ(store->attach({static_cast<std::byte*>(nullptr), 1}).error().code(),
            Code::invalid_argument);
  // Nothing says that so much memory is not there; but no segments may wrap around.
  constexpr std::uint64_t kQuarter = 1ULL << 62;
  const Result<RegionId> region = store->attach({memory.data(), kQuarter});
  ASSERT_TRUE(region.ok());
  std::vector<Segment> wraps(4, Segment{*region, 0, kQuarter});
  wraps.push_back({*region, 0, small_layout().bytes()});
  const BlockTransfer block{key_of(1), wraps, 0, {}};
  EXPECT_TRUE(refused(store->save({&block, 1}), "its segments are not as long"));
  EXPECT_TRUE(refused(store->load({&block, 1}), "its segments are not as long"));
  EXPECT_EQ(store.load(1), Code::not_found);
  EXPECT_TRUE(store->detach(*region).ok());
}

TEST(Transfer, a_codec_for_layers_that_no_layout_has_is_refused) {
  BlockLayout deep = small_layout();
  deep.layers = 5;
  StoreOptions options = store_on({memory_for(8)});
  options.layouts.push_back(deep);
  StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store) << store.error().message();
  const Codec& int8 = *find_codec("int8");
  for (const LayerRange beyond : {LayerRange{UINT32_MAX, 0}, LayerRange{5, 1},
                                  LayerRange{0, 6}, LayerRange{1, UINT32_MAX}}) {
    EXPECT_EQ(store->set_codec(0, int8, beyond).code(), Code::invalid_argument);
    StoreOptions refused = store_on({memory_for(8)});
    refused.layouts.push_back(deep);
    refused.tiers[0].per_layer = {{beyond, &int8}};
    EXPECT_EQ(BlockStore::open(std::move(refused)).error().code(),
              Code::invalid_argument);
  }
  EXPECT_TRUE(store->set_codec(0, int8, {2, 3}).ok());  // of the second layout
  EXPECT_EQ(store.save(1), Code::ok);
  EXPECT_EQ(store.load(1), Code::ok);  // the first keeps its own
}

TEST(Transfer, a_region_in_use_cannot_be_detached) {
  StoreUnderTest store(store_on({memory_for(8)}));
  ASSERT_TRUE(store);
  Lent block(store, 1);
  Gate gate;
  TransferOptions options;
  options.fence = &gate.fence;
  Operation save = store->save({&block.transfer, 1}, options);
  EXPECT_EQ(store->detach(block.where.region).code(), Code::busy);
  gate.open = true;
  EXPECT_TRUE(save.wait().ok());
  EXPECT_TRUE(store->detach(block.where.region).ok());
  EXPECT_EQ(store->detach(block.where.region).code(), Code::not_found);
}

}  // namespace
}  // namespace speckv

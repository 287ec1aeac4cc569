// Every n-th operator new fails, or it and all that follow, or the n-th start of a
// thread: the library answers, nothing throws, hangs, leaks or is wrong, and with memory
// again all works. Through the C++ API, cxlspeckv.h and speckv.h.
#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

#include <gtest/gtest.h>
#include <unistd.h>

#include "cxlspeckv/cxlspeckv.h"
#include "cxlspeckv/open_store.hpp"
#include "cxlspeckv/speckv.h"

#include "capi/capi.hpp"
#include "shortage/shortage.hpp"
#include "support/invariants.hpp"
#include "support/sample.hpp"
#include "support/sequence_rows.hpp"
#include "support/store_fixture.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBlocks = 12;
constexpr std::uint64_t kNever = ~0ULL;

bool is_shortage(Code code) {
  return code == Code::no_space || code == Code::busy;
}

// Runs `script` once for every place that can fail (at scale 1 a sample of them), until
// it reaches its end before one does.
void sweep(Shortage what, std::uint64_t least, const std::function<void()>& script) {
  script();  // what the library keeps for good is there after this
  want(what, kNever);
  script();
  supply();
  const std::uint64_t step = std::max<std::uint64_t>(asked() / sampled(scaled(200)), 1);
  std::uint64_t hits = 0;
  for (std::uint64_t n = 0;; n += step) {
    SCOPED_TRACE("number " + std::to_string(n));
    const std::int64_t before = live();
    const auto begun = std::chrono::steady_clock::now();
    ::alarm(60);  // a hang ends the program
    want(what, n);
    script();
    supply();
    ::alarm(0);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, 20s);
    EXPECT_EQ(live(), before) << "allocations were not given back";
    if (testing::Test::HasFailure()) return;
    if (denied() == 0) break;
    ++hits;
  }
  EXPECT_GE(hits, sampled(std::min(least, scaled(static_cast<double>(least)))));
}

std::string unique_name() {
  return "cxlspeckv-starved-" + std::to_string(::getpid());
}
// A pool that each run of a script begins anew.
const std::string& pool_file() {
  static const std::string path = "/dev/shm/" + unique_name() + ".pool";
  return path;
}

// What a script needs is there before memory runs out.
struct Bench {
  Bench() : memory(kBlocks * 2 * layout.bytes()) {
    for (std::uint64_t i = 0; i <= kBlocks; ++i) {
      blocks.push_back(bytes_of_block(layout, i));
      keys.push_back(key_of(i));
    }
  }
  Bytes in(std::size_t slot) const {
    return Bytes(memory).subspan(slot * layout.bytes(), layout.bytes());
  }
  void put(std::size_t slot, std::size_t block) {
    std::copy(blocks[block].begin(), blocks[block].end(),
              memory.begin() + static_cast<std::ptrdiff_t>(slot * layout.bytes()));
  }
  bool holds(std::size_t slot, std::size_t block) const {
    return std::memcmp(in(slot).data(), blocks[block].data(), layout.bytes()) == 0;
  }
  const BlockLayout layout = small_layout();
  std::vector<std::byte> memory;
  std::vector<std::vector<std::byte>> blocks;
  std::vector<BlockKey> keys;
};

struct Case {
  const char* name;
  Shortage what;
  std::uint64_t least;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }
};

class OutOf : public testing::TestWithParam<Case> {
 protected:
  void run(const std::function<void()>& script) {
    sweep(GetParam().what, GetParam().least, script);
  }
  Bench bench_;
};

// ---- the C++ API

// Opens the store, in the second try with memory.
std::unique_ptr<BlockStore> open(const StoreConfig& config) {
  auto opened = open_store(config);
  if (!opened) {
    supply();
    EXPECT_TRUE(is_shortage(opened.error().code())) << opened.error().message();
    opened = open_store(config);
  }
  if (!opened) {
    ADD_FAILURE() << opened.error().message();
    return nullptr;
  }
  return *std::move(opened);
}

class Client {
 public:
  Client(BlockStore& store, Bench& bench) : store_(store), bench_(bench) {
    auto region = store.attach(bench.memory);
    if (!region) {
      supply();
      region = store.attach(bench.memory);
    }
    EXPECT_TRUE(region.ok());
    region_ = region.ok() ? *region : RegionId{};
  }
  Code save(std::size_t block, bool durable) {
    bench_.put(block % kBlocks, block);
    TransferOptions options;
    options.durable = durable;
    options.completions = &completions_;
    return run(block, block % kBlocks, true, options);
  }
  Code load(std::size_t block) {
    const std::size_t slot = kBlocks + block % kBlocks;
    const Code code = run(block, slot, false, {.completions = &completions_});
    if (code == Code::ok && !bench_.holds(slot, block)) return Code::internal;
    return code;
  }

 private:
  Code run(std::size_t block, std::size_t slot, bool saving,
           const TransferOptions& options) {
    const Segment where{region_, slot * bench_.layout.bytes(), bench_.layout.bytes()};
    const BlockTransfer transfer{bench_.keys[block], {&where, 1}, 0, {}};
    Operation op = saving ? store_.save({&transfer, 1}, options)
                          : store_.load({&transfer, 1}, options);
    const Status status = op.wait();
    const Code code = op.code(0);
    EXPECT_EQ(op.size(), 1U);
    EXPECT_EQ(status.code(), code);
    // Announced exactly if it was begun.
    CompletionQueue::Entry entry{};
    EXPECT_EQ(completions_.poll({&entry, 1}), op.refused() ? 0U : 1U);
    EXPECT_EQ(entry.code, op.refused() ? Code::ok : code);
    return code;
  }

  BlockStore& store_;
  Bench& bench_;
  RegionId region_{};
  CompletionQueue completions_;
};

void use_store(const StoreConfig& config, Bench& bench) {
  auto store = open(config);
  if (store == nullptr) return;
  const bool persistent = config.tiers.size() > 1;
  Client client(*store, bench);
  std::array<Code, kBlocks> saved{};
  for (std::size_t i = 0; i < kBlocks; ++i) {
    saved[i] = client.save(i, persistent && i % 4 == 1);
    EXPECT_TRUE(saved[i] == Code::ok || is_shortage(saved[i])) << to_string(saved[i]);
  }
  for (std::size_t i = 0; i < kBlocks; ++i) {
    const Code code = client.load(i);
    EXPECT_TRUE(code == Code::ok || is_shortage(code) || code == Code::not_found)
        << to_string(code);
  }
  EXPECT_LE(store->match(bench.keys), kBlocks);
  const Status promoted = store->promote(bench.keys);
  EXPECT_TRUE(promoted.ok() || is_shortage(promoted.code()));
  {
    auto pin = store->pin(bench.keys[2]);
    auto kept = store->retain(bench.keys[3]);
    (void)store->erase(std::span(bench.keys).first(1));
    const Status flushed = store->flush();
    EXPECT_TRUE(flushed.ok() || !persistent || is_shortage(flushed.code()));
    (void)store->set_codec(0, *find_codec(CodecId::raw));
  }
  supply();
  EXPECT_EQ(check_invariants(*store), "");
  for (std::size_t i = 1; i < kBlocks; ++i) {
    const Code code = client.load(i);
    if (saved[i] == Code::ok && persistent) {
      EXPECT_EQ(code, Code::ok) << "block " << i;
    } else {
      EXPECT_TRUE(code == Code::ok || code == Code::not_found) << to_string(code);
    }
  }
  EXPECT_EQ(client.save(kBlocks, persistent), Code::ok);
  EXPECT_EQ(client.load(kBlocks), Code::ok);
  (void)store->purge(TenantId{});
  EXPECT_EQ(check_invariants(*store), "");
  EXPECT_EQ(used_bytes(*store), 0U);
}

TEST_P(OutOf, a_private_store) {
  StoreConfig config;
  config.layouts = {bench_.layout};
  config.tiers = {{.device = "dram:40K"},
                  {.device = "file:" + pool_file() + "?size=1M&engine=pread"}};
  run([&] {
    ::unlink(pool_file().c_str());
    use_store(config, bench_);
  });
  ::unlink(pool_file().c_str());
}

TEST_P(OutOf, a_pool_that_is_opened_again) {
  StoreConfig config;
  config.layouts = {bench_.layout};
  config.tiers = {{.device = "dram:40K"}, {.device = "file:" + pool_file() + "?size=1M"}};
  ::unlink(pool_file().c_str());
  {
    auto store = open(config);
    ASSERT_NE(store, nullptr);
    Client client(*store, bench_);
    for (std::size_t i = 0; i < kBlocks; ++i)
      ASSERT_EQ(client.save(i, true), Code::ok);
  }
  run([&] {  // nothing that was flushed is given up for want of memory
    auto store = open(config);
    ASSERT_NE(store, nullptr);
    Client client(*store, bench_);
    supply();
    for (std::size_t i = 0; i < kBlocks; ++i)
      EXPECT_EQ(client.load(i), Code::ok) << "block " << i;
    EXPECT_EQ(check_invariants(*store), "");
  });
  ::unlink(pool_file().c_str());
}

TEST_P(OutOf, a_named_store) {
  StoreConfig config;
  config.layouts = {bench_.layout};
  config.tiers = {{.device = "dram:64K"}};
  config.name = "shm:/" + unique_name();
  run([&] {
    use_store(config, bench_);
    EXPECT_TRUE(remove_store(config.name).ok());
  });
}

// What a sequence shows is what was written to it.
void check_rows(Sequence& sequence, const BlockLayout& layout) {
  auto view = sequence.view();
  if (view.ok()) {
    EXPECT_EQ(wrong_rows(*view, layout, sequence.tokens()), "");
  } else {
    EXPECT_TRUE(is_shortage(view.error().code())) << view.error().message();
  }
}

void use_sequences(const StoreConfig& config, const BlockLayout& layout) {
  static const std::vector<std::uint32_t> tokens = [] {
    std::vector<std::uint32_t> all(100);
    for (std::uint32_t i = 0; i < all.size(); ++i)
      all[i] = i * 7;
    return all;
  }();
  auto store = open(config);
  if (store == nullptr) return;
  {
    const Sequence::Options options{.model = "a model"};
    auto first = Sequence::create(*store, options);
    if (!first) {
      supply();
      first = Sequence::create(*store, options);
    }
    ASSERT_TRUE(first.ok()) << first.error().message();
    (void)append_rows(**first, layout, std::span(tokens).first(53));
    check_rows(**first, layout);
    auto fork = (*first)->fork();
    if (fork.ok()) {
      (void)append_rows(**fork, layout, std::span(tokens).subspan(60, 20));
      check_rows(**fork, layout);
      (void)(*fork)->truncate(std::min((*fork)->size(), 20U));
      check_rows(**fork, layout);
    }
    auto other = Sequence::create(*store, options);
    if (other.ok()) {
      (void)(*other)->adopt(tokens);
      check_rows(**other, layout);
    }
    (void)(*first)->stage();
    supply();
    EXPECT_TRUE(append_rows(**first, layout, std::span(tokens).subspan(53)).ok());
    check_rows(**first, layout);
  }
  (void)store->purge(TenantId{});
  EXPECT_EQ(check_invariants(*store), "");
  EXPECT_EQ(used_bytes(*store), 0U);
}

TEST_P(OutOf, sequences) {
  StoreConfig config;
  config.layouts = {bench_.layout};
  config.tiers = {{.device = "dram:80K"}, {.device = "file:" + pool_file() + "?size=1M"}};
  run([&] {
    ::unlink(pool_file().c_str());
    use_sequences(config, bench_.layout);
  });
  ::unlink(pool_file().c_str());
}

// ---- cxlspeckv.h

bool is_shortage(speckv_status status) {
  return is_shortage(static_cast<Code>(status));
}

// In the second try with memory.
template <class F>
void insist(F&& call) {
  speckv_status status = call();
  if (status != SPECKV_STATUS_OK) {
    supply();
    EXPECT_TRUE(is_shortage(status)) << speckv_last_error();
    status = call();
  }
  EXPECT_EQ(status, SPECKV_STATUS_OK) << speckv_last_error();
}

void use_c(const std::string& uri, Bench& bench) {
  const speckv_layout layout{2, 2, 16, 16, SPECKV_F16, SPECKV_KV, {0, 0}};
  speckv_tier_options tiers[2] = {};
  tiers[0].size = tiers[1].size = sizeof tiers[0];
  tiers[0].device = "dram:40K";
  tiers[1].device = uri.c_str();
  speckv_store_options options = {};
  options.size = sizeof options;
  options.layouts = &layout;
  options.layout_count = 1;
  options.tiers = tiers;
  options.tier_count = 2;
  speckv_store* store = nullptr;
  insist([&] { return speckv_store_open(&options, &store); });
  ASSERT_NE(store, nullptr);
  std::uint32_t region = 0;
  insist([&] {
    return speckv_store_attach(store, bench.memory.data(), bench.memory.size(), &region);
  });
  std::array<bool, kBlocks> saved{};
  const auto transfer = [&](std::size_t i, std::size_t slot, bool saving) {
    const speckv_segment where{slot * bench.layout.bytes(), bench.layout.bytes(), region,
                               0};
    speckv_block block = {};
    block.key = capi::key_of(bench.keys[i]);
    block.segments = &where;
    block.segment_count = 1;
    speckv_op* op = nullptr;
    const speckv_status begun = saving
                                    ? speckv_store_save(store, &block, 1, nullptr, &op)
                                    : speckv_store_load(store, &block, 1, nullptr, &op);
    if (begun != SPECKV_STATUS_OK) return begun;
    const speckv_status ended = speckv_op_wait(op, SPECKV_FOREVER);
    speckv_op_free(op);
    return ended;
  };
  for (std::size_t i = 0; i < kBlocks; ++i) {
    bench.put(i, i);
    const speckv_status status = transfer(i, i, true);
    EXPECT_TRUE(status == SPECKV_STATUS_OK || is_shortage(status));
    saved[i] = status == SPECKV_STATUS_OK;
  }
  for (std::size_t i = 0; i < kBlocks; ++i) {
    if (transfer(i, kBlocks + i, false) == SPECKV_STATUS_OK) {
      EXPECT_TRUE(bench.holds(kBlocks + i, i));
    }
  }
  const speckv_key key = capi::key_of(bench.keys[5]);
  std::size_t count = 0;
  (void)speckv_store_match(store, &key, 1, &count);
  (void)speckv_store_promote(store, &key, 1);
  speckv_pin* pin = nullptr;
  if (speckv_store_pin(store, &key, &pin) == SPECKV_STATUS_OK) speckv_pin_free(pin);
  (void)speckv_store_flush(store);
  supply();
  EXPECT_EQ(check_invariants(*store->store), "");
  for (std::size_t i = 0; i < kBlocks; ++i) {
    if (!saved[i]) continue;
    EXPECT_EQ(transfer(i, kBlocks + i, false), SPECKV_STATUS_OK);
    EXPECT_TRUE(bench.holds(kBlocks + i, i));
  }
  insist([&] { return speckv_store_erase(store, &key, 1, &count); });
  insist([&] { return speckv_store_detach(store, region); });
  insist([&] { return speckv_store_close(store); });
}

TEST_P(OutOf, a_store_from_c) {
  const std::string uri = "file:" + pool_file() + "?size=1M";
  run([&] {
    ::unlink(pool_file().c_str());
    use_c(uri, bench_);
  });
  ::unlink(pool_file().c_str());
}

// ---- speckv.h

void use_published_calls() {
  constexpr std::size_t kBytes = 200'000, kStride = 16'384, kSpan = 4096;
  if (speckv_init("soft:?size=1M&window=64K") != SPECKV_OK) {
    supply();
    ASSERT_EQ(speckv_init("soft:?size=1M&window=64K"), SPECKV_OK) << speckv_last_error();
  }
  std::array<speckv_handle_t, 2> handles{};
  for (speckv_handle_t& handle : handles) {
    if (speckv_alloc(kBytes, nullptr, &handle) != SPECKV_OK) {
      supply();
      EXPECT_EQ(speckv_alloc(kBytes, nullptr, &handle), SPECKV_OK) << speckv_last_error();
    }
  }
  std::array<std::array<int, kBytes / kStride + 1>, 2> written{};  // 0: zeros
  const auto visit = [&](std::size_t h, std::size_t at, int round) {
    void* address = nullptr;
    if (speckv_access(handles[h], at, kSpan, &address) != SPECKV_OK) return false;
    int& value = written[h][at / kStride];
    const auto* const bytes = static_cast<const unsigned char*>(address);
    EXPECT_TRUE(std::all_of(bytes, bytes + kSpan, [&](int b) { return b == value; }));
    value =
        static_cast<int>(h * 100 + at / kStride * 3 + static_cast<std::size_t>(round));
    std::memset(address, value, kSpan);
    return true;
  };
  for (int round = 1; round < 3; ++round) {
    for (std::size_t at = 0; at + kSpan <= kBytes; at += kStride) {
      for (std::size_t h = 0; h < handles.size(); ++h)
        (void)visit(h, at, round);
    }
    const std::int32_t recent = 1;
    (void)speckv_prefetch(1, 0, 0, 4, &recent, 1);
  }
  supply();
  for (std::size_t at = 0; at + kSpan <= kBytes; at += kStride) {
    for (std::size_t h = 0; h < handles.size(); ++h)
      EXPECT_TRUE(visit(h, at, 3)) << speckv_last_error();
  }
  for (const speckv_handle_t handle : handles)
    EXPECT_EQ(speckv_free(handle), SPECKV_OK);
  speckv_finalize();
}

TEST_P(OutOf, paged_memory) {
  run(use_published_calls);
}

INSTANTIATE_TEST_SUITE_P(All, OutOf,
                         testing::Values(Case{"one_allocation", Shortage::one_allocation,
                                              50},
                                         Case{"memory", Shortage::memory, 50},
                                         Case{"one_thread", Shortage::one_thread, 1}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace speckv::test

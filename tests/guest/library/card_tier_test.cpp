// A card as a tier of the library: what a store does while the card fails, is reset, or
// is taken away beneath it.
#include <atomic>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "support/blocks.hpp"
#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBlocks = 24;
constexpr const char* kDevice = "cxl:/dev/speckv1?size=4M&timeout=2";
constexpr const char* kDriver = "/sys/bus/platform/drivers/speckv_soft/";
constexpr const char* kSysfs = "/sys/class/speckv/speckv1/";
constexpr const char* kDebugfs = "/sys/kernel/debug/speckv/speckv1/";

bool write_to(const std::string& name, const std::string& text) {
  std::ofstream file(name);
  file << text << std::flush;
  return file.good();
}

class CardTier : public testing::Test {
 protected:
  void SetUp() override {
    auto device = open_device(kDevice);
    ASSERT_TRUE(device.ok()) << device.error().message();
    EXPECT_TRUE((*device)->info().simulated);
    StoreOptions options;
    options.layouts = BlockPool::layouts();
    options.tiers.push_back(tier_on("card", *std::move(device)));
    auto store = BlockStore::open(std::move(options));
    ASSERT_TRUE(store.ok()) << store.error().message();
    store_ = *std::move(store);
    for (std::uint64_t n = 0; n < kBlocks; ++n)
      ASSERT_EQ(move(n, true), Code::ok);
  }

  // Saves or loads a block; what was loaded is compared.
  Code move(std::uint64_t n, bool save) {
    const Bytes wanted = pool_.bytes(n);
    std::vector<std::byte> memory(wanted.begin(), wanted.end());
    if (!save) std::fill(memory.begin(), memory.end(), std::byte{0xA5});
    const RegionId region = *store_->attach(memory);
    const Segment segment{region, 0, memory.size()};
    const BlockTransfer block{.key = pool_.key(n),
                              .memory = {&segment, 1},
                              .layout = LayoutId{BlockPool::layout_id(n)}};
    Operation op = save ? store_->save({&block, 1}) : store_->load({&block, 1});
    (void)op.wait();
    const Code code = op.code(0);
    if (!save && code == Code::ok) {
      EXPECT_TRUE(std::equal(memory.begin(), memory.end(), wanted.begin())) << n;
    }
    EXPECT_TRUE(store_->detach(region).ok());
    return code;
  }
  // Loads until one has the wanted end, for half a minute.
  bool load_until(bool good) {
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    for (std::uint64_t n = 0; std::chrono::steady_clock::now() < deadline; ++n) {
      if ((move(n % kBlocks, false) == Code::ok) == good) return true;
    }
    return false;
  }

  bool fenced_in_time() {
    const auto deadline = std::chrono::steady_clock::now() + 30s;
    while (!store_->stats(0).fenced && std::chrono::steady_clock::now() < deadline)
      (void)move(0, true);
    return store_->stats(0).fenced;
  }

  const BlockPool pool_{kBlocks};
  std::unique_ptr<BlockStore> store_;
};

TEST_F(CardTier, HoldsWhatWasSaved) {
  for (std::uint64_t n = 0; n < kBlocks; ++n)
    EXPECT_EQ(move(n, false), Code::ok);
}

// The rings are taken away under a queue at work: the tier is fenced, nobody hangs, and
// nothing that is loaded is wrong.
TEST_F(CardTier, IsFencedWhenTheCardGoes) {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> loaded{0};
  std::vector<std::jthread> threads;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    threads.emplace_back([&, seed] {
      for (std::uint64_t n = seed; !stop.load(); ++n)
        loaded += move(n % kBlocks, false) == Code::ok ? 1 : 0;
    });
  }
  while (loaded.load() < 50)
    std::this_thread::yield();
  ASSERT_TRUE(write_to(std::string(kDriver) + "unbind", "speckv_soft.1"));
  EXPECT_TRUE(load_until(false));
  EXPECT_TRUE(fenced_in_time());
  stop.store(true);
  threads.clear();
  EXPECT_EQ(store_->match(pool_.keys()), 0U);
  store_.reset();
  EXPECT_FALSE(open_device(kDevice).ok());
  ASSERT_TRUE(write_to(std::string(kDriver) + "bind", "speckv_soft.1"));
  EXPECT_TRUE(open_device(kDevice).ok());
}

// What is not answered by its deadline is lost; late answers do no harm.
TEST_F(CardTier, IsFencedWhileTheCardStandsStill) {
  ASSERT_TRUE(write_to(std::string(kDebugfs) + "hold", "1"));
  EXPECT_TRUE(load_until(false));
  EXPECT_TRUE(fenced_in_time());
  ASSERT_TRUE(write_to(std::string(kDebugfs) + "hold", "0"));
  EXPECT_TRUE(load_until(true));
  for (std::uint64_t n = 0; n < kBlocks; ++n)
    EXPECT_EQ(move(n, false), Code::ok) << n;
}

// A fatal card answers nothing; once it was reset, the tier is back, with its bytes.
TEST_F(CardTier, ComesBackAfterAReset) {
  ASSERT_TRUE(write_to(std::string(kDebugfs) + "inject", "1 0"));
  EXPECT_TRUE(load_until(false));
  ASSERT_TRUE(write_to(std::string(kSysfs) + "reset", "1"));
  EXPECT_TRUE(load_until(true));
  for (std::uint64_t n = 0; n < kBlocks; ++n)
    EXPECT_EQ(move(n, false), Code::ok) << n;
}

TEST_F(CardTier, PoisonedMemoryIsAMissAndNothingElse) {
  for (std::uint64_t at = 0; at < 4U << 20; at += 512)
    ASSERT_TRUE(write_to(std::string(kDebugfs) + "inject", "2 " + std::to_string(at)));
  EXPECT_NE(move(3, false), Code::ok);
  EXPECT_EQ(move(3, true), Code::ok);  // writing whole lines heals them
}

TEST(CardDevice, IsOpenedOnceAndSaysWhatIsWrong) {
  const auto code = [](const char* uri) {
    const auto device = open_device(uri);
    return device.ok() ? Code::ok : device.error().code();
  };
  EXPECT_EQ(code("cxl:/dev/speckv1?size=1000"), Code::invalid_argument);
  EXPECT_EQ(code("cxl:/dev/speckv1?size=1T"), Code::no_space);
  EXPECT_EQ(code("cxl:/dev/speckv63"), Code::not_found);
  EXPECT_EQ(code("cxl:/dev/null"), Code::unsupported);
  auto all = open_device("cxl:/dev/speckv1");
  ASSERT_TRUE(all.ok());
  EXPECT_EQ((*all)->info().capacity, 64U << 20);
  EXPECT_EQ(code("cxl:/dev/speckv1"), Code::no_space);
  all->reset();
  EXPECT_EQ(code("cxl:/dev/speckv1"), Code::ok);
}

}  // namespace
}  // namespace speckv::test

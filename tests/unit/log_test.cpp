// What a store says, and that it says it to the sink alone.
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "cxlspeckv/open_store.hpp"

#include "store/impl.hpp"
#include "support/fault_device.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using namespace std::chrono_literals;

class Lines {
 public:
  LogSink sink() { return {&Lines::write, this}; }
  bool has(LogLevel level, std::string_view text) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [at, line] : lines_)
      if (at == level && line.find(text) != std::string::npos) return true;
    return false;
  }

 private:
  static void write(void* context, LogLevel level, std::string_view text) {
    auto& lines = *static_cast<Lines*>(context);
    const std::lock_guard lock(lines.mutex_);
    lines.lines_.emplace_back(level, text);
  }
  mutable std::mutex mutex_;
  std::vector<std::pair<LogLevel, std::string>> lines_;
};

TEST(Log, tells_what_a_pool_holds_and_what_a_device_only_plays) {
  const std::string path =
      testing::TempDir() + "speckv-log-" + std::to_string(::getpid());
  Lines lines;
  StoreConfig config;
  config.layouts = {test::small_layout()};
  config.tiers = {{.device = "soft:1M"},
                  {.device = "file:" + path + "?size=1M&engine=pread"}};
  config.log = lines.sink();
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const auto store = open_store(config);
  EXPECT_TRUE(store.ok());
  EXPECT_TRUE(lines.has(LogLevel::info, "tier file1: 0 blocks found again, 0 damaged"));
  EXPECT_TRUE(lines.has(LogLevel::warning, "tier soft0: the card's engine in software"));
  EXPECT_TRUE(lines.has(LogLevel::warning, "pread and pwrite instead of io_uring"));
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  (void)::unlink(path.c_str());
}

TEST(Log, tells_that_a_tier_is_fenced_and_that_it_is_back) {
  const auto heap =
      std::make_shared<test::HeapDevice>(300 << 10, test::HeapDevice::Kind::disk);
  const auto device = std::make_shared<test::FaultDevice>(heap);
  Lines lines;
  StoreOptions options;
  options.layouts = {test::small_layout()};
  options.tiers.push_back(test::tier_on("slow", device));
  options.log = lines.sink();
  test::StoreUnderTest store(std::move(options));
  ASSERT_TRUE(store) << store.error().message();
  ASSERT_EQ(store.save(1), Code::ok);
  device->fail_all();
  for (int i = 0; i < 5; ++i)
    EXPECT_NE(store.load(1), Code::ok);
  EXPECT_TRUE(lines.has(LogLevel::error, "tier slow is fenced after io_error"));
  EXPECT_FALSE(lines.has(LogLevel::info, "answers again"));
  device->heal();
  const auto give_up = std::chrono::steady_clock::now() + 10s;
  while (store->stats(0).fenced && std::chrono::steady_clock::now() < give_up)
    store->impl().services.changes.nap(steady_clock());
  EXPECT_TRUE(lines.has(LogLevel::info, "tier slow answers again"));
}

}  // namespace
}  // namespace speckv

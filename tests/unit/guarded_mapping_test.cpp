// Mappings that are taken away (device/guarded_mapping.hpp): here, a file that is cut
// off.
#include "device/guarded_mapping.hpp"

#include <csetjmp>
#include <csignal>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/os.hpp"

namespace speckv {
namespace {

constexpr std::size_t kPage = 4096;

Fd file_of(std::size_t bytes) {
  Fd file(::memfd_create("speckv", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(file.get(), static_cast<off_t>(bytes)), 0);
  return file;
}

TEST(GuardedMapping, what_is_taken_away_reads_as_zeros_and_says_so) {
  const Fd file = file_of(3 * kPage);
  auto mapping = GuardedMapping::map(file.get(), kPage, 2 * kPage);
  ASSERT_TRUE(mapping.ok()) << mapping.error().message();
  volatile std::byte* bytes = mapping->data();
  bytes[0] = std::byte{7};
  EXPECT_FALSE(mapping->lost());
  ASSERT_EQ(::ftruncate(file.get(), 0), 0);
  EXPECT_TRUE(bytes[kPage] == std::byte{0});
  EXPECT_TRUE(mapping->lost());
  EXPECT_TRUE(bytes[0] == std::byte{0});
  bytes[0] = std::byte{9};  // goes nowhere
  EXPECT_TRUE(bytes[0] == std::byte{9});
}

TEST(GuardedMapping, only_the_mapping_that_was_taken_away_is_lost) {
  const Fd first = file_of(kPage), second = file_of(kPage);
  auto gone = GuardedMapping::map(first.get(), 0, kPage);
  auto kept = GuardedMapping::map(second.get(), 0, kPage);
  ASSERT_TRUE(gone.ok() && kept.ok());
  *kept->data() = std::byte{5};
  ASSERT_EQ(::ftruncate(first.get(), 0), 0);
  EXPECT_TRUE(*static_cast<volatile std::byte*>(gone->data()) == std::byte{0});
  EXPECT_TRUE(gone->lost());
  EXPECT_FALSE(kept->lost());
  EXPECT_EQ(*kept->data(), std::byte{5});
  EXPECT_TRUE(GuardedMapping().lost());
}

TEST(GuardedMapping, rows_of_the_table_are_used_again) {
  const Fd file = file_of(kPage);
  for (int i = 0; i < 3000; ++i) {
    auto mapping = GuardedMapping::map(file.get(), 0, kPage);
    ASSERT_TRUE(mapping.ok()) << i;
    ASSERT_FALSE(mapping->lost());
  }
  EXPECT_FALSE(GuardedMapping::map(-1, 0, kPage).ok());
}

sigjmp_buf out_of_the_handler;

TEST(GuardedMappingDeathTest, any_other_bus_error_is_the_programs) {
  // The handler that a program had installed before its first card.
  const auto somebody_elses_handler_is_called = [] {
    struct sigaction action {};
    action.sa_handler = [](int) { ::siglongjmp(out_of_the_handler, 1); };
    ::sigaction(SIGBUS, &action, nullptr);
    const Fd file = file_of(kPage), other = file_of(kPage);
    auto guarded = GuardedMapping::map(file.get(), 0, kPage);
    void* plain = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, other.get(), 0);
    if (!guarded.ok() || ::ftruncate(other.get(), 0) != 0) ::_exit(1);
    if (sigsetjmp(out_of_the_handler, 1) != 0) ::_exit(guarded->lost() ? 2 : 0);
    static_cast<void>(*static_cast<volatile char*>(plain));
    ::_exit(3);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(somebody_elses_handler_is_called(), testing::ExitedWithCode(0), "");
  const auto nobody_handles_it = [] {
    ::signal(SIGBUS, SIG_DFL);
    const Fd file = file_of(kPage), other = file_of(kPage);
    auto guarded = GuardedMapping::map(file.get(), 0, kPage);
    void* plain = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, other.get(), 0);
    if (!guarded.ok() || ::ftruncate(other.get(), 0) != 0) ::_exit(1);
    static_cast<void>(*static_cast<volatile char*>(plain));
    ::_exit(3);
  };
  EXPECT_EXIT(nobody_handles_it(), testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace speckv

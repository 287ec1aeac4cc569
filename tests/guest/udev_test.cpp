// Cards as udev presents them (guest.py --udev): of the group, under links that stay.
#include <chrono>
#include <climits>
#include <cstdlib>
#include <thread>

#include <sys/stat.h>

#include "card.hpp"

namespace guest {
namespace {

constexpr gid_t kGroup = 777;  // of udev.sh

std::string link_of(const Home& home) {
  return "/dev/speckv/by-path/" + std::string(on_pci() ? "pci-" : "") + home.device;
}

std::string target(const std::string& link) {
  char path[PATH_MAX];
  return ::realpath(link.c_str(), path) != nullptr ? path : "";
}

// udev is told by the kernel, and works when it gets to it.
template <class Done>
bool in_time(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!done() && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  return done();
}

bool is_the_groups(const std::string& node) {
  struct stat st {};
  return ::stat(node.c_str(), &st) == 0 && st.st_gid == kGroup &&
         (st.st_mode & 0777U) == 0660U;
}

TEST(Udev, CardsAreTheGroupsAndHaveLinksThatStay) {
  for (const char* card : {"speckv0", "speckv1"}) {
    const std::string node = std::string("/dev/") + card;
    EXPECT_TRUE(is_the_groups(node)) << card;
    EXPECT_EQ(target(link_of(Home(card))), node);
  }
  // Both go, and come in the other order: numbers change, links do not.
  const Home first("speckv0"), second("speckv1");
  ASSERT_TRUE(first.unbind() && second.unbind());
  EXPECT_TRUE(in_time([&] { return target(link_of(first)).empty(); }));
  EXPECT_TRUE(in_time([&] { return target(link_of(second)).empty(); }));
  ASSERT_TRUE(second.bind() && first.bind());
  EXPECT_TRUE(in_time([&] { return target(link_of(second)) == "/dev/speckv0"; }));
  EXPECT_TRUE(in_time([&] { return target(link_of(first)) == "/dev/speckv1"; }));
  for (const char* node : {"/dev/speckv0", "/dev/speckv1"})
    EXPECT_TRUE(in_time([&] { return is_the_groups(node); })) << node;
}

}  // namespace
}  // namespace guest

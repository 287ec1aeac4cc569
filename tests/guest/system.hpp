// What the system shows of cards: files of sysfs and debugfs, devices and their drivers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace guest {

constexpr const char* kSysfs = "/sys/class/speckv/speckv0/";
constexpr const char* kDebugfs = "/sys/kernel/debug/speckv/speckv0/";

// What this test needs of the kernel is there, or the test ends here and says what is
// not.
#define SPECKV_NEEDS(device, option)      \
  if (::access(device, R_OK | W_OK) != 0) \
  GTEST_SKIP() << "this kernel has no " << (device) << " (" << (option) << ')'

// n at full length; fewer or more as SPECKV_TEST_SCALE says, never fewer than one.
inline std::uint32_t scaled(std::uint32_t n) {
  const char* scale = std::getenv("SPECKV_TEST_SCALE");
  const double times = scale != nullptr ? std::atof(scale) : 1;
  return std::max(1U, static_cast<std::uint32_t>(n * times));
}

// Where a card of that class device is bound: the name of its device, the folder of that,
// and the folder of its driver, each ending in '/'.
struct Home {
  explicit Home(const std::string& card);
  bool bind() const { return write("bind"); }
  bool unbind() const { return write("unbind"); }
  std::string device, folder, driver;

 private:
  bool write(const char* file) const;
};
// Whether the cards are on PCI, and not the module's own.
bool on_pci();

bool write_file(const std::string& name, const std::string& text);
// Its first bytes, no more than `most`; "" on failure.
std::string read_file(const std::string& name, std::size_t most = 8192);

}  // namespace guest

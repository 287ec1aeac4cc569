// device/driver_file.hpp -- an open /dev/speckvN: a tenant of that card. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "cxlspeckv/status.hpp"

#include "device/os.hpp"
#include "speckv_ioctl.h"

namespace speckv {

class DriverFile {
 public:
  // not_found: no such node. unsupported: not a card, or one whose contract is another.
  static Result<DriverFile> open(const std::string& path);
  // The same for one that is open already; `name` is for messages.
  static Result<DriverFile> adopt(Fd file, const std::string& name);

  int fd() const noexcept { return file_.get(); }
  const std::string& name() const noexcept { return name_; }
  // What the card could do when it was opened.
  const speckv_query& facts() const noexcept { return facts_; }
  bool emulated() const;
  // The card's folder below /sys, whatever the node is called.
  std::string sysfs() const;

  // Carries out an ioctl: 0 or an errno.
  int call(unsigned long number, void* arguments) const noexcept;
  template <class T>
  int call(unsigned long number, T& arguments) const noexcept {
    arguments.size = sizeof arguments;
    return call(number, static_cast<void*>(&arguments));
  }
  // "NAME: WHAT: reason".
  Status error(std::string_view what, int number) const {
    return os_error(name_ + ": " + std::string(what), number);
  }

 private:
  DriverFile(Fd file, std::string name) noexcept
      : file_(std::move(file)), name_(std::move(name)) {}
  Status look();

  Fd file_;
  std::string name_;
  speckv_query facts_{};
};

}  // namespace speckv

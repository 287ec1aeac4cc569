#include "device/driver_file.hpp"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "engine/contract.hpp"

namespace speckv {

Result<DriverFile> DriverFile::open(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file) {
    const int error = errno;
    const Status status = os_error(path, error);
    if (error != ENOENT && error != ENXIO && error != ENODEV) return status;
    return Status(Code::not_found,
                  status.message() + " (is the driver, speckv.ko, loaded?)");
  }
  return adopt(std::move(file), path);
}

Result<DriverFile> DriverFile::adopt(Fd file, const std::string& name) {
  DriverFile opened(std::move(file), name);
  if (Status good = opened.look(); !good.ok()) return good;
  return opened;
}

Status DriverFile::look() {
  const int error = call(SPECKV_IOC_QUERY, facts_);
  if (error == ENOTTY || error == EINVAL) {
    return {Code::unsupported, name_ + ": this is no card of the driver speckv"};
  }
  if (error != 0) return this->error("asking what the card can do", error);
  const std::uint32_t major = facts_.out_version >> 16;
  if (major == engine::kContractMajor) return {};
  return {Code::unsupported, name_ + ": the driver speaks version " +
                                 std::to_string(major) +
                                 " of the contract, and this library version " +
                                 std::to_string(engine::kContractMajor)};
}

int DriverFile::call(unsigned long number, void* arguments) const noexcept {
  return ::ioctl(file_.get(), number, arguments) == 0 ? 0 : errno;
}

std::string DriverFile::sysfs() const {
  struct stat st {};
  if (::fstat(file_.get(), &st) != 0) return {};
  return "/sys/dev/char/" + std::to_string(major(st.st_rdev)) + ":" +
         std::to_string(minor(st.st_rdev));
}

bool DriverFile::emulated() const {
  std::error_code error;
  const auto driver = std::filesystem::read_symlink(sysfs() + "/device/driver", error);
  return !error && driver.filename() == "speckv_soft";
}

}  // namespace speckv

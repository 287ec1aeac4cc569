#include "sim/config_space.hpp"

#include <cassert>

#include <linux/pci_regs.h>

#include "driver/regs.h"

namespace speckv::sim {
namespace {

// Where the capabilities lie. BARs are QEMU's to place: only their kinds are said here.
constexpr std::size_t kMsix = 0x40, kExpress = 0x60, kPower = 0xA0, kErrors = 0x100;
constexpr std::uint32_t kMsixBar = 0;

}  // namespace

ConfigSpace::ConfigSpace() {
  reset();
}

void ConfigSpace::reset() {
  bytes_.fill({});
  describe();
  describe_capabilities();
  describe_errors();
}

void ConfigSpace::put(std::size_t offset, std::size_t size,
                      std::uint64_t value) noexcept {
  for (std::size_t i = 0; i < size; ++i)
    bytes_[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

void ConfigSpace::allow(std::size_t offset, std::size_t size,
                        std::uint64_t mask) noexcept {
  for (std::size_t i = 0; i < size; ++i)
    writable_[offset + i] = static_cast<std::byte>(mask >> (8 * i));
}

void ConfigSpace::describe() noexcept {
  put(PCI_VENDOR_ID, 2, SPECKV_PCI_VENDOR);
  put(PCI_DEVICE_ID, 2, SPECKV_PCI_DEVICE);
  allow(PCI_COMMAND, 2,
        PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
  put(PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
  put(PCI_CLASS_REVISION, 4,
      std::uint64_t{SPECKV_PCI_CLASS} << 8 | SPECKV_CONTRACT_MAJOR);
  put(PCI_BASE_ADDRESS_0, 4, PCI_BASE_ADDRESS_MEM_TYPE_32);
  put(PCI_BASE_ADDRESS_0 + 4 * SPECKV_PCI_MEMORY_BAR, 4,
      PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH);
  put(PCI_SUBSYSTEM_VENDOR_ID, 2, SPECKV_PCI_VENDOR);
  put(PCI_SUBSYSTEM_ID, 2, SPECKV_PCI_DEVICE);
  put(PCI_CAPABILITY_LIST, 1, kMsix);
  allow(PCI_INTERRUPT_LINE, 1, 0xFF);
}

void ConfigSpace::describe_capabilities() noexcept {
  put(kMsix, 1, PCI_CAP_ID_MSIX);
  put(kMsix + PCI_CAP_LIST_NEXT, 1, kExpress);
  put(kMsix + PCI_MSIX_FLAGS, 2, SPECKV_PCI_VECTORS - 1);
  allow(kMsix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
  put(kMsix + PCI_MSIX_TABLE, 4, SPECKV_MSIX_TABLE_WINDOW | kMsixBar);
  put(kMsix + PCI_MSIX_PBA, 4, SPECKV_MSIX_PBA_WINDOW | kMsixBar);

  put(kExpress, 1, PCI_CAP_ID_EXP);
  put(kExpress + PCI_CAP_LIST_NEXT, 1, kPower);
  put(kExpress + PCI_EXP_FLAGS, 2, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
  put(kExpress + PCI_EXP_DEVCAP, 4, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
  allow(kExpress + PCI_EXP_DEVCTL, 2, 0x7FFF);
  put(kExpress + PCI_EXP_LNKCAP, 4, PCI_EXP_LNKCAP_SLS_2_5GB | 1U << 4);
  put(kExpress + PCI_EXP_LNKSTA, 2, PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1);

  put(kPower, 1, PCI_CAP_ID_PM);
  put(kPower + PCI_PM_PMC, 2, 3);
  put(kPower + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET);
  allow(kPower + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK);
}

// Advanced Error Reporting: the registers that the kernel configures. Errors themselves
// happen above this function, in the bus that stands before it.
void ConfigSpace::describe_errors() noexcept {
  put(kErrors, 4, PCI_EXT_CAP_ID_ERR | 2U << 16);
  put(kErrors + PCI_ERR_UNCOR_SEVER, 4, 0x00462030);
  allow(kErrors + PCI_ERR_UNCOR_MASK, 4, 0x03FFFFFF);
  allow(kErrors + PCI_ERR_UNCOR_SEVER, 4, 0x03FFFFFF);
  put(kErrors + PCI_ERR_COR_MASK, 4, 0x2000);
  allow(kErrors + PCI_ERR_COR_MASK, 4, 0xF1C1);
}

bool ConfigSpace::write(std::size_t offset, Bytes value) noexcept {
  assert(offset + value.size() <= kBytes);
  constexpr std::size_t kReset = kExpress + PCI_EXP_DEVCTL + 1;  // the byte with that bit
  constexpr std::byte kResetBit{PCI_EXP_DEVCTL_BCR_FLR >> 8};
  bool reset = false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::size_t at = offset + i;
    bytes_[at] = (bytes_[at] & ~writable_[at]) | (value[i] & writable_[at]);
    reset = reset || (at == kReset && (value[i] & kResetBit) != std::byte{0});
  }
  return reset;
}

bool ConfigSpace::is_bus_master() const noexcept {
  return (bytes_[PCI_COMMAND] & std::byte{PCI_COMMAND_MASTER}) != std::byte{0};
}

}  // namespace speckv::sim

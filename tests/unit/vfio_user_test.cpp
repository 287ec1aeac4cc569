// hardware/sim takes nothing on trust: what is wrong is answered with an errno and
// changes nothing, and what is no message ends the session.
#include <array>

#include <gtest/gtest.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "../driver/regs.h"
#include "base/endian.hpp"
#include "support/vfio_user_bar0.hpp"

namespace speckv::test {
namespace {

enum Command : std::uint16_t {
  kVersion = 1,
  kMap = 2,
  kUnmap = 3,
  kInfo = 4,
  kRegionInfo = 5,
  kIrqInfo = 7,
  kSetIrqs = 8,
  kRead = 9,
  kWrite = 10,
  kReset = 13,
};
constexpr std::uint64_t kPage = 4096, kMemory = 1U << 20;
constexpr std::uint32_t kRead1 = VFIO_DMA_MAP_FLAG_READ,
                        kWrite1 = VFIO_DMA_MAP_FLAG_WRITE;

class VfioUser : public testing::Test {
 protected:
  VfioUserClient card_{kMemory};

  int map(std::uint64_t address, std::uint64_t length, std::uint64_t offset,
          std::uint32_t flags, const std::vector<int>& files) {
    return card_
        .ask(kMap, Fields().add(32U).add(flags).add(offset).add(address).add(length),
             files)
        .error;
  }
  int unmap(std::uint64_t address, std::uint64_t length, std::uint32_t flags = 0) {
    return card_.ask(kUnmap, Fields().add(24U).add(flags).add(address).add(length)).error;
  }
  VfioUserClient::Answer read(std::uint32_t region, std::uint64_t offset,
                              std::uint32_t count) {
    return card_.ask(kRead, Fields().add(offset).add(region).add(count));
  }
  int write(std::uint32_t region, std::uint64_t offset, std::uint32_t count,
            std::uint32_t value) {
    return card_.ask(kWrite, Fields().add(offset).add(region).add(count).add(value))
        .error;
  }
  int set_irqs(std::uint32_t flags, std::uint32_t index, std::uint32_t start,
               std::uint32_t count, const std::vector<int>& files = {}) {
    return card_
        .ask(kSetIrqs, Fields().add(20U).add(flags).add(index).add(start).add(count),
             files)
        .error;
  }
  std::uint32_t config(std::uint64_t offset) {
    const auto answer = read(VFIO_PCI_CONFIG_REGION_INDEX, offset, 4);
    EXPECT_EQ(answer.error, 0);
    return load_le<std::uint32_t>(answer.body.data() + 16);
  }
  // The session goes on.
  void TearDown() override {
    if (!over_) {
      EXPECT_EQ(config(0), std::uint32_t{SPECKV_PCI_DEVICE} << 16 | SPECKV_PCI_VENDOR);
    }
  }
  bool over_ = false;
};

TEST_F(VfioUser, versions_and_unknown_commands) {
  const auto told =
      card_.ask(kVersion, Fields().add(std::uint16_t{0}).add(std::uint16_t{9}));
  ASSERT_EQ(told.error, 0);
  EXPECT_EQ(load_le<std::uint32_t>(told.body.data()), 0U);
  EXPECT_EQ(static_cast<char>(told.body.back()), '\0');
  EXPECT_EQ(card_.ask(kVersion, Fields().add(1U)).error, EPROTONOSUPPORT);
  EXPECT_EQ(card_.ask(kVersion, {}).error, EINVAL);
  for (const int command : {0, 6, 11, 12, 14, 15, 16, 1000, 65535})
    EXPECT_EQ(card_.ask(static_cast<std::uint16_t>(command), Fields().add(0U)).error,
              ENOTSUP);
}

TEST_F(VfioUser, short_bodies_are_refused) {
  for (const std::uint16_t command :
       {kMap, kUnmap, kInfo, kRegionInfo, kIrqInfo, kSetIrqs, kRead, kWrite}) {
    EXPECT_EQ(card_.ask(command, Fields().add(0U)).error, EINVAL) << command;
  }
}

TEST_F(VfioUser, dma_ranges_lie_in_their_file_and_over_nothing) {
  const sim::File file(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 16 * kPage), 0);
  const std::vector<int> one{file.get()};
  const std::uint64_t far = ~std::uint64_t{0} - kPage + 1;
  struct Row {
    std::uint64_t address, length, offset;
    std::uint32_t flags;
    int error;
  };
  for (const Row& row :
       std::initializer_list<Row>{{0x1000, 0, 0, kRead1, EINVAL},
                                  {0x1001, kPage, 0, kRead1, EINVAL},
                                  {0x1000, kPage + 1, 0, kRead1, EINVAL},
                                  {0x1000, kPage, 1, kRead1, EINVAL},
                                  {0x1000, kPage, 0, 4, EINVAL},
                                  {0x1000, 17 * kPage, 0, kRead1, EINVAL},
                                  {0x1000, kPage, 16 * kPage, kRead1, EINVAL},
                                  {0x1000, kPage, far, kRead1, EINVAL},
                                  {0x1000, far, kPage, kRead1, EINVAL},
                                  {far, 2 * kPage, 0, kRead1, EINVAL},
                                  {0x10000, 4 * kPage, 0, kRead1, 0},
                                  {0xF000, 2 * kPage, 0, kRead1, EEXIST},
                                  {0x13000, kPage, 0, kRead1, EEXIST},
                                  {0x11000, kPage, 0, kRead1, EEXIST},
                                  {0x14000, kPage, 0, kWrite1, 0},
                                  {far, kPage, 0, kRead1 | kWrite1, 0}}) {
    EXPECT_EQ(map(row.address, row.length, row.offset, row.flags, one), row.error)
        << row.address << ' ' << row.length << ' ' << row.offset;
  }
  EXPECT_EQ(map(0x20000, kPage, 0, kRead1, {file.get(), file.get()}), EINVAL);
  EXPECT_EQ(map(0x20000, kPage, 0, kRead1, {}), 0);  // memory that no file is
  const sim::File no_memory(::eventfd(0, EFD_CLOEXEC));
  EXPECT_NE(map(0x21000, kPage, 0, kRead1, {no_memory.get()}), 0);
  EXPECT_EQ(unmap(0x11000, kPage), EINVAL);  // the middle of one
  EXPECT_EQ(unmap(0xF000, 2 * kPage), EINVAL);
  EXPECT_EQ(unmap(0x10000, 0), EINVAL);
  EXPECT_EQ(unmap(0x10000, far), EINVAL);
  EXPECT_EQ(unmap(0, kPage, 1), EINVAL);
  EXPECT_EQ(unmap(0x10000, 5 * kPage), 0);  // two at once
  EXPECT_EQ(map(0x10000, 5 * kPage, 0, kRead1, one), 0);
  EXPECT_EQ(unmap(std::uint64_t{1} << 63, std::uint64_t{1} << 63), 0);
  EXPECT_EQ(map(far, kPage, 0, kRead1, one), 0);
  EXPECT_EQ(unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 0);
  EXPECT_EQ(map(0, 16 * kPage, 0, kRead1, one), 0);
}

TEST(HostMemory, is_reached_where_it_was_mapped_and_as_it_was_allowed) {
  const sim::File file(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 4 * kPage), 0);
  sim::HostMemory memory;
  ASSERT_EQ(memory.map({0x10000, 2 * kPage, true, false}, file, 0), 0);
  ASSERT_EQ(memory.map({0x12000, kPage, true, true}, file, 3 * kPage), 0);
  EXPECT_EQ(memory.view(0x10010, 64, false).size(), 64U);
  EXPECT_TRUE(memory.view(0x10010, 64, true).empty());
  EXPECT_EQ(memory.view(0x11FF0, 64, false).size(), 16U);  // what lies together
  EXPECT_EQ(memory.view(0x12000, 64, true).size(), 64U);
  EXPECT_TRUE(memory.view(0x13000, 1, false).empty());
  EXPECT_TRUE(memory.view(0xFFFF, 64, false).empty());
  memory.view(0x12001, 1, true)[0] = std::byte{0x5A};
  std::uint64_t removed = 0;
  ASSERT_EQ(memory.unmap(0x12000, kPage, &removed), 0);
  EXPECT_EQ(removed, kPage);
  EXPECT_TRUE(memory.view(0x12000, 1, false).empty());
  std::uint8_t written = 0;
  EXPECT_EQ(::pread(file.get(), &written, 1, 3 * kPage + 1), 1);
  EXPECT_EQ(written, 0x5A);
}

TEST_F(VfioUser, regions_are_what_they_say_and_no_more) {
  const std::array<std::uint64_t, VFIO_PCI_NUM_REGIONS> sizes{
      SPECKV_BAR0_BYTES, 0, kMemory, 0, 0, 0, 0, 4096, 0};
  for (std::uint32_t region = 0; region < sizes.size(); ++region) {
    const auto told = card_.ask(kRegionInfo, Fields()
                                                 .add(32U)
                                                 .add(0U)
                                                 .add(region)
                                                 .add(0U)
                                                 .add(std::uint64_t{0})
                                                 .add(std::uint64_t{0}));
    ASSERT_EQ(told.error, 0);
    const std::uint64_t size = load_le<std::uint64_t>(told.body.data() + 16);
    EXPECT_EQ(size, sizes[region]) << region;
    EXPECT_EQ(told.file.is_open(), region == SPECKV_PCI_MEMORY_BAR);
    struct Access {
      std::uint64_t offset;
      std::uint32_t count;
    };
    for (const Access& bad : {Access{size, 1}, Access{size - 3, 4}, Access{0, 0},
                              Access{~std::uint64_t{0}, 4}, Access{~std::uint64_t{3}, 8},
                              Access{0, 0xFFFFFFFF}}) {
      if (size == 0 || bad.offset >= size - 3 || bad.count - 1 >= size) {
        EXPECT_EQ(read(region, bad.offset, bad.count).error, EINVAL) << region;
        EXPECT_EQ(write(region, bad.offset, bad.count, 0), EINVAL) << region;
      }
    }
  }
  EXPECT_EQ(read(9, 0, 4).error, EINVAL);
  EXPECT_EQ(write(0, 0, 8, 0), EINVAL);  // fewer bytes than it says
  EXPECT_EQ(write(SPECKV_PCI_MEMORY_BAR, kMemory - 4, 4, 0x01020304), 0);
  EXPECT_EQ(load_le<std::uint32_t>(
                read(SPECKV_PCI_MEMORY_BAR, kMemory - 4, 4).body.data() + 16),
            0x01020304U);
  // Parts of a register read as what they are; only whole ones are written.
  EXPECT_EQ(load_le<std::uint16_t>(read(0, 2, 2).body.data() + 16),
            SPECKV_CONTRACT_ID >> 16);
  EXPECT_EQ(load_le<std::uint64_t>(read(0, SPECKV_CSR_MEMORY_BYTES, 8).body.data() + 16),
            kMemory);
}

// A card that is told of stores to its memory: nobody may map that, and it is told of
// each store when the bytes are there.
class SnoopingCard final : public sim::Card {
 public:
  struct Store {
    std::uint64_t address, length;
    std::uint32_t there;
  };
  SnoopingCard(MutableBytes memory, std::vector<Store>& stores)
      : memory_(memory), stores_(stores) {}
  std::uint32_t read32(std::uint32_t) override { return 0; }
  void write32(std::uint32_t, std::uint32_t) override {}
  bool run() override { return false; }
  void reset() override {}
  bool snoops() const override { return true; }
  void stored(std::uint64_t address, std::uint64_t length) override {
    stores_.push_back(
        {address, length, load_le<std::uint32_t>(memory_.data() + address)});
  }

 private:
  const MutableBytes memory_;
  std::vector<Store>& stores_;
};

TEST(VfioUserSnoop, stores_to_memory_are_told) {
  std::vector<SnoopingCard::Store> stores;
  VfioUserClient card(kMemory, [&](MutableBytes memory, engine::HostPort&) {
    return std::make_unique<SnoopingCard>(memory, stores);
  });
  const auto told = card.ask(kRegionInfo, Fields()
                                              .add(32U)
                                              .add(0U)
                                              .add(std::uint32_t{SPECKV_PCI_MEMORY_BAR})
                                              .add(0U)
                                              .add(std::uint64_t{0})
                                              .add(std::uint64_t{0}));
  EXPECT_EQ(load_le<std::uint32_t>(told.body.data() + 4),
            VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
  EXPECT_FALSE(told.file.is_open());
  const auto write = [&](std::uint32_t region, std::uint64_t offset) {
    return card
        .ask(kWrite,
             Fields().add(offset).add(region).add(4U).add(std::uint32_t{0x01020304}))
        .error;
  };
  EXPECT_EQ(write(SPECKV_PCI_MEMORY_BAR, 8200), 0);
  EXPECT_EQ(write(0, 16), 0);  // a register
  EXPECT_EQ(write(SPECKV_PCI_MEMORY_BAR, kMemory), EINVAL);
  ASSERT_EQ(stores.size(), 1U);
  EXPECT_EQ(stores[0].address, 8200U);
  EXPECT_EQ(stores[0].length, 4U);
  EXPECT_EQ(stores[0].there, 0x01020304U);
}

TEST_F(VfioUser, vectors_are_those_that_there_are) {
  const sim::File event(::eventfd(0, EFD_CLOEXEC));
  constexpr std::uint32_t kSet = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  constexpr std::uint32_t kMsix = VFIO_PCI_MSIX_IRQ_INDEX;
  const std::vector<int> one{event.get()};
  EXPECT_EQ(set_irqs(kSet, kMsix, 64, 1, one), 0);
  EXPECT_EQ(set_irqs(kSet, kMsix, 65, 1, one), EINVAL);
  EXPECT_EQ(set_irqs(kSet, kMsix, 0xFFFFFFFF, 2, {event.get(), event.get()}), EINVAL);
  EXPECT_EQ(set_irqs(kSet, kMsix, 0, 0xFFFFFFFF), EINVAL);
  EXPECT_EQ(set_irqs(kSet, kMsix, 0, 2, one), EINVAL);
  EXPECT_EQ(set_irqs(kSet, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, one), EINVAL);
  EXPECT_EQ(set_irqs(kSet, 9, 0, 1, one), EINVAL);
  EXPECT_EQ(set_irqs(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, kMsix, 0, 1),
            EINVAL);
  EXPECT_EQ(set_irqs(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, kMsix, 0, 0),
            0);
  EXPECT_EQ(set_irqs(0xFFFFFFFF, kMsix, 0, 1, one), EINVAL);
  EXPECT_EQ(card_.ask(kIrqInfo, Fields().add(16U).add(0U).add(9U).add(0U)).error, EINVAL);
}

TEST_F(VfioUser, configuration_keeps_what_is_read_only_and_resets_the_function) {
  constexpr std::uint32_t kConfig = VFIO_PCI_CONFIG_REGION_INDEX;
  const std::uint32_t status = config(PCI_COMMAND) & 0xFFFF0000;
  EXPECT_EQ(write(kConfig, 0, 4, 0), 0);
  EXPECT_EQ(write(kConfig, PCI_COMMAND, 4, 0xFFFFFFFF), 0);
  EXPECT_EQ(config(PCI_COMMAND),
            status | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
  // The capabilities that are named lie where their list leads.
  std::uint32_t found = 0, express = 0;
  for (std::uint32_t at = config(PCI_CAPABILITY_LIST) & 0xFF; at != 0;
       at = config(at) >> 8 & 0xFF) {
    const std::uint32_t id = config(at) & 0xFF;
    if (id == PCI_CAP_ID_EXP) express = at;
    found |= 1U << id;
  }
  EXPECT_EQ(found, 1U << PCI_CAP_ID_MSIX | 1U << PCI_CAP_ID_EXP | 1U << PCI_CAP_ID_PM);
  EXPECT_EQ(write(0, SPECKV_CSR_CONTROL, 4, SPECKV_CSR_CONTROL_ENABLE), 0);
  EXPECT_EQ(write(kConfig, express + PCI_EXP_DEVCTL, 4, PCI_EXP_DEVCTL_BCR_FLR), 0);
  EXPECT_EQ(config(PCI_COMMAND), status);
  EXPECT_EQ(load_le<std::uint32_t>(read(0, SPECKV_CSR_CONTROL, 4).body.data() + 16), 0U);
}

TEST_F(VfioUser, a_card_that_was_pulled_out_reads_as_ones_and_does_nothing) {
  over_ = true;
  EXPECT_EQ(write(0, SPECKV_CSR_CONTROL, 4, SPECKV_CSR_CONTROL_ENABLE), 0);
  card_.pull();
  EXPECT_EQ(config(0), 0xFFFFFFFFU);
  EXPECT_EQ(write(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 4, 0xFFFFFFFF), 0);
  EXPECT_EQ(write(0, SPECKV_CSR_CONTROL, 4, SPECKV_CSR_CONTROL_RESET), 0);
  for (const auto offset :
       {std::uint64_t{SPECKV_CSR_ID}, std::uint64_t{SPECKV_CSR_CONTROL}}) {
    EXPECT_EQ(load_le<std::uint32_t>(read(0, offset, 4).body.data() + 16), 0xFFFFFFFFU);
  }
  EXPECT_EQ(card_.ask(kReset, {}).error, 0);
  EXPECT_EQ(config(0), 0xFFFFFFFFU);
  EXPECT_TRUE(card_.served());
}

TEST_F(VfioUser, what_is_no_message_ends_the_session) {
  over_ = true;
  std::array<std::byte, 16> head{};
  store_le(head.data() + 4, 15U);  // shorter than its own head
  ASSERT_TRUE(card_.send_raw(head));
  EXPECT_EQ(card_.ask(kReset, {}).error, -1);
  EXPECT_FALSE(card_.served());
}

TEST_F(VfioUser, a_message_that_is_too_long_ends_the_session) {
  over_ = true;
  std::array<std::byte, 16> head{};
  store_le(head.data() + 4, 0xFFFFFFFFU);
  ASSERT_TRUE(card_.send_raw(head));
  EXPECT_FALSE(card_.served());
}

TEST_F(VfioUser, a_message_that_stops_in_the_middle_ends_the_session) {
  over_ = true;
  std::array<std::byte, 20> part{};
  store_le(part.data() + 2, std::uint16_t{kRead});
  store_le(part.data() + 4, 32U);
  ASSERT_TRUE(card_.send_raw(part));
  EXPECT_FALSE(card_.served());
}

TEST_F(VfioUser, a_client_that_goes_between_messages_is_no_fault) {
  over_ = true;
  EXPECT_EQ(card_.ask(kReset, {}).error, 0);
  EXPECT_TRUE(card_.served());
}

}  // namespace
}  // namespace speckv::test

// Memory of other devices through the library: what is written to a card from one dma-buf
// and read into another is compared on both sides.
#include "guest/dmabuf.hpp"

#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"
#include "cxlspeckv/dmabuf.hpp"

namespace speckv::test {
namespace {

using namespace std::chrono_literals;
using guest::kPage, guest::kUdmabuf, guest::make_buffer;

constexpr std::size_t kSize = 16 * kPage;
constexpr RegionId kFrom{5}, kTo{6}, kHost{7};

class CardDmaBuf : public testing::Test {
 protected:
  void SetUp() override {
    SPECKV_NEEDS(kUdmabuf, "CONFIG_UDMABUF");
    auto device = open_device("cxl:/dev/speckv0?size=1M");
    ASSERT_TRUE(device.ok()) << device.error().message();
    device_ = *std::move(device);
    auto queue = device_->open_queue(8);
    ASSERT_TRUE(queue.ok()) << queue.error().message();
    queue_ = *std::move(queue);
  }
  Code attach(RegionId id, const DmaBuf& part) {
    return attach_dmabuf(*device_, id, part).code();
  }
  Code move(Transfer::Op op, std::uint64_t at, const Segment& memory) {
    const Transfer transfer{op, at, memory, 3};
    EXPECT_EQ(queue_->submit({&transfer, 1}), 1U);
    std::array<Completion, 1> done{};
    while (queue_->poll(done) == 0)
      queue_->wait(1s);
    return done[0].code;
  }

  std::shared_ptr<Device> device_;
  std::unique_ptr<Queue> queue_;
};

TEST_F(CardDmaBuf, BytesGoFromOneToTheOther) {
  guest::Buffer from = make_buffer(kSize, 1), to = make_buffer(kSize, 99);
  const std::vector<std::uint8_t> before(to.seen.bytes(), to.seen.bytes() + kSize);
  ASSERT_EQ(
      attach(kFrom, {.fd = from.fd.get(), .offset = kPage, .length = kSize - kPage}),
      Code::ok);
  ASSERT_EQ(attach(kTo, {.fd = to.fd.get(), .length = kSize}), Code::ok);
  from.fd.reset();
  to.fd.reset();
  constexpr std::uint64_t kMoved = 40000;
  EXPECT_EQ(move(Transfer::Op::write, 512, {kFrom, 77, kMoved}), Code::ok);
  EXPECT_EQ(move(Transfer::Op::read, 512, {kTo, 4093, kMoved}), Code::ok);
  const std::uint8_t *got = to.seen.bytes(), *end = before.data() + 4093 + kMoved;
  EXPECT_EQ(std::memcmp(got + 4093, from.seen.bytes() + kPage + 77, kMoved), 0);
  EXPECT_EQ(std::memcmp(got, before.data(), 4093), 0);
  EXPECT_EQ(std::memcmp(got + 4093 + kMoved, end, kSize - 4093 - kMoved), 0);
  // The same bytes, beside host memory of the same queue.
  std::vector<std::byte> host(kMoved);
  ASSERT_TRUE(device_->attach(kHost, host).ok());
  EXPECT_EQ(move(Transfer::Op::read, 512, {kHost, 0, kMoved}), Code::ok);
  EXPECT_EQ(std::memcmp(host.data(), from.seen.bytes() + kPage + 77, kMoved), 0);
  for (const RegionId id : {kFrom, kTo, kHost})
    EXPECT_TRUE(device_->detach(id).ok());
  EXPECT_EQ(move(Transfer::Op::write, 0, {kFrom, 0, 64}), Code::invalid_argument);
}

TEST_F(CardDmaBuf, WhatIsNotGivenIsNotReached) {
  const guest::Buffer buffer = make_buffer(kSize, 7);
  const int fd = buffer.fd.get();
  const std::vector<std::uint8_t> before(buffer.seen.bytes(),
                                         buffer.seen.bytes() + kSize);
  for (const DmaBuf& bad :
       {DmaBuf{.fd = -1, .length = kPage}, DmaBuf{.fd = 900, .length = kPage},
        DmaBuf{.fd = buffer.file.get(), .length = kPage}, DmaBuf{.fd = fd},
        DmaBuf{.fd = fd, .length = kPage + 1},
        DmaBuf{.fd = fd, .offset = 1, .length = kPage},
        DmaBuf{.fd = fd, .offset = kPage, .length = kSize}}) {
    EXPECT_EQ(attach(kFrom, bad), Code::invalid_argument) << bad.fd << ' ' << bad.length;
  }
  ASSERT_EQ(attach(kFrom, {.fd = fd, .length = kPage, .read_only = true}), Code::ok);
  EXPECT_EQ(attach(kFrom, {.fd = fd, .length = kPage}), Code::invalid_argument);
  EXPECT_EQ(move(Transfer::Op::write, 0, {kFrom, 0, kPage}), Code::ok);
  EXPECT_EQ(move(Transfer::Op::read, 0, {kFrom, 0, kPage}), Code::invalid_argument);
  EXPECT_EQ(move(Transfer::Op::write, 0, {kFrom, 1, kPage}), Code::invalid_argument);
  EXPECT_EQ(std::memcmp(buffer.seen.at, before.data(), kSize), 0);
}

}  // namespace
}  // namespace speckv::test

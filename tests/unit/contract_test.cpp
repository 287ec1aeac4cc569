// The device contract agrees with what the library states for itself, and with the C
// headers.
#include "engine/contract.hpp"

#include <cstddef>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "cxlspeckv/address.hpp"
#include "cxlspeckv/codec.hpp"

#include "../driver/card_codes.h"
#include "../driver/regs.h"
#include "../driver/uapi/speckv_ioctl.h"

namespace speckv::engine {
namespace {

template <class E>
constexpr auto number(E e) noexcept {
  return static_cast<std::underlying_type_t<E>>(e);
}

// ---- The library's own constants
// -------------------------------------------------------

static_assert(number(CodecId::raw) == codec::kRaw);
static_assert(number(CodecId::int8) == codec::kInt8);
static_assert(number(CodecId::int8_delta_rle) == codec::kInt8DeltaRle);
static_assert(number(CodecId::kvq4) == codec::kKvq4);
static_assert(number(DType::f16) == dtype::kF16 && number(DType::bf16) == dtype::kBf16);
static_assert(number(DType::f32) == dtype::kF32 &&
              number(DType::f8e4m3) == dtype::kF8e4m3);
static_assert(number(BlockLayout::Kind::kv) == kind::kKv);
static_assert(number(BlockLayout::Kind::latent) == kind::kLatent);
static_assert(number(BlockLayout::Kind::interleaved) == kind::kInterleaved);

static_assert(address::kBits == address_bits::kWidth);
static_assert(address::kPosition.low == 0 && address::kPosition.width == 32);
static_assert(address::kKind.low == address_bits::kKind && address::kKind.width == 1);
static_assert(address::kHead.low == address_bits::kHead && address::kHead.width == 8);
static_assert(address::kLayer.low == address_bits::kLayer && address::kLayer.width == 16);
static_assert(address::kRequest.low == address_bits::kRequest &&
              address::kRequest.width == 32);

// ---- The C headers
// -----------------------------------------------------------------------

static_assert(sizeof(speckv_desc) == Descriptor::kBytes);
static_assert(sizeof(speckv_cpl) == CompletionEntry::kBytes);
static_assert(sizeof(speckv_telemetry) == Telemetry::kBytes);
static_assert(sizeof(speckv_candidate) == Candidate::kBytes);
static_assert(sizeof(speckv_prediction) == Prediction::kBytes);
static_assert(SPECKV_CSR_WEIGHTS == csr::kWeights &&
              SPECKV_CSR_WEIGHTS_RESET == csr::kWeightsReset);
static_assert(SPECKV_DOORBELL_WINDOW == kDoorbellWindow &&
              SPECKV_DOORBELL_STRIDE == kDoorbellStride);
static_assert(SPECKV_QUEUE_SETUP_TENANT == queue::kSetupTenant.mask()
                                               << queue::kSetupTenant.low);
static_assert(SPECKV_CPL_BUS_ERROR == number(Answer::bus_error));
static_assert(SPECKV_OP_PREDICT == number(Opcode::predict) &&
              SPECKV_PREDICT_NETWORK == number(Task::network) &&
              SPECKV_FEATURE_PREDICT == feature::kPredict);

// Rings lie in host memory: a card has none that could lie over its registers.
static_assert(kCsrWindow + 0x1000 <= kQueueWindow &&
              kQueueWindow + kMaxQueues * kQueueStride <= kMsixTableWindow &&
              kRegionWindow + kMaxRegions * kRegionStride <= kDoorbellWindow &&
              kDoorbellWindow + kMaxQueues * kDoorbellStride <= kBar0Bytes);

template <class T>
std::vector<std::byte> bytes_of_object(const T& object) {
  std::vector<std::byte> bytes(sizeof object);
  std::memcpy(bytes.data(), &object, sizeof object);
  return bytes;
}

TEST(Contract, a_descriptor_in_c_is_the_descriptor_in_cpp) {
  speckv_desc c{};
  c.opcode = SPECKV_OP_DECODE;
  c.flags = SPECKV_DESC_NAMED | SPECKV_DESC_CHECK;
  c.tag = 0x1234;
  c.length = 0x10203040;
  c.src_region = 7;
  c.dst_region = 8;
  c.src_offset = 0x1122334455667788;
  c.dst_offset = 0x99AABBCCDDEEFF00;
  c.codec.codec = SPECKV_CODEC_KVQ4;
  c.codec.dtype = SPECKV_DTYPE_BF16;
  c.codec.kind = SPECKV_KIND_LATENT;
  c.codec.room = 4096;
  c.codec.heads = 8;
  c.codec.head_dim = 128;
  c.codec.crc = 0xDEADBEEF;
  c.address_low = 3;
  c.address_high = 4;
  c.tokens = 64;
  const auto bytes = bytes_of_object(c);
  const Descriptor d = Descriptor::load(bytes.data());
  EXPECT_EQ(Opcode{d.opcode}, Opcode::decode);
  EXPECT_EQ(d.tag, 0x1234);
  EXPECT_EQ(d.length, 0x10203040U);
  EXPECT_EQ(d.src_offset, 0x1122334455667788U);
  EXPECT_EQ(d.dst_offset, 0x99AABBCCDDEEFF00U);
  EXPECT_EQ(d.codec, codec::kKvq4);
  EXPECT_EQ(d.kind, kind::kLatent);
  EXPECT_EQ(d.room, 4096U);
  EXPECT_EQ(d.head_dim, 128);
  EXPECT_EQ(d.crc, 0xDEADBEEFU);
  EXPECT_EQ(d.address_high, 4U);
  EXPECT_EQ(d.tokens, 64);
}

// Every bit of a descriptor is some field's or reserved, and no field reads another's.
TEST(Contract, a_descriptor_keeps_what_its_opcode_may_say) {
  std::mt19937_64 random(3);
  for (std::size_t opcode = 0; opcode < kMasks.size(); ++opcode) {
    if (kMasks[opcode] == Mask{}) continue;  // a number without an opcode
    for (int round = 0; round < 200; ++round) {
      std::byte bytes[Descriptor::kBytes], again[Descriptor::kBytes];
      for (std::size_t i = 0; i < 8; ++i)
        store_le(bytes + 8 * i, random() & kMasks[opcode][i]);
      Descriptor::load(bytes).store(again);
      ASSERT_EQ(std::memcmp(bytes, again, sizeof bytes), 0) << opcode;
    }
  }
}

TEST(Contract, the_masks_of_c_are_those_of_cpp) {
  const std::uint64_t copy[] = SPECKV_MASK_COPY, weights[] = SPECKV_MASK_WEIGHTS,
                      named[] = SPECKV_MASK_FLAG_NAMED;
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(copy[i], kMasks[number(Opcode::copy)][i]);
    EXPECT_EQ(weights[i], kMasks[number(Opcode::weights)][i]);
    EXPECT_EQ(named[i], kMaskNamed[i]);
  }
}

TEST(Contract, a_packed_address_fits_a_descriptor_whole) {
  const PackedAddress last = pack({0xFFFFFFFF, 0xFFFF, 0xFF, 0xFFFFFFFF, KvKind::value});
  Descriptor d;
  d.address_low = last.low;
  d.address_high = static_cast<std::uint32_t>(last.high);
  EXPECT_EQ(d.address_high, last.high);
  EXPECT_EQ(address::kRequest.get(last.low),
            (1U << (64 - address::kRequest.low)) - 1);  // the rest is in address_high
}

}  // namespace
}  // namespace speckv::engine

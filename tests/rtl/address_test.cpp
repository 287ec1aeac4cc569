// The address of a token's K or V in the RTL's package is the library's, bit for bit.
#include "cxlspeckv/address.hpp"

#include <gtest/gtest.h>

#include "Vaddress_bench.h"
#include "rtl/sim.hpp"

namespace speckv::rtl {
namespace {

class Address : public ::testing::Test {
 protected:
  PackedAddress packed(const KvAddress& a) {
    sim_->request_i = a.request;
    sim_->layer_i = a.layer;
    sim_->head_i = a.head;
    sim_->position_i = a.position;
    sim_->kind_i = static_cast<std::uint8_t>(a.kind);
    sim_.settle();
    const auto& word = sim_->word_o;
    return {word[2] | std::uint64_t{word[3]} << 32,
            word[0] | std::uint64_t{word[1]} << 32};
  }
  std::optional<KvAddress> unpacked(const PackedAddress& p) {
    sim_->word_i[0] = static_cast<std::uint32_t>(p.low);
    sim_->word_i[1] = static_cast<std::uint32_t>(p.low >> 32);
    sim_->word_i[2] = static_cast<std::uint32_t>(p.high);
    sim_->word_i[3] = static_cast<std::uint32_t>(p.high >> 32);
    sim_.settle();
    if (sim_->known_o == 0) return std::nullopt;
    return KvAddress{sim_->request_o, sim_->layer_o, sim_->head_o, sim_->position_o,
                     KvKind{sim_->kind_o}};
  }
  Sim<Vaddress_bench> sim_{1};
};

TEST_F(Address, EveryBitHasThePlaceThatTheLibraryGivesIt) {
  for (unsigned bit = 0; bit < 89; ++bit) {
    const PackedAddress word{bit < 64 ? 0 : 1ULL << (bit - 64),
                             bit < 64 ? 1ULL << bit : 0};
    const auto address = unpack(word);
    ASSERT_TRUE(address);
    ASSERT_EQ(packed(*address), word) << bit;
    ASSERT_EQ(unpacked(word), address) << bit;
  }
}

TEST_F(Address, AnyAddressIsPackedAlikeAndComesBack) {
  Random random(7);
  for (int i = 0; i < 100000; ++i) {
    const KvAddress a{
        static_cast<std::uint32_t>(random()), static_cast<std::uint16_t>(random()),
        static_cast<std::uint8_t>(random()), static_cast<std::uint32_t>(random()),
        KvKind{static_cast<std::uint8_t>(random() & 1)}};
    ASSERT_EQ(packed(a), pack(a));
    ASSERT_EQ(unpacked(pack(a)), a);
  }
}

TEST_F(Address, BitsBeyondItAreRefused) {
  for (unsigned bit = 25; bit < 64; ++bit) {
    const PackedAddress word{1ULL << bit, 5};
    ASSERT_EQ(unpacked(word), std::nullopt) << bit;
    ASSERT_EQ(unpack(word), std::nullopt) << bit;
  }
}

}  // namespace
}  // namespace speckv::rtl

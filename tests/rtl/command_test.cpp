// speckv_command against the golden card: the same descriptors, regions, memory, poison
// and faults; all that is around the block waits as long as it likes.
#include "rtl/command_fixture.hpp"

namespace speckv::rtl {
namespace {

bool encodes(const Descriptor& d) {
  return d.opcode == static_cast<std::uint8_t>(Opcode::encode);
}

TEST_F(Command, DoesWhatTheGoldenCardDoes) {
  std::uint64_t resets = 0, bits = 0;
  const std::uint64_t rounds = scaled(20000, 2000);
  for (std::uint64_t n = 0; n < rounds; ++n) {
    if (n % 200 == 0) {
      renew_regions();
      check_ready_ = Willing::any(random_);
      stalls_ = any(4) != 0;
      reset_both(any(2));
    }
    if (any(8) == 0 && poisoned_ < 4) {
      const std::uint64_t at = any(kDevice + 100);
      inject(engine::Inject::poison, at);
      ++poisoned_;
    } else if (any(8) == 0 && !fault_armed_) {
      inject(any(2) == 0 ? engine::Inject::bus_read : engine::Inject::bus_write, 0);
      fault_armed_ = true;
    }
    for (std::uint32_t i = any(4); i > 0; --i)
      cycle();
    const std::uint32_t tenant = any(kTenants);
    const Descriptor d = any_descriptor(tenant);
    Words words = words_of(d);
    const bool wild = any(10) == 0;
    if (wild) {
      const std::uint32_t bit = any(512);
      words[bit / 32] ^= 1U << bit % 32;
      ++bits;
    }
    if (any(50) == 0) {  // in the middle of it
      ASSERT_NO_FATAL_FAILURE(give(words, tenant));
      for (std::uint32_t i = any(80); i > 0 && !outcome_; --i)
        cycle();
      reset_both(any(2));
      ++resets;
      continue;
    }
    ASSERT_NO_FATAL_FAILURE(both(words, tenant)) << "round " << n;
    ASSERT_FALSE(HasFailure()) << "round " << n << ", opcode " << int{d.opcode};
    if (!wild && encodes(d) && outcome_->answer == Answer::ok) remember(d, tenant);
    if (poisoned_ == 4 && any(20) == 0) {
      ASSERT_NO_FATAL_FAILURE(heal());
    }
  }
  EXPECT_GT(resets, rounds / 100);
  EXPECT_GT(bits, rounds / 20);
  for (const Answer answer : {Answer::ok, Answer::bad_desc, Answer::bad_region,
                              Answer::corrupted, Answer::poison, Answer::unsupported,
                              Answer::no_space, Answer::unencodable, Answer::bus_error}) {
    EXPECT_GT(told_[answer], rounds / 1000) << static_cast<int>(answer);
  }
}

// Of each command in turn: whatever the cycle, nothing of it is told afterwards, and the
// next one is carried out.
TEST_F(Command, IsResetInAnyCycle) {
  renew_memory();
  stalls_ = false;
  for (const Opcode opcode :
       {Opcode::nop, Opcode::copy, Opcode::encode, Opcode::prefetch, Opcode::fill}) {
    Descriptor d = describe(opcode, 7);
    if (opcode == Opcode::encode) {
      d.codec = engine::codec::kKvq4;
      d.heads = 1;
      d.head_dim = d.tokens = 16;
      d.length = d.room = 1024;
    } else if (opcode != Opcode::nop) {
      d.length = 3 * kLine;
    }
    if (opcode != Opcode::nop && opcode != Opcode::fill) d.src_region = 1;
    if (opcode != Opcode::nop && opcode != Opcode::prefetch)
      d.dst_region = opcode == Opcode::fill ? 2 : kPaged;
    bool through = false;
    for (int cycles = 0; !through; ++cycles) {
      ASSERT_LT(cycles, 200);
      for (const unsigned how : {0U, 1U}) {
        ASSERT_NO_FATAL_FAILURE(give(words_of(d), 0));
        for (int i = 0; i < cycles; ++i)
          cycle();
        through = outcome_.has_value();
        outcome_.reset();
        reset_both(how);
        for (int i = 0; i < 30; ++i)
          cycle();
        ASSERT_FALSE(outcome_) << "after a reset in cycle " << cycles;
        ASSERT_FALSE(running_);
        ASSERT_NO_FATAL_FAILURE(both(words_of(d), 0));
        ASSERT_EQ(outcome_->answer, Answer::ok);
      }
    }
  }
}

// Of a side in pages, once, and only if anything is moved there; of no other.
TEST_F(Command, WalksTheListsThatItNeeds) {
  Descriptor d = describe(Opcode::copy, 1);
  d.length = 64;
  const auto walks = [&](std::uint32_t source, std::uint32_t target) {
    d.src_region = source;
    d.dst_region = target;
    EXPECT_NE(tell(d), Answer::bad_region);
    return std::pair{walks_[false], walks_[true]};
  };
  const auto times = [](std::uint64_t source, std::uint64_t target) {
    return std::pair{source, target};
  };
  EXPECT_EQ(walks(kPaged, kPaged), times(1, 1));
  EXPECT_EQ(walks(2, kPaged), times(0, 1));
  EXPECT_EQ(walks(kPaged, 1), times(1, 0));
  EXPECT_EQ(walks(1, 2), times(0, 0));
  d.opcode = static_cast<std::uint8_t>(Opcode::decode);  // of a layer of another length
  d.codec = engine::codec::kInt8;
  d.heads = 1;
  d.head_dim = d.tokens = 16;
  d.room = 4096;
  EXPECT_EQ(walks(kPaged, kPaged), times(1, 0));
  EXPECT_EQ(outcome_->answer, Answer::corrupted);
}

// SLVERR of device memory is what its ECC could not correct.
TEST_F(Command, AnErrorOfDeviceMemoryIsPoison) {
  device_read_fails_ = true;
  for (const Opcode opcode : {Opcode::copy, Opcode::prefetch}) {
    Descriptor d = describe(opcode, 1);
    d.src_region = 1;
    if (opcode == Opcode::copy) d.dst_region = 2;
    d.length = 2 * kLine;
    EXPECT_EQ(tell(d), Answer::poison);
    EXPECT_EQ(counts_[Counter::buffer_filled] + counts_[Counter::bytes_read], 0U);
  }
  EXPECT_EQ(tags_, (std::array<std::uint64_t, kLines>{}));
}

// The latencies at the top of the module, with a region table and a mover that are free.
TEST_F(Command, TakesAsLongAsItSays) {
  stalls_ = false;
  EXPECT_EQ(tell(describe(Opcode::nop, 1)), Answer::ok);
  EXPECT_EQ(sim_.cycle() - 1 - given_at_, 7U);
  Descriptor d = describe(Opcode::copy, 1);
  d.src_region = 2;
  d.dst_region = 1;
  d.length = 4096;
  EXPECT_EQ(tell(d), Answer::ok);
  EXPECT_EQ(started_at_ - given_at_, 17U);
}

}  // namespace
}  // namespace speckv::rtl

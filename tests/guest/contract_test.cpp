// Every errno of the dictionary at the head of speckv_ioctl.h, one case a rule. Nothing
// has happened when a call fails.
#include <csignal>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <sys/wait.h>

#include "card.hpp"

namespace guest {
namespace {

int raw(const Fd& card, unsigned long number, const void* args) {
  return ::ioctl(card.get(), number, args) == 0 ? 0 : errno;
}

int region_error(const Fd& card, std::uint64_t length, std::uint64_t at = 0,
                 std::uint32_t flags = 0, std::uint32_t reserved = 0) {
  speckv_region_create args{};
  args.length = length;
  args.user_va = at;
  args.flags = flags;
  args.__reserved = reserved;
  const int error = call(card, SPECKV_IOC_REGION_CREATE, args);
  if (error != 0) {
    EXPECT_EQ(args.out_id, 0U) << "written although it failed";
  }
  return error;
}

int queue_error(const Fd& card, std::uint32_t depth, std::int32_t eventfd = -1,
                std::uint32_t flags = 0, std::uint32_t reserved = 0) {
  speckv_queue_create args{};
  args.depth = depth;
  args.eventfd = eventfd;
  args.flags = flags;
  args.__reserved = reserved;
  return call(card, SPECKV_IOC_QUEUE_CREATE, args);
}

int object_error(const Fd& card, unsigned long number, std::uint32_t id) {
  speckv_object args{};
  args.id = id;
  return call(card, number, args);
}

constexpr unsigned long kObjectCalls[] = {SPECKV_IOC_REGION_DESTROY,
                                          SPECKV_IOC_QUEUE_DESTROY,
                                          SPECKV_IOC_QUEUE_RESET, SPECKV_IOC_QUEUE_KICK};

TEST(Contract, UnknownCommandsAreNotCommands) {
  const Fd card = open_card();
  speckv_query args{};
  args.size = sizeof args;
  EXPECT_EQ(raw(card, _IO(SPECKV_IOC, 0x18), &args), ENOTTY);
  EXPECT_EQ(raw(card, _IO(SPECKV_IOC, 0x09), &args), ENOTTY);
  EXPECT_EQ(raw(card, _IO(SPECKV_IOC, 0xff), &args), ENOTTY);
  EXPECT_EQ(raw(card, _IO(0xC4, 0), &args), ENOTTY);
  EXPECT_EQ(raw(card, _IOR(SPECKV_IOC, 0, speckv_query), &args), ENOTTY);
}

TEST(Contract, SizesGrowAndAreChecked) {
  const Fd card = open_card();
  struct {
    speckv_query known;
    std::uint32_t later[4];
  } args{};
  args.known.size = sizeof args.known - 1;
  EXPECT_EQ(raw(card, SPECKV_IOC_QUERY, &args), EINVAL);
  args.known.size = 0;
  EXPECT_EQ(raw(card, SPECKV_IOC_QUERY, &args), EINVAL);
  args.known.size = sizeof args;
  EXPECT_EQ(raw(card, SPECKV_IOC_QUERY, &args), 0);
  EXPECT_EQ(args.known.size, sizeof args);
  args.later[3] = 1;
  EXPECT_EQ(raw(card, SPECKV_IOC_QUERY, &args), E2BIG);
  args.known.size = 1U << 20;
  EXPECT_EQ(raw(card, SPECKV_IOC_QUERY, &args), E2BIG);
}

TEST(Contract, BadPointersFaultBeforeAnythingHappens) {
  const Fd card = open_card();
  EXPECT_EQ(raw(card, SPECKV_IOC_QUERY, nullptr), EFAULT);
  void* page =
      ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  const std::uint64_t before = query(card).out_free;
  auto* args = static_cast<speckv_region_create*>(page);
  *args = {};
  args->size = sizeof *args;
  args->length = kPage;
  ASSERT_EQ(::mprotect(page, kPage, PROT_READ), 0);
  EXPECT_EQ(raw(card, SPECKV_IOC_REGION_CREATE, page), EFAULT);
  EXPECT_EQ(query(card).out_free, before);
  ::munmap(page, kPage);
  EXPECT_EQ(raw(card, SPECKV_IOC_REGION_CREATE, page), EFAULT);
  EXPECT_EQ(region_error(card, kPage, reinterpret_cast<std::uintptr_t>(page),
                         SPECKV_REGION_USER),
            EFAULT);
}

TEST(Contract, UnknownFlagsAndReservedMembersAreRefused) {
  const Fd card = open_card();
  EXPECT_EQ(region_error(card, kPage, 0, 4), EOPNOTSUPP);
  EXPECT_EQ(region_error(card, kPage, 0, 0, 1), EOPNOTSUPP);
  EXPECT_EQ(queue_error(card, 8, -1, 1), EOPNOTSUPP);
  EXPECT_EQ(queue_error(card, 8, -1, 0, 1), EOPNOTSUPP);
}

// D11: a length at a user's word takes no kernel memory of that size.
TEST(Contract, RegionRules) {
  const Fd card = open_card();
  const std::uint64_t all = query(card).out_memory;
  EXPECT_EQ(region_error(card, 0), EINVAL);
  EXPECT_EQ(region_error(card, kPage + 1), EINVAL);
  EXPECT_EQ(region_error(card, kPage, kPage), EINVAL);
  EXPECT_EQ(region_error(card, kPage, 1, SPECKV_REGION_USER), EINVAL);
  EXPECT_EQ(region_error(card, all + kPage), ENOSPC);
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;
  EXPECT_EQ(region_error(card, kHuge), ENOSPC);
  EXPECT_NE(region_error(card, kHuge, 0, SPECKV_REGION_USER), 0);
  EXPECT_NE(region_error(card, 0 - std::uint64_t{kPage}, kPage, SPECKV_REGION_USER), 0);
  EXPECT_EQ(region_error(card, kPage, 0, SPECKV_REGION_USER), EFAULT);
  EXPECT_EQ(query(card).out_free, all);
}

TEST(Contract, QueueRules) {
  const Fd card = open_card();
  for (const std::uint32_t depth :
       {0U, 1U, 3U, 100U, 8192U, std::numeric_limits<std::uint32_t>::max()}) {
    EXPECT_EQ(queue_error(card, depth), EINVAL) << depth;
  }
  EXPECT_EQ(queue_error(card, 8, -2), EINVAL);
  EXPECT_EQ(queue_error(card, 8, card.get()), EINVAL);
  EXPECT_EQ(queue_error(card, 8, 900), EINVAL);
  EXPECT_EQ(queue_error(card, 4096), 0);
}

TEST(Contract, WhatIsNotTheContextsIsNotThere) {
  const Fd card = open_card(), other = open_card();
  const std::uint32_t region = make_region(other, kPage).out_id;
  const speckv_queue_create queue = make_queue(other, 8);
  for (const unsigned long number : kObjectCalls) {
    for (const std::uint32_t id :
         {0U, 4095U, 0xffffffffU,
          number == SPECKV_IOC_REGION_DESTROY ? region : queue.out_id}) {
      EXPECT_EQ(object_error(card, number, id), ENOENT) << number << ' ' << id;
    }
  }
  speckv_desc desc = nop(0);
  speckv_cpl cpl;
  EXPECT_EQ(submit(card, queue.out_id, &desc, 1), ENOENT);
  EXPECT_EQ(reap(card, queue.out_id, &cpl, 1, nullptr), ENOENT);
  EXPECT_FALSE(Mapping(card.get(), queue.out_ring_offset, kPage).good());
  EXPECT_EQ(errno, ENOENT);
  EXPECT_FALSE(Mapping(card.get(), std::uint64_t{region} << 30, kPage).good());
  EXPECT_EQ(errno, ENOENT);
  EXPECT_FALSE(Mapping(card.get(), kPage, kPage).good());
  EXPECT_EQ(errno, EINVAL);
}

TEST(Contract, MappingRules) {
  const Fd card = open_card();
  const speckv_region_create region = make_region(card, 2 * kPage);
  const auto offset = static_cast<off_t>(region.out_mmap_offset);
  EXPECT_FALSE(Mapping(card.get(), region.out_mmap_offset, 3 * kPage).good());
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(::mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, card.get(), offset),
            MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  const Mapping whole(card.get(), region.out_mmap_offset, 2 * kPage);
  ASSERT_TRUE(whole.good());
  EXPECT_NE(::mprotect(whole.at, kPage, PROT_READ | PROT_EXEC), 0);
  EXPECT_EQ(::mremap(whole.at, 2 * kPage, 4 * kPage, MREMAP_MAYMOVE), MAP_FAILED);
}

TEST(Contract, BatchRules) {
  const Fd card = open_card();
  const std::uint32_t queue = make_queue(card, 4).out_id;
  speckv_desc descs[8]{};
  std::uint32_t taken = 0;
  EXPECT_EQ(submit(card, queue, descs, 0), EINVAL);
  EXPECT_EQ(submit(card, queue, nullptr, 1), EFAULT);
  EXPECT_EQ(reap(card, queue, nullptr, 1, nullptr), EFAULT);
  ASSERT_EQ(submit(card, queue, descs, 8, &taken), 0);
  EXPECT_EQ(taken, 4U);
  EXPECT_EQ(submit(card, queue, descs, 1), EAGAIN);
  speckv_cpl cpls[8];
  std::uint32_t answered = 0;
  while (answered < 4) {
    ASSERT_EQ(reap(card, queue, cpls, 8, &taken), 0);
    answered += taken;
  }
  EXPECT_EQ(reap(card, queue, cpls, 8, &taken), 0);
  EXPECT_EQ(taken, 0U);
  // A fault in the middle: what came before it counts.
  const auto page = static_cast<std::uint8_t*>(::mmap(
      nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ::munmap(page + kPage, kPage);
  auto* split = reinterpret_cast<speckv_desc*>(page + kPage) - 16;
  const std::uint32_t wide = make_queue(card, 64).out_id;
  ASSERT_EQ(submit(card, wide, split, 32, &taken), 0);
  EXPECT_EQ(taken, 16U);
  ::munmap(page, kPage);
}

TEST(Contract, AMappedRingIsTheProgramsAlone) {
  const Fd card = open_card();
  const MappedQueue queue(card, 8);
  const speckv_desc desc = nop(0);
  speckv_cpl cpl;
  EXPECT_EQ(submit(card, queue.id(), &desc, 1), EBUSY);
  EXPECT_EQ(reap(card, queue.id(), &cpl, 1, nullptr), EBUSY);
  Uring ring(8);
  ASSERT_EQ(ring.error(), 0);
  EXPECT_EQ(ring.run(card, queue.id(), desc), -EBUSY);
  const speckv_queue_create used = make_queue(card, 8);
  ASSERT_EQ(submit(card, used.out_id, &desc, 1), 0);
  EXPECT_FALSE(Mapping(card.get(), used.out_ring_offset, kPage).good());
  EXPECT_EQ(errno, EBUSY);
}

TEST(Contract, UringRules) {
  const Fd card = open_card();
  const std::uint32_t queue = make_queue(card, 8).out_id;
  Uring ring(8);
  ASSERT_EQ(ring.error(), 0);
  EXPECT_EQ(ring.run(card, queue, nop(0)), 0);
  EXPECT_EQ(ring.run(card, queue + 20, nop(0)), -ENOENT);
  EXPECT_EQ(ring.run(card, queue, nop(0), SPECKV_IOC_QUERY), -ENOTTY);
  EXPECT_EQ(ring.run(card, queue, nop(0), SPECKV_URING_SUBMIT, 1), -EOPNOTSUPP);
  Uring small(8, 0);
  ASSERT_EQ(small.error(), 0);
  EXPECT_EQ(small.run(card, queue, nop(0)), -EINVAL);
  speckv_desc bad = nop(0);
  bad.opcode = 99;
  EXPECT_EQ(ring.run(card, queue, bad), -EINVAL);
  bad.opcode = SPECKV_OP_PREDICT;
  // Where there is PREDICT, this is none of its tasks' descriptors.
  EXPECT_EQ(ring.run(card, queue, bad),
            has(card, SPECKV_FEATURE_PREDICT) ? -EINVAL : -EOPNOTSUPP);
  EXPECT_EQ(ring.run(card, queue, copy(1, 0, 2, 0, 64)), -EFAULT);
  EXPECT_EQ(ring.run(card, queue, nop(0)), 0);
}

// ---- Quotas ----

TEST(Quota, QueuesRegionsAndMemory) {
  const Fd card = open_card();
  const speckv_query can = query(card);
  for (std::uint32_t i = 0; i < can.out_max_queues; ++i)
    EXPECT_EQ(queue_error(card, 2), 0);
  EXPECT_EQ(queue_error(card, 2), EDQUOT);
  for (std::uint32_t i = 0; i < can.out_max_regions; ++i)
    EXPECT_EQ(region_error(card, kPage), 0);
  EXPECT_EQ(region_error(card, kPage), EDQUOT);
  ASSERT_TRUE(write_file(std::string(kSysfs) + "quota_memory", "1048576"));
  const Fd second = open_card();
  EXPECT_EQ(query(second).out_free, 1048576U);
  EXPECT_EQ(region_error(second, 1048576 + kPage), EDQUOT);
  EXPECT_EQ(region_error(second, 1048576), 0);
  EXPECT_EQ(region_error(second, kPage), EDQUOT);
  EXPECT_TRUE(
      write_file(std::string(kSysfs) + "quota_memory", std::to_string(can.out_memory)));
  EXPECT_FALSE(write_file(std::string(kSysfs) + "quota_queues", "65"));
}

// A queue that is destroyed but still mapped keeps its doorbell, and counts.
TEST(Quota, AMappedQueueCountsUntilItIsUnmapped) {
  const Fd card = open_card();
  std::vector<Mapping> kept;
  for (std::uint32_t i = 0; i < query(card).out_max_queues; ++i) {
    const speckv_queue_create queue = make_queue(card, 2);
    kept.emplace_back(card.get(), queue.out_doorbell_offset, kPage);
    ASSERT_TRUE(kept.back().good());
    EXPECT_EQ(object_error(card, SPECKV_IOC_QUEUE_DESTROY, queue.out_id), 0);
  }
  EXPECT_EQ(queue_error(card, 2), EDQUOT);
  kept.clear();
  EXPECT_EQ(queue_error(card, 2), 0);
}

// Runs `body` in a child with another user's rights; its exit status.
int as_user(uid_t user, const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(user) != 0) ::_exit(99);
    ::_exit(body());
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Quota, LockedMemoryIsBounded) {
  EXPECT_EQ(
      as_user(1000,
              [] {
                const rlimit limit{16 * kPage, 16 * kPage};
                if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 1;
                void* memory = ::mmap(nullptr, 32 * kPage, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                const auto at = reinterpret_cast<std::uintptr_t>(memory);
                for (int i = 0; i < 50; ++i) {
                  const Fd card = open_card();
                  if (region_error(card, 17 * kPage, at, SPECKV_REGION_USER) != EDQUOT)
                    return 2;
                  if (region_error(card, 16 * kPage, at, SPECKV_REGION_USER) != 0)
                    return 3;
                  if (region_error(card, kPage, at, SPECKV_REGION_USER) != EDQUOT)
                    return 4;
                }
                return 0;
              }),
      0);
}

TEST(Quota, OneUserLeavesContextsForOthers) {
  EXPECT_EQ(as_user(1000,
                    [] {
                      std::vector<Fd> mine;
                      for (;;) {
                        Fd card = open_card();
                        if (card.get() < 0) break;
                        mine.push_back(std::move(card));
                      }
                      if (errno != EDQUOT || mine.size() != 32) return 1;
                      return as_user(1000, [] { return open_card().get() < 0 ? 0 : 1; });
                    }),
            0);
  EXPECT_EQ(as_user(1001, [] { return open_card().get() < 0 ? 1 : 0; }), 0);
}

TEST(Quota, TenantsEnd) {
  std::vector<Fd> all;
  for (;;) {
    Fd card = open_card();
    if (card.get() < 0) break;
    all.push_back(std::move(card));
  }
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(all.size(), SPECKV_MAX_TENANTS);
}

}  // namespace
}  // namespace guest

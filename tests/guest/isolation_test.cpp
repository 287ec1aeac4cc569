// Two users, one card: neither can name, read, change, time out or starve what is the
// other's.
#include <functional>
#include <thread>
#include <vector>

#include <sys/wait.h>

#include "card.hpp"
#include "load.hpp"

namespace guest {
namespace {

// Bytes between two processes, one at a time.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe(ends_), 0); }
  ~Pipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  template <typename T>
  void send(const T& value) const {
    if (::write(ends_[1], &value, sizeof value) != sizeof value) std::abort();
  }
  template <typename T>
  T receive() const {
    T value{};
    if (::read(ends_[0], &value, sizeof value) != sizeof value) std::abort();
    return value;
  }

 private:
  int ends_[2] = {-1, -1};
};

// A process of another user; its exit status is the number of the check that failed.
class Child {
 public:
  Child(uid_t user, const std::function<int()>& body) : process_(::fork()) {
    if (process_ == 0) {
      if (::setgid(user) != 0 || ::setuid(user) != 0) ::_exit(99);
      ::_exit(body());
    }
  }
  int status() const {
    int status = -1;
    ::waitpid(process_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t process_;
};

speckv_desc named(std::uint32_t from, std::uint32_t to, std::uint64_t request) {
  speckv_desc desc = copy(from, 0, to, 0, 64);
  desc.flags = SPECKV_DESC_NAMED;
  desc.address_low = request << SPECKV_ADDRESS_REQUEST_SHIFT;
  desc.tokens = 64;
  return desc;
}

int hint(const Fd& card, std::uint32_t what, std::uint64_t request) {
  speckv_hint args{};
  args.hint = what;
  args.address_low = request << SPECKV_ADDRESS_REQUEST_SHIFT;
  args.tokens = 64;
  return call(card, SPECKV_IOC_HINT, args);
}

struct Belongings {
  std::uint32_t region, queue;
  std::uint64_t region_offset, ring_offset, doorbell_offset;
};

// What a neighbour tries with the numbers of another's region and queue. 0: all is
// refused.
int trespass(const Belongings& theirs) {
  const Fd card = open_card();
  const std::uint32_t own = make_region(card, kPage).out_id;
  const std::uint32_t queue = make_queue(card, 8).out_id;
  const auto code = [&](const speckv_desc& desc) {
    return code_of(carry_out(card, queue, desc));
  };
  if (code(copy(theirs.region, 0, own, 0, 64)) != SPECKV_CPL_BAD_REGION) return 1;
  if (code(copy(own, 0, theirs.region, 0, 64)) != SPECKV_CPL_BAD_REGION) return 2;
  speckv_object args{};
  args.id = theirs.region;
  if (call(card, SPECKV_IOC_REGION_DESTROY, args) != ENOENT) return 3;
  args.id = theirs.queue;
  if (call(card, SPECKV_IOC_QUEUE_RESET, args) != ENOENT) return 4;
  if (call(card, SPECKV_IOC_QUEUE_DESTROY, args) != ENOENT) return 5;
  for (const std::uint64_t offset :
       {theirs.region_offset, theirs.ring_offset, theirs.doorbell_offset}) {
    if (Mapping(card.get(), offset, kPage).good()) return 6;
  }
  speckv_prefetch prefetch{};
  prefetch.region = theirs.region;
  prefetch.length = kPage;
  if (call(card, SPECKV_IOC_PREFETCH, prefetch) != ENOENT) return 7;
  if (hint(card, SPECKV_HINT_FORGET, 7) != ENOENT) return 8;
  if (hint(card, SPECKV_HINT_HOT, 7) != ENOENT) return 9;
  if (::access("/sys/kernel/debug/speckv/speckv0/inject", W_OK) == 0) return 10;
  if (write_file(std::string(kSysfs) + "reset", "1")) return 11;
  if (write_file(std::string(kSysfs) + "quota_memory", "0")) return 12;
  return 0;
}

TEST(Isolation, ANeighbourReachesNothing) {
  const Pipe told, done;
  const Child owner(1000, [&] {
    const Fd card = open_card();
    const speckv_region_create from = make_region(card, kPage),
                               region = make_region(card, kPage);
    const speckv_queue_create queue = make_queue(card, 8);
    Mapping seen(card.get(), region.out_mmap_offset, kPage);
    if (!seen.good()) return 1;
    if (code_of(carry_out(card, queue.out_id, named(from.out_id, region.out_id, 7))) !=
        SPECKV_CPL_OK) {
      return 2;
    }
    std::memset(seen.at, 0x5a, kPage);
    told.send(Belongings{region.out_id, queue.out_id, region.out_mmap_offset,
                         queue.out_ring_offset, queue.out_doorbell_offset});
    done.receive<char>();
    for (std::size_t i = 0; i < kPage; ++i) {
      if (seen.bytes()[i] != 0x5a) return 3;
    }
    if (code_of(carry_out(card, queue.out_id, nop(1))) != SPECKV_CPL_OK) return 4;
    return hint(card, SPECKV_HINT_HOT, 7) == 0 ? 0 : 5;
  });
  const auto theirs = told.receive<Belongings>();
  EXPECT_EQ(Child(1001, [&] { return trespass(theirs); }).status(), 0);
  done.send('x');
  EXPECT_EQ(owner.status(), 0);
}

// A tenant's number goes to the next program; what the card knew of the last one does
// not.
TEST(Isolation, TheNextTenantInheritsNothing) {
  for (int round = 0; round < 3; ++round) {
    {
      const Fd card = open_card();
      const std::uint32_t from = make_region(card, 64 * kPage).out_id;
      const speckv_region_create to = make_region(card, 64 * kPage);
      const Mapping seen(card.get(), to.out_mmap_offset, 64 * kPage);
      std::memset(seen.at, 0x77, 64 * kPage);
      const std::uint32_t queue = make_queue(card, 8).out_id;
      EXPECT_EQ(hint(card, SPECKV_HINT_HOT, 9), ENOENT);
      EXPECT_EQ(code_of(carry_out(card, queue, named(from, to.out_id, 9))),
                SPECKV_CPL_OK);
      EXPECT_EQ(hint(card, SPECKV_HINT_SHARE, 9), 0);
    }
    const Fd card = open_card();
    EXPECT_EQ(hint(card, SPECKV_HINT_UNSHARE, 9), ENOENT);
    const speckv_region_create all = make_region(card, query(card).out_free);
    const Mapping seen(card.get(), all.out_mmap_offset, all.length);
    ASSERT_TRUE(seen.good());
    const auto* words = static_cast<const std::uint64_t*>(seen.at);
    std::uint64_t any = 0;
    for (std::size_t i = 0; i < all.length / 8; ++i)
      any |= words[i];
    EXPECT_EQ(any, 0U);
  }
}

// One floods the card with large copies; the other is answered all the same.
TEST(Isolation, AFloodStarvesNobody) {
  void* page =
      ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  std::atomic_ref<int> stop(*static_cast<int*>(page));
  const Pipe started;
  const Child flood(1000, [&] {
    const Fd card = open_card();
    // Eight in turn must be done within timeout_ms, on a machine that is busy, too.
    constexpr std::uint32_t kLarge = 2U << 20;
    const std::uint32_t from = make_region(card, kLarge).out_id,
                        to = make_region(card, kLarge).out_id;
    const std::vector<speckv_desc> descs(64, copy(from, 0, to, 0, kLarge));
    std::vector<std::uint32_t> queues;
    for (int i = 0; i < 8; ++i) {
      queues.push_back(make_queue(card, 64).out_id);
      if (submit(card, queues.back(), descs.data(), 64) != 0) return 1;
    }
    started.send('x');
    while (stop == 0) {
      for (const std::uint32_t queue : queues) {
        speckv_cpl cpls[64];
        std::uint32_t taken = 0;
        if (reap(card, queue, cpls, 64, &taken) != 0) return 2;
        if (taken != 0 && submit(card, queue, descs.data(), taken) != 0) return 3;
      }
    }
    return 0;
  });
  started.receive<char>();
  EXPECT_EQ(Child(1001,
                  [] {
                    const Fd card = open_card();
                    MappedQueue queue(card, 8);
                    for (std::uint16_t i = 0; i < 50; ++i) {
                      speckv_cpl cpl;
                      queue.push(nop(i));
                      if (queue.ring() != 0 || !queue.take_in_time(&cpl)) return 1;
                      if (cpl.tag != i) return 2;
                      // What the kernel asks for itself, with the watchdog looking on.
                      if (i % 10 == 0 && step(card, i + 1U) != 0) return 3;
                    }
                    return 0;
                  })
                .status(),
            0);
  stop = 1;
  EXPECT_EQ(flood.status(), 0);
  ::munmap(page, kPage);
}

// As many of them as this user gets, by as many open files as he gets; what he is then
// refused with.
template <class Make>
int take_all(std::vector<Fd>* cards, std::uint32_t* taken, Make make) {
  for (;;) {
    cards->push_back(open_card());
    if (cards->back().get() < 0) return errno;
    int error = 0;
    std::uint32_t mine = 0;
    for (; (error = make(cards->back())) == 0; ++mine) {}
    *taken += mine;
    if (mine == 0 || error != EDQUOT) return error;
  }
}

int one_queue(const Fd& card) {
  speckv_queue_create args{};
  args.depth = 2;
  args.eventfd = -1;
  return call(card, SPECKV_IOC_QUEUE_CREATE, args);
}

int one_region(const Fd& card) {
  speckv_region_create args{};
  args.length = kPage;
  return call(card, SPECKV_IOC_REGION_CREATE, args);
}

// By opening the card often, a user gets no more than his share of queues and regions.
// The next one has what he needs; root may have the rest.
TEST(Isolation, OneUserLeavesQueuesAndRegionsForOthers) {
  const Pipe taken, done;
  const Child first(1000, [&] {
    std::vector<Fd> cards;
    std::uint32_t queues = 0, regions = 0;
    const int error = take_all(&cards, &queues, one_queue);
    taken.send(queues);
    done.receive<char>();
    cards.clear();
    const int other = take_all(&cards, &regions, one_region);
    taken.send(regions);
    done.receive<char>();
    return error == EDQUOT && other == EDQUOT ? 0 : 1;
  });
  const auto second = [] {
    return Child(1001,
                 [] {
                   const Fd card = open_card();
                   if (one_queue(card) != 0) return 1;
                   if (step(card, 1) != 0) return 2;
                   return one_region(card) == 0 ? 0 : 3;
                 })
        .status();
  };
  EXPECT_EQ(taken.receive<std::uint32_t>(), SPECKV_MAX_QUEUES / 2);
  EXPECT_EQ(second(), 0);
  {
    std::vector<Fd> cards;
    std::uint32_t queues = 0;
    EXPECT_EQ(take_all(&cards, &queues, one_queue), ENOSPC);
    EXPECT_EQ(queues, SPECKV_MAX_QUEUES / 2);
  }
  done.send('x');
  EXPECT_EQ(taken.receive<std::uint32_t>(), (SPECKV_MAX_REGIONS - 1) / 2);
  EXPECT_EQ(second(), 0);
  done.send('x');
  EXPECT_EQ(first.status(), 0);
}

// A program that writes what it likes to its rings and doorbell hurts itself only.
TEST(Isolation, GarbageInARingHurtsItsOwner) {
  const Fd card = open_card(), neighbour = open_card();
  const std::uint32_t theirs = make_queue(neighbour, 8).out_id;
  std::uint32_t random = 12345;
  for (std::uint32_t round = 0; round < scaled(100); ++round) {
    MappedQueue queue(card, 16);
    ASSERT_TRUE(queue.good());
    for (int i = 0; i < 16; ++i) {
      speckv_desc desc;
      auto* words = reinterpret_cast<std::uint32_t*>(&desc);
      for (std::size_t w = 0; w < sizeof desc / 4; ++w)
        words[w] = random = random * 1664525 + 1013904223;
      desc.opcode = static_cast<std::uint8_t>(random >> 28);
      queue.push(desc);
    }
    ASSERT_EQ(queue.ring(), 0);
    speckv_cpl cpl;
    for (int i = 0; i < 16; ++i) {
      ASSERT_TRUE(queue.take_in_time(&cpl));
      EXPECT_LE(code_of(cpl), unsigned{SPECKV_CPL_BUS_ERROR});
    }
    for (const int offset : {SPECKV_DOORBELL_ARM, SPECKV_DOORBELL_STEP,
                             SPECKV_DOORBELL_NEED_KICK, SPECKV_DOORBELL_TAIL}) {
      *queue.word(static_cast<std::uint32_t>(offset)) = random =
          random * 1664525 + 1013904223;
    }
    speckv_object args{};
    args.id = queue.id();
    call(card, SPECKV_IOC_QUEUE_KICK, args);
    EXPECT_EQ(call(card, SPECKV_IOC_QUEUE_DESTROY, args), 0);
    EXPECT_EQ(code_of(carry_out(neighbour, theirs, nop(1))), SPECKV_CPL_OK);
  }
}

}  // namespace
}  // namespace guest

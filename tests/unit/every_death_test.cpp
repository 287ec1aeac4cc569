// A process that shares a mapping dies before every store that it makes there: the index
// is write-protected, each store into it is caught, and a copy of what is there by
// then is given to a survivor, who must find a whole store.
#include <gtest/gtest.h>

#ifndef __x86_64__
TEST(EveryDeath, leaves_a_whole_store) {
  GTEST_SKIP() << "the trap flag is x86's";
}
#else

#include <atomic>
#include <csignal>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "cxlspeckv/promotion.hpp"

#include "support/invariants.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

using test::HeapDevice;
using test::key_of;
using test::small_layout;
using test::StoreUnderTest;
using Kind = HeapDevice::Kind;

// The elder formats the store and stays alive in name only; the departed has died before,
// in the place that its heir has then.
constexpr std::uint32_t kElder = 64, kSurvivor = 65, kVictim = 66, kDeparted = 67,
                        kHeir = kDeparted + kMaxProcesses;
constexpr int kBroken = 3;            // the watch itself failed
constexpr std::uint64_t kBlocks = 8;  // numbers that the deeds may save
constexpr std::uint64_t kPage = 4096, kFast = 4 * kPage, kSlow = 24 * kPage;

struct Living {
  static bool alive(void* self, std::uint32_t id) {
    return static_cast<Living*>(self)->ids.contains(id);
  }
  std::set<std::uint32_t> ids;
};

// Two tiers and their index in one piece of memory: what processes share.
class Arena {
 public:
  explicit Arena(int share) {
    StoreOptions sample = without_index({});
    std::byte one{};
    sample.index.bytes = {&one, 1};
    index_ = (*index_bytes(sample) + kPage - 1) / kPage * kPage;
    void* const at = mmap(nullptr, index_ + kFast + kSlow, PROT_READ | PROT_WRITE,
                          share | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(at, MAP_FAILED);
    bytes_ = {static_cast<std::byte*>(at), index_ + kFast + kSlow};
  }
  ~Arena() { munmap(bytes_.data(), bytes_.size()); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  MutableBytes bytes() const noexcept { return bytes_; }
  MutableBytes index() const noexcept { return bytes_.first(index_); }

  StoreOptions options(std::uint32_t process, Living& living) const {
    StoreOptions options = without_index(bytes_.subspan(index_));
    options.index = {.bytes = index(),
                     .fresh = process == kElder,
                     .process = process,
                     .alive = Living::alive,
                     .context = &living};
    return options;
  }

 private:
  static StoreOptions without_index(MutableBytes memory) {
    const auto device = [&](std::uint64_t offset, std::uint64_t bytes, Kind kind) {
      auto made = memory.empty()
                      ? std::make_shared<HeapDevice>(bytes, kind)
                      : std::make_shared<HeapDevice>(memory.subspan(offset, bytes), kind);
      made->mutable_info().shared = true;
      return made;
    };
    StoreOptions options;
    options.layouts = {small_layout()};
    options.max_blocks = 64;
    options.tiers.push_back(test::tier_on("fast", device(0, kFast, Kind::memory)));
    options.tiers.push_back(
        test::tier_on("slow", device(kFast, kSlow, Kind::persistent_memory)));
    return options;
  }

  std::uint64_t index_ = 0;
  MutableBytes bytes_;
};

// A process with a store, in the arena that it shares.
class Victim {
 public:
  explicit Victim(const Arena& arena) : arena_(arena) {
    living_.ids = {kElder, kVictim};
    {
      StoreUnderTest elder(arena.options(kElder, living_));
      EXPECT_EQ(elder.save(0), Code::ok);
    }
    under_test_.emplace(arena.options(kVictim, living_));
    for (std::uint64_t n = 0; n < kBlocks; ++n) {
      const auto block = test::bytes_of_block(small_layout(), n);
      std::copy(block.begin(), block.end(), under_test_->bytes(n).begin());
    }
  }
  BlockStore& store() { return **under_test_; }
  void save(std::uint64_t number, bool durable = false) {
    const Segment where = under_test_->place(number);
    const BlockTransfer block{keys_[number], {&where, 1}, 0, {}};
    (void)store().save({&block, 1}, {.durable = durable}).wait();
  }
  void load(std::uint64_t number) {
    const Segment where = under_test_->place(number);
    const BlockTransfer block{keys_[number], {&where, 1}, 0, {}};
    (void)store().load({&block, 1}).wait();
  }
  void erase(std::uint64_t number) { (void)store().erase({&keys_[number], 1}); }
  BlockKey key(std::uint64_t number) const { return keys_[number]; }

  // Somebody else has begun to save a block, and holds another.
  void leave_orphans() {
    BlockTable& table = *store().impl().table;
    Mapping& mapping = *store().impl().mapping;
    save(1);
    save(2);
    Copy held, begun{.key = keys_[3]};
    EXPECT_EQ(table.acquire(keys_[2], held), BlockTable::Found::resident);
    const std::uint32_t own = held.node, entry = held.entry;
    table.unpin(held);
    living_.ids.insert(kDeparted);
    auto departed =
        Mapping::attach(mapping.plan(), arena_.options(kDeparted, living_).index);
    ASSERT_TRUE(departed.ok());
    (*departed)->enter([] {});
    (*departed)->my_pins(0, own).fetch_add(1);
    (*departed)->my_refs(entry).fetch_add(1);
    ASSERT_EQ(table.reserve(1, 4000, 5, begun.node), Code::ok);
    begun.tier = 1;
    ASSERT_EQ(table.link(begun, {}), Code::ok);
    mapping.nodes(1)[begun.node].owner = kDeparted;
  }
  void departed_dies() { living_.ids.erase(kDeparted); }
  void bury() {
    store().impl().mapping->bury_dead([this] { store().impl().table->adopt_orphans(); });
  }
  void open_as_heir() {
    living_.ids.insert(kHeir);
    const StoreUnderTest heir(arena_.options(kHeir, living_));
    EXPECT_TRUE(heir);
  }
  void close() { under_test_.reset(); }
  std::optional<Pin> pin;

 private:
  static std::vector<BlockKey> all_keys() {
    std::vector<BlockKey> keys;
    for (std::uint64_t n = 0; n < kBlocks; ++n)
      keys.push_back(key_of(n));
    return keys;
  }
  const Arena& arena_;
  Living living_;
  std::optional<StoreUnderTest> under_test_;
  const std::vector<BlockKey> keys_ = all_keys();
};

// Catches every store into what is shared, by whatever thread, one at a time: tells of it
// before it happens, waits for an answer, and lets it happen.
class Watch {
 public:
  static void begin(MutableBytes shared, int tell, int answer) {
    shared_ = shared;
    tell_ = tell;
    answer_ = answer;
    for (const auto& [signal, handler] :
         {std::pair{SIGSEGV, &before_store}, std::pair{SIGTRAP, &after_store}}) {
      struct sigaction action {};
      action.sa_sigaction = handler;
      action.sa_flags = SA_SIGINFO;
      EXPECT_EQ(sigaction(signal, &action, nullptr), 0);
    }
    protect(PROT_READ);
  }

 private:
  static constexpr greg_t kTrapFlag = 0x100;

  static greg_t& flags(void* context) {
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL];
  }
  static void protect(int access) {
    if (mprotect(shared_.data(), shared_.size(), access) != 0) _exit(kBroken);
  }
  static void before_store(int, siginfo_t* info, void* context) {
    const auto* const at = static_cast<const std::byte*>(info->si_addr);
    if (at < shared_.data() || at >= shared_.data() + shared_.size()) _exit(kBroken);
    while (busy_.exchange(true))
      sched_yield();
    char told = '.';
    if (write(tell_, &told, 1) != 1 || read(answer_, &told, 1) != 1) _exit(kBroken);
    protect(PROT_READ | PROT_WRITE);
    flags(context) |= kTrapFlag;  // after one instruction there is a SIGTRAP
  }
  static void after_store(int, siginfo_t*, void* context) {
    flags(context) &= ~kTrapFlag;
    protect(PROT_READ);
    busy_ = false;
  }

  static inline MutableBytes shared_;
  static inline int tell_ = -1, answer_ = -1;
  static inline std::atomic<bool> busy_{false};
};

struct Deed {
  const char* name;
  void (*before)(Victim&);
  void (*act)(Victim&);
  std::uint32_t dead = kVictim;
  friend void PrintTo(const Deed& deed, std::ostream* out) { *out << deed.name; }
};

// What a survivor finds wrong in what was shared; "" if nothing is.
std::string survive(const Arena& arena, std::uint32_t dead) {
  Living living{{kElder, kSurvivor, kVictim, kHeir}};
  living.ids.erase(dead);
  StoreUnderTest store(arena.options(kSurvivor, living));
  if (!store) return store.error().message();
  std::string faults = test::check_invariants(*store);
  std::vector<BlockKey> keys;
  for (std::uint64_t n = 0; n < kBlocks; ++n) {
    keys.push_back(key_of(n));
    const Code code = store.load(n);
    if (code != Code::ok && code != Code::not_found)
      faults += "block " + std::to_string(n) + ": " + std::string(to_string(code)) + "\n";
  }
  (void)store->erase(keys);
  faults += test::check_invariants(*store);
  if (test::used_bytes(*store) != 0) faults += "bytes are left over\n";
  return faults;
}

class EveryDeath : public testing::TestWithParam<Deed> {};

TEST_P(EveryDeath, leaves_a_whole_store) {
  const Arena shared(MAP_SHARED), copy(MAP_PRIVATE);
  int told[2], answer[2];
  ASSERT_EQ(pipe(told) | pipe(answer), 0);
  const pid_t process = fork();
  if (process == 0) {
    Victim victim(shared);
    GetParam().before(victim);
    Watch::begin(shared.index(), told[1], answer[0]);
    GetParam().act(victim);
    _exit(0);
  }
  close(told[1]);
  close(answer[0]);
  (void)signal(SIGPIPE, SIG_IGN);  // a victim that breaks off is told by its status
  std::uint64_t deaths = 0, wrong = 0;
  for (char one = 0; wrong < 3 && read(told[0], &one, 1) == 1;) {
    std::memcpy(copy.bytes().data(), shared.bytes().data(), copy.bytes().size());
    ++deaths;
    const std::string faults = survive(copy, GetParam().dead);
    EXPECT_EQ(faults, "") << "death " << deaths;
    if (!faults.empty()) ++wrong;
    if (write(answer[1], &one, 1) != 1) break;
  }
  if (wrong == 3) kill(process, SIGKILL);
  int status = 0;
  EXPECT_EQ(waitpid(process, &status, 0), process);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_GE(deaths, 5U);
  RecordProperty("deaths", std::to_string(deaths));
  close(told[0]);
  close(answer[1]);
}

const Deed kDeeds[] = {
    {"save", [](Victim&) {}, [](Victim& v) { v.save(1); }},
    {"load", [](Victim& v) { v.save(1); }, [](Victim& v) { v.load(1); }},
    {"erase", [](Victim& v) { v.save(1); }, [](Victim& v) { v.erase(1); }},
    {"erase_what_another_saved", [](Victim&) {}, [](Victim& v) { v.erase(0); }},
    {"erase_what_is_pinned",
     [](Victim& v) {
       v.save(1);
       v.pin = *v.store().pin(v.key(1));
     },
     [](Victim& v) {
       v.erase(1);
       v.pin.reset();
     }},
    {"save_durably", [](Victim&) {}, [](Victim& v) { v.save(1, true); }},
    {"erase_durably", [](Victim& v) { v.save(1, true); },
     [](Victim& v) {
       v.erase(1);
       (void)v.store().flush();
     }},
    {"make_room",
     [](Victim& v) {
       v.save(1);
       v.save(2);
     },
     [](Victim& v) {
       v.save(3);
       v.save(4);
       v.save(5);
     }},
    {"promote",
     [](Victim& v) {
       for (std::uint64_t n = 1; n < kBlocks; ++n)
         v.save(n, true);
     },
     [](Victim& v) {
       const BlockKey key = v.key(1);
       (void)promote(v.store(), {&key, 1}, 0, {}).wait();
     }},
    {"bury", [](Victim& v) { v.leave_orphans(); },
     [](Victim& v) {
       v.departed_dies();
       v.bury();
     }},
    {"inherit",
     [](Victim& v) {
       v.leave_orphans();
       v.close();
       v.departed_dies();
     },
     [](Victim& v) { v.open_as_heir(); }, kHeir},
};
INSTANTIATE_TEST_SUITE_P(Deeds, EveryDeath, testing::ValuesIn(kDeeds),
                         [](const auto& deed) { return std::string(deed.param.name); });

}  // namespace
}  // namespace speckv

#endif

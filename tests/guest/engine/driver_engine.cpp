// The engine behind /dev/speckv0, for tests/conformance/engine_*.cpp: a tenant is an open
// file.
#include <deque>
#include <map>

#include <poll.h>
#include <sys/eventfd.h>

#include "device/ring.hpp"
#include "guest/card.hpp"
#include "support/engine_fixture.hpp"

namespace speckv::test {
namespace {

using guest::Fd, guest::Mapping, guest::kPage;

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

class DriverQueue final : public QueueUnderTest {
 public:
  DriverQueue(const Fd& card, std::uint32_t depth)
      : card_(card),
        depth_(depth),
        event_(::eventfd(0, EFD_CLOEXEC)),
        made_(guest::make_queue(card, depth, event_.get())),
        rings_(card.get(), made_.out_ring_offset,
               whole_pages(depth * (sizeof(speckv_desc) + sizeof(speckv_cpl)))),
        doorbell_(card.get(), made_.out_doorbell_offset, kPage),
        ring_(bytes(rings_), bytes(rings_) + depth * sizeof(speckv_desc),
              bytes(doorbell_), depth, true) {}
  ~DriverQueue() override {
    speckv_object args{};
    args.id = made_.out_id;
    EXPECT_EQ(guest::call(card_, SPECKV_IOC_QUEUE_DESTROY, args), 0);
  }
  std::uint32_t depth() const override { return depth_; }
  std::size_t submit(std::span<const engine::Descriptor> batch) override {
    std::size_t count = 0;
    for (; count < batch.size() && ring_.room() > 0; ++count)
      ring_.push(batch[count]);
    if (ring_.publish()) kick();
    return count;
  }
  std::vector<engine::CompletionEntry> poll() override {
    std::vector<engine::CompletionEntry> found;
    while (const auto entry = ring_.take())
      found.push_back(*entry);
    return found;
  }
  std::vector<engine::CompletionEntry> wait() override {
    while (true) {
      auto found = poll();
      if (!found.empty()) return found;
      if (!ring_.arm()) continue;
      pollfd ready{event_.get(), POLLIN, 0};
      if (::poll(&ready, 1, 30000) != 1) {
        ADD_FAILURE() << "no completion within half a minute";
        return {};
      }
      std::uint64_t raised = 0;
      EXPECT_EQ(::read(event_.get(), &raised, sizeof raised), 8);
    }
  }
  void step(std::uint32_t step) override {
    auto* word = doorbell_.bytes() + SPECKV_DOORBELL_STEP;
    std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(word)).store(step);
    kick();
  }

 private:
  static std::byte* bytes(const Mapping& mapping) {
    return static_cast<std::byte*>(mapping.at);
  }
  void kick() const {
    if (!guest::has(card_, SPECKV_FEATURE_NEED_KICK)) return;
    speckv_object args{};
    args.id = made_.out_id;
    EXPECT_EQ(guest::call(card_, SPECKV_IOC_QUEUE_KICK, args), 0);
  }

  const Fd& card_;
  const std::uint32_t depth_;
  const Fd event_;
  const speckv_queue_create made_;
  const Mapping rings_, doorbell_;
  Ring ring_;
};

class DriverEngine final : public EngineUnderTest {
 public:
  EngineFacts facts() override {
    const speckv_query told = guest::query(file(0));
    return {told.out_features,    told.out_codecs,     told.out_memory,
            told.out_opcodes,     told.out_max_length, told.out_max_length,
            told.out_block_tokens};
  }
  MutableBytes allocate(std::size_t bytes) override {
    Mapping pages;
    pages.length = whole_pages(bytes);
    pages.at = ::mmap(nullptr, pages.length, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    auto* at = static_cast<std::byte*>(pages.at);
    memory_.push_back(std::move(pages));
    return {at, bytes};
  }
  bool has_write_only_regions() const override { return false; }
  std::uint32_t host_region(std::uint32_t tenant, MutableBytes memory,
                            Access access) override {
    return add(tenant,
               guest::make_region(file(tenant), whole_pages(memory.size()), memory.data(),
                                  access.write ? 0U : SPECKV_REGION_READ_ONLY));
  }
  // Where it lies in the card is the driver's to say.
  std::uint32_t card_region(std::uint32_t tenant, std::uint64_t, std::uint64_t length,
                            Access) override {
    return add(tenant, guest::make_region(file(tenant), whole_pages(length)));
  }
  void drop_region(std::uint32_t id) override {
    speckv_object args{};
    args.id = id;
    EXPECT_EQ(guest::call(file(owners_.at(id)), SPECKV_IOC_REGION_DESTROY, args), 0);
  }
  std::unique_ptr<QueueUnderTest> open_queue(std::uint32_t tenant,
                                             std::uint32_t depth_log2) override {
    return std::make_unique<DriverQueue>(file(tenant), 1U << depth_log2);
  }

 private:
  // The driver numbers its tenants as they come; where a block lies in the directory
  // follows from the number, and so the order in which candidates are told.
  const Fd& file(std::uint32_t tenant) {
    while (files_.size() <= tenant)
      files_.push_back(guest::open_card());
    return files_[tenant];
  }
  std::uint32_t add(std::uint32_t tenant, const speckv_region_create& made) {
    owners_[made.out_id] = tenant;
    return made.out_id;
  }

  std::vector<Mapping> memory_;
  std::deque<Fd> files_;  // which queues refer to
  std::map<std::uint32_t, std::uint32_t> owners_;
};

}  // namespace

std::unique_ptr<EngineUnderTest> driver_engine() {
  // The suites open more than a context is given by itself.
  EXPECT_TRUE(guest::write_file(std::string(guest::kSysfs) + "quota_queues", "64"));
  return std::make_unique<DriverEngine>();
}

}  // namespace speckv::test

// What a descriptor costs by each way of submission, and what null_blk costs in the same
// guest: one vCPU that counts instructions, so that a nanosecond of the guest's clock is
// one instruction (guest.py bench). Prints "FIGURE NAME VALUE UNIT BASELINE" lines.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "cxlspeckv/devices.hpp"

#include "device/ring.hpp"
#include "guest/card.hpp"

namespace {

using namespace guest;
using speckv::Ring;

constexpr int kRounds = 7;
constexpr std::uint32_t kNops = 2048, kReads = 16;
constexpr std::size_t kMiB = 1 << 20;

void require(bool holds, const char* what) {
  if (holds) return;
  std::printf("GUEST BAD %s (errno %d)\n", what, errno);
  std::exit(1);
}

double now() {
  return std::chrono::duration<double, std::nano>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Medians of several ways to do the same, which take turns.
std::vector<double> in_turns(const std::vector<std::function<void()>>& ways, double per) {
  std::vector<std::vector<double>> took(ways.size());
  for (int round = -1; round < kRounds; ++round) {  // the first warms up
    for (std::size_t i = 0; i < ways.size(); ++i) {
      const double start = now();
      ways[i]();
      if (round >= 0) took[i].push_back((now() - start) / per);
    }
  }
  std::vector<double> medians;
  for (const auto& values : took)
    medians.push_back(median(values));
  return medians;
}

void figure(const std::string& name, double value, const char* unit,
            const char* baseline) {
  std::printf("FIGURE %s %.6g %s %s\n", name.c_str(), value, unit, baseline);
}

// ---- one NOP ----

void nops_by_ring(const Fd& card, std::uint32_t depth) {
  static const Fd event(::eventfd(0, EFD_CLOEXEC));
  static std::uint32_t made_for = 0;
  static std::unique_ptr<Mapping> rings, doorbell;
  static std::unique_ptr<Ring> ring;
  static speckv_queue_create made{};
  if (made_for != 64) {
    made_for = 64;
    made = make_queue(card, 64, event.get());
    rings = std::make_unique<Mapping>(card.get(), made.out_ring_offset, 2 * kPage);
    doorbell = std::make_unique<Mapping>(card.get(), made.out_doorbell_offset, kPage);
    require(rings->good() && doorbell->good(), "mapping a ring");
    auto* at = static_cast<std::byte*>(rings->at);
    ring = std::make_unique<Ring>(at, at + 64 * sizeof(speckv_desc),
                                  static_cast<std::byte*>(doorbell->at), 64, true);
  }
  for (std::uint32_t done = 0; done < kNops;) {
    for (std::uint32_t i = 0; i < depth; ++i)
      ring->push({});
    if (ring->publish()) {
      speckv_object kick{};
      kick.id = made.out_id;
      require(call(card, SPECKV_IOC_QUEUE_KICK, kick) == 0, "a kick");
    }
    for (std::uint32_t taken = 0; taken < depth;) {
      if (ring->take()) {
        ++taken;
      } else if (ring->arm()) {
        std::uint64_t raised = 0;
        require(::read(event.get(), &raised, sizeof raised) == 8, "an eventfd");
      }
    }
    done += depth;
  }
}

void nops_by_ioctl(const Fd& card, std::uint32_t queue, std::uint32_t depth) {
  std::vector<speckv_desc> descs(depth, nop(1));
  std::vector<speckv_cpl> cpls(depth);
  for (std::uint32_t done = 0; done < kNops; done += depth) {
    require(submit(card, queue, descs.data(), depth) == 0, "SUBMIT");
    for (std::uint32_t taken = 0, now_taken = 0; taken < depth; taken += now_taken) {
      pollfd ready{card.get(), POLLIN, 0};
      require(::poll(&ready, 1, 20000) == 1, "poll");
      require(reap(card, queue, cpls.data(), depth - taken, &now_taken) == 0, "REAP");
    }
  }
}

// Submits `depth` entries that `prepare` fills in, waits for all, checks their results.
void through_uring(io_uring& ring, std::uint32_t depth, std::uint32_t count, int wanted,
                   const std::function<void(io_uring_sqe*)>& prepare) {
  for (std::uint32_t done = 0; done < count; done += depth) {
    for (std::uint32_t i = 0; i < depth; ++i)
      prepare(io_uring_get_sqe(&ring));
    require(io_uring_submit_and_wait(&ring, depth) == static_cast<int>(depth),
            "io_uring_submit_and_wait");
    for (std::uint32_t i = 0; i < depth; ++i) {
      io_uring_cqe* answer = nullptr;
      require(io_uring_wait_cqe(&ring, &answer) == 0, "io_uring_wait_cqe");
      require(answer->res == wanted, "a result of io_uring");
      io_uring_cqe_seen(&ring, answer);
    }
  }
}

void prepare_command(io_uring_sqe* entry, const Fd& card, std::uint32_t queue,
                     const speckv_desc& desc) {
  speckv_submit args{};
  args.queue = queue;
  args.desc = desc;
  std::memset(entry, 0, 128);
  entry->opcode = IORING_OP_URING_CMD;
  entry->fd = card.get();
  entry->cmd_op = SPECKV_URING_SUBMIT;
  std::memcpy(entry->cmd, &args, sizeof args);
}

void one_nop(const Fd& card, const Fd& null_blk, std::uint32_t depth, void* buffer) {
  static io_uring large{}, usual{};
  static const std::uint32_t for_ioctl = make_queue(card, 64).out_id,
                             for_uring = make_queue(card, 64).out_id;
  static const bool ready = io_uring_queue_init(64, &large, IORING_SETUP_SQE128) == 0 &&
                            io_uring_queue_init(64, &usual, 0) == 0;
  require(ready, "io_uring_queue_init");
  const auto times = in_turns(
      {[&] { nops_by_ring(card, depth); }, [&] { nops_by_ioctl(card, for_ioctl, depth); },
       [&] {
         through_uring(large, depth, kNops, 0, [&](io_uring_sqe* entry) {
           prepare_command(entry, card, for_uring, nop(0));
         });
       },
       [&] {
         through_uring(usual, depth, kNops, 4096, [&](io_uring_sqe* entry) {
           io_uring_prep_read(entry, null_blk.get(), buffer, 4096, 0);
         });
       }},
      kNops);
  const std::string at = "_depth_" + std::to_string(depth);
  const char* unit = "instructions";
  figure("guest_nop_ring" + at, times[0], unit, "one NOP, mapped ring and eventfd");
  figure("guest_nop_ioctl" + at, times[1], unit, "one NOP, SUBMIT, poll and REAP");
  figure("guest_nop_uring" + at, times[2], unit, "one NOP, io_uring");
  figure("guest_null_blk" + at, times[3], unit, "4 KiB of null_blk, io_uring");
  figure("guest_uring_against_null_blk" + at, times[2] / times[3], "ratio",
         "null_blk through io_uring");
  figure("guest_ring_against_uring" + at, times[0] / times[2], "ratio", "io_uring");
  figure("guest_ring_against_ioctl" + at, times[0] / times[1], "ratio", "ioctl");
}

// ---- 1 MiB ----

void one_mib(const Fd& card, const Fd& memory_backed, void* buffer) {
  io_uring large{}, usual{};
  require(io_uring_queue_init(8, &large, IORING_SETUP_SQE128) == 0 &&
              io_uring_queue_init(8, &usual, 0) == 0,
          "io_uring_queue_init");
  const std::uint32_t queue = make_queue(card, 8).out_id;
  const std::uint32_t from = make_region(card, kMiB).out_id;
  const std::uint32_t to = make_region(card, kMiB, buffer).out_id;
  const speckv_desc desc = copy(from, 0, to, 0, kMiB);
  require(::pwrite(memory_backed.get(), buffer, kMiB, 0) == kMiB, "filling null_blk");
  const auto times =
      in_turns({[&] {
                  through_uring(large, 1, kReads, kMiB, [&](io_uring_sqe* entry) {
                    prepare_command(entry, card, queue, desc);
                  });
                },
                [&] {
                  through_uring(usual, 1, kReads, kMiB, [&](io_uring_sqe* entry) {
                    io_uring_prep_read(entry, memory_backed.get(), buffer, kMiB, 0);
                  });
                }},
               kReads);
  figure("guest_mib_against_null_blk", times[0] / times[1], "ratio",
         "null_blk with memory_backed=1, io_uring");
  figure("guest_mib", times[0], "instructions", "1 MiB of card memory, io_uring");
  io_uring_queue_exit(&large);
  io_uring_queue_exit(&usual);
}

// ---- the library ----

void read_all(speckv::Queue& queue, speckv::RegionId region, std::uint64_t bytes) {
  std::array<speckv::Transfer, 4> batch{};
  for (std::uint32_t done = 0; done < kReads; done += batch.size()) {
    for (std::size_t i = 0; i < batch.size(); ++i)
      batch[i] = {speckv::Transfer::Op::read, i * kMiB, {region, i * kMiB, bytes}, i};
    require(queue.submit(batch) == batch.size(), "submit");
    for (std::size_t answered = 0; answered < batch.size();) {
      std::array<speckv::Completion, 4> found{};
      queue.wait(std::chrono::seconds(30));
      const std::size_t count = queue.poll(found);
      for (std::size_t i = 0; i < count; ++i)
        require(found[i].code == speckv::Code::ok, "a transfer of the library");
      answered += count;
    }
  }
}

// The kernel copies eight bytes an instruction (rep movsq, as counted here), the engine
// of soft: two: hence a second ratio, in which a copy costs both the same.
void the_library(speckv::MutableBytes memory) {
  const speckv::RegionId region{1};
  const auto device = speckv::open_device("cxl:/dev/speckv1?size=8M");
  const auto soft = speckv::open_device("soft:8M");
  require(device.ok() && soft.ok() && (*device)->attach(region, memory).ok() &&
              (*soft)->attach(region, memory).ok(),
          "opening devices");
  auto card_queue = (*device)->open_queue(8), soft_queue = (*soft)->open_queue(8);
  require(card_queue.ok() && soft_queue.ok(), "opening queues");
  speckv::Queue &card = **card_queue, &engine = **soft_queue;
  const auto times = in_turns(
      {[&] { read_all(card, region, kMiB); }, [&] { read_all(engine, region, kMiB); },
       [&] { read_all(card, region, 64); }, [&] { read_all(engine, region, 64); }},
      kReads);
  const double copy = times[0] - times[2];
  figure("guest_library_mib", times[0], "instructions", "1 MiB of a card by the library");
  figure("guest_library_64_bytes", times[2], "instructions", "64 bytes of a card");
  figure("guest_soft_64_bytes", times[3], "instructions", "64 bytes of soft:");
  figure("guest_library_against_soft", times[1] / times[0], "ratio",
         "throughput of soft:, 1 MiB reads");
  figure("guest_library_against_soft_copies_alike", (times[3] + copy) / (times[2] + copy),
         "ratio", "the same, as if copies cost both as much as the kernel");
}

}  // namespace

int main() {
  const Fd card = open_card();
  const Fd null_blk(::open("/dev/nullb0", O_RDONLY | O_DIRECT));
  const Fd memory_backed(::open("/dev/nullb1", O_RDWR | O_DIRECT));
  require(card.get() >= 0 && null_blk.get() >= 0 && memory_backed.get() >= 0, "opening");
  void* buffer = ::mmap(nullptr, 4 * kMiB, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  require(buffer != MAP_FAILED, "memory");
  one_nop(card, null_blk, 1, buffer);
  one_nop(card, null_blk, 32, buffer);
  one_mib(card, memory_backed, buffer);
  the_library({static_cast<std::byte*>(buffer), 4 * kMiB});
  return 0;
}

// The software engine under many threads: each with queues and regions of its own, which
// come and go; every transfer is answered once, and every byte is right.
#include <array>
#include <cstring>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "cxlspeckv/devices.hpp"

#include "support/stress_worker.hpp"

namespace speckv::test {
namespace {

using namespace std::chrono_literals;
using Op = Transfer::Op;

constexpr std::uint32_t kThreads = 8, kDepth = 16;
constexpr std::uint64_t kStretch = 256 << 10, kPiece = 4096;

// One thread's part of the device, and what should be there.
class Client {
 public:
  Client(Device& device, std::uint32_t number)
      : device_(device), number_(number), random_(number), card_(kStretch) {}

  void work(std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < rounds; ++i)
      session();
  }

 private:
  // A queue and a region, some batches, and their end.
  void session() {
    const RegionId region{number_ * 1000 + static_cast<std::uint32_t>(random_() % 900) +
                          1};
    std::vector<std::byte> memory(kDepth * kPiece), expected(memory.size());
    ASSERT_TRUE(device_.attach(region, memory).ok());
    auto opened = device_.open_queue(kDepth);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    std::unique_ptr<Queue> queue = std::move(*opened);
    for (int batch = 0; batch < 6; ++batch) {
      const Op op = batch % 2 == 0 ? Op::write : Op::read;
      for (std::size_t at = 0; at < memory.size(); at += 8) {
        const std::uint64_t word = random_();
        std::memcpy(memory.data() + at, &word, 8);
      }
      expected = memory;
      std::vector<Transfer> transfers;
      for (std::uint64_t i = 0; i < kDepth; ++i) {
        const std::uint64_t length = 1 + random_() % kPiece;
        const std::uint64_t at = i * (kStretch / kDepth) + random_() % kPiece;
        transfers.push_back(
            {op, number_ * kStretch + at, {region, i * kPiece, length}, i});
        if (op == Op::write) {
          std::memcpy(card_.data() + at, memory.data() + i * kPiece, length);
        } else {
          std::memcpy(expected.data() + i * kPiece, card_.data() + at, length);
        }
      }
      run(*queue, transfers);
      ASSERT_EQ(memory, expected);
      if (testing::Test::HasFatalFailure()) return;
    }
    queue.reset();
    ASSERT_TRUE(device_.detach(region).ok());
  }

  static void run(Queue& queue, const std::vector<Transfer>& transfers) {
    ASSERT_EQ(queue.submit(transfers), transfers.size());
    std::array<int, kDepth> answers{};
    const auto deadline = std::chrono::steady_clock::now() + 60s;
    for (std::size_t done = 0; done < transfers.size();) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "an answer is missing";
      queue.wait(10s);
      std::array<Completion, 5> found{};
      const std::size_t count = queue.poll(found);
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(found[i].code, Code::ok);
        ASSERT_EQ(++answers.at(found[i].tag), 1);
      }
      done += count;
    }
  }

  Device& device_;
  const std::uint32_t number_;
  std::mt19937_64 random_;
  std::vector<std::byte> card_;
};

TEST(SoftStress, every_transfer_of_every_thread_is_answered_once_with_its_bytes) {
  auto device = open_device("soft:" + std::to_string(kThreads * kStretch / 1024) + "K");
  ASSERT_TRUE(device.ok()) << device.error().message();
  const std::uint64_t rounds = scaled(600) / kThreads + 2;
  std::vector<std::jthread> threads;
  for (std::uint32_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { Client(**device, i).work(rounds); });
  }
}

TEST(SoftStress, a_card_has_as_many_queues_as_it_says_and_gives_them_again) {
  auto device = open_device("soft:64K");
  ASSERT_TRUE(device.ok());
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<Queue>> queues;
    while (true) {
      auto queue = (*device)->open_queue(2);
      if (!queue.ok()) {
        EXPECT_EQ(queue.error().code(), Code::no_space);
        break;
      }
      queues.push_back(std::move(*queue));
      ASSERT_LE(queues.size(), 64U);
    }
    EXPECT_EQ(queues.size(), 64U);
  }
}

}  // namespace
}  // namespace speckv::test

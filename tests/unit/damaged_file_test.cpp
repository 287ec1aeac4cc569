// Bits flipped in the file behind a pool, not through a device: each is noticed, none is
// delivered.
#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cxlspeckv/open_store.hpp"

#include "base/endian.hpp"
#include "codec/frame.hpp"
#include "support/blocks.hpp"
#include "support/store_fixture.hpp"

namespace speckv {
namespace {

namespace fs = std::filesystem;
using test::key_of;
using test::small_layout;

struct Case {
  const char* scheme;
  const char* codec;
};

class DamagedFile : public testing::TestWithParam<Case> {
 protected:
  static constexpr std::uint64_t kBlocks = 6;
  static constexpr std::size_t kBytes = 4096;

  void SetUp() override {
    path_ = testing::TempDir() + "speckv-damaged-" + std::to_string(::getpid());
    fs::remove(path_);
    config_.layouts = {small_layout()};
    TierConfig& tier = config_.tiers.emplace_back();
    tier.device = std::string(GetParam().scheme) + ":" + path_ + "?size=256K";
    tier.codec = GetParam().codec;
    for (std::uint64_t n = 0; n < kBlocks; ++n)
      plain_.push_back(make_block(small_layout(), test::Fill::normal, n));
  }
  void TearDown() override { fs::remove(path_); }

  void open() {
    store_.reset();
    auto opened = open_store(config_);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    store_ = *std::move(opened);
    region_ = *store_->attach(memory_);
  }
  Code transfer(std::uint64_t n, bool saving) {
    const Segment where{region_, 0, kBytes};
    const BlockTransfer block{key_of(n), {&where, 1}, 0, {}};
    TransferOptions options;
    options.durable = saving;
    return (saving ? store_->save({&block, 1}, options) : store_->load({&block, 1}))
        .wait()
        .code();
  }
  void save(std::uint64_t n) {
    std::copy(plain_[n].begin(), plain_[n].end(), memory_.begin());
    ASSERT_EQ(transfer(n, true), Code::ok);
  }
  void save_all() {
    for (std::uint64_t n = 0; n < kBlocks; ++n)
      save(n);
    decoded_.clear();
    for (std::uint64_t n = 0; n < kBlocks; ++n) {
      ASSERT_EQ(transfer(n, false), Code::ok);
      decoded_.emplace_back(memory_.begin(), memory_.end());
    }
  }
  // Ok only with the bytes that an undamaged load gave.
  Code load(std::uint64_t n) {
    memory_.fill(std::byte{0xEE});
    const Code code = transfer(n, false);
    if (code != Code::ok) return code;
    return std::equal(memory_.begin(), memory_.end(), decoded_[n].begin())
               ? Code::ok
               : Code::internal;
  }
  std::vector<std::byte> contents() const {
    std::vector<std::byte> bytes(fs::file_size(path_));
    std::ifstream(path_, std::ios::binary)
        .read(reinterpret_cast<char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
    return bytes;
  }
  void flip(std::uint64_t bit) const {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
    char byte = 0;
    ASSERT_EQ(::pread(fd, &byte, 1, static_cast<off_t>(bit / 8)), 1);
    byte = static_cast<char>(byte ^ (1 << (bit % 8)));
    ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(bit / 8)), 1);
    ::close(fd);
  }
  // Whether that byte of a frame is one of the checksums of units, which are not for who
  // loads layers.
  static bool in_checks(Bytes frame, std::uint64_t at) {
    for (std::uint32_t l = 0; l < small_layout().layers; ++l) {
      const FrameLayer layer = frame_layer(frame, l);
      if (at >= layer.checks_offset() && at < layer.end()) return true;
    }
    return false;
  }
  // Where in the file the frame of a block has bytes other than zero that a load reads,
  // by its newest record (docs/block-format.md).
  std::vector<std::uint64_t> places_of(std::uint64_t n) const {
    const std::vector<std::byte> file = contents();
    const auto number = [&](std::uint64_t at, auto type) {
      return load_le<decltype(type)>(file.data() + at);
    };
    const auto unit = number(32, std::uint64_t{}), data = number(48, std::uint64_t{});
    std::uint64_t first = 0, bytes = 0;
    std::uint32_t newest = 0;
    for (std::uint64_t at = 8192; at < 8192 + 64 * number(12, std::uint32_t{});
         at += 64) {
      const BlockKey key{number(at, std::uint64_t{}), number(at + 8, std::uint64_t{})};
      const auto generation = number(at + 32, std::uint32_t{});
      if (key != key_of(n) || generation < newest) continue;
      newest = generation;
      first = data + number(at + 16, std::uint32_t{}) * unit;
      bytes = number(at + 24, std::uint32_t{});
    }
    const Bytes frame = Bytes(file).subspan(first, bytes);
    std::vector<std::uint64_t> places;
    for (std::uint64_t at = 0; at < bytes; ++at)
      if (frame[at] != std::byte{0} && !in_checks(frame, at))
        places.push_back(first + at);
    return places;
  }

  std::string path_;
  StoreConfig config_;
  std::vector<std::vector<std::byte>> plain_, decoded_;
  std::array<std::byte, kBytes> memory_{};
  std::unique_ptr<BlockStore> store_;
  RegionId region_{};
};

TEST_P(DamagedFile, a_live_store_notices_each_flip_in_a_frame) {
  open();
  save_all();
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    const std::uint64_t hit = random() % kBlocks;
    const std::vector<std::uint64_t> places = places_of(hit);
    ASSERT_GT(places.size(), 500U);
    flip(places[random() % places.size()] * 8 + random() % 8);
    for (std::uint64_t n = 0; n < kBlocks; ++n)
      ASSERT_EQ(load(n), n == hit ? Code::corrupted : Code::ok) << "round " << round;
    save(hit);
  }
}

TEST_P(DamagedFile, a_pool_that_is_opened_again_delivers_no_flip_anywhere) {
  open();
  save_all();
  store_.reset();
  const std::uint64_t bits = fs::file_size(path_) * 8;
  const std::vector<std::byte> sound = contents();
  std::mt19937_64 random(2);
  unsigned right = 0, not_right = 0;
  for (unsigned round = 0; round < 60; ++round) {
    // A third of them each in the superblocks, the records, and anywhere.
    const std::uint64_t among =
        std::array<std::uint64_t, 3>{8192 * 8, 16384 * 8, bits}.at(round % 3);
    for (int i = 0; i < 3; ++i)
      flip(random() % among);
    if (auto opened = open_store(config_); opened.ok()) {
      store_ = *std::move(opened);
      region_ = *store_->attach(memory_);
      for (std::uint64_t n = 0; n < kBlocks; ++n) {
        const Code code = load(n);
        EXPECT_NE(code, Code::internal) << "round " << round;
        ++(code == Code::ok ? right : not_right);
      }
      store_.reset();
    }
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(sound.data()),
               static_cast<std::streamsize>(sound.size()));
  }
  EXPECT_GT(right, not_right);  // three bits spoil little, and not everything is refused
  EXPECT_GT(not_right, 0U);
}

const Case kCases[] = {{"file", "raw"}, {"file", "int8"}, {"file", "lossless"},
                       {"dax", "raw"},  {"dax", "kvq4"},  {"dax", "hx4096"}};
INSTANTIATE_TEST_SUITE_P(Cases, DamagedFile, testing::ValuesIn(kCases),
                         [](const auto& row) {
                           return std::string(row.param.scheme) + "_" + row.param.codec;
                         });

}  // namespace
}  // namespace speckv

// support/store_fixture.hpp -- small stores on heap devices, and blocks whose bytes
// follow from their number, so that any test can tell right bytes from wrong ones.
#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cxlspeckv/cxlspeckv.hpp"

#include "support/heap_device.hpp"

namespace speckv::test {

// 2 layers x K, V x 2 heads x 16 tokens x 16 channels x f16: 4,096 bytes.
inline BlockLayout small_layout() {
  return {.layers = 2, .kv_heads = 2, .head_dim = 16, .tokens = 16, .dtype = DType::f16};
}

inline BlockKey key_of(std::uint64_t number) {
  const std::string text = "block " + std::to_string(number);
  return key_from(std::as_bytes(std::span(text)), "");
}

inline std::vector<std::byte> bytes_of_block(const BlockLayout& layout,
                                             std::uint64_t number) {
  std::mt19937_64 random(number);
  std::vector<std::byte> bytes(layout.bytes());
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    // Finite f16 values of any size.
    const auto value = static_cast<std::uint16_t>(random() & 0xBBFF);
    bytes[i] = static_cast<std::byte>(value & 0xFF);
    if (i + 1 < bytes.size()) bytes[i + 1] = static_cast<std::byte>(value >> 8);
  }
  return bytes;
}

inline Tier tier_on(std::string name, std::shared_ptr<Device> device,
                    const char* codec = "raw") {
  Tier tier;
  tier.name = std::move(name);
  tier.device = std::move(device);
  tier.codec = find_codec(codec);
  return tier;
}

// What one block of the layout takes in a tier of heap memory, header and all.
inline std::uint64_t frame_bytes(const BlockLayout& layout, std::uint64_t align = 64) {
  const std::uint64_t header = (48 + 16ULL * layout.layers + 63) / 64 * 64;
  const std::uint64_t layers = layout.layers * ((layout.layer_bytes() + 63) / 64 * 64);
  return (header + layers + align - 1) / align * align;
}

// A store, memory registered with it, and the calls most tests make.
class StoreUnderTest {
 public:
  explicit StoreUnderTest(StoreOptions options, std::size_t room = 64)
      : layout_(options.layouts.at(0)), memory_(layout_.bytes() * room) {
    auto opened = BlockStore::open(std::move(options));
    if (!opened) {
      error_ = opened.error();
      return;
    }
    store_ = *std::move(opened);
    region_ = *store_->attach(memory_);
  }

  BlockStore& operator*() { return *store_; }
  BlockStore* operator->() { return store_.get(); }
  explicit operator bool() const { return store_ != nullptr; }
  const Status& error() const { return error_; }
  void close() { store_.reset(); }

  Segment place(std::size_t slot) const {
    return {region_, slot * layout_.bytes(), layout_.bytes()};
  }
  MutableBytes bytes(std::size_t slot) {
    return MutableBytes(memory_).subspan(slot * layout_.bytes(), layout_.bytes());
  }

  Code save(std::uint64_t number, TransferOptions options = {}, std::size_t slot = 0) {
    const auto block = bytes_of_block(layout_, number);
    std::copy(block.begin(), block.end(), bytes(slot).begin());
    const Segment where = place(slot);
    const BlockTransfer transfer{key_of(number), {&where, 1}, 0, {}};
    Operation op = store_->save({&transfer, 1}, options);
    (void)op.wait();
    return op.code(0);
  }
  // The code, and ok only if the bytes are right too; internal if they are not.
  Code load(std::uint64_t number, std::size_t slot = 1) {
    std::fill(bytes(slot).begin(), bytes(slot).end(), std::byte{0xEE});
    const Segment where = place(slot);
    const BlockTransfer transfer{key_of(number), {&where, 1}, 0, {}};
    Operation op = store_->load({&transfer, 1});
    (void)op.wait();
    if (op.code(0) != Code::ok) return op.code(0);
    const auto wanted = bytes_of_block(layout_, number);
    return std::equal(wanted.begin(), wanted.end(), bytes(slot).begin()) ? Code::ok
                                                                         : Code::internal;
  }
  int tier_of(std::uint64_t number) const {
    const BlockKey key = key_of(number);
    std::int8_t tier = 0;
    store_->lookup({&key, 1}, {&tier, 1});
    return tier;
  }

 private:
  BlockLayout layout_;
  std::vector<std::byte> memory_;
  std::unique_ptr<BlockStore> store_;
  RegionId region_{};
  Status error_;
};

}  // namespace speckv::test

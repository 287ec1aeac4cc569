#include "store/kept_blocks.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "store/impl.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kMix = 0x9E3779B97F4A7C15;  // 2^64 over the golden ratio
constexpr std::uint32_t kCauseShift = 30;
constexpr std::uint32_t kDeepest = 0xFFFE;  // that a row can say

std::uint64_t tag_of(BlockKey block) noexcept {
  return block.low & 0xFFFFFFFF00000000;
}
std::uint64_t row_of(BlockKey block, std::uint32_t owner, std::uint32_t depth) noexcept {
  return tag_of(block) | std::uint64_t{owner} << 16 | (std::min(depth, kDeepest) + 1);
}
bool is_of(std::uint64_t row, BlockKey block) noexcept {
  return row != 0 && (row & 0xFFFFFFFF00000000) == tag_of(block);
}
std::uint32_t owner_of(std::uint64_t row) noexcept {
  return static_cast<std::uint32_t>(row >> 16 & 0xFFFF);
}
std::uint32_t depth_of(std::uint64_t row) noexcept {
  return static_cast<std::uint32_t>(row & 0xFFFF) - 1;
}

}  // namespace

// Twice the rows that are asked for, so that few lines have more than they hold.
KeptBlocks::KeptBlocks(std::uint32_t blocks, std::uint32_t owners)
    : lines_(std::bit_ceil(std::size_t{blocks} * 2 / kRows + 1)),
      line_(std::make_unique<Line[]>(lines_)),
      kept_(owners),
      lost_(owners) {}

KeptBlocks::Line& KeptBlocks::line_of(BlockKey block) const noexcept {
  return line_[(block.high * kMix >> 32) & (lines_ - 1)];
}

void KeptBlocks::own(BlockKey block, std::uint32_t owner, std::uint32_t depth) noexcept {
  Line& line = line_of(block);
  std::atomic<std::uint64_t>* place = nullptr;
  for (auto& row : line.rows) {
    const std::uint64_t is = row.load(std::memory_order_relaxed);
    if (is_of(is, block)) {
      place = &row;
      break;
    }
    if (is == 0 && place == nullptr) place = &row;
  }
  if (place == nullptr) place = &line.rows[block.low >> 32 & (kRows - 1)];
  place->store(row_of(block, owner, depth), std::memory_order_relaxed);
}

void KeptBlocks::disown(BlockKey block, std::uint32_t owner) noexcept {
  for (auto& row : line_of(block).rows) {
    const std::uint64_t is = row.load(std::memory_order_relaxed);
    if (is_of(is, block) && owner_of(is) == owner)
      row.store(0, std::memory_order_relaxed);
  }
}

void KeptBlocks::keep(std::uint32_t owner, std::uint32_t depth,
                      std::uint32_t cause) noexcept {
  kept_[owner].store(std::min(depth, kAll) | cause << kCauseShift,
                     std::memory_order_relaxed);
}

void KeptBlocks::allow(std::uint64_t blocks) noexcept {
  allowed_.store(static_cast<std::int64_t>(std::min(blocks, std::uint64_t{1} << 62)),
                 std::memory_order_relaxed);
}

std::uint64_t KeptBlocks::find(BlockKey block) const noexcept {
  for (const auto& row : line_of(block).rows) {
    const std::uint64_t is = row.load(std::memory_order_relaxed);
    if (is_of(is, block)) return owner_of(is) < kept_.size() ? is : 0;
  }
  return 0;
}

bool KeptBlocks::pass(BlockKey block) noexcept {
  if (allowed_.load(std::memory_order_relaxed) <= 0) return false;
  const std::uint64_t row = find(block);
  if (row == 0) return false;
  const std::uint32_t kept = kept_[owner_of(row)].load(std::memory_order_relaxed);
  if (depth_of(row) >= (kept & kAll)) return false;
  allowed_.fetch_sub(1, std::memory_order_relaxed);
  const std::uint32_t cause = std::min(kept >> kCauseShift, kCauses - 1);
  passed_[cause].fetch_add(1, std::memory_order_relaxed);
  return true;
}

void KeptBlocks::left(BlockKey block) noexcept {
  if (const std::uint64_t row = find(block); row != 0)
    lost_[owner_of(row)].store(1, std::memory_order_relaxed);
}

bool retain(BlockStore& store, std::size_t tier, std::shared_ptr<KeptBlocks> kept) {
  return store.impl().table->retain(static_cast<std::uint32_t>(tier), std::move(kept));
}

void release(BlockStore& store, std::size_t tier, const KeptBlocks& kept) {
  store.impl().table->release(static_cast<std::uint32_t>(tier), kept);
}

PlainBytes plain_bytes(BlockStore& store, std::size_t tier) {
  const BlockStore::Impl& impl = store.impl();
  TierState& its = *impl.tiers[tier];
  PlainBytes plain{its.counters().plain_bytes.load(std::memory_order_relaxed),
                   its.capacity()};
  const std::uint64_t growing = tier == 0 ? impl.growing.load() : 0;
  plain.capacity -= std::min(growing, plain.capacity);
  std::uint64_t used = 0;
  {
    const TierLock lock(its);
    used = std::uint64_t{its.extents().used_units()} * its.geometry.unit;
  }
  if (used <= growing || plain.held == 0) return plain;
  const double ratio =
      static_cast<double>(plain.held) / static_cast<double>(used - growing);
  // Rounded: whole blocks of one size are as many as they are.
  plain.capacity = static_cast<std::uint64_t>(
      std::llround(static_cast<double>(plain.capacity) * ratio));
  return plain;
}

}  // namespace speckv

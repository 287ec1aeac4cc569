#include "store/extents.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

namespace speckv {
namespace {

constexpr std::uint32_t kSteps = 8;  // linear steps in each power of two

// The class of extents of this size: sizes below kSteps have one each.
std::uint32_t class_of(std::uint32_t units) noexcept {
  if (units < kSteps) return units;
  const auto log = static_cast<std::uint32_t>(std::bit_width(units)) - 1;
  const std::uint32_t step = (units >> (log - 3)) & (kSteps - 1);
  return (log - 2) * kSteps + step;
}

NodeState state_of(const Node& node) noexcept {
  return node.state.load(std::memory_order_relaxed);
}
void set_state(Node& node, NodeState state) noexcept {
  // release: whoever sees the state sees the record that it describes.
  node.state.store(state, std::memory_order_release);
}
bool holds_bytes(NodeState state) noexcept {
  return state != NodeState::unused && state != NodeState::free;
}

}  // namespace

void Extents::format(std::uint32_t units) noexcept {
  header_.units = units;
  header_.bump = 0;
  header_.unused = kNone;
  header_.used_units = 0;
  std::memset(header_.nonempty, 0, sizeof header_.nonempty);
  std::memset(header_.heads, 0xFF, sizeof header_.heads);
  const std::uint32_t whole = take_record();
  Node& node = nodes_[whole];
  node.offset = 0;
  node.units = units;
  node.before = node.after = kNone;
  set_state(node, NodeState::free);
  list_insert(whole);
}

std::uint32_t Extents::take_record() noexcept {
  if (header_.unused != kNone) {
    const std::uint32_t taken = header_.unused;
    header_.unused = nodes_[taken].next;
    return taken;
  }
  const std::uint32_t next = header_.bump.load(std::memory_order_relaxed);
  if (next >= node_count_) return kNone;
  header_.bump.store(next + 1, std::memory_order_relaxed);
  return next;
}

void Extents::drop_record(std::uint32_t index) noexcept {
  set_state(nodes_[index], NodeState::unused);
  nodes_[index].next = header_.unused;
  header_.unused = index;
}

void Extents::list_insert(std::uint32_t index) noexcept {
  const std::uint32_t c = class_of(nodes_[index].units);
  nodes_[index].prev = kNone;
  nodes_[index].next = header_.heads[c];
  if (header_.heads[c] != kNone) nodes_[header_.heads[c]].prev = index;
  header_.heads[c] = index;
  header_.nonempty[c / 64] |= 1ULL << (c % 64);
}

void Extents::list_remove(std::uint32_t index) noexcept {
  const Node& node = nodes_[index];
  const std::uint32_t c = class_of(node.units);
  if (node.prev != kNone) {
    nodes_[node.prev].next = node.next;
  } else {
    header_.heads[c] = node.next;
    if (node.next == kNone) header_.nonempty[c / 64] &= ~(1ULL << (c % 64));
  }
  if (node.next != kNone) nodes_[node.next].prev = node.prev;
}

// Extents of the same class may be smaller, so that list is walked; any in a higher class
// fits. Blocks mostly come in one size, and then the first of the walk fits.
std::uint32_t Extents::find_fit(std::uint32_t units) const noexcept {
  const std::uint32_t own = class_of(units);
  for (std::uint32_t n = header_.heads[own]; n != kNone; n = nodes_[n].next) {
    if (nodes_[n].units >= units) return n;
  }
  for (std::uint32_t c = own + 1; c < kSizeClasses; c = (c / 64 + 1) * 64) {
    const std::uint64_t word = header_.nonempty[c / 64] >> (c % 64);
    if (word != 0) {
      return header_.heads[c + static_cast<std::uint32_t>(std::countr_zero(word))];
    }
  }
  return kNone;
}

// Cuts a new free extent off the end of `index`.
void Extents::split(std::uint32_t index, std::uint32_t units) noexcept {
  Node& node = nodes_[index];
  if (node.units == units) return;
  const std::uint32_t rest = take_record();
  if (rest == kNone) return;  // out of records: the block keeps the rest
  Node& tail = nodes_[rest];
  tail.offset = node.offset + units;
  tail.units = node.units - units;
  tail.before = index;
  tail.after = node.after;
  if (tail.after != kNone) nodes_[tail.after].before = rest;
  node.after = rest;
  node.units = units;
  set_state(tail, NodeState::free);
  if (tail.after != kNone && state_of(nodes_[tail.after]) == NodeState::free) {
    list_remove(tail.after);
    absorb_next(rest);
  }
  list_insert(rest);
}

std::uint32_t Extents::allocate(std::uint32_t units, std::uint32_t owner) noexcept {
  if (units == 0) return kNone;
  const std::uint32_t found = find_fit(units);
  if (found == kNone) return kNone;
  Node& node = nodes_[found];
  list_remove(found);
  split(found, units);
  node.frame_bytes = 0;
  node.entry = kNone;
  node.generation = 0;
  node.owner.store(owner, std::memory_order_relaxed);
  header_.used_units += node.units;
  set_state(node, NodeState::filling);
  return found;
}

void Extents::trim(std::uint32_t index, std::uint32_t units) noexcept {
  Node& node = nodes_[index];
  if (units == 0 || units >= node.units) return;
  const std::uint32_t before = node.units;
  split(index, units);
  header_.used_units -= before - node.units;
}

// `index` takes in the extent after it, whose record is dropped.
void Extents::absorb_next(std::uint32_t index) noexcept {
  const std::uint32_t next = nodes_[index].after;
  nodes_[index].units += nodes_[next].units;
  nodes_[index].after = nodes_[next].after;
  if (nodes_[index].after != kNone) nodes_[nodes_[index].after].before = index;
  drop_record(next);
}

void Extents::release(std::uint32_t index) noexcept {
  Node& node = nodes_[index];
  header_.used_units -= node.units;
  node.entry = kNone;
  // The owner stays: until the state changes it is what a survivor finds this one by.
  set_state(node, NodeState::free);
  if (node.after != kNone && state_of(nodes_[node.after]) == NodeState::free) {
    list_remove(node.after);
    absorb_next(index);
  }
  const std::uint32_t before = node.before;
  if (before != kNone && state_of(nodes_[before]) == NodeState::free) {
    list_remove(before);
    absorb_next(before);
    list_insert(before);
  } else {
    list_insert(index);
  }
}

Node& Extents::claim(std::uint32_t index) noexcept {
  header_.bump.store(std::max(header_.bump.load(), index + 1));
  return nodes_[index];
}

// Two lists, linked by `after` and in the order of their offsets, become one.
std::uint32_t Extents::merge(std::uint32_t a, std::uint32_t b) noexcept {
  std::uint32_t first = kNone;
  std::uint32_t* end = &first;
  while (a != kNone && b != kNone) {
    std::uint32_t& lower = nodes_[b].offset < nodes_[a].offset ? b : a;
    *end = lower;
    end = &nodes_[lower].after;
    lower = *end;
  }
  *end = a != kNone ? a : b;
  return first;
}

// The nodes that hold bytes, linked by `after` in the order of their offsets: sorted in
// place, because whoever finds the lock of a dead process must not fail.
std::uint32_t Extents::used_by_place(std::uint32_t records) noexcept {
  constexpr std::size_t kRuns = 32;
  std::array<std::uint32_t, kRuns> runs;  // the i-th is empty, or has 2^i nodes
  runs.fill(kNone);
  for (std::uint32_t n = 0; n < records; ++n) {
    if (!holds_bytes(state_of(nodes_[n]))) continue;
    std::uint32_t run = n;
    nodes_[n].after = kNone;
    std::size_t i = 0;
    for (; i + 1 < kRuns && runs[i] != kNone; ++i)
      run = merge(std::exchange(runs[i], kNone), run);
    runs[i] = merge(runs[i], run);
  }
  std::uint32_t all = kNone;
  for (const std::uint32_t run : runs)
    all = merge(run, all);
  return all;
}

std::uint32_t Extents::rebuild(std::uint32_t units) noexcept {
  const std::uint32_t records = std::min(header_.bump.load(), node_count_);
  std::uint32_t dropped = 0, end = 0, kept = kNone;
  std::uint32_t* kept_end = &kept;
  for (std::uint32_t n = used_by_place(records), next = kNone; n != kNone; n = next) {
    Node& node = nodes_[n];
    next = node.after;
    if (node.offset < end || node.units == 0 || node.units > units ||
        node.offset > units - node.units) {
      set_state(node, NodeState::unused);
      ++dropped;
      continue;
    }
    end = node.offset + node.units;
    *kept_end = n;
    kept_end = &node.after;
  }
  *kept_end = kNone;
  // Records that hold nothing go to the unused list, then gaps take from it.
  header_.units = units;
  header_.bump = records;
  header_.unused = kNone;
  header_.used_units = 0;
  std::memset(header_.nonempty, 0, sizeof header_.nonempty);
  std::memset(header_.heads, 0xFF, sizeof header_.heads);
  for (std::uint32_t n = records; n-- > 0;) {
    if (!holds_bytes(state_of(nodes_[n]))) drop_record(n);
  }
  std::uint32_t last = kNone;
  end = 0;
  const auto link = [&](std::uint32_t n) {
    nodes_[n].before = last;
    nodes_[n].after = kNone;
    if (last != kNone) nodes_[last].after = n;
    last = n;
    end = nodes_[n].offset + nodes_[n].units;
  };
  const auto fill_gap = [&](std::uint32_t until) {
    if (end == until) return;
    const std::uint32_t gap = take_record();
    if (gap == kNone) return;
    nodes_[gap].offset = end;
    nodes_[gap].units = until - end;
    link(gap);
    set_state(nodes_[gap], NodeState::free);
    list_insert(gap);
  };
  for (std::uint32_t n = kept, next = kNone; n != kNone; n = next) {
    next = nodes_[n].after;
    fill_gap(nodes_[n].offset);
    link(n);
    header_.used_units += nodes_[n].units;
  }
  fill_gap(units);
  return dropped;
}

}  // namespace speckv

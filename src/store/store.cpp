#include <algorithm>
#include <string>
#include <utility>

#include "cxlspeckv/guarded.hpp"

#include "base/told.hpp"
#include "store/impl.hpp"

namespace speckv {
namespace {

constexpr std::size_t kLookAhead = 8;  // keys whose index lines are fetched ahead

// Lengths are a caller's, and may sum to more than 64 bits hold.
bool add_up_to(std::span<const Segment> segments, std::uint64_t wanted) noexcept {
  for (const Segment& s : segments) {
    if (s.length > wanted) return false;
    wanted -= s.length;
  }
  return wanted == 0;
}

}  // namespace

CodingScratch& thread_scratch() {
  thread_local CodingScratch scratch;
  return scratch;
}

// ---- what the parts tell each other

void BlockStore::Impl::on_event(Event::Kind kind, BlockKey key, std::uint32_t tier,
                                std::uint64_t bytes, std::uint64_t order) noexcept {
  services.emit(kind, key, tier, bytes, order);
  services.changes.announce();
}
void BlockStore::Impl::on_published(std::uint32_t tier, std::uint32_t node,
                                    std::uint64_t bytes) noexcept {
  movers[tier]->published(node, bytes);
}
void BlockStore::Impl::on_quarantine(std::uint32_t tier, std::uint32_t node) noexcept {
  movers[tier]->quarantine(node);
}
void BlockStore::Impl::on_pressure(std::uint32_t tier) noexcept {
  const std::uint32_t target = table->demotion_target(tier);
  if (target < movers.size()) movers[target]->relieve(tier);
}
bool BlockStore::Impl::post(std::uint32_t tier, Job& job) {
  return movers[tier]->post(job);
}
void BlockStore::Impl::hurry(std::uint32_t tier) {
  movers[tier]->hurry();
}

// Looks for dead processes once a second, on whichever mover comes first.
void BlockStore::Impl::tick() {
  if (!mapping->is_shared()) return;
  const std::int64_t now = services.clock->now().time_since_epoch().count();
  std::int64_t due = next_burial_.load(std::memory_order_relaxed);
  if (now < due || !next_burial_.compare_exchange_strong(due, now + 1'000'000'000))
    return;
  // Without memory the dead stay on the list until there is some.
  (void)guarded([this] {
    mapping->bury_dead([this] { table->adopt_orphans(); });
    return Code::ok;
  });
}

// ---- operations

std::shared_ptr<OperationState> BlockStore::Impl::begin(
    std::span<const BlockTransfer> blocks, const TransferOptions& options, bool saving) {
  auto op = std::make_shared<OperationState>(blocks.size(), options, *services.clock);
  op->regions = &regions;
  op->layers = options.layers;
  op->tenant = options.tenant;
  op->durable = options.durable;
  if (saving) op->dropped = &tiers[0]->counters().saves_dropped;
  if (options.fence != nullptr) op->fence = *options.fence;
  const auto fault_of = [&](const BlockTransfer& given) -> const char* {
    const auto layout = static_cast<std::uint16_t>(given.layout);
    if (layout >= services.layouts.size()) return "the store has no such layout";
    const BlockLayout& its = services.layout(layout);
    const std::uint32_t layers = op->layers.resolve(its);
    if (layers == 0) return "its layout has no such layers";
    // Options that would have no effect are refused, as they are in C.
    if (saving && layers != its.layers) return "a save is of whole blocks";
    if (!saving && options.durable) return "a load cannot be durable";
    if (!add_up_to(given.memory, std::uint64_t{layers} * its.layer_bytes()))
      return "its segments are not as long as its layers";
    if (regions.resolve(given.memory, op->pieces, op->holds) != Code::ok)
      return "a segment is not inside a region of the store";
    return nullptr;
  };
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    OperationState::Block& block = op->blocks[i];
    block.key = blocks[i].key;
    block.layout = blocks[i].layout;
    block.first_position = blocks[i].first_position;
    block.first_piece = static_cast<std::uint32_t>(op->pieces.size());
    block.why = fault_of(blocks[i]);
    block.code = block.why == nullptr ? Code::ok : Code::invalid_argument;
    block.piece_count = static_cast<std::uint32_t>(op->pieces.size()) - block.first_piece;
  }
  return op;
}

// Why a block is not begun at all: ok if it is.
Code BlockStore::Impl::refusal(const OperationState& op, std::size_t index) const {
  const Code code = op.blocks[index].code;
  return code == Code::ok && op.overdue(*services.clock) ? Code::timed_out : code;
}

// Without memory to begin it the operation is refused; a block that there is no memory to
// go on with ends as no_space.
Operation BlockStore::Impl::transfer(std::span<const BlockTransfer> blocks,
                                     const TransferOptions& options, bool saving) {
  std::shared_ptr<OperationState> op;
  const Code begun = guarded([&] {
    op = begin(blocks, options, saving);
    return Code::ok;
  });
  if (begun != Code::ok) {
    if (saving) tiers[0]->counters().saves_dropped.fetch_add(blocks.size());
    return Operation::refused(blocks.size());
  }
  if (blocks.empty() && op->completions != nullptr)
    op->completions->push(op->announcement);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    Code code = refusal(*op, i);
    if (code == Code::ok) {
      code = guarded([&] {
        saving ? save_block(op, i) : load_block(op, i);
        return Code::ok;
      });
      if (code == Code::ok) continue;
    }
    op->finish(i, code);
  }
  return Operation(std::move(op));
}

void BlockStore::Impl::post_or_fail(std::uint32_t tier, Job& job) {
  if (movers[tier]->post(job)) return;
  const auto until = std::min(
      job.op->deadline, services.clock->now() + tiers[tier]->device->info().timeout);
  const bool posted = services.changes.wait_until(
      *services.clock, until, [&] { return movers[tier]->post(job); });
  if (!posted)
    job.finish(job.op->overdue(*services.clock) ? Code::timed_out : Code::busy);
}

bool BlockStore::Impl::within_quota(TenantId tenant, std::uint64_t bytes) const noexcept {
  const TenantRow& row = mapping->tenant(static_cast<std::uint16_t>(tenant));
  const std::uint64_t quota = row.quota.load(std::memory_order_relaxed);
  return quota == 0 || row.used.load(std::memory_order_relaxed) + bytes <= quota;
}

std::uint32_t BlockStore::Impl::persistent_tier() const noexcept {
  std::uint32_t t = 0;
  while (t < tiers.size() && (!tiers[t]->persistent || tiers[t]->fenced()))
    ++t;
  return t;
}

Status BlockStore::Impl::no_persistent_tier() const {
  for (const auto& tier : tiers) {
    if (tier->persistent) return {Code::io_error, "tier " + tier->name + " is fenced"};
  }
  return {Code::unsupported, "no tier is persistent"};
}

// Frames a block straight into a memory tier, on the caller's thread.
Code BlockStore::Impl::save_here(OperationState& op, std::size_t index, std::uint32_t t) {
  TierState& tier = *tiers[t];
  const OperationState::Block& block = op.blocks[index];
  const auto layout_id = static_cast<std::uint16_t>(block.layout);
  const BlockLayout& layout = services.layout(layout_id);
  const auto choice = tier.codecs();
  const LayerCodecs codecs = choice->codecs(layout_id);
  Copy target{block.key, t,
              kNone,     kNone,
              0,         block.first_position,
              layout_id, static_cast<std::uint16_t>(op.tenant)};
  Code code =
      table->reserve(t, max_frame_bytes(layout, codecs), target.tenant, target.node);
  if (code != Code::ok) return code;
  code = table->link(target, {.only_if_absent = true});
  if (code != Code::ok) return code == Code::busy ? Code::cancelled : code;
  const std::uint64_t frame = encode_block(
      layout, codecs, block.key, block.first_position, services.profile, op.memory(index),
      tier.bytes_of(tier.node(target.node)), thread_scratch());
  if (frame == 0) {
    table->abandon(target);
    return Code::no_space;
  }
  tier.counters().bytes_written.fetch_add(frame, std::memory_order_relaxed);
  code = table->publish(target, frame);
  services.changes.announce();
  if (code == Code::ok) emit(Event::Kind::save, target);
  return code == Code::not_found ? Code::ok : code;  // erased as soon as it was saved
}

// Whether the block need not be written: it is there, or on its way. The operation is
// then answered when it is there and, if that is to last, committed.
bool BlockStore::Impl::is_saved(const std::shared_ptr<OperationState>& op,
                                std::size_t index) {
  const BlockKey key = op->blocks[index].key;
  std::uint32_t where = 0;
  if (table->find(key, where) == BlockTable::Found::absent) return false;
  if (op->durable) where = persistent_tier();
  if (where == tiers.size()) return false;
  bool committed = true;
  const BlockTable::Found found =
      table->find_in(key, where, tiers[where]->persistent ? &committed : nullptr);
  if (found == BlockTable::Found::resident && committed) {
    op->finish(index, Code::ok);
    return true;
  }
  Job job;
  job.kind = Job::Kind::move;
  job.key = key;
  job.op = op;
  job.index = index;
  job.target = where;
  job.saving = true;
  post_or_fail(where, job);
  return true;
}

void BlockStore::Impl::save_block(const std::shared_ptr<OperationState>& op,
                                  std::size_t index) {
  const OperationState::Block& block = op->blocks[index];
  const std::uint32_t first = op->durable ? persistent_tier() : 0;
  if (first == tiers.size()) {
    op->finish(index, no_persistent_tier().code());
    return;
  }
  if (is_saved(op, index)) return;
  const BlockLayout& layout = services.layout(static_cast<std::uint16_t>(block.layout));
  if (!within_quota(op->tenant, layout.bytes())) {
    op->finish(index, Code::no_space);
    return;
  }
  for (std::uint32_t t = first; t < tiers.size(); ++t) {
    if (tiers[t]->fenced() || (op->durable && !tiers[t]->persistent)) continue;
    if (t > 0 && !op->durable && tiers[t]->admission != Admission::always) continue;
    Job job;
    job.kind = Job::Kind::save;
    job.key = block.key;
    job.op = op;
    job.index = index;
    job.target = t;
    Code code = Code::busy;
    if (tiers[t]->memory && op->may_touch_memory()) code = save_here(*op, index, t);
    if (code == Code::no_space) continue;
    if (code == Code::cancelled) {
      if (is_saved(op, index)) return;
      code = Code::busy;  // gone again: the mover tries once more
    }
    if (code == Code::ok && tiers[t]->persistent) {
      job.kind = Job::Kind::commit;
      code = Code::busy;
    }
    if (code == Code::busy) {
      post_or_fail(t, job);
    } else {
      op->finish(index, code);
    }
    return;
  }
  op->finish(index, Code::no_space);
}

void BlockStore::Impl::load_block(const std::shared_ptr<OperationState>& op,
                                  std::size_t index) {
  OperationState::Block& block = op->blocks[index];
  Code failed = Code::not_found;
  std::uint32_t tier = 0;
  if (op->may_touch_memory()) {
    for (;;) {
      Copy copy;
      const BlockTable::Found found = table->acquire(block.key, copy);
      if (found == BlockTable::Found::absent) {
        op->finish(index, failed);
        return;
      }
      tier = copy.tier;
      if (found == BlockTable::Found::pending) break;
      if (!tiers[tier]->memory) {
        table->unpin(copy);
        break;
      }
      TierState& its = *tiers[tier];
      Code code = Code::invalid_argument;
      const auto layout_id = static_cast<std::uint16_t>(block.layout);
      if (copy.layout == layout_id) {
        const Bytes frame = its.bytes_of(its.node(copy.node)).first(copy.frame_bytes);
        const BlockLayout& layout = services.layout(layout_id);
        its.counters().bytes_read.fetch_add(copy.frame_bytes, std::memory_order_relaxed);
        const auto own = its.codecs();
        code = decode_block(layout, block.key, frame, frame, 0, copy.frame_bytes,
                            op->layers.first, op->layers.resolve(layout),
                            own->codecs(layout_id), services.profile, op->memory(index),
                            &block.layers_ready, thread_scratch());
      }
      if (code == Code::ok) table->touch(copy);
      if (code == Code::invalid_argument) block.why = kOtherLayout;
      table->unpin(copy);
      if (code != Code::corrupted) {
        if (code == Code::ok) emit(Event::Kind::load, copy);
        op->finish(index, code);
        return;
      }
      failed = Code::corrupted;
      // Whoever else pins it keeps the bytes; nobody finds them again.
      (void)table->drop(copy, Event::Kind::corrupted);
    }
  }
  Job job;
  job.kind = Job::Kind::load;
  job.key = block.key;
  job.op = op;
  job.index = index;
  job.failed = failed == Code::corrupted ? failed : Code::ok;
  post_or_fail(tier, job);
}

void BlockStore::Impl::promote_block(const std::shared_ptr<OperationState>& op,
                                     std::size_t index) {
  std::uint32_t where = 0;
  const BlockKey key = op->blocks[index].key;
  if (table->find(key, where) == BlockTable::Found::absent) {
    op->finish(index, Code::not_found);
    return;
  }
  Job job;
  job.kind = Job::Kind::move;
  job.key = key;
  job.op = op;
  job.index = index;
  post_or_fail(where, job);
}

Code BlockStore::Impl::reserve_tail(std::uint64_t bytes, TenantId tenant,
                                    std::uint32_t& node) {
  const auto id = static_cast<std::uint16_t>(tenant);
  Code code = table->reserve(0, bytes, id, node);
  const std::uint32_t below = table->demotion_target(0);
  if (code == Code::ok || (code == Code::no_space && below == tiers.size())) return code;
  const auto until =
      services.clock->now() +
      tiers[std::min<std::size_t>(below, tiers.size() - 1)]->device->info().timeout;
  services.changes.wait_until(*services.clock, until, [&] {
    if (code == Code::busy) movers[0]->hurry();
    on_pressure(0);
    code = table->reserve(0, bytes, id, node);
    return code == Code::ok;
  });
  return code;
}

bool BlockStore::Impl::hint(BlockKey key, std::uint32_t from) {
  Job job;
  job.kind = Job::Kind::move;
  job.key = key;
  return movers[from]->post(job);
}

// ---- the public face

BlockStore::BlockStore(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
BlockStore::~BlockStore() = default;

Result<RegionId> BlockStore::attach(MutableBytes memory) {
  return guarded([&] { return impl_->regions.attach(memory); });
}
Status BlockStore::detach(RegionId region) {
  return guarded([&] { return impl_->regions.detach(region); });
}

void BlockStore::lookup(std::span<const BlockKey> keys,
                        std::span<std::int8_t> tiers) const noexcept {
  const Index& index = impl_->table->index();
  const std::size_t count = std::min(keys.size(), tiers.size());
  for (std::size_t i = 0; i < count; ++i) {
    if (i + 2 * kLookAhead < count) index.prefetch_bucket(keys[i + 2 * kLookAhead]);
    if (i + kLookAhead < count) index.prefetch_entry(keys[i + kLookAhead]);
    std::uint32_t tier = 0;
    const BlockTable::Found found = impl_->table->find(keys[i], tier);
    tiers[i] = found == BlockTable::Found::resident  ? static_cast<std::int8_t>(tier)
               : found == BlockTable::Found::pending ? kPending
                                                     : kAbsent;
  }
}

std::size_t BlockStore::match(std::span<const BlockKey> prefix) const noexcept {
  const Index& index = impl_->table->index();
  for (std::size_t i = 0; i < prefix.size(); ++i) {
    if (i + 2 * kLookAhead < prefix.size())
      index.prefetch_bucket(prefix[i + 2 * kLookAhead]);
    if (i + kLookAhead < prefix.size()) index.prefetch_entry(prefix[i + kLookAhead]);
    std::uint32_t tier = 0;
    if (impl_->table->find(prefix[i], tier) != BlockTable::Found::resident) return i;
  }
  return prefix.size();
}

Operation BlockStore::save(std::span<const BlockTransfer> blocks,
                           const TransferOptions& options) {
  return impl_->transfer(blocks, options, true);
}

Operation BlockStore::load(std::span<const BlockTransfer> blocks,
                           const TransferOptions& options) {
  return impl_->transfer(blocks, options, false);
}

Status BlockStore::promote(std::span<const BlockKey> keys) noexcept {
  bool taken = keys.empty();
  for (const BlockKey key : keys) {
    std::uint32_t where = 0;
    if (impl_->table->find(key, where) != BlockTable::Found::resident || where == 0) {
      taken = true;  // nothing to do for it
      continue;
    }
    const Code code =
        guarded([&] { return impl_->hint(key, where) ? Code::ok : Code::busy; });
    if (code == Code::ok) {
      taken = true;
    } else if (!taken) {
      return told(code, [&] {
        return code == Code::busy ? "the queue of hints is full" : "out of memory";
      });
    }
  }
  return {};
}

std::size_t BlockStore::erase(std::span<const BlockKey> keys) noexcept {
  std::size_t erased = 0;
  for (const BlockKey key : keys) {
    if (impl_->table->erase(key)) ++erased;
  }
  return erased;
}

}  // namespace speckv

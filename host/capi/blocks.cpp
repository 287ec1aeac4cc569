// cxlspeckv/blocks.h: regions, transfers and their completions, and what concerns keys.
#include <algorithm>
#include <array>

#include "capi/capi.hpp"

namespace speckv::capi {
namespace {

// A batch in our terms: blocks point into `segments`, which therefore is filled first.
struct Batch {
  std::vector<Segment> segments;
  std::vector<BlockTransfer> blocks;
};

Status read_segments(const speckv_block& block, std::vector<Segment>& out) {
  Status listed = check_array(block.segments, block.segment_count, "block: segments");
  if (!listed.ok()) return listed;
  for (std::size_t i = 0; i < block.segment_count; ++i) {
    const speckv_segment& s = block.segments[i];
    if (s.reserved != 0) return refused("reserved fields of a segment must be 0");
    out.push_back({static_cast<RegionId>(s.region), s.offset, s.length});
  }
  return {};
}

Status read_batch(const speckv_block* blocks, std::size_t count, Batch& out) {
  if (Status listed = check_array(blocks, count, "blocks"); !listed.ok()) return listed;
  for (std::size_t i = 0; i < count; ++i) {
    if (Status read = read_segments(blocks[i], out.segments); !read.ok()) return read;
    if (blocks[i].layout > 0xFFFF) return refused("block: no such layout");
  }
  std::size_t first = 0;
  for (std::size_t i = 0; i < count; ++i) {
    BlockTransfer& block = out.blocks.emplace_back();
    block.key = key_of(blocks[i].key);
    block.memory = std::span(out.segments).subspan(first, blocks[i].segment_count);
    block.first_position = blocks[i].first_position;
    block.layout = static_cast<LayoutId>(blocks[i].layout);
    first += blocks[i].segment_count;
  }
  return {};
}

Status transfer(speckv_store* store, const speckv_block* blocks, std::size_t count,
                const speckv_transfer_options* options, bool saving, speckv_op** op) {
  if (store == nullptr) return null_argument("store");
  if (op == nullptr) return null_argument("op");
  speckv_transfer_options given{};
  if (Status read = read_options(options, given); !read.ok()) return read;
  if ((given.flags & ~std::uint32_t{SPECKV_DURABLE}) != 0)
    return refused("unknown flags of a transfer");
  if (saving && (given.first_layer != 0 || given.layer_count != 0))
    return refused("a save is of whole blocks: it takes no layers");
  if (!saving && given.flags != 0) return refused("a load cannot be durable");
  Batch batch;
  if (Status read = read_batch(blocks, count, batch); !read.ok()) return read;

  const ReadyFence fence{given.ready, given.ready_context};
  TransferOptions wanted;
  wanted.layers = {given.first_layer, given.layer_count};
  wanted.deadline = duration(std::min(given.deadline_ns, std::uint64_t{1} << 61));
  if (given.ready != nullptr) wanted.fence = &fence;
  if (given.completions != nullptr)
    wanted.completions = &given.completions->queue->queue();
  wanted.tag = given.tag;
  wanted.durable = (given.flags & SPECKV_DURABLE) != 0;
  if (Status read = read_tenant(given.tenant, wanted.tenant); !read.ok()) return read;

  auto made = std::make_unique<speckv_op>(
      speckv_op{Use(store->users),
                given.completions == nullptr ? Use() : Use(given.completions->users)});
  made->operation = saving ? store->store->save(batch.blocks, wanted)
                           : store->store->load(batch.blocks, wanted);
  if (made->operation.refused()) return made->operation.wait();
  *op = made.release();
  return {};
}

template <class F>
Status make_pin(speckv_store* store, const speckv_key* key, speckv_pin** pin, F&& take) {
  if (store == nullptr) return null_argument("store");
  if (key == nullptr || pin == nullptr) return null_argument("key or pin");
  auto made = std::make_unique<speckv_pin>(speckv_pin{Use(store->users)});
  Result<Pin> taken = take(*store->store, key_of(*key));
  if (!taken) return taken.error();
  made->pin = *std::move(taken);
  *pin = made.release();
  return {};
}

}  // namespace
}  // namespace speckv::capi

using namespace speckv;
using namespace speckv::capi;

// ---- memory

speckv_status speckv_store_attach(speckv_store* store, void* memory, size_t bytes,
                                  uint32_t* region) {
  return guard([&]() -> Status {
    if (store == nullptr) return null_argument("store");
    if (memory == nullptr || region == nullptr) return null_argument("memory or region");
    auto id = store->store->attach({static_cast<std::byte*>(memory), bytes});
    if (!id) return id.error();
    *region = static_cast<std::uint32_t>(*id);
    return {};
  });
}

speckv_status speckv_store_detach(speckv_store* store, uint32_t region) {
  return guard([&]() -> Status {
    if (store == nullptr) return null_argument("store");
    return store->store->detach(static_cast<RegionId>(region));
  });
}

// ---- save and load

speckv_status speckv_store_save(speckv_store* store, const speckv_block* blocks,
                                size_t count, const speckv_transfer_options* options,
                                speckv_op** op) {
  return guard([&] { return transfer(store, blocks, count, options, true, op); });
}

speckv_status speckv_store_load(speckv_store* store, const speckv_block* blocks,
                                size_t count, const speckv_transfer_options* options,
                                speckv_op** op) {
  return guard([&] { return transfer(store, blocks, count, options, false, op); });
}

bool speckv_op_done(const speckv_op* op) {
  return op == nullptr || op->operation.done();
}

speckv_status speckv_op_wait(speckv_op* op, uint64_t timeout_ns) {
  return guard([&]() -> Status {
    if (op == nullptr) return null_argument("op");
    return op->operation.wait_for(duration(timeout_ns));
  });
}

speckv_status speckv_op_cancel(speckv_op* op) {
  return guard([&]() -> Status {
    if (op == nullptr) return null_argument("op");
    op->operation.cancel();
    return {};
  });
}

speckv_status speckv_op_results(const speckv_op* op, speckv_status* results,
                                size_t count) {
  return guard([&]() -> Status {
    if (op == nullptr) return null_argument("op");
    if (Status listed = check_array(results, count, "results"); !listed.ok())
      return listed;
    if (count != op->operation.size())
      return refused("an op has as many results as blocks");
    if (!op->operation.done()) return {Code::busy, "the operation still runs"};
    for (std::size_t i = 0; i < count; ++i)
      results[i] = static_cast<speckv_status>(op->operation.code(i));
    return {};
  });
}

speckv_status speckv_op_layers_ready(const speckv_op* op, size_t block,
                                     uint32_t* layers) {
  return guard([&]() -> Status {
    if (op == nullptr || layers == nullptr) return null_argument("op or layers");
    if (block >= op->operation.size()) return refused("the op has fewer blocks");
    *layers = op->operation.layers_ready(block);
    return {};
  });
}

void speckv_op_free(speckv_op* op) {
  delete op;
}

// ---- completions

speckv_status speckv_completions_create(speckv_completions** completions) {
  return guard([&]() -> Status {
    if (completions == nullptr) return null_argument("completions");
    auto made = std::make_unique<speckv_completions>();
    auto queue = EventfdCompletionQueue::create();
    if (!queue) return queue.error();
    made->queue = *std::move(queue);
    *completions = made.release();
    return {};
  });
}

int speckv_completions_fd(const speckv_completions* completions) {
  return completions == nullptr ? -1 : completions->queue->fd();
}

speckv_status speckv_completions_drain(speckv_completions* completions,
                                       speckv_completion* entries, size_t capacity,
                                       size_t* count) {
  return guard([&]() -> Status {
    if (completions == nullptr || count == nullptr)
      return null_argument("completions or count");
    if (entries == nullptr && capacity != 0) return null_argument("entries");
    std::array<CompletionQueue::Entry, 64> some{};
    std::size_t taken = 0;
    while (taken < capacity) {
      const auto room = std::span(some).first(std::min(some.size(), capacity - taken));
      const std::size_t got = completions->queue->drain(room);
      for (std::size_t i = 0; i < got; ++i) {
        entries[taken + i] = {some[i].tag, static_cast<speckv_status>(some[i].code), 0};
      }
      taken += got;
      if (got < room.size()) break;
    }
    *count = taken;
    return {};
  });
}

speckv_status speckv_completions_wait(speckv_completions* completions,
                                      uint64_t timeout_ns) {
  return guard([&]() -> Status {
    if (completions == nullptr) return null_argument("completions");
    const auto at_most = duration(std::min(timeout_ns, std::uint64_t{1} << 61));
    if (completions->queue->queue().wait(at_most)) return {};
    return {Code::timed_out, "no operation was done in time"};
  });
}

speckv_status speckv_completions_free(speckv_completions* completions) {
  return guard([&]() -> Status {
    if (completions == nullptr) return {};
    if (Status unused = check_unused(completions->users, "ops or prefetchers");
        !unused.ok())
      return unused;
    delete completions;
    return {};
  });
}

// ---- asking, moving, forgetting

speckv_status speckv_store_match(const speckv_store* store, const speckv_key* keys,
                                 size_t count, size_t* matched) {
  return guard([&]() -> Status {
    if (store == nullptr || matched == nullptr) return null_argument("store or matched");
    if (Status listed = check_array(keys, count, "keys"); !listed.ok()) return listed;
    *matched = store->store->match(keys_of(keys, count));
    return {};
  });
}

speckv_status speckv_store_lookup(const speckv_store* store, const speckv_key* keys,
                                  size_t count, int8_t* tiers) {
  return guard([&]() -> Status {
    if (store == nullptr) return null_argument("store");
    if (Status listed = check_array(keys, count, "keys"); !listed.ok()) return listed;
    if (tiers == nullptr && count != 0) return null_argument("tiers");
    store->store->lookup(keys_of(keys, count), {tiers, count});
    return {};
  });
}

speckv_status speckv_store_promote(speckv_store* store, const speckv_key* keys,
                                   size_t count) {
  return guard([&]() -> Status {
    if (store == nullptr) return null_argument("store");
    if (Status listed = check_array(keys, count, "keys"); !listed.ok()) return listed;
    return store->store->promote(keys_of(keys, count));
  });
}

speckv_status speckv_store_erase(speckv_store* store, const speckv_key* keys,
                                 size_t count, size_t* erased) {
  return guard([&]() -> Status {
    if (store == nullptr || erased == nullptr) return null_argument("store or erased");
    if (Status listed = check_array(keys, count, "keys"); !listed.ok()) return listed;
    *erased = store->store->erase(keys_of(keys, count));
    return {};
  });
}

speckv_status speckv_store_pin(speckv_store* store, const speckv_key* key,
                               speckv_pin** pin) {
  return guard([&] {
    return make_pin(store, key, pin, [](BlockStore& s, BlockKey k) { return s.pin(k); });
  });
}

speckv_status speckv_store_retain(speckv_store* store, const speckv_key* key,
                                  speckv_pin** pin) {
  return guard([&] {
    return make_pin(store, key, pin,
                    [](BlockStore& s, BlockKey k) { return s.retain(k); });
  });
}

void speckv_pin_free(speckv_pin* pin) {
  delete pin;
}

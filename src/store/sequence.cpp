#include "cxlspeckv/sequence.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "cxlspeckv/guarded.hpp"

#include "store/impl.hpp"

namespace speckv {
namespace {

// A block that still grows: a slot of tier 0 that the index does not know yet. Laid out
// as the raw frame that it will be, so that sealing it copies nothing.
class Tail {
 public:
  explicit Tail(BlockStore::Impl& impl) : impl_(impl) {}
  ~Tail() {
    if (node_ == kNone) return;
    Copy copy;
    copy.node = node_;
    let_go();
    impl_.table->abandon(copy);
    impl_.services.changes.announce();
  }
  Tail(const Tail&) = delete;
  Tail& operator=(const Tail&) = delete;

  MutableBytes bytes() const {
    const TierState& tier = *impl_.tiers[0];
    return tier.bytes_of(tier.node(node_));
  }
  std::uint32_t node() const noexcept { return node_; }
  // Sequences that have it as their tail; views of it do not count.
  std::atomic<int> sharers{1};
  void own(std::uint32_t node) noexcept {
    node_ = node;
    const TierState& tier = *impl_.tiers[0];
    bytes_ = std::uint64_t{tier.node(node).units} * tier.geometry.unit;
    impl_.growing.fetch_add(bytes_, std::memory_order_relaxed);
  }
  // It is the index's, or freed.
  void let_go() noexcept {
    node_ = kNone;
    impl_.growing.fetch_sub(std::exchange(bytes_, 0), std::memory_order_relaxed);
  }

 private:
  BlockStore::Impl& impl_;
  std::uint32_t node_ = kNone;
  std::uint64_t bytes_ = 0;  // of the tier
};

// Whether the frame holds its layers plain, and intact.
Code check_plain(const BlockLayout& layout, const Copy& copy, Bytes frame) {
  const Code code = verify_frame(layout, copy.key, frame);
  if (code != Code::ok) return code;
  for (std::uint32_t l = 0; l < layout.layers; ++l) {
    if (frame_layer(frame, l).codec != CodecId::raw) return Code::unsupported;
  }
  return Code::ok;
}

}  // namespace

// ---- View

struct View::State {
  explicit State(BlockStore::Impl& its) : impl(its) {}
  ~State() {
    for (const Copy& copy : pins) {
      if (copy.node != kNone) impl.table->unpin(copy);
    }
    impl.services.changes.announce();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  BlockStore::Impl& impl;
  const BlockLayout* layout = nullptr;
  std::uint32_t first_token = 0, tokens = 0;
  std::vector<Copy> pins;
  std::vector<Bytes> frames;  // of the pinned blocks, then of the tail
  std::shared_ptr<Tail> tail;
};

View::View() noexcept = default;
View::View(View&&) noexcept = default;
View& View::operator=(View&&) noexcept = default;
View::~View() = default;

std::uint32_t View::first_token() const noexcept {
  return state_ == nullptr ? 0 : state_->first_token;
}
std::uint32_t View::tokens() const noexcept {
  return state_ == nullptr ? 0 : state_->tokens;
}
std::size_t View::block_count() const noexcept {
  return state_ == nullptr ? 0 : state_->frames.size();
}
Bytes View::layer(std::size_t n, std::uint32_t layer) const noexcept {
  return state_->frames[n].subspan(raw_layer_offset(*state_->layout, layer),
                                   state_->layout->layer_bytes());
}

// ---- Sequence

struct Sequence::State {
  State(BlockStore& its_store, const Options& options)
      : store(its_store),
        impl(its_store.impl()),
        layout_id(static_cast<std::uint16_t>(options.layout)),
        layout(impl.services.layout(layout_id)),
        tenant(options.tenant),
        chain(options.model, layout, options.salt),
        empty_key(chain.last()) {}
  ~State() {
    set_tail(nullptr);
    for (const std::uint32_t entry : entries)
      impl.table->unreference(entry);
    impl.services.changes.announce();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  std::uint32_t sealed_tokens() const noexcept {
    return static_cast<std::uint32_t>(keys.size()) * layout.tokens;
  }
  std::uint32_t tail_tokens() const noexcept {
    return static_cast<std::uint32_t>(tokens.size()) - sealed_tokens();
  }
  std::uint64_t tail_bytes() const noexcept {
    return max_frame_bytes(layout, LayerCodecs(*find_codec(CodecId::raw)));
  }
  Code new_tail(std::shared_ptr<Tail>& made) {
    auto fresh = std::make_shared<Tail>(impl);  // before the slot, which it gives back
    std::uint32_t node = kNone;
    const Code code = impl.reserve_tail(tail_bytes(), tenant, node);
    if (code != Code::ok) return code;
    fresh->own(node);
    made = std::move(fresh);
    return code;
  }
  // Makes the tail this sequence's own, copying what a fork shares.
  Code own_tail() {
    // acquire: what the other sequences read of it happened before we write.
    if (tail != nullptr && tail->sharers.load(std::memory_order_acquire) == 1)
      return Code::ok;
    std::shared_ptr<Tail> mine;
    const Code code = new_tail(mine);
    if (code != Code::ok) return code;
    if (tail != nullptr) {
      std::memcpy(mine->bytes().data(), tail->bytes().data(), tail_bytes());
    }
    set_tail(std::move(mine));
    return Code::ok;
  }
  void set_tail(std::shared_ptr<Tail> other) {
    if (tail != nullptr) tail->sharers.fetch_sub(1, std::memory_order_release);
    tail = std::move(other);
  }
  // Refers to the block if the store has it already.
  bool refer_to_stored(BlockKey key, std::uint32_t& entry) {
    if (!impl.table->reference(key, entry)) return false;
    std::uint32_t tier = 0;
    if (impl.table->find(key, tier) == BlockTable::Found::resident) return true;
    impl.table->unreference(entry);
    return false;
  }
  // Gives the sealed tail to the index, and refers to it there. A copy that somebody else
  // stored serves as well; one that is only on its way might never arrive, and one in a
  // fenced tier is out of reach, so ours goes beside those.
  Code store_tail(BlockKey key, std::uint32_t first, std::uint64_t frame,
                  std::uint32_t& entry) {
    const auto until = impl.services.clock->now() + impl.tiers[0]->device->info().timeout;
    while (!refer_to_stored(key, entry)) {
      Copy target{key, 0,     tail->node(), kNone,
                  0,   first, layout_id,    static_cast<std::uint16_t>(tenant)};
      const Code linked = impl.table->link(target, {.keep_node = true});
      if (linked == Code::ok && impl.table->reference(key, entry)) {
        tail->let_go();
        (void)impl.table->publish(target, frame);  // referenced, so nobody erased it
        impl.emit(Event::Kind::save, target);
        break;
      }
      if (linked != Code::ok && linked != Code::busy) return linked;
      if (impl.services.clock->now() > until) return Code::busy;
      if (linked == Code::busy) impl.services.changes.nap(*impl.services.clock);
    }
    set_tail(nullptr);
    return Code::ok;
  }
  // Room for that many more blocks, so that a reference that is taken can be kept.
  void expect(std::size_t blocks) {
    const std::size_t most = keys.size() + blocks;
    if (most > std::min(keys.capacity(), entries.capacity())) {
      const std::size_t grown = std::max(most, 2 * keys.size());
      keys.reserve(grown);
      entries.reserve(grown);
    }
  }
  void forget_blocks_from(std::size_t count) {
    for (std::size_t i = count; i < keys.size(); ++i)
      impl.table->unreference(entries[i]);
    keys.resize(count);
    entries.resize(count);
    chain.rewind(count == 0 ? empty_key : keys.back());
  }

  BlockStore& store;
  BlockStore::Impl& impl;
  const std::uint16_t layout_id;
  const BlockLayout& layout;
  const TenantId tenant;
  KeyChain chain;
  BlockKey empty_key;                  // the chain before the first block
  std::vector<BlockKey> keys;          // of the sealed blocks
  std::vector<std::uint32_t> entries;  // the references held on them
  std::vector<std::uint32_t> tokens;   // all of them
  std::shared_ptr<Tail> tail;
};

Sequence::Sequence(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Sequence::~Sequence() = default;

Result<std::unique_ptr<Sequence>> Sequence::create(BlockStore& store,
                                                   const Options& options) {
  return guarded([&]() -> Result<std::unique_ptr<Sequence>> {
    BlockStore::Impl& impl = store.impl();
    const auto layout_id = static_cast<std::uint16_t>(options.layout);
    if (layout_id >= impl.services.layouts.size()) {
      return Status(Code::invalid_argument, "the store has no such layout");
    }
    if (!impl.tiers[0]->memory) {
      return Status(Code::unsupported, "a sequence needs memory in the fastest tier");
    }
    if (!impl.tiers[0]->codecs()->all_raw(layout_id)) {
      return Status(Code::unsupported,
                    "a sequence needs the raw codec in the fastest tier");
    }
    return std::unique_ptr<Sequence>(
        new Sequence(std::make_unique<State>(store, options)));
  });
}

Result<std::uint32_t> Sequence::adopt(std::span<const std::uint32_t> tokens) {
  return guarded([&]() -> Result<std::uint32_t> {
    State& s = *state_;
    if (!s.tokens.empty()) {
      return Status(Code::invalid_argument, "only an empty sequence can adopt blocks");
    }
    const std::size_t whole = s.layout.tokens;
    s.expect(tokens.size() / whole);
    s.tokens.reserve(tokens.size() / whole * whole);
    for (std::size_t at = 0; at + whole <= tokens.size(); at += whole) {
      const BlockKey before = s.chain.last();
      const BlockKey key = s.chain.append(tokens.subspan(at, whole));
      std::uint32_t tier = 0, entry = kNone;
      if (s.impl.table->find(key, tier) != BlockTable::Found::resident ||
          !s.impl.table->reference(key, entry)) {
        s.chain.rewind(before);
        break;
      }
      s.keys.push_back(key);
      s.entries.push_back(entry);
    }
    s.tokens.assign(tokens.begin(), tokens.begin() + s.sealed_tokens());
    return s.sealed_tokens();
  });
}

Result<std::uint32_t> Sequence::append(std::span<const std::uint32_t> tokens) {
  return guarded([&]() -> Result<std::uint32_t> {
    State& s = *state_;
    if (tokens.empty()) return std::uint32_t{0};
    if (s.tail_tokens() == s.layout.tokens) {
      if (Status sealed = seal(); !sealed.ok()) return sealed;
    }
    if (const Code code = s.own_tail(); code != Code::ok) {
      return Status(code, "the fastest tier has no room for another block");
    }
    const std::size_t taken =
        std::min<std::size_t>(tokens.size(), s.layout.tokens - s.tail_tokens());
    s.tokens.insert(s.tokens.end(), tokens.begin(),
                    tokens.begin() + static_cast<std::ptrdiff_t>(taken));
    return static_cast<std::uint32_t>(taken);
  });
}

MutableBytes Sequence::tail(std::uint32_t layer) noexcept {
  State& s = *state_;
  if (s.tail == nullptr || layer >= s.layout.layers) return {};
  return s.tail->bytes().subspan(raw_layer_offset(s.layout, layer),
                                 s.layout.layer_bytes());
}
std::uint32_t Sequence::tail_first() const noexcept {
  return state_->sealed_tokens();
}

Status Sequence::seal() {
  return guarded([&]() -> Status {
    State& s = *state_;
    if (s.tail == nullptr || s.tail_tokens() != s.layout.tokens) {
      return {Code::invalid_argument, "only a full tail can be sealed"};
    }
    if (const Code code = s.own_tail(); code != Code::ok) {
      return {code, "the fastest tier has no room to unshare the tail"};
    }
    s.expect(1);
    const BlockKey before = s.chain.last();
    const std::uint32_t first = s.sealed_tokens();
    const BlockKey key =
        s.chain.append(std::span(s.tokens).subspan(first, s.layout.tokens));
    const std::uint64_t frame = seal_raw_frame(s.layout, key, first, s.tail->bytes());
    std::uint32_t entry = kNone;
    const Code code = s.store_tail(key, first, frame, entry);
    if (code != Code::ok) {
      s.chain.rewind(before);
      return {code, "the sealed block cannot be stored now"};
    }
    s.keys.push_back(key);
    s.entries.push_back(entry);
    s.impl.services.changes.announce();
    return {};
  });
}

Result<std::unique_ptr<Sequence>> Sequence::fork() {
  return guarded([&]() -> Result<std::unique_ptr<Sequence>> {
    State& s = *state_;
    Options options;
    options.layout = LayoutId{s.layout_id};
    options.tenant = s.tenant;
    auto copy = std::make_unique<State>(s.store, options);
    copy->expect(s.keys.size());
    for (const BlockKey key : s.keys) {
      std::uint32_t entry = kNone;
      if (!s.impl.table->reference(key, entry)) {
        return Status(Code::corrupted, "a block of the sequence was lost");
      }
      copy->keys.push_back(key);
      copy->entries.push_back(entry);
    }
    copy->chain = s.chain;
    copy->empty_key = s.empty_key;
    copy->tokens = s.tokens;
    if (s.tail != nullptr) s.tail->sharers.fetch_add(1, std::memory_order_relaxed);
    copy->tail = s.tail;
    return std::unique_ptr<Sequence>(new Sequence(std::move(copy)));
  });
}

Status Sequence::truncate(std::uint32_t size) {
  return guarded([&]() -> Status {
    State& s = *state_;
    if (size > s.tokens.size()) {
      return {Code::invalid_argument,
              "a sequence cannot be truncated to more than it has"};
    }
    const std::uint32_t whole = size / s.layout.tokens;
    if (whole < s.keys.size()) {
      std::shared_ptr<Tail> reopened;
      if (size % s.layout.tokens != 0) {
        auto old = view(whole, 1);
        if (!old) return old.error();
        if (const Code code = s.new_tail(reopened); code != Code::ok) {
          return {code, "the fastest tier has no room to reopen the block"};
        }
        const Bytes frame = old->state_->frames[0];
        std::memcpy(reopened->bytes().data(), frame.data(), frame.size());
      }
      s.set_tail(std::move(reopened));
      s.forget_blocks_from(whole);
    }
    s.tokens.resize(size);
    return {};
  });
}

Result<View> Sequence::view(std::uint32_t first_block, std::uint32_t count) {
  return guarded([&]() -> Result<View> {
    State& s = *state_;
    const auto sealed = static_cast<std::uint32_t>(s.keys.size());
    const bool open = s.tail != nullptr && s.tail_tokens() > 0;
    const std::uint32_t blocks = sealed + (open ? 1 : 0);
    if (first_block > blocks || count > blocks - first_block) {
      return Status(Code::invalid_argument, "the sequence has fewer blocks");
    }
    if (count == 0) count = blocks - first_block;
    const std::uint32_t last = first_block + count;
    const std::uint32_t last_sealed = std::min(last, sealed);

    View view;
    view.state_ = std::make_unique<View::State>(s.impl);
    View::State& v = *view.state_;
    v.layout = &s.layout;
    v.first_token = first_block * s.layout.tokens;
    v.tokens = std::min<std::uint32_t>(last * s.layout.tokens,
                                       static_cast<std::uint32_t>(s.tokens.size())) -
               v.first_token;
    v.pins.resize(last_sealed > first_block ? last_sealed - first_block : 0);
    const std::span<const BlockKey> keys(s.keys.data() + first_block, v.pins.size());
    if (const Code code = s.impl.hold_in_fastest(keys, v.pins, s.layout_id);
        code != Code::ok) {
      return Status(code, "a block of the view is not to be had");
    }
    TierState& fastest = *s.impl.tiers[0];
    for (const Copy& copy : v.pins) {
      v.frames.push_back(
          fastest.bytes_of(fastest.node(copy.node)).first(copy.frame_bytes));
    }
    if (last > sealed) {
      v.tail = s.tail;
      v.frames.push_back(s.tail->bytes().first(s.tail_bytes()));
    }
    return view;
  });
}

// Pins every key's plain copy in tier 0, promoting what is elsewhere. What is already
// there is pinned first, so that promoting the rest cannot push it out.
Code BlockStore::Impl::hold_in_fastest(std::span<const BlockKey> keys,
                                       std::vector<Copy>& pins, std::uint16_t layout_id) {
  const BlockLayout& layout = services.layout(layout_id);
  const std::uint32_t below = std::min<std::uint32_t>(
      table->demotion_target(0), static_cast<std::uint32_t>(tiers.size()) - 1);
  const auto until = services.clock->now() + tiers[below]->device->info().timeout;
  if (keys.size() * layout.bytes() > tiers[0]->capacity()) return Code::no_space;
  for (;;) {
    std::vector<std::size_t> missing;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (pins[i].node != kNone) continue;
      Copy copy;
      const BlockTable::Found found = table->acquire(keys[i], copy);
      if (found == BlockTable::Found::absent) return Code::not_found;
      if (found != BlockTable::Found::resident || copy.tier != 0) {
        if (found == BlockTable::Found::resident) table->unpin(copy);
        missing.push_back(i);
        continue;
      }
      const Code code = check_plain(
          layout, copy,
          tiers[0]->bytes_of(tiers[0]->node(copy.node)).first(copy.frame_bytes));
      if (code == Code::ok) {
        pins[i] = copy;
        continue;
      }
      table->unpin(copy);
      if (code != Code::corrupted) return code;
      (void)table->drop(copy, Event::Kind::corrupted);
      std::uint32_t elsewhere = 0;
      if (table->find(keys[i], elsewhere) == BlockTable::Found::absent) return code;
      missing.push_back(i);
    }
    if (missing.empty()) break;
    auto op = std::make_shared<OperationState>(missing.size());
    for (std::size_t i = 0; i < missing.size(); ++i)
      op->blocks[i].key = keys[missing[i]];
    for (std::size_t i = 0; i < missing.size(); ++i)
      promote_block(op, i);
    op->wait_for(std::chrono::nanoseconds::max());
    for (const OperationState::Block& block : op->blocks) {
      const Code code = block.code.load();
      if (code == Code::ok) continue;
      if (code != Code::no_space && code != Code::busy) return code;
      if (services.clock->now() > until) return Code::no_space;
      on_pressure(0);
      services.changes.nap(*services.clock);
      break;
    }
  }
  // The last block first: a chain is no use without its start, so its end goes first.
  for (std::size_t i = pins.size(); i-- > 0;)
    table->touch(pins[i]);
  return Code::ok;
}

Status Sequence::stage() noexcept {
  return state_->store.promote(state_->keys);
}

std::uint32_t Sequence::size() const noexcept {
  return static_cast<std::uint32_t>(state_->tokens.size());
}
std::span<const BlockKey> Sequence::keys() const noexcept {
  return state_->keys;
}
std::span<const std::uint32_t> Sequence::tokens() const noexcept {
  return state_->tokens;
}

}  // namespace speckv

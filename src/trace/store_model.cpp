#include "trace/store_model.hpp"

#include <algorithm>
#include <bit>

#include "cxlspeckv/guarded.hpp"

namespace speckv::trace {

// Blocks of one chunk, one after the other.
class StoreModel::Moving final : public prefetch::Moves {
 public:
  Moving(StoreModel& model, std::span<const BlockKey> keys, std::uint32_t to)
      : model_(model), to_(to), codes_(keys.size(), Code::cancelled) {
    for (const BlockKey key : keys)
      blocks_.push_back(block_of(key));
    std::int8_t from = 0;
    for (const BlockId block : blocks_)
      from = std::max(from, model.tier_of(block));
    const TierModel& source = model.node_.tiers[static_cast<std::size_t>(from)];
    double rate = source.bytes_per_second;
    if (to == 0) rate = std::min(rate, model.node_.tiers[0].bytes_per_second);
    each_ = static_cast<double>(model.block_bytes_) / rate;
    begin_ = model.now_ + source.latency;
    model.moving_.push_back(this);
  }
  ~Moving() override { leave(); }
  Moving(const Moving&) = delete;
  Moving& operator=(const Moving&) = delete;

  bool done() const noexcept override { return done_; }
  Code code(std::size_t index) const noexcept override { return codes_[index]; }
  void cancel() noexcept override { leave(); }

  double end() const noexcept {
    return begin_ + each_ * static_cast<double>(blocks_.size());
  }
  void advance(double now) {
    while (landed_ < blocks_.size() &&
           begin_ + each_ * static_cast<double>(landed_ + 1) <= now) {
      codes_[landed_] = model_.land(blocks_[landed_], to_);
      ++landed_;
    }
    if (landed_ == blocks_.size()) leave();
  }

 private:
  void leave() noexcept {
    if (done_) return;
    done_ = true;
    std::erase(model_.moving_, this);
  }

  StoreModel& model_;
  const std::uint32_t to_;
  std::vector<BlockId> blocks_{};
  std::vector<Code> codes_;
  std::size_t landed_ = 0;
  double begin_ = 0, each_ = 0;  // s
  bool done_ = false;
};

StoreModel::StoreModel(const Trace& trace, const Node& node, std::string_view policy,
                       const std::vector<std::uint32_t>& blocks,
                       std::uint64_t block_bytes)
    : trace_(trace),
      node_(node),
      block_bytes_(block_bytes),
      pins_(trace.distinct_blocks),
      in_(trace.distinct_blocks) {
  for (std::size_t t = 0; t < blocks.size(); ++t) {
    tiers_.push_back(std::make_unique<PolicyCache>(make_policy(policy), blocks[t],
                                                   trace.distinct_blocks,
                                                   t == 0 ? &pins_ : nullptr));
    const std::uint64_t bytes = node.tiers[t].bytes;
    const bool is_last = t + 1 == blocks.size();  // nobody takes what it would give up
    const std::uint64_t room = is_last ? 0 : room_at_rest(bytes, block_bytes);
    at_rest_.push_back((bytes - room) / block_bytes);
  }
}

std::int8_t StoreModel::tier_of(BlockId block) const noexcept {
  return in_[block] == 0 ? BlockStore::kAbsent
                         : static_cast<std::int8_t>(std::countr_zero(in_[block]));
}

// The policy has given it up already.
void StoreModel::leave(BlockId block, std::uint32_t tier) {
  in_[block] = static_cast<std::uint8_t>(in_[block] & ~(1U << tier));
  if (tier == 0 && kept_ != nullptr) kept_->left(key_of(block));
  if (in_[block] == 0 && tier + 1 < tiers_.size()) (void)insert(block, tier + 1);
}

bool StoreModel::give_up(std::uint32_t tier) {
  const auto out = tiers_[tier]->give_up(tier == 0 ? kept_.get() : nullptr);
  if (!out) return false;
  leave(*out, tier);
  return true;
}

bool StoreModel::make_room(std::uint32_t tier) {
  return !tiers_[tier]->full() || give_up(tier);
}

std::uint32_t StoreModel::insert(BlockId block, std::uint32_t tier) {
  for (; tier < tiers_.size() && !is_in(block, tier); ++tier) {
    if (!make_room(tier)) continue;
    tiers_[tier]->fill(block);
    in_[block] = static_cast<std::uint8_t>(in_[block] | 1U << tier);
    bool more = true;
    while (more && tiers_[tier]->size() > at_rest_[tier])
      more = give_up(tier);
    return tier;
  }
  return static_cast<std::uint32_t>(tiers_.size());
}

void StoreModel::pin(BlockId block) {
  if (pins_[block]++ == 0 && is_in(block, 0)) tiers_[0]->pinned();
}

Code StoreModel::land(BlockId block, std::uint32_t tier) {
  const std::int8_t at = tier_of(block);
  if (at < 0) return Code::not_found;
  if (static_cast<std::uint32_t>(at) <= tier) return Code::ok;
  return insert(block, tier) == tier ? Code::ok : Code::no_space;
}

Found StoreModel::use(const Request& request, std::uint32_t shared, double /*now*/) {
  Found found;
  const auto chain = trace_.chain(request);
  for (const BlockId block : chain) {  // the others when they are there
    if (is_in(block, 0)) pin(block);
  }
  while (found.reused < shared && in_[chain[found.reused]] != 0)
    ++found.in[static_cast<std::size_t>(std::countr_zero(in_[chain[found.reused++]]))];
  for (const BlockId block : chain) {
    if (is_in(block, 0)) continue;
    const std::int8_t at = tier_of(block);
    if (at > 0) tiers_[static_cast<std::size_t>(at)]->touch(block);
    (void)insert(block, 0);
    pin(block);
  }
  // All is there; the last block first, as engines free them: a chain is no use without
  // its start.
  for (std::size_t i = chain.size(); i-- > 0;) {
    if (is_in(chain[i], 0)) tiers_[0]->touch(chain[i]);
  }
  return found;
}

void StoreModel::done(const Request& request, double /*now*/) {
  for (const BlockId block : trace_.chain(request)) {
    if (--pins_[block] == 0 && is_in(block, 0)) tiers_[0]->unpinned();
  }
}

void StoreModel::advance(double now) {
  now_ = now;
  for (std::size_t i = 0; i < moving_.size();) {
    Moving* const it = moving_[i];
    it->advance(now);
    if (i < moving_.size() && moving_[i] == it) ++i;  // else it is done, and gone
  }
}

double StoreModel::next() const noexcept {
  double at = kNever;
  for (const Moving* const it : moving_)
    at = std::min(at, it->end());
  return at;
}

void StoreModel::lookup(std::span<const BlockKey> keys,
                        std::span<std::int8_t> tiers) const noexcept {
  for (std::size_t i = 0; i < keys.size(); ++i)
    tiers[i] = tier_of(block_of(keys[i]));
}

std::unique_ptr<prefetch::Moves> StoreModel::promote(std::span<const BlockKey> keys,
                                                     std::uint32_t tier) noexcept {
  std::unique_ptr<prefetch::Moves> moves;
  (void)guarded([&] {
    moves = std::make_unique<Moving>(*this, keys, tier);
    return Code::ok;
  });
  return moves;
}

bool StoreModel::retain(std::shared_ptr<KeptBlocks> kept) {
  if (kept_ != nullptr) return kept_ == kept;
  kept_ = std::move(kept);
  return true;
}

void StoreModel::release(const KeptBlocks& kept) noexcept {
  if (kept_.get() == &kept) kept_.reset();
}

PlainBytes StoreModel::plain_bytes(std::uint32_t tier) {
  const std::uint64_t bytes = node_.tiers[tier].bytes;
  const std::uint64_t held = tiers_[tier]->size() * block_bytes_;
  // How many plain bytes fit shows by those that are there.
  return {held, held == 0 ? bytes : bytes - bytes % block_bytes_};
}

}  // namespace speckv::trace

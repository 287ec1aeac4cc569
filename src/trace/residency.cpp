#include "trace/residency.hpp"

#include <algorithm>

namespace speckv::trace {
namespace {

constexpr std::uint8_t kGone = 0xFF;
// What the first tier holds at most: so many times its capacity, and at least so much.
constexpr std::uint64_t kInUse = 8, kAtLeast = 4096;

}  // namespace

PolicyResidency::PolicyResidency(const Trace& trace, std::string_view policy,
                                 const std::vector<std::uint32_t>& blocks)
    : trace_(trace),
      capacity_(blocks),
      pins_(trace.distinct_blocks),
      tier_(trace.distinct_blocks, kGone) {
  for (std::size_t t = 0; t < blocks.size(); ++t) {
    const std::uint64_t most =
        t == 0 ? std::max(kInUse * blocks[t], kAtLeast) : blocks[t];
    const auto slots =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(most, trace.distinct_blocks)) +
        1;
    tiers_.push_back(std::make_unique<PolicyCache>(make_policy(policy), slots,
                                                   trace.distinct_blocks, &pins_));
  }
}

void PolicyResidency::insert(std::uint32_t tier, BlockId block) {
  if (tier == tiers_.size()) {
    tier_[block] = kGone;
    return;
  }
  // Room first, so that what comes is no victim.
  make_room(tier);
  if (tiers_[tier]->full()) return insert(tier + 1, block);
  tiers_[tier]->fill(block);
  tier_[block] = static_cast<std::uint8_t>(tier);
}

// For one block more, as far as what is in use leaves any.
void PolicyResidency::make_room(std::uint32_t tier) {
  while (tiers_[tier]->size() >= capacity_[tier]) {
    const auto out = tiers_[tier]->give_up();
    if (!out) return;
    insert(tier + 1, *out);
  }
}

Found PolicyResidency::use(const Request& request, std::uint32_t shared, double /*now*/) {
  Found found;
  const auto chain = trace_.chain(request);
  for (const BlockId block : chain) {
    if (pins_[block]++ == 0 && tier_[block] != kGone) tiers_[tier_[block]]->pinned();
  }
  while (found.reused < shared && tier_[chain[found.reused]] != kGone)
    ++found.in[tier_[chain[found.reused++]]];
  // The last block first, as engines free them: a chain is no use without its start.
  for (std::size_t i = chain.size(); i-- > 0;) {
    const std::uint8_t tier = tier_[chain[i]];
    if (tier == 0) {
      tiers_[0]->touch(chain[i]);
      continue;
    }
    if (tier != kGone) tiers_[tier]->remove(chain[i]);
    insert(0, chain[i]);
  }
  return found;
}

void PolicyResidency::done(const Request& request, double /*now*/) {
  for (const BlockId block : trace_.chain(request)) {
    if (--pins_[block] == 0 && tier_[block] != kGone) tiers_[tier_[block]]->unpinned();
  }
}

SessionResidency::SessionResidency(const Trace& trace, prefetch::Scheduler& scheduler,
                                   std::uint64_t block_bytes,
                                   const std::vector<std::uint32_t>& blocks)
    : trace_(trace),
      scheduler_(scheduler),
      block_bytes_(block_bytes),
      tiers_(static_cast<std::uint32_t>(blocks.size())),
      capacity_(blocks),
      used_(blocks.size()),
      places_(trace.distinct_blocks, Place{0, kGone, 0, {}}),
      rows_((std::size_t{trace.sessions} + 1) * blocks.size()),
      stamp_(trace.distinct_blocks) {}

void SessionResidency::account(std::uint32_t session, std::uint32_t tier,
                               std::int64_t blocks) {
  if (blocks == 0) return;
  used_[tier] = static_cast<std::uint32_t>(used_[tier] + blocks);
  scheduler_.held(session, tier, blocks * static_cast<std::int64_t>(block_bytes_));
}

// A block that was staged is used, or given up unused.
void SessionResidency::settle(BlockId block, double now) {
  Place& place = places_[block];
  if (place.staged_to == 0) return;
  const bool there = place.tier < place.staged_to;
  using Outcome = prefetch::Scheduler::Outcome;
  scheduler_.outcome(place.source, block_bytes_,
                     there ? Outcome::useful : Outcome::wasted, now);
  place.staged_to = 0;
}

Found SessionResidency::use(const Request& request, std::uint32_t shared, double now) {
  Found found;
  const std::uint32_t session = request.session;
  const auto chain = trace_.chain(request);
  ++now_number_;
  while (found.reused < shared && places_[chain[found.reused]].tier != kGone)
    ++found.in[places_[chain[found.reused++]].tier];
  // What leaves its place is accounted for in runs: chains lie in few places.
  Place run{session, kGone, 0, {}};
  std::int64_t length = 0;
  const auto leave = [&] {
    if (run.tier != kGone) account(run.owner, run.tier, -length);
    length = 0;
  };
  for (const BlockId block : chain) {
    settle(block, now);
    stamp_[block] = now_number_;
    Place& place = places_[block];
    if (place.owner != run.owner || place.tier != run.tier) leave();
    run = place;
    ++length;
    place = {session, 0, 0, {}};
  }
  leave();
  account(session, 0, static_cast<std::int64_t>(chain.size()));
  for (std::uint32_t t = 0; t < tiers_; ++t) {
    std::int64_t left = 0;
    for (const BlockId block : row(session, t)) {
      if (stamp_[block] == now_number_ || !is_in(block, session, t)) continue;
      places_[block].owner = nobody();
      row(nobody(), t).push_back(block);
      ++left;
    }
    account(session, t, -left);
    account(nobody(), t, left);
    row(session, t).clear();
  }
  row(session, 0).assign(chain.begin(), chain.end());
  for (std::uint32_t t = 0; t < tiers_; ++t)
    make_room(t, now);
  return found;
}

void SessionResidency::done(const Request&, double) {}

// The deepest blocks of a session go down from a tier that has too many: how many went.
std::uint32_t SessionResidency::give_up(std::uint32_t session, std::uint32_t tier,
                                        double now) {
  Row& blocks = row(session, tier);
  const std::uint32_t too_many = used_[tier] - capacity_[tier];
  std::uint32_t went = 0;
  while (went < too_many && !blocks.empty()) {
    const BlockId block = blocks.back();
    blocks.pop_back();
    if (!is_in(block, session, tier)) continue;
    ++went;
    Place& place = places_[block];
    place.tier = tier + 1 < tiers_ ? static_cast<std::uint8_t>(tier + 1) : kGone;
    if (place.tier != kGone) row(session, tier + 1).push_front(block);
    if (place.tier >= place.staged_to) settle(block, now);
  }
  account(session, tier, -std::int64_t{went});
  if (tier + 1 < tiers_) account(session, tier + 1, went);
  return went;
}

void SessionResidency::make_room(std::uint32_t tier, double now) {
  while (used_[tier] > capacity_[tier]) {
    const auto victim = scheduler_.victim(tier, now);
    if (!victim) return;  // all of it is in use
    give_up(static_cast<std::uint32_t>(*victim), tier, now);
  }
}

void SessionResidency::staged(const prefetch::Chunk& chunk, double now) {
  const auto session = static_cast<std::uint32_t>(chunk.session);
  Row& from = row(session, chunk.from);
  std::int64_t came = 0;
  for (std::uint64_t left = chunk.bytes / block_bytes_; left > 0 && !from.empty();) {
    const BlockId block = from.front();
    from.pop_front();
    if (!is_in(block, session, chunk.from)) continue;
    settle(block, now);
    places_[block] = {session, static_cast<std::uint8_t>(chunk.to),
                      static_cast<std::uint8_t>(chunk.to + 1), chunk.source};
    row(session, chunk.to).push_back(block);
    ++came;
    --left;
  }
  account(session, chunk.from, -came);
  account(session, chunk.to, came);
  for (std::uint32_t t = chunk.to; t < tiers_; ++t)
    make_room(t, now);
}

}  // namespace speckv::trace

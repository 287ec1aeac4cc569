#include "prefetch/chains.hpp"

#include <algorithm>

namespace speckv::prefetch {

Chains::Chains(const Tiers& tiers, RecordedScheduler& scheduler,
               std::uint64_t block_bytes, std::uint32_t sessions)
    : tiers_(tiers), scheduler_(scheduler), block_bytes_(block_bytes), rows_(sessions) {}

std::span<const std::int8_t> Chains::find(std::span<const BlockKey> keys) {
  found_.resize(keys.size());
  tiers_.lookup(keys, found_);
  return found_;
}

void Chains::put(Place& place, std::int8_t tier, Changes& changes) const {
  const auto bytes = static_cast<std::int64_t>(block_bytes_);
  if (place.tier >= 0) changes[static_cast<std::size_t>(place.tier)] -= bytes;
  if (tier >= 0) changes[static_cast<std::size_t>(tier)] += bytes;
  place.tier = tier;
}

void Chains::tell_held(std::uint32_t session, const Changes& changes) {
  for (std::uint32_t t = 0; t < changes.size(); ++t) {
    if (changes[t] == 0) continue;
    held_[t] += changes[t];
    scheduler_.tell(
        {.kind = Entry::Kind::held, .session = session, .change = changes[t], .tier = t});
  }
}

void Chains::tell_outcome(Source source, std::uint64_t bytes, Outcome outcome,
                          double now) {
  scheduler_.tell({.kind = Entry::Kind::outcome,
                   .now = now,
                   .bytes = bytes,
                   .source = source,
                   .outcome = outcome});
}

// What was staged waits no longer.
void Chains::settle(Place& place, Outcome outcome, double now) {
  if (place.staged_to == 0) return;
  place.staged_to = 0;
  place.lost = outcome == Outcome::wasted;
  rows_[place.owner].unread -= block_bytes_;
  unread_[static_cast<std::size_t>(place.source)] -= block_bytes_;
  tell_outcome(place.source, block_bytes_, outcome, now);
}

// A block that the session's chain has no more.
void Chains::leave(std::uint32_t session, BlockKey key, Changes& changes, double now) {
  const auto found = places_.find(key);
  if (found == places_.end() || found->second.owner != session) return;
  settle(found->second, Outcome::wasted, now);
  put(found->second, BlockStore::kAbsent, changes);
  places_.erase(found);
  if (kept_ != nullptr) kept_->disown(key, session);
}

// A block of another session's chain is of this one's, too: it was just used. Whether it
// is.
bool Chains::own(std::uint32_t session, Place& place, double now) {
  if (place.owner == session) return false;
  settle(place, Outcome::useful, now);
  Changes changes{};
  put(place, BlockStore::kAbsent, changes);
  tell_held(place.owner, changes);
  place.owner = session;
  return true;
}

std::uint32_t Chains::set(std::uint32_t session, std::span<const BlockKey> chain,
                          double now) {
  Row& row = rows_[session];
  const auto [kept, _] =
      std::mismatch(row.keys.begin(), row.keys.end(), chain.begin(), chain.end());
  const auto same = static_cast<std::size_t>(kept - row.keys.begin());
  Changes changes{};
  for (auto key = kept; key != row.keys.end(); ++key)
    leave(session, *key, changes, now);
  blocks_ = blocks_ - row.keys.size() + chain.size();
  row.keys.assign(chain.begin(), chain.end());
  std::uint32_t known = 0;
  bool all_known = true;
  for (std::uint32_t depth = 0; depth < chain.size(); ++depth) {
    const auto [place, is_new] = places_.try_emplace(chain[depth]);
    if (is_new) place->second.owner = session;
    const bool taken = own(session, place->second, now);
    if (kept_ != nullptr && (taken || depth >= same))
      kept_->own(chain[depth], session, depth);
    place->second.lost = false;
    all_known = all_known && !is_new;
    known += all_known ? 1 : 0;
  }
  tell_held(session, changes);
  look(session, now);
  return known;
}

void Chains::look(std::uint32_t session, double now) {
  const std::vector<BlockKey>& keys = rows_[session].keys;
  const auto tiers = find(keys);
  Changes changes{};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto found = places_.find(keys[i]);
    if (found == places_.end() || found->second.owner != session) continue;
    Place& place = found->second;
    if (tiers[i] < 0 || tiers[i] >= place.staged_to) settle(place, Outcome::wasted, now);
    // What is lost is out of the scheduler's sight, unless it is where it should be.
    put(place, place.lost && tiers[i] > 0 ? BlockStore::kAbsent : tiers[i], changes);
  }
  tell_held(session, changes);
}

Numbers Chains::read(std::uint32_t session, double now) {
  Row& row = rows_[session];
  const auto tiers = find(row.keys);
  Numbers bytes{};
  for (std::size_t i = 0; i < row.keys.size(); ++i) {
    if (tiers[i] >= 0) bytes[static_cast<std::size_t>(tiers[i])] += block_bytes_;
    if (row.unread == 0) continue;
    const auto found = places_.find(row.keys[i]);
    if (found == places_.end() || found->second.owner != session) continue;
    const bool there = tiers[i] >= 0 && tiers[i] < found->second.staged_to;
    settle(found->second, there ? Outcome::useful : Outcome::wasted, now);
  }
  return bytes;
}

void Chains::wanted(std::uint32_t session, double now) {
  for (const BlockKey key : rows_[session].keys) {
    const auto found = places_.find(key);
    if (found != places_.end() && found->second.owner == session)
      found->second.lost = false;
  }
  look(session, now);
}

void Chains::waste(std::uint32_t session, double now) {
  Row& row = rows_[session];
  for (const BlockKey key : row.keys) {
    if (row.unread == 0) return;
    const auto found = places_.find(key);
    if (found != places_.end() && found->second.owner == session)
      settle(found->second, Outcome::wasted, now);
  }
}

void Chains::clear(std::uint32_t session, double now) {
  Row& row = rows_[session];
  Changes changes{};
  for (const BlockKey key : row.keys)
    leave(session, key, changes, now);
  tell_held(session, changes);
  blocks_ -= row.keys.size();
  row = Row{};
}

std::vector<BlockKey> Chains::take(std::uint32_t session, std::uint32_t tier,
                                   std::size_t most) {
  std::vector<BlockKey> keys;
  for (const BlockKey key : rows_[session].keys) {
    if (keys.size() == most) break;
    const auto found = places_.find(key);
    if (found == places_.end()) continue;
    Place& place = found->second;
    if (place.owner != session || place.moving || place.tier < 0 ||
        static_cast<std::uint32_t>(place.tier) != tier)
      continue;
    place.moving = true;
    keys.push_back(key);
  }
  return keys;
}

void Chains::landed(const Chunk& chunk, std::span<const BlockKey> keys,
                    std::span<const Fate> fates, double now) {
  const auto session = static_cast<std::uint32_t>(chunk.session);
  const auto source = static_cast<std::size_t>(chunk.source);
  Changes changes{};
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto found = places_.find(keys[i]);
    Place* const place = found == places_.end() ? nullptr : &found->second;
    if (place != nullptr) place->moving = false;
    if (fates[i] == Fate::stayed) continue;
    staged_[source] += block_bytes_;
    Fate fate = fates[i];
    if (place == nullptr || place->owner != session) {
      // Another session has used it meanwhile, or nobody wants it any more.
      if (fate == Fate::unread) fate = place == nullptr ? Fate::wasted : Fate::useful;
    } else {
      settle(*place, Outcome::useful, now);  // to a slower tier, for this one
      put(*place, static_cast<std::int8_t>(chunk.to), changes);
      if (fate == Fate::unread) {
        place->staged_to = static_cast<std::uint8_t>(chunk.to + 1);
        place->source = chunk.source;
        rows_[session].unread += block_bytes_;
        unread_[source] += block_bytes_;
        continue;
      }
    }
    tell_outcome(chunk.source, block_bytes_,
                 fate == Fate::useful ? Outcome::useful
                 : fate == Fate::late ? Outcome::late
                                      : Outcome::wasted,
                 now);
  }
  tell_held(session, changes);
}

std::uint32_t Chains::front(std::uint32_t session, std::uint32_t tier,
                            std::uint64_t bytes) const {
  const std::vector<BlockKey>& keys = rows_[session].keys;
  std::uint64_t left = bytes / block_bytes_;
  for (std::uint32_t depth = 0; depth < keys.size(); ++depth) {
    const auto found = places_.find(keys[depth]);
    if (found == places_.end() || found->second.owner != session ||
        found->second.tier != static_cast<std::int8_t>(tier))
      continue;
    if (left-- == 0) return depth;
  }
  return KeptBlocks::kAll;
}

std::vector<bool> Chains::are_in(std::span<const BlockKey> keys, std::uint32_t tier) {
  const auto tiers = find(keys);
  std::vector<bool> there(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i)
    there[i] = tiers[i] >= 0 && static_cast<std::uint32_t>(tiers[i]) <= tier;
  return there;
}

}  // namespace speckv::prefetch

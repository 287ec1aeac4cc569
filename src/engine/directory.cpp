#include "engine/directory.hpp"

#include <algorithm>

#include "base/checksum.hpp"
#include "base/endian.hpp"

namespace speckv::engine {
namespace {

constexpr KvAddress at_position(KvAddress address, std::uint32_t position) noexcept {
  address.position = position;
  return address;
}

}  // namespace

bool Directory::List::push(std::uint32_t entry) noexcept {
  if (count == ring.size()) return false;
  ring[(first + count++) % ring.size()] = entry;
  return true;
}

std::uint32_t Directory::List::pop() noexcept {
  const std::uint32_t entry = ring[first];
  first = (first + 1) % static_cast<std::uint32_t>(ring.size());
  --count;
  return entry;
}

Directory::Directory(std::uint32_t entries, Counters& counters)
    : sets_(entries / kMaxDirectoryWays),
      counters_(counters),
      entries_(std::size_t{entries} + kMaxDirectoryStash),
      tenants_(kMaxTenants) {
  renew(DirectorySettings{});
}

void Directory::renew(const DirectorySettings& settings) noexcept {
  quota_ = settings.quota;
  shift_ = settings.block_shift;
  std::fill(entries_.begin(), entries_.end(), Entry{});
  std::fill(tenants_.begin(), tenants_.end(), Tenant{});
  for (Tenant& tenant : tenants_)
    tenant.weights = settings.weights;
}

void Directory::renew_tenant(std::uint32_t number, const Weights& weights) noexcept {
  Tenant& tenant = tenants_[number];
  for (auto entry = entries_.begin(); entry != entries_.end() && tenant.blocks != 0;
       ++entry) {
    if (entry->tokens != 0 && entry->name.tenant == number) clear(*entry);
  }
  tenant = Tenant{};
  tenant.weights = weights;
}

void Directory::count(Tenant& tenant, std::uint64_t Telemetry::*mine, Counter all,
                      std::uint64_t n) noexcept {
  tenant.tally.*mine = add_saturating(tenant.tally.*mine, n);
  counters_.add(all, n);
}

// ---- Finding -----------------------------------------------------------------------

Directory::Name Directory::name_of(std::uint32_t tenant,
                                   const KvAddress& token) const noexcept {
  return {token.request, token.position >> shift_, token.layer, token.head,
          static_cast<std::uint8_t>(tenant)};
}

std::array<std::uint32_t, kMaxDirectoryWays + kMaxDirectoryStash> Directory::places(
    const Name& name) const noexcept {
  std::array<std::byte, 16> bytes{};
  store_le(bytes.data(), name.request);
  store_le(bytes.data() + 4, name.layer);
  store_le(bytes.data() + 6, name.head);
  store_le(bytes.data() + 8, name.page);
  store_le(bytes.data() + 12, std::uint16_t{name.tenant});
  const std::uint32_t set = crc32c(0, bytes) % sets_;
  std::array<std::uint32_t, kMaxDirectoryWays + kMaxDirectoryStash> found{};
  for (std::uint32_t i = 0; i < kMaxDirectoryWays; ++i)
    found[i] = set * kMaxDirectoryWays + i;
  for (std::uint32_t i = 0; i < kMaxDirectoryStash; ++i)
    found[kMaxDirectoryWays + i] = entries() + i;
  return found;
}

Directory::Entry* Directory::find(const Name& name) noexcept {
  for (const std::uint32_t number : places(name)) {
    Entry& entry = entries_[number];
    if (entry.tokens != 0 && entry.name == name) return &entry;
  }
  return nullptr;
}

bool Directory::holds(const Entry& entry, std::uint64_t from,
                      std::uint64_t end) const noexcept {
  const std::uint64_t first = std::uint64_t{entry.name.page} << shift_;
  return first < end && from < first + entry.tokens;
}

Directory::Entry* Directory::look_up(Name name, std::uint64_t from,
                                     std::uint64_t end) noexcept {
  Entry* found = find(name);
  if (found != nullptr && !holds(*found, from, end)) found = nullptr;
  if (found == nullptr && name.request != 0) {
    name.request = 0;
    found = find(name);
    if (found != nullptr && !holds(*found, from, end)) found = nullptr;
  }
  Tenant& tenant = tenants_[name.tenant];
  if (found != nullptr) {
    count(tenant, &Telemetry::hits, Counter::directory_hits);
  } else {
    count(tenant, &Telemetry::misses, Counter::directory_misses);
  }
  return found;
}

bool Directory::contains(std::uint32_t tenant, const KvAddress& token) {
  return look_up(name_of(tenant, token), token.position,
                 std::uint64_t{token.position} + 1) != nullptr;
}

// ---- Coming and going ----------------------------------------------------------------

// Where a new entry goes, emptied; nullptr: nowhere.
Directory::Entry* Directory::place_for(const Name& name) noexcept {
  Tenant& tenant = tenants_[name.tenant];
  Entry* worst = nullptr;
  std::uint32_t least = 0;
  for (const std::uint32_t number : places(name)) {
    Entry& entry = entries_[number];
    if (entry.tokens == 0) {
      if (tenant.blocks < quota_) return &entry;
      continue;
    }
    if (entry.name.tenant != name.tenant || entry.use.refs != 0) continue;
    const std::uint32_t p = entry.use.score(tenant.weights, tenant.step);
    if (worst == nullptr || p < least) {
      worst = &entry;
      least = p;
    }
  }
  if (worst == nullptr) return nullptr;
  count(tenant, &Telemetry::replaced, Counter::directory_replaced);
  clear(*worst);
  return worst;
}

void Directory::clear(Entry& entry) noexcept {
  Tenant& tenant = tenants_[entry.name.tenant];
  --tenant.blocks;
  if (entry.use.refs != 0) --tenant.shared;
  entry = Entry{};
}

void Directory::touch(Entry& entry) noexcept {
  entry.use.touch(tenants_[entry.name.tenant].step);
  entry.victim = Mark::none;
}

bool Directory::insert(std::uint32_t tenant, const KvAddress& first,
                       std::uint32_t tokens) {
  const Name name = name_of(tenant, first);
  Entry* entry = find(name);
  if (entry == nullptr) {
    entry = place_for(name);
    if (entry == nullptr) {
      count(tenants_[tenant], &Telemetry::refused, Counter::directory_refused);
      return false;
    }
    entry->name = name;
    entry->use.last = tenants_[tenant].step;
    ++tenants_[tenant].blocks;
    count(tenants_[tenant], &Telemetry::inserted, Counter::directory_inserted);
  }
  entry->tokens = static_cast<std::uint16_t>(tokens);
  entry->staged = false;
  touch(*entry);
  return true;
}

bool Directory::use(std::uint32_t tenant, const KvAddress& first, bool staged) {
  Entry* entry =
      look_up(name_of(tenant, first), first.position, std::uint64_t{first.position} + 1);
  if (entry == nullptr) return false;
  touch(*entry);
  if (staged) {
    entry->staged = true;
    entry->prefetch = Mark::none;
  }
  return true;
}

void Directory::drop(std::uint32_t tenant, const KvAddress& first) {
  Entry* entry = find(name_of(tenant, first));
  if (entry != nullptr) clear(*entry);
}

// ---- Hints ---------------------------------------------------------------------------

void Directory::count_hint(Entry& entry, Hint hint, std::uint32_t due) noexcept {
  Tenant& tenant = tenants_[entry.name.tenant];
  std::uint8_t& refs = entry.use.refs;
  switch (hint) {
    case Hint::hot:
      touch(entry);
      entry.use.freq = 255;
      break;
    case Hint::evictable:
      entry.use.evictable = 1;
      break;
    case Hint::prefetchable:
      entry.use.expect(due);
      break;
    case Hint::share:
      if (refs == 0) ++tenant.shared;
      if (refs < kScoreSaturated) ++refs;
      break;
    case Hint::unshare:
      if (refs < kScoreSaturated) --refs;  // at the top the count is no longer known
      if (refs == 0) --tenant.shared;
      break;
    case Hint::forget:
      clear(entry);
      count(tenant, &Telemetry::removed, Counter::directory_removed);
      break;
  }
}

Directory::Outcome Directory::hint(std::uint32_t tenant, Hint hint,
                                   const KvAddress& first, std::uint32_t tokens,
                                   std::uint32_t due) {
  const std::uint64_t from = first.position, end = from + tokens;
  const bool also_shared = hint == Hint::hot || hint == Hint::prefetchable;
  const auto visit = [&](auto&& see) {
    for (std::uint64_t page = from >> shift_; page <= (end - 1) >> shift_; ++page) {
      const auto position = static_cast<std::uint32_t>(page << shift_);
      const Name name = name_of(tenant, at_position(first, position));
      Entry* entry = also_shared ? look_up(name, from, end) : find(name);
      if (entry != nullptr && holds(*entry, from, end)) see(*entry);
    }
  };
  // unshare and forget happen for all or for none.
  Answer answer = Answer::ok;
  if (hint == Hint::unshare || hint == Hint::forget) {
    visit([&](const Entry& entry) {
      if (hint == Hint::unshare && entry.use.refs == 0) answer = Answer::not_found;
      if (hint == Hint::forget && entry.use.refs != 0) answer = Answer::busy;
    });
    if (answer != Answer::ok) return {answer, 0};
  }
  std::uint32_t found = 0;
  visit([&](Entry& entry) {
    ++found;
    count_hint(entry, hint, due);
  });
  return {found == 0 ? Answer::not_found : Answer::ok, found};
}

// ---- Scanning and telling
// --------------------------------------------------------------

// Brings the marks of one entry up to date. True: it became a candidate.
bool Directory::score(Tenant& tenant, std::uint32_t number) noexcept {
  Entry& entry = entries_[number];
  const Weights& w = tenant.weights;
  const std::uint32_t p = entry.use.score(w, tenant.step);
  if (!below(p, std::uint32_t{w.evict} + w.hysteresis, w) || entry.use.refs != 0) {
    entry.victim = Mark::none;
  }
  if (below(p, std::uint32_t{w.prefetch} - w.hysteresis, w)) {
    entry.prefetch = Mark::none;
    entry.staged = false;
  }
  if (entry.victim == Mark::none && entry.use.refs == 0 && below(p, w.evict, w) &&
      tenant.victims.push(number)) {
    entry.victim = Mark::waiting;
    count(tenant, &Telemetry::victims, Counter::victims);
    return true;
  }
  if (entry.prefetch == Mark::none && !entry.staged && !below(p, w.prefetch, w) &&
      tenant.prefetches.push(number)) {
    entry.prefetch = Mark::waiting;
    count(tenant, &Telemetry::prefetches, Counter::prefetches);
    return true;
  }
  return false;
}

std::uint32_t Directory::advance(std::uint32_t tenant, std::uint32_t step) {
  Tenant& mine = tenants_[tenant];
  if (!later(step, mine.step)) return 0;
  mine.step = step;
  count(mine, &Telemetry::scans, Counter::scans);
  std::uint32_t found = 0, left = mine.blocks;
  for (std::uint32_t i = 0; i < entries_.size() && left != 0; ++i) {
    if (entries_[i].tokens == 0 || entries_[i].name.tenant != tenant) continue;
    --left;
    if (score(mine, i)) ++found;
  }
  return found;
}

Candidate Directory::candidate(const Entry& entry) const noexcept {
  const Tenant& tenant = tenants_[entry.name.tenant];
  const PackedAddress address =
      pack({entry.name.request, entry.name.layer, entry.name.head,
            entry.name.page << shift_, KvKind::key});
  return {address.low, static_cast<std::uint32_t>(address.high),
          entry.use.score(tenant.weights, tenant.step)};
}

std::size_t Directory::report(std::uint32_t tenant, Report kind, MutableBytes out) {
  Tenant& mine = tenants_[tenant];
  const bool victims = kind == Report::victims;
  List& list = victims ? mine.victims : mine.prefetches;
  std::size_t written = 0;
  while (list.count != 0 && out.size() - written >= Candidate::kBytes) {
    Entry& entry = entries_[list.pop()];
    Mark& mark = victims ? entry.victim : entry.prefetch;
    // The entry may have been used, staged, shared or given to another block since.
    const bool still = entry.tokens != 0 && entry.name.tenant == tenant &&
                       mark == Mark::waiting && (!victims || entry.use.refs == 0);
    if (!still) continue;
    mark = Mark::told;
    candidate(entry).store(out.data() + written);
    written += Candidate::kBytes;
  }
  return written;
}

Telemetry Directory::telemetry(std::uint32_t tenant) const {
  const Tenant& mine = tenants_[tenant];
  Telemetry told = mine.tally;
  told.step = mine.step;
  told.blocks = mine.blocks;
  told.shared = mine.shared;
  told.weights = mine.weights.packed_weights();
  told.thresholds = mine.weights.packed_thresholds();
  told.waiting_victims = static_cast<std::uint16_t>(mine.victims.count);
  told.waiting_prefetches = static_cast<std::uint16_t>(mine.prefetches.count);
  return told;
}

}  // namespace speckv::engine

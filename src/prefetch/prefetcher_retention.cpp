// What the first tier of a live store passes over: the scheduler's plan as a set of
// blocks, and what came of it as bytes that the scheduler is told of.
#include <algorithm>
#include <utility>

#include "prefetch/prefetcher_impl.hpp"

namespace speckv {
namespace {

using prefetch::Entry;
// A cause besides the sources: nobody is to blame, nor to be praised.
constexpr std::uint32_t kLastUse = prefetch::kSources;
static_assert(kLastUse < KeptBlocks::kCauses);
constexpr double kReplan = 0.02;         // s at least, whatever is said in between
constexpr std::size_t kLookedAt = 8192;  // blocks a plan, of chains that lost some

}  // namespace

void Prefetcher::Impl::count_retained() {
  if (retention_.blocks == nullptr) return;
  for (std::uint32_t source = 0; source < prefetch::kSources; ++source) {
    const std::uint64_t passed = retention_.blocks->passed(source);
    const std::uint64_t more = passed - std::exchange(retention_.told[source], passed);
    if (more == 0) continue;
    scheduler_.tell({.kind = Entry::Kind::retained,
                     .bytes = more * block_bytes_,
                     .source = static_cast<prefetch::Source>(source)});
  }
}

void Prefetcher::Impl::retain_soon() {
  retention_.due = std::min(retention_.due, retention_.planned + kReplan);
}

void Prefetcher::Impl::retain(double now) {
  Retention& its = retention_;
  if (its.blocks == nullptr || now < its.due) return;
  its.planned = now;
  its.due = next_tick(now);
  ++its.plan;
  std::size_t looked = 0;
  for (std::uint32_t n = 0; n < sessions_.size() && looked < kLookedAt; ++n) {
    if (!its.blocks->lost(n)) continue;
    chains_.look(n, now);
    looked += chains_.length(n);
  }
  // What others have in the tier is theirs.
  const PlainBytes plain = tiers_->plain_bytes(0);
  const std::uint64_t known = std::min(chains_.held(0), plain.held);
  const std::uint64_t others = plain.held - known;
  scheduler_.tell({.kind = Entry::Kind::keep,
                   .now = now,
                   .bytes = plain.capacity - plain.capacity % block_bytes_,
                   .shared = others,
                   .tier = 0});
  const std::vector<prefetch::Kept>& plan = scheduler_.scheduler().kept();
  std::vector<std::uint32_t> sessions;
  sessions.reserve(plan.size() + its.sessions.size());  // from here on nothing fails
  for (const prefetch::Kept& kept : plan) {
    const auto number = static_cast<std::uint32_t>(kept.session);
    its.blocks->keep(number,
                     kept.whole ? KeptBlocks::kAll : chains_.front(number, 0, kept.bytes),
                     kept.expected ? static_cast<std::uint32_t>(kept.source) : kLastUse);
    sessions_[number].kept_in = its.plan;
    sessions_[number].kept = kept.bytes;
    sessions.push_back(number);
  }
  // An active one stays as it was: its request is about to load what was kept for it.
  for (const std::uint32_t number : its.sessions) {
    const Session& session = sessions_[number];
    if (session.kept_in == its.plan) continue;
    if (session.active > 0) {
      sessions.push_back(number);
    } else {
      its.blocks->keep(number, 0, 0);
    }
  }
  its.sessions.swap(sessions);
  std::uint64_t bytes = 0;
  for (const std::uint32_t number : its.sessions)
    bytes += sessions_[number].kept;
  its.blocks->allow(bytes / block_bytes_);
}

}  // namespace speckv

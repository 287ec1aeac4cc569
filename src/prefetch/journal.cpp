#include "prefetch/journal.hpp"

namespace speckv::prefetch {

std::optional<Chunk> tell(Scheduler& scheduler, const Entry& entry) {
  switch (entry.kind) {
    case Entry::Kind::arrived:
      scheduler.arrived(entry.session, entry.bytes, entry.shared, entry.now);
      break;
    case Entry::Kind::missed:
      scheduler.missed(entry.bytes, entry.now);
      break;
    case Entry::Kind::completed:
      scheduler.completed(entry.session, entry.now, entry.returns);
      break;
    case Entry::Kind::hint:
      scheduler.hint(entry.session, entry.now, entry.eta, entry.confidence);
      break;
    case Entry::Kind::ended:
      scheduler.ended(entry.session);
      break;
    case Entry::Kind::forgotten:
      scheduler.forgotten(entry.session);
      break;
    case Entry::Kind::held:
      scheduler.held(entry.session, entry.tier, entry.change);
      break;
    case Entry::Kind::next:
      return scheduler.next(entry.tier, entry.now);
    case Entry::Kind::finished:
      scheduler.finished(entry.chunk, entry.end);
      break;
    case Entry::Kind::outcome:
      scheduler.outcome(entry.source, entry.bytes, entry.outcome, entry.now);
      break;
  }
  return std::nullopt;
}

std::vector<Chunk> replay(const Journal& journal) {
  Scheduler scheduler(journal.tiers, journal.options);
  std::vector<Chunk> chunks;
  for (const Entry& entry : journal.entries) {
    if (const auto chunk = tell(scheduler, entry)) chunks.push_back(*chunk);
  }
  return chunks;
}

}  // namespace speckv::prefetch

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
    case Entry::Kind::keep:
      (void)scheduler.keep(entry.tier, entry.bytes, entry.shared, entry.now);
      break;
    case Entry::Kind::retained:
      scheduler.retained(entry.source, entry.bytes);
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

Journal replay(const Journal& journal) {
  RecordedScheduler scheduler(journal.tiers, journal.options);
  Journal again;
  scheduler.record(&again);
  for (const Entry& entry : journal.entries)
    (void)scheduler.tell(entry);
  return again;
}

}  // namespace speckv::prefetch

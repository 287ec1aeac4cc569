// Pins and numbers: what a store lends and what it tells.
#include <utility>

#include "store/impl.hpp"

namespace speckv {

// "no such block" is short enough to need no memory.
Result<Pin> BlockStore::pin(BlockKey key) {
  Copy copy;
  if (impl_->table->acquire(key, copy) != BlockTable::Found::resident) {
    return Status(Code::not_found, "no such block");
  }
  Pin pin;
  pin.store_ = impl_.get();
  pin.entry_ = copy.node;
  pin.tier_ = static_cast<std::int8_t>(copy.tier);
  return pin;
}

Result<Pin> BlockStore::retain(BlockKey key) {
  Pin pin;
  if (!impl_->table->reference(key, pin.entry_)) {
    return Status(Code::not_found, "no such block");
  }
  pin.store_ = impl_.get();
  return pin;
}

Pin::Pin(Pin&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)),
      entry_(other.entry_),
      tier_(other.tier_) {}

Pin& Pin::operator=(Pin&& other) noexcept {
  std::swap(store_, other.store_);
  std::swap(entry_, other.entry_);
  std::swap(tier_, other.tier_);
  return *this;
}

Pin::~Pin() {
  if (store_ == nullptr) return;
  if (tier_ < 0) {
    store_->table->unreference(entry_);
  } else {
    Copy copy;
    copy.tier = static_cast<std::uint8_t>(tier_);  // never negative here
    copy.node = entry_;
    store_->table->unpin(copy);
  }
}

TierStats BlockStore::stats(std::size_t number) const noexcept {
  TierState& tier = *impl_->tiers[number];
  TierStats s = read_counters(tier.counters());
  s.capacity = tier.capacity();
  {
    const TierLock lock(tier);
    s.used = tier.extents().used_units() * tier.geometry.unit;
    const std::uint32_t nodes = tier.header().extents.bump.load();
    for (std::uint32_t n = 0; n < nodes; ++n) {
      if (!impl_->mapping->pinned(tier.number, n)) continue;
      s.pinned += tier.node(n).units * tier.geometry.unit;
    }
  }
  s.fenced = tier.fenced();
  return s;
}

void BlockStore::report(MetricSink& sink) const {
  for (std::size_t t = 0; t < tier_count(); ++t) {
    const TierStats s = stats(t);
    const MetricSink::Label tier{"tier", impl_->tiers[t]->name};
    sink.gauge("tier_capacity_bytes", tier, static_cast<double>(s.capacity));
    sink.gauge("tier_used_bytes", tier, static_cast<double>(s.used));
    sink.gauge("tier_pinned_bytes", tier, static_cast<double>(s.pinned));
    sink.gauge("tier_blocks", tier, static_cast<double>(s.blocks));
    sink.gauge("tier_plain_bytes", tier, static_cast<double>(s.plain_bytes));
    sink.gauge("tier_fenced", tier, s.fenced ? 1 : 0);
    sink.counter("tier_written_bytes_total", tier, s.bytes_written);
    sink.counter("tier_read_bytes_total", tier, s.bytes_read);
    sink.counter("tier_hits_total", tier, s.hits);
    sink.counter("tier_evictions_total", tier, s.evictions);
    sink.counter("tier_demotions_total", tier, s.demotions_in);
    sink.counter("tier_promotions_total", tier, s.promotions_in);
    sink.counter("tier_saves_dropped_total", tier, s.saves_dropped);
    sink.counter("tier_corrupted_total", tier, s.corrupted);
    sink.counter("tier_io_errors_total", tier, s.io_errors);
  }
}

}  // namespace speckv

#include "store/tier_state.hpp"

#include <algorithm>
#include <utility>

namespace speckv {
namespace {

// A layout that a codec cannot take is written raw.
const Codec* usable(const Codec* wanted, const BlockLayout& layout) noexcept {
  return wanted != nullptr && wanted->supports(coded_layout(layout))
             ? wanted
             : find_codec(CodecId::raw);
}

void choose(CodecTable& table, const std::vector<BlockLayout>& layouts,
            const Codec* codec, LayerRange layers) {
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const std::uint32_t count = layers.resolve(layouts[i]);
    for (std::uint32_t n = 0; n < count; ++n) {
      table.of_layout[i][layers.first + n] = usable(codec, layouts[i]);
    }
  }
}

}  // namespace

bool any_has(const std::vector<BlockLayout>& layouts, LayerRange layers) noexcept {
  return std::any_of(layouts.begin(), layouts.end(), [layers](const BlockLayout& layout) {
    return layers.resolve(layout) != 0;
  });
}

Status no_such_layers() {
  return {Code::invalid_argument, "no layout has the layers that a codec is chosen for"};
}

TierStats read_counters(const TierCounters& c) noexcept {
  const auto get = [](const std::atomic<std::uint64_t>& value) {
    return value.load(std::memory_order_relaxed);
  };
  TierStats s;
  s.blocks = get(c.blocks);
  s.plain_bytes = get(c.plain_bytes);
  s.bytes_written = get(c.bytes_written);
  s.bytes_read = get(c.bytes_read);
  s.hits = get(c.hits);
  s.evictions = get(c.evictions);
  s.demotions_in = get(c.demotions_in);
  s.promotions_in = get(c.promotions_in);
  s.saves_dropped = get(c.saves_dropped);
  s.corrupted = get(c.corrupted);
  s.io_errors = get(c.io_errors);
  return s;
}

TierState::TierState(std::uint32_t tier_number, Tier config, const TierGeometry& cut,
                     const std::vector<BlockLayout>& layouts)
    : number(tier_number),
      name(std::move(config.name)),
      device(std::move(config.device)),
      admission(config.admission),
      geometry(cut),
      memory(device->info().memory),
      persistent(device->info().persistent),
      layouts_(layouts),
      policy_(std::move(config.policy)) {
  auto table = std::make_shared<CodecTable>();
  for (const BlockLayout& layout : layouts) {
    table->of_layout.emplace_back(layout.layers, find_codec(CodecId::raw));
  }
  choose(*table, layouts, config.codec, {});
  for (const CodecChoice& choice : config.per_layer) {
    choose(*table, layouts, choice.codec, choice.layers);
  }
  const MutexLock lock(codec_mutex_);
  codecs_ = std::move(table);
}

void TierState::bind(Mapping& mapping) noexcept {
  mapping_ = &mapping;
  header_ = &mapping.tier(number);
  nodes_ = mapping.nodes(number);
  policy_state_ = mapping.policy_state(number);
  extents_.emplace(header_->extents, nodes_, geometry.nodes);
  if (mapping.fresh()) {
    extents_->format(geometry.units);
    header_->unit = geometry.unit;
    (void)name.copy(header_->name, sizeof header_->name);
  }
  policy_->bind(policy_state_, geometry.nodes, false);
}

std::uint32_t TierState::units_for(std::uint64_t bytes) const noexcept {
  const std::uint64_t units = (bytes + geometry.unit - 1) / geometry.unit;
  return units <= geometry.units ? static_cast<std::uint32_t>(units) : 0;
}

std::shared_ptr<const CodecTable> TierState::codecs() const {
  const MutexLock lock(codec_mutex_);
  return codecs_;
}

void TierState::set_codec(const Codec& codec, LayerRange layers) {
  const MutexLock lock(codec_mutex_);
  auto changed = std::make_shared<CodecTable>(*codecs_);
  choose(*changed, layouts_, &codec, layers);
  codecs_ = std::move(changed);
}

void TierState::rebuild() noexcept {
  extents_->rebuild(geometry.units);
  policy_->bind(policy_state_, geometry.nodes, true);
  std::uint64_t blocks = 0, plain = 0;
  for (std::uint32_t n = 0; n < header_->extents.bump; ++n) {
    if (nodes_[n].state.load(std::memory_order_relaxed) != NodeState::resident) continue;
    policy_->filled(Slot{n}, mapping_->entry(nodes_[n].entry).key.high);
    ++blocks;
    plain += plain_bytes(mapping_->entry(nodes_[n].entry).layout);
  }
  header_->counters.blocks.store(blocks, std::memory_order_relaxed);
  header_->counters.plain_bytes.store(plain, std::memory_order_relaxed);
}

}  // namespace speckv

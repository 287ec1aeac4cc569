// A store's upkeep: what is to last, who may have how much, which codecs are used.
#include <string>

#include "cxlspeckv/guarded.hpp"
#include "cxlspeckv/profile.hpp"

#include "store/impl.hpp"

namespace speckv {

Status BlockStore::flush() {
  return guarded([this] { return impl_->flush(); });
}

Status BlockStore::Impl::flush() {
  const std::uint32_t persistent = persistent_tier();
  if (persistent == tiers.size()) return no_persistent_tier();
  std::vector<BlockKey> keys;
  for (std::uint32_t s = 0; s < kShards; ++s)
    table->list_keys(s, keys);
  // One more than the blocks: a barrier behind what earlier commits still hold.
  auto op = std::make_shared<OperationState>(keys.size() + 1);
  for (std::size_t i = 0; i <= keys.size(); ++i) {
    Job job;
    job.kind = i < keys.size() ? Job::Kind::move : Job::Kind::commit;
    if (i < keys.size()) job.key = keys[i];
    job.target = persistent;
    job.saving = true;
    job.op = op;
    job.index = i;
    post_or_fail(persistent, job);
  }
  op->wait_for(std::chrono::nanoseconds::max());
  for (const OperationState::Block& block : op->blocks) {
    const Code code = block.code.load();
    if (code == Code::ok || code == Code::no_space || code == Code::not_found) continue;
    return {code, "a block could not be made durable: " + std::string(to_string(code))};
  }
  return {};
}

Status BlockStore::set_quota(TenantId tenant, std::uint64_t bytes) {
  impl_->mapping->tenant(static_cast<std::uint16_t>(tenant)).quota.store(bytes);
  return {};
}
std::uint64_t BlockStore::tenant_bytes(TenantId tenant) const noexcept {
  return impl_->mapping->tenant(static_cast<std::uint16_t>(tenant)).used.load();
}

std::size_t BlockStore::purge(TenantId tenant) noexcept {
  std::size_t erased = 0;
  for (std::uint32_t s = 0; s < kShards; ++s) {
    BlockKey key;
    for (std::uint32_t next = 0;
         impl_->table->next_key_of(static_cast<std::uint16_t>(tenant), s, next, key);)
      erased += erase({&key, 1});
  }
  return erased;
}

Status BlockStore::set_codec(std::size_t tier, const Codec& codec, LayerRange layers) {
  return guarded([&]() -> Status {
    if (tier >= impl_->tiers.size()) return {Code::not_found, "no such tier"};
    if (!any_has(layouts(), layers)) return no_such_layers();
    const Bytes profile = impl_->services.profile;
    if (Status can = check_profile_for(codec, profile, layouts()); !can.ok()) return can;
    impl_->tiers[tier]->set_codec(codec, layers);
    return {};
  });
}

const std::vector<BlockLayout>& BlockStore::layouts() const noexcept {
  return impl_->services.layouts;
}
std::size_t BlockStore::tier_count() const noexcept {
  return impl_->tiers.size();
}

}  // namespace speckv

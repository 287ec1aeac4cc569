#include "cxlspeckv/promotion.hpp"

#include <memory>
#include <utility>

#include "cxlspeckv/guarded.hpp"

#include "store/impl.hpp"

namespace speckv {

namespace {

std::shared_ptr<OperationState> begin(BlockStore::Impl& impl,
                                      std::span<const BlockKey> keys,
                                      const TransferOptions& options) {
  auto op = std::make_shared<OperationState>(keys.size(), options, *impl.services.clock);
  for (std::size_t i = 0; i < keys.size(); ++i)
    op->blocks[i].key = keys[i];
  return op;
}

}  // namespace

Operation promote(BlockStore& store, std::span<const BlockKey> keys, std::size_t tier,
                  const TransferOptions& options) {
  BlockStore::Impl& impl = store.impl();
  std::shared_ptr<OperationState> op;
  const Code begun = guarded([&] {
    op = begin(impl, keys, options);
    return Code::ok;
  });
  if (begun != Code::ok) return Operation::refused(keys.size());
  if (keys.empty() && op->completions != nullptr) op->completions->push(op->announcement);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    std::uint32_t where = 0;
    const BlockTable::Found found = impl.table->find(keys[i], where);
    if (found != BlockTable::Found::resident || where <= tier) {
      const bool absent = found == BlockTable::Found::absent;
      op->finish(i, absent                                ? Code::not_found
                    : found == BlockTable::Found::pending ? Code::busy
                                                          : Code::ok);
      continue;
    }
    Job job;
    job.kind = Job::Kind::move;
    job.key = keys[i];
    job.target = static_cast<std::uint32_t>(tier);
    job.op = op;
    job.index = i;
    const Code posted =
        guarded([&] { return impl.movers[where]->post(job) ? Code::ok : Code::busy; });
    if (posted != Code::ok) op->finish(i, posted);
  }
  return Operation(std::move(op));
}

}  // namespace speckv

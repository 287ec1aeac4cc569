#include "cxlspeckv/promotion.hpp"

#include <memory>
#include <utility>

#include "store/impl.hpp"

namespace speckv {

Operation promote(BlockStore& store, std::span<const BlockKey> keys, std::size_t tier,
                  const TransferOptions& options) {
  BlockStore::Impl& impl = store.impl();
  auto op = std::make_shared<OperationState>(keys.size());
  op->completions = options.completions;
  op->tag = options.tag;
  if (options.deadline.count() > 0)
    op->deadline = impl.services.clock->now() + options.deadline;
  if (keys.empty() && options.completions != nullptr)
    options.completions->push({options.tag, Code::ok});
  for (std::size_t i = 0; i < keys.size(); ++i)
    op->blocks[i].key = keys[i];
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
    if (!impl.movers[where]->post(job)) op->finish(i, Code::busy);
  }
  return Operation(std::move(op));
}

}  // namespace speckv

// Blocks on their way from one tier to another, and saves that wait for somebody else's.
#include <algorithm>
#include <utility>

#include "store/mover.hpp"

namespace speckv {

// A block must not leave a persistent tier before the one below is sure to have it, nor
// may a save into one be answered.
bool Mover::waits_for_commit(const Job& job) const {
  return table_.tier(job.target).persistent &&
         (job.saving ||
          (job.demotion != nullptr && table_.tier(job.source.tier).persistent));
}

void Mover::hurry_commit(std::uint32_t tier) {
  if (tier == number_) {
    commit_wanted_ = true;
  } else {
    router_.hurry(tier);
  }
}

// The block is in its target tier, but no flush has covered it. Whoever filled the slot
// may have died before its commit, so the record is made due again.
Mover::Started Mover::await_commit(Job& job, std::uint32_t node) {
  if (table_.tier(job.target).fenced()) {
    end(job, Code::io_error);
    return Started::done;
  }
  if (job.target != number_ && job.saving) {
    forward(job, job.target);
    return Started::done;
  }
  if (job.target == number_ && (job.saving || !committer_->running())) {
    committer_->published(node, 0);
  }
  if (!job.saving) {
    hurry_commit(job.target);
    return Started::later;
  }
  committed_later(job);
  return Started::done;
}

// Lets the operation go with the next commit.
void Mover::committed_later(Job& job) {
  if (job.op != nullptr) committer_->add(std::move(job.op), job.index);
  job.op = nullptr;
  end(job, Code::ok);
}

// There is nothing to move. A save has the bytes itself.
Mover::Started Mover::gone(Job& job) {
  if (job.saving && job.has_bytes()) {
    job.kind = Job::Kind::save;
    job.saving = false;
    return begin_save(job);
  }
  end(job, job.failed != Code::ok ? job.failed : Code::not_found);
  return Started::done;
}

Mover::Started Mover::begin_move(Job& job) {
  if (job.carried.empty()) {
    bool committed = true;
    std::uint32_t node = kNone;
    const BlockTable::Found there = table_.find_in(
        job.key, job.target, waits_for_commit(job) ? &committed : nullptr, &node);
    if (there == BlockTable::Found::resident && !committed)
      return await_commit(job, node);
    if (there == BlockTable::Found::resident) {
      end(job, Code::ok);
      return Started::done;
    }
    if (there == BlockTable::Found::pending && job.op != nullptr &&
        services_.clock->now() < job.give_up) {
      return Started::later;
    }
  }
  if (job.source.node == kNone) {
    const BlockTable::Found found = table_.acquire(job.key, job.source);
    if (found != BlockTable::Found::resident) job.source.node = kNone;
    if (found == BlockTable::Found::pending && services_.clock->now() < job.give_up) {
      return Started::later;
    }
    if (found != BlockTable::Found::resident) return gone(job);
  }
  const Copy source = job.source;
  TierState& its = table_.tier(source.tier);
  // What shall be stored, or last, does so where it is. Two blocks that were moved up for
  // that would put each other out of a full tier for ever.
  if (job.saving && job.carried.empty() && source.tier != job.target &&
      (its.persistent || !table_.tier(job.target).persistent)) {
    table_.unpin(std::exchange(job.source, Copy{}));
    job.target = source.tier;
    return Started::later;
  }
  if (table_.tier(job.target).fenced() || (job.carried.empty() && its.fenced())) {
    end(job, Code::io_error);
    return Started::done;
  }
  // Only its own mover can write to a queue device.
  const bool has_frame = !job.carried.empty() || its.memory;
  const bool can_write = table_.tier(job.target).memory || job.target == number_;
  if (has_frame && !can_write) {
    forward(job, job.target);
    return Started::done;
  }
  if (!job.carried.empty()) return fill(job, job.carried);
  if (its.memory) {
    const Started started =
        fill(job, its.bytes_of(its.node(source.node)).first(source.frame_bytes));
    if (started != Started::later)
      its.counters().bytes_read.fetch_add(source.frame_bytes, std::memory_order_relaxed);
    return started;
  }
  if (source.tier == number_) return read(job, source, false);
  forward(job, source.tier);
  return Started::done;
}

// Writes a checked copy of `frame` into the job's target tier.
Mover::Started Mover::fill(Job& job, Bytes frame) {
  TierState& target_tier = table_.tier(job.target);
  Task* const task = target_tier.memory ? nullptr : idle_task();
  if (!target_tier.memory && task == nullptr) return Started::later;
  const BlockLayout& layout = services_.layout(job.source.layout);
  const auto table = target_tier.codecs();
  const LayerCodecs codecs = table->codecs(job.source.layout);
  Copy target = job.source;
  target.tier = job.target;
  const std::uint64_t most = std::max(max_frame_bytes(layout, codecs), frame.size());
  const Code reserved = table_.reserve(job.target, most, target.tenant, target.node);
  if (reserved == Code::busy) {
    hurry_commit(job.target);
    return Started::later;
  }
  Code code = reserved == Code::ok ? table_.link(target, {.must_exist = true}) : reserved;
  if (code == Code::busy && job.op != nullptr) {  // it is there, or about to be
    job.carried.clear();
    return Started::later;
  }
  if (code != Code::ok) {
    end(job, code == Code::busy ? Code::ok : job.outcome(code));
    return Started::done;
  }
  std::uint64_t bytes = 0;
  const MutableBytes out = target_tier.memory
                               ? target_tier.bytes_of(target_tier.node(target.node))
                               : task->staging;
  const auto own = table_.tier(job.source.tier).codecs();
  code = transcode(layout, job.key, frame, own->codecs(job.source.layout), codecs,
                   services_.profile, out, bytes, scratch_);
  if (code == Code::no_space) {
    table_.abandon(target);
    end(job, code);
    return Started::done;
  }
  if (code != Code::ok) {
    table_.abandon(target);
    note_corrupted(job, std::exchange(job.source, Copy{}));
    job.carried.clear();
    if (job.demotion == nullptr) return Started::later;  // another tier may have it
    end(job, code);
    return Started::done;
  }
  if (!target_tier.memory) return write(job, target, bytes, *task);
  target_tier.counters().bytes_written.fetch_add(bytes, std::memory_order_relaxed);
  code = table_.publish(target, bytes);
  if (code == Code::ok) {
    job.moved = true;
    const bool demoted = job.demotion != nullptr;
    auto& counters = target_tier.counters();
    (demoted ? counters.demotions_in : counters.promotions_in)
        .fetch_add(1, std::memory_order_relaxed);
    services_.emit(demoted ? Event::Kind::demote : Event::Kind::promote, job.key,
                   job.target, bytes, target.order);
    if (waits_for_commit(job)) {
      job.carried.clear();
      return Started::later;
    }
  }
  end(job, job.outcome(code));
  return Started::done;
}

}  // namespace speckv

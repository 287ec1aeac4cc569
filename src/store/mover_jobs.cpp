// What the mover does with each job. begin() answers `later` for a job that must wait.
#include <algorithm>
#include <bit>
#include <utility>

#include "cxlspeckv/guarded.hpp"

#include "store/mover.hpp"

namespace speckv {
namespace {

constexpr std::chrono::milliseconds kDemotionPause{50};

}  // namespace

// Ends a job: its source is let go, its operation told.
void Mover::end(Job& job, Code code) {
  // Before they are free: to believe for a moment that too little leaves does no harm.
  if (job.demotion != nullptr) job.demotion->units -= job.leaving_units;
  if (job.source.node != kNone) {
    table_.unpin(job.source);
    if (job.demotion != nullptr && code == Code::ok)
      table_.drop(job.source, job.moved ? Event::Kind::vacate : Event::Kind::evict);
    job.source.node = kNone;
  }
  if (job.demotion != nullptr) {
    --std::exchange(job.demotion, nullptr)->blocks;
    if (code != Code::ok) demote_again_ = services_.clock->now() + kDemotionPause;
  }
  job.let_go(code);
  services_.changes.announce();
}

Mover::Started Mover::begin(Job& job) {
  if (job.given_up(*services_.clock)) {
    end(job, job.op->cancelled.load() ? Code::cancelled : Code::timed_out);
    return Started::done;
  }
  if (job.give_up == Clock::time_point{}) {
    job.give_up = services_.clock->now() + tier_.device->info().timeout;
  }
  if (job.op != nullptr && !job.op->may_touch_memory()) return Started::later;
  switch (job.kind) {
    case Job::Kind::save:
      return begin_save(job);
    case Job::Kind::load:
      return begin_load(job);
    case Job::Kind::move:
      return begin_move(job);
    case Job::Kind::commit:
      if (tier_.fenced()) {
        end(job, Code::io_error);
      } else {
        committer_->add(std::move(job.op), job.index);
      }
      return Started::done;
  }
  return Started::done;
}

// To the mover of `tier`; a full inbox there makes the job wait here.
void Mover::forward(Job& job, std::uint32_t tier) {
  const Code code = hand_over(job, tier);
  if (code == Code::ok) return;
  if (stop_.load() || job.op == nullptr || code != Code::busy) {
    end(job, code);
  } else {
    (void)set_aside(job);
  }
}

// ---- save

// A save that this tier cannot take goes to the next one that can, if it still has bytes.
void Mover::pass_down(Job& job, Code why) {
  const bool may_go = job.op != nullptr && !job.op->durable;
  for (std::uint32_t t = number_ + 1; may_go && t < table_.tier_count(); ++t) {
    if (table_.tier(t).fenced() || table_.tier(t).admission != Admission::always)
      continue;
    job.target = t;
    if (hand_over(job, t) == Code::ok) return;
  }
  end(job, why);
}

Mover::Started Mover::begin_save(Job& job) {
  if (tier_.fenced()) {
    pass_down(job, Code::io_error);
    return Started::done;
  }
  const OperationState::Block& block = job.op->blocks[job.index];
  const auto layout_id = static_cast<std::uint16_t>(block.layout);
  const BlockLayout& layout = services_.layout(layout_id);
  const auto table = tier_.codecs();
  const LayerCodecs codecs = table->codecs(layout_id);
  Task* const task = tier_.memory ? nullptr : idle_task();
  if (!tier_.memory && task == nullptr) return Started::later;

  Copy target{job.key,   number_,
              kNone,     kNone,
              0,         block.first_position,
              layout_id, static_cast<std::uint16_t>(job.op->tenant)};
  const Code reserved = table_.reserve(number_, max_frame_bytes(layout, codecs),
                                       target.tenant, target.node);
  if (reserved == Code::busy) {
    commit_wanted_ = true;
    return Started::later;
  }
  if (reserved != Code::ok) {
    pass_down(job, reserved);
    return Started::done;
  }
  const Code linked = table_.link(target, {.only_if_absent = true});
  if (linked == Code::busy) return stored_meanwhile(job);
  if (linked != Code::ok) {
    end(job, linked);
    return Started::done;
  }
  const MutableBytes out =
      task != nullptr ? task->staging : tier_.bytes_of(tier_.node(target.node));
  const std::uint64_t frame =
      encode_block(layout, codecs, job.key, block.first_position, services_.profile,
                   job.op->memory(job.index), out, scratch_);
  if (frame == 0) {
    table_.abandon(target);
    pass_down(job, Code::no_space);
    return Started::done;
  }
  if (task != nullptr) return write(job, target, frame, *task);
  tier_.counters().bytes_written.fetch_add(frame, std::memory_order_relaxed);
  const Code published = table_.publish(target, frame);
  if (published == Code::ok) {
    services_.emit(Event::Kind::save, job.key, number_, frame, target.order);
    if (committer_ != nullptr) {
      committed_later(job);
      return Started::done;
    }
  }
  end(job, job.outcome(published));
  return Started::done;
}

// Somebody else saves the block: this save is done when theirs is.
Mover::Started Mover::stored_meanwhile(Job& job) {
  std::uint32_t where = 0;
  if (table_.find(job.key, where) == BlockTable::Found::absent) return Started::later;
  job.kind = Job::Kind::move;
  job.saving = true;
  job.target = job.op->durable ? number_ : where;
  if (job.target == number_) return Started::later;
  forward(job, job.target);
  return Started::done;
}

Mover::Started Mover::write(Job& job, const Copy& target, std::uint64_t frame,
                            Task& task) {
  const std::uint64_t padded = align_up(frame, align_);
  std::fill(task.staging.begin() + static_cast<std::ptrdiff_t>(frame),
            task.staging.begin() + static_cast<std::ptrdiff_t>(padded), std::byte{0});
  start_task(task, job, Task::Step::write);
  task.target = target;
  task.frame = frame;
  submit(task, Transfer::Op::write, tier_.device_offset(tier_.node(target.node)),
         task.staging.first(padded));
  return Started::running;
}

void Mover::written(Task& task) {
  Job job = std::move(task.job);
  Copy target = task.target;
  const std::uint64_t frame = task.frame;
  task.step = Task::Step::idle;
  --running_;
  const Code published = table_.publish(target, frame);
  if (published != Code::ok) {
    end(job, job.outcome(published));
    return;
  }
  const bool moved = job.kind == Job::Kind::move;
  const bool demoted = job.demotion != nullptr;
  if (moved) {
    job.moved = true;
    auto& counter =
        demoted ? tier_.counters().demotions_in : tier_.counters().promotions_in;
    counter.fetch_add(1, std::memory_order_relaxed);
  }
  services_.emit(!moved    ? Event::Kind::save
                 : demoted ? Event::Kind::demote
                           : Event::Kind::promote,
                 target.key, number_, frame, target.order);
  if (moved && waits_for_commit(job) && !job.saving) {
    (void)set_aside(job);
  } else if (tier_.fenced()) {
    end(job, Code::io_error);
  } else if (committer_ != nullptr && (!moved || job.saving)) {
    committed_later(job);
  } else {
    end(job, Code::ok);
  }
}

// ---- load

std::uint32_t Mover::wanted_layers(const Job& job, std::uint32_t& first) const {
  const auto layout = static_cast<std::uint16_t>(job.op->blocks[job.index].layout);
  first = job.op->layers.first;
  return job.op->layers.resolve(services_.layout(layout));
}

void Mover::note_corrupted(Job& job, const Copy& copy) {
  job.failed = Code::corrupted;
  table_.unpin(copy);
  table_.drop(copy, Event::Kind::corrupted);
}

Code Mover::load_mapped(Job& job, const Copy& copy) {
  TierState& its = table_.tier(copy.tier);
  const Bytes frame = its.bytes_of(its.node(copy.node)).first(copy.frame_bytes);
  std::uint32_t first = 0;
  const std::uint32_t count = wanted_layers(job, first);
  its.counters().bytes_read.fetch_add(copy.frame_bytes, std::memory_order_relaxed);
  const auto own = its.codecs();
  return decode_block(services_.layout(copy.layout), copy.key, frame, frame, 0,
                      copy.frame_bytes, first, count, own->codecs(copy.layout),
                      services_.profile, job.op->memory(job.index),
                      &job.op->blocks[job.index].layers_ready, scratch_);
}

Mover::Started Mover::begin_load(Job& job) {
  OperationState::Block& block = job.op->blocks[job.index];
  Copy copy;
  const BlockTable::Found found = table_.acquire(job.key, copy);
  if (found == BlockTable::Found::pending && services_.clock->now() < job.give_up) {
    return Started::later;
  }
  if (found != BlockTable::Found::resident) {
    end(job, job.failed != Code::ok ? job.failed : Code::not_found);
    return Started::done;
  }
  if (copy.layout != static_cast<std::uint16_t>(block.layout)) {
    table_.unpin(copy);
    block.why = kOtherLayout;
    end(job, Code::invalid_argument);
    return Started::done;
  }
  if (table_.tier(copy.tier).memory) {
    const Code code = load_mapped(job, copy);
    if (code == Code::no_space) {
      table_.unpin(copy);
      end(job, code);
      return Started::done;
    }
    if (code != Code::ok) {
      note_corrupted(job, copy);
      return begin_load(job);  // another tier may have it; each round takes one away
    }
    table_.touch(copy);
    table_.unpin(copy);
    services_.emit(Event::Kind::load, copy.key, copy.tier, copy.frame_bytes);
    end(job, Code::ok);
    return Started::done;
  }
  if (copy.tier != number_) {
    table_.unpin(copy);
    forward(job, copy.tier);
    return Started::done;
  }
  std::uint32_t first = 0;
  const bool whole = wanted_layers(job, first) == services_.layout(copy.layout).layers;
  return read(job, copy, !whole);
}

// Starts reading a pinned copy of this tier; without a free task the pin is let go.
Mover::Started Mover::read(Job& job, const Copy& copy, bool header_only) {
  Task* const task = idle_task();
  if (task == nullptr) {
    if (job.source.node == kNone) table_.unpin(copy);
    return Started::later;
  }
  start_task(*task, job, header_only ? Task::Step::header : Task::Step::read);
  task->job.source = copy;
  const std::uint64_t at = tier_.device_offset(tier_.node(copy.node));
  if (header_only) {
    // A small frame at the end of the device is shorter than another layout's header.
    const std::uint64_t most = align_up(copy.frame_bytes, align_);
    submit(*task, Transfer::Op::read, at,
           task->header.first(std::min<std::uint64_t>(task->header.size(), most)));
  } else {
    const std::uint32_t layers = services_.layout(copy.layout).layers;
    read_groups(*task, frame_header_bytes(layers), align_up(copy.frame_bytes, align_),
                task->job.kind == Job::Kind::load ? layers : 1);
  }
  return Started::running;
}

// Reads `bytes` of the frame, from task.from on, in as many transfers as have work to do.
// After `lead` bytes begin the first of `layers`; where they are of one size, groups end
// where layers do.
void Mover::read_groups(Task& task, std::uint64_t lead, std::uint64_t bytes,
                        std::uint32_t layers) {
  const std::uint64_t groups = std::clamp<std::uint64_t>(
      bytes / std::max(kGroupBytes, 2 * align_), 1, std::min(kMaxReadGroups, layers));
  const std::uint64_t at =
      tier_.device_offset(tier_.node(task.job.source.node)) + task.from;
  task.group_end.fill(bytes);
  for (std::uint64_t g = 0, begin = 0; g < groups; begin = task.group_end[g++]) {
    if (g + 1 < groups) {
      task.group_end[g] = align_up(lead + (bytes - lead) * (g + 1) / groups, align_);
    }
    submit(task, Transfer::Op::read, at + begin,
           task.staging.subspan(begin, task.group_end[g] - begin),
           static_cast<std::uint32_t>(g));
  }
}

// Decodes the layers before the first byte that has not landed.
void Mover::decode_ready(Task& task) {
  const Job& job = task.job;
  if (job.kind != Job::Kind::load || job.op == nullptr || task.decoded != Code::ok)
    return;
  const auto groups = static_cast<std::size_t>(std::countr_zero(task.awaited));
  if (groups == 0) return;
  const Bytes frame =
      task.staging.first(task.group_end[std::min(groups, task.group_end.size()) - 1]);
  const BlockLayout& layout = services_.layout(job.source.layout);
  std::uint32_t first = 0;
  const std::uint32_t count = wanted_layers(job, first);
  const bool whole = count == layout.layers;
  const auto own = tier_.codecs();
  task.decoded =
      decode_landed(layout, job.source.key, whole ? frame : task.header, frame, task.from,
                    job.source.frame_bytes, first, count, own->codecs(job.source.layout),
                    services_.profile, job.op->memory(job.index),
                    job.op->blocks[job.index].layers_ready, scratch_);
}

void Mover::landed(Task& task) {
  if (task.job.kind == Job::Kind::load && task.job.op == nullptr) {  // nobody waits
    failed(task, Code::timed_out);
    return;
  }
  const Copy copy = task.job.source;
  const BlockLayout& layout = services_.layout(copy.layout);
  if (task.step == Task::Step::header) {
    FrameInfo info;
    if (read_frame_header(layout, copy.key, task.header, copy.frame_bytes, info) !=
        Code::ok) {
      loaded(task);  // no layer is ready, so it cannot be whole
      return;
    }
    std::uint32_t first = 0;
    const std::uint32_t count = wanted_layers(task.job, first);
    const FrameLayer last = frame_layer(task.header, first + count - 1);
    const std::uint64_t begin = frame_layer(task.header, first).offset;
    task.from = begin / align_ * align_;
    task.step = Task::Step::read;
    read_groups(task, begin - task.from,
                align_up(last.offset + last.bytes, align_) - task.from, count);
    return;
  }
  if (task.job.kind == Job::Kind::load) {
    loaded(task);
    return;
  }
  // A move whose source has been read: on to the target.
  Job job = std::move(task.job);
  const Bytes frame = task.staging.first(copy.frame_bytes);
  const bool here = table_.tier(job.target).memory;
  job.moved = false;
  const Started started = here ? fill(job, frame) : Started::later;
  Code carried = Code::ok;
  // Otherwise it was corrupted, or is in its target already and waits for a commit there:
  // with bytes to write it would not look for that.
  if (started == Started::later && job.source.node != kNone && !job.moved) {
    carried = guarded([&] {
      job.carried.assign(frame.begin(), frame.end());
      return Code::ok;
    });
  }
  task.step = Task::Step::idle;
  --running_;
  if (started != Started::later) return;
  if (carried != Code::ok) {
    end(job, carried);
  } else if (here) {
    (void)set_aside(job);
  } else {
    forward(job, job.target);
  }
}

// Every answer is here: the load is done, or another tier is asked.
void Mover::loaded(Task& task) {
  Job job = std::move(task.job);
  const Copy copy = std::exchange(job.source, Copy{});
  std::uint32_t first = 0;
  const std::uint32_t count = wanted_layers(job, first);
  const bool complete = job.op->blocks[job.index].layers_ready == count;
  task.step = Task::Step::idle;
  --running_;
  if (task.decoded == Code::no_space) {
    table_.unpin(copy);
    end(job, Code::no_space);
    return;
  }
  if (task.decoded != Code::ok || !complete) {
    note_corrupted(job, copy);
    (void)set_aside(job);  // another tier may have it
    return;
  }
  table_.touch(copy);
  table_.unpin(copy);
  services_.emit(Event::Kind::load, copy.key, number_, copy.frame_bytes);
  end(job, Code::ok);
}

// ---- when the device fails

// A transfer answered with an error, or in vain.
void Mover::failed(Task& task, Code code) {
  Job job = std::move(task.job);
  const bool writing = task.step == Task::Step::write;
  if (writing) table_.abandon(task.target);
  task.step = Task::Step::idle;
  --running_;
  if (job.kind == Job::Kind::save) {
    pass_down(job, code);
  } else {
    end(job, code);
  }
}

// The late answer to a transfer that was given up: now its memory is ours again.
void Mover::lost(Task& task) {
  Job job = std::move(task.job);
  if (task.from != 0) table_.abandon(task.target);
  task.step = Task::Step::idle;
  --running_;
  end(job, Code::timed_out);
}

}  // namespace speckv

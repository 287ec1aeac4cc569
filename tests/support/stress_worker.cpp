#include "support/stress_worker.hpp"

#include <cstdio>
#include <cstdlib>

namespace speckv::test {

void wait_or_die(Operation& op) {
  if (op.wait_for(std::chrono::seconds(120)).code() != Code::timed_out || op.done())
    return;
  std::fprintf(stderr, "an operation of %zu blocks hangs\n", op.size());
  std::abort();
}

bool StressWorker::step() {
  const std::uint64_t dice = random_() % 1000;
  if (dice < 320) {
    save();
  } else if (dice < 700) {
    load();
  } else if (dice < 780) {
    look();
  } else if (dice < 830) {
    promote();
  } else if (dice < 880) {
    erase();
  } else if (dice < 940) {
    pin();
  } else if (dice < 990) {
    retain();
  } else if (dice < 994) {
    change_codec();
  } else if (dice < 996) {
    (void)store_.set_quota(options_.tenant, random_() % 2 * (200U << 10));
  } else if (dice < 997) {
    purge();
  } else if (dice < 998 && options_.persistent) {
    const Code code = store_.flush().code();
    expect(code == Code::ok || options_.faults, "flush", 0, code);
  }
  return ok_;
}

void StressWorker::let_go() {
  while (!retained_.empty())
    release(0);
  pins_.clear();
  for (const auto& [n, block] : model_.blocks())
    while (block.pinned > 0)
      model_.unpinned(n);
}

std::uint64_t StressWorker::any_block() {
  if (options_.own == 0 || (options_.shared > 0 && random_() % 3 == 0))
    return random_() % options_.shared;
  // Skewed, so that some blocks are hot.
  const std::uint64_t span = random_() % options_.own + 1;
  return options_.first_own + random_() % span;
}

void StressWorker::expect(bool right, const char* what, std::uint64_t block, Code code) {
  if (right || !ok_) return;
  ok_ = false;
  ADD_FAILURE() << what << " of block " << block << " answered " << to_string(code)
                << " (seed " << options_.seed << ")";
}

bool StressWorker::excused(std::uint64_t n, Code code) {
  if (!options_.faults) return false;
  return code == Code::io_error || code == Code::timed_out || code == Code::busy ||
         code == Code::not_found || (code == Code::ok && model_.may_have(n));
}

std::vector<std::uint64_t> StressWorker::choose() {
  std::vector<std::uint64_t> blocks;
  for (std::uint64_t i = random_() % kSlots + 1; i > 0; --i) {
    const std::uint64_t n = any_block();
    if (std::find(blocks.begin(), blocks.end(), n) == blocks.end()) blocks.push_back(n);
  }
  return blocks;
}

std::vector<Segment> StressWorker::cut(std::size_t slot, std::uint64_t bytes) {
  std::vector<Segment> segments;
  for (std::uint64_t at = 0; at < bytes;) {
    const bool last = segments.size() == 2 || random_() % 2 == 0;
    const std::uint64_t part = last ? bytes - at : random_() % (bytes - at) + 1;
    segments.push_back({region_, place(slot) + at, part});
    at += part;
  }
  return segments;
}

void StressWorker::save() {
  const auto blocks = choose();
  std::vector<std::vector<Segment>> segments;
  std::vector<BlockTransfer> transfers;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Bytes bytes = pool_.bytes(blocks[i]);
    std::copy(bytes.begin(), bytes.end(),
              memory_.begin() + static_cast<std::ptrdiff_t>(place(i)));
    segments.push_back(cut(i, bytes.size()));
  }
  for (std::size_t i = 0; i < blocks.size(); ++i)
    transfers.push_back({pool_.key(blocks[i]), segments[i], 0,
                         LayoutId{BlockPool::layout_id(blocks[i])}});
  TransferOptions options;
  options.tenant = options_.tenant;
  options.durable = options_.persistent && random_() % 8 == 0;
  Operation op = store_.save(transfers, options);
  const bool cancelled = random_() % 64 == 0;
  if (cancelled) op.cancel();
  wait_or_die(op);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const Code code = op.code(i);
    expect(code == Code::ok || code == Code::no_space ||
               (cancelled && code == Code::cancelled) || excused(blocks[i], code),
           "save", blocks[i], code);
    model_.saved(blocks[i]);  // perhaps: a save may be dropped
  }
}

void StressWorker::load() {
  const auto blocks = choose();
  TransferOptions options;
  const bool part = random_() % 4 == 0;
  if (part) options.layers = {static_cast<std::uint32_t>(random_() % 2), 1};
  std::vector<std::vector<Segment>> segments;
  std::vector<BlockTransfer> transfers;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const BlockLayout layout = BlockPool::layout(blocks[i]);
    segments.push_back(cut(i, part ? layout.layer_bytes() : layout.bytes()));
  }
  for (std::size_t i = 0; i < blocks.size(); ++i)
    transfers.push_back({pool_.key(blocks[i]), segments[i], 0,
                         LayoutId{BlockPool::layout_id(blocks[i])}});
  Operation op = store_.load(transfers, options);
  wait_or_die(op);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::uint64_t n = blocks[i];
    const Code code = op.code(i);
    expect(!is_own(n) || model_.may_answer(n, code) || excused(n, code), "load", n, code);
    expect(code == Code::ok || code == Code::not_found || excused(n, code), "load", n,
           code);
    if (code == Code::ok) check(n, i, options.layers);
  }
}

void StressWorker::check(std::uint64_t n, std::size_t slot, LayerRange layers) {
  const std::uint64_t layer = BlockPool::layout(n).layer_bytes();
  const std::uint64_t bytes = layers.count == 0 ? pool_.bytes(n).size() : layer;
  const Bytes got = Bytes(memory_).subspan(place(slot), bytes);
  expect(pool_.right(n, layers.first * layer, got, options_.lossy),
         "load with wrong bytes", n, Code::ok);
}

void StressWorker::look() {
  const auto blocks = choose();
  std::vector<BlockKey> keys;
  for (const std::uint64_t n : blocks)
    keys.push_back(pool_.key(n));
  const std::size_t matched = store_.match(keys);
  std::vector<std::int8_t> tiers(keys.size());
  store_.lookup(keys, tiers);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (!is_own(blocks[i])) continue;
    expect(tiers[i] < 0 || model_.may_have(blocks[i]), "lookup", blocks[i], Code::ok);
    if (options_.faults) continue;
    expect(tiers[i] >= 0 || !model_.must_have(blocks[i]), "lookup", blocks[i],
           Code::not_found);
    expect(i != matched || !model_.must_have(blocks[i]), "match", blocks[i],
           Code::not_found);
  }
}

void StressWorker::promote() {
  const auto blocks = choose();
  std::vector<BlockKey> keys;
  for (const std::uint64_t n : blocks)
    keys.push_back(pool_.key(n));
  const Code code = store_.promote(keys).code();
  expect(code == Code::ok || code == Code::busy, "promote", blocks[0], code);
}

void StressWorker::erase() {
  const std::uint64_t n = any_block();
  const BlockKey key = pool_.key(n);
  const std::size_t erased = store_.erase({&key, 1});
  if (!is_own(n)) return;
  expect(erased == 0 || model_.may_have(n), "erase", n, Code::ok);
  model_.erased(n);
}

void StressWorker::pin() {
  if (pins_.size() >= 4) {
    model_.unpinned(pins_.front().block);
    pins_.erase(pins_.begin());
    return;
  }
  const std::uint64_t n = any_block();
  auto pin = store_.pin(pool_.key(n));
  const Code code = pin.ok() ? Code::ok : pin.error().code();
  expect(!is_own(n) || model_.may_answer(n, code) || excused(n, code), "pin", n, code);
  if (!pin.ok()) return;
  pins_.push_back({n, *std::move(pin)});
  if (is_own(n)) model_.pinned(n);
}

void StressWorker::retain() {
  if (retained_.size() >= 4) {
    release(random_() % retained_.size());
    return;
  }
  const std::uint64_t n = any_block();
  if (!is_own(n)) return;
  auto pin = store_.retain(pool_.key(n));
  if (!pin.ok()) {
    expect(model_.may_answer(n, Code::not_found) || options_.faults, "retain", n,
           Code::not_found);
    return;
  }
  expect(model_.may_have(n), "retain", n, Code::ok);
  retained_.push_back({n, *std::move(pin)});
  model_.retained(n);
}

void StressWorker::release(std::size_t which) {
  const std::uint64_t n = retained_[which].block;
  const BlockKey key = pool_.key(n);
  expect(store_.match({&key, 1}) == 1 || options_.faults,
         "a referenced block was forgotten: match", n, Code::not_found);
  retained_.erase(retained_.begin() + static_cast<std::ptrdiff_t>(which));
  model_.released(n);
}

void StressWorker::purge() {
  (void)store_.purge(options_.tenant);
  // Own blocks are this tenant's, all of them.
  for (const auto& [n, block] : model_.blocks())
    if (is_own(n)) model_.erased(n);
}

void StressWorker::change_codec() {
  if (!options_.set_codecs) return;
  const char* const names[] = {"raw", "int8"};
  const std::size_t tier = random_() % options_.tiers;
  (void)store_.set_codec(tier, *find_codec(names[random_() % 2]));
}

std::uint64_t scaled(double operations) {
  const char* const scale = std::getenv("SPECKV_TEST_SCALE");
  double factor = scale != nullptr ? std::strtod(scale, nullptr) : 1;
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(operations * factor));
}

}  // namespace speckv::test

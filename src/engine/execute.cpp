// What one descriptor does. The order of its checks is that of docs/queue-protocol.md.
#include <algorithm>
#include <cstring>

#include "cxlspeckv/codec.hpp"

#include "base/checksum.hpp"
#include "engine/card_state.hpp"

namespace speckv::engine {
namespace {

BlockLayout layout_of(const Descriptor& d) noexcept {
  return {.layers = 1,
          .kv_heads = d.heads,
          .head_dim = d.head_dim,
          .tokens = d.tokens,
          .dtype = static_cast<DType>(d.dtype),
          .kind = static_cast<BlockLayout::Kind>(d.kind)};
}

KvAddress address_of(const Descriptor& d) noexcept {
  return unpack(PackedAddress{d.address_high, d.address_low}).value_or(KvAddress{});
}

bool is_packed_address(const Descriptor& d) noexcept {
  const auto address = unpack(PackedAddress{d.address_high, d.address_low});
  return address && address->kind == KvKind::key;
}

Weights weights_of(const Descriptor& d) noexcept {
  return {d.recency, d.frequency, d.step_weight, d.durability,
          d.evict,   d.prefetch,  d.hysteresis};
}

constexpr bool codes(Opcode opcode) noexcept {
  return opcode == Opcode::encode || opcode == Opcode::decode;
}

constexpr std::uint64_t kAligned = 64;  // offsets of coded layers, telemetry, answers

constexpr bool asks(const Descriptor& d) noexcept {
  return Opcode{d.opcode} == Opcode::predict && Task{d.task} == Task::next;
}

bool prediction_is_good(const Descriptor& d) noexcept {
  if (!asks(d)) {
    return Task{d.task} == Task::network && (d.answers | d.dst_region | d.dst_offset |
                                             d.state_region | d.state_offset) == 0;
  }
  return d.length % 4 == 0 && d.length <= 4 * kMaxPredictHistory && d.answers >= 1 &&
         d.answers <= kMaxPredictAnswers &&
         (d.dst_offset | d.state_offset) % kAligned == 0 &&
         (d.state_region != 0 || d.state_offset == 0);
}

}  // namespace

// Steps 1 to 4: what can be said without looking at any table.
Answer Card::check(const Descriptor& d,
                   const std::array<std::uint64_t, 8>& words) const noexcept {
  if (d.opcode >= kMasks.size() || kMasks[d.opcode] == Mask{}) return Answer::bad_desc;
  if ((opcodes() >> d.opcode & 1) == 0) return Answer::unsupported;
  const bool named = (d.flags & flag::kNamed) != 0,
             checked = (d.flags & flag::kCheck) != 0;
  if (named && !state_->directory) return Answer::unsupported;
  const Codec* codec =
      d.codec <= kLastCodec ? find_codec(static_cast<CodecId>(d.codec)) : nullptr;
  if (codes(Opcode{d.opcode}) && codec == nullptr) return Answer::unsupported;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint64_t allowed =
        kMasks[d.opcode][i] | (named ? kMaskNamed[i] : 0) | (checked ? kMaskCheck[i] : 0);
    if ((words[i] & ~allowed) != 0) return Answer::bad_desc;
  }
  if (const Answer answer = check_values(d); answer != Answer::ok) return answer;
  if (named && !block_is_whole(d)) return Answer::bad_desc;
  if (Opcode{d.opcode} == Opcode::predict && Task{d.task} == Task::network &&
      d.length > max_network()) {
    return Answer::unsupported;
  }
  if (!codes(Opcode{d.opcode})) return Answer::ok;
  const BlockLayout layout = layout_of(d);
  const bool taken = layout.layer_bytes() <= options_.max_layer &&
                     codec->supports(layout) &&
                     codec->max_layer_bytes(layout) <= coded_bytes_;
  return taken ? Answer::ok : Answer::unsupported;
}

Answer Card::check_values(const Descriptor& d) const noexcept {
  const bool length_is_good = d.length != 0 && d.length <= options_.max_length;
  bool good = true;
  switch (Opcode{d.opcode}) {
    case Opcode::nop:
    case Opcode::fence:
    case Opcode::step:
      break;
    case Opcode::copy:
    case Opcode::prefetch:
    case Opcode::fill:
      good = length_is_good;
      break;
    case Opcode::predict:
      good = length_is_good && prediction_is_good(d);
      break;
    case Opcode::encode:
    case Opcode::decode: {
      const bool extents = d.heads != 0 && d.head_dim != 0 && d.tokens != 0;
      good = length_is_good && d.room <= options_.max_length && extents &&
             d.dtype <= dtype::kF8e4m3 && d.kind <= kind::kInterleaved &&
             (d.src_offset | d.dst_offset) % kAligned == 0;
      if (good && Opcode{d.opcode} == Opcode::encode) {
        good = layout_of(d).layer_bytes() == d.length;
      }
      break;
    }
    case Opcode::hint: {
      const bool known = d.hint >= static_cast<std::uint8_t>(Hint::hot) &&
                         d.hint <= static_cast<std::uint8_t>(Hint::forget);
      const bool when = d.step == 0 || Hint{d.hint} == Hint::prefetchable;
      good = known && when && d.tokens != 0 && is_packed_address(d) &&
             std::uint64_t{address_of(d).position} + d.tokens <= 1ULL << 32;
      break;
    }
    case Opcode::weights:
      good = weights_of(d).valid();
      break;
    case Opcode::telemetry:
      good = length_is_good &&
             d.report <= static_cast<std::uint8_t>(Report::prefetches) &&
             d.dst_offset % kAligned == 0;
      break;
  }
  return good ? Answer::ok : Answer::bad_desc;
}

// A named block starts where blocks start and is not longer than one.
bool Card::block_is_whole(const Descriptor& d) const noexcept {
  const std::uint32_t most = state_->directory->block_tokens();
  return is_packed_address(d) && address_of(d).position % most == 0 && d.tokens >= 1 &&
         d.tokens <= most;
}

Card::Outcome Card::execute(std::uint32_t tenant, const Descriptor& d,
                            const std::array<std::uint64_t, 8>& words) noexcept {
  Outcome outcome{check(d, words)};
  Directory* directory = state_->directory.get();
  if (outcome.answer == Answer::ok) {
    switch (Opcode{d.opcode}) {
      case Opcode::nop:
      case Opcode::fence:  // descriptors are carried out one after the other
        break;
      case Opcode::copy:
      case Opcode::encode:
      case Opcode::decode:
      case Opcode::prefetch:
      case Opcode::fill:
      case Opcode::telemetry:
      case Opcode::predict:
        outcome = move(tenant, d);
        break;
      case Opcode::step:
        outcome.result = directory->advance(tenant, d.step);
        break;
      case Opcode::hint: {
        const Directory::Outcome hinted =
            directory->hint(tenant, Hint{d.hint}, address_of(d), d.tokens, d.step);
        outcome = {hinted.answer, hinted.count};
        break;
      }
      case Opcode::weights:
        directory->set_weights(tenant, weights_of(d));
        break;
    }
  }
  if (directory != nullptr && outcome.answer != Answer::ok) {
    std::uint64_t& failures = directory->tally(tenant).failures;
    failures = add_saturating(failures, 1);
  }
  return outcome;
}

// Steps 5 and 6, and what the directory learns from a transfer.
Card::Outcome Card::move(std::uint32_t tenant, const Descriptor& d) noexcept {
  const Opcode opcode{d.opcode};
  const bool reads = opcode != Opcode::fill && opcode != Opcode::telemetry;
  const bool writes =
      opcode != Opcode::prefetch && (opcode != Opcode::predict || asks(d));
  const std::uint32_t out = codes(opcode) ? d.room
                            : asks(d)     ? d.answers * Prediction::kBytes
                                          : d.length;
  const std::vector<Region>& regions = state_->regions;
  Place from, to;
  if (reads) {
    const auto place =
        Memory::check(regions, d.src_region, tenant, d.src_offset, d.length, false);
    if (!place) return {Answer::bad_region};
    from = *place;
  }
  if (writes) {
    const auto place =
        Memory::check(regions, d.dst_region, tenant, d.dst_offset, out, true);
    if (!place) return {Answer::bad_region};
    to = *place;
  }
  const bool from_card = reads && from.region.is(region::kControlDevice);
  const bool to_card = writes && to.region.is(region::kControlDevice);
  if (opcode == Opcode::prefetch && !from_card) return {Answer::bad_region};

  const bool named = (d.flags & flag::kNamed) != 0;
  const bool settles = opcode == Opcode::encode || (opcode == Opcode::copy && to_card);
  if (named && opcode == Opcode::copy && !from_card && !to_card) {
    return {Answer::bad_region};
  }
  if (named && settles && !state_->directory->insert(tenant, address_of(d), d.tokens)) {
    return {Answer::no_space};
  }
  const Outcome outcome = carry_out(tenant, d, from, to);
  if (named && settles && outcome.answer != Answer::ok) {
    state_->directory->drop(tenant, address_of(d));
  }
  if (named && !settles && outcome.answer == Answer::ok) {
    state_->directory->use(tenant, address_of(d), opcode == Opcode::prefetch);
  }
  return outcome;
}

// Steps 7 and later: bytes move.
Card::Outcome Card::carry_out(std::uint32_t tenant, const Descriptor& d,
                              const Place& from, const Place& to) noexcept {
  Memory& memory = state_->memory;
  const std::uint64_t read_before = state_->counters[Counter::bytes_read];
  const std::uint64_t written_before = state_->counters[Counter::bytes_written];
  Outcome outcome{Answer::ok, d.length};
  switch (Opcode{d.opcode}) {
    case Opcode::copy:
      outcome.answer = memory.copy(from, to, outcome.crc);
      break;
    case Opcode::fill:
      outcome.answer = memory.fill(to, d.pattern);
      break;
    case Opcode::prefetch:
      outcome.answer = memory.prefetch(from);
      break;
    case Opcode::encode:
      outcome = encode(d, from, to);
      break;
    case Opcode::decode:
      outcome = decode(d, from, to);
      break;
    case Opcode::predict:
      outcome = asks(d) ? predict(tenant, d, from, to) : learn(tenant, from);
      break;
    default:
      outcome = tell(tenant, d, to);
  }
  if (state_->directory) {
    Telemetry& tally = state_->directory->tally(tenant);
    tally.bytes_read = add_saturating(
        tally.bytes_read, state_->counters[Counter::bytes_read] - read_before);
    tally.bytes_written = add_saturating(
        tally.bytes_written, state_->counters[Counter::bytes_written] - written_before);
  }
  return outcome;
}

Card::Outcome Card::encode(const Descriptor& d, const Place& from,
                           const Place& to) noexcept {
  const BlockLayout layout = layout_of(d);
  const MutableBytes plain(plain_.get(), d.length);
  if (const Answer answer = state_->memory.read(from, plain); answer != Answer::ok) {
    return {answer};
  }
  const Codec& codec = *find_codec(static_cast<CodecId>(d.codec));
  const MutableBytes room(coded_.get(), codec.max_layer_bytes(layout));
  const Result<std::size_t> used = codec.encode(LayerContext{layout}, plain, room);
  if (!used.ok()) return {Answer::unencodable};
  if (*used > d.room) return {Answer::no_space};
  const Bytes coded = room.first(*used);
  if (const Answer answer = state_->memory.write(to, coded); answer != Answer::ok) {
    return {answer};
  }
  state_->counters.add(Counter::encode_in, plain.size());
  state_->counters.add(Counter::encode_out, coded.size());
  return {Answer::ok, static_cast<std::uint32_t>(coded.size()), crc32c(0, coded)};
}

Card::Outcome Card::decode(const Descriptor& d, const Place& from,
                           const Place& to) noexcept {
  const BlockLayout layout = layout_of(d);
  if (d.length > coded_bytes_) return {Answer::corrupted};  // no layer is that long
  const MutableBytes coded(coded_.get(), d.length);
  if (const Answer answer = state_->memory.read(from, coded); answer != Answer::ok) {
    return {answer};
  }
  const std::uint32_t crc = crc32c(0, coded);
  if ((d.flags & flag::kCheck) != 0 && crc != d.crc) return {Answer::corrupted};
  const MutableBytes plain(plain_.get(), layout.layer_bytes());
  const Codec& codec = *find_codec(static_cast<CodecId>(d.codec));
  if (codec.decode(LayerContext{layout}, coded, plain) != Code::ok) {
    return {Answer::corrupted};
  }
  if (plain.size() > d.room) return {Answer::no_space};
  if (const Answer answer = state_->memory.write(to, plain); answer != Answer::ok) {
    return {answer};
  }
  state_->counters.add(Counter::decode_in, coded.size());
  state_->counters.add(Counter::decode_out, plain.size());
  return {Answer::ok, static_cast<std::uint32_t>(plain.size()), crc};
}

Card::Outcome Card::tell(std::uint32_t tenant, const Descriptor& d,
                         const Place& to) noexcept {
  std::array<std::byte, kMaxCandidates * Candidate::kBytes> bytes;
  static_assert(sizeof bytes >= Telemetry::kBytes);
  std::size_t size = Telemetry::kBytes;
  if (Report{d.report} == Report::counters) {
    if (d.length < size) return {Answer::no_space};
    state_->directory->telemetry(tenant).store(bytes.data());
  } else {
    if (d.length < Candidate::kBytes) return {Answer::no_space};
    const std::size_t most = std::min<std::size_t>(d.length, bytes.size());
    size = state_->directory->report(tenant, Report{d.report},
                                     MutableBytes(bytes).first(most));
  }
  if (const Answer answer = state_->memory.write(to, Bytes(bytes).first(size));
      answer != Answer::ok) {
    return {answer};
  }
  return {Answer::ok, static_cast<std::uint32_t>(size)};
}

}  // namespace speckv::engine

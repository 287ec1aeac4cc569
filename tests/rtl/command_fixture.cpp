#include "rtl/command_fixture.hpp"

#include "base/endian.hpp"

namespace speckv::rtl {
namespace {

constexpr Counter kCounted[] = {Counter::bytes_read,   Counter::bytes_written,
                                Counter::encode_in,    Counter::encode_out,
                                Counter::decode_in,    Counter::decode_out,
                                Counter::buffer_filled};

constexpr std::uint32_t control_of(std::uint32_t tenant, bool device) {
  return static_cast<std::uint32_t>(
      engine::region::kControlValid.put(1) | engine::region::kControlRead.put(1) |
      engine::region::kControlWrite.put(1) | engine::region::kControlDevice.put(device) |
      engine::region::kControlTenant.put(tenant));
}
constexpr std::uint32_t in_pages(std::uint32_t shift) {
  return static_cast<std::uint32_t>(engine::region::kControlPaged.put(1) |
                                    engine::region::kControlPageShift.put(shift));
}

bool is(const Descriptor& d, Opcode opcode) {
  return d.opcode == static_cast<std::uint8_t>(opcode);
}
bool codes(const Descriptor& d) {
  return is(d, Opcode::encode) || is(d, Opcode::decode);
}
Pages pages_of(const Region& region) {
  return {
      true, region.base,
      static_cast<std::uint32_t>(engine::region::kControlPageShift.get(region.control))};
}

}  // namespace

Command::Command() {
  sim_->valid_i = sim_->clear_i = sim_->inject_i = sim_->answer_valid_i = 0;
  sim_->check_ready_i = sim_->done_i = sim_->line_here_i = 0;
  sim_->walk_done_i = sim_->walk_failed_i = 0;
  sim_->memory_bytes_i = kDevice;
  for (std::byte& b : pool_)
    b = static_cast<std::byte>(random_());
  // Finite numbers of f16 and bf16, and now and then a NaN.
  for (std::size_t i = 1; i < pool_.size(); i += 2)
    pool_[i] &= random_() % 20000 == 0 ? std::byte{0xFF} : std::byte{0xBB};
  renew_regions();
  sim_.reset();
  start_over();
  renew_memory();
}

// ---- both cards -----------------------------------------------------------------------

void Command::renew_regions() {
  for (std::uint32_t tenant = 0; tenant < kTenants; ++tenant) {
    regions_[1 + 2 * tenant] = {0, kDevice, control_of(tenant, true)};
    regions_[2 + 2 * tenant] = {0, kHost, control_of(tenant, false)};
    const std::uint32_t shift = 12 + any(2);
    std::vector<std::uint64_t> pages(kHost >> shift);
    for (std::size_t i = 0; i < pages.size(); ++i)
      pages[i] = i << shift;
    std::shuffle(pages.begin(), pages.end(), random_);
    const std::uint64_t list = tenant * kListBytes / 2 + 8 * any(9);
    for (std::size_t i = 0; i < pages.size(); ++i)
      store_le(mine_.lists.data() + list + 8 * i, pages[i] | any(1U << shift));
    regions_[kPaged + tenant] = {kLists + list, kHost,
                                 control_of(tenant, false) | in_pages(shift)};
  }
  golden_.memories.lists = mine_.lists;
  for (std::uint32_t n = kFirstOther; n < kEntries; ++n) {
    Region& r = regions_[n];
    r = {any(8) * 64ULL * 512, any(kDevice), control_of(any(kTenants), any(2) == 0)};
    if (any(4) == 0) r.base = any(2 * kDevice);
    if (any(8) == 0) r.base = 0 - std::uint64_t{any(1U << 20)};
    if (any(4) == 0) {  // in pages, also such as do not exist, some out of reach
      r.base = kLists + any(kListBytes / 8 + 20) * 8 + (any(8) == 0);
      r.control |= in_pages(11 + any(4));
    }
    if (any(3) == 0) r.control ^= 1U << any(4);  // valid, device, read, write
  }
}

void Command::start_over() {
  golden_.reset(regions_);
  golden_.memories.take(mine_, {true, 0, kDevice});
  golden_.memories.take(mine_, {false, 0, kHost});
  tags_.fill(0);
  poisoned_ = 0;
  fault_armed_ = running_ = false;
  answer_.reset();
  walk_ends_.reset();
  for (const Counter c : kCounted)
    counted_[c] = golden_.counter(c);
}

void Command::renew_memory() {
  for (auto* memory : {&mine_.device, &mine_.host}) {
    const std::size_t from = any((pool_.size() - memory->size()) / 2) * 2;
    std::copy_n(pool_.begin() + static_cast<std::ptrdiff_t>(from), memory->size(),
                memory->begin());
  }
  golden_.memories.take(mine_, {true, 0, kDevice});
  golden_.memories.take(mine_, {false, 0, kHost});
  coded_.clear();
}

void Command::inject(engine::Inject kind, std::uint64_t argument) {
  golden_.inject(kind, argument);
  sim_->inject_i = 1;
  sim_->inject_kind_i = static_cast<std::uint8_t>(kind);
  sim_->inject_argument_i = argument;
  cycle();
  sim_->inject_i = 0;
}

void Command::heal() {
  for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{kMaxLength}}) {
    Descriptor d = describe(Opcode::fill, 0);
    d.dst_region = 1;
    d.dst_offset = first;
    d.length =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kMaxLength, kDevice - first));
    d.pattern = random_();
    ASSERT_NO_FATAL_FAILURE(both(words_of(d), 0));
  }
  poisoned_ = 0;
  renew_memory();
}

void Command::compare_counts(const Descriptor& d) {
  for (const Counter c : kCounted) {
    const std::uint64_t value = golden_.counter(c);
    EXPECT_EQ(counts_[c], value - std::exchange(counted_[c], value))
        << engine::kCounterNames[static_cast<std::size_t>(c)] << ", opcode "
        << int{d.opcode};
  }
}

void Command::both(const Words& words, std::uint32_t tenant) {
  const Descriptor d = Descriptor::load(reinterpret_cast<const std::byte*>(words.data()));
  ASSERT_NO_FATAL_FAILURE(give(words, tenant));
  ASSERT_NO_FATAL_FAILURE(await());
  ++told_[outcome_->answer];
  if (codes(d) && d.codec == engine::codec::kInt8DeltaRle) {
    EXPECT_EQ(outcome_->answer, Answer::unsupported);
    return;
  }
  const auto entry = golden_.carry_out(tenant, words);
  const auto wanted =
      static_cast<Answer>(engine::completion::kStatusCode.get(entry.status));
  const auto from = range(d, tenant, false), to = range(d, tenant, true);
  const bool copies = is(d, Opcode::copy) && !from.empty() && !to.empty();
  bool overlap = false;  // not specified then
  for (const Range& a : from) {
    for (const Range& b : to)
      overlap = overlap || (copies && a.meets(b));
  }
  // The model looks at a line of its buffer at a time, and at the target in between.
  const bool either = copies && poisoned_ != 0 && wanted == Answer::bus_error &&
                      outcome_->answer == Answer::poison;
  if (!either) {
    ASSERT_EQ(outcome_->answer, wanted) << "opcode " << int{d.opcode};
  }
  if (wanted == Answer::ok) {
    EXPECT_EQ(outcome_->result, entry.result);
    if (!overlap) {
      EXPECT_EQ(outcome_->crc, entry.crc);
    }
  }
  compare_counts(d);
  const bool writes = is(d, Opcode::copy) || is(d, Opcode::fill) || codes(d);
  const bool spoilt = writes && !to.empty() && (wanted != Answer::ok || overlap);
  for (const Range& piece : to) {
    if (spoilt) mine_.take(golden_.memories, piece);
  }
  const auto same = [](const auto& x, const auto& y) {
    return std::memcmp(x.data(), y.data(), x.size()) == 0;
  };
  ASSERT_TRUE(same(mine_.device, golden_.memories.device));
  ASSERT_TRUE(same(mine_.host, golden_.memories.host));
  const bool failed_early = fault_armed_ && wanted != Answer::ok;
  if (failed_early) reset_both(0);  // what becomes of the fault is not specified
  if (!failed_early && spoilt && to.front().device) {
    ASSERT_NO_FATAL_FAILURE(heal());
  }
}

void Command::reset_both(unsigned how) {
  walk_ends_.reset();
  sim_->rst_ni = how != 0;
  sim_->clear_i = how != 0;
  for (std::uint32_t i = any(3) + 1; i > 0; --i)
    cycle();
  sim_->rst_ni = 1;
  sim_->clear_i = 0;
  start_over();
  sim_.settle();
  EXPECT_EQ(sim_->idle_o, 1);
}

std::vector<Range> Command::range(const Descriptor& d, std::uint32_t tenant,
                                  bool writing) {
  const auto place =
      engine::Memory::check(regions_, writing ? d.dst_region : d.src_region, tenant,
                            writing ? d.dst_offset : d.src_offset,
                            writing && codes(d) ? d.room : d.length, writing);
  if (!place) return {};
  const Region& region = place->region;
  const bool device = region.is(engine::region::kControlDevice);
  if (device || !region.is(engine::region::kControlPaged))
    return {{device, region.base + place->offset, place->length}};
  return mine_.pieces({false, place->offset, place->length}, pages_of(region));
}

// ---- the block ------------------------------------------------------------------------

Job Command::job() {
  Job j;
  j.kind = sim_->job_o;
  j.source = {sim_->source_device_o != 0, sim_->source_o, sim_->source_bytes_o};
  j.target = {sim_->target_device_o != 0, sim_->target_o, sim_->target_bytes_o};
  if (sim_->source_paged_o != 0)
    j.source_pages = {true, sim_->source_list_o, sim_->source_shift_o};
  if (sim_->target_paged_o != 0)
    j.target_pages = {true, sim_->target_list_o, sim_->target_shift_o};
  j.nowhere = sim_->nowhere_o != 0;
  j.int8 = sim_->int8_o != 0;
  j.pattern = sim_->pattern_o;
  j.unit_bytes = sim_->unit_bytes_o;
  j.layout = {1,
              sim_->heads_o,
              sim_->channels_o,
              sim_->tokens_o,
              sim_->bf16_o != 0 ? DType::bf16 : DType::f16,
              sim_->latent_o != 0        ? BlockLayout::Kind::latent
              : sim_->interleaved_o != 0 ? BlockLayout::Kind::interleaved
                                         : BlockLayout::Kind::kv};
  return j;
}

// What the mover says of the job that ends now stays until the next one ends.
void Command::end_job() {
  Done done = carry_out(job_, mine_);
  if (job_.kind == Job::stage) {
    EXPECT_TRUE(job_.source.device && job_.source.first % kLine == 0 &&
                job_.source.bytes == kLine);
  }
  if (device_read_fails_ && job_.source.device) done = {.read_error = true};
  for (const Range& w : done.written) {
    if (!w.device) continue;
    const std::uint64_t first = w.first / kLine, last = (w.first + w.bytes - 1) / kLine;
    for (std::uint64_t line = first; line <= last; ++line) {
      if (tag(line) == line + 1) tag(line) = 0;
    }
    if (last - first >= kLines) tags_.fill(0);  // as the model's buffer has it
  }
  sim_->read_error_i = done.read_error;
  sim_->write_error_i = done.write_error;
  sim_->bad_i = done.bad;
  sim_->crc_i = done.crc;
}

void Command::cycle() {
  auto& s = *sim_.operator->();
  const std::uint64_t now = sim_.cycle();
  s.check_ready_i = !stalls_ || check_ready_(random_);
  s.answer_valid_i = answer_ && answer_->at == now;
  if (s.answer_valid_i != 0) {
    const auto& region = answer_->region;
    s.answer_ok_i = region.has_value();
    s.answer_base_i = region ? region->base : random_();
    s.answer_control_i = region ? region->control : static_cast<std::uint32_t>(random_());
    answer_.reset();
  }
  s.walk_done_i = walk_ends_ == now;
  if (s.walk_done_i != 0) end_walk();
  s.done_i = running_ && done_at_ == now;
  if (s.done_i != 0) end_job();
  sim_.settle();
  s.line_here_i = tag(s.line_o) == s.line_o + 1;
  sim_.settle();
  if (s.rst_ni != 0 && s.clear_i == 0) observe(now);
  sim_.edge();
}

// Fails if an entry that the range needs cannot be read.
void Command::end_walk() {
  auto& s = *sim_.operator->();
  const bool target = s.walk_target_o != 0;
  const std::uint32_t id = target ? s.target_region_o : s.source_region_o;
  const Pages pages{true, target ? s.target_list_o : s.source_list_o,
                    target ? s.target_shift_o : s.source_shift_o};
  ASSERT_LT(id, kEntries);
  EXPECT_EQ(pages, pages_of(regions_[id]));
  const std::uint64_t first = target ? s.target_o : s.source_o,
                      bytes = target ? s.target_bytes_o : s.source_bytes_o;
  bool fails = false;
  for (std::uint64_t n = first >> pages.shift; n <= (first + bytes - 1) >> pages.shift;
       ++n)
    fails = fails || !mine_.page(pages, n);
  s.walk_failed_i = fails;
  walk_ends_.reset();
  ++walks_[target];
}

void Command::observe(std::uint64_t now) {
  EXPECT_FALSE(running_ && sim_->walk_valid_o != 0);
  if (sim_->walk_valid_o != 0 && sim_->walk_done_i == 0 && !walk_ends_)
    walk_ends_ = now + 1 + (stalls_ ? any(40) : 0);
  auto& s = *sim_.operator->();
  if (s.check_valid_o != 0 && s.check_ready_i != 0) take_check(now);
  if (running_) {
    EXPECT_EQ(job(), job_) << "changed while it runs";
  }
  if (s.done_i != 0) running_ = false;
  if (s.start_o != 0) {
    EXPECT_FALSE(running_);
    job_ = job();
    EXPECT_EQ(walks_[false], job_.source_pages.there ? 1U : 0U);
    if (!job_.nowhere) {
      EXPECT_EQ(walks_[true], job_.target_pages.there ? 1U : 0U);
    }
    running_ = true;
    started_at_ = now;
    done_at_ = now + 1 + (stalls_ ? any(40) : 0);
  }
  if (s.fill_end_o != 0) tag(s.line_o) = s.line_o + 1;
  if (s.drop_o != 0) {
    const std::uint64_t line = s.inject_argument_i / kLine;
    if (tag(line) == line + 1) tag(line) = 0;
  }
  if (s.more_count_o != 0) counts_[static_cast<Counter>(s.more_o)] += s.more_count_o;
  EXPECT_EQ(s.idle_o, s.ready_o);
  if (s.outcome_valid_o != 0) {
    EXPECT_FALSE(outcome_) << "told twice";
    EXPECT_FALSE(running_);
    outcome_ = {static_cast<Answer>(s.code_o), s.result_o, s.crc_o};
  }
}

void Command::take_check(std::uint64_t now) {
  auto& s = *sim_.operator->();
  EXPECT_FALSE(answer_);
  answer_ = Waiting{now + 3 + (stalls_ ? any(6) : 0), std::nullopt};
  const auto place =
      engine::Memory::check(regions_, s.check_region_o, s.check_tenant_o,
                            s.check_offset_o, s.check_length_o, s.check_writing_o != 0);
  if (place) answer_->region = place->region;
}

void Command::give(const Words& words, std::uint32_t tenant) {
  outcome_.reset();
  counts_.clear();
  walks_.clear();
  std::copy(words.begin(), words.end(), sim_->descriptor_i.m_storage);
  sim_->tenant_i = static_cast<std::uint16_t>(tenant);
  sim_->valid_i = 1;
  sim_.settle();
  ASSERT_EQ(sim_->ready_o, 1);
  given_at_ = sim_.cycle();
  cycle();
  sim_->valid_i = 0;
  for (std::uint32_t& word : sim_->descriptor_i.m_storage)
    word = static_cast<std::uint32_t>(random_());
  sim_->tenant_i = static_cast<std::uint16_t>(random_());
}

void Command::await() {
  for (int patience = 20000; !outcome_; --patience) {
    ASSERT_GT(patience, 0) << "no outcome";
    cycle();
  }
}

Answer Command::tell(const Descriptor& d) {
  give(words_of(d), 0);
  await();
  return outcome_ ? outcome_->answer : Answer::aborted;
}

// ---- descriptors ----------------------------------------------------------------------

Descriptor Command::describe(Opcode opcode, std::uint16_t tag) {
  Descriptor d;
  d.opcode = static_cast<std::uint8_t>(opcode);
  d.tag = tag;
  return d;
}

Words Command::words_of(const Descriptor& d) {
  std::byte raw[Descriptor::kBytes];
  d.store(raw);
  Words words;
  std::memcpy(words.data(), raw, sizeof words);
  return words;
}

void Command::remember(const Descriptor& d, std::uint32_t tenant) {
  Descriptor back = d;
  back.opcode = static_cast<std::uint8_t>(Opcode::decode);
  back.src_region = d.dst_region;
  back.src_offset = d.dst_offset;
  back.length = outcome_->result;
  back.room = d.length;
  back.crc = outcome_->crc;
  coded_.push_back({back, tenant});
}

// One of the layers that were encoded last. False: there is none.
bool Command::known_layer(Descriptor& d, std::uint32_t tenant) {
  if (coded_.empty()) return false;
  const std::size_t back = any(std::min<std::size_t>(4, coded_.size()));
  const Coded& coded = coded_[coded_.size() - 1 - back];
  if (coded.tenant != tenant) return false;
  const Descriptor former = d;
  d = coded.decode;
  d.tag = former.tag;
  d.dst_region = former.dst_region;
  d.dst_offset = any(kHost / 64) * 64;
  const bool checks = any(2) == 0;
  d.flags = checks ? engine::flag::kCheck : std::uint8_t{0};
  d.crc = checks ? coded.decode.crc + (any(4) == 0) : 0;
  return true;
}

void Command::any_layer(Descriptor& d) {
  constexpr CodecId kCodecs[] = {CodecId::raw, CodecId::int8, CodecId::kvq4,
                                 CodecId::kvq4};
  const Codec& codec = *find_codec(kCodecs[any(std::size(kCodecs))]);
  const BlockLayout layout{1,
                           1 + any(3),
                           16 * (1 + any(any(8) == 0 ? 70 : 6)),
                           any(8) == 0 ? 1 + any(300) : 16 + any(40),
                           static_cast<DType>(any(16) == 0 ? any(4) : any(2)),
                           static_cast<BlockLayout::Kind>(any(3))};
  d.codec = static_cast<std::uint8_t>(codec.id());
  d.dtype = static_cast<std::uint8_t>(layout.dtype);
  d.kind = static_cast<std::uint8_t>(layout.kind);
  d.heads = static_cast<std::uint16_t>(layout.kv_heads);
  d.head_dim = static_cast<std::uint16_t>(layout.head_dim);
  d.tokens = static_cast<std::uint16_t>(layout.tokens);
  d.src_offset = any(kHost / 64) * 64;
  d.dst_offset = any(kHost / 64) * 64;
  const auto plain = static_cast<std::uint32_t>(layout.layer_bytes());
  const auto coded = static_cast<std::uint32_t>(codec.max_layer_bytes(layout));
  const bool encodes = is(d, Opcode::encode);
  d.length = encodes ? plain : coded;
  d.room = encodes ? coded : plain;
  if (any(8) == 0) d.room = any(2 * std::uint64_t{d.room} + 1);
  if (any(16) == 0) d.length += 64 * any(3) - 64;
  if (any(32) == 0) d.length = 1 + any(kMaxLength);
}

Descriptor Command::any_descriptor(std::uint32_t tenant) {
  constexpr Opcode kOpcodes[] = {Opcode::copy,     Opcode::copy,   Opcode::encode,
                                 Opcode::encode,   Opcode::encode, Opcode::decode,
                                 Opcode::decode,   Opcode::decode, Opcode::fill,
                                 Opcode::prefetch, Opcode::nop,    Opcode::fence};
  const auto opcode = kOpcodes[any(std::size(kOpcodes))];
  Descriptor d = describe(opcode, static_cast<std::uint16_t>(random_()));
  if (any(16) == 0) d.opcode = static_cast<std::uint8_t>(random_());
  const auto region = [&] {
    return any(8) == 0   ? any(kEntries + 2)
           : any(4) == 0 ? kPaged + tenant
                         : 1 + 2 * tenant + any(2);
  };
  if (opcode == Opcode::nop || opcode == Opcode::fence) return d;
  if (opcode != Opcode::fill) {
    d.src_region = region();
    d.src_offset = any(kHost);
  }
  if (opcode != Opcode::prefetch) {
    d.dst_region = region();
    d.dst_offset = any(kHost);
  }
  d.length = 1 + any(any(8) == 0 ? 3 * kMaxLength / 2 : 9000);
  if (opcode == Opcode::prefetch && any(4) == 0) {  // up to the last line, a part of one
    d.src_offset = kDevice - 1 - any(9000);
    d.length = static_cast<std::uint32_t>(kDevice - d.src_offset);
  }
  if (opcode == Opcode::fill) d.pattern = random_();
  const bool known = is(d, Opcode::decode) && any(3) != 0 && known_layer(d, tenant);
  if (codes(d) && !known) any_layer(d);
  return d;
}

}  // namespace speckv::rtl

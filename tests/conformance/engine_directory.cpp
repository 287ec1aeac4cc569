// Every engine with a directory keeps docs/queue-protocol.md: blocks, hints, scores.
#include <map>
#include <optional>
#include <set>

#include "support/engine_fixture.hpp"

namespace speckv::test {
namespace {

using namespace engine;

class EngineDirectory : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    if (!facts_.has(feature::kDirectory)) GTEST_SKIP() << "no directory";
  }

  std::uint16_t whole() const { return static_cast<std::uint16_t>(facts_.block_tokens); }
  // The nth block of a request.
  KvAddress block(std::uint32_t request, std::uint32_t n) const {
    return {.request = request, .position = n * facts_.block_tokens};
  }
  Answer settle(const KvAddress& address) { return settle(address, whole()); }
  Answer settle(const KvAddress& address, std::uint16_t tokens) {
    Descriptor d = to_card(0, 0, 64);
    d.flags = flag::kNamed;
    name(d, address, tokens);
    return answer(d);
  }
  Answer use(const KvAddress& address) {
    Descriptor d = from_card(0, 0, 64);
    d.flags = flag::kNamed;
    name(d, address, whole());
    return answer(d);
  }
  Told hint(Hint hint, const KvAddress& address, std::uint16_t tokens,
            std::uint32_t step = 0) {
    Descriptor d = make(Opcode::hint);
    d.hint = static_cast<std::uint8_t>(hint);
    d.step = step;
    name(d, address, tokens);
    return run(d);
  }
  Told hint(Hint h, const KvAddress& address) { return hint(h, address, whole()); }
  std::uint32_t step(std::uint32_t to) {
    Descriptor d = make(Opcode::step);
    d.step = to;
    const Told told = run(d);
    EXPECT_EQ(told.answer, Answer::ok);
    return told.result;
  }
  static Descriptor weights(const std::array<std::uint8_t, 7>& w) {
    Descriptor d = make(Opcode::weights);
    d.recency = w[0];
    d.frequency = w[1];
    d.step_weight = w[2];
    d.durability = w[3];
    d.evict = w[4];
    d.prefetch = w[5];
    d.hysteresis = w[6];
    return d;
  }
  Telemetry telemetry(QueueUnderTest& queue, std::uint32_t region) {
    Descriptor d = make(Opcode::telemetry);
    d.dst_region = region;
    d.length = Telemetry::kBytes;
    EXPECT_EQ(run(queue, {d})[0].answer, Answer::ok);
    return Telemetry::load(host_.data());
  }
  Telemetry telemetry() { return telemetry(*queue_, host_id_); }
  std::vector<Candidate> report(Report kind, std::uint32_t most = 64) {
    Descriptor d = make(Opcode::telemetry);
    d.dst_region = host_id_;
    d.report = static_cast<std::uint8_t>(kind);
    d.length = most * Candidate::kBytes;
    const Told told = run(d);
    EXPECT_EQ(told.answer, Answer::ok);
    EXPECT_EQ(told.result % Candidate::kBytes, 0U);
    std::vector<Candidate> found;
    for (std::size_t at = 0; at < told.result; at += Candidate::kBytes)
      found.push_back(Candidate::load(host_.data() + at));
    return found;
  }
  static KvAddress address_of(const Candidate& c) {
    return unpack(PackedAddress{c.address_high, c.address_low}).value_or(KvAddress{});
  }
};

TEST_P(EngineDirectory, a_token_is_found_only_where_a_block_has_it) {
  EXPECT_EQ(settle(block(7, 0)), Answer::ok);
  EXPECT_EQ(settle(block(7, 1), 5), Answer::ok);  // a block that is not full
  KvAddress token = block(7, 1);
  token.position += 4;
  EXPECT_EQ(hint(Hint::hot, token, 1).result, 1U);
  token.position += 1;
  EXPECT_EQ(hint(Hint::hot, token, 1).answer, Answer::not_found);
  EXPECT_EQ(hint(Hint::hot, block(7, 0), static_cast<std::uint16_t>(8 * whole())).result,
            2U);
  // Every field of the name counts; none is cut off.
  for (KvAddress other :
       {KvAddress{.request = 8}, KvAddress{.request = 7U + (1U << 31)},
        KvAddress{.request = 7, .layer = 1}, KvAddress{.request = 7, .layer = 0x8000},
        KvAddress{.request = 7, .head = 128},
        KvAddress{.request = 7, .position = 0x80000000}}) {
    EXPECT_EQ(hint(Hint::hot, other).answer, Answer::not_found);
    EXPECT_EQ(hint(Hint::forget, other).answer, Answer::not_found);
  }
  const Telemetry told = telemetry();
  EXPECT_EQ(told.blocks, 2U);
  EXPECT_EQ(told.inserted, 2U);
}

TEST_P(EngineDirectory, names_and_ranges_that_break_a_rule_are_refused) {
  const auto named = [&](const KvAddress& address, std::uint16_t tokens) {
    Descriptor d = to_card(0, 0, 64);
    d.flags = flag::kNamed;
    name(d, address, tokens);
    return answer(d);
  };
  KvAddress odd = block(1, 0);
  odd.position = 1;
  KvAddress value = block(1, 0);
  value.kind = KvKind::value;
  EXPECT_EQ(named(odd, whole()), Answer::bad_desc);
  EXPECT_EQ(named(value, whole()), Answer::bad_desc);
  EXPECT_EQ(named(block(1, 0), 0), Answer::bad_desc);
  EXPECT_EQ(named(block(1, 0), static_cast<std::uint16_t>(whole() + 1)),
            Answer::bad_desc);
  Descriptor wide = to_card(0, 0, 64);
  wide.flags = flag::kNamed;
  wide.tokens = whole();
  wide.address_high = 1U << 25;  // bit 89
  EXPECT_EQ(answer(wide), Answer::bad_desc);
  EXPECT_EQ(answer(copy(host_id_, 0, host_id_, 64, 64)), Answer::ok);
  Descriptor nowhere = copy(host_id_, 0, host_id_, 64, 64);
  nowhere.flags = flag::kNamed;
  name(nowhere, block(1, 0), whole());
  EXPECT_EQ(answer(nowhere), Answer::bad_region);

  EXPECT_EQ(hint(Hint::hot, block(1, 0), 0).answer, Answer::bad_desc);
  EXPECT_EQ(hint(static_cast<Hint>(0), block(1, 0)).answer, Answer::bad_desc);
  EXPECT_EQ(hint(static_cast<Hint>(7), block(1, 0)).answer, Answer::bad_desc);
  EXPECT_EQ(hint(Hint::hot, block(1, 0), whole(), 1).answer, Answer::bad_desc);
  KvAddress last = block(1, 0);
  last.position = 0xFFFFFFFF;
  EXPECT_EQ(hint(Hint::hot, last, 2).answer, Answer::bad_desc);
  EXPECT_EQ(hint(Hint::hot, last, 1).answer, Answer::not_found);
  EXPECT_EQ(telemetry().blocks, 0U);
}

TEST_P(EngineDirectory, shared_prefixes_are_found_by_every_request_of_the_tenant) {
  ASSERT_EQ(settle(block(0, 0)), Answer::ok);
  ASSERT_EQ(settle(block(9, 1)), Answer::ok);
  EXPECT_EQ(hint(Hint::hot, block(9, 0), static_cast<std::uint16_t>(2 * whole())).result,
            2U);
  EXPECT_EQ(hint(Hint::prefetchable, block(77, 0), whole(), 5).result, 1U);
  const Telemetry before = telemetry();
  EXPECT_EQ(use(block(4, 0)), Answer::ok);
  EXPECT_EQ(use(block(4, 3)), Answer::ok);  // a miss is no failure
  const Telemetry after = telemetry();
  EXPECT_EQ(after.hits, before.hits + 1);
  EXPECT_EQ(after.misses, before.misses + 1);
  // What changes a block means exactly the request in the address.
  for (const Hint h : {Hint::evictable, Hint::share, Hint::unshare, Hint::forget})
    EXPECT_EQ(hint(h, block(4, 0)).answer, Answer::not_found);
  EXPECT_EQ(hint(Hint::forget, block(0, 0)).answer, Answer::ok);
  EXPECT_EQ(hint(Hint::hot, block(4, 0)).answer, Answer::not_found);
}

TEST_P(EngineDirectory, references_keep_a_block_and_never_fall_below_none) {
  for (std::uint32_t n = 0; n < 3; ++n)
    ASSERT_EQ(settle(block(0, n)), Answer::ok);
  const auto all = static_cast<std::uint16_t>(3 * whole());
  EXPECT_EQ(hint(Hint::unshare, block(0, 0), all).answer, Answer::not_found);
  EXPECT_EQ(hint(Hint::share, block(0, 1)).result, 1U);
  EXPECT_EQ(telemetry().shared, 1U);
  // For all of them or for none.
  EXPECT_EQ(hint(Hint::unshare, block(0, 0), all).answer, Answer::not_found);
  EXPECT_EQ(hint(Hint::forget, block(0, 0), all).answer, Answer::busy);
  EXPECT_EQ(telemetry().blocks, 3U);
  EXPECT_EQ(settle(block(0, 1)), Answer::ok);  // renewed: it keeps its reference
  EXPECT_EQ(hint(Hint::forget, block(0, 1)).answer, Answer::busy);
  EXPECT_EQ(hint(Hint::unshare, block(0, 1)).answer, Answer::ok);
  EXPECT_EQ(hint(Hint::unshare, block(0, 1)).answer, Answer::not_found);
  EXPECT_EQ(hint(Hint::forget, block(0, 0), all).result, 3U);
  EXPECT_EQ(telemetry().blocks, 0U);
  EXPECT_EQ(telemetry().shared, 0U);
  // 255 references are for ever.
  ASSERT_EQ(settle(block(0, 0)), Answer::ok);
  for (int i = 0; i < 300; ++i)
    ASSERT_EQ(hint(Hint::share, block(0, 0)).answer, Answer::ok);
  for (int i = 0; i < 300; ++i)
    ASSERT_EQ(hint(Hint::unshare, block(0, 0)).answer, Answer::ok);
  EXPECT_EQ(hint(Hint::forget, block(0, 0)).answer, Answer::busy);
}

TEST_P(EngineDirectory, tenants_do_not_see_age_or_change_each_others_blocks) {
  const auto other = engine_->open_queue(kOther, 4);
  const std::uint32_t their_host = engine_->host_region(kOther, host_);
  const std::uint32_t their_card = engine_->card_region(kOther, 0, kCardBytes);
  ASSERT_EQ(settle(block(7, 0)), Answer::ok);
  for (const Hint h :
       {Hint::hot, Hint::evictable, Hint::share, Hint::unshare, Hint::forget}) {
    Descriptor d = make(Opcode::hint);
    d.hint = static_cast<std::uint8_t>(h);
    name(d, block(7, 0), whole());
    EXPECT_EQ(run(*other, {d})[0].answer, Answer::not_found);
  }
  Descriptor same = copy(their_host, 0, their_card, 0, 64);
  same.flags = flag::kNamed;
  name(same, block(7, 0), whole());
  EXPECT_EQ(run(*other, {same})[0].answer, Answer::ok);
  Descriptor far = make(Opcode::step);
  far.step = 60000;
  EXPECT_EQ(run(*other, {far, weights({255, 0, 0, 0, 1, 2, 0})})[0].result, 1U);
  const Telemetry mine = telemetry(), theirs = telemetry(*other, their_host);
  EXPECT_EQ(mine.step, 0U);
  EXPECT_EQ(mine.blocks, 1U);
  EXPECT_EQ(mine.victims, 0U);
  EXPECT_EQ(mine.weights, csr::kWeightsReset);
  EXPECT_EQ(mine.thresholds, csr::kThresholdsReset);
  EXPECT_EQ(theirs.step, 60000U);
  EXPECT_EQ(theirs.blocks, 1U);
  EXPECT_EQ(theirs.victims, 1U);
}

TEST_P(EngineDirectory, a_failed_transfer_leaves_no_block_behind) {
  Bar0* bar0 = engine_->bar0();
  if (bar0 == nullptr || !facts_.has(feature::kInject)) GTEST_SKIP() << "no injection";
  ASSERT_EQ(settle(block(2, 0)), Answer::ok);
  bar0->write32(csr::kInject, static_cast<std::uint32_t>(Inject::bus_read));
  EXPECT_EQ(settle(block(2, 0)), Answer::bus_error);
  EXPECT_EQ(telemetry().blocks, 0U);
  EXPECT_EQ(hint(Hint::hot, block(2, 0)).answer, Answer::not_found);
}

// ---- Scores
// ----------------------------------------------------------------------------------

TEST_P(EngineDirectory, unused_blocks_become_victims_once_and_used_ones_never) {
  for (std::uint32_t n = 0; n < 20; ++n)
    ASSERT_EQ(settle(block(1, n)), Answer::ok);
  ASSERT_EQ(hint(Hint::share, block(1, 3)).answer, Answer::ok);
  EXPECT_EQ(step(1022), 0U);
  EXPECT_EQ(step(1000), 0U);  // not later
  EXPECT_EQ(telemetry().step, 1022U);
  ASSERT_EQ(use(block(1, 5)), Answer::ok);
  EXPECT_EQ(step(1023), 18U);
  auto told = report(Report::victims, 7);
  EXPECT_EQ(told.size(), 7U);
  const auto rest = report(Report::victims);
  told.insert(told.end(), rest.begin(), rest.end());
  std::map<std::uint32_t, std::uint32_t> seen;
  for (const Candidate& c : told) {
    EXPECT_EQ(address_of(c).request, 1U);
    EXPECT_LT(c.score, 24U * 256);
    ++seen[address_of(c).position / facts_.block_tokens];
  }
  EXPECT_EQ(seen.size(), 18U);
  EXPECT_EQ(seen.count(3) + seen.count(5), 0U);
  EXPECT_EQ(step(1100), 0U) << "each is told once";
  EXPECT_TRUE(report(Report::victims).empty());
  ASSERT_EQ(use(block(1, 0)), Answer::ok);
  EXPECT_EQ(step(2500), 2U) << "after a use, again: the block and that of 1022";
}

TEST_P(EngineDirectory, hints_decide_what_is_kept_and_what_is_fetched) {
  for (std::uint32_t n = 0; n < 6; ++n)
    ASSERT_EQ(settle(block(1, n)), Answer::ok);
  EXPECT_EQ(hint(Hint::evictable, block(1, 0)).answer, Answer::ok);
  EXPECT_EQ(hint(Hint::hot, block(1, 1)).answer, Answer::ok);
  EXPECT_EQ(hint(Hint::prefetchable, block(1, 2), whole(), 12).answer, Answer::ok);
  EXPECT_EQ(hint(Hint::prefetchable, block(1, 3), whole(), 60000).answer, Answer::ok);
  EXPECT_EQ(hint(Hint::evictable, block(1, 4)).answer, Answer::ok);
  ASSERT_EQ(use(block(1, 4)), Answer::ok);  // takes the mark away
  EXPECT_EQ(step(10), 3U);
  const auto victims = report(Report::victims);
  ASSERT_EQ(victims.size(), 1U);
  EXPECT_EQ(address_of(victims[0]), block(1, 0));
  EXPECT_EQ(victims[0].score, 0U);
  std::vector<std::uint32_t> wanted;
  for (const Candidate& c : report(Report::prefetches))
    wanted.push_back(address_of(c).position / facts_.block_tokens);
  EXPECT_EQ(std::set<std::uint32_t>(wanted.begin(), wanted.end()),
            (std::set<std::uint32_t>{1, 2}));
  // What is in the fast buffer already is not asked for.
  if (facts_.can(Opcode::prefetch)) {
    Descriptor d = make(Opcode::prefetch);
    d.src_region = card_id_;
    d.length = 4096;
    d.flags = flag::kNamed;
    name(d, block(1, 5), whole());
    EXPECT_EQ(answer(d), Answer::ok);
    EXPECT_EQ(hint(Hint::hot, block(1, 5)).answer, Answer::ok);
    EXPECT_EQ(step(11), 0U);
    // Written again, it is not in the buffer any more.
    ASSERT_EQ(settle(block(1, 5)), Answer::ok);
    EXPECT_EQ(hint(Hint::hot, block(1, 5)).answer, Answer::ok);
    EXPECT_EQ(step(12), 1U);
    EXPECT_EQ(report(Report::prefetches).size(), 1U);
    // Nor after it was not wanted for long.
    EXPECT_EQ(answer(d), Answer::ok);
    EXPECT_EQ(hint(Hint::hot, block(1, 5)).answer, Answer::ok);
    EXPECT_EQ(step(13), 0U);
    (void)step(2000);
    EXPECT_EQ(hint(Hint::hot, block(1, 5)).answer, Answer::ok);
    EXPECT_EQ(step(2001), 1U);
    const auto again = report(Report::prefetches);
    ASSERT_EQ(again.size(), 1U);
    EXPECT_EQ(address_of(again[0]), block(1, 5));
  }
}

// The published defaults evicted everything and prefetched nothing, and large weights
// wrapped.
TEST_P(EngineDirectory, defaults_are_not_degenerate_and_weights_do_not_wrap) {
  std::mt19937_64 random(11);
  constexpr std::uint32_t kBlocks = 60;
  for (std::uint32_t n = 0; n < kBlocks; ++n)
    ASSERT_EQ(settle(block(1, n)), Answer::ok);
  std::set<std::uint32_t> victims, prefetches;
  for (std::uint32_t now = 1; now < 6000; now += 50) {
    for (int i = 0; i < 8; ++i) {  // some blocks are read all the time, most are not
      ASSERT_EQ(use(block(1, static_cast<std::uint32_t>(random() % 10))), Answer::ok);
    }
    (void)step(now);
    for (const Candidate& c : report(Report::victims))
      victims.insert(address_of(c).position / facts_.block_tokens);
    for (const Candidate& c : report(Report::prefetches))
      prefetches.insert(address_of(c).position / facts_.block_tokens);
  }
  EXPECT_GT(victims.size(), kBlocks / 4);
  EXPECT_LE(victims.size(), kBlocks - 10);
  EXPECT_GT(prefetches.size(), 0U);
  EXPECT_LT(prefetches.size(), kBlocks / 2);

  // The same block under the largest weights: more use is never less score.
  EXPECT_EQ(answer(weights({255, 255, 255, 255, 1, 255, 0})), Answer::ok);
  ASSERT_EQ(settle(block(2, 0)), Answer::ok);
  ASSERT_EQ(hint(Hint::hot, block(2, 0)).answer, Answer::ok);
  ASSERT_EQ(hint(Hint::prefetchable, block(2, 0), whole(), 7001).answer, Answer::ok);
  for (int i = 0; i < 4; ++i)
    ASSERT_EQ(hint(Hint::share, block(2, 0)).answer, Answer::ok);
  ASSERT_EQ(hint(Hint::hot, block(2, 0)).answer, Answer::ok);
  (void)report(Report::prefetches);
  EXPECT_EQ(answer(weights({255, 255, 255, 255, 1, 200, 0})), Answer::ok);
  (void)step(5952);
  const auto found = report(Report::prefetches);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(address_of(found[0]), block(2, 0));
  EXPECT_GT(found[0].score, 200U * 4 * 255);
  EXPECT_LT(found[0].score, 1U << 18);
}

TEST_P(EngineDirectory, weights_that_would_evict_all_or_prefetch_none_are_refused) {
  EXPECT_EQ(answer(weights({0, 0, 0, 0, 24, 96, 8})), Answer::bad_desc);
  EXPECT_EQ(answer(weights({1, 1, 1, 1, 0, 96, 8})), Answer::bad_desc);
  EXPECT_EQ(answer(weights({1, 1, 1, 1, 96, 24, 8})), Answer::bad_desc);
  EXPECT_EQ(answer(weights({1, 1, 1, 1, 40, 50, 6})), Answer::bad_desc);
  EXPECT_EQ(answer(weights({1, 1, 1, 1, 255, 255, 255})), Answer::bad_desc);
  EXPECT_EQ(telemetry().weights, csr::kWeightsReset);
  EXPECT_EQ(answer(weights({1, 1, 1, 1, 40, 50, 5})), Answer::ok);
  EXPECT_EQ(answer(weights({0, 0, 1, 0, 1, 255, 127})), Answer::ok);
  EXPECT_EQ(telemetry().weights, 0x00010000U);
  EXPECT_EQ(telemetry().thresholds, 0x007FFF01U);
}

TEST_P(EngineDirectory, a_list_that_is_full_fills_again_later) {
  for (std::uint32_t n = 0; n < 100; ++n) {
    ASSERT_EQ(settle(block(1, n)), Answer::ok);
    ASSERT_EQ(hint(Hint::evictable, block(1, n)).answer, Answer::ok);
  }
  EXPECT_EQ(step(1), 64U);
  EXPECT_EQ(step(2), 0U);
  EXPECT_EQ(report(Report::victims, 10).size(), 10U);
  EXPECT_EQ(step(3), 10U);
  std::size_t told = 10;
  for (std::uint32_t now = 4; told < 100 && now < 10; ++now) {
    told += report(Report::victims).size();
    (void)step(now);
  }
  EXPECT_EQ(told, 100U);
  EXPECT_EQ(telemetry().victims, 100U);
  Descriptor small = make(Opcode::telemetry);
  small.dst_region = host_id_;
  small.length = Telemetry::kBytes - 1;
  EXPECT_EQ(answer(small), Answer::no_space);
  small.report = static_cast<std::uint8_t>(Report::victims);
  small.length = Candidate::kBytes - 1;
  EXPECT_EQ(answer(small), Answer::no_space);
  small.report = 3;
  EXPECT_EQ(answer(small), Answer::bad_desc);
}

TEST_P(EngineDirectory, the_step_doorbell_is_a_step) {
  ASSERT_EQ(settle(block(1, 0)), Answer::ok);
  queue_->step(2000);
  EXPECT_EQ(answer(make(Opcode::nop)), Answer::ok);
  EXPECT_EQ(telemetry().step, 2000U);
  EXPECT_EQ(report(Report::victims).size(), 1U);
}

TEST_P(EngineDirectory, steps_go_on_where_their_number_begins_anew) {
  EXPECT_EQ(step(0x7FFFFFFF), 0U);
  EXPECT_EQ(step(0xFFFFFFF0), 0U);
  ASSERT_EQ(settle(block(1, 0)), Answer::ok);
  EXPECT_EQ(step(5), 0U);
  EXPECT_EQ(telemetry().step, 5U);
  EXPECT_EQ(step(1100), 1U);
}

// What the driver asks for when a program goes: the next one finds nothing of it.
// Defaults that are written while the card works are those of tenants to come.
TEST_P(EngineDirectory, a_cleared_tenant_is_as_new_and_no_other) {
  Bar0* bar0 = engine_->bar0();
  if (bar0 == nullptr) GTEST_SKIP() << "registers are not shown";
  const auto other = engine_->open_queue(kOther, 3);
  Descriptor theirs = make(Opcode::copy);
  theirs.src_region = engine_->host_region(kOther, host_);
  theirs.dst_region = engine_->card_region(kOther, 0, kCardBytes);
  theirs.length = 64;
  theirs.flags = flag::kNamed;
  name(theirs, block(7, 0), whole());
  EXPECT_EQ(run(*other, {theirs})[0].answer, Answer::ok);
  EXPECT_EQ(settle(block(7, 0)), Answer::ok);
  EXPECT_EQ(settle(block(8, 0)), Answer::ok);
  EXPECT_EQ(hint(Hint::share, block(8, 0)).answer, Answer::ok);
  step(5000);
  EXPECT_EQ(telemetry().waiting_victims, 1U);

  bar0->write32(csr::kWeights, 0x01020304);
  bar0->write32(csr::kThresholds, 0);  // breaks the rule
  EXPECT_EQ(bar0->read32(csr::kWeights), 0x01020304U);
  EXPECT_EQ(bar0->read32(csr::kThresholds), csr::kThresholdsReset);
  EXPECT_EQ(telemetry().weights, csr::kWeightsReset);
  bar0->write32(csr::kTenantClear, kTenant);
  while (csr::kTenantClearBusy.get(bar0->read32(csr::kTenantClear)) != 0)
    bar0->run();

  const Telemetry mine = telemetry();
  EXPECT_EQ(mine.blocks + mine.shared + mine.step + mine.waiting_victims, 0U);
  EXPECT_EQ(mine.hits + mine.misses + mine.inserted + mine.victims, 0U);
  EXPECT_EQ(mine.weights, 0x01020304U);
  EXPECT_TRUE(report(Report::victims).empty());
  for (const std::uint32_t request : {7U, 8U})
    EXPECT_EQ(hint(Hint::hot, block(request, 0)).answer, Answer::not_found);
  theirs.src_region = std::exchange(theirs.dst_region, theirs.src_region);
  EXPECT_EQ(run(*other, {theirs})[0].answer, Answer::ok);
  const Telemetry left = telemetry(*other, theirs.dst_region);
  EXPECT_EQ(left.blocks, 1U);
  EXPECT_EQ(left.hits, 1U);
  EXPECT_EQ(left.weights, csr::kWeightsReset);
  bar0->write32(csr::kTenantClear, kMaxTenants);  // nobody
  EXPECT_TRUE(run(*other, {make(Opcode::nop)})[0].answer == Answer::ok);
}

INSTANTIATE_TEST_SUITE_P(Engines, EngineDirectory, testing::ValuesIn(kEngines),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace speckv::test

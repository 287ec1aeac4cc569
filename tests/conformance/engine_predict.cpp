// PREDICT is the LSTM of docs/lstm-format.md to the bit, of the tenant that asks, and
// believes nothing that it is given.
#include "base/checksum.hpp"
#include "predict/sequence_predictors.hpp"
#include "predict/symbol_lstm.hpp"
#include "support/engine_fixture.hpp"
#include "support/lstm_cases.hpp"

namespace speckv::test {
namespace {

using namespace engine;
using predict::Int8Weights;
using predict::LstmShape;
using Symbols = std::vector<std::uint32_t>;

struct Network {
  std::shared_ptr<const Int8Weights> weights;
  std::vector<std::byte> file;
};

Network network_of(const LstmShape& shape, double scale, Lcg& lcg) {
  auto whole = quantise(random_lstm(shape, scale, lcg));
  EXPECT_TRUE(whole.ok());
  auto file = write_weights(*whole);
  return {std::make_shared<const Int8Weights>(*std::move(whole)), std::move(file)};
}
Network small_network(std::uint32_t seed) {
  Lcg lcg(seed);
  return network_of({.inputs = 16, .vocabulary = 90, .shortlist = 30, .cluster = 25}, 0.3,
                    lcg);
}
constexpr std::uint32_t kFirstSymbol = 1000;  // of random_lstm()'s classes

void seal(std::vector<std::byte>& file) {
  const std::size_t body = file.size() - 4;
  store_le(file.data() + body, crc32c(0, Bytes(file).first(body)));
}

class EnginePredict : public EngineFixture {
 protected:
  static constexpr std::uint64_t kAnswers = 64 << 10, kState = 128 << 10;  // of host_
  static constexpr std::uint8_t kMost = kMaxPredictAnswers;

  void SetUp() override {
    EngineFixture::SetUp();
    files_ = {};
    if (!facts_.has(feature::kPredict)) GTEST_SKIP() << "no PREDICT";
  }

  Told give(QueueUnderTest& queue, std::uint32_t tenant, Bytes file) {
    const std::size_t pages = (file.size() + 4095) / 4096 * 4096;
    if (files_.size() < pages) files_ = engine_->allocate(pages);
    std::ranges::copy(file, files_.begin());
    Descriptor d = make(Opcode::predict);
    d.task = static_cast<std::uint8_t>(Task::network);
    d.src_region = engine_->host_region(tenant, files_, {true, false});
    d.length = static_cast<std::uint32_t>(file.size());
    const Told told = run(queue, {d}).front();
    engine_->drop_region(d.src_region);
    return told;
  }
  Answer give(Bytes file) { return give(*queue_, kTenant, file).answer; }

  // A question whose history lies at the start of host_, whose answers go to kAnswers.
  Descriptor ask(const Symbols& history, std::uint8_t answers = kMost) {
    for (std::size_t i = 0; i < history.size(); ++i)
      store_le(host_.data() + 4 * i, history[i]);
    Descriptor d = make(Opcode::predict);
    d.src_region = d.dst_region = host_id_;
    d.dst_offset = kAnswers;
    d.length = static_cast<std::uint32_t>(4 * history.size());
    d.answers = answers;
    return d;
  }
  Descriptor ask_on(const Symbols& history) {  // and goes on from the state at kState
    Descriptor d = ask(history);
    d.state_region = host_id_;
    d.state_offset = kState;
    return d;
  }
  MutableBytes state() const { return host_.subspan(kState, predict::kStateBytes); }

  // Symbol and confidence of what was answered.
  Symbols answered(const Told& told) const {
    EXPECT_EQ(told.answer, Answer::ok);
    EXPECT_EQ(told.result % Prediction::kBytes, 0U);
    EXPECT_EQ(told.crc, 0U);
    Symbols all;
    for (std::size_t at = 0; at < told.result; at += Prediction::kBytes) {
      const auto one = Prediction::load(host_.data() + kAnswers + at);
      all.insert(all.end(), {one.symbol, one.confidence});
    }
    return all;
  }
  // What the library's predictor says after these.
  static Symbols library(const Network& network, const Symbols& history,
                         std::size_t answers = kMost) {
    const auto predictor = *predict::make_lstm_predictor(network.weights, 1);
    for (const std::uint32_t symbol : history)
      predictor->observe(0, symbol);
    return told_by(*predictor, 0, answers);
  }
  using EngineFixture::told_by;
  static Symbols told_by(const predict::SequencePredictor& predictor,
                         predict::StreamId stream, std::size_t answers) {
    std::vector<predict::Candidate> best(answers);
    best.resize(predictor.predict(stream, best));
    Symbols all;
    for (const predict::Candidate& one : best)
      all.insert(all.end(),
                 {one.symbol, static_cast<std::uint32_t>(one.confidence * 65536)});
    return all;
  }
  static Symbols some_symbols(std::mt19937& random, std::size_t count) {
    Symbols all(count);
    for (std::uint32_t& symbol : all) {  // known ones, and others
      symbol = static_cast<std::uint32_t>(random());
      if (random() % 8 != 0) symbol = kFirstSymbol + symbol % 90;
    }
    return all;
  }

 private:
  MutableBytes files_;  // of weights that are given
};

#ifndef SPECKV_DRIVER_ENGINE  // the guest has no files
TEST_P(EnginePredict, gives_the_golden_states_and_answers) {
  int seen = 0;
  for (const LstmCase& c : lstm_cases()) {
    if (c.shape.vocabulary == 0) continue;
    SCOPED_TRACE(c.name);
    ++seen;
    Lcg lcg(c.seed);
    const Network network = network_of(c.shape, c.scale, lcg);
    const Told given = give(*queue_, kTenant, network.file);
    ASSERT_EQ(given.answer, Answer::ok);
    EXPECT_EQ(given.result, c.shape.vocabulary);
    Symbols history, golden;
    for (std::size_t i = 0; i < c.answer.size(); i += 2)
      golden.insert(golden.end(), {kFirstSymbol + c.answer[i], c.answer[i + 1]});
    std::ranges::fill(state(), std::byte{0});
    std::string states;
    for (std::uint32_t t = 0; t < c.steps; ++t) {
      history.push_back(kFirstSymbol + lcg.next() % c.shape.vocabulary);
      Descriptor d = ask_on({history.back()});
      d.answers = static_cast<std::uint8_t>(c.best);
      const Symbols best = answered(run(d));
      for (int shift = 0; shift < 32; shift += 8) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", crc32c(0, state()) >> shift & 255);
        states += two;
      }
      if (t + 1 == c.steps) {
        EXPECT_EQ(best, golden);
      }
    }
    EXPECT_EQ(states, c.states);
    const auto best = static_cast<std::uint8_t>(c.best);
    EXPECT_EQ(answered(run(ask(history, best))), golden);  // from scratch
  }
  EXPECT_GE(seen, 34);
}
#endif

TEST_P(EnginePredict, decides_as_the_library_with_states_anywhere) {
  std::mt19937 random(5);
  for (const LstmShape& shape :
       {LstmShape{.inputs = 8, .vocabulary = 2, .shortlist = 2},
        LstmShape{.inputs = 64, .vocabulary = 90, .shortlist = 90},
        LstmShape{.inputs = 24, .vocabulary = 90, .shortlist = 7, .cluster = 5}}) {
    for (const double scale : {0.1, 0.5, 3.0}) {
      Lcg lcg(shape.inputs);
      const Network network = network_of(shape, scale, lcg);
      ASSERT_EQ(give(network.file), Answer::ok);
      const auto predictor = *predict::make_lstm_predictor(network.weights, 2);
      std::ranges::fill(host_, std::byte{0});
      ASSERT_EQ(answer(to_card(kState, 4096, predict::kStateBytes)), Answer::ok);
      for (int round = 0; round < 20; ++round) {  // two sequences, in turns at random
        const std::size_t most = round == 0 ? kMaxPredictHistory : 20;
        const Symbols history = some_symbols(random, 1 + random() % most);
        const predict::StreamId stream = random() % 2;
        Descriptor d = ask_on(history);
        if (stream == 1) {
          d.state_region = card_id_;
          d.state_offset = 4096;
        }
        d.answers = static_cast<std::uint8_t>(1 + random() % kMost);
        if (round % 3 == 0) {  // all on the card; the history wherever it may be
          ASSERT_EQ(answer(to_card(0, 70001, d.length)), Answer::ok);
          d.src_region = d.dst_region = card_id_;
          d.src_offset = 70001;
        }
        for (const std::uint32_t symbol : history)
          predictor->observe(stream, symbol);
        const Told told = run(d);
        if (d.dst_region == card_id_) {
          ASSERT_EQ(answer(from_card(kAnswers, kAnswers, told.result)), Answer::ok);
        }
        ASSERT_EQ(answered(told), told_by(*predictor, stream, d.answers)) << round;
      }
    }
  }
}

TEST_P(EnginePredict, writes_its_answers_and_the_state_and_nothing_else) {
  const Network network = small_network(1);
  ASSERT_EQ(give(network.file), Answer::ok);
  randomise(host_, 1);
  std::ranges::fill(state(), std::byte{0});
  const Symbols history{kFirstSymbol + 7, 3, kFirstSymbol + 89};
  Descriptor d = ask_on(history);
  d.answers = 5;
  auto expected = host_copy();
  const predict::Int8Lstm net(*network.weights, predict::lstm_detail::kScalar);
  predict::Int8State after;
  for (const std::uint32_t class_index : {7U, predict::kUnknown, 89U})
    net.step(after, class_index);
  std::ranges::copy(write_state(after), expected.begin() + kState);
  const Symbols best = library(network, history, 5);
  for (std::size_t i = 0; i < best.size(); ++i)
    store_le(expected.data() + kAnswers + 4 * i, best[i]);
  EXPECT_EQ(run(d).result, 5 * Prediction::kBytes);
  EXPECT_TRUE(host_is(expected));
}

TEST_P(EnginePredict, every_tenant_has_a_network_of_its_own) {
  const Network mine = small_network(1), theirs = small_network(2);
  const Symbols history{kFirstSymbol + 3, kFirstSymbol + 4};
  ASSERT_NE(library(mine, history), library(theirs, history));
  const auto other = engine_->open_queue(kOther, 4);
  const std::uint32_t other_host = engine_->host_region(kOther, host_);
  const auto other_asks = [&] {
    Descriptor d = ask(history);
    d.src_region = d.dst_region = other_host;
    return run(*other, {d}).front();
  };
  EXPECT_EQ(answer(ask(history)), Answer::not_found);
  ASSERT_EQ(give(mine.file), Answer::ok);
  EXPECT_EQ(other_asks().answer, Answer::not_found);
  ASSERT_EQ(give(*other, kOther, theirs.file).answer, Answer::ok);
  EXPECT_EQ(answered(run(ask(history))), library(mine, history));
  EXPECT_EQ(answered(other_asks()), library(theirs, history));

  // Nor does one reach another's history, answers, state, or weights.
  const auto before = host_copy();
  for (std::uint32_t Descriptor::*region :
       {&Descriptor::src_region, &Descriptor::dst_region, &Descriptor::state_region}) {
    Descriptor d = ask_on(history);
    d.*region = other_host;
    EXPECT_EQ(answer(d), Answer::bad_region);
  }
  EXPECT_EQ(give(*queue_, kOther, theirs.file).answer, Answer::bad_region);
  EXPECT_TRUE(host_is(before));
  EXPECT_EQ(answered(run(ask(history))), library(mine, history));
}

TEST_P(EnginePredict, a_state_is_for_reading_and_writing) {
  ASSERT_EQ(give(small_network(1).file), Answer::ok);
  Descriptor d = ask_on({kFirstSymbol});
  std::ranges::fill(state(), std::byte{0});
  const auto before = host_copy();
  d.state_region = engine_->host_region(kTenant, host_, {true, false});
  EXPECT_EQ(answer(d), Answer::bad_region);
  if (engine_->has_write_only_regions()) {
    d.state_region = engine_->host_region(kTenant, host_, {false, true});
    EXPECT_EQ(answer(d), Answer::bad_region);
  }
  EXPECT_TRUE(host_is(before));
  d.state_region = host_id_;
  EXPECT_EQ(answer(d), Answer::ok);
}

TEST_P(EnginePredict, what_is_no_network_is_refused_and_the_last_one_stays) {
  const Network good = small_network(1);
  ASSERT_EQ(give(good.file), Answer::ok);
  const Symbols history{kFirstSymbol + 3, 17, kFirstSymbol + 4};
  const Symbols best = library(good, history);
  const auto refuses = [&](const std::vector<std::byte>& file, Answer expected,
                           std::string_view what) {
    EXPECT_EQ(give(file), expected) << what;
    EXPECT_EQ(answered(run(ask(history))), best) << what;
  };
  std::mt19937 random(3);
  for (int i = 0; i < 200; ++i) {
    auto file = small_network(2).file;
    const std::size_t at = i < 64 ? static_cast<std::size_t>(i) : random() % file.size();
    file[at] ^= static_cast<std::byte>(1U << random() % 8);
    // A header may become that of another version, or of floats, and says so first.
    EXPECT_NE(give(file), Answer::ok) << at;
  }
  refuses(good.file, Answer::ok, "itself");
  const auto with = [&](auto&& change) {
    auto file = small_network(2).file;
    change(file);
    seal(file);
    return file;
  };
  const auto word = [&](std::size_t at, std::uint32_t value) {
    return with([=](auto& file) { store_le(file.data() + at, value); });
  };
  auto cut = small_network(2).file;
  cut.resize(cut.size() - 1);
  refuses(cut, Answer::corrupted, "cut off");
  refuses(std::vector<std::byte>(4), Answer::corrupted, "four bytes");
  refuses(word(0, 0), Answer::corrupted, "magic");
  refuses(word(8, 2), Answer::unsupported, "version");
  refuses(word(12, 2), Answer::corrupted, "kind of numbers");
  refuses(word(20, 256), Answer::corrupted, "cells");
  refuses(word(28, 1U << 30), Answer::corrupted, "vocabulary");
  refuses(word(32, 0), Answer::corrupted, "shortlist");
  refuses(word(40, 1), Answer::corrupted, "reserved");
  refuses(word(64 + 4 * 5, kFirstSymbol + 6), Answer::corrupted, "a symbol twice");
  const std::size_t embedding = 64 + 4 * 90, layer = embedding + 90 * 16;
  refuses(with([=](auto& file) { file[embedding] = std::byte{0x80}; }), Answer::corrupted,
          "-128");
  refuses(word(layer, 25), Answer::corrupted, "shift");
  refuses(word(layer + 4, 0x40000001), Answer::corrupted, "bias");
  Lcg lcg(9);
  const LstmShape shape{.inputs = 16, .vocabulary = 90, .shortlist = 90};
  refuses(write_weights(random_lstm(shape, 0.3, lcg)), Answer::unsupported, "floats");
  refuses(network_of({.inputs = 16, .shortlist = 15}, 0.3, lcg).file, Answer::unsupported,
          "features");
  if (Bar0* bar0 = engine_->bar0()) {
    Descriptor d = make(Opcode::predict);
    d.task = static_cast<std::uint8_t>(Task::network);
    d.src_region = host_id_;
    d.length = bar0->read32(csr::kMaxNetwork) + 1;
    EXPECT_EQ(answer(d), Answer::unsupported);
    --d.length;
    EXPECT_EQ(answer(d), Answer::bad_region);  // the region is shorter than that
  }
  const Network better = small_network(4);
  ASSERT_EQ(give(better.file), Answer::ok);
  EXPECT_EQ(answered(run(ask(history))), library(better, history));
}

TEST_P(EnginePredict, a_state_that_no_step_leaves_is_refused) {
  ASSERT_EQ(give(small_network(1).file), Answer::ok);
  const std::size_t cells = 2 * 2 * 128;
  for (const std::size_t at : {std::size_t{0}, cells - 2, cells, cells + 255}) {
    randomise(host_, 4);
    std::ranges::fill(state(), std::byte{0x11});
    const Descriptor d = ask_on({kFirstSymbol + 1});
    if (at < cells) state()[at] = std::byte{0};
    state()[at < cells ? at + 1 : at] = std::byte{0x80};  // -32768, or -128
    const auto before = host_copy();
    EXPECT_EQ(answer(d), Answer::corrupted) << at;
    EXPECT_TRUE(host_is(before)) << at;
    state()[at] ^= std::byte{1};  // one away from it
    EXPECT_EQ(answer(d), Answer::ok) << at;
  }
}

TEST_P(EnginePredict, a_fault_leaves_the_state_as_it_was) {
  Bar0* bar0 = engine_->bar0();
  if (bar0 == nullptr || !facts_.has(feature::kInject)) GTEST_SKIP() << "no injection";
  const auto inject = [&](Inject kind, std::uint64_t argument = 0) {
    write64(*bar0, csr::kInjectArgument, argument);
    bar0->write32(csr::kInject, static_cast<std::uint32_t>(kind));
  };
  const Network network = small_network(1);
  inject(Inject::bus_read);
  EXPECT_EQ(give(network.file), Answer::bus_error);
  ASSERT_EQ(give(network.file), Answer::ok);
  std::ranges::fill(state(), std::byte{0});
  ASSERT_EQ(answer(to_card(kState, 4096, predict::kStateBytes)), Answer::ok);
  const Symbols history{kFirstSymbol + 1, kFirstSymbol + 2};
  Descriptor d = ask_on(history);
  d.state_region = card_id_;
  d.state_offset = 4096;
  inject(Inject::bus_read);
  EXPECT_EQ(answer(d), Answer::bus_error);
  inject(Inject::bus_write);
  EXPECT_EQ(answer(d), Answer::bus_error);
  EXPECT_EQ(answered(run(d)), library(network, history));  // as the first time
  inject(Inject::poison, 4096 + 300);
  EXPECT_EQ(answer(d), Answer::poison);
}

TEST_P(EnginePredict, a_new_tenant_and_a_card_after_reset_have_no_network) {
  Bar0* bar0 = engine_->bar0();
  if (bar0 == nullptr) GTEST_SKIP() << "registers are not shown";
  const auto other = engine_->open_queue(kOther, 4);
  Descriptor theirs = ask({kFirstSymbol});
  theirs.src_region = theirs.dst_region = engine_->host_region(kOther, host_);
  ASSERT_EQ(give(small_network(1).file), Answer::ok);
  ASSERT_EQ(give(*other, kOther, small_network(2).file).answer, Answer::ok);
  bar0->write32(csr::kTenantClear, kTenant);
  while (csr::kTenantClearBusy.get(bar0->read32(csr::kTenantClear)) != 0)
    bar0->run();
  EXPECT_EQ(answer(ask({kFirstSymbol})), Answer::not_found);
  EXPECT_EQ(run(*other, {theirs}).front().answer, Answer::ok);

  bar0->write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlReset.put(1)));
  while (csr::kControlReset.get(bar0->read32(csr::kControl)) != 0)
    bar0->run();
  bar0->write32(csr::kControl, static_cast<std::uint32_t>(csr::kControlEnable.put(1)));
  const auto after = engine_->open_queue(kOther, 4);
  theirs.src_region = theirs.dst_region = engine_->host_region(kOther, host_);
  EXPECT_EQ(run(*after, {theirs}).front().answer, Answer::not_found);
}

INSTANTIATE_TEST_SUITE_P(Engines, EnginePredict, testing::ValuesIn(kEngines),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace speckv::test

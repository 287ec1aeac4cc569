// PREDICT: a tenant's network, and what it says comes next (docs/lstm-format.md).
#include <array>

#include "cxlspeckv/guarded.hpp"

#include "engine/card_state.hpp"

namespace speckv::engine {
namespace {

using predict::Int8State;

static_assert(kMaxPredictAnswers == predict::kMostBest);

// Whether the file is one of floats, which are for training: no card reads them.
bool holds_floats(Bytes file) noexcept {
  return file.size() >= 16 && load_le<std::uint32_t>(file.data() + 12) == 0;
}

// Of a file that is none, and of a sound one that this engine does not compute.
Answer refused(const Status& why) noexcept {
  if (why.code() == Code::no_space) return Answer::no_space;
  return why.code() == Code::unsupported ? Answer::unsupported : Answer::corrupted;
}

Result<predict::Int8Weights> read_network(Bytes file) {
  if (holds_floats(file)) {
    const Result<predict::LstmWeights> floats = predict::read_weights(file);
    return floats.ok() ? Status(Code::unsupported, {}) : floats.error();
  }
  Result<predict::Int8Weights> read = predict::read_int8(file);
  if (read.ok() && read->shape.vocabulary == 0) return Status(Code::unsupported, {});
  return read;
}

}  // namespace

std::uint32_t Card::max_network() const noexcept {
  return std::min(options_.max_network, options_.max_layer);  // read to where layers are
}

// The tenant's network changes only when all of the file has been read and checked.
Card::Outcome Card::learn(std::uint32_t tenant, const Place& from) noexcept {
  const MutableBytes file(plain_.get(), from.length);
  if (const Answer answer = state_->memory.read(from, file); answer != Answer::ok) {
    return {answer};
  }
  Outcome outcome;
  const Status done = guarded([&]() -> Status {
    Result<predict::Int8Weights> read = read_network(file);
    if (!read.ok()) return read.error();
    outcome.result = read->shape.vocabulary;
    state_->networks[tenant] = std::make_unique<const predict::SymbolLstm>(
        std::make_shared<const predict::Int8Weights>(*std::move(read)));
    return {};
  });
  if (!done.ok()) outcome.answer = refused(done);
  return outcome;
}

Card::Outcome Card::predict(std::uint32_t tenant, const Descriptor& d, const Place& from,
                            const Place& to) noexcept {
  Memory& memory = state_->memory;
  const bool kept = d.state_region != 0;
  Place state_from, state_to;
  if (kept) {
    const auto place = [&](bool writing) {
      return Memory::check(state_->regions, d.state_region, tenant, d.state_offset,
                           predict::kStateBytes, writing);
    };
    const auto readable = place(false), writable = place(true);
    if (!readable || !writable) return {Answer::bad_region};
    state_from = *readable;
    state_to = *writable;
  }
  const predict::SymbolLstm* network = state_->networks[tenant].get();
  if (network == nullptr) return {Answer::not_found};

  std::array<std::byte, 4 * kMaxPredictHistory> history;
  const MutableBytes symbols = MutableBytes(history).first(from.length);
  if (const Answer answer = memory.read(from, symbols); answer != Answer::ok) {
    return {answer};
  }
  Int8State state;
  std::array<std::byte, predict::kStateBytes> bytes;
  if (kept) {
    if (const Answer answer = memory.read(state_from, bytes); answer != Answer::ok) {
      return {answer};
    }
    const std::optional<Int8State> known = predict::read_state(bytes);
    if (!known) return {Answer::corrupted};
    state = *known;
  }
  for (std::size_t at = 0; at < symbols.size(); at += 4)
    network->step(state, load_le<std::uint32_t>(symbols.data() + at));

  std::array<predict::SymbolAnswer, kMaxPredictAnswers> best;
  std::array<std::byte, kMaxPredictAnswers * Prediction::kBytes> told;
  const std::size_t count = network->best(state, std::span(best).first(d.answers));
  for (std::size_t i = 0; i < count; ++i) {
    Prediction prediction;
    prediction.symbol = best[i].symbol;
    prediction.confidence = best[i].confidence;
    prediction.store(told.data() + i * Prediction::kBytes);
  }
  const Bytes answers = Bytes(told).first(count * Prediction::kBytes);
  if (const Answer answer = memory.write(to, answers); answer != Answer::ok) {
    return {answer};
  }
  if (kept) {  // last: whoever is told of a failure may ask the same again
    bytes = predict::write_state(state);
    if (const Answer answer = memory.write(state_to, bytes); answer != Answer::ok) {
      return {answer};
    }
  }
  return {Answer::ok, static_cast<std::uint32_t>(answers.size())};
}

}  // namespace speckv::engine

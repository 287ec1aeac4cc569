#include "record/request_lines.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "trace/chain_text.hpp"

namespace speckv {
namespace {

// Spreads what may be a small number over 64 bits.
std::uint64_t spread(std::uint64_t value) {
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

// A block's number in the file: equal keys are equal numbers.
std::uint64_t number_of(BlockKey key) {
  return spread(key.low ^ spread(key.high + 1)) & trace::kLargestBlock;
}

// Sessions have 32 bits there: those of engines that count have theirs.
std::uint64_t session_number(std::uint64_t session) {
  return session <= 0xFFFFFFFF ? session : spread(session) >> 32;
}

std::string flags_of(const RequestFacts& facts) {
  std::string text;
  if (facts.brings_tool_result) text += 'r';
  if (facts.stops_for_tool) text += 't';
  if (facts.calls_tool) text += 'u';
  if (facts.sub_agent) text += 's';
  return text.empty() ? "-" : text;
}

std::uint32_t tokens_of(std::uint32_t told) {
  return std::min(told, trace::kMostTokens);
}

}  // namespace

// Of several at once the first is the one that is done first.
RequestLines::Request* RequestLines::find(std::uint64_t session) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& it) {
    return it.session == session && it.state == Request::State::open;
  });
  return found == waiting_.end() ? nullptr : &*found;
}

// The oldest that are not finished make room.
void RequestLines::bound() {
  std::size_t extra = waiting_.size() > most_open_ ? waiting_.size() - most_open_ : 0;
  const bool long_chains = waiting_blocks_ > most_blocks_;
  for (Request& request : waiting_) {
    if (extra == 0 && !long_chains) return;
    if (request.state != Request::State::open) continue;
    request.state = Request::State::left_out;
    if (extra > 0) --extra;
  }
}

void RequestLines::arrived(std::uint64_t session, std::uint64_t now, std::string& out) {
  waiting_.push_back({.session = session, .arrived = now});
  bound();
  drain(out);
}

void RequestLines::finished(std::uint64_t session, std::span<const BlockKey> chain,
                            const RequestFacts& facts, std::uint64_t now,
                            std::string& out) {
  Request* request = find(session);
  if (request == nullptr) {
    waiting_.push_back({.session = session, .arrived = now});
    request = &waiting_.back();
  }
  if (chain.size() > most_blocks_) {
    request->state = Request::State::left_out;
  } else {
    request->state = Request::State::done;
    request->duration = now - request->arrived;
    request->facts = facts;
    for (const BlockKey key : chain)
      request->chain.push_back(number_of(key));
    waiting_blocks_ += chain.size();
  }
  bound();
  drain(out);
}

void RequestLines::hinted(std::uint64_t session, double eta, double confidence,
                          std::uint64_t now, std::string& out) {
  if (!(eta >= 0) || !(confidence >= 0 && confidence <= 1)) return;
  note(session, now,
       "H " + std::to_string(now) + ' ' + std::to_string(session_number(session)) + ' ' +
           std::to_string(std::llround(std::min(eta, trace::kLongestTrace) * 1e6)) + ' ' +
           std::to_string(std::llround(confidence * 1e6)) + '\n',
       out);
}

void RequestLines::ended(std::uint64_t session, std::uint64_t now, std::string& out) {
  while (Request* const request = find(session))
    request->state = Request::State::left_out;
  if (const auto known = last_.find(session); known != last_.end()) {
    last_blocks_ -= known->second.chain.size();
    last_.erase(known);
  }
  note(session, now,
       "E " + std::to_string(now) + ' ' + std::to_string(session_number(session)) + '\n',
       out);
}

// Lines are in the order of their times, so it waits for requests that came before.
void RequestLines::note(std::uint64_t session, std::uint64_t now, std::string line,
                        std::string& out) {
  waiting_.push_back({.session = session,
                      .arrived = now,
                      .state = Request::State::notice,
                      .notice = std::move(line)});
  bound();
  drain(out);
}

void RequestLines::close(std::string& out) {
  for (Request& request : waiting_) {
    if (request.state == Request::State::open) request.state = Request::State::left_out;
  }
  drain(out);
}

// What nothing that arrived before has to be waited for.
void RequestLines::drain(std::string& out) {
  while (!waiting_.empty() && waiting_.front().state != Request::State::open) {
    Request& request = waiting_.front();
    waiting_blocks_ -= request.chain.size();
    if (request.state == Request::State::done) {
      write(request, out);
    } else if (request.state == Request::State::notice) {
      out += request.notice;
    } else {
      ++left_out_;
    }
    waiting_.pop_front();
  }
}

void RequestLines::write(Request& request, std::string& out) {
  // Where too much is held in mind, chains are written whole once more.
  if (last_blocks_ + request.chain.size() > most_blocks_) {
    last_.clear();
    last_blocks_ = 0;
  }
  Last& last = last_[request.session];
  const auto [kept, _] = std::mismatch(request.chain.begin(), request.chain.end(),
                                       last.chain.begin(), last.chain.end());
  const auto shared = static_cast<std::size_t>(kept - request.chain.begin());
  const auto number = [](std::uint64_t value) { return std::to_string(value); };
  out += "R " + number(request.arrived) + ' ' + number(request.duration) + ' ' +
         number(session_number(request.session)) + ' ' +
         number(tokens_of(request.facts.input_tokens)) + ' ' +
         number(tokens_of(request.facts.output_tokens)) + ' ' + flags_of(request.facts) +
         ' ' + number(last.line) + ' ' + number(shared) + ' ' +
         trace::write_ranges(std::span(request.chain).subspan(shared)) + '\n';
  last_blocks_ = last_blocks_ - last.chain.size() + request.chain.size();
  last = {written_++, std::move(request.chain)};
}

}  // namespace speckv

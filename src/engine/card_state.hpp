// engine/card_state.hpp -- everything of a card that a reset renews (internal).
#pragma once

#include <algorithm>
#include <memory>

#include "engine/card.hpp"
#include "predict/symbol_lstm.hpp"

namespace speckv::engine {

// Of the contract; the library has more codecs, which no card is asked for.
inline constexpr unsigned kLastCodec = codec::kKvq4;

struct Card::State {
  State(const CardOptions& options, HostPort& port)
      : regions(options.regions),
        memory(options.memory, options.buffer_bytes, options.memory_is_shared, port,
               counters) {
    if (options.directory_entries != 0) {
      directory = std::make_unique<Directory>(options.directory_entries, counters);
    }
  }

  // As after power-on. Allocates nothing: it cannot fail.
  void renew() noexcept {
    counters = snapshot = Counters{};
    std::fill(regions.begin(), regions.end(), Region{});
    memory.forget();
    settings = DirectorySettings{};
    if (directory) directory->renew(settings);
    for (auto& network : networks)
      network.reset();
    control = 0;
    fatal = FatalCause::none;
    inject_argument = 0;
    first_error = error_count = turn = 0;
    queues.fill(QueuePair{});
  }

  Counters counters{};
  Counters snapshot{};
  std::vector<Region> regions;
  Memory memory;
  DirectorySettings settings{};
  std::unique_ptr<Directory> directory;
  std::array<std::unique_ptr<const predict::SymbolLstm>, kMaxTenants> networks;

  std::uint32_t control = 0;
  FatalCause fatal = FatalCause::none;
  std::uint64_t inject_argument = 0;
  std::array<std::uint64_t, kMaxErrorLog> errors{};
  std::uint32_t first_error = 0, error_count = 0;
  std::array<QueuePair, kMaxQueues> queues{};
  std::uint32_t turn = 0;  // the queue that is served next
};

}  // namespace speckv::engine

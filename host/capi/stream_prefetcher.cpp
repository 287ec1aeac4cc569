// cxlspeckv/stream_prefetcher.h: what streams use, and what they are guessed to use next.
#include "capi/capi.hpp"

using namespace speckv;
using namespace speckv::capi;

struct speckv_stream_prefetcher {
  Use of_store, of_completions;
  std::unique_ptr<StreamPrefetcher> prefetcher{};
};

namespace {

using Rule = StreamPrefetchOptions::Rule;

Status read(const speckv_stream_prefetcher_options& given, StreamPrefetchOptions& out) {
  switch (given.rule) {
    case SPECKV_DEPTH_ADAPTIVE:
      out.rule = Rule::adaptive;
      break;
    case SPECKV_DEPTH_FIXED:
      out.rule = Rule::fixed;
      break;
    case SPECKV_DEPTH_BANDIT:
      out.rule = Rule::bandit;
      break;
    default:
      return refused("there is no such rule of depth");
  }
  if (given.layout > 0xFFFF) return refused("the store has no such layout");
  if (given.reserved != 0) return refused("reserved fields of options must be 0");
  if ((given.lstm == nullptr) != (given.lstm_bytes == 0))
    return refused("lstm and lstm_bytes go together");
  out.layout = static_cast<LayoutId>(given.layout);
  take(given.depth, out.depth);
  take(given.confidence, out.confidence);
  take(given.patience, out.patience);
  take(given.streams, out.streams);
  take(given.symbols, out.symbols);
  take(given.most_in_flight, out.most_in_flight);
  take(given.learning_bytes, out.learning_bytes);
  take(given.bytes_per_second, out.bytes_per_second);
  out.lstm = {static_cast<const std::byte*>(given.lstm), given.lstm_bytes};
  if (given.completions != nullptr) out.completions = &given.completions->queue->queue();
  out.tag = given.tag;
  return {};
}

speckv_stream_stats stats_of(const StreamPrefetchStats& s) {
  return {.size = 0,
          .touched = s.touched,
          .missed = s.missed,
          .asked = s.asked,
          .useful = s.useful,
          .late = s.late,
          .wasted = s.wasted,
          .failed = s.failed,
          .outstanding = s.outstanding,
          .resident = s.resident,
          .repeated = s.repeated,
          .unlikely = s.unlikely,
          .full = s.full,
          .displaced = s.displaced,
          .delayed = s.delayed,
          .unheard = s.unheard,
          .pauses = s.pauses,
          .in_flight = s.in_flight,
          .peak_in_flight = s.peak_in_flight,
          .depth = s.depth,
          .reserved = 0};
}

}  // namespace

speckv_status speckv_stream_prefetcher_create(
    speckv_store* store, const speckv_stream_prefetcher_options* options,
    speckv_stream_prefetcher** prefetcher) {
  return guard([&]() -> Status {
    if (store == nullptr || prefetcher == nullptr)
      return null_argument("store or prefetcher");
    speckv_stream_prefetcher_options given{};
    if (Status known = read_options(options, given); !known.ok()) return known;
    StreamPrefetchOptions wanted;
    if (Status known = read(given, wanted); !known.ok()) return known;
    auto made = std::make_unique<speckv_stream_prefetcher>(speckv_stream_prefetcher{
        Use(store->users),
        given.completions == nullptr ? Use() : Use(given.completions->users)});
    auto opened = StreamPrefetcher::create(*store->store, wanted);
    if (!opened) return opened.error();
    made->prefetcher = *std::move(opened);
    *prefetcher = made.release();
    return {};
  });
}

void speckv_stream_prefetcher_free(speckv_stream_prefetcher* prefetcher) {
  delete prefetcher;
}

speckv_status speckv_stream_prefetcher_touched(speckv_stream_prefetcher* prefetcher,
                                               uint64_t stream, uint32_t symbol,
                                               speckv_key block) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr) return null_argument("prefetcher");
    return prefetcher->prefetcher->touched(stream, symbol, key_of(block));
  });
}

speckv_status speckv_stream_prefetcher_ended(speckv_stream_prefetcher* prefetcher,
                                             uint64_t stream) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr) return null_argument("prefetcher");
    prefetcher->prefetcher->ended(stream);
    return {};
  });
}

speckv_status speckv_stream_prefetcher_advance(speckv_stream_prefetcher* prefetcher) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr) return null_argument("prefetcher");
    prefetcher->prefetcher->advance();
    return {};
  });
}

speckv_status speckv_stream_prefetcher_stats(const speckv_stream_prefetcher* prefetcher,
                                             speckv_stream_stats* stats) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr || stats == nullptr)
      return null_argument("prefetcher or stats");
    return fill_stats(stats, stats_of(prefetcher->prefetcher->stats()));
  });
}

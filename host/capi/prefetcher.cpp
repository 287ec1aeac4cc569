// cxlspeckv/prefetcher.h: what the engine says of its sessions.
#include <algorithm>
#include <array>
#include <cstring>

#include "cxlspeckv/trace_recorder.hpp"

#include "capi/capi.hpp"

using namespace speckv;
using namespace speckv::capi;

struct speckv_prefetcher {
  Use of_store, of_completions;
  EnvironmentRecorder recorder{};
  std::unique_ptr<Prefetcher> prefetcher{};
};

namespace {

Status read_sources(std::uint32_t given, PrefetchOptions& out) {
  constexpr std::uint32_t kBoth = SPECKV_LEARNED | SPECKV_HINTED;
  if ((given & ~kBoth) != 0 && given != SPECKV_OFF)
    return refused("sources are LEARNED, HINTED, both, or OFF alone");
  const std::uint32_t sources = given == 0 ? std::uint32_t{SPECKV_HINTED} : given;
  out.learned = (sources & SPECKV_LEARNED) != 0;
  out.hinted = (sources & SPECKV_HINTED) != 0;
  return {};
}

void take_time(std::uint64_t given, std::chrono::nanoseconds& out) {
  if (given != 0) out = duration(std::min(given, std::uint64_t{1} << 61));
}

Status read(const speckv_prefetcher_options& given, PrefetchOptions& out) {
  constexpr std::uint32_t kWithout = SPECKV_WITHOUT_STAGING | SPECKV_WITHOUT_RETENTION;
  if (Status known = read_sources(given.sources, out); !known.ok()) return known;
  if ((given.without & ~kWithout) != 0) return refused("without STAGING or RETENTION");
  if (given.reserved != 0)
    return refused("reserved fields of a prefetcher's options must be 0");
  out.stage = (given.without & SPECKV_WITHOUT_STAGING) == 0;
  out.retain = (given.without & SPECKV_WITHOUT_RETENTION) == 0;
  if (given.layout > 0xFFFF) return refused("the store has no such layout");
  out.layout = static_cast<LayoutId>(given.layout);
  take(given.chunk_bytes, out.chunk_bytes);
  take(given.most_in_flight, out.most_in_flight);
  take(given.learning_bytes, out.learning_bytes);
  take_time(given.hint_life_ns, out.hint_life);
  take_time(given.unread_life_ns, out.unread_life);
  take(given.sessions, out.sessions);
  take(given.blocks, out.blocks);
  Status listed = check_array(given.bytes_per_second, given.bytes_per_second_count,
                              "bytes_per_second");
  if (!listed.ok()) return listed;
  out.bytes_per_second.assign(given.bytes_per_second,
                              given.bytes_per_second + given.bytes_per_second_count);
  if (given.completions != nullptr) out.completions = &given.completions->queue->queue();
  out.tag = given.tag;
  return {};
}

Status read(const speckv_request_options& given, RequestFacts& out) {
  constexpr std::uint32_t kKnown = SPECKV_BRINGS_TOOL_RESULT | SPECKV_STOPS_FOR_TOOL |
                                   SPECKV_CALLS_TOOL | SPECKV_SUB_AGENT;
  if ((given.flags & ~kKnown) != 0) return refused("unknown flags of a request");
  if (given.reserved != 0) return refused("reserved fields of a request must be 0");
  out.input_tokens = given.input_tokens;
  out.output_tokens = given.output_tokens;
  out.brings_tool_result = (given.flags & SPECKV_BRINGS_TOOL_RESULT) != 0;
  out.stops_for_tool = (given.flags & SPECKV_STOPS_FOR_TOOL) != 0;
  out.calls_tool = (given.flags & SPECKV_CALLS_TOOL) != 0;
  out.sub_agent = (given.flags & SPECKV_SUB_AGENT) != 0;
  return {};
}

// The store's texts are not terminated.
void say_for_store(void* context, LogLevel level, std::string_view text) {
  const auto& store = *static_cast<const speckv_store*>(context);
  std::array<char, 512> copy{};
  std::memcpy(copy.data(), text.data(), std::min(text.size(), copy.size() - 1));
  store.log(store.log_context, static_cast<std::uint32_t>(level), copy.data());
}

speckv_prefetch_source source_of(const PrefetchStats::Source& s) {
  return {s.chunks, s.displaced, s.staged, s.useful,
          s.late,   s.wasted,    s.unread, s.pauses};
}

}  // namespace

speckv_status speckv_prefetcher_create(speckv_store* store,
                                       const speckv_prefetcher_options* options,
                                       speckv_prefetcher** prefetcher) {
  return guard([&]() -> Status {
    if (store == nullptr || prefetcher == nullptr)
      return null_argument("store or prefetcher");
    speckv_prefetcher_options given{};
    if (Status known = read_options(options, given); !known.ok()) return known;
    PrefetchOptions wanted;
    if (Status known = read(given, wanted); !known.ok()) return known;
    auto made = std::make_unique<speckv_prefetcher>(speckv_prefetcher{
        Use(store->users),
        given.completions == nullptr ? Use() : Use(given.completions->users)});
    wanted.requests = &made->recorder;
    const auto layout = static_cast<std::size_t>(wanted.layout);
    auto opened = Prefetcher::create(*store->store, std::move(wanted));
    if (!opened) return opened.error();
    made->prefetcher = *std::move(opened);
    made->recorder.start(
        store->store->layouts()[layout].tokens,
        store->log == nullptr ? LogSink{} : LogSink{say_for_store, store});
    *prefetcher = made.release();
    return {};
  });
}

void speckv_prefetcher_free(speckv_prefetcher* prefetcher) {
  delete prefetcher;
}

speckv_status speckv_prefetcher_finished(speckv_prefetcher* prefetcher, uint64_t session,
                                         const speckv_key* keys, size_t count,
                                         const speckv_request_options* request) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr) return null_argument("prefetcher");
    if (Status listed = check_array(keys, count, "keys"); !listed.ok()) return listed;
    speckv_request_options given{};
    if (Status known = read_options(request, given); !known.ok()) return known;
    RequestFacts facts;
    if (Status known = read(given, facts); !known.ok()) return known;
    return prefetcher->prefetcher->finished(session, keys_of(keys, count), facts);
  });
}

speckv_status speckv_prefetcher_arrived(speckv_prefetcher* prefetcher, uint64_t session) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr) return null_argument("prefetcher");
    return prefetcher->prefetcher->arrived(session);
  });
}

speckv_status speckv_prefetcher_hint(speckv_prefetcher* prefetcher, uint64_t session,
                                     double eta, double confidence) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr) return null_argument("prefetcher");
    return prefetcher->prefetcher->hint(session, eta, confidence);
  });
}

speckv_status speckv_prefetcher_ended(speckv_prefetcher* prefetcher, uint64_t session) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr) return null_argument("prefetcher");
    return prefetcher->prefetcher->ended(session);
  });
}

speckv_status speckv_prefetcher_advance(speckv_prefetcher* prefetcher,
                                        uint64_t* again_ns) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr || again_ns == nullptr)
      return null_argument("prefetcher or again_ns");
    const std::chrono::nanoseconds again = prefetcher->prefetcher->advance();
    *again_ns = again == std::chrono::nanoseconds::max()
                    ? SPECKV_FOREVER
                    : static_cast<std::uint64_t>(again.count());
    return {};
  });
}

speckv_status speckv_prefetcher_stats(const speckv_prefetcher* prefetcher,
                                      speckv_prefetch_stats* stats) {
  return guard([&]() -> Status {
    if (prefetcher == nullptr || stats == nullptr)
      return null_argument("prefetcher or stats");
    const PrefetchStats now = prefetcher->prefetcher->stats();
    return fill_stats(
        stats, speckv_prefetch_stats{0, now.in_flight, now.peak_in_flight, now.sessions,
                                     now.blocks, now.failed, source_of(now.learned),
                                     source_of(now.hinted), now.learned.retained,
                                     now.hinted.retained});
  });
}

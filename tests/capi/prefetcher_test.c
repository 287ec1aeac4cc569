/* Prefetchers from C: what is hinted is in the fast tier when its session comes, and what
 * makes no sense is refused with the code that the header states. */
#include <math.h>
#include <string.h>

#include "two_tiers.h"

static speckv_prefetch_stats stats_of(const speckv_prefetcher* prefetcher) {
  speckv_prefetch_stats stats = {.size = sizeof stats};
  OK(speckv_prefetcher_stats(prefetcher, &stats));
  return stats;
}

static void what_is_hinted_is_there_when_its_session_comes(void) {
  speckv_prefetcher_options options = {.size = sizeof options,
                                       .sources = SPECKV_HINTED,
                                       .chunk_bytes = (uint64_t)2 * kBytes,
                                       .completions = completions,
                                       .tag = 7};
  const speckv_request_options request = {.size = sizeof request,
                                          .input_tokens = 64,
                                          .output_tokens = 5,
                                          .flags = SPECKV_CALLS_TOOL};
  speckv_prefetcher* prefetcher = NULL;
  speckv_prefetch_stats stats;
  uint64_t again = 0;
  OK(speckv_prefetcher_create(store, &options, &prefetcher));
  OK(speckv_prefetcher_finished(prefetcher, 5, keys, kBlocks, &request));
  OK(speckv_prefetcher_advance(prefetcher, &again));
  CHECK(again > 0 && again < 1000000000);
  CHECK(tier_of(keys[0]) == 1);
  OK(speckv_prefetcher_hint(prefetcher, 5, 0.5, 1));
  while (stats_of(prefetcher).in_flight > 0) {
    speckv_completion entry;
    size_t count = 0;
    OK(speckv_completions_wait(completions, SPECKV_FOREVER));
    OK(speckv_completions_drain(completions, &entry, 1, &count));
    CHECK(count == 1 && entry.tag == 7 && entry.status == SPECKV_STATUS_OK);
    OK(speckv_prefetcher_advance(prefetcher, &again));
  }
  for (int i = 0; i < kBlocks; ++i)
    CHECK(tier_of(keys[i]) == 0);
  CHECK(stats_of(prefetcher).hinted.unread == (uint64_t)kBlocks * kBytes);
  OK(speckv_prefetcher_arrived(prefetcher, 5));
  stats = stats_of(prefetcher);
  CHECK(stats.hinted.useful == (uint64_t)kBlocks * kBytes && stats.hinted.unread == 0);
  CHECK(stats.hinted.chunks == 2 && stats.learned.chunks == 0 && stats.failed == 0);
  CHECK(stats.sessions == 1 && stats.blocks == kBlocks);
  CHECK(stats.peak_in_flight == (uint64_t)2 * kBytes);
  EXPECT(SPECKV_STATUS_BUSY, speckv_store_close(store));
  EXPECT(SPECKV_STATUS_BUSY, speckv_completions_free(completions));
  OK(speckv_prefetcher_ended(prefetcher, 5));
  CHECK(stats_of(prefetcher).sessions == 0);
  speckv_prefetcher_free(prefetcher);
}

static void what_is_not_to_be_staged_stays_where_it_is(void) {
  speckv_prefetcher_options options = {.size = sizeof options,
                                       .without = SPECKV_WITHOUT_STAGING};
  speckv_prefetcher* prefetcher = NULL;
  uint64_t again = 0;
  OK(speckv_prefetcher_create(store, &options, &prefetcher));
  OK(speckv_prefetcher_finished(prefetcher, 6, &keys[kBlocks - 1], 1, NULL));
  OK(speckv_prefetcher_hint(prefetcher, 6, 0.5, 1));
  OK(speckv_prefetcher_advance(prefetcher, &again));
  CHECK(stats_of(prefetcher).hinted.chunks == 0);
  CHECK(stats_of(prefetcher).hinted_retained == 0);
  CHECK(stats_of(prefetcher).learned_retained == 0);
  speckv_prefetcher_free(prefetcher);
}

static void off_is_off(void) {
  speckv_prefetcher_options options = {.size = sizeof options, .sources = SPECKV_OFF};
  speckv_prefetcher* prefetcher = NULL;
  uint64_t again = 0;
  OK(speckv_prefetcher_create(store, &options, &prefetcher));
  OK(speckv_prefetcher_finished(prefetcher, 1, keys, kBlocks, NULL));
  OK(speckv_prefetcher_hint(prefetcher, 1, 1, 1));
  OK(speckv_prefetcher_arrived(prefetcher, 1));
  OK(speckv_prefetcher_advance(prefetcher, &again));
  CHECK(again == SPECKV_FOREVER);
  CHECK(stats_of(prefetcher).sessions == 0);
  speckv_prefetcher_free(prefetcher);
}

static void options_that_make_no_sense_are_refused(void) {
  speckv_prefetcher_options options = {.size = sizeof options};
  speckv_prefetcher* const untouched = (speckv_prefetcher*)memory;
  speckv_prefetcher* prefetcher = untouched;
  const double rates[2] = {1e9, -1};
  REFUSED(speckv_prefetcher_create(NULL, &options, &prefetcher));
  REFUSED(speckv_prefetcher_create(store, &options, NULL));
  options.size = 3;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.size = sizeof options;
  options.sources = 8;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.sources = SPECKV_OFF | SPECKV_HINTED;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.sources = 0;
  options.without = 4;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.without = 0;
  options.reserved = 1;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.reserved = 0;
  options.layout = 1;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.layout = 65536;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.layout = 0;
  options.sessions = 65537;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.sessions = 0;
  options.blocks = UINT32_MAX;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.blocks = 0;
  options.bytes_per_second_count = 2;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.bytes_per_second = rates;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  options.bytes_per_second_count = 1;
  REFUSED(speckv_prefetcher_create(store, &options, &prefetcher));
  CHECK(prefetcher == untouched);
}

static void calls_that_make_no_sense_are_refused(void) {
  speckv_prefetcher_options options = {.size = sizeof options, .blocks = kBlocks - 1};
  speckv_request_options request = {.size = sizeof request, .flags = 16};
  speckv_prefetch_stats stats = {.size = 3};
  speckv_prefetcher* prefetcher = NULL;
  uint64_t again = 0;
  OK(speckv_prefetcher_create(store, &options, &prefetcher));
  REFUSED(speckv_prefetcher_finished(NULL, 1, keys, 1, NULL));
  REFUSED(speckv_prefetcher_finished(prefetcher, 1, NULL, 1, NULL));
  REFUSED(speckv_prefetcher_finished(prefetcher, 1, keys, kBlocks, NULL));
  REFUSED(speckv_prefetcher_finished(prefetcher, 1, keys, SIZE_MAX, NULL));
  REFUSED(speckv_prefetcher_finished(prefetcher, 1, keys, 1, &request));
  request.flags = 0;
  request.reserved = 1;
  REFUSED(speckv_prefetcher_finished(prefetcher, 1, keys, 1, &request));
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_prefetcher_arrived(prefetcher, 1));
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_prefetcher_ended(prefetcher, 1));
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_prefetcher_hint(prefetcher, 1, 1, 1));
  OK(speckv_prefetcher_finished(prefetcher, 1, NULL, 0, NULL));
  REFUSED(speckv_prefetcher_hint(prefetcher, 1, -1, 1));
  REFUSED(speckv_prefetcher_hint(prefetcher, 1, NAN, 1));
  REFUSED(speckv_prefetcher_hint(prefetcher, 1, 1, 1.5));
  REFUSED(speckv_prefetcher_hint(prefetcher, 1, 1, -0.5));
  REFUSED(speckv_prefetcher_hint(prefetcher, 1, 1, NAN));
  CHECK(strstr(speckv_last_error(), "confidence") != NULL);
  REFUSED(speckv_prefetcher_hint(NULL, 1, 1, 1));
  REFUSED(speckv_prefetcher_arrived(NULL, 1));
  REFUSED(speckv_prefetcher_ended(NULL, 1));
  REFUSED(speckv_prefetcher_advance(NULL, &again));
  REFUSED(speckv_prefetcher_advance(prefetcher, NULL));
  REFUSED(speckv_prefetcher_stats(NULL, &stats));
  REFUSED(speckv_prefetcher_stats(prefetcher, NULL));
  REFUSED(speckv_prefetcher_stats(prefetcher, &stats));
  speckv_prefetcher_free(prefetcher);
  speckv_prefetcher_free(NULL);
}

int main(void) {
  open_two_tiers();
  RUN(what_is_not_to_be_staged_stays_where_it_is);
  RUN(what_is_hinted_is_there_when_its_session_comes);
  RUN(off_is_off);
  RUN(options_that_make_no_sense_are_refused);
  RUN(calls_that_make_no_sense_are_refused);
  close_two_tiers();
  return 0;
}

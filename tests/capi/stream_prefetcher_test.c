/* Stream prefetchers from C: what followed once is there the next time, and what makes no
 * sense is refused with the code that the header states. */
#include <math.h>
#include <string.h>

#include "two_tiers.h"

static speckv_stream_stats stats_of(const speckv_stream_prefetcher* prefetcher) {
  speckv_stream_stats stats = {.size = sizeof stats};
  OK(speckv_stream_prefetcher_stats(prefetcher, &stats));
  CHECK(stats.size == sizeof stats);
  CHECK(stats.asked ==
        stats.useful + stats.late + stats.wasted + stats.failed + stats.outstanding);
  return stats;
}

/* The stream uses its next page, and what that makes the prefetcher ask for has come. */
static void use(speckv_stream_prefetcher* prefetcher, uint64_t stream, uint32_t page) {
  OK(speckv_stream_prefetcher_touched(prefetcher, stream, page, keys[page]));
  while (stats_of(prefetcher).in_flight > 0) {
    speckv_completion entry;
    size_t count = 0;
    OK(speckv_completions_wait(completions, SPECKV_FOREVER));
    OK(speckv_completions_drain(completions, &entry, 1, &count));
    CHECK(count == 1 && entry.tag == 9);
    OK(speckv_stream_prefetcher_advance(prefetcher));
  }
}

static void what_followed_once_is_there_the_next_time(void) {
  const speckv_stream_prefetcher_options options = {.size = sizeof options,
                                                    .rule = SPECKV_DEPTH_FIXED,
                                                    .depth = 2,
                                                    .completions = completions,
                                                    .tag = 9};
  speckv_stream_prefetcher* prefetcher = NULL;
  speckv_stream_stats stats;
  OK(speckv_stream_prefetcher_create(store, &options, &prefetcher));
  for (uint32_t page = 0; page < kBlocks; ++page) {
    use(prefetcher, 1, page);
    CHECK(tier_of(keys[page]) == 1);
  }
  stats = stats_of(prefetcher);
  CHECK(stats.touched == kBlocks && stats.missed == kBlocks && stats.asked == 0);
  for (uint32_t page = 0; page < kBlocks; ++page) {
    CHECK(tier_of(keys[page]) == (page == 0 ? 1 : 0));
    use(prefetcher, 2, page);
  }
  stats = stats_of(prefetcher);
  CHECK(stats.missed == kBlocks + 1 && stats.useful == kBlocks - 1);
  CHECK(stats.asked == kBlocks - 1 && stats.depth == 2 && stats.pauses == 0);
  CHECK(stats.peak_in_flight > 0 && stats.peak_in_flight <= (uint64_t)2 * kBytes);
  OK(speckv_stream_prefetcher_ended(prefetcher, 2));
  OK(speckv_stream_prefetcher_ended(prefetcher, 77));
  EXPECT(SPECKV_STATUS_BUSY, speckv_store_close(store));
  EXPECT(SPECKV_STATUS_BUSY, speckv_completions_free(completions));
  speckv_stream_prefetcher_free(prefetcher);
}

static void refuses(speckv_stream_prefetcher_options options, speckv_status status) {
  speckv_stream_prefetcher* const untouched = (speckv_stream_prefetcher*)memory;
  speckv_stream_prefetcher* prefetcher = untouched;
  EXPECT(status, speckv_stream_prefetcher_create(store, &options, &prefetcher));
  CHECK(prefetcher == untouched && strlen(speckv_last_error()) > 0);
}

static void options_that_make_no_sense_are_refused(void) {
  enum { kSize = sizeof(speckv_stream_prefetcher_options) };
  static const unsigned char noise[64] = {1, 2, 3};
  const speckv_stream_prefetcher_options wrong[] = {
      {.size = 3},
      {.size = kSize, .rule = 3},
      {.size = kSize, .depth = 17},
      {.size = kSize, .confidence = 1.5F},
      {.size = kSize, .confidence = -0.5F},
      {.size = kSize, .confidence = NAN},
      {.size = kSize, .layout = 1},
      {.size = kSize, .layout = 65536},
      {.size = kSize, .streams = (1U << 20) + 1},
      {.size = kSize, .symbols = (1U << 28) + 1},
      {.size = kSize, .reserved = 1},
      {.size = kSize, .most_in_flight = kBytes - 1},
      {.size = kSize, .bytes_per_second = -1},
      {.size = kSize, .bytes_per_second = NAN},
      {.size = kSize, .lstm_bytes = sizeof noise},
      {.size = kSize, .lstm = noise}};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; ++i)
    refuses(wrong[i], SPECKV_STATUS_INVALID_ARGUMENT);
  refuses(
      (speckv_stream_prefetcher_options){
          .size = kSize, .lstm = noise, .lstm_bytes = sizeof noise},
      SPECKV_STATUS_CORRUPTED);
}

static void calls_that_make_no_sense_are_refused(void) {
  speckv_stream_prefetcher* prefetcher = NULL;
  speckv_stream_stats stats = {.size = 3};
  REFUSED(speckv_stream_prefetcher_create(NULL, NULL, &prefetcher));
  REFUSED(speckv_stream_prefetcher_create(store, NULL, NULL));
  OK(speckv_stream_prefetcher_create(store, NULL, &prefetcher));
  REFUSED(speckv_stream_prefetcher_touched(NULL, 1, 1, keys[0]));
  REFUSED(speckv_stream_prefetcher_ended(NULL, 1));
  REFUSED(speckv_stream_prefetcher_advance(NULL));
  REFUSED(speckv_stream_prefetcher_stats(NULL, &stats));
  REFUSED(speckv_stream_prefetcher_stats(prefetcher, NULL));
  REFUSED(speckv_stream_prefetcher_stats(prefetcher, &stats));
  speckv_stream_prefetcher_free(prefetcher);
  speckv_stream_prefetcher_free(NULL);
}

/* Of an older program: what it does not know is not touched. */
static void a_smaller_struct_is_filled_as_far_as_it_goes(void) {
  speckv_stream_prefetcher* prefetcher = NULL;
  speckv_stream_stats stats;
  memset(&stats, 0xA5, sizeof stats);
  stats.size = offsetof(speckv_stream_stats, missed);
  OK(speckv_stream_prefetcher_create(store, NULL, &prefetcher));
  OK(speckv_stream_prefetcher_touched(prefetcher, 1, 1, keys[1]));
  OK(speckv_stream_prefetcher_stats(prefetcher, &stats));
  CHECK(stats.touched == 1 && stats.size == offsetof(speckv_stream_stats, missed));
  CHECK(stats.missed == 0xA5A5A5A5A5A5A5A5U);
  speckv_stream_prefetcher_free(prefetcher);
}

int main(void) {
  open_two_tiers();
  RUN(what_followed_once_is_there_the_next_time);
  RUN(options_that_make_no_sense_are_refused);
  RUN(calls_that_make_no_sense_are_refused);
  RUN(a_smaller_struct_is_filled_as_far_as_it_goes);
  close_two_tiers();
  return 0;
}

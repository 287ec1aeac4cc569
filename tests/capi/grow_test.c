/* Option structs of older and newer versions than the library's. */
#include <string.h>

#include "check.h"

static const speckv_layout kLayout = {1, 1, 16, 16, SPECKV_F16, SPECKV_KV, {0, 0}};

/* What a later version may have: more fields, at the end. */
typedef struct newer_tier {
  speckv_tier_options known;
  uint64_t more[4];
} newer_tier;
typedef struct newer_store {
  speckv_store_options known;
  uint64_t more[4];
} newer_store;
typedef struct newer_stats {
  speckv_tier_stats known;
  uint64_t more[4];
} newer_stats;

static speckv_status open_with(const speckv_store_options* options) {
  speckv_store* store = NULL;
  const speckv_status status = speckv_store_open(options, &store);
  CHECK((status == SPECKV_STATUS_OK) == (store != NULL));
  OK(speckv_store_close(store));
  return status;
}

static void set_up(newer_store* store, newer_tier* tiers) {
  memset(store, 0, sizeof *store);
  memset(tiers, 0, 2 * sizeof *tiers);
  tiers[0].known.size = tiers[1].known.size = sizeof *tiers;
  tiers[0].known.device = "dram:64K";
  tiers[1].known.device = "soft:128K";
  store->known.size = sizeof *store;
  store->known.layouts = &kLayout;
  store->known.layout_count = 1;
  store->known.tiers = &tiers[0].known;
  store->known.tier_count = 2;
}

static void newer_structs_are_taken_while_they_ask_for_nothing_new(void) {
  newer_store options;
  newer_tier tiers[2];
  set_up(&options, tiers);
  OK(open_with(&options.known));
  options.more[3] = UINT64_C(1) << 63;
  REFUSED(open_with(&options.known));
  CHECK(strstr(speckv_last_error(), "version") != NULL);
  options.more[3] = 0;
  tiers[1].more[0] = 1; /* the second element: found by the size of the first */
  REFUSED(open_with(&options.known));
  tiers[1].more[0] = 0;
  OK(open_with(&options.known));
}

static void older_structs_are_completed_with_zeros(void) {
  newer_store options;
  newer_tier tiers[2];
  set_up(&options, tiers);
  /* As if the log had come later: what lies beyond the size is not read. */
  options.known.size = offsetof(speckv_store_options, log);
  memset(&options.known.log, 0xFF, sizeof options - options.known.size);
  OK(open_with(&options.known));
  options.known.size = offsetof(speckv_store_options, tiers);
  REFUSED(open_with(&options.known)); /* that is required */
}

static void impossible_sizes_are_refused(void) {
  const size_t sizes[6] = {
      0, 4, sizeof(size_t) + 1, sizeof(speckv_store_options) - 1, 4104, SIZE_MAX};
  newer_store options;
  newer_tier tiers[2];
  size_t i;
  set_up(&options, tiers);
  for (i = 0; i < 6; ++i) {
    options.known.size = sizes[i];
    REFUSED(open_with(&options.known));
  }
  set_up(&options, tiers);
  for (i = 0; i < 6; ++i) {
    tiers[0].known.size = sizes[i];
    REFUSED(open_with(&options.known));
  }
  tiers[0].known.size = sizeof *tiers;
  tiers[1].known.size = sizeof(speckv_tier_options); /* not that of the first */
  REFUSED(open_with(&options.known));
}

static void stats_fill_what_the_caller_has(void) {
  newer_store options;
  newer_tier tiers[2];
  newer_stats stats;
  speckv_store* store = NULL;
  set_up(&options, tiers);
  OK(speckv_store_open(&options.known, &store));

  memset(&stats, 0xFF, sizeof stats);
  stats.known.size = sizeof stats;
  OK(speckv_store_stats(store, 1, &stats.known));
  CHECK(stats.known.capacity == 128 << 10 && stats.known.size == sizeof stats);
  CHECK(stats.more[0] == 0 && stats.more[3] == 0);

  memset(&stats, 0xFF, sizeof stats);
  stats.known.size = offsetof(speckv_tier_stats, used);
  OK(speckv_store_stats(store, 0, &stats.known));
  CHECK(stats.known.capacity == 64 << 10 && stats.known.used == UINT64_MAX);

  stats.known.size = 3;
  REFUSED(speckv_store_stats(store, 0, &stats.known));
  OK(speckv_store_close(store));
}

int main(void) {
  RUN(newer_structs_are_taken_while_they_ask_for_nothing_new);
  RUN(older_structs_are_completed_with_zeros);
  RUN(impossible_sizes_are_refused);
  RUN(stats_fill_what_the_caller_has);
  return 0;
}

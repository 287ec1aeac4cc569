/* capi/two_tiers.h -- a store of a fast and a slow tier, and blocks that only the slow
 * one has: what a prefetcher works on. */
#ifndef TESTS_CAPI_TWO_TIERS_H
#define TESTS_CAPI_TWO_TIERS_H

#include "check.h"

enum { kBlocks = 4, kBytes = 1024 };

static const speckv_layout kLayout = {1, 1, 16, 16, SPECKV_F16, SPECKV_KV, {0, 0}};
static unsigned char memory[kBytes];
static speckv_store* store;
static speckv_completions* completions;
static speckv_segment segment = {0, kBytes, 0, 0};
static speckv_key keys[kBlocks];

static int8_t tier_of(speckv_key key) {
  int8_t tier = SPECKV_ABSENT;
  OK(speckv_store_lookup(store, &key, 1, &tier));
  return tier;
}

static void save(speckv_key key) {
  const speckv_block block = {key, &segment, 1, SPECKV_NO_POSITION, 0};
  speckv_op* op = NULL;
  OK(speckv_store_save(store, &block, 1, NULL, &op));
  OK(speckv_op_wait(op, SPECKV_FOREVER));
  speckv_op_free(op);
}

/* Blocks that only the slow tier has: the fast one is full and held meanwhile. */
static void save_below(void) {
  enum { kMost = 64 };
  speckv_key fillers[kMost];
  speckv_pin* pins[kMost];
  size_t count = 0, pinned = 0, erased = 0;
  for (;;) {
    CHECK(count < kMost);
    fillers[count].high = 99;
    fillers[count].low = count;
    save(fillers[count]);
    if (tier_of(fillers[count++]) != 0) break;
    OK(speckv_store_pin(store, &fillers[count - 1], &pins[pinned++]));
  }
  for (uint64_t i = 0; i < kBlocks; ++i) {
    keys[i].high = 1;
    keys[i].low = i;
    save(keys[i]);
    CHECK(tier_of(keys[i]) == 1);
  }
  while (pinned > 0)
    speckv_pin_free(pins[--pinned]);
  OK(speckv_store_erase(store, fillers, count, &erased));
}

static void open_two_tiers(void) {
  speckv_tier_options tiers[2] = {
      {.size = sizeof(speckv_tier_options), .device = "dram:32K", .name = "fast"},
      {.size = sizeof(speckv_tier_options), .device = "soft:256K", .name = "slow"}};
  speckv_store_options options = {.size = sizeof options,
                                  .layouts = &kLayout,
                                  .layout_count = 1,
                                  .tiers = tiers,
                                  .tier_count = 2};
  OK(speckv_store_open(&options, &store));
  OK(speckv_store_attach(store, memory, kBytes, &segment.region));
  OK(speckv_completions_create(&completions));
  save_below();
}

static void close_two_tiers(void) {
  OK(speckv_completions_free(completions));
  OK(speckv_store_close(store));
}

#endif /* TESTS_CAPI_TWO_TIERS_H */

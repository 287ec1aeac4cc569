/* Keeps a shared store open for those who look at it: hold_store NAME. Saves some blocks,
 * answers two requests that read them, says "ready", and ends when its standard input
 * does. */
#include <string.h>

#include "../check.h"

enum { kBlocks = 8, kBytes = 4096 };

static void request(speckv_prefetcher* prefetcher, const speckv_key* keys, size_t count) {
  (void)speckv_prefetcher_arrived(prefetcher, 1);
  OK(speckv_prefetcher_finished(prefetcher, 1, keys, count, NULL));
}

int main(int argc, char** argv) {
  static const speckv_layout layout = {2, 2, 16, 16, SPECKV_F16, SPECKV_KV, {0, 0}};
  static unsigned char memory[kBytes];
  speckv_tier_options tiers[2] = {{.size = sizeof tiers[0]}, {.size = sizeof tiers[0]}};
  speckv_store_options options = {.size = sizeof options};
  speckv_store* store = NULL;
  speckv_segment segment = {0};
  speckv_key keys[kBlocks];
  speckv_prefetcher_options quiet = {.size = sizeof quiet, .sources = SPECKV_OFF};
  speckv_prefetcher* prefetcher = NULL;
  uint32_t n;
  CHECK(argc == 2);
  tiers[0].device = "dram:1M";
  tiers[1].device = "dram:2M";
  tiers[1].codec = "int8";
  tiers[1].name = "second";
  options.layouts = &layout;
  options.layout_count = 1;
  options.tiers = tiers;
  options.tier_count = 2;
  options.name = argv[1];
  OK(speckv_store_open(&options, &store));
  OK(speckv_store_attach(store, memory, sizeof memory, &segment.region));
  segment.length = kBytes;
  for (n = 0; n < kBlocks; ++n) {
    speckv_block block;
    speckv_op* op = NULL;
    memset(&block, 0, sizeof block);
    OK(speckv_key_from(&n, sizeof n, "salt", 4, &block.key));
    keys[n] = block.key;
    block.segments = &segment;
    block.segment_count = 1;
    OK(speckv_store_save(store, &block, 1, NULL, &op));
    OK(speckv_op_wait(op, SPECKV_FOREVER));
    speckv_op_free(op);
  }
  OK(speckv_prefetcher_create(store, &quiet, &prefetcher));
  request(prefetcher, keys, kBlocks / 2);
  request(prefetcher, keys, kBlocks);
  puts("ready");
  fflush(stdout);
  while (getchar() != EOF) {}
  speckv_prefetcher_free(prefetcher);
  OK(speckv_store_close(store));
  OK(speckv_store_remove(argv[1]));
  return 0;
}

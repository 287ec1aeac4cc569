/* A user's program: one block into a software device and back. */
#include <cxlspeckv/cxlspeckv.h>
#include <stdio.h>
#include <string.h>

enum {
  kBlockBytes = 4096
}; /* 2 layers x K, V x 2 heads x 16 tokens x 16 channels x f16 */

static unsigned char memory[2][kBlockBytes];

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, speckv_last_error());
  return 1;
}

static int finish(speckv_op* op, const char* what) {
  const speckv_status status = speckv_op_wait(op, 5000000000u);
  speckv_op_free(op);
  return status == SPECKV_STATUS_OK ? 0 : fail(what);
}

int main(void) {
  const speckv_layout layout = {2, 2, 16, 16, SPECKV_F16, SPECKV_KV, {0, 0}};
  speckv_tier_options tier = {.size = sizeof tier, .device = "soft:?size=64M"};
  speckv_store_options options = {.size = sizeof options,
                                  .layouts = &layout,
                                  .layout_count = 1,
                                  .tiers = &tier,
                                  .tier_count = 1};
  speckv_store* store = NULL;
  speckv_op* op = NULL;
  speckv_segment segment = {0, kBlockBytes, 0, 0};
  speckv_block block = {.segments = &segment, .segment_count = 1};

  memset(memory[0], 0x5A, kBlockBytes);
  if (speckv_store_open(&options, &store) != SPECKV_STATUS_OK) return fail("open");
  if (speckv_store_attach(store, memory, sizeof memory, &segment.region) !=
      SPECKV_STATUS_OK)
    return fail("attach");
  if (speckv_key_from("a name", 6, "salt", 4, &block.key) != SPECKV_STATUS_OK)
    return fail("key");

  if (speckv_store_save(store, &block, 1, NULL, &op) != SPECKV_STATUS_OK)
    return fail("save");
  if (finish(op, "save") != 0) return 1;
  segment.offset = kBlockBytes;
  if (speckv_store_load(store, &block, 1, NULL, &op) != SPECKV_STATUS_OK)
    return fail("load");
  if (finish(op, "load") != 0) return 1;

  if (memcmp(memory[0], memory[1], kBlockBytes) != 0) return 1;
  if (speckv_store_close(store) != SPECKV_STATUS_OK) return fail("close");
  puts("the block came back");
  return 0;
}

/* test_prefetch: prefetches of card memory by the driver and by the library's call change
 * what is fast, never what is read; bad ones are refused. */
#include <speckv.h>

#include "card.h"

enum { kBytes = 1 << 20 };

static void the_driver_takes_prefetches(void) {
  const int card = open_card();
  struct speckv_region_create made = {0};
  made.length = kBytes;
  CHECK(CALL(card, SPECKV_IOC_REGION_CREATE, &made) == 0);
  unsigned char* bytes =
      (unsigned char*)mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, card,
                           (off_t)made.out_mmap_offset);
  CHECK(bytes != MAP_FAILED);
  uint32_t i;
  for (i = 0; i < kBytes; ++i)
    bytes[i] = (unsigned char)(i % 251);
  for (i = 0; i < 16; ++i) {
    struct speckv_prefetch args = {0};
    args.region = made.out_id;
    args.offset = (uint64_t)i * (kBytes / 16);
    args.length = kBytes / 16;
    CHECK(CALL(card, SPECKV_IOC_PREFETCH, &args) == 0);
  }
  for (i = 0; i < kBytes; ++i)
    CHECK(bytes[i] == i % 251);
  struct speckv_prefetch bad = {0};
  bad.region = made.out_id;
  bad.length = kBytes + 1;
  CHECK(CALL(card, SPECKV_IOC_PREFETCH, &bad) == EINVAL);
  bad.length = 0;
  CHECK(CALL(card, SPECKV_IOC_PREFETCH, &bad) == EINVAL);
  munmap(bytes, kBytes);
  close(card);
}

static void the_library_stages_what_follows(void) {
  const int32_t tokens[3] = {5, 6, 7};
  speckv_handle_t handle = 0;
  void* memory = NULL;
  char name[256];
  uint32_t i;
  snprintf(name, sizeof name, "%s?size=4M&window=256K", card_name());
  CHECK(speckv_init(name) == SPECKV_OK);
  CHECK(speckv_alloc(kBytes, NULL, &handle) == SPECKV_OK);
  for (i = 0; i < kBytes; i += 4096) {
    CHECK(speckv_access(handle, i, 4096, &memory) == SPECKV_OK);
    memset(memory, (int)(i / 4096 % 199), 4096);
  }
  for (i = 0; i < kBytes; i += 4096) {
    const speckv_status_t asked = speckv_prefetch(1, 0, i / 4096, 4, tokens, 3);
    CHECK(asked == SPECKV_OK || asked == SPECKV_ERR_GENERAL); /* its queue is full */
    CHECK(speckv_access(handle, i, 4096, &memory) == SPECKV_OK);
    CHECK(((unsigned char*)memory)[17] == i / 4096 % 199);
  }
  CHECK(speckv_prefetch(1, 0, 0, 17, tokens, 3) == SPECKV_ERR_INVAL);
  speckv_finalize();
}

int main(void) {
  the_driver_takes_prefetches();
  the_library_stages_what_follows();
  puts("test_prefetch: passed");
  return 0;
}

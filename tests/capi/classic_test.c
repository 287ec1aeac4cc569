/* The published calls (test_c_api): codes, states, arguments, and that a program which
 * knows only the published header works. */
#include <speckv.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

#define GOOD(call) EXPECT(SPECKV_OK, call)
#define INVAL(call) EXPECT(SPECKV_ERR_INVAL, call)

static const int32_t tokens[4] = {1, 2, 3, 4};

static void codes_and_types_are_the_published_ones(void) {
  CHECK(SPECKV_OK == 0 && SPECKV_ERR_GENERAL == -1 && SPECKV_ERR_DRIVER == -2);
  CHECK(SPECKV_ERR_NOMEM == -3 && SPECKV_ERR_INVAL == -4);
  CHECK(SPECKV_COMP_FP16 == 0 && SPECKV_COMP_INT8 == 1);
  CHECK(SPECKV_COMP_INT8_DELTA_RLE == 2);
  CHECK(sizeof(speckv_handle_t) == 8 && sizeof(speckv_alloc_hint_t) == 8);
}

static void signatures_are_the_published_ones(void) {
  speckv_status_t (*const init)(const char*) = speckv_init;
  void (*const finalize)(void) = speckv_finalize;
  speckv_status_t (*const alloc)(size_t, const speckv_alloc_hint_t*, speckv_handle_t*) =
      speckv_alloc;
  speckv_status_t (*const free_)(speckv_handle_t) = speckv_free;
  speckv_status_t (*const access_)(speckv_handle_t, uint64_t, size_t, void**) =
      speckv_access;
  speckv_status_t (*const prefetch)(uint32_t, uint16_t, uint32_t, uint32_t,
                                    const int32_t*, uint32_t) = speckv_prefetch;
  speckv_status_t (*const set_depth)(uint32_t) = speckv_set_prefetch_depth;
  speckv_status_t (*const set_scheme)(speckv_comp_scheme_t) =
      speckv_set_compression_scheme;
  CHECK(init && finalize && alloc && free_ && access_ && prefetch); /* it compiles */
  CHECK(set_depth && set_scheme);
}

static void calls_without_a_device_are_refused(void) {
  speckv_handle_t handle = 5;
  void* memory = NULL;
  INVAL(speckv_alloc(1, NULL, &handle));
  INVAL(speckv_free(1));
  INVAL(speckv_access(1, 0, 1, &memory));
  INVAL(speckv_prefetch(1, 0, 0, 4, tokens, 4));
  INVAL(speckv_set_prefetch_depth(4));
  INVAL(speckv_set_compression_scheme(SPECKV_COMP_FP16));
  CHECK(handle == 5 && memory == NULL);
  CHECK(strstr(speckv_last_error(), "speckv_init") != NULL);
  speckv_finalize();
}

static void a_second_init_is_an_error_and_init_after_finalize_works(void) {
  speckv_handle_t handle = 0, again = 0;
  void* memory = NULL;
  GOOD(speckv_init("soft:?size=4M"));
  EXPECT(SPECKV_ERR_GENERAL, speckv_init("soft:?size=4M"));
  GOOD(speckv_alloc(100, NULL, &handle));
  speckv_finalize();
  INVAL(speckv_access(handle, 0, 1, &memory));
  CHECK(strstr(speckv_last_error(), "no device is open") != NULL);
  INVAL(speckv_free(handle));
  CHECK(strstr(speckv_last_error(), "no device is open") != NULL);
  GOOD(speckv_init("soft:?size=4M"));
  INVAL(speckv_access(handle, 0, 1, &memory)); /* a stale handle */
  CHECK(strstr(speckv_last_error(), "no such handle") != NULL);
  INVAL(speckv_free(handle));
  CHECK(strstr(speckv_last_error(), "no such handle") != NULL);
  CHECK(memory == NULL);
  GOOD(speckv_alloc(100, NULL, &again));
  CHECK(again != handle);
  speckv_finalize();
  speckv_finalize();
}

static void what_cannot_be_opened_is_a_driver_error(void) {
  INVAL(speckv_init(NULL));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("/dev/speckv99"));
  CHECK(strstr(speckv_last_error(), "driver") != NULL);
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("/dev/speckv99?window=1K"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init(""));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("cuda:0"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("soft:?size=0"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("soft:?size=1K"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("soft:?size=1M&window=1K"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("soft:?size=1M&window=1M&window=1M"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("soft:?size=1M&colour=red"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("file:/no/such/folder/pool?size=1M"));
  EXPECT(SPECKV_ERR_DRIVER, speckv_init("numa:4095"));
  char path[64], device[96];
  snprintf(path, sizeof path, "/tmp/speckv-classic-%d", (int)getpid());
  for (size_t scheme = 0; scheme < 2; ++scheme) { /* too small for a page */
    snprintf(device, sizeof device, "%s:%s?size=12K", scheme == 0 ? "file" : "dax", path);
    EXPECT(SPECKV_ERR_DRIVER, speckv_init(device));
    CHECK(access(path, F_OK) != 0);
  }
}

static bool has_node_0(void) { /* false: the kernel or the container has no NUMA */
  const speckv_status_t opened = speckv_init("numa:0?size=1M");
  if (opened == SPECKV_OK) {
    speckv_finalize();
    return true;
  }
  CHECK(opened == SPECKV_ERR_DRIVER);
  printf("    not tried: %s\n", speckv_last_error());
  return false;
}

static void devices_may_leave_their_size_out(void) {
  speckv_handle_t handle = 0;
  GOOD(speckv_init("soft:"));
  GOOD(speckv_alloc((size_t)1 << 30, NULL, &handle));
  EXPECT(SPECKV_ERR_NOMEM, speckv_alloc(1, NULL, &handle));
  speckv_finalize();
  GOOD(speckv_init("dram:?window=1M"));
  speckv_finalize();
}

static void arguments_are_checked(void) {
  speckv_alloc_hint_t hint = {0, 0};
  speckv_handle_t handle = 0, untouched = 77;
  void* memory = &hint;
  GOOD(speckv_init("soft:?size=4M"));
  INVAL(speckv_alloc(0, &hint, &untouched));
  INVAL(speckv_alloc(1, &hint, NULL));
  hint.reserved = 1;
  INVAL(speckv_alloc(1, &hint, &untouched));
  CHECK(untouched == 77);
  hint.reserved = 0;
  hint.preferred_node = 0xFFFFFFFF; /* a preference for a node that is not there */
  GOOD(speckv_alloc(1000, &hint, &handle));

  INVAL(speckv_access(handle, 0, 0, &memory));
  INVAL(speckv_access(handle, 0, 1, NULL));
  INVAL(speckv_access(handle, 0, 1001, &memory));
  INVAL(speckv_access(handle, 1000, 1, &memory));
  INVAL(speckv_access(handle, UINT64_MAX, 2, &memory));
  INVAL(speckv_access(handle, 2, SIZE_MAX, &memory));
  INVAL(speckv_access(handle + 1, 0, 1, &memory));
  INVAL(speckv_access(0, 0, 1, &memory));
  CHECK(memory == &hint);
  GOOD(speckv_access(handle, 999, 1, &memory));
  GOOD(speckv_access(handle, 0, 1000, &memory));

  INVAL(speckv_prefetch(1, 0, 0, 0, tokens, 4));
  INVAL(speckv_prefetch(1, 0, 0, 17, tokens, 4));
  INVAL(speckv_prefetch(1, 0, 0, 4, NULL, 4));
  INVAL(speckv_prefetch(1, 0, 0, 4, tokens, 0));
  GOOD(speckv_prefetch(1, 0, 0, 1, tokens, 4));
  GOOD(speckv_prefetch(1, 65535, UINT32_MAX, 16, tokens, 4));
  INVAL(speckv_set_prefetch_depth(0));
  INVAL(speckv_set_prefetch_depth(17));
  GOOD(speckv_set_prefetch_depth(1));
  GOOD(speckv_set_prefetch_depth(16));
  INVAL(speckv_set_compression_scheme((speckv_comp_scheme_t)3));
  GOOD(speckv_set_compression_scheme(SPECKV_COMP_INT8_DELTA_RLE));

  GOOD(speckv_free(handle));
  INVAL(speckv_free(handle)); /* twice */
  INVAL(speckv_access(handle, 0, 1, &memory));
  INVAL(speckv_free(0));
  speckv_finalize();
}

/* The handle's memory, before and after its pages were pushed out by another's. */
static void a_published_program_works_on(const char* device) {
  speckv_alloc_hint_t hint = {0, 0};
  speckv_handle_t a = 0, b = 0;
  uint64_t offset;
  void* memory = NULL;
  GOOD(speckv_init(device));
  GOOD(speckv_alloc(1 << 20, &hint, &a));
  GOOD(speckv_alloc(1 << 20, &hint, &b));
  CHECK(a != b);
  for (offset = 0; offset < 1 << 20; offset += 4096) {
    GOOD(speckv_access(a, offset, 4096, &memory));
    memset(memory, (int)(offset / 4096 % 251), 4096);
  }
  for (offset = 0; offset < 1 << 20; offset += 4096) {
    GOOD(speckv_access(b, offset, 4096, &memory));
    CHECK(*(unsigned char*)memory == 0); /* new memory is zero */
    memset(memory, 0xAB, 4096);
  }
  GOOD(speckv_prefetch(1, 0, 100, 4, tokens, 4));
  for (offset = 0; offset < 1 << 20; offset += 4096) {
    GOOD(speckv_access(a, offset, 4096, &memory));
    CHECK(((unsigned char*)memory)[0] == offset / 4096 % 251);
    CHECK(((unsigned char*)memory)[4095] == offset / 4096 % 251);
  }
  GOOD(speckv_free(a));
  GOOD(speckv_free(b));
  speckv_finalize();
}

static void a_published_program_works_on_every_device(void) {
  char name[3][256];
  const char* folder = getenv("TMPDIR");
  const long mine = (long)getpid();
  if (folder == NULL) folder = "/var/tmp";
  snprintf(name[1], sizeof name[1], "dax:%s/speckv-%ld.dax?size=8M&window=256K", folder,
           mine);
  snprintf(name[2], sizeof name[2], "shm:/speckv-%ld?size=4M&window=256K", mine);
  if (getenv("SPECKV_TEST_CARD") != NULL) { /* /dev/speckv0, as in the guest */
    snprintf(name[0], sizeof name[0], "%s?size=4M&window=256K",
             getenv("SPECKV_TEST_CARD"));
    a_published_program_works_on(name[0]);
    a_published_program_works_on(getenv("SPECKV_TEST_CARD"));
  }
  snprintf(name[0], sizeof name[0], "file:%s/speckv-%ld.pool?size=8M&window=256K", folder,
           mine);
  a_published_program_works_on("soft:?size=4M&window=256K");
  a_published_program_works_on("dram:4M?window=256K");
  if (has_node_0()) a_published_program_works_on("numa:0?size=4M&window=256K");
  a_published_program_works_on("soft:?size=4M&window=256K&throttle=cxl");
  a_published_program_works_on(name[0]);
  a_published_program_works_on(name[0]); /* over what the first one left */
  a_published_program_works_on(name[1]);
  a_published_program_works_on(name[2]);
  CHECK(unlink(strchr(strtok(name[0], "?"), '/')) == 0);
  CHECK(unlink(strchr(strtok(name[1], "?"), '/')) == 0);
  CHECK(shm_unlink(strchr(strtok(name[2], "?"), '/')) == 0);
}

int main(void) {
  RUN(codes_and_types_are_the_published_ones);
  RUN(signatures_are_the_published_ones);
  RUN(calls_without_a_device_are_refused);
  RUN(a_second_init_is_an_error_and_init_after_finalize_works);
  RUN(what_cannot_be_opened_is_a_driver_error);
  RUN(devices_may_leave_their_size_out);
  RUN(arguments_are_checked);
  RUN(a_published_program_works_on_every_device);
  return 0;
}

/* The published calls as an allocator (test_allocator): what is counted, what comes back,
 * and the defects that such an allocator is known to have had. */
#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <speckv.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

#define GOOD(call) EXPECT(SPECKV_OK, call)
#define NOMEM(call) EXPECT(SPECKV_ERR_NOMEM, call)

enum { kPage = 64 << 10, kMiB = 1 << 20 };

static const int32_t tokens[1] = {7};

static speckv_handle_t take(size_t bytes) {
  speckv_handle_t handle = 0;
  GOOD(speckv_alloc(bytes, NULL, &handle));
  return handle;
}

static unsigned char* at(speckv_handle_t handle, uint64_t offset, size_t length) {
  void* memory = NULL;
  GOOD(speckv_access(handle, offset, length, &memory));
  return (unsigned char*)memory;
}

/* Bytes that depend on the handle and on every digit of the offset. */
static unsigned char byte_of(speckv_handle_t handle, uint64_t offset) {
  const uint64_t x = (handle * 1000003 + offset) * UINT64_C(0x9E3779B97F4A7C15);
  return (unsigned char)(x >> 56);
}

static void fill(speckv_handle_t handle, uint64_t bytes, size_t step) {
  uint64_t offset, i;
  for (offset = 0; offset < bytes; offset += step) {
    const size_t length = bytes - offset < step ? (size_t)(bytes - offset) : step;
    unsigned char* memory = at(handle, offset, length);
    for (i = 0; i < length; ++i)
      memory[i] = byte_of(handle, offset + i);
  }
}

static void check(speckv_handle_t handle, uint64_t bytes, size_t step) {
  uint64_t offset, i;
  for (offset = 0; offset < bytes; offset += step) {
    const size_t length = bytes - offset < step ? (size_t)(bytes - offset) : step;
    const unsigned char* memory = at(handle, offset, length);
    for (i = 0; i < length; ++i)
      CHECK(memory[i] == byte_of(handle, offset + i));
  }
}

/* D03: capacity counted in allocations instead of bytes. */
static void capacity_is_counted_in_bytes(void) {
  speckv_handle_t many[1000], rest = 0, untouched = 9;
  size_t i;
  GOOD(speckv_init("soft:?size=1M"));
  NOMEM(speckv_alloc(kMiB + 1, NULL, &untouched));
  CHECK(untouched == 9);
  for (i = 0; i < 1000; ++i)
    many[i] = take(1000);
  NOMEM(speckv_alloc(kMiB - 1000 * 1000 + 1, NULL, &untouched));
  rest = take(kMiB - 1000 * 1000);
  NOMEM(speckv_alloc(1, NULL, &untouched));
  GOOD(speckv_free(many[500]));
  NOMEM(speckv_alloc(1001, NULL, &untouched));
  many[500] = take(1000);
  for (i = 0; i < 1000; ++i)
    GOOD(speckv_free(many[i]));
  GOOD(speckv_free(rest));
  GOOD(speckv_free(take(kMiB)));
  speckv_finalize();
}

/* D11: memory of any size at a user's word. */
static void absurd_sizes_are_refused_at_once(void) {
  speckv_handle_t untouched = 9;
  GOOD(speckv_init("soft:?size=1M"));
  (void)take(1000);
  NOMEM(speckv_alloc(SIZE_MAX, NULL, &untouched));
  NOMEM(speckv_alloc(SIZE_MAX - 500, NULL, &untouched));
  NOMEM(speckv_alloc((size_t)1 << 47, NULL, &untouched));
  CHECK(untouched == 9);
  speckv_finalize();
}

/* D02: a free of several pages that leaks. */
static void a_free_gives_every_page_back(void) {
  int round;
  GOOD(speckv_init("soft:?size=4M&window=256K"));
  for (round = 0; round < 40; ++round) { /* ten devices full */
    const size_t bytes = (size_t)kMiB * 4 - (size_t)round * 4099;
    const speckv_handle_t handle = take(bytes);
    fill(handle, bytes, kPage);
    if (round % 8 == 0) check(handle, bytes, kPage);
    GOOD(speckv_free(handle));
  }
  speckv_finalize();
}

/* D05: handles that alias beyond 1 MiB; D06: an access that ignores its length; D17: a
 * page offset added twice. */
static void large_handles_do_not_alias_and_spans_cross_pages(void) {
  speckv_handle_t handles[3];
  size_t i;
  GOOD(speckv_init("soft:?size=16M&window=1M"));
  for (i = 0; i < 3; ++i)
    handles[i] = take(5 * kMiB);
  for (i = 0; i < 3; ++i)
    fill(handles[i], 5 * kMiB, 777777); /* spans that begin and end within pages */
  for (i = 0; i < 3; ++i)
    check(handles[i], 5 * kMiB, 333333);
  for (i = 0; i < 3; ++i)
    check(handles[i], 5 * kMiB, 5 * kMiB); /* more than the window at once */
  speckv_finalize();
}

/* D01: eviction that deadlocks. Every page of every handle is covered by a pointer. */
static void pointers_stay_valid_while_others_need_room(void) {
  enum { kHandles = 32 };
  speckv_handle_t handles[kHandles];
  unsigned char* memory[kHandles];
  size_t i, j;
  GOOD(speckv_init("soft:?size=4M&window=128K"));
  for (i = 0; i < kHandles; ++i) {
    handles[i] = take(2 * kPage);
    memory[i] = at(handles[i], 0, 2 * kPage);
    memset(memory[i], (int)i + 1, 2 * kPage);
  }
  for (i = 0; i < kHandles; ++i) {
    for (j = 0; j < 2 * kPage; j += 511)
      CHECK(memory[i][j] == i + 1);
  }
  /* Down to one page each: the others may go, and come back. */
  for (i = 0; i < kHandles; ++i)
    (void)at(handles[i], kPage, 1);
  for (i = 0; i < kHandles; ++i)
    CHECK(*at(handles[i], 17, 1) == i + 1 && *at(handles[i], 2 * kPage - 1, 1) == i + 1);
  speckv_finalize();
}

static void small_handles_take_little_and_keep_their_bytes(void) {
  enum { kHandles = 3000 };
  static speckv_handle_t handles[kHandles];
  size_t i;
  GOOD(speckv_init("soft:?size=16M&window=64K"));
  for (i = 0; i < kHandles; ++i) {
    handles[i] = take(i + 1);
    fill(handles[i], i + 1, kPage);
  }
  for (i = 0; i < kHandles; ++i)
    check(handles[i], i + 1, 1000);
  for (i = 0; i < kHandles; i += 2)
    GOOD(speckv_free(handles[i]));
  for (i = 1; i < kHandles; i += 2)
    check(handles[i], i + 1, 1000);
  speckv_finalize();
}

/* ---- schemes */

static uint16_t half_of(unsigned index) { /* finite, of many sizes, signs alternating */
  return (uint16_t)((index * 2654435761U >> 18 & 0x3FFF) % 0x3C00 | (index & 1) << 15);
}

static double value_of(uint16_t half) {
  const int exponent = half >> 10 & 31;
  const double mantissa = half & 1023;
  const double magnitude =
      exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
  return half >> 15 ? -magnitude : magnitude;
}

/* Other pages go through the window until nothing of earlier is left in it. */
static void push_everything_out(void) {
  const speckv_handle_t other = take(kMiB);
  uint64_t offset;
  for (offset = 0; offset < kMiB; offset += kPage)
    *at(other, offset, 1) = 1;
  GOOD(speckv_free(other));
}

enum { kHalves = 4 * kPage / 2 };

/* The second value of each page is `second`, if that is not 0. */
static void write_halves(speckv_handle_t handle, uint16_t second) {
  static uint16_t halves[kHalves];
  unsigned i;
  for (i = 0; i < kHalves; ++i)
    halves[i] = second != 0 && i % (kPage / 2) == 1 ? second : half_of(i);
  memcpy(at(handle, 0, sizeof halves), halves, sizeof halves);
  (void)at(handle, 4 * kPage, 1); /* another page: the others are no longer covered */
}

/* Within the stated bound of what was written; returns how many values changed. */
static unsigned check_halves(speckv_handle_t handle) {
  static uint16_t halves[kHalves];
  unsigned row, i, changed = 0;
  memcpy(halves, at(handle, 0, sizeof halves), sizeof halves);
  for (row = 0; row < kHalves; row += 128) {
    double most = 0;
    for (i = row; i < row + 128; ++i)
      most = fmax(most, fabs(value_of(half_of(i))));
    for (i = row; i < row + 128; ++i) {
      const double error = fabs(value_of(halves[i]) - value_of(half_of(i)));
      CHECK(error <= fmax(most / 200, ldexp(1, -24)));
      changed += halves[i] != half_of(i);
    }
  }
  return changed;
}

static void schemes_keep_their_bounds_and_old_pages_decode(void) {
  const speckv_comp_scheme_t schemes[3] = {SPECKV_COMP_FP16, SPECKV_COMP_INT8,
                                           SPECKV_COMP_INT8_DELTA_RLE};
  speckv_handle_t handles[3];
  size_t i;
  GOOD(speckv_init("soft:?size=4M&window=64K"));
  for (i = 0; i < 3; ++i) {
    GOOD(speckv_set_compression_scheme(schemes[i]));
    handles[i] = take(5 * kPage);
    write_halves(handles[i], 0);
    push_everything_out();
  }
  GOOD(speckv_set_compression_scheme(SPECKV_COMP_FP16));
  CHECK(check_halves(handles[0]) == 0);
  CHECK(check_halves(handles[1]) > kHalves / 10); /* it did go through the codec */
  CHECK(check_halves(handles[2]) > kHalves / 10);
  speckv_finalize();
}

static void a_page_with_an_infinity_comes_back_as_it_was(void) {
  speckv_handle_t handle;
  const uint16_t infinity = 0x7C00;
  size_t page;
  GOOD(speckv_init("soft:?size=4M&window=64K"));
  GOOD(speckv_set_compression_scheme(SPECKV_COMP_INT8));
  handle = take(5 * kPage);
  write_halves(handle, infinity);
  push_everything_out();
  for (page = 0; page < 4; ++page) {
    const unsigned char* memory = at(handle, page * kPage, kPage);
    unsigned i;
    for (i = 0; i < kPage / 2; ++i) {
      const uint16_t wanted =
          i == 1 ? infinity : half_of((unsigned)(page * kPage / 2 + i));
      CHECK(memcmp(memory + 2 * i, &wanted, 2) == 0);
    }
  }
  speckv_finalize();
}

/* ---- staging, threads, nodes */

/* D10: a partial submit that reports success. */
static void a_full_prefetch_queue_is_an_error_that_the_caller_sees(void) {
  enum { kRounds = 1000, kCalls = 200 };
  speckv_handle_t handle;
  int round, i, full = 0;
  GOOD(speckv_init("soft:?size=8M&window=2M&throttle=nvme"));
  handle = take(4 * kMiB);
  fill(handle, 4 * kMiB, kPage);
  for (round = 0; round < kRounds && !full; ++round) {
    (void)at(handle, (uint64_t)(round % 2) * 2 * kMiB, 1);
    for (i = 0; i < kCalls && !full; ++i) {
      const speckv_status_t status = speckv_prefetch(1, 0, 0, 16, tokens, 1);
      CHECK(status == SPECKV_OK || status == SPECKV_ERR_GENERAL);
      full = status == SPECKV_ERR_GENERAL;
    }
  }
  CHECK(full);
  CHECK(strstr(speckv_last_error(), "full") != NULL);
  check(handle, 4 * kMiB, kPage);
  speckv_finalize();
}

static void staged_pages_hold_what_was_written_and_may_be_written_again(void) {
  speckv_handle_t handle;
  uint64_t offset;
  GOOD(speckv_init("soft:?size=8M&window=512K"));
  handle = take(2 * kMiB);
  fill(handle, 2 * kMiB, kPage);
  for (offset = 0; offset < 2 * kMiB; offset += kPage) {
    (void)at(handle, offset, 1);
    GOOD(speckv_prefetch(1, 0, 0, 4, tokens, 1));
    *at(handle, offset + 5, 1) ^= 0xFF; /* after a staged copy was there, perhaps */
  }
  for (offset = 0; offset < 2 * kMiB; offset += kPage)
    *at(handle, offset + 5, 1) ^= 0xFF;
  check(handle, 2 * kMiB, kPage);
  speckv_finalize();
}

static void* churn(void* seed) {
  uint64_t random = *(const uint64_t*)seed;
  int round;
  for (round = 0; round < 60; ++round) {
    size_t bytes;
    speckv_handle_t handle;
    random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
    bytes = (size_t)(random >> 33) % (300 << 10) + 1;
    handle = take(bytes);
    fill(handle, bytes, 50000);
    (void)speckv_prefetch(1, 0, 0, 8, tokens, 1);
    check(handle, bytes, 70000);
    (void)at(handle, 0, 1);
    (void)speckv_prefetch(1, 0, 0, 16, tokens, 1); /* freed while it is staged */
    GOOD(speckv_free(handle));
  }
  return NULL;
}

static void threads_share_a_device(void) {
  enum { kThreads = 4 };
  pthread_t threads[kThreads];
  uint64_t seeds[kThreads];
  size_t i;
  GOOD(speckv_init("soft:?size=4M&window=256K&throttle=cxl"));
  for (i = 0; i < kThreads; ++i) {
    seeds[i] = i;
    CHECK(pthread_create(&threads[i], NULL, churn, &seeds[i]) == 0);
  }
  for (i = 0; i < kThreads; ++i)
    CHECK(pthread_join(threads[i], NULL) == 0);
  GOOD(speckv_free(take(4 * kMiB)));
  speckv_finalize();
}

/* Asks the kernel, without libnuma's headers: MPOL_PREFERRED is 1, MPOL_F_ADDR 2. */
static void the_node_hint_is_honoured(void) {
  const speckv_alloc_hint_t hint = {0, 0};
  speckv_handle_t handle = 0;
  unsigned long nodes[64] = {0};
  int mode = -1;
  GOOD(speckv_init("soft:?size=1M"));
  GOOD(speckv_alloc(kPage, &hint, &handle));
  *at(handle, 0, kPage) = 1;
  if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, at(handle, 0, 1), 2) ==
      0) {
    CHECK(mode == 1 && nodes[0] == 1);
  } else {
    printf("    not checked: this kernel answers no questions about memory policies\n");
  }
  speckv_finalize();
}

int main(void) {
  RUN(capacity_is_counted_in_bytes);
  RUN(absurd_sizes_are_refused_at_once);
  RUN(a_free_gives_every_page_back);
  RUN(large_handles_do_not_alias_and_spans_cross_pages);
  RUN(pointers_stay_valid_while_others_need_room);
  RUN(small_handles_take_little_and_keep_their_bytes);
  RUN(schemes_keep_their_bounds_and_old_pages_decode);
  RUN(a_page_with_an_infinity_comes_back_as_it_was);
  RUN(a_full_prefetch_queue_is_an_error_that_the_caller_sees);
  RUN(staged_pages_hold_what_was_written_and_may_be_written_again);
  RUN(threads_share_a_device);
  RUN(the_node_hint_is_honoured);
  return 0;
}

/* What the published test programs share: calls that end the program with a reason. */
#ifndef PUBLISHED_CARD_H
#define PUBLISHED_CARD_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "speckv_ioctl.h"

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not true: %s (errno %d)\n", __FILE__, __LINE__, \
              #condition, errno);                                             \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

/* 0 or the errno of an ioctl on a structure that begins with its size. */
#define CALL(card, number, args) \
  ((args)->size = (uint32_t)sizeof *(args), ioctl(card, number, args) == 0 ? 0 : errno)

static inline const char* card_name(void) {
  const char* name = getenv("SPECKV_TEST_CARD");
  return name != NULL ? name : "/dev/speckv0";
}

static inline int open_card(void) {
  const int card = open(card_name(), O_RDWR | O_CLOEXEC);
  CHECK(card >= 0);
  return card;
}

/* Card memory; or, at an address, the caller's own. */
static inline uint32_t make_region(int card, size_t bytes, void* at) {
  struct speckv_region_create args = {0};
  args.flags = at != NULL ? SPECKV_REGION_USER : 0;
  args.length = bytes;
  args.user_va = (uintptr_t)at;
  CHECK(CALL(card, SPECKV_IOC_REGION_CREATE, &args) == 0);
  return args.out_id;
}

static inline uint32_t make_queue(int card, uint32_t depth) {
  struct speckv_queue_create args = {0};
  args.depth = depth;
  args.eventfd = -1;
  CHECK(CALL(card, SPECKV_IOC_QUEUE_CREATE, &args) == 0);
  return args.out_id;
}

#endif /* PUBLISHED_CARD_H */

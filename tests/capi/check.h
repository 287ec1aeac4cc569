/* capi/check.h -- what the C tests share: a test is a function, a failure ends the
 * program with the place and the library's own words. */
#ifndef TESTS_CAPI_CHECK_H
#define TESTS_CAPI_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "cxlspeckv/cxlspeckv.h"

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: not true: %s\n  last error: %s\n", __FILE__, __LINE__, \
              #condition, speckv_last_error());                                      \
      exit(1);                                                                       \
    }                                                                                \
  } while (0)

/* The call answers this status. */
#define EXPECT(status, call)                                                         \
  do {                                                                               \
    const int answer_ = (int)(call);                                                 \
    if (answer_ != (int)(status)) {                                                  \
      fprintf(stderr, "%s:%d: %s answered %d, not %d\n  last error: %s\n", __FILE__, \
              __LINE__, #call, answer_, (int)(status), speckv_last_error());         \
      exit(1);                                                                       \
    }                                                                                \
  } while (0)
#define OK(call) EXPECT(SPECKV_STATUS_OK, call)
#define REFUSED(call) EXPECT(SPECKV_STATUS_INVALID_ARGUMENT, call)

#define RUN(test)            \
  do {                       \
    printf("  %s\n", #test); \
    fflush(stdout);          \
    test();                  \
  } while (0)

#endif /* TESTS_CAPI_CHECK_H */

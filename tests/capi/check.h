/* capi/check.h -- what the C tests share: a test is a function, a failure ends the
 * program with the place and the library's own words. */
#ifndef TESTS_CAPI_CHECK_H
#define TESTS_CAPI_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cxlspeckv/cxlspeckv.h"

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: not true: %s\n  last error: %s\n", __FILE__, __LINE__, \
              #condition, speckv_last_error());                                      \
      exit(1);                                                                       \
    }                                                                                \
  } while (0)

/* A failure leaves a sentence of its own: one line, not just the status by name, and not
 * that of the failure before, which EXPECT() makes: "name is NULL". */
static inline bool check_says_why(const char* call, int answer) {
  const char* said = speckv_last_error();
  const bool stale =
      strcmp(said, "name is NULL") == 0 && strstr(call, "speckv_store_remove") == NULL;
  return strlen(said) >= 8 && strchr(said, '\n') == NULL && !stale &&
         strcmp(said, speckv_status_name((speckv_status)answer)) != 0;
}

/* The call answers this status, and, if that is a failure, says why. */
#define EXPECT(status, call)                                                             \
  do {                                                                                   \
    int answer_ = (int)(status);                                                         \
    if (answer_ != 0) (void)speckv_store_remove(NULL);                                   \
    answer_ = (int)(call);                                                               \
    if (answer_ != (int)(status)) {                                                      \
      fprintf(stderr, "%s:%d: %s answered %d, not %d\n  last error: %s\n", __FILE__,     \
              __LINE__, #call, answer_, (int)(status), speckv_last_error());             \
      exit(1);                                                                           \
    }                                                                                    \
    if (answer_ != 0 && !check_says_why(#call, answer_)) {                               \
      fprintf(stderr, "%s:%d: %s does not say why: \"%s\"\n", __FILE__, __LINE__, #call, \
              speckv_last_error());                                                      \
      exit(1);                                                                           \
    }                                                                                    \
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

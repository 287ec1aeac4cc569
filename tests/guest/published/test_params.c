/* test_params: prefetch depth and compression scheme, in the driver and in the library:
 * what is set is what is read, per open file; what is not in range is refused. */
#include <speckv.h>

#include "card.h"

static int set(int card, uint32_t param, uint64_t value) {
  struct speckv_param args = {0};
  args.param = param;
  args.value = value;
  return CALL(card, SPECKV_IOC_PARAM_SET, &args);
}

static uint64_t get(int card, uint32_t param) {
  struct speckv_param args = {0};
  args.param = param;
  CHECK(CALL(card, SPECKV_IOC_PARAM_GET, &args) == 0);
  return args.value;
}

static void the_driver_keeps_them_per_file(void) {
  const int card = open_card(), other = open_card();
  const uint64_t before = get(other, SPECKV_PARAM_PREFETCH_DEPTH);
  uint64_t depth;
  for (depth = 1; depth <= 16; ++depth) {
    CHECK(set(card, SPECKV_PARAM_PREFETCH_DEPTH, depth) == 0);
    CHECK(get(card, SPECKV_PARAM_PREFETCH_DEPTH) == depth);
  }
  CHECK(set(card, SPECKV_PARAM_PREFETCH_DEPTH, 0) == EINVAL);
  CHECK(set(card, SPECKV_PARAM_PREFETCH_DEPTH, 17) == EINVAL);
  CHECK(get(card, SPECKV_PARAM_PREFETCH_DEPTH) == 16);
  CHECK(get(other, SPECKV_PARAM_PREFETCH_DEPTH) == before);
  CHECK(set(card, SPECKV_PARAM_SCHEME, SPECKV_CODEC_RAW) == 0);
  CHECK(get(card, SPECKV_PARAM_SCHEME) == SPECKV_CODEC_RAW);
  CHECK(set(card, SPECKV_PARAM_SCHEME, 63) == EINVAL);
  CHECK(set(card, 99, 1) == EOPNOTSUPP);
  close(card);
  close(other);
}

static void the_library_checks_them(void) {
  CHECK(speckv_init(card_name()) == SPECKV_OK);
  CHECK(speckv_set_prefetch_depth(1) == SPECKV_OK);
  CHECK(speckv_set_prefetch_depth(16) == SPECKV_OK);
  CHECK(speckv_set_prefetch_depth(0) == SPECKV_ERR_INVAL);
  CHECK(speckv_set_prefetch_depth(17) == SPECKV_ERR_INVAL);
  CHECK(speckv_set_compression_scheme(SPECKV_COMP_FP16) == SPECKV_OK);
  CHECK(speckv_set_compression_scheme(SPECKV_COMP_INT8) == SPECKV_OK);
  CHECK(speckv_set_compression_scheme(SPECKV_COMP_INT8_DELTA_RLE) == SPECKV_OK);
  CHECK(speckv_set_compression_scheme((speckv_comp_scheme_t)7) == SPECKV_ERR_INVAL);
  speckv_finalize();
}

int main(void) {
  the_driver_keeps_them_per_file();
  the_library_checks_them();
  puts("test_params: passed");
  return 0;
}

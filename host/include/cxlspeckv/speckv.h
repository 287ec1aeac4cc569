/* cxlspeckv/speckv.h -- the published calls: handles of mutable memory on a device.
 *
 *   init     one device at a time. "/dev/speckvN", "soft:", "dram:", "numa:1",
 *            "file:/path?size=8G", "dax:/path", "shm:/name": docs/operations.md has the
 *            grammar; "/dev/speckvN" is short for "cxl:/dev/speckvN", and takes the same
 *            parameters. Without a size, soft:, dram: and numa: have 1 GiB, and a card
 *            what is left of its memory. window=SIZE is a parameter more: how much host
 *            memory holds pages that no pointer covers (an eighth of the capacity, at
 *            most 32 MiB).
 *   alloc    counts bytes: the sum of all sizes is at most the capacity of the device.
 *            New memory reads as zeros. The hint may be NULL; its node is preferred for
 *            what is resident, where the machine has that node.
 *   access   makes the span resident and contiguous. The pointer is good for reading and
 *            writing until the next call on its handle, whatever others do: what pointers
 *            cover is resident beyond the window. The rest is pushed out, least recently
 *            used first, to the device, in pages of at most 64 KiB.
 *   schemes  hold for what is pushed out from then on. Under FP16 bytes come back as they
 *            were. Under INT8 and INT8_DELTA_RLE memory counts as rows of 128
 *            little-endian f16 values, from offset 0 of the handle: a value comes back
 *            changed by at most max|row| / 200 each time (2^-24 if that is more). A page
 *            in which any of them is an infinity or a NaN comes back as it was.
 *   prefetch stages up to depth_k pages (and at most the prefetch depth) that follow the
 *            last access of the calling thread, and returns at once; the other arguments
 *            are for learned predictors. SPECKV_ERR_GENERAL: its queue is full; try
 *            later.
 *
 * Codes: ERR_INVAL: a bad argument, an unknown or freed handle, or no device is open.
 * ERR_NOMEM: no room. ERR_DRIVER: the device cannot be opened, or failed. ERR_GENERAL: a
 * device is open already, a queue is full, bytes failed their checksum, or a call timed
 * out. speckv_last_error() of cxlspeckv.h says more. Any thread may make any call.
 */
#ifndef CXLSPECKV_SPECKV_H
#define CXLSPECKV_SPECKV_H

#include <stddef.h>
#include <stdint.h>

#ifndef SPECKV_API
#define SPECKV_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  SPECKV_OK = 0,
  SPECKV_ERR_GENERAL = -1,
  SPECKV_ERR_DRIVER = -2,
  SPECKV_ERR_NOMEM = -3,
  SPECKV_ERR_INVAL = -4
} speckv_status_t;

typedef enum {
  SPECKV_COMP_FP16 = 0,
  SPECKV_COMP_INT8 = 1,
  SPECKV_COMP_INT8_DELTA_RLE = 2
} speckv_comp_scheme_t;

typedef struct {
  uint32_t preferred_node;
  uint32_t reserved; /* 0 */
} speckv_alloc_hint_t;

typedef uint64_t speckv_handle_t; /* never 0, never given out twice by a process */

SPECKV_API speckv_status_t speckv_init(const char* dev_path);
/* Frees every handle. Without a device it does nothing. */
SPECKV_API void speckv_finalize(void);

SPECKV_API speckv_status_t speckv_alloc(size_t bytes, const speckv_alloc_hint_t* hint,
                                        speckv_handle_t* out_handle);
/* Waits for what is still under way on the handle. */
SPECKV_API speckv_status_t speckv_free(speckv_handle_t handle);
SPECKV_API speckv_status_t speckv_access(speckv_handle_t handle, uint64_t offset_bytes,
                                         size_t length_bytes, void** out_ptr);

/* depth_k is 1 to 16; recent_tokens holds history_len >= 1 tokens. */
SPECKV_API speckv_status_t speckv_prefetch(uint32_t req_id, uint16_t layer,
                                           uint32_t cur_pos, uint32_t depth_k,
                                           const int32_t* recent_tokens,
                                           uint32_t history_len);
SPECKV_API speckv_status_t speckv_set_prefetch_depth(uint32_t depth_k); /* 1 to 16 */
SPECKV_API speckv_status_t speckv_set_compression_scheme(speckv_comp_scheme_t scheme);

#ifdef __cplusplus
}
#endif

#endif /* CXLSPECKV_SPECKV_H */

/* cxlspeckv/blocks.h -- blocks in and out of a store (part of cxlspeckv.h). */
#ifndef CXLSPECKV_BLOCKS_H
#define CXLSPECKV_BLOCKS_H

#include "cxlspeckv/cxlspeckv.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SPECKV_NO_POSITION UINT32_MAX
#define SPECKV_FOREVER UINT64_MAX

typedef struct speckv_op speckv_op;
typedef struct speckv_pin speckv_pin;

/* ---- memory ------------------------------------------------------------------------ */

/* Makes memory nameable in transfers, by an id that is never 0 and never reused.
 * INVALID_ARGUMENT: empty, or past the end of the address space. */
SPECKV_API speckv_status speckv_store_attach(speckv_store* store, void* memory,
                                             size_t bytes, uint32_t* region);
/* BUSY: an op still uses it. */
SPECKV_API speckv_status speckv_store_detach(speckv_store* store, uint32_t region);

typedef struct speckv_segment {
  uint64_t offset, length;
  uint32_t region;
  uint32_t reserved;
} speckv_segment;

/* One block and where it lies: segments which together are the plain block, or the layers
 * asked for. */
typedef struct speckv_block {
  speckv_key key;
  const speckv_segment* segments;
  size_t segment_count;
  uint32_t first_position; /* of save: of the first token, or SPECKV_NO_POSITION */
  uint32_t layout;         /* index */
} speckv_block;

/* ---- save and load ----------------------------------------------------------------- */

/* Whether an op's memory may be touched yet: what a GPU writes is ready, say. Asked again
 * until it says yes or the deadline passes. Must not block. */
typedef bool speckv_ready_fn(void* context);

enum { SPECKV_DURABLE = 1 }; /* flags; of save: to a persistent tier, done when flushed */

typedef struct speckv_transfer_options {
  size_t size;
  uint32_t first_layer, layer_count; /* of load; count 0: to the last */
  /* From now, for all of it: what is not done by then ends as TIMED_OUT, and its memory
   * is no longer lent. 0: the devices' own timeouts. */
  uint64_t deadline_ns;
  speckv_ready_fn* ready; /* or NULL */
  void* ready_context;
  speckv_completions* completions; /* told when the op is done, or NULL */
  uint64_t tag;                    /* repeated there */
  uint32_t tenant;                 /* charged for what is saved */
  uint32_t flags;
} speckv_transfer_options;

/* `options` may be NULL. OK once there is an op, whatever becomes of its blocks. A block
 * that is stored already is skipped by save, and that is a success. */
SPECKV_API speckv_status speckv_store_save(speckv_store* store,
                                           const speckv_block* blocks, size_t count,
                                           const speckv_transfer_options* options,
                                           speckv_op** op);
SPECKV_API speckv_status speckv_store_load(speckv_store* store,
                                           const speckv_block* blocks, size_t count,
                                           const speckv_transfer_options* options,
                                           speckv_op** op);

SPECKV_API bool speckv_op_done(const speckv_op* op); /* of NULL: true */
/* The first failure of a block; TIMED_OUT while it runs (nothing is given up). */
SPECKV_API speckv_status speckv_op_wait(speckv_op* op, uint64_t timeout_ns);
/* Ends what has not begun; the rest goes on. */
SPECKV_API speckv_status speckv_op_cancel(speckv_op* op);
/* How each block ended; `count` is the number of blocks. BUSY: it runs. */
SPECKV_API speckv_status speckv_op_results(const speckv_op* op, speckv_status* results,
                                           size_t count);
/* How many layers of a block's range have landed. It only grows. */
SPECKV_API speckv_status speckv_op_layers_ready(const speckv_op* op, size_t block,
                                                uint32_t* layers);
SPECKV_API void speckv_op_free(speckv_op* op); /* waits; NULL is fine */

/* ---- completions: one place to wait for many ops ------------------------------------
 */

typedef struct speckv_completion {
  uint64_t tag;
  speckv_status status; /* of the first block that failed */
  uint32_t reserved;
} speckv_completion;

SPECKV_API speckv_status speckv_completions_create(speckv_completions** completions);
/* An eventfd that is readable while there are entries; -1 of NULL. It stays the
 * library's: poll it, but neither read nor close it. */
SPECKV_API int speckv_completions_fd(const speckv_completions* completions);
/* Takes up to `capacity` entries without blocking. */
SPECKV_API speckv_status speckv_completions_drain(speckv_completions* completions,
                                                  speckv_completion* entries,
                                                  size_t capacity, size_t* count);
/* OK: there are entries. TIMED_OUT: not yet. */
SPECKV_API speckv_status speckv_completions_wait(speckv_completions* completions,
                                                 uint64_t timeout_ns);
/* BUSY: ops or prefetchers that report there are left. NULL is fine. */
SPECKV_API speckv_status speckv_completions_free(speckv_completions* completions);

/* ---- asking, moving, forgetting -----------------------------------------------------
 */

enum { SPECKV_ABSENT = -1, SPECKV_PENDING = -2 };

/* How many blocks at the front of `keys` can be loaded now, from whatever tier. */
SPECKV_API speckv_status speckv_store_match(const speckv_store* store,
                                            const speckv_key* keys, size_t count,
                                            size_t* matched);
/* Of each block: the fastest tier that has it, SPECKV_ABSENT or SPECKV_PENDING. */
SPECKV_API speckv_status speckv_store_lookup(const speckv_store* store,
                                             const speckv_key* keys, size_t count,
                                             int8_t* tiers);
/* Starts moving blocks to the fastest tier: a hint. BUSY: its queue is full. */
SPECKV_API speckv_status speckv_store_promote(speckv_store* store, const speckv_key* keys,
                                              size_t count);
/* Forgets blocks and says how many were there. Absent keys are fine. */
SPECKV_API speckv_status speckv_store_erase(speckv_store* store, const speckv_key* keys,
                                            size_t count, size_t* erased);

/* A lease: the block stays where it is (pin), or at least somewhere (retain), until
 * the pin is freed. NOT_FOUND: no such block. */
SPECKV_API speckv_status speckv_store_pin(speckv_store* store, const speckv_key* key,
                                          speckv_pin** pin);
SPECKV_API speckv_status speckv_store_retain(speckv_store* store, const speckv_key* key,
                                             speckv_pin** pin);
SPECKV_API void speckv_pin_free(speckv_pin* pin); /* NULL is fine */

#ifdef __cplusplus
}
#endif

#endif /* CXLSPECKV_BLOCKS_H */

/* cxlspeckv/cxlspeckv.h -- the C API: a stable ABI for C and other languages.
 *
 *   - Every call that can fail answers a status and hands its results back through its
 *     last arguments, which are untouched on failure. NULL for any pointer that is not
 *     marked "or NULL", an unknown flag and a reserved field that is not 0 are
 *     SPECKV_STATUS_INVALID_ARGUMENT. An array of 0 elements may be NULL.
 *   - Structs ending in _options begin with their own size, so that they may grow: an
 * older, smaller one is completed with zeros; of a newer, larger one the bytes that this
 *     library does not know must be 0. Zero in any field means the default. The elements
 *     of an array of them all have the size of the first.
 *   - speckv_last_error() says more about the calling thread's last failure.
 *   - Memory given to a call that makes an op stays the library's until the op is freed.
 *   - Any thread may use a store or a prefetcher. All other objects are for one thread at
 *     a time.
 *   - What an object was made from (a store, completions, a sequence) must outlive it:
 *     freeing that first is SPECKV_STATUS_BUSY and does nothing.
 *
 * This header: stores. cxlspeckv/blocks.h: what goes in and out. cxlspeckv/sequence.h:
 * the KV of one request, keys, addresses. cxlspeckv/prefetcher.h: KV there before it is
 * asked for; cxlspeckv/stream_prefetcher.h: what a stream uses next. Including this one
 * includes all five.
 */
#ifndef CXLSPECKV_CXLSPECKV_H
#define CXLSPECKV_CXLSPECKV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef SPECKV_API
#define SPECKV_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* docs/errors.md says what each means and what to do about it. */
typedef enum speckv_status {
  SPECKV_STATUS_OK = 0,
  SPECKV_STATUS_INVALID_ARGUMENT = 1,
  SPECKV_STATUS_NOT_FOUND = 2,
  SPECKV_STATUS_NO_SPACE = 3,
  SPECKV_STATUS_BUSY = 4,
  SPECKV_STATUS_CANCELLED = 5,
  SPECKV_STATUS_TIMED_OUT = 6,
  SPECKV_STATUS_CORRUPTED = 7,
  SPECKV_STATUS_IO_ERROR = 8,
  SPECKV_STATUS_UNSUPPORTED = 9,
  SPECKV_STATUS_INTERNAL = 10
} speckv_status;

SPECKV_API uint32_t speckv_version(void); /* major << 16 | minor << 8 | patch */
SPECKV_API const char* speckv_status_name(speckv_status status); /* never NULL */
/* Never NULL; "" when this thread has not failed; valid until its next failure. */
SPECKV_API const char* speckv_last_error(void);

/* The content name of a block. Equal keys name the same bytes. */
typedef struct speckv_key {
  uint64_t high, low;
} speckv_key;

/* ---- opening ----------------------------------------------------------------------- */

enum { SPECKV_F16 = 0, SPECKV_BF16 = 1, SPECKV_F32 = 2, SPECKV_F8E4M3 = 3 }; /* dtype */
enum {                                                                       /* kind */
       SPECKV_KV = 0,
       SPECKV_LATENT = 1,
       SPECKV_INTERLEAVED = 2,
       SPECKV_TRANSPOSED = 3,
       SPECKV_TILED = 4
};
enum { SPECKV_ALWAYS = 0, SPECKV_SECOND_TOUCH = 1 }; /* admission */
enum { SPECKV_LOG_INFO = 0, SPECKV_LOG_WARNING = 1, SPECKV_LOG_ERROR = 2 };

/* A plain block is [layer][K, then V][head][token][channel]; a latent one has one row a
 * token: [layer][head][token][channel]; an interleaved one is
 * [layer][head][token][K, then V][channel], and a transposed one has of each layer and
 * head first K [channel][token], then V [token][channel]; a tiled one has there K
 * [token / 16][channel / 2][token % 16][channel % 2], then V
 * [channel / 16][token / 2][channel % 16][token % 2]. */
typedef struct speckv_layout {
  uint32_t layers, kv_heads, head_dim, tokens;
  uint32_t dtype, kind;
  uint32_t reserved[2];
} speckv_layout;

typedef struct speckv_layer_codec {
  uint32_t first_layer, layer_count; /* count 0: to the last */
  const char* codec;
} speckv_layer_codec;

typedef struct speckv_tier_options {
  size_t size;
  const char* device; /* a URI: "dram:4G", "file:/path?size=8G"; required */
  const char* codec;  /* "raw" (NULL), "int8", "kvq4", ...: docs/codecs.md */
  const char* policy; /* "lru" (NULL), "lfu", "s3fifo", "arc", "semantic" */
  const char* name;   /* NULL: the URI's scheme and the tier's number, "dram0" */
  uint64_t capacity;  /* bytes of the device to use; 0: all */
  const speckv_layer_codec* layer_codecs; /* exceptions to codec; the last match counts */
  size_t layer_codec_count;
  uint32_t admission;
  uint32_t reserved;
} speckv_tier_options;

/* Called from any thread; must not call the library. The text is valid meanwhile. */
typedef void speckv_log_fn(void* context, uint32_t level, const char* text);

typedef struct speckv_store_options {
  size_t size;
  const speckv_layout* layouts; /* required; later named by their index */
  size_t layout_count;
  const speckv_tier_options* tiers; /* required; fastest first */
  size_t tier_count;
  const char* name;    /* NULL: private. Shared by name: "shm:/kv", a pool file's path */
  const void* profile; /* of the model, for codecs that want one, or NULL */
  size_t profile_bytes;
  uint64_t max_blocks; /* 0: what the tiers can hold */
  speckv_log_fn* log;  /* or NULL */
  void* log_context;
} speckv_store_options;

typedef struct speckv_store speckv_store;
typedef struct speckv_completions speckv_completions; /* of blocks.h */

SPECKV_API speckv_status speckv_store_open(const speckv_store_options* options,
                                           speckv_store** store);
/* BUSY: ops, pins, sequences or prefetchers of it are left. NULL is fine. */
SPECKV_API speckv_status speckv_store_close(speckv_store* store);
/* Forgets a shared store of that name, once nobody needs it; who has it open keeps it. */
SPECKV_API speckv_status speckv_store_remove(const char* name);

/* ---- running ----------------------------------------------------------------------- */

/* Makes what was saved so far durable where a persistent tier has room for it. */
SPECKV_API speckv_status speckv_store_flush(speckv_store* store);
/* From now on; stored blocks keep theirs and still decode. layer_count 0: to the last.
 * INVALID_ARGUMENT: no layout has these layers. */
SPECKV_API speckv_status speckv_store_set_codec(speckv_store* store, size_t tier,
                                                const char* codec, uint32_t first_layer,
                                                uint32_t layer_count);

/* Tenants are 0 to 65535. Bytes they may have stored in all tiers; 0: no limit. */
SPECKV_API speckv_status speckv_store_set_quota(speckv_store* store, uint32_t tenant,
                                                uint64_t bytes);
SPECKV_API speckv_status speckv_store_tenant_bytes(const speckv_store* store,
                                                   uint32_t tenant, uint64_t* bytes);
/* Erases all that a tenant has stored, and says how many blocks that was. */
SPECKV_API speckv_status speckv_store_purge(speckv_store* store, uint32_t tenant,
                                            size_t* erased);

/* ---- watching ---------------------------------------------------------------------- */

/* The caller sets `size`; only that much is filled in, and what a later version's struct
 * has more than this library's is 0. */
typedef struct speckv_tier_stats {
  size_t size;
  uint64_t capacity, used, pinned, plain_bytes; /* bytes; plain: of the blocks held */
  uint64_t blocks;
  uint64_t bytes_written, bytes_read;
  uint64_t hits, evictions, demotions_in, promotions_in;
  uint64_t saves_dropped; /* of tier 0: blocks whose save was answered with a failure, but
                           * for bad requests and cancelled ones */
  uint64_t corrupted, io_errors;
  uint32_t fenced; /* 1: the device fails, and the tier's blocks are misses */
  uint32_t reserved;
} speckv_tier_stats;

SPECKV_API size_t speckv_store_tier_count(const speckv_store* store); /* of NULL: 0 */
/* NOT_FOUND: no such tier. */
SPECKV_API speckv_status speckv_store_stats(const speckv_store* store, size_t tier,
                                            speckv_tier_stats* stats);

/* Visits every number that the store keeps, with a label such as "tier" = "dram0" (both
 * "" if there is none). Must not call the library. */
typedef void speckv_metric_fn(void* context, const char* name, const char* label,
                              const char* label_value, double value);
SPECKV_API speckv_status speckv_store_report(const speckv_store* store,
                                             speckv_metric_fn* visit, void* context);

#ifdef __cplusplus
}
#endif

#include "cxlspeckv/blocks.h"
#include "cxlspeckv/prefetcher.h"
#include "cxlspeckv/sequence.h"
#include "cxlspeckv/stream_prefetcher.h"

#endif /* CXLSPECKV_CXLSPECKV_H */

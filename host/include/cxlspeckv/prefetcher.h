/* cxlspeckv/prefetcher.h -- KV brought to a faster tier before it is asked for (part of
 * cxlspeckv.h).
 *
 * Sessions are conversations or agents, whose requests come with pauses between them; the
 * engine numbers them as it likes. In the pauses a prefetcher promotes what a session
 * will need, as it is told by hints or as it learned when sessions return, and the first
 * tier gives that up last. It has no thread, pins nothing, and does what is due in any
 * call below. */
#ifndef CXLSPECKV_PREFETCHER_H
#define CXLSPECKV_PREFETCHER_H

#include "cxlspeckv/cxlspeckv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Who is listened to; 0 is HINTED. OFF stands alone: it does nothing at all. */
enum { SPECKV_LEARNED = 1, SPECKV_HINTED = 2, SPECKV_OFF = 4 };

/* What is not done about it; 0: all is. */
enum { SPECKV_WITHOUT_STAGING = 1, SPECKV_WITHOUT_RETENTION = 2 };

typedef struct speckv_prefetcher_options {
  size_t size;
  uint32_t sources;
  uint32_t layout;         /* of all blocks; index */
  uint64_t chunk_bytes;    /* one promotion; 0: 64 MiB */
  uint64_t most_in_flight; /* bytes of all chunks; 0: 256 MiB */
  uint64_t learning_bytes; /* that a source may lose before it is silent, and at most the
                            * first tier's size; 0: 64 GiB */
  uint64_t hint_life_ns;   /* after its time that a hint is believed; 0: 10 s */
  uint64_t unread_life_ns; /* what was staged without one and not read by then counts as
                            * wasted; 0: 10 min */
  uint32_t sessions;       /* remembered at once, to 65536; 0: 4096 */
  uint32_t blocks;         /* of their chains together, to 2^28; 0: 2^20 */
  /* At which each tier is read; of the first: filled. NULL: 64e9, 28e9 and then 7e9. */
  const double* bytes_per_second;
  size_t bytes_per_second_count;   /* the store's tiers, or 0 */
  speckv_completions* completions; /* told of each chunk: call advance then. Or NULL */
  uint64_t tag;                    /* repeated there */
  uint32_t without;                /* SPECKV_WITHOUT_ */
  uint32_t reserved;
} speckv_prefetcher_options;

/* What is known of a request, for the predictor. NULL or zeros are fine. */
enum {
  SPECKV_BRINGS_TOOL_RESULT = 1, /* its input ends with what a tool answered */
  SPECKV_STOPS_FOR_TOOL = 2,     /* it stopped so that a tool is called */
  SPECKV_CALLS_TOOL = 4,         /* its output holds a call */
  SPECKV_SUB_AGENT = 8           /* it belongs to an agent that an agent started */
};
typedef struct speckv_request_options {
  size_t size;
  uint32_t input_tokens, output_tokens;
  uint32_t flags;
  uint32_t reserved;
} speckv_request_options;

/* Of one source. staged = useful + late + wasted + unread, in bytes of plain blocks. */
typedef struct speckv_prefetch_source {
  uint64_t chunks, displaced; /* begun; given up for a request */
  uint64_t staged;            /* arrived in a faster tier */
  uint64_t useful;            /* and were there when the session returned */
  uint64_t late;              /* and were on their way when it returned */
  uint64_t wasted;            /* and went again, or nobody came for them in time */
  uint64_t unread;            /* and wait */
  uint64_t pauses;            /* times that it was silenced because it lost */
} speckv_prefetch_source;

/* The caller sets `size`; only that much is filled in. */
typedef struct speckv_prefetch_stats {
  size_t size;
  uint64_t in_flight, peak_in_flight; /* bytes, now and at most so far */
  uint64_t sessions, blocks;          /* remembered */
  uint64_t failed;                    /* chunks of which nothing could be moved */
  speckv_prefetch_source learned, hinted;
  /* Bytes that the first tier kept, each time that its policy would have given them up.
   */
  uint64_t learned_retained, hinted_retained;
} speckv_prefetch_stats;

/* Any thread may use it, but for free. */
typedef struct speckv_prefetcher speckv_prefetcher;

/* `options` may be NULL. INVALID_ARGUMENT: an option out of its bounds, or there is no
 * slower tier. */
SPECKV_API speckv_status
speckv_prefetcher_create(speckv_store* store, const speckv_prefetcher_options* options,
                         speckv_prefetcher** prefetcher);
/* Waits for what the devices have; the rest is cancelled. NULL is fine. */
SPECKV_API void speckv_prefetcher_free(speckv_prefetcher* prefetcher);

/* A request of the session is finished, and these are the keys of its sealed blocks from
 * the first on. A session that is not known is new; for it the one that was silent for
 * longest may be forgotten. INVALID_ARGUMENT: more keys than are remembered at once.
 * NO_SPACE: what could be forgotten for it is in use; its chain is not remembered. */
SPECKV_API speckv_status speckv_prefetcher_finished(
    speckv_prefetcher* prefetcher, uint64_t session, const speckv_key* keys, size_t count,
    const speckv_request_options* request);
/* A request of the session arrived: before its blocks are loaded. What is under way on
 * links that it needs is given up. NOT_FOUND: nothing is known of the session. */
SPECKV_API speckv_status speckv_prefetcher_arrived(speckv_prefetcher* prefetcher,
                                                   uint64_t session);
/* It is needed in `eta` seconds; the last word counts, and confidence 0 takes it back.
 * INVALID_ARGUMENT: eta is negative or not finite, confidence not in [0, 1]. NOT_FOUND:
 * nothing is known of the session. */
SPECKV_API speckv_status speckv_prefetcher_hint(speckv_prefetcher* prefetcher,
                                                uint64_t session, double eta,
                                                double confidence);
/* It does not return, and is forgotten. NOT_FOUND: nothing is known of the session. */
SPECKV_API speckv_status speckv_prefetcher_ended(speckv_prefetcher* prefetcher,
                                                 uint64_t session);
/* Goes on with what is due, and says after how long at most to call it again;
 * SPECKV_FOREVER: it is off. */
SPECKV_API speckv_status speckv_prefetcher_advance(speckv_prefetcher* prefetcher,
                                                   uint64_t* again_ns);
SPECKV_API speckv_status speckv_prefetcher_stats(const speckv_prefetcher* prefetcher,
                                                 speckv_prefetch_stats* stats);

#ifdef __cplusplus
}
#endif

#endif /* CXLSPECKV_PREFETCHER_H */

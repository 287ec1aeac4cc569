/* cxlspeckv/stream_prefetcher.h -- blocks brought to the first tier because of what a
 * stream is guessed to use next (part of cxlspeckv.h): Algorithm 1 of the published
 * design, before a live store.
 *
 * For engines that read a part of their KV at a time. Streams are sequences or attention
 * heads, numbered as the engine likes; of each use of a block it says which symbol (a
 * page, a token: what the stream is made of) is used and which block that lies in. It has
 * no thread, pins nothing and never waits, and is silent for a while when it loses
 * (docs/speculation.md). */
#ifndef CXLSPECKV_STREAM_PREFETCHER_H
#define CXLSPECKV_STREAM_PREFETCHER_H

#include "cxlspeckv/cxlspeckv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many guesses are looked at. ADAPTIVE: 2 to 8, up while more than .7 of the blocks
 * asked for are used, down while fewer than .4 are. FIXED: `depth`. BANDIT: 2, 4, 6 or 8,
 * whichever earned most of late. */
enum { SPECKV_DEPTH_ADAPTIVE = 0, SPECKV_DEPTH_FIXED = 1, SPECKV_DEPTH_BANDIT = 2 };

typedef struct speckv_stream_prefetcher_options {
  size_t size;
  uint32_t rule;
  uint32_t depth;          /* 1 to 16; where the rule begins; 0: 4 */
  float confidence;        /* to 1; guesses below are left alone; 0: 0.1 */
  uint32_t layout;         /* of all blocks; index */
  uint32_t patience;       /* uses after which what was asked for is waste; 0: 256 */
  uint32_t streams;        /* remembered at once, to 2^20; 0: 1024 */
  uint32_t symbols;        /* remembered, to 2^28, in 100 bytes each; 0: 2^18 */
  uint32_t reserved;       /* 0 */
  uint64_t most_in_flight; /* bytes, at least a block; 0: 256 MiB */
  uint64_t learning_bytes; /* that it may lose before it is silent, and at most the first
                            * tier's size; 0: 64 GiB */
  double bytes_per_second; /* at which the tier below the first is read; 0: 28e9 */
  const void* lstm; /* a weights file (docs/lstm-format.md), read in the call; NULL:
                     * each symbol is linked to the one that followed it of late */
  size_t lstm_bytes;
  speckv_completions* completions; /* told of each use's promotions. Or NULL */
  uint64_t tag;                    /* repeated there */
} speckv_stream_prefetcher_options;

/* Blocks, unless said; asked = useful + late + wasted + failed + outstanding. The caller
 * sets `size`; only that much is filled in. */
typedef struct speckv_stream_stats {
  size_t size;
  uint64_t touched;     /* uses */
  uint64_t missed;      /* of blocks that lay below the first tier, late ones too */
  uint64_t asked;       /* to be promoted, because of a guess */
  uint64_t useful;      /* and were in the first tier when they were used */
  uint64_t late;        /* and were not there yet */
  uint64_t wasted;      /* and went again, or were not used in time */
  uint64_t failed;      /* and did not come: given up for a use, or no room */
  uint64_t outstanding; /* on their way, or there and not used */
  /* Guesses that were not asked for: in the first tier, or stored nowhere; asked for
   * already; too unlikely; too much in flight. */
  uint64_t resident, repeated, unlikely, full;
  /* Charged beside the wasted: missed blocks that had made room, and blocks on their way
   * when one was missed. */
  uint64_t displaced, delayed;
  uint64_t unheard, pauses;           /* uses while it was silent; how often it fell so */
  uint64_t in_flight, peak_in_flight; /* bytes */
  uint32_t depth;                     /* now */
  uint32_t reserved;
} speckv_stream_stats;

/* Any thread may use it, but for free. */
typedef struct speckv_stream_prefetcher speckv_stream_prefetcher;

/* `options` may be NULL. INVALID_ARGUMENT: an option out of its bounds, no slower tier,
 * or weights that know no symbols. CORRUPTED, UNSUPPORTED: the weights. */
SPECKV_API speckv_status speckv_stream_prefetcher_create(
    speckv_store* store, const speckv_stream_prefetcher_options* options,
    speckv_stream_prefetcher** prefetcher);
/* Waits for what the devices have; the rest is cancelled. NULL is fine. */
SPECKV_API void speckv_stream_prefetcher_free(speckv_stream_prefetcher* prefetcher);

/* The stream uses `symbol`, which lies in that block, or has just saved it: best between
 * the beginning of the block's load and the wait for it. A stream that is not known is
 * new; for it the one that was used longest ago is forgotten. NO_SPACE: there is no
 * memory, and nothing is asked for. */
SPECKV_API speckv_status
speckv_stream_prefetcher_touched(speckv_stream_prefetcher* prefetcher, uint64_t stream,
                                 uint32_t symbol, speckv_key block);
/* The stream is forgotten, where it is known. */
SPECKV_API speckv_status
speckv_stream_prefetcher_ended(speckv_stream_prefetcher* prefetcher, uint64_t stream);
/* Counts what has come; touched does, too. */
SPECKV_API speckv_status
speckv_stream_prefetcher_advance(speckv_stream_prefetcher* prefetcher);
SPECKV_API speckv_status speckv_stream_prefetcher_stats(
    const speckv_stream_prefetcher* prefetcher, speckv_stream_stats* stats);

#ifdef __cplusplus
}
#endif

#endif /* CXLSPECKV_STREAM_PREFETCHER_H */

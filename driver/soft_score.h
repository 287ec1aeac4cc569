/* SPDX-License-Identifier: GPL-2.0-only */
/* How much a block is worth keeping: docs/queue-protocol.md, Scores. Whole numbers, no wrap. */
#ifndef SPECKV_SOFT_SCORE_H
#define SPECKV_SOFT_SCORE_H

#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/types.h>
#include "card_codes.h"
#include "regs.h"

struct speckv_score_weights {
	u8 recency, frequency, step, durability, evict, prefetch, hysteresis;
};

/* What is remembered about the use of one block. */
struct speckv_use {
	u32 last, due;		/* steps: of the last use; wanted at, if has_due */
	u8 freq, refs;
	bool has_due, evictable;
};

/* Whether step @a comes after @b, modulo 2^32. */
static inline bool speckv_later(u32 a, u32 b)
{
	return (s32)(a - b) > 0;
}

/* Sixteen times the logarithm of a distance in steps, at most 255. */
static inline u32 speckv_log_distance(u32 distance)
{
	u32 n = min(distance, 65535U) + 1;
	u32 e = ilog2(n);
	u32 fraction = (e >= 4 ? n >> (e - 4) : n << (4 - e)) & 15;

	return min(16 * e + fraction, 255U);
}

static inline u32 speckv_use_frequency(const struct speckv_use *use, u32 step)
{
	return use->freq >> min((step - use->last) >> SPECKV_SCORE_FREQUENCY_SHIFT, 8U);
}

static inline void speckv_use_touch(struct speckv_use *use, u32 step)
{
	use->freq = min(speckv_use_frequency(use, step) + SPECKV_SCORE_TOUCH, 255U);
	use->last = step;
	use->evictable = false;
	if (use->has_due && !speckv_later(use->due, step))
		use->has_due = false;
}

/* P, at most 18 bits. */
static inline u32 speckv_score(const struct speckv_use *use,
			       const struct speckv_score_weights *w, u32 step)
{
	u32 away = speckv_later(use->due, step) ? use->due - step : step - use->due;

	if (use->evictable)
		return 0;
	return w->recency * (255 - speckv_log_distance(step - use->last)) +
	       w->frequency * speckv_use_frequency(use, step) +
	       (use->has_due ? w->step * (255 - speckv_log_distance(away)) : 0) +
	       w->durability * min_t(u32, SPECKV_SCORE_REFERENCE * use->refs, 255);
}

/* Thresholds are compared as t W, so that they mean the same for all weights. */
static inline bool speckv_below(u32 score, u32 threshold, const struct speckv_score_weights *w)
{
	return score < threshold * (w->recency + w->frequency + w->step + w->durability);
}

static inline struct speckv_score_weights speckv_weights_unpack(u32 weights, u32 thresholds)
{
	return (struct speckv_score_weights){
		weights, weights >> 8, weights >> 16, weights >> 24,
		thresholds, thresholds >> 8, thresholds >> 16,
	};
}

static inline u32 speckv_weights_pack(const struct speckv_score_weights *w)
{
	return w->recency | w->frequency << 8 | w->step << 16 | (u32)w->durability << 24;
}

static inline u32 speckv_thresholds_pack(const struct speckv_score_weights *w)
{
	return w->evict | w->prefetch << 8 | w->hysteresis << 16;
}

#endif /* SPECKV_SOFT_SCORE_H */

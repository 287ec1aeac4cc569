/* SPDX-License-Identifier: GPL-2.0-only */
/* Descriptors, as the software engine reads them. */
#ifndef SPECKV_SOFT_DESC_H
#define SPECKV_SOFT_DESC_H

#include "soft.h"

static inline bool speckv_codes(u8 opcode)
{
	return opcode == SPECKV_OP_ENCODE || opcode == SPECKV_OP_DECODE;
}

static inline u32 speckv_desc_weights(const struct speckv_desc *desc)
{
	const struct speckv_desc_weights *w = &desc->weights;

	return w->recency | w->frequency << 8 | w->step_weight << 16 | (u32)w->durability << 24;
}

static inline u32 speckv_desc_thresholds(const struct speckv_desc *desc)
{
	const struct speckv_desc_weights *w = &desc->weights;

	return w->evict | w->prefetch << 8 | w->hysteresis << 16;
}

/* Plain bytes of one layer; U64_MAX: more than can be said. */
u64 speckv_layer_bytes(const struct speckv_desc *desc);
/* Steps 1 to 4 of the checks: what can be said without looking at any table. */
u16 speckv_soft_check(const struct speckv_card *card, const struct speckv_desc *desc);
/*
 * Whether a submitter carries it out itself: it moves no more than *bytes, of which it takes its
 * part, and what takes the directory's lock is only for those that may sleep.
 */
bool speckv_soft_short(const struct speckv_desc *desc, bool may_sleep, u32 *bytes);

#endif /* SPECKV_SOFT_DESC_H */

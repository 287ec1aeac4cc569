/* SPDX-License-Identifier: GPL-2.0-only */
/* Index and phase arithmetic of rings; docs/queue-protocol.md. Counters are modulo 2^32. */
#ifndef SPECKV_RING_H
#define SPECKV_RING_H

#include <linux/types.h>
#include "speckv_desc.h"

/* Where entry @counter lies; @depth is a power of two. */
static inline u32 speckv_ring_slot(u32 counter, u32 depth)
{
	return counter & (depth - 1);
}

/* The phase bit of completion @counter: 1 in the first lap, 0 in the second. */
static inline u16 speckv_ring_phase(u32 counter, u32 depth)
{
	return counter & depth ? 0 : 1;
}

/* Whether counter @a has reached @b. */
static inline bool speckv_ring_reached(u32 a, u32 b)
{
	return (s32)(a - b) >= 0;
}

/* Both rings of a queue, descriptors first. */
static inline size_t speckv_ring_bytes(u32 depth)
{
	return depth * (sizeof(struct speckv_desc) + sizeof(struct speckv_cpl));
}

static inline u16 speckv_cpl_code(const struct speckv_cpl *cpl)
{
	return le16_to_cpu(cpl->status) >> 1;
}

#endif /* SPECKV_RING_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* The software engine: a card of the kernel's own, with the queue protocol of the real one. */
#ifndef SPECKV_SOFT_H
#define SPECKV_SOFT_H

#include "speckv_drv.h"

#define SPECKV_SOFT_MAX_LENGTH	(64U << 20)
#define SPECKV_SOFT_LATER	0xffff	/* no code of a completion: nothing was done yet */

struct speckv_directory;

struct speckv_soft {
	struct speckv_card *card;
	void *memory;			/* caps.memory bytes of vmalloc_user() */
	struct workqueue_struct *wq;	/* one work item a queue */
	struct speckv_directory *directory;
	struct xarray poison;		/* by 64 bytes of card memory */
	atomic64_t counters[SPECKV_COUNTERS];
	bool hold;			/* for tests: nothing is taken */
	bool fatal;
	u8 bus_faults;			/* SPECKV_INJECT_BUS_*, as bits, for the next access */
};

extern const struct speckv_engine speckv_soft_engine;

static inline void speckv_soft_count(struct speckv_soft *soft, u32 counter, u64 n)
{
	atomic64_add(n, &soft->counters[counter]);
}

static inline struct speckv_soft *speckv_soft_of(struct speckv_queue *queue)
{
	return queue->ctx->card->private;
}

/* soft.c */
struct speckv_soft *speckv_soft_create(u64 memory);
void speckv_soft_destroy(struct speckv_soft *soft);
void speckv_soft_caps(const struct speckv_soft *soft, struct speckv_caps *caps);

/* soft_queue.c: what engine.h says of them */
int speckv_soft_rings_alloc(struct speckv_queue *queue);
void speckv_soft_rings_free(struct speckv_queue *queue);
int speckv_soft_rings_map(struct speckv_queue *queue, struct vm_area_struct *vma);
int speckv_soft_doorbell_map(struct speckv_queue *queue, struct vm_area_struct *vma);
int speckv_soft_queue_enable(struct speckv_queue *queue);
void speckv_soft_queue_disable(struct speckv_queue *queue);
void speckv_soft_doorbell(struct speckv_queue *queue, u32 tail);
bool speckv_soft_serve(struct speckv_queue *queue, bool may_sleep);
void speckv_soft_kick(struct speckv_queue *queue);
bool speckv_soft_busy(struct speckv_queue *queue);
bool speckv_soft_raised(struct speckv_queue *queue);

/*
 * soft_exec.c: what one descriptor does. Returns the completion's code; SPECKV_SOFT_LATER if only
 * the worker may do it. Only that one, and what asks for the directory, sleeps.
 */
u16 speckv_soft_execute(struct speckv_queue *queue, const struct speckv_desc *desc, bool worker,
			u32 *result);

/* soft_directory.c: blocks, their scores and candidates. A lock of its own. */
struct speckv_directory *speckv_directory_create(struct speckv_soft *soft);
void speckv_directory_destroy(struct speckv_directory *directory);
void speckv_directory_renew(struct speckv_directory *directory);
void speckv_directory_clear(struct speckv_directory *directory, u32 tenant);
u16 speckv_directory_insert(struct speckv_directory *directory, u32 tenant,
			    const struct speckv_desc *desc);
void speckv_directory_drop(struct speckv_directory *directory, u32 tenant,
			   const struct speckv_desc *desc);
void speckv_directory_use(struct speckv_directory *directory, u32 tenant,
			  const struct speckv_desc *desc, bool staged);
u16 speckv_directory_hint(struct speckv_directory *directory, u32 tenant,
			  const struct speckv_desc *desc, u32 *found);
u32 speckv_directory_step(struct speckv_directory *directory, u32 tenant, u32 step);
void speckv_directory_weights(struct speckv_directory *directory, u32 tenant, u32 weights,
			      u32 thresholds);
bool speckv_weights_valid(u32 weights, u32 thresholds);
/* Writes what fits; returns the bytes. */
u32 speckv_directory_report(struct speckv_directory *directory, u32 tenant, u8 report, void *to,
			    u32 room);
void speckv_directory_tally(struct speckv_directory *directory, u32 tenant, u64 bytes_read,
			    u64 bytes_written, bool failed);
/* The registers weights and thresholds: what a tenant begins with. */
u32 speckv_directory_tunable(struct speckv_directory *directory, u32 reg);
int speckv_directory_tune(struct speckv_directory *directory, u32 reg, u32 value);

#endif /* SPECKV_SOFT_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* What the driver asks of a card, whether it is real or software. */
#ifndef SPECKV_ENGINE_H
#define SPECKV_ENGINE_H

#include <linux/types.h>

struct speckv_card;
struct speckv_queue;
struct speckv_region;
struct vm_area_struct;

#define SPECKV_COUNTERS		(SPECKV_COUNTER_ERRORS_LOGGED + 1)

/* What an engine can do; constant while the card is there. */
struct speckv_caps {
	u64 features, codecs, memory;
	u32 opcodes, max_depth, max_queues, max_tenants, max_regions;
	u32 max_length, block_tokens;
};

/*
 * Whatever consumes descriptors: soft.c, or a PCI card. All may sleep but doorbell, kick, busy and
 * raised. They are called with srcu held or by the removal itself, and not after it. Whoever adds
 * to the card's tables (region_set, queue_enable) has card->renewal as a reader, or card->lock.
 */
struct speckv_engine {
	int (*region_set)(struct speckv_region *region);
	/* Afterwards no descriptor uses the region. */
	void (*region_clear)(struct speckv_region *region);
	int (*rings_alloc)(struct speckv_queue *queue);
	void (*rings_free)(struct speckv_queue *queue);
	int (*queue_enable)(struct speckv_queue *queue);
	/* Afterwards the engine touches neither the rings nor any memory for the queue. */
	void (*queue_disable)(struct speckv_queue *queue);
	/* Any context, queue->lock held: a new tail; one that the program stored. */
	void (*doorbell)(struct speckv_queue *queue, u32 tail);
	void (*kick)(struct speckv_queue *queue);
	/*
	 * May be NULL: a doorbell is enough. Otherwise whoever rang it does what is short, in a
	 * task, without a lock of the queue's. False: the engine has to be kicked for the rest.
	 */
	bool (*serve)(struct speckv_queue *queue, bool may_sleep);
	/* Something in a mapped ring is unanswered. */
	bool (*busy)(struct speckv_queue *queue);
	/* The interrupt that a mapped ring has asked for last has come. A card tells it once. */
	bool (*raised)(struct speckv_queue *queue);
	int (*rings_map)(struct speckv_queue *queue, struct vm_area_struct *vma);
	int (*doorbell_map)(struct speckv_queue *queue, struct vm_area_struct *vma);
	int (*memory_map)(struct speckv_region *region, struct vm_area_struct *vma);
	int (*memory_clear)(struct speckv_card *card, u64 base, u64 length);
	/* Forgets what the directory knows about a tenant. */
	void (*tenant_clear)(struct speckv_card *card, u32 tenant);
	/* Everything but memory is as after power-on; queues are off, regions unset. */
	int (*reset)(struct speckv_card *card);
	bool (*fatal)(struct speckv_card *card);
	/* All of one moment. */
	void (*counters)(struct speckv_card *card, u64 values[SPECKV_COUNTERS]);
	/* Default weights and thresholds, as in the registers of those names. */
	u32 (*tunable)(struct speckv_card *card, u32 reg);
	int (*tune)(struct speckv_card *card, u32 reg, u32 value);
	/* For tests. card->lock held: a fault; a card that stands still, and goes on. */
	int (*inject)(struct speckv_card *card, u32 kind, u64 argument);
	void (*hold)(struct speckv_card *card, bool hold);
	/* May be NULL: the card is about to be used, and may sleep again. Balanced. */
	int (*wake)(struct speckv_card *card);
	void (*rest)(struct speckv_card *card);
};

#endif /* SPECKV_ENGINE_H */

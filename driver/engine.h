/* SPDX-License-Identifier: GPL-2.0-only */
/* What the driver asks of a card, whether it is real or software. */
#ifndef SPECKV_ENGINE_H
#define SPECKV_ENGINE_H

#include <linux/types.h>

struct speckv_card;
struct speckv_queue;
struct speckv_region;
struct vm_area_struct;

/* What an engine can do; constant while the card is there. */
struct speckv_caps {
	u64 features, codecs, memory;
	u32 opcodes, max_depth, max_queues, max_tenants, max_regions;
	u32 max_length, block_tokens;
};

/*
 * Whatever consumes descriptors: soft.c, or a PCI card. All may sleep but doorbell and kick. They are
 * called with srcu held or by the removal itself, and after it only rings_free.
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
	/* Any context: a new tail; or one that the program has stored. */
	void (*doorbell)(struct speckv_queue *queue, u32 tail);
	void (*kick)(struct speckv_queue *queue);
	/* Something submitted is unanswered; the interrupt that was asked for has come. */
	bool (*busy)(struct speckv_queue *queue);
	bool (*raised)(struct speckv_queue *queue);
	int (*rings_map)(struct speckv_queue *queue, struct vm_area_struct *vma);
	int (*doorbell_map)(struct speckv_queue *queue, struct vm_area_struct *vma);
	int (*memory_map)(struct speckv_region *region, struct vm_area_struct *vma);
	void (*memory_clear)(struct speckv_card *card, u64 base, u64 length);
	/* Forgets what the directory knows about a tenant. */
	void (*tenant_clear)(struct speckv_card *card, u32 tenant);
	/* Everything but memory is as after power-on; queues are off, regions unset. */
	int (*reset)(struct speckv_card *card);
	bool (*fatal)(struct speckv_card *card);
	u64 (*counter)(struct speckv_card *card, u32 number);
	/* Default weights and thresholds, as in the registers of those names. */
	u32 (*tunable)(struct speckv_card *card, u32 reg);
	int (*tune)(struct speckv_card *card, u32 reg, u32 value);
	int (*inject)(struct speckv_card *card, u32 kind, u64 argument);
};

#endif /* SPECKV_ENGINE_H */

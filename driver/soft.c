// SPDX-License-Identifier: GPL-2.0-only
/* The software engine's card: memory, regions, faults on demand. Its queues: soft_queue.c. */
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/wait_bit.h>
#include "soft.h"

#define SPECKV_SOFT_QUEUES	SPECKV_MAX_QUEUES

static int speckv_soft_memory_map(struct speckv_region *region, struct vm_area_struct *vma)
{
	struct speckv_soft *soft = region->ctx->card->private;

	return remap_vmalloc_range(vma, soft->memory, region->base >> PAGE_SHIFT);
}

/* The id leads the engine to the region; card memory is a part of its own. */
static int speckv_soft_region_set(struct speckv_region *region)
{
	struct speckv_soft *soft = region->ctx->card->private;
	int error = 0;

	if (region->kind == SPECKV_REGION_CARD)
		region->cpu = soft->memory + region->base;
	else if (!region->cpu && region->kind == SPECKV_REGION_IMPORTED)
		error = speckv_dmabuf_map_cpu(region);
	else if (!region->cpu)	/* which goes when the pages are unpinned */
		region->cpu = vmap(region->pages, region->page_count, VM_MAP, PAGE_KERNEL);
	if (error || !region->cpu)
		return error ?: -ENOMEM;
	WRITE_ONCE(region->cleared, false);
	return 0;
}

/* Not found from now on; a descriptor that has found it is waited for. */
static void speckv_soft_region_clear(struct speckv_region *region)
{
	struct xarray *regions = &region->ctx->card->regions;

	xa_lock(regions);
	WRITE_ONCE(region->cleared, true);
	xa_unlock(regions);
	wait_var_event(&region->at_work, !atomic_read(&region->at_work));
}

static int speckv_soft_memory_clear(struct speckv_card *card, u64 base, u64 length)
{
	struct speckv_soft *soft = card->private;
	unsigned long line, last = (base + length - 1) / 64;
	void *entry;
	u64 piece;

	xa_for_each_range(&soft->poison, line, entry, base / 64, last)
		xa_erase(&soft->poison, line);
	while (length) {
		piece = min_t(u64, length, SZ_1M);
		memset(soft->memory + base, 0, piece);
		base += piece;
		length -= piece;
		cond_resched();
	}
	return 0;
}

static void speckv_soft_tenant_clear(struct speckv_card *card, u32 tenant)
{
	struct speckv_soft *soft = card->private;

	speckv_directory_clear(soft->directory, tenant);
}

static int speckv_soft_reset(struct speckv_card *card)
{
	struct speckv_soft *soft = card->private;
	u32 i;

	speckv_directory_renew(soft->directory);
	for (i = 0; i < SPECKV_COUNTERS; i++)
		atomic64_set(&soft->counters[i], 0);
	WRITE_ONCE(soft->bus_faults, 0);
	WRITE_ONCE(soft->fatal, false);
	return 0;
}

static bool speckv_soft_fatal(struct speckv_card *card)
{
	struct speckv_soft *soft = card->private;

	return READ_ONCE(soft->fatal);
}

static void speckv_soft_counters(struct speckv_card *card, u64 values[SPECKV_COUNTERS])
{
	struct speckv_soft *soft = card->private;
	u32 i;

	for (i = 0; i < SPECKV_COUNTERS; i++)
		values[i] = atomic64_read(&soft->counters[i]);
}

static u32 speckv_soft_tunable(struct speckv_card *card, u32 reg)
{
	struct speckv_soft *soft = card->private;

	return speckv_directory_tunable(soft->directory, reg);
}

static int speckv_soft_tune(struct speckv_card *card, u32 reg, u32 value)
{
	struct speckv_soft *soft = card->private;

	return speckv_directory_tune(soft->directory, reg, value);
}

static int speckv_soft_inject_queue(struct speckv_card *card, u32 kind, u64 number)
{
	if (number >= card->caps.max_queues || !card->queues[number])
		return -ENOENT;
	WRITE_ONCE(card->queues[number]->soft.inject, kind);
	return 0;
}

/* card->lock held */
static int speckv_soft_inject(struct speckv_card *card, u32 kind, u64 argument)
{
	struct speckv_soft *soft = card->private;
	u32 i;

	switch (kind) {
	case SPECKV_INJECT_FATAL:
		WRITE_ONCE(soft->fatal, true);
		speckv_soft_count(soft, SPECKV_COUNTER_ERRORS_LOGGED, 1);
		for (i = 0; i < card->caps.max_queues; i++) {
			if (card->queues[i])
				speckv_queue_failed(card->queues[i]);
		}
		return 0;
	case SPECKV_INJECT_POISON:
		if (argument >= card->caps.memory)
			return -EINVAL;
		return xa_err(xa_store(&soft->poison, argument / 64, xa_mk_value(1), GFP_KERNEL));
	case SPECKV_INJECT_BUS_READ:
	case SPECKV_INJECT_BUS_WRITE:
		WRITE_ONCE(soft->bus_faults, READ_ONCE(soft->bus_faults) | BIT(kind));
		return 0;
	case SPECKV_INJECT_FETCH:
	case SPECKV_INJECT_COMPLETION:
		return speckv_soft_inject_queue(card, kind, argument);
	}
	return -EINVAL;
}

/* Released, it looks at every queue. */
static void speckv_soft_hold(struct speckv_card *card, bool hold)
{
	struct speckv_soft *soft = card->private;
	u32 i;

	WRITE_ONCE(soft->hold, hold);
	for (i = 0; !hold && i < card->caps.max_queues; i++) {
		if (card->queues[i])
			speckv_queue_wake_engine(card->queues[i]);
	}
}

const struct speckv_engine speckv_soft_engine = {
	.region_set = speckv_soft_region_set,
	.region_clear = speckv_soft_region_clear,
	.rings_alloc = speckv_soft_rings_alloc,
	.rings_free = speckv_soft_rings_free,
	.queue_enable = speckv_soft_queue_enable,
	.queue_disable = speckv_soft_queue_disable,
	.doorbell = speckv_soft_doorbell,
	.serve = speckv_soft_serve,
	.kick = speckv_soft_kick,
	.busy = speckv_soft_busy,
	.raised = speckv_soft_raised,
	.rings_map = speckv_soft_rings_map,
	.doorbell_map = speckv_soft_doorbell_map,
	.memory_map = speckv_soft_memory_map,
	.memory_clear = speckv_soft_memory_clear,
	.tenant_clear = speckv_soft_tenant_clear,
	.reset = speckv_soft_reset,
	.fatal = speckv_soft_fatal,
	.counters = speckv_soft_counters,
	.tunable = speckv_soft_tunable,
	.tune = speckv_soft_tune,
	.inject = speckv_soft_inject,
	.hold = speckv_soft_hold,
};

void speckv_soft_caps(const struct speckv_soft *soft, struct speckv_caps *caps)
{
	caps->features = SPECKV_FEATURE_NEED_KICK | SPECKV_FEATURE_INJECT |
			 SPECKV_FEATURE_DIRECTORY;
	caps->codecs = BIT_ULL(SPECKV_CODEC_RAW);
	caps->opcodes = BIT(SPECKV_OP_NOP) | BIT(SPECKV_OP_COPY) | BIT(SPECKV_OP_ENCODE) |
			BIT(SPECKV_OP_DECODE) | BIT(SPECKV_OP_PREFETCH) | BIT(SPECKV_OP_FILL) |
			BIT(SPECKV_OP_FENCE) | BIT(SPECKV_OP_STEP) | BIT(SPECKV_OP_HINT) |
			BIT(SPECKV_OP_WEIGHTS) | BIT(SPECKV_OP_TELEMETRY);
	caps->max_depth = 1U << SPECKV_MAX_DEPTH_LOG2_MAX;
	caps->max_queues = SPECKV_SOFT_QUEUES;
	caps->max_tenants = SPECKV_MAX_TENANTS;
	caps->max_regions = SPECKV_MAX_REGIONS;
	caps->max_length = SPECKV_SOFT_MAX_LENGTH;
	caps->block_tokens = 1U << SPECKV_CSR_BLOCK_SHIFT_RESET;
}

struct speckv_soft *speckv_soft_create(u64 memory)
{
	struct speckv_soft *soft = kzalloc(sizeof(*soft), GFP_KERNEL);

	if (!soft)
		return NULL;
	xa_init(&soft->poison);
	soft->memory = vmalloc_user(memory);
	soft->wq = alloc_workqueue("speckv", WQ_UNBOUND, 0);
	soft->directory = speckv_directory_create(soft);
	if (!soft->memory || !soft->wq || !soft->directory) {
		speckv_soft_destroy(soft);
		return NULL;
	}
	return soft;
}

void speckv_soft_destroy(struct speckv_soft *soft)
{
	if (soft->wq)
		destroy_workqueue(soft->wq);
	speckv_directory_destroy(soft->directory);
	vfree(soft->memory);
	xa_destroy(&soft->poison);
	kfree(soft);
}

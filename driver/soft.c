// SPDX-License-Identifier: GPL-2.0-only
/*
 * The software engine: takes descriptors from rings in a workqueue and writes completions, by
 * the rules of docs/queue-protocol.md. Mapped rings and doorbells are a program's memory: every
 * word is read once and believed nothing.
 */
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "soft.h"

#define SPECKV_SOFT_BUDGET	64	/* descriptors until other queues have their turn */
#define SPECKV_SOFT_QUEUES	SPECKV_MAX_QUEUES

static u32 *speckv_soft_word(struct speckv_queue *queue, u32 offset)
{
	return queue->doorbell + offset;
}

/* The queue stops; the descriptor at hand, if any, has no answer. */
static void speckv_soft_error(struct speckv_queue *queue)
{
	struct speckv_soft *soft = speckv_soft_of(queue);

	WRITE_ONCE(queue->soft.enabled, false);
	speckv_soft_count(soft, SPECKV_COUNTER_ERRORS_LOGGED, 1);
	dev_dbg(&soft->card->dev, "queue %u stopped\n", queue->index);
	speckv_queue_failed(queue);
}

/* The half with the status becomes visible last, and all of it at once. */
static void speckv_soft_answer(struct speckv_queue *queue, __le16 tag, u16 code, u32 result)
{
	struct speckv_soft_queue *state = &queue->soft;
	struct speckv_cpl cpl = {
		.tag = tag,
		.status = cpu_to_le16(code << 1 |
				      speckv_ring_phase(state->completed, queue->depth)),
		.result = cpu_to_le32(code == SPECKV_CPL_OK ? result : 0),
	};
	u64 *to = (u64 *)&queue->cpls[speckv_ring_slot(state->completed, queue->depth)];

	BUILD_BUG_ON(sizeof(cpl) != 2 * sizeof(u64));
	WRITE_ONCE(to[1], ((u64 *)&cpl)[1]);
	/* Pairs with the barrier of whoever sees the phase bit change. */
	smp_store_release(&to[0], ((u64 *)&cpl)[0]);
	WRITE_ONCE(state->completed, state->completed + 1);
}

/* One descriptor. False: the queue has stopped. */
static bool speckv_soft_one(struct speckv_queue *queue)
{
	struct speckv_soft *soft = speckv_soft_of(queue);
	struct speckv_soft_queue *state = &queue->soft;
	u8 inject = xchg(&state->inject, 0);
	struct speckv_desc desc;
	u32 result = 0;
	u16 code;

	if (inject == SPECKV_INJECT_FETCH)
		return false;
	memcpy(&desc, &queue->descs[speckv_ring_slot(state->fetched, queue->depth)], sizeof(desc));
	barrier_data(&desc);	/* what is checked is what is done */
	WRITE_ONCE(state->fetched, state->fetched + 1);
	speckv_soft_count(soft, SPECKV_COUNTER_DESCRIPTORS, 1);
	code = speckv_soft_execute(queue, &desc, &result);
	if (inject == SPECKV_INJECT_COMPLETION)
		return false;
	speckv_soft_answer(queue, desc.tag, code, result);
	speckv_soft_count(soft, SPECKV_COUNTER_COMPLETIONS, 1);
	if (code != SPECKV_CPL_OK)
		speckv_soft_count(soft, SPECKV_COUNTER_FAILURES, 1);
	return true;
}

/* Whether the interrupt that the program asked for is due; each stored value raises one. */
static bool speckv_soft_armed(struct speckv_queue *queue)
{
	struct speckv_soft_queue *state = &queue->soft;
	u32 arm;

	smp_mb();	/* completions before arm: pairs with the barrier of who arms */
	arm = READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_ARM));
	if (arm == state->armed || !speckv_ring_reached(state->completed, arm))
		return false;
	state->armed = arm;
	speckv_soft_count(speckv_soft_of(queue), SPECKV_COUNTER_INTERRUPTS, 1);
	return true;
}

static void speckv_soft_step(struct speckv_queue *queue)
{
	u32 step = READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_STEP));

	if (step == queue->soft.step)
		return;
	queue->soft.step = step;
	speckv_directory_step(speckv_soft_of(queue)->directory, queue->ctx->tenant, step);
}

/* What is there now, up to the budget. False: the queue has stopped. */
static bool speckv_soft_serve(struct speckv_queue *queue, u32 *budget)
{
	struct speckv_soft_queue *state = &queue->soft;
	u32 tail;

	/* Pairs with the release of whoever has written the descriptors before it. */
	tail = smp_load_acquire(speckv_soft_word(queue, SPECKV_DOORBELL_TAIL));
	speckv_soft_step(queue);
	if (tail - state->completed > queue->depth)
		return false;
	while (state->fetched != tail && *budget && READ_ONCE(state->enabled)) {
		if (READ_ONCE(speckv_soft_of(queue)->fatal) || !speckv_soft_one(queue))
			return false;
		--*budget;
		cond_resched();
	}
	return true;
}

static void speckv_soft_work(struct work_struct *work)
{
	struct speckv_queue *queue = container_of(work, struct speckv_queue, soft.work);
	struct speckv_soft_queue *state = &queue->soft;
	u32 *need_kick = speckv_soft_word(queue, SPECKV_DOORBELL_NEED_KICK);
	u32 *tail = speckv_soft_word(queue, SPECKV_DOORBELL_TAIL);
	u32 budget = SPECKV_SOFT_BUDGET;
	bool good;

	if (!READ_ONCE(state->enabled))
		return;
	WRITE_ONCE(*need_kick, 0);
	while (READ_ONCE(state->enabled) && !READ_ONCE(speckv_soft_of(queue)->hold)) {
		good = speckv_soft_serve(queue, &budget);
		speckv_queue_event(queue, speckv_soft_armed(queue));
		if (!good) {
			speckv_soft_error(queue);
			return;
		}
		if (!budget) {
			queue_work(speckv_soft_of(queue)->wq, work);
			return;
		}
		WRITE_ONCE(*need_kick, 1);
		smp_mb();	/* pairs with that of who stores a tail and looks at need_kick */
		if (READ_ONCE(*tail) == state->fetched)
			return;
		WRITE_ONCE(*need_kick, 0);
	}
}

static int speckv_soft_rings_alloc(struct speckv_queue *queue)
{
	/* Counts as the program's, in its cgroup; what vmalloc_user() gives would not. */
	queue->descs = __vmalloc(PAGE_ALIGN(speckv_ring_bytes(queue->depth)) + PAGE_SIZE,
				 GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!queue->descs)
		return -ENOMEM;
	queue->cpls = (struct speckv_cpl *)(queue->descs + queue->depth);
	/* The doorbell is the page behind the rings. */
	queue->doorbell = (void *)queue->descs + PAGE_ALIGN(speckv_ring_bytes(queue->depth));
	INIT_WORK(&queue->soft.work, speckv_soft_work);
	return 0;
}

static void speckv_soft_rings_free(struct speckv_queue *queue)
{
	vfree(queue->descs);
}

static int speckv_soft_map(struct vm_area_struct *vma, void *from)
{
	unsigned long at;
	int error = 0;

	for (at = vma->vm_start; at < vma->vm_end && !error; at += PAGE_SIZE, from += PAGE_SIZE)
		error = vm_insert_page(vma, at, vmalloc_to_page(from));
	return error;
}

static int speckv_soft_rings_map(struct speckv_queue *queue, struct vm_area_struct *vma)
{
	return speckv_soft_map(vma, queue->descs);
}

static int speckv_soft_doorbell_map(struct speckv_queue *queue, struct vm_area_struct *vma)
{
	return speckv_soft_map(vma, queue->doorbell);
}

static int speckv_soft_memory_map(struct speckv_region *region, struct vm_area_struct *vma)
{
	struct speckv_soft *soft = region->ctx->card->private;

	return remap_vmalloc_range(vma, soft->memory, region->base >> PAGE_SHIFT);
}

static int speckv_soft_queue_enable(struct speckv_queue *queue)
{
	struct speckv_soft_queue *state = &queue->soft;

	state->fetched = 0;
	state->completed = 0;
	state->armed = 0;
	state->inject = 0;
	memset(queue->doorbell, 0, PAGE_SIZE);
	*speckv_soft_word(queue, SPECKV_DOORBELL_STEP) = state->step;
	*speckv_soft_word(queue, SPECKV_DOORBELL_NEED_KICK) = 1;
	WRITE_ONCE(state->enabled, true);
	return 0;
}

static void speckv_soft_queue_disable(struct speckv_queue *queue)
{
	WRITE_ONCE(queue->soft.enabled, false);
	cancel_work_sync(&queue->soft.work);
}

static void speckv_soft_kick(struct speckv_queue *queue)
{
	queue_work(speckv_soft_of(queue)->wq, &queue->soft.work);
}

static void speckv_soft_doorbell(struct speckv_queue *queue, u32 tail)
{
	/* Pairs with the engine's acquire: the descriptors are written. */
	smp_store_release(speckv_soft_word(queue, SPECKV_DOORBELL_TAIL), tail);
	/* The tail before need_kick: pairs with the barrier of an engine that goes to sleep. */
	smp_mb();
	if (READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_NEED_KICK)))
		speckv_soft_kick(queue);
}

static bool speckv_soft_busy(struct speckv_queue *queue)
{
	return READ_ONCE(queue->soft.completed) !=
	       READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_TAIL));
}

static bool speckv_soft_raised(struct speckv_queue *queue)
{
	u32 arm = READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_ARM));

	return arm && speckv_ring_reached(READ_ONCE(queue->soft.completed), arm);
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

/* Not found from now on; a descriptor at work holds a reference and ends soon. */
static void speckv_soft_region_clear(struct speckv_region *region)
{
	WRITE_ONCE(region->cleared, true);
}

static void speckv_soft_memory_clear(struct speckv_card *card, u64 base, u64 length)
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

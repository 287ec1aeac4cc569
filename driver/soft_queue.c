// SPDX-License-Identifier: GPL-2.0-only
/*
 * The software engine's queues: descriptors are taken from rings in a workqueue or, if they are
 * short, in whoever has submitted them, by the rules of docs/queue-protocol.md. Mapped rings and
 * doorbells are a program's memory: every word is read once and believed nothing.
 */
#include <linux/vmalloc.h>
#include "soft_desc.h"

#define SPECKV_SOFT_BUDGET	64	/* descriptors until other queues have their turn */
#define SPECKV_SOFT_SHORT	SZ_64K	/* what submitters move themselves, at a time */

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

/* Who serves a queue, and how much of it. A submitter does what is short, and need not sleep. */
struct speckv_shift {
	bool worker, may_sleep;
	u32 descriptors, bytes;
};

enum speckv_outcome { SPECKV_DONE, SPECKV_LEFT, SPECKV_STOPPED };

/* One descriptor. SPECKV_LEFT: it was not taken. */
static enum speckv_outcome speckv_soft_one(struct speckv_queue *queue, struct speckv_shift *shift)
{
	struct speckv_soft *soft = speckv_soft_of(queue);
	struct speckv_soft_queue *state = &queue->soft;
	u8 inject = shift->worker ? xchg(&state->inject, 0) : 0;
	struct speckv_desc desc;
	u32 result = 0;
	u16 code;

	if (inject == SPECKV_INJECT_FETCH)
		return SPECKV_STOPPED;
	memcpy(&desc, &queue->descs[speckv_ring_slot(state->fetched, queue->depth)], sizeof(desc));
	barrier_data(&desc);	/* what is checked is what is done */
	if (!shift->worker && (READ_ONCE(state->inject) ||
			       !speckv_soft_short(&desc, shift->may_sleep, &shift->bytes)))
		return SPECKV_LEFT;
	code = speckv_soft_execute(queue, &desc, shift->worker, &result);
	if (code == SPECKV_SOFT_LATER)
		return SPECKV_LEFT;
	WRITE_ONCE(state->fetched, state->fetched + 1);
	speckv_soft_count(soft, SPECKV_COUNTER_DESCRIPTORS, 1);
	if (inject == SPECKV_INJECT_COMPLETION)
		return SPECKV_STOPPED;
	speckv_soft_answer(queue, desc.tag, code, result);
	speckv_soft_count(soft, SPECKV_COUNTER_COMPLETIONS, 1);
	if (code != SPECKV_CPL_OK)
		speckv_soft_count(soft, SPECKV_COUNTER_FAILURES, 1);
	return SPECKV_DONE;
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

/* False: there is a new step, and telling the directory may sleep. */
static bool speckv_soft_step(struct speckv_queue *queue, bool may_sleep)
{
	u32 step = READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_STEP));

	if (step == queue->soft.step)
		return true;
	if (!may_sleep)
		return false;
	queue->soft.step = step;
	speckv_directory_step(speckv_soft_of(queue)->directory, queue->ctx->tenant, step);
	return true;
}

/* What is there now, as far as the shift goes. */
static enum speckv_outcome speckv_soft_take(struct speckv_queue *queue, struct speckv_shift *shift)
{
	struct speckv_soft_queue *state = &queue->soft;
	enum speckv_outcome outcome;
	u32 tail;

	/* Pairs with the release of whoever has written the descriptors before it. */
	tail = smp_load_acquire(speckv_soft_word(queue, SPECKV_DOORBELL_TAIL));
	if (!speckv_soft_step(queue, shift->may_sleep))
		return SPECKV_LEFT;
	if (tail - state->completed > queue->depth)
		return SPECKV_STOPPED;
	while (state->fetched != tail && READ_ONCE(state->enabled)) {
		if (!shift->descriptors)
			return SPECKV_LEFT;
		if (READ_ONCE(speckv_soft_of(queue)->fatal))
			return SPECKV_STOPPED;
		outcome = speckv_soft_one(queue, shift);
		if (outcome != SPECKV_DONE)
			return outcome;
		shift->descriptors--;
		cond_resched();
	}
	return SPECKV_DONE;
}

/* The turn is held. False: there is more, for the worker, and need_kick says that it is awake. */
static bool speckv_soft_run(struct speckv_queue *queue, struct speckv_shift *shift)
{
	struct speckv_soft_queue *state = &queue->soft;
	u32 *need_kick = speckv_soft_word(queue, SPECKV_DOORBELL_NEED_KICK);
	u32 *tail = speckv_soft_word(queue, SPECKV_DOORBELL_TAIL);
	enum speckv_outcome outcome;

	while (READ_ONCE(state->enabled) && !READ_ONCE(speckv_soft_of(queue)->hold)) {
		WRITE_ONCE(*need_kick, 0);
		outcome = speckv_soft_take(queue, shift);
		speckv_queue_event(queue, speckv_soft_armed(queue));
		if (outcome == SPECKV_STOPPED)
			speckv_soft_error(queue);
		if (outcome != SPECKV_DONE)
			return outcome == SPECKV_STOPPED;
		WRITE_ONCE(*need_kick, 1);
		smp_mb();	/* pairs with that of who stores a tail and looks at need_kick */
		if (READ_ONCE(*tail) == state->fetched)
			return true;
	}
	return true;
}

static void speckv_soft_work(struct work_struct *work)
{
	struct speckv_queue *queue = container_of(work, struct speckv_queue, soft.work);
	struct speckv_shift shift = {
		.worker = true, .may_sleep = true, .descriptors = SPECKV_SOFT_BUDGET,
	};
	bool all;

	mutex_lock(&queue->soft.turn);
	all = speckv_soft_run(queue, &shift);
	mutex_unlock(&queue->soft.turn);
	if (!all)
		queue_work(speckv_soft_of(queue)->wq, work);
}

/* Whoever has the turn may have looked at the tail before this one was stored. */
bool speckv_soft_serve(struct speckv_queue *queue, bool may_sleep)
{
	struct speckv_shift shift = {
		.may_sleep = may_sleep,
		.descriptors = SPECKV_SOFT_BUDGET,
		.bytes = SPECKV_SOFT_SHORT,
	};
	bool all;

	if (!mutex_trylock(&queue->soft.turn))
		return false;
	all = speckv_soft_run(queue, &shift);
	mutex_unlock(&queue->soft.turn);
	return all;
}

int speckv_soft_rings_alloc(struct speckv_queue *queue)
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
	mutex_init(&queue->soft.turn);
	return 0;
}

void speckv_soft_rings_free(struct speckv_queue *queue)
{
	mutex_destroy(&queue->soft.turn);
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

int speckv_soft_rings_map(struct speckv_queue *queue, struct vm_area_struct *vma)
{
	return speckv_soft_map(vma, queue->descs);
}

int speckv_soft_doorbell_map(struct speckv_queue *queue, struct vm_area_struct *vma)
{
	return speckv_soft_map(vma, queue->doorbell);
}

int speckv_soft_queue_enable(struct speckv_queue *queue)
{
	struct speckv_soft_queue *state = &queue->soft;

	guard(mutex)(&state->turn);
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

/* Who has the turn ends it; who takes it from now on finds the queue off, and wakes no worker. */
void speckv_soft_queue_disable(struct speckv_queue *queue)
{
	WRITE_ONCE(queue->soft.enabled, false);
	mutex_lock(&queue->soft.turn);
	mutex_unlock(&queue->soft.turn);
	cancel_work_sync(&queue->soft.work);
}

void speckv_soft_kick(struct speckv_queue *queue)
{
	queue_work(speckv_soft_of(queue)->wq, &queue->soft.work);
}

void speckv_soft_doorbell(struct speckv_queue *queue, u32 tail)
{
	/* Pairs with the engine's acquire: the descriptors are written. Serving follows. */
	smp_store_release(speckv_soft_word(queue, SPECKV_DOORBELL_TAIL), tail);
}

bool speckv_soft_busy(struct speckv_queue *queue)
{
	return READ_ONCE(queue->soft.completed) !=
	       READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_TAIL));
}

bool speckv_soft_raised(struct speckv_queue *queue)
{
	u32 arm = READ_ONCE(*speckv_soft_word(queue, SPECKV_DOORBELL_ARM));

	return arm && speckv_ring_reached(READ_ONCE(queue->soft.completed), arm);
}

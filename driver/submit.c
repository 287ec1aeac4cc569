// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel submits to queues for SUBMIT and REAP, io_uring and itself. */
#include <linux/sched/signal.h>
#include "speckv_drv.h"
#include "trace.h"

/* queue->lock held. 0, or why nothing can be submitted. */
static int speckv_queue_closed(const struct speckv_queue *queue)
{
	if (queue->error)
		return queue->error == -ENODEV ? -ENODEV : -EIO;
	return queue->mode == SPECKV_QUEUE_MAPPED ? -EBUSY : 0;
}

/* queue->lock held */
static int speckv_queue_take_tag(struct speckv_queue *queue, struct speckv_ticket *ticket)
{
	int error = speckv_queue_closed(queue);

	if (!error && queue->reap_count >= queue->free_count)
		error = -EAGAIN;
	if (error)
		return error;
	queue->mode = SPECKV_QUEUE_BY_KERNEL;
	ticket->tag = queue->free_tags[--queue->free_count];
	ticket->generation = queue->generation;
	return 0;
}

/* So that a descriptor fits. Ends with commit. */
int speckv_queue_reserve(struct speckv_queue *queue, struct speckv_ticket *ticket)
{
	unsigned long flags;
	int error;

	spin_lock_irqsave(&queue->lock, flags);
	error = speckv_queue_take_tag(queue, ticket);
	if (!error)
		queue->slots[ticket->tag].kind = SPECKV_SLOT_RESERVED;
	spin_unlock_irqrestore(&queue->lock, flags);
	return error;
}

/* queue->lock held */
static void speckv_queue_enter(struct speckv_queue *queue, const struct speckv_desc *desc, u16 tag,
			       enum speckv_slot_kind kind, void *who)
{
	struct speckv_desc *entry = &queue->descs[speckv_ring_slot(queue->tail, queue->depth)];

	queue->slots[tag] = (struct speckv_slot){
		.kind = kind, .tag = le16_to_cpu(desc->tag), .cmd = who,
	};
	*entry = *desc;
	entry->tag = cpu_to_le16(tag);
	if (queue->head == queue->tail) {
		queue->watched = queue->head;
		queue->watched_at = jiffies;
	}
	trace_speckv_submit(queue, desc);
	queue->tail++;
	queue->ctx->card->engine->doorbell(queue, queue->tail);
}

/* Not 0: the queue has been stopped or renewed since, and the tag is given back. */
int speckv_queue_commit(struct speckv_queue *queue, const struct speckv_ticket *ticket,
			const struct speckv_desc *desc, enum speckv_slot_kind kind, void *who)
{
	unsigned long flags;
	int error;

	spin_lock_irqsave(&queue->lock, flags);
	error = ticket->generation != queue->generation ? -EIO : speckv_queue_closed(queue);
	if (!error) {
		speckv_queue_enter(queue, desc, ticket->tag, kind, who);
	} else if (ticket->generation == queue->generation) {
		queue->slots[ticket->tag].kind = SPECKV_SLOT_FREE;
		queue->free_tags[queue->free_count++] = ticket->tag;
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	return error;
}

int speckv_queue_push(struct speckv_queue *queue, const struct speckv_desc *desc,
		      enum speckv_slot_kind kind, void *who, struct speckv_ticket *ticket)
{
	struct speckv_ticket own;
	unsigned long flags;
	int error;

	ticket = ticket ?: &own;
	spin_lock_irqsave(&queue->lock, flags);
	error = speckv_queue_take_tag(queue, ticket);
	if (!error)
		speckv_queue_enter(queue, desc, ticket->tag, kind, who);
	spin_unlock_irqrestore(&queue->lock, flags);
	return error;
}

/* A queue that was stopped is left alone: whoever stopped it may free it. */
static void speckv_queue_go_on(struct speckv_queue *queue, bool kick)
{
	unsigned long flags;

	spin_lock_irqsave(&queue->lock, flags);
	if (!queue->error) {
		if (kick)
			queue->ctx->card->engine->kick(queue);
		if (queue->head != queue->tail)
			schedule_delayed_work(&queue->watchdog,
					      msecs_to_jiffies(speckv_timeout_ms));
	}
	spin_unlock_irqrestore(&queue->lock, flags);
}

void speckv_queue_serve(struct speckv_queue *queue, bool may_sleep)
{
	const struct speckv_engine *engine = queue->ctx->card->engine;
	bool kick = engine->serve && !engine->serve(queue, may_sleep);

	/* What is not answered by now is the engine's and the watchdog's. */
	if (kick || READ_ONCE(queue->head) != READ_ONCE(queue->tail))
		speckv_queue_go_on(queue, kick);
}

static bool speckv_queue_may_push(struct speckv_queue *queue)
{
	return READ_ONCE(queue->error) || READ_ONCE(queue->mode) == SPECKV_QUEUE_MAPPED ||
	       READ_ONCE(queue->reap_count) < READ_ONCE(queue->free_count);
}

/* For whoever may sleep: until a descriptor fits, the queue stops, or a signal comes. */
int speckv_queue_wait_room(struct speckv_queue *queue)
{
	while (wait_event_interruptible(queue->room, speckv_queue_may_push(queue))) {
		if (task_sigpending(current))
			return -EINTR;
		if (wait_event_killable_timeout(queue->room, speckv_queue_may_push(queue),
						SPECKV_SIGNALS_EVERY) > 0)
			return 0;
	}
	return 0;
}

/* The command's answer, when it comes, goes nowhere. False: it was answered already. */
bool speckv_queue_detach(struct speckv_queue *queue, struct io_uring_cmd *cmd)
{
	unsigned long flags;
	bool found = false;
	u32 i;

	spin_lock_irqsave(&queue->lock, flags);
	for (i = 0; i < queue->depth && !found; i++) {
		found = queue->slots[i].kind == SPECKV_SLOT_URING && queue->slots[i].cmd == cmd;
		if (found)
			queue->slots[i].kind = SPECKV_SLOT_DROP;
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	return found;
}

/* False: it was answered meanwhile, and @wait says how. */
bool speckv_queue_hand_on(struct speckv_queue *queue, const struct speckv_ticket *ticket,
			  struct speckv_wait *wait, struct io_uring_cmd *cmd)
{
	struct speckv_slot *slot = &queue->slots[ticket->tag];
	unsigned long flags;
	bool waits;

	spin_lock_irqsave(&queue->lock, flags);
	/* As long as there is no answer, the tag is this one's. */
	waits = !completion_done(&wait->done);
	if (waits) {
		slot->kind = SPECKV_SLOT_URING;
		slot->cmd = cmd;
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	return waits;
}

void speckv_queue_forget(struct speckv_queue *queue, struct speckv_wait *wait)
{
	unsigned long flags;
	u32 i;

	spin_lock_irqsave(&queue->lock, flags);
	for (i = 0; i < queue->depth; i++) {
		if (queue->slots[i].kind == SPECKV_SLOT_WAIT && queue->slots[i].wait == wait)
			queue->slots[i].kind = SPECKV_SLOT_DROP;
	}
	spin_unlock_irqrestore(&queue->lock, flags);
}

u32 speckv_queue_reap(struct speckv_queue *queue, struct speckv_cpl *cpls, u32 count)
{
	unsigned long flags;
	u32 taken = 0;

	spin_lock_irqsave(&queue->lock, flags);
	while (taken < count && queue->reap_count) {
		cpls[taken++] = queue->reap[queue->reap_first];
		queue->reap_first = (queue->reap_first + 1) % queue->depth;
		queue->reap_count--;
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	if (taken)
		wake_up_all(&queue->room);
	return taken;
}

/* What poll() says: REAP would give something, or the interrupt asked for last has come. */
bool speckv_queue_readable(struct speckv_queue *queue)
{
	if (READ_ONCE(queue->mode) != SPECKV_QUEUE_MAPPED)
		return READ_ONCE(queue->reap_count);
	return !READ_ONCE(queue->error) && queue->ctx->card->engine->raised(queue);
}

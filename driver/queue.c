// SPDX-License-Identifier: GPL-2.0-only
/*
 * Queue pairs: how they are made, stopped, renewed and mapped, and who is told of completions.
 * A queue whose ring is mapped belongs to the program alone; the others are in submit.c.
 */
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "speckv_drv.h"
#include "trace.h"

void speckv_queue_free_rings(struct speckv_queue *queue)
{
	if (queue->descs)
		queue->ctx->card->engine->rings_free(queue);
	queue->descs = NULL;
}

static void speckv_queue_free(struct kref *ref)
{
	struct speckv_queue *queue = container_of(ref, struct speckv_queue, ref);

	struct speckv_card *card = queue->ctx->card;

	/* Only now can the doorbell be another's: nobody has it mapped any more. */
	mutex_lock(&card->lock);
	speckv_queue_free_rings(queue);
	if (card->queues[queue->index] == queue)
		card->queues[queue->index] = NULL;
	mutex_unlock(&card->lock);
	if (!queue->internal)
		atomic_dec(&queue->ctx->queue_count);
	if (queue->eventfd)
		eventfd_ctx_put(queue->eventfd);
	kvfree(queue->slots);
	kvfree(queue->free_tags);
	kvfree(queue->reap);
	mutex_destroy(&queue->admin);
	kfree(queue);
}

void speckv_queue_put(struct speckv_queue *queue)
{
	kref_put(&queue->ref, speckv_queue_free);
}

struct speckv_queue *speckv_queue_get(struct speckv_context *ctx, u32 id)
{
	struct speckv_queue *queue;

	xa_lock(&ctx->queues);
	queue = xa_load(&ctx->queues, id);
	if (queue)
		kref_get(&queue->ref);
	xa_unlock(&ctx->queues);
	return queue;
}

/* queue->lock held, or nobody else knows the queue. */
static void speckv_queue_renew(struct speckv_queue *queue)
{
	u32 i;

	queue->tail = 0;
	queue->head = 0;
	queue->watched = 0;
	queue->generation++;
	queue->free_count = queue->depth;
	for (i = 0; i < queue->depth; i++) {
		queue->free_tags[i] = queue->depth - 1 - i;
		queue->slots[i].kind = SPECKV_SLOT_FREE;
	}
	memset(queue->descs, 0, queue->depth * sizeof(*queue->descs));
	memset(queue->cpls, 0, queue->depth * sizeof(*queue->cpls));
}

static void speckv_queue_notify(struct speckv_queue *queue)
{
	if (wq_has_sleeper(&queue->room))
		wake_up_all(&queue->room);
	if (queue->internal)
		return;
	if (queue->eventfd)
		speckv_eventfd_signal(queue->eventfd);
	speckv_context_notify(queue->ctx);
}

/* queue->lock held: the slot's owner gets the answer, or @error if that is not 0. */
static void speckv_queue_answer(struct speckv_queue *queue, u16 tag,
				const struct speckv_cpl *cpl, int error)
{
	struct speckv_slot *slot = &queue->slots[tag];
	struct speckv_cpl answer = *cpl;
	u16 code = speckv_cpl_code(cpl);
	u32 at;

	trace_speckv_complete(queue, code, le32_to_cpu(cpl->result));
	answer.tag = cpu_to_le16(slot->tag);
	answer.status = cpu_to_le16(code << 1);
	switch (slot->kind) {
	case SPECKV_SLOT_REAP:
		at = (queue->reap_first + queue->reap_count++) % queue->depth;
		queue->reap[at] = answer;
		break;
	case SPECKV_SLOT_URING:
		if (!error && code != SPECKV_CPL_OK)
			error = speckv_cpl_errno(code);
		speckv_uring_complete(slot->cmd, error ?: (int)le32_to_cpu(answer.result));
		break;
	case SPECKV_SLOT_WAIT:
		slot->wait->cpl = answer;
		slot->wait->error = error;
		complete(&slot->wait->done);
		break;
	}
	slot->kind = SPECKV_SLOT_FREE;
	queue->free_tags[queue->free_count++] = tag;
}

/* queue->lock held */
static void speckv_queue_abort(struct speckv_queue *queue, int error)
{
	const struct speckv_cpl aborted = {
		.status = cpu_to_le16(SPECKV_CPL_ABORTED << 1),
	};
	u32 i;

	for (i = 0; i < queue->depth; i++) {
		if (queue->slots[i].kind > SPECKV_SLOT_RESERVED)
			speckv_queue_answer(queue, i, &aborted, error);
	}
	queue->head = queue->tail;
}

/*
 * queue->lock held: takes what the engine has written. An answer that nobody waits for stands in
 * the place of one that somebody does, who would wait for ever: the queue is then in error.
 */
static bool speckv_queue_drain(struct speckv_queue *queue)
{
	bool any = false;
	struct speckv_cpl cpl;
	u64 *first;
	u16 tag;

	for (;;) {
		first = (u64 *)&queue->cpls[speckv_ring_slot(queue->head, queue->depth)];
		*(u64 *)&cpl = READ_ONCE(*first);
		if ((le16_to_cpu(cpl.status) & 1) != speckv_ring_phase(queue->head, queue->depth) ||
		    queue->head == queue->tail)
			return any;
		/* The engine, a CPU or a card, has written this half last: the other is there. */
		dma_rmb();
		((u64 *)&cpl)[1] = READ_ONCE(first[1]);
		queue->head++;
		any = true;
		tag = le16_to_cpu(cpl.tag);
		if (tag < queue->depth && queue->slots[tag].kind > SPECKV_SLOT_RESERVED) {
			speckv_queue_answer(queue, tag, &cpl, 0);
			continue;
		}
		trace_speckv_fault(queue, -EIO);
		queue->error = queue->error ?: -EIO;
		speckv_queue_abort(queue, -EIO);
		return true;
	}
}

void speckv_queue_event(struct speckv_queue *queue, bool armed)
{
	unsigned long flags;

	spin_lock_irqsave(&queue->lock, flags);
	if (queue->mode == SPECKV_QUEUE_BY_KERNEL && !queue->error)
		armed = speckv_queue_drain(queue);
	spin_unlock_irqrestore(&queue->lock, flags);
	if (armed)
		speckv_queue_notify(queue);
}

/* A queue that was stopped is left alone: whoever stopped it may free it. */
int speckv_queue_wake_engine(struct speckv_queue *queue)
{
	unsigned long flags;
	int error;

	spin_lock_irqsave(&queue->lock, flags);
	error = queue->error;
	if (!error)
		queue->ctx->card->engine->kick(queue);
	spin_unlock_irqrestore(&queue->lock, flags);
	return error;
}

/* queue->admin held. What has gone stays so: the engine may not be there any more. */
static void speckv_queue_halt(struct speckv_queue *queue, int error)
{
	unsigned long flags;
	bool gone;

	lockdep_assert_held(&queue->admin);
	spin_lock_irqsave(&queue->lock, flags);
	gone = queue->error == -ENODEV;
	if (!gone)
		queue->error = error;
	spin_unlock_irqrestore(&queue->lock, flags);
	if (gone)
		return;
	trace_speckv_fault(queue, error);
	queue->ctx->card->engine->queue_disable(queue);
	spin_lock_irqsave(&queue->lock, flags);
	if (queue->mode == SPECKV_QUEUE_BY_KERNEL) {
		speckv_queue_drain(queue);
		speckv_queue_abort(queue, error);
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	speckv_queue_notify(queue);
}

/* The engine does not serve the queue any more. Any context. */
void speckv_queue_failed(struct speckv_queue *queue)
{
	unsigned long flags;

	spin_lock_irqsave(&queue->lock, flags);
	if (!queue->error) {
		trace_speckv_fault(queue, -EIO);
		queue->error = -EIO;
		if (queue->mode == SPECKV_QUEUE_BY_KERNEL) {
			speckv_queue_drain(queue);
			speckv_queue_abort(queue, -EIO);
		}
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	speckv_queue_notify(queue);
}

void speckv_queue_stop(struct speckv_queue *queue, int error)
{
	mutex_lock(&queue->admin);
	speckv_queue_halt(queue, error);
	mutex_unlock(&queue->admin);
}

/* card->renewal read */
static int speckv_queue_begin_anew(struct speckv_queue *queue)
{
	unsigned long flags;
	int error;

	guard(mutex)(&queue->admin);
	if (READ_ONCE(queue->error) == -ENODEV)
		return -ENODEV;
	if (queue->ctx->card->engine->fatal(queue->ctx->card))
		return -EIO;
	speckv_queue_halt(queue, -EIO);
	spin_lock_irqsave(&queue->lock, flags);
	speckv_queue_renew(queue);
	if (queue->mode == SPECKV_QUEUE_BY_KERNEL)
		queue->mode = SPECKV_QUEUE_UNUSED;
	spin_unlock_irqrestore(&queue->lock, flags);
	error = queue->ctx->card->engine->queue_enable(queue);
	if (error)
		return error;
	spin_lock_irqsave(&queue->lock, flags);
	if (queue->error != -ENODEV)
		queue->error = 0;
	spin_unlock_irqrestore(&queue->lock, flags);
	return 0;
}

int speckv_queue_restart(struct speckv_queue *queue)
{
	int error;

	speckv_card_steady(queue->ctx->card);
	error = speckv_queue_begin_anew(queue);
	up_read(&queue->ctx->card->renewal);
	return error;
}

/* Nothing was answered for a whole period although something was to be. */
static void speckv_queue_watch(struct work_struct *work)
{
	struct speckv_queue *queue =
		container_of(to_delayed_work(work), struct speckv_queue, watchdog);
	unsigned long period = msecs_to_jiffies(speckv_timeout_ms), end;
	bool again, stuck;

	speckv_queue_event(queue, false);
	spin_lock_irq(&queue->lock);
	if (queue->head != queue->watched) {
		queue->watched = queue->head;
		queue->watched_at = jiffies;
	}
	end = queue->watched_at + period;
	again = !queue->error && queue->head != queue->tail;
	stuck = again && time_after_eq(jiffies, end);
	if (again && !stuck)
		schedule_delayed_work(&queue->watchdog, end - jiffies);
	spin_unlock_irq(&queue->lock);
	if (stuck)
		speckv_queue_stop(queue, -ETIMEDOUT);
}

/* card->renewal read */
static int speckv_queue_join(struct speckv_queue *queue)
{
	struct speckv_card *card = queue->ctx->card;
	int error;

	mutex_lock(&card->lock);
	/* Removal says so and then stops those in the table: one or the other meets every queue. */
	error = READ_ONCE(card->gone) ? -ENODEV : speckv_card_take_queue(card, queue);
	mutex_unlock(&card->lock);
	if (error)
		return error;
	mutex_lock(&queue->admin);
	/* Stopped already: the card is being removed or reset. */
	error = queue->error ?: card->engine->queue_enable(queue);
	mutex_unlock(&queue->admin);
	return error;
}

/* Everything is there before the card's table leads others to the queue. */
static int speckv_queue_init(struct speckv_queue *queue, int eventfd)
{
	struct speckv_card *card = queue->ctx->card;
	u32 depth = queue->depth;
	int error;

	if (eventfd >= 0) {
		queue->eventfd = eventfd_ctx_fdget(eventfd);
		if (IS_ERR(queue->eventfd)) {
			queue->eventfd = NULL;
			return -EINVAL;
		}
	}
	queue->slots = kvcalloc(depth, sizeof(*queue->slots), GFP_KERNEL_ACCOUNT);
	queue->free_tags = kvcalloc(depth, sizeof(*queue->free_tags), GFP_KERNEL_ACCOUNT);
	queue->reap = kvcalloc(depth, sizeof(*queue->reap), GFP_KERNEL_ACCOUNT);
	if (!queue->slots || !queue->free_tags || !queue->reap)
		return -ENOMEM;
	error = card->engine->rings_alloc(queue);
	if (error)
		return error;
	speckv_queue_renew(queue);
	speckv_card_steady(card);
	error = speckv_queue_join(queue);
	up_read(&card->renewal);
	return error;
}

struct speckv_queue *speckv_queue_create(struct speckv_context *ctx, u32 depth, int eventfd,
					 bool internal)
{
	struct speckv_queue *queue = kzalloc(sizeof(*queue), GFP_KERNEL_ACCOUNT);
	int error;

	if (!queue)
		return ERR_PTR(-ENOMEM);
	kref_init(&queue->ref);
	queue->ctx = ctx;
	queue->depth = depth;
	queue->internal = internal;
	if (!internal)
		atomic_inc(&ctx->queue_count);
	mutex_init(&queue->admin);
	spin_lock_init(&queue->lock);
	init_waitqueue_head(&queue->room);
	INIT_DELAYED_WORK(&queue->watchdog, speckv_queue_watch);
	error = speckv_queue_init(queue, eventfd);
	if (error) {
		speckv_queue_put(queue);
		return ERR_PTR(error);
	}
	return queue;
}

/* The queue has been stopped. */
void speckv_queue_remove(struct speckv_queue *queue)
{
	cancel_delayed_work_sync(&queue->watchdog);
	speckv_queue_put(queue);
}

static void speckv_queue_vma_open(struct vm_area_struct *vma)
{
	struct speckv_queue *queue = vma->vm_private_data;

	kref_get(&queue->ref);
}

static void speckv_queue_vma_close(struct vm_area_struct *vma)
{
	speckv_queue_put(vma->vm_private_data);
}

static vm_fault_t speckv_queue_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct speckv_queue_vm_ops = {
	.open = speckv_queue_vma_open,
	.close = speckv_queue_vma_close,
	.fault = speckv_queue_fault,
};

/* From its first mapping on, the ring is the program's. */
static int speckv_queue_hand_over(struct speckv_queue *queue)
{
	int error = 0;

	spin_lock_irq(&queue->lock);
	if (queue->mode == SPECKV_QUEUE_BY_KERNEL || queue->reap_count)
		error = -EBUSY;
	else
		queue->mode = SPECKV_QUEUE_MAPPED;
	spin_unlock_irq(&queue->lock);
	return error;
}

int speckv_queue_mmap(struct speckv_queue *queue, struct vm_area_struct *vma, bool doorbell)
{
	const struct speckv_engine *engine = queue->ctx->card->engine;
	unsigned long size = vma->vm_end - vma->vm_start;
	int error;

	if (size > PAGE_ALIGN(doorbell ? PAGE_SIZE : speckv_ring_bytes(queue->depth)))
		return -EINVAL;
	error = doorbell ? engine->doorbell_map(queue, vma) : engine->rings_map(queue, vma);
	/* Last, so that what cannot be mapped stays the kernel's; an error takes the pages back. */
	if (!error && !doorbell)
		error = speckv_queue_hand_over(queue);
	if (error)
		return error;
	kref_get(&queue->ref);
	vma->vm_private_data = queue;
	vma->vm_ops = &speckv_queue_vm_ops;
	return 0;
}

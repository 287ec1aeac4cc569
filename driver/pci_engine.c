// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the driver asks of a card, by registers: docs/queue-protocol.md. A card that has gone
 * reads as all ones everywhere; a wait ends there, since nothing is written any more.
 */
#include <linux/bitfield.h>
#include <linux/dma-mapping.h>
#include <linux/iopoll.h>
#include <linux/log2.h>
#include <linux/pm_runtime.h>
#include "pci.h"

#define SPECKV_PCI_POLL_US	10
#define SPECKV_PCI_WAIT_US	(5 * USEC_PER_SEC)

static u32 speckv_pci_queue_reg(const struct speckv_queue *queue, u32 offset)
{
	return SPECKV_QUEUE_WINDOW + queue->index * SPECKV_QUEUE_STRIDE + offset;
}

int speckv_pci_wait(struct speckv_pci *pci, u32 offset, u32 bit, const char *what)
{
	u32 value;

	if (test_bit(SPECKV_PCI_BROKEN, &pci->state))
		return -EIO;
	if (!readl_poll_timeout(pci->regs + offset, value, !(value & bit) || value == ~0U,
				SPECKV_PCI_POLL_US, SPECKV_PCI_WAIT_US))
		return value == ~0U ? -ENODEV : 0;
	speckv_pci_give_up(pci, what);
	return -ETIMEDOUT;
}

/* ---- Queues ---- */

static int speckv_pci_rings_alloc(struct speckv_queue *queue)
{
	struct speckv_pci *pci = speckv_pci_of(queue->ctx->card);

	/* Whole pages: they can be mapped by the program. */
	queue->descs = dma_alloc_coherent(&pci->pdev->dev,
					  PAGE_ALIGN(speckv_ring_bytes(queue->depth)),
					  &queue->ring_bus, GFP_KERNEL_ACCOUNT);
	if (!queue->descs)
		return -ENOMEM;
	queue->cpls = (struct speckv_cpl *)(queue->descs + queue->depth);
	return 0;
}

static void speckv_pci_rings_free(struct speckv_queue *queue)
{
	dma_free_coherent(&speckv_pci_of(queue->ctx->card)->pdev->dev,
			  PAGE_ALIGN(speckv_ring_bytes(queue->depth)), queue->descs,
			  queue->ring_bus);
}

static void speckv_pci_queue_disable(struct speckv_queue *queue)
{
	struct speckv_pci *pci = speckv_pci_of(queue->ctx->card);
	struct speckv_pci_vector *vector = &pci->vectors[queue->index];
	u32 control = speckv_pci_queue_reg(queue, SPECKV_QUEUE_CONTROL);

	speckv_pci_write(pci, control, SPECKV_QUEUE_CONTROL_RESET);
	speckv_pci_wait(pci, control, SPECKV_QUEUE_CONTROL_RESET, "reset of a queue");
	spin_lock_irq(&vector->lock);
	vector->queue = NULL;
	spin_unlock_irq(&vector->lock);
}

static int speckv_pci_queue_enable(struct speckv_queue *queue)
{
	struct speckv_pci *pci = speckv_pci_of(queue->ctx->card);
	struct speckv_pci_vector *vector = &pci->vectors[queue->index];
	u32 state;

	if (pci->state)
		return -EIO;
	queue->pci.armed = 0;
	spin_lock_irq(&vector->lock);
	vector->queue = queue;
	vector->raised = false;
	spin_unlock_irq(&vector->lock);
	speckv_pci_write64(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_SUBMISSION_BASE),
			   queue->ring_bus);
	speckv_pci_write64(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_COMPLETION_BASE),
			   queue->ring_bus + queue->depth * sizeof(*queue->descs));
	speckv_pci_write(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_SETUP),
			 FIELD_PREP(SPECKV_QUEUE_SETUP_DEPTH_LOG2, ilog2(queue->depth)) |
			 FIELD_PREP(SPECKV_QUEUE_SETUP_TENANT, queue->ctx->tenant));
	speckv_pci_write(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_CONTROL),
			 SPECKV_QUEUE_CONTROL_ENABLE | SPECKV_QUEUE_CONTROL_INTERRUPT);
	state = speckv_pci_read(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_STATUS));
	if (FIELD_GET(SPECKV_QUEUE_STATUS_STATE, state) == SPECKV_QUEUE_READY)
		return 0;
	/* Whoever made it frees it: no interrupt may lead there, and no store of the card's. */
	speckv_pci_queue_disable(queue);
	return -EIO;
}

/* queue->lock held: one interrupt for the next answer, if none is on its way already. */
static void speckv_pci_arm(struct speckv_queue *queue)
{
	if (!speckv_ring_reached(queue->head, queue->pci.armed))
		return;
	queue->pci.armed = queue->head + 1;
	speckv_pci_write(speckv_pci_of(queue->ctx->card),
			 speckv_pci_doorbell_reg(queue, SPECKV_DOORBELL_ARM), queue->pci.armed);
}

static void speckv_pci_doorbell(struct speckv_queue *queue, u32 tail)
{
	speckv_pci_arm(queue);
	/* writel() orders the descriptors before the doorbell. */
	speckv_pci_write(speckv_pci_of(queue->ctx->card),
			 speckv_pci_doorbell_reg(queue, SPECKV_DOORBELL_TAIL), tail);
}

static void speckv_pci_kick(struct speckv_queue *queue)
{
	/* A card sees every store. */
}

irqreturn_t speckv_pci_queue_interrupt(int irq, void *data)
{
	struct speckv_pci_vector *vector = data;
	struct speckv_queue *queue;
	unsigned long flags;

	spin_lock_irqsave(&vector->lock, flags);
	queue = vector->queue;
	if (queue) {
		WRITE_ONCE(vector->raised, true);
		speckv_queue_event(queue, true);
		spin_lock(&queue->lock);
		if (queue->mode == SPECKV_QUEUE_BY_KERNEL && !queue->error &&
		    queue->head != queue->tail)
			speckv_pci_arm(queue);
		spin_unlock(&queue->lock);
	}
	spin_unlock_irqrestore(&vector->lock, flags);
	return IRQ_HANDLED;
}

/* Who stores to the doorbell page is not seen here; what the card took from the ring is. */
static bool speckv_pci_busy(struct speckv_queue *queue)
{
	struct speckv_pci *pci = speckv_pci_of(queue->ctx->card);

	return speckv_pci_read(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_COMPLETED)) !=
	       speckv_pci_read(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_FETCHED));
}

static bool speckv_pci_raised(struct speckv_queue *queue)
{
	return xchg(&speckv_pci_of(queue->ctx->card)->vectors[queue->index].raised, false);
}

/* ---- The card as a whole ---- */

static void speckv_pci_tenant_clear(struct speckv_card *card, u32 tenant)
{
	struct speckv_pci *pci = speckv_pci_of(card);

	if (!(card->caps.features & (SPECKV_FEATURE_DIRECTORY | SPECKV_FEATURE_PREDICT)))
		return;
	guard(mutex)(&pci->lock);
	speckv_pci_write(pci, SPECKV_CSR_TENANT_CLEAR, tenant);
	speckv_pci_wait(pci, SPECKV_CSR_TENANT_CLEAR, SPECKV_CSR_TENANT_CLEAR_BUSY,
			"forgetting a tenant");
}

int speckv_pci_renew(struct speckv_pci *pci)
{
	int error;

	if (test_bit(SPECKV_PCI_BROKEN, &pci->state))
		return -EIO;
	speckv_pci_write(pci, SPECKV_CSR_CONTROL, SPECKV_CSR_CONTROL_RESET);
	error = speckv_pci_wait(pci, SPECKV_CSR_CONTROL, SPECKV_CSR_CONTROL_RESET, "reset");
	if (!error)
		speckv_pci_write(pci, SPECKV_CSR_CONTROL, SPECKV_CSR_CONTROL_ENABLE);
	return error;
}

static int speckv_pci_reset(struct speckv_card *card)
{
	struct speckv_pci *pci = speckv_pci_of(card);

	pci->weights = SPECKV_CSR_WEIGHTS_RESET;
	pci->thresholds = SPECKV_CSR_THRESHOLDS_RESET;
	return speckv_pci_renew(pci);
}

static bool speckv_pci_fatal(struct speckv_card *card)
{
	struct speckv_pci *pci = speckv_pci_of(card);

	return pci->state || speckv_pci_read(pci, SPECKV_CSR_STATUS) & SPECKV_CSR_STATUS_FATAL;
}

static void speckv_pci_counters(struct speckv_card *card, u64 values[SPECKV_COUNTERS])
{
	struct speckv_pci *pci = speckv_pci_of(card);
	u32 i;

	guard(mutex)(&pci->lock);
	speckv_pci_write(pci, SPECKV_CSR_SNAPSHOT, 1);
	for (i = 0; i < SPECKV_COUNTERS; i++)
		values[i] = speckv_pci_read64(pci, SPECKV_CSR_COUNTER + i * sizeof(u64));
}

static u32 speckv_pci_tunable(struct speckv_card *card, u32 reg)
{
	return speckv_pci_read(speckv_pci_of(card), reg);
}

static int speckv_pci_tune(struct speckv_card *card, u32 reg, u32 value)
{
	struct speckv_pci *pci = speckv_pci_of(card);

	speckv_pci_write(pci, reg, value);
	/* The card knows what is valid. */
	if (speckv_pci_read(pci, reg) != value)
		return -EINVAL;
	*(reg == SPECKV_CSR_WEIGHTS ? &pci->weights : &pci->thresholds) = value;
	return 0;
}

/* Both at once may break a rule that each of them keeps with what was there before. */
void speckv_pci_tuned(struct speckv_pci *pci)
{
	speckv_pci_write(pci, SPECKV_CSR_WEIGHTS, pci->weights);
	speckv_pci_write(pci, SPECKV_CSR_THRESHOLDS, pci->thresholds);
}

void speckv_pci_find_errors(struct speckv_pci *pci)
{
	struct speckv_card *card = pci->card;
	bool fatal = speckv_pci_fatal(card);
	struct speckv_queue *queue;
	u32 i, n, status;
	u64 info;

	lockdep_assert_held(&card->lock);
	for (n = 0; n < SPECKV_MAX_ERROR_LOG; n++) {
		info = speckv_pci_read64(pci, SPECKV_CSR_ERROR_INFO);
		if (!info || info == U64_MAX)
			break;
		dev_warn_ratelimited(&card->dev, "error %#llx\n", info);
		speckv_pci_write(pci, SPECKV_CSR_ERROR_POP, 1);
	}
	/* The log may have been full: what counts is the state of each queue. */
	for (i = 0; i < card->caps.max_queues; i++) {
		queue = card->queues[i];
		if (!queue)
			continue;
		mutex_lock(&queue->admin);
		status = speckv_pci_read(pci, speckv_pci_queue_reg(queue, SPECKV_QUEUE_STATUS));
		if (fatal || FIELD_GET(SPECKV_QUEUE_STATUS_STATE, status) == SPECKV_QUEUE_ERROR)
			speckv_queue_failed(queue);
		mutex_unlock(&queue->admin);
	}
}

static int speckv_pci_inject(struct speckv_card *card, u32 kind, u64 argument)
{
	struct speckv_pci *pci = speckv_pci_of(card);

	if (!(card->caps.features & SPECKV_FEATURE_INJECT))
		return -EOPNOTSUPP;
	if (kind < SPECKV_INJECT_FATAL || kind > SPECKV_INJECT_COMPLETION ||
	    (kind == SPECKV_INJECT_POISON && argument >= card->caps.memory))
		return -EINVAL;
	if (kind >= SPECKV_INJECT_FETCH &&
	    (argument >= card->caps.max_queues || !card->queues[argument]))
		return -ENOENT;
	speckv_pci_write64(pci, SPECKV_CSR_INJECT_ARGUMENT, argument);
	speckv_pci_write(pci, SPECKV_CSR_INJECT, kind);
	speckv_pci_find_errors(pci);
	return 0;
}

static void speckv_pci_hold(struct speckv_card *card, bool hold)
{
	speckv_pci_write(speckv_pci_of(card), SPECKV_CSR_CONTROL,
			 hold ? 0 : SPECKV_CSR_CONTROL_ENABLE);
}

static int speckv_pci_wake(struct speckv_card *card)
{
	return pm_runtime_resume_and_get(&speckv_pci_of(card)->pdev->dev);
}

static void speckv_pci_rest(struct speckv_card *card)
{
	pm_runtime_mark_last_busy(&speckv_pci_of(card)->pdev->dev);
	pm_runtime_put_autosuspend(&speckv_pci_of(card)->pdev->dev);
}

const struct speckv_engine speckv_pci_engine = {
	.region_set = speckv_pci_region_set,
	.region_clear = speckv_pci_region_clear,
	.rings_alloc = speckv_pci_rings_alloc,
	.rings_free = speckv_pci_rings_free,
	.queue_enable = speckv_pci_queue_enable,
	.queue_disable = speckv_pci_queue_disable,
	.doorbell = speckv_pci_doorbell,
	.kick = speckv_pci_kick,
	.busy = speckv_pci_busy,
	.raised = speckv_pci_raised,
	.rings_map = speckv_pci_rings_map,
	.doorbell_map = speckv_pci_doorbell_map,
	.memory_map = speckv_pci_memory_map,
	.memory_clear = speckv_pci_memory_clear,
	.tenant_clear = speckv_pci_tenant_clear,
	.reset = speckv_pci_reset,
	.fatal = speckv_pci_fatal,
	.counters = speckv_pci_counters,
	.tunable = speckv_pci_tunable,
	.tune = speckv_pci_tune,
	.inject = speckv_pci_inject,
	.hold = speckv_pci_hold,
	.wake = speckv_pci_wake,
	.rest = speckv_pci_rest,
};

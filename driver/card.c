// SPDX-License-Identifier: GPL-2.0-only
/* A card from the moment it can be opened until the last open file lets go of it. */
#include <linux/capability.h>
#include <linux/debugfs.h>
#include <linux/slab.h>
#include "speckv_drv.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

static void speckv_card_release(struct device *dev)
{
	struct speckv_card *card = speckv_card_of(dev);

	if (card->memory)
		gen_pool_destroy(card->memory);
	cleanup_srcu_struct(&card->srcu);
	xa_destroy(&card->regions);
	ida_destroy(&card->tenants);
	mutex_destroy(&card->lock);
	speckv_minor_put(dev->devt);
	kfree(card);
}

static int speckv_card_init_memory(struct speckv_card *card)
{
	card->memory = gen_pool_create(PAGE_SHIFT, dev_to_node(card->dev.parent));
	if (!card->memory)
		return -ENOMEM;
	return gen_pool_add(card->memory, PAGE_SIZE, card->caps.memory,
			    dev_to_node(card->dev.parent));
}

/* A card that is not yet to be seen; put_device() frees it. */
struct speckv_card *speckv_card_create(struct device *parent, const struct speckv_engine *engine,
				       const struct speckv_caps *caps, void *private)
{
	struct speckv_card *card = kzalloc(sizeof(*card), GFP_KERNEL);
	int error;

	if (!card)
		return ERR_PTR(-ENOMEM);
	error = init_srcu_struct(&card->srcu);
	if (error)
		goto no_srcu;
	error = speckv_minor_get(&card->dev.devt);
	if (error < 0)
		goto no_minor;
	init_rwsem(&card->renewal);
	init_waitqueue_head(&card->returned);
	mutex_init(&card->lock);
	INIT_LIST_HEAD(&card->contexts);
	xa_init_flags(&card->regions, XA_FLAGS_ALLOC1);
	ida_init(&card->tenants);
	card->engine = engine;
	card->caps = *caps;
	card->private = private;
	card->quota = (struct speckv_quota){
		.memory = caps->memory,
		.queues = min(caps->max_queues, 8U),
		.regions = min(caps->max_regions - 1, 256U),
		.contexts = max(caps->max_tenants / 2, 1U),
	};
	card->dev.class = speckv_class;
	card->dev.parent = parent;
	card->dev.release = speckv_card_release;
	card->dev.groups = speckv_card_groups;
	device_initialize(&card->dev);
	error = dev_set_name(&card->dev, "speckv%u", MINOR(card->dev.devt));
	if (!error)
		error = speckv_card_init_memory(card);
	if (error) {
		put_device(&card->dev);
		return ERR_PTR(error);
	}
	return card;

no_minor:
	cleanup_srcu_struct(&card->srcu);
no_srcu:
	kfree(card);
	return ERR_PTR(error);
}

int speckv_card_add(struct speckv_card *card)
{
	int error;

	cdev_init(&card->cdev, &speckv_fops);
	card->cdev.owner = THIS_MODULE;
	error = cdev_device_add(&card->cdev, &card->dev);
	if (!error)
		speckv_debugfs_add(card);
	return error;
}

/* Mappings lead to the card's memory and doorbells; afterwards they raise SIGBUS. */
static void speckv_card_unmap(struct speckv_card *card)
{
	struct speckv_context *ctx;

	list_for_each_entry(ctx, &card->contexts, link)
		unmap_mapping_range(ctx->file->f_mapping, 0, 0, 1);
}

static void speckv_card_stop(struct speckv_card *card, int error)
{
	u32 i;

	lockdep_assert_held(&card->lock);
	for (i = 0; i < card->caps.max_queues; i++) {
		if (card->queues[i])
			speckv_queue_stop(card->queues[i], error);
	}
}

void speckv_card_lose(struct speckv_card *card)
{
	struct speckv_context *ctx;

	WRITE_ONCE(card->gone, true);
	/* Whoever waits inside of an entry point holds srcu: wake them first. */
	mutex_lock(&card->lock);
	list_for_each_entry(ctx, &card->contexts, link)
		speckv_context_stop(ctx, -ENODEV);
	mutex_unlock(&card->lock);
	synchronize_srcu(&card->srcu);
	mutex_lock(&card->lock);
	/* What was made meanwhile. */
	list_for_each_entry(ctx, &card->contexts, link)
		speckv_context_stop(ctx, -ENODEV);
	speckv_card_unmap(card);
	mutex_unlock(&card->lock);
}

void speckv_card_remove(struct speckv_card *card)
{
	struct speckv_context *ctx, *next;
	u32 i;

	debugfs_remove(card->debugfs);
	speckv_card_lose(card);
	cdev_device_del(&card->cdev, &card->dev);
	mutex_lock(&card->lock);
	list_for_each_entry_safe(ctx, next, &card->contexts, link)
		speckv_context_detach(ctx, -ENODEV);
	for (i = 0; i < card->caps.max_queues; i++) {
		if (card->queues[i])
			speckv_queue_free_rings(card->queues[i]);
	}
	mutex_unlock(&card->lock);
}

void speckv_card_steady(struct speckv_card *card)
{
	down_read(&card->renewal);
	while (card->handed_over) {
		up_read(&card->renewal);
		wait_event(card->returned, !READ_ONCE(card->handed_over));
		down_read(&card->renewal);
	}
}

static void speckv_card_seize(struct speckv_card *card)
{
	down_write(&card->renewal);
	mutex_lock(&card->lock);
}

void speckv_card_halt(struct speckv_card *card)
{
	speckv_card_seize(card);
	while (card->handed_over) {
		speckv_card_go_on(card);
		wait_event(card->returned, !READ_ONCE(card->handed_over));
		speckv_card_seize(card);
	}
	speckv_card_stop(card, -EIO);
}

int speckv_card_renew(struct speckv_card *card)
{
	struct speckv_region *region;
	unsigned long id;
	int error = READ_ONCE(card->gone) ? -ENODEV : card->engine->reset(card);

	lockdep_assert_held(&card->lock);
	card->current_step = 0;
	if (error)
		return error;
	xa_for_each(&card->regions, id, region) {
		if (!region->ctx->detached)
			error = card->engine->region_set(region) ?: error;
	}
	return error;
}

void speckv_card_go_on(struct speckv_card *card)
{
	mutex_unlock(&card->lock);
	up_write(&card->renewal);
}

/* No queue is enabled, and no region made, until the card is back. */
void speckv_card_hand_over(struct speckv_card *card)
{
	speckv_card_halt(card);
	WRITE_ONCE(card->handed_over, true);
	speckv_card_go_on(card);
}

int speckv_card_take_back(struct speckv_card *card)
{
	int error;

	speckv_card_seize(card);
	error = speckv_card_renew(card);
	WRITE_ONCE(card->handed_over, false);
	speckv_card_go_on(card);
	wake_up_all(&card->returned);
	return error;
}

/* All queues are in error afterwards, until their owners reset them; regions stay. */
int speckv_card_reset(struct speckv_card *card)
{
	int error;

	speckv_card_halt(card);
	error = speckv_card_renew(card);
	speckv_card_go_on(card);
	return error;
}

/*
 * Whether a user who has @mine of @all may have one more: the share is that of quota_contexts in
 * all tenants. Otherwise whoever opens a card often would leave nothing to others.
 */
bool speckv_card_grants(const struct speckv_card *card, u32 mine, u32 all)
{
	lockdep_assert_held(&card->lock);
	return mine < max(all * card->quota.contexts / card->caps.max_tenants, 1U) ||
	       capable(CAP_SYS_ADMIN);
}

/* A number for the queue, whose order in the table is that of the card's queues. */
int speckv_card_take_queue(struct speckv_card *card, struct speckv_queue *queue)
{
	u32 i, mine = 0, most = card->caps.max_queues, first = most;

	lockdep_assert_held(&card->lock);
	for (i = 0; i < most; i++) {
		if (card->queues[i])
			mine += uid_eq(card->queues[i]->ctx->owner, queue->ctx->owner);
		else
			first = min(first, i);
	}
	if (!speckv_card_grants(card, mine, most))
		return -EDQUOT;
	if (first == most)
		return -ENOSPC;
	card->queues[first] = queue;
	queue->index = first;
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/* One open file: a tenant of the card, with the regions and queues that are its own. */
#include <linux/poll.h>
#include <linux/slab.h>
#include "speckv_drv.h"

/* card->lock held. A user's contexts are bounded, so that none takes all tenants. */
static int speckv_context_admit(struct speckv_context *ctx)
{
	struct speckv_card *card = ctx->card;
	struct speckv_context *other;
	u32 mine = 0;
	int tenant;

	list_for_each_entry(other, &card->contexts, link)
		mine += uid_eq(other->owner, ctx->owner);
	if (mine >= card->quota.contexts && !capable(CAP_SYS_ADMIN))
		return -EDQUOT;
	tenant = ida_alloc_max(&card->tenants, card->caps.max_tenants - 1, GFP_KERNEL);
	if (tenant < 0)
		return tenant;
	ctx->tenant = tenant;
	card->engine->tenant_clear(card, tenant);	/* takes the weights of today */
	list_add_tail(&ctx->link, &card->contexts);
	return 0;
}

/* The card is awake before a lock is taken: the kernel's own of its bus are outside of ours. */
static int speckv_context_join(struct speckv_context *ctx)
{
	struct speckv_card *card = ctx->card;
	int error = READ_ONCE(card->gone) ? -ENODEV : speckv_card_wake(card);

	if (error)
		return error;
	speckv_card_steady(card);
	mutex_lock(&card->lock);
	error = READ_ONCE(card->gone) ? -ENODEV : speckv_context_admit(ctx);
	mutex_unlock(&card->lock);
	up_read(&card->renewal);
	if (error)
		speckv_card_rest(card);
	return error;
}

static int speckv_open(struct inode *inode, struct file *file)
{
	struct speckv_card *card = container_of(inode->i_cdev, struct speckv_card, cdev);
	struct speckv_context *ctx;
	int error, srcu;

	ctx = kzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);
	if (!ctx)
		return -ENOMEM;
	ctx->card = card;
	ctx->file = file;
	ctx->owner = current_euid();
	ctx->prefetch_depth = 4;
	ctx->scheme = SPECKV_CODEC_RAW;
	init_waitqueue_head(&ctx->wait);
	mutex_init(&ctx->lock);
	mutex_init(&ctx->ask_lock);
	xa_init(&ctx->queues);
	INIT_LIST_HEAD(&ctx->advice);
	srcu = srcu_read_lock(&card->srcu);
	error = speckv_context_join(ctx);
	srcu_read_unlock(&card->srcu, srcu);
	if (error) {
		kfree(ctx);
		return error;
	}
	get_device(&card->dev);
	file->private_data = ctx;
	return nonseekable_open(inode, file);
}

void speckv_context_notify(struct speckv_context *ctx)
{
	if (wq_has_sleeper(&ctx->wait))
		wake_up_all(&ctx->wait);
}

void speckv_context_stop(struct speckv_context *ctx, int error)
{
	struct speckv_card *card = ctx->card;
	u32 i;

	lockdep_assert_held(&card->lock);
	for (i = 0; i < card->caps.max_queues; i++) {
		if (card->queues[i] && card->queues[i]->ctx == ctx)
			speckv_queue_stop(card->queues[i], error);
	}
	wake_up_all(&ctx->wait);
}

void speckv_context_detach(struct speckv_context *ctx, int error)
{
	struct speckv_card *card = ctx->card;
	struct speckv_region *region;
	unsigned long id;

	lockdep_assert_held(&card->lock);
	if (ctx->detached)
		return;
	speckv_context_stop(ctx, error);
	xa_for_each(&card->regions, id, region) {
		if (region->ctx == ctx)
			card->engine->region_clear(region);
	}
	card->engine->tenant_clear(card, ctx->tenant);
	ctx->detached = true;
	list_del_init(&ctx->link);
	ida_free(&card->tenants, ctx->tenant);
	speckv_card_rest(card);
}

/* Nothing is mapped and nobody is inside of an entry point any more. */
static int speckv_release(struct inode *inode, struct file *file)
{
	struct speckv_context *ctx = file->private_data;
	struct speckv_card *card = ctx->card;
	struct speckv_region *region;
	struct speckv_queue *queue;
	unsigned long id;

	mutex_lock(&card->lock);
	speckv_context_detach(ctx, -ENODEV);
	mutex_unlock(&card->lock);
	xa_for_each(&ctx->queues, id, queue)
		speckv_queue_remove(queue);
	if (ctx->own)
		speckv_queue_remove(ctx->own);
	speckv_advice_drop(ctx, NULL);
	for (id = 0, region = speckv_region_next(ctx, &id); region;
	     region = speckv_region_next(ctx, &id))
		speckv_region_remove(region);
	xa_destroy(&ctx->queues);
	mutex_destroy(&ctx->lock);
	mutex_destroy(&ctx->ask_lock);
	kfree(ctx);
	put_device(&card->dev);
	return 0;
}

/* A card tells once of an interrupt that came: only whoever wants to know may ask. */
static __poll_t speckv_events(struct speckv_context *ctx, bool readable)
{
	struct speckv_queue *queue;
	unsigned long id;
	__poll_t events = 0;

	xa_lock(&ctx->queues);
	xa_for_each(&ctx->queues, id, queue) {
		if (READ_ONCE(queue->error))
			events |= EPOLLERR;
		if (readable && speckv_queue_readable(queue))
			events |= EPOLLIN | EPOLLRDNORM;
	}
	xa_unlock(&ctx->queues);
	return events;
}

static __poll_t speckv_poll(struct file *file, poll_table *table)
{
	struct speckv_context *ctx = file->private_data;
	__poll_t events = EPOLLHUP | EPOLLERR;
	int srcu;

	poll_wait(file, &ctx->wait, table);
	smp_mb();	/* on the list before it looks: pairs with that of wq_has_sleeper() */
	srcu = srcu_read_lock(&ctx->card->srcu);
	if (!READ_ONCE(ctx->card->gone))
		events = speckv_events(ctx, poll_requested_events(table) &
					    (EPOLLIN | EPOLLRDNORM));
	srcu_read_unlock(&ctx->card->srcu, srcu);
	return events;
}

/* Which object it is lies in the offset; the object is kept while it is mapped. */
static int speckv_map_object(struct speckv_context *ctx, struct vm_area_struct *vma)
{
	u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u32 id = SPECKV_MMAP_ID(offset);
	struct speckv_region *region;
	struct speckv_queue *queue;
	int error = -EINVAL;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	speckv_vm_flags_mod(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
	if (offset == SPECKV_MMAP_REGION(id)) {
		region = speckv_region_get(ctx, id);
		if (!region)
			return -ENOENT;
		error = speckv_region_mmap(region, vma);
		speckv_region_put(region);
	} else if (offset == SPECKV_MMAP_RING(id) || offset == SPECKV_MMAP_DOORBELL(id)) {
		queue = speckv_queue_get(ctx, id);
		if (!queue)
			return -ENOENT;
		error = speckv_queue_mmap(queue, vma, offset == SPECKV_MMAP_DOORBELL(id));
		speckv_queue_put(queue);
	}
	return error;
}

static int speckv_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct speckv_context *ctx = file->private_data;
	int srcu = srcu_read_lock(&ctx->card->srcu);
	int error = READ_ONCE(ctx->card->gone) ? -ENODEV : speckv_map_object(ctx, vma);

	srcu_read_unlock(&ctx->card->srcu, srcu);
	return error;
}

const struct file_operations speckv_fops = {
	.owner = THIS_MODULE,
	.open = speckv_open,
	.release = speckv_release,
	.unlocked_ioctl = speckv_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.uring_cmd = speckv_uring_cmd,
	.mmap = speckv_mmap,
	.poll = speckv_poll,
};

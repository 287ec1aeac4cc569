// SPDX-License-Identifier: GPL-2.0-only
/* Memory that descriptors may name: the card's, or a program's pinned pages. */
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "speckv_drv.h"

#define SPECKV_PIN_AT_ONCE	1024UL

static void speckv_region_unpin(struct speckv_region *region)
{
	if (region->cpu)
		vunmap(region->cpu);
	if (region->page_count)
		unpin_user_pages_dirty_lock(region->pages, region->page_count, region->writable);
	kvfree(region->pages);
}

int speckv_region_lock_pages(struct speckv_region *region, unsigned long count)
{
	int error;

	region->mm = current->mm;
	mmgrab(region->mm);
	error = account_locked_vm(region->mm, count, true);
	if (error)
		return error == -ENOMEM ? -EDQUOT : error;
	region->locked = count;
	return 0;
}

static void speckv_region_unlock_pages(struct speckv_region *region)
{
	if (!region->mm)
		return;
	account_locked_vm(region->mm, region->locked, false);
	mmdrop(region->mm);
}

static void speckv_region_free(struct kref *ref)
{
	struct speckv_region *region = container_of(ref, struct speckv_region, ref);

	switch (region->kind) {
	case SPECKV_REGION_CARD:
		if (region->accounted) {
			gen_pool_free(region->ctx->card->memory, region->base + PAGE_SIZE,
				      region->length);
			atomic64_sub(region->length, &region->ctx->memory_used);
		}
		break;
	case SPECKV_REGION_PINNED:
		speckv_region_unpin(region);
		break;
	case SPECKV_REGION_KERNEL:
		free_page((unsigned long)region->cpu);
		break;
	case SPECKV_REGION_IMPORTED:
		speckv_dmabuf_put(region);
		break;
	}
	speckv_region_unlock_pages(region);
	kvfree(region->advice);
	kfree(region);
}

void speckv_region_put(struct speckv_region *region)
{
	kref_put(&region->ref, speckv_region_free);
}

struct speckv_region *speckv_region_get(struct speckv_context *ctx, u32 id)
{
	struct speckv_region *region;

	xa_lock(&ctx->card->regions);
	region = xa_load(&ctx->card->regions, id);
	/* One that is being made is reserved but not there yet: NULL. */
	if (region && region->ctx == ctx && region->kind != SPECKV_REGION_KERNEL)
		kref_get(&region->ref);
	else
		region = NULL;
	xa_unlock(&ctx->card->regions);
	return region;
}

void speckv_region_remove(struct speckv_region *region)
{
	struct speckv_card *card = region->ctx->card;

	/* Whoever goes through all of them has the lock, and they stay. */
	mutex_lock(&card->lock);
	if (region->kind != SPECKV_REGION_KERNEL)
		region->ctx->region_count--;
	xa_erase(&card->regions, region->id);
	mutex_unlock(&card->lock);
	region->id = 0;		/* what is still mapped cannot be named any more */
	speckv_region_put(region);
}

struct speckv_region *speckv_region_next(struct speckv_context *ctx, unsigned long *id)
{
	struct xarray *all = &ctx->card->regions;
	struct speckv_region *region;

	guard(mutex)(&ctx->card->lock);
	region = xa_find(all, id, ULONG_MAX, XA_PRESENT);
	while (region && region->ctx != ctx)
		region = xa_find_after(all, id, ULONG_MAX, XA_PRESENT);
	return region;
}

/* Bytes of card memory that nobody else can see any more, zeroed. */
static int speckv_region_allocate(struct speckv_region *region)
{
	struct speckv_context *ctx = region->ctx;
	struct speckv_card *card = ctx->card;
	unsigned long at;
	int error;

	if (atomic64_add_return(region->length, &ctx->memory_used) >
	    READ_ONCE(card->quota.memory)) {
		atomic64_sub(region->length, &ctx->memory_used);
		return -EDQUOT;
	}
	at = gen_pool_alloc(card->memory, region->length);
	if (!at) {
		atomic64_sub(region->length, &ctx->memory_used);
		return -ENOSPC;
	}
	region->base = at - PAGE_SIZE;
	region->accounted = true;
	speckv_card_steady(card);
	error = card->engine->memory_clear(card, region->base, region->length);
	up_read(&card->renewal);
	return error;
}

static int speckv_region_pin(struct speckv_region *region, u64 start)
{
	unsigned int flags = FOLL_LONGTERM | (region->writable ? FOLL_WRITE : 0);
	unsigned long count = region->length >> PAGE_SHIFT, now;
	long pinned = 0;
	int error;

	error = speckv_region_lock_pages(region, count);
	if (error)
		return error;
	region->pages = kvmalloc_array(count, sizeof(*region->pages),
				       GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!region->pages)
		return -ENOMEM;
	while (region->page_count < count) {
		now = min(count - region->page_count, SPECKV_PIN_AT_ONCE);
		mmap_read_lock(region->mm);
		pinned = speckv_pin_user_pages(start + (region->page_count << PAGE_SHIFT), now,
					       flags, region->pages + region->page_count);
		mmap_read_unlock(region->mm);
		if (pinned <= 0)
			return pinned == -ENOMEM || pinned == -EINTR ? pinned : -EFAULT;
		region->page_count += pinned;
		cond_resched();
	}
	return 0;
}

static int speckv_region_check(struct speckv_context *ctx,
			       const struct speckv_region_create *args)
{
	const u32 known = SPECKV_REGION_USER | SPECKV_REGION_READ_ONLY;

	if (args->flags & ~known || args->__reserved)
		return -EOPNOTSUPP;
	if (!args->length || !PAGE_ALIGNED(args->length) || !PAGE_ALIGNED(args->user_va))
		return -EINVAL;
	if (!(args->flags & SPECKV_REGION_USER)) {
		if (args->user_va)
			return -EINVAL;
		return args->length > ctx->card->caps.memory ? -ENOSPC : 0;
	}
	if (args->length >> PAGE_SHIFT > totalram_pages())
		return -EDQUOT;
	if (args->user_va >= TASK_SIZE || args->length > TASK_SIZE - args->user_va)
		return -EFAULT;
	return 0;
}

/* Takes a number for it and tells the engine; only then can it be found. */
static int speckv_region_publish(struct speckv_region *region)
{
	struct speckv_card *card = region->ctx->card;
	int error;

	speckv_card_steady(card);
	error = xa_alloc(&card->regions, &region->id, NULL,
			 XA_LIMIT(1, card->caps.max_regions - 1), GFP_KERNEL);
	if (!error) {
		error = card->engine->region_set(region);
		if (error)
			xa_erase(&card->regions, region->id);
		else
			xa_store(&card->regions, region->id, region, GFP_KERNEL);
	} else if (error == -EBUSY) {
		error = -ENOSPC;
	}
	up_read(&card->renewal);
	return error;
}

static struct speckv_region *speckv_region_new(struct speckv_context *ctx,
					       enum speckv_region_kind kind, u64 length)
{
	struct speckv_region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);

	if (!region)
		return NULL;
	kref_init(&region->ref);
	region->ctx = ctx;
	region->kind = kind;
	region->length = length;
	region->writable = true;
	return region;
}

/* One region more of the context, if it and its user may have it. */
static int speckv_region_admit(struct speckv_context *ctx)
{
	struct speckv_card *card = ctx->card;
	struct speckv_context *other;
	u32 mine = 0;

	guard(mutex)(&card->lock);
	list_for_each_entry(other, &card->contexts, link)
		mine += uid_eq(other->owner, ctx->owner) ? other->region_count : 0;
	if (ctx->region_count >= card->quota.regions ||
	    !speckv_card_grants(card, mine, card->caps.max_regions - 1))
		return -EDQUOT;
	ctx->region_count++;
	return 0;
}

static void speckv_region_give_back(struct speckv_context *ctx)
{
	guard(mutex)(&ctx->card->lock);
	ctx->region_count--;
}

/* ctx->lock held. A program's own, not yet filled and without an id. */
static struct speckv_region *speckv_region_begin(struct speckv_context *ctx,
						 enum speckv_region_kind kind, u64 length,
						 u32 flags)
{
	struct speckv_region *region;
	int error;

	lockdep_assert_held(&ctx->lock);
	error = speckv_region_admit(ctx);
	if (error)
		return ERR_PTR(error);
	region = speckv_region_new(ctx, kind, length);
	if (!region) {
		speckv_region_give_back(ctx);
		return ERR_PTR(-ENOMEM);
	}
	region->writable = !(flags & SPECKV_REGION_READ_ONLY);
	return region;
}

/* ctx->lock held. What could be filled gets its id; what could not is freed. */
static int speckv_region_finish(struct speckv_region *region, int error)
{
	if (!error)
		error = speckv_region_publish(region);
	if (!error)
		return 0;
	speckv_region_give_back(region->ctx);
	speckv_region_put(region);
	return error;
}

int speckv_region_create(struct speckv_context *ctx, struct speckv_region_create *args)
{
	bool user = args->flags & SPECKV_REGION_USER;
	struct speckv_region *region;
	int error = speckv_region_check(ctx, args);

	if (error)
		return error;
	guard(mutex)(&ctx->lock);
	region = speckv_region_begin(ctx, user ? SPECKV_REGION_PINNED : SPECKV_REGION_CARD,
				     args->length, args->flags);
	if (IS_ERR(region))
		return PTR_ERR(region);
	error = user ? speckv_region_pin(region, args->user_va) : speckv_region_allocate(region);
	error = speckv_region_finish(region, error);
	if (error)
		return error;
	args->out_id = region->id;
	args->out_mmap_offset = user ? 0 : SPECKV_MMAP_REGION(region->id);
	return 0;
}

int speckv_region_import(struct speckv_context *ctx, struct speckv_region_import *args)
{
	struct speckv_region *region;
	int error;

	if (args->flags & ~SPECKV_REGION_READ_ONLY)
		return -EOPNOTSUPP;
	if (!args->length || !PAGE_ALIGNED(args->length) || !PAGE_ALIGNED(args->offset))
		return -EINVAL;
	guard(mutex)(&ctx->lock);
	region = speckv_region_begin(ctx, SPECKV_REGION_IMPORTED, args->length, args->flags);
	if (IS_ERR(region))
		return PTR_ERR(region);
	error = speckv_region_finish(region, speckv_dmabuf_get(region, args));
	if (!error)
		args->out_id = region->id;
	return error;
}

/* A page of the kernel's that the card writes answers to. */
struct speckv_region *speckv_region_kernel(struct speckv_context *ctx)
{
	struct speckv_region *region = speckv_region_new(ctx, SPECKV_REGION_KERNEL, PAGE_SIZE);
	int error = -ENOMEM;

	if (!region)
		return ERR_PTR(-ENOMEM);
	region->cpu = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (region->cpu)
		error = speckv_region_publish(region);
	if (error) {
		speckv_region_put(region);
		return ERR_PTR(error);
	}
	return region;
}

static void speckv_region_vma_open(struct vm_area_struct *vma)
{
	struct speckv_region *region = vma->vm_private_data;

	kref_get(&region->ref);
}

static void speckv_region_vma_close(struct vm_area_struct *vma)
{
	speckv_region_put(vma->vm_private_data);
}

/* Everything was mapped at once; what is missing now went with the card. */
static vm_fault_t speckv_region_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct speckv_region_vm_ops = {
	.open = speckv_region_vma_open,
	.close = speckv_region_vma_close,
	.fault = speckv_region_fault,
};

struct speckv_region *speckv_region_of_vma(struct vm_area_struct *vma)
{
	return vma->vm_ops == &speckv_region_vm_ops ? vma->vm_private_data : NULL;
}

int speckv_region_mmap(struct speckv_region *region, struct vm_area_struct *vma)
{
	int error;

	if (region->kind != SPECKV_REGION_CARD || vma->vm_end - vma->vm_start > region->length)
		return -EINVAL;
	error = region->ctx->card->engine->memory_map(region, vma);
	if (error)
		return error;
	kref_get(&region->ref);
	vma->vm_private_data = region;
	vma->vm_ops = &speckv_region_vm_ops;
	return 0;
}

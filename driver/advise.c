// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hints by address, as madvise() has them: what the pages of mapped card memory are for. Each
 * page remembers its last hint; what will be wanted at a later step is brought into the fast
 * buffer when that step is near.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include "speckv_drv.h"

#define SPECKV_MAX_ADVICE	256	/* of a context; the oldest give way */

/* A range that is wanted at a step. Holds its region. */
struct speckv_advice {
	struct list_head link;
	struct speckv_region *region;
	u64 offset, length;
	u32 step;
};

static void speckv_advice_free(struct speckv_context *ctx, struct speckv_advice *advice)
{
	list_del(&advice->link);
	ctx->advice_count--;
	speckv_region_put(advice->region);
	kfree(advice);
}

/* ctx->lock held, or the context is being released. NULL: of all regions. */
void speckv_advice_drop(struct speckv_context *ctx, struct speckv_region *region)
{
	struct speckv_advice *advice, *next;

	list_for_each_entry_safe(advice, next, &ctx->advice, link) {
		if (!region || advice->region == region)
			speckv_advice_free(ctx, advice);
	}
}

/* Not wanted any more: the part of every waiting range that lies in this one. */
static int speckv_advice_cut(struct speckv_context *ctx, struct speckv_region *region, u64 offset,
			     u64 length)
{
	struct speckv_advice *advice, *next, *rest;
	u64 end = offset + length, last;

	list_for_each_entry_safe(advice, next, &ctx->advice, link) {
		last = advice->offset + advice->length;
		if (advice->region != region || advice->offset >= end || last <= offset)
			continue;
		if (advice->offset < offset && last > end) {
			rest = kmemdup(advice, sizeof(*advice), GFP_KERNEL_ACCOUNT);
			if (!rest)
				return -ENOMEM;
			kref_get(&region->ref);
			rest->offset = end;
			rest->length = last - end;
			list_add(&rest->link, &advice->link);
			ctx->advice_count++;
		}
		if (advice->offset < offset) {
			advice->length = offset - advice->offset;
		} else if (last > end) {
			advice->offset = end;
			advice->length = last - end;
		} else {
			speckv_advice_free(ctx, advice);
		}
	}
	return 0;
}

static int speckv_advice_wait(struct speckv_context *ctx, struct speckv_region *region, u64 offset,
			      u64 length, u32 step)
{
	struct speckv_advice *advice = kmalloc(sizeof(*advice), GFP_KERNEL_ACCOUNT);

	if (!advice)
		return -ENOMEM;
	if (ctx->advice_count >= SPECKV_MAX_ADVICE)
		speckv_advice_free(ctx, list_first_entry(&ctx->advice, struct speckv_advice, link));
	kref_get(&region->ref);
	advice->region = region;
	advice->offset = offset;
	advice->length = length;
	advice->step = step;
	list_add_tail(&advice->link, &ctx->advice);
	ctx->advice_count++;
	return 0;
}

/* What is wanted within the look-ahead of this step is fetched now. */
static void speckv_advice_fetch(struct speckv_context *ctx, u32 step)
{
	u32 horizon = step + READ_ONCE(ctx->prefetch_depth);
	struct speckv_advice *advice, *next;

	list_for_each_entry_safe(advice, next, &ctx->advice, link) {
		if (!speckv_ring_reached(horizon, advice->step))
			continue;
		/* Dropped if there is no room: a prefetch is a hint. */
		speckv_prefetch_range(ctx, advice->region->id, advice->offset, advice->length);
		speckv_advice_free(ctx, advice);
	}
}

void speckv_advice_due(struct speckv_context *ctx, u32 step)
{
	guard(mutex)(&ctx->lock);
	if (speckv_ring_reached(step, ctx->step)) {
		ctx->step = step;
		speckv_advice_fetch(ctx, step);
	}
}

static int speckv_advise_region(struct speckv_context *ctx, struct speckv_region *region,
				u64 offset, u64 length, const struct speckv_advise *args)
{
	int error;

	if (!region->advice) {
		region->advice = kvzalloc(region->length >> PAGE_SHIFT, GFP_KERNEL_ACCOUNT);
		if (!region->advice)
			return -ENOMEM;
	}
	memset(region->advice + (offset >> PAGE_SHIFT), args->hint, length >> PAGE_SHIFT);
	error = speckv_advice_cut(ctx, region, offset, length);
	if (error)
		return error;
	switch (args->hint) {
	case SPECKV_HINT_HOT:
		return speckv_advice_wait(ctx, region, offset, length, ctx->step);
	case SPECKV_HINT_PREFETCHABLE:
		return speckv_advice_wait(ctx, region, offset, length, args->step);
	}
	return 0;
}

/* The piece of the next mapping of ours from @at on; 0: there is none below @end. */
static u64 speckv_advise_find(struct speckv_context *ctx, u64 at, u64 end,
			      struct speckv_region **region, u64 *offset, u64 *from)
{
	struct vm_area_struct *vma;
	u64 length = 0;

	*region = NULL;
	mmap_read_lock(current->mm);
	for (vma = find_vma(current->mm, at); vma && vma->vm_start < end;
	     vma = find_vma(current->mm, vma->vm_end)) {
		*region = speckv_region_of_vma(vma);
		if (*region && (*region)->ctx == ctx && READ_ONCE((*region)->id)) {
			*from = max_t(u64, at, vma->vm_start);
			length = min_t(u64, end, vma->vm_end) - *from;
			*offset = *from - vma->vm_start + ((u64)vma->vm_pgoff << PAGE_SHIFT) -
				  SPECKV_MMAP_REGION((*region)->id);
			kref_get(&(*region)->ref);
			break;
		}
	}
	mmap_read_unlock(current->mm);
	return length;
}

int speckv_advise(struct speckv_context *ctx, struct speckv_advise *args)
{
	u64 at = args->address, end, from, offset, length;
	struct speckv_region *region;
	bool all = true;
	int error = 0;

	if (args->__reserved || args->hint < SPECKV_HINT_HOT ||
	    args->hint > SPECKV_HINT_PREFETCHABLE)
		return -EOPNOTSUPP;
	if (!PAGE_ALIGNED(at) || !args->length || args->length > TASK_SIZE ||
	    at > TASK_SIZE - PAGE_ALIGN(args->length) ||
	    (args->step && args->hint != SPECKV_HINT_PREFETCHABLE))
		return -EINVAL;
	end = at + PAGE_ALIGN(args->length);
	guard(mutex)(&ctx->lock);
	while (at < end && !error) {
		length = speckv_advise_find(ctx, at, end, &region, &offset, &from);
		all = all && length && from == at;
		if (!length)
			break;
		error = speckv_advise_region(ctx, region, offset, length, args);
		speckv_region_put(region);
		at = from + length;
	}
	/* What is wanted within the look-ahead is not waited for. */
	speckv_advice_fetch(ctx, ctx->step);
	return error ?: all ? 0 : -ENOMEM;
}

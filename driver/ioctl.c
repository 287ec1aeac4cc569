// SPDX-License-Identifier: GPL-2.0-only
/* The table of commands, and how structures that begin with their size are read and written. */
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>
#include "speckv_drv.h"

#define SPECKV_BATCH	16	/* descriptors or completions copied at a time */

static int speckv_query(struct speckv_context *ctx, struct speckv_query *args)
{
	struct speckv_card *card = ctx->card;
	const struct speckv_caps *caps = &card->caps;
	u64 used = atomic64_read(&ctx->memory_used);

	guard(mutex)(&card->lock);
	*args = (struct speckv_query){
		.size = args->size,
		.out_version = SPECKV_CONTRACT_MAJOR << 16 | SPECKV_CONTRACT_MINOR,
		.out_features = caps->features,
		.out_codecs = caps->codecs,
		.out_opcodes = caps->opcodes,
		.out_max_depth = caps->max_depth,
		.out_max_queues = card->quota.queues,
		.out_max_regions = card->quota.regions,
		.out_max_length = caps->max_length,
		.out_block_tokens = caps->block_tokens,
		.out_memory = caps->memory,
		.out_free = min_t(u64, gen_pool_avail(card->memory),
				  card->quota.memory - min(used, card->quota.memory)),
	};
	return 0;
}

static bool speckv_in_flight(struct speckv_context *ctx)
{
	struct speckv_queue *queue;
	unsigned long id;

	xa_for_each(&ctx->queues, id, queue) {
		if (READ_ONCE(queue->error))
			continue;
		if (READ_ONCE(queue->mode) != SPECKV_QUEUE_MAPPED ?
		    READ_ONCE(queue->head) != READ_ONCE(queue->tail) :
		    ctx->card->engine->busy(queue))
			return true;
	}
	return false;
}

static int speckv_region_destroy(struct speckv_context *ctx, struct speckv_object *args)
{
	struct speckv_region *region;

	guard(mutex)(&ctx->lock);
	region = speckv_region_get(ctx, args->id);
	if (!region)
		return -ENOENT;
	if (speckv_in_flight(ctx)) {
		speckv_region_put(region);
		return -EBUSY;
	}
	speckv_advice_drop(ctx, region);
	/* No reset in between makes it known again. */
	speckv_card_steady(ctx->card);
	ctx->card->engine->region_clear(region);
	speckv_region_remove(region);
	up_read(&ctx->card->renewal);
	speckv_region_put(region);
	return 0;
}

static int speckv_queue_new(struct speckv_context *ctx, struct speckv_queue_create *args)
{
	struct speckv_queue *queue;
	u32 id;
	int error;

	if (args->flags || args->__reserved)
		return -EOPNOTSUPP;
	if (args->eventfd < -1 || args->depth < 2 || args->depth > ctx->card->caps.max_depth ||
	    args->depth & (args->depth - 1))
		return -EINVAL;
	guard(mutex)(&ctx->lock);
	if (atomic_read(&ctx->queue_count) >= READ_ONCE(ctx->card->quota.queues))
		return -EDQUOT;
	queue = speckv_queue_create(ctx, args->depth, args->eventfd, false);
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	id = queue->index + 1;
	error = xa_insert(&ctx->queues, id, queue, GFP_KERNEL);
	if (error) {
		speckv_queue_stop(queue, -ENODEV);
		speckv_queue_remove(queue);
		return error;
	}
	args->out_id = id;
	args->out_ring_offset = SPECKV_MMAP_RING(id);
	args->out_doorbell_offset = SPECKV_MMAP_DOORBELL(id);
	return 0;
}

static int speckv_queue_destroy(struct speckv_context *ctx, struct speckv_object *args)
{
	struct speckv_queue *queue;

	guard(mutex)(&ctx->lock);
	queue = xa_erase(&ctx->queues, args->id);
	if (!queue)
		return -ENOENT;
	speckv_queue_stop(queue, -ENODEV);
	speckv_queue_remove(queue);
	return 0;
}

static int speckv_queue_reset(struct speckv_context *ctx, struct speckv_object *args)
{
	struct speckv_queue *queue;
	int error;

	guard(mutex)(&ctx->lock);
	queue = speckv_queue_get(ctx, args->id);
	if (!queue)
		return -ENOENT;
	error = speckv_queue_restart(queue);
	speckv_queue_put(queue);
	return error;
}

static int speckv_queue_kick(struct speckv_context *ctx, struct speckv_object *args)
{
	struct speckv_queue *queue = speckv_queue_get(ctx, args->id);
	int error;

	if (!queue)
		return -ENOENT;
	error = READ_ONCE(queue->error);
	if (!error && !(ctx->card->caps.features & SPECKV_FEATURE_NEED_KICK))
		error = -EINVAL;
	if (!error)
		speckv_queue_serve(queue, true);
	speckv_queue_put(queue);
	return error;
}

/* Copies in and serves what fits, a few at a time; a fault in the middle ends it. */
static int speckv_submit_all(struct speckv_queue *queue, struct speckv_batch *args)
{
	const struct speckv_desc __user *from = u64_to_user_ptr(args->entries);
	struct speckv_desc descs[SPECKV_BATCH];
	int error = 0;
	u32 i, count;

	while (!error && args->out_count < args->count) {
		count = min_t(u32, SPECKV_BATCH, args->count - args->out_count);
		if (copy_from_user(descs, from + args->out_count, count * sizeof(*descs)))
			return -EFAULT;
		for (i = 0; i < count; i++) {
			error = speckv_queue_push(queue, &descs[i], SPECKV_SLOT_REAP, NULL, NULL);
			if (error)
				break;
			args->out_count++;
		}
		speckv_queue_serve(queue, true);
	}
	return error;
}

static int speckv_submit_batch(struct speckv_context *ctx, struct speckv_batch *args)
{
	struct speckv_queue *queue;
	int error;

	if (!args->count)
		return -EINVAL;
	args->out_count = 0;
	queue = speckv_queue_get(ctx, args->queue);
	if (!queue)
		return -ENOENT;
	error = speckv_submit_all(queue, args);
	speckv_queue_put(queue);
	return args->out_count ? 0 : error;
}

static int speckv_reap_batch(struct speckv_context *ctx, struct speckv_batch *args)
{
	struct speckv_cpl cpls[SPECKV_BATCH], __user *to = u64_to_user_ptr(args->entries);
	struct speckv_queue *queue;
	int error = 0;
	u32 count;

	if (!args->count)
		return -EINVAL;
	args->out_count = 0;
	/* Answers that could not be told would be lost: look before they are taken. */
	if (!access_ok(to, (u64)args->count * sizeof(*cpls)))
		return -EFAULT;
	queue = speckv_queue_get(ctx, args->queue);
	if (!queue)
		return -ENOENT;
	if (READ_ONCE(queue->mode) == SPECKV_QUEUE_MAPPED)
		error = -EBUSY;
	while (!error && args->out_count < args->count) {
		count = min_t(u32, SPECKV_BATCH, args->count - args->out_count);
		if (fault_in_safe_writeable((char __user *)(to + args->out_count),
					    count * sizeof(*cpls))) {
			error = -EFAULT;
			break;
		}
		count = speckv_queue_reap(queue, cpls, count);
		if (!count)
			break;
		if (copy_to_user(to + args->out_count, cpls, count * sizeof(*cpls)))
			error = -EFAULT;
		else
			args->out_count += count;
	}
	if (!error && !args->out_count) {
		error = READ_ONCE(queue->error);
		if (error == -ETIMEDOUT)
			error = -EIO;
	}
	speckv_queue_put(queue);
	return args->out_count ? 0 : error;
}

union speckv_arguments {
	u32 size;
	struct speckv_query query;
	struct speckv_object object;
	struct speckv_region_create region_create;
	struct speckv_region_import region_import;
	struct speckv_queue_create queue_create;
	struct speckv_batch batch;
	struct speckv_step step;
	struct speckv_hint hint;
	struct speckv_advise advise;
	struct speckv_weights weights;
	struct speckv_telemetry_read telemetry;
	struct speckv_param param;
	struct speckv_prefetch prefetch;
};

struct speckv_command {
	int (*run)(struct speckv_context *ctx, union speckv_arguments *args);
	u16 size;
};

/* Calls through a pointer of one type, with arguments of the right one. */
#define SPECKV_RUN(fn, member)							\
static int fn##_run(struct speckv_context *ctx, union speckv_arguments *args)	\
{										\
	return fn(ctx, &args->member);						\
}

SPECKV_RUN(speckv_query, query)
SPECKV_RUN(speckv_region_destroy, object)
SPECKV_RUN(speckv_queue_destroy, object)
SPECKV_RUN(speckv_queue_reset, object)
SPECKV_RUN(speckv_queue_kick, object)
SPECKV_RUN(speckv_region_create, region_create)
SPECKV_RUN(speckv_region_import, region_import)
SPECKV_RUN(speckv_queue_new, queue_create)
SPECKV_RUN(speckv_submit_batch, batch)
SPECKV_RUN(speckv_reap_batch, batch)
SPECKV_RUN(speckv_step, step)
SPECKV_RUN(speckv_hint, hint)
SPECKV_RUN(speckv_advise, advise)
SPECKV_RUN(speckv_weights, weights)
SPECKV_RUN(speckv_telemetry_read, telemetry)
SPECKV_RUN(speckv_param_set, param)
SPECKV_RUN(speckv_param_get, param)
SPECKV_RUN(speckv_prefetch, prefetch)

/* The first version's size is today's: a smaller one is refused, a larger one must be 0 there. */
#define SPECKV_COMMAND(number, member, fn) \
	[_IOC_NR(number)] = { fn##_run, sizeof(((union speckv_arguments *)0)->member) }

static const struct speckv_command speckv_commands[] = {
	SPECKV_COMMAND(SPECKV_IOC_QUERY, query, speckv_query),
	SPECKV_COMMAND(SPECKV_IOC_REGION_DESTROY, object, speckv_region_destroy),
	SPECKV_COMMAND(SPECKV_IOC_QUEUE_DESTROY, object, speckv_queue_destroy),
	SPECKV_COMMAND(SPECKV_IOC_QUEUE_RESET, object, speckv_queue_reset),
	SPECKV_COMMAND(SPECKV_IOC_QUEUE_KICK, object, speckv_queue_kick),
	SPECKV_COMMAND(SPECKV_IOC_REGION_CREATE, region_create, speckv_region_create),
	SPECKV_COMMAND(SPECKV_IOC_REGION_IMPORT, region_import, speckv_region_import),
	SPECKV_COMMAND(SPECKV_IOC_QUEUE_CREATE, queue_create, speckv_queue_new),
	SPECKV_COMMAND(SPECKV_IOC_SUBMIT, batch, speckv_submit_batch),
	SPECKV_COMMAND(SPECKV_IOC_REAP, batch, speckv_reap_batch),
	SPECKV_COMMAND(SPECKV_IOC_STEP, step, speckv_step),
	SPECKV_COMMAND(SPECKV_IOC_HINT, hint, speckv_hint),
	SPECKV_COMMAND(SPECKV_IOC_ADVISE, advise, speckv_advise),
	SPECKV_COMMAND(SPECKV_IOC_WEIGHTS, weights, speckv_weights),
	SPECKV_COMMAND(SPECKV_IOC_TELEMETRY, telemetry, speckv_telemetry_read),
	SPECKV_COMMAND(SPECKV_IOC_PARAM_SET, param, speckv_param_set),
	SPECKV_COMMAND(SPECKV_IOC_PARAM_GET, param, speckv_param_get),
	SPECKV_COMMAND(SPECKV_IOC_PREFETCH, prefetch, speckv_prefetch),
};

/*
 * A change of state whose result cannot be told is worse than an EFAULT: what was read is written
 * back first, which shows that it can be.
 */
static int speckv_read_arguments(void __user *from, const struct speckv_command *command,
				 union speckv_arguments *args)
{
	u32 size;
	int error;

	if (get_user(size, (u32 __user *)from))
		return -EFAULT;
	if (size < command->size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	error = copy_struct_from_user(args, command->size, from, size);
	if (error)
		return error;
	args->size = size;	/* as it was looked at, not as it may be by now */
	return copy_to_user(from, args, command->size) ? -EFAULT : 0;
}

long speckv_ioctl(struct file *file, unsigned int number, unsigned long argument)
{
	struct speckv_context *ctx = file->private_data;
	const struct speckv_command *command;
	void __user *user = (void __user *)argument;
	union speckv_arguments args = {};
	u32 index = _IOC_NR(number);
	int error, srcu;

	if (index >= ARRAY_SIZE(speckv_commands) || number != _IO(SPECKV_IOC, index) ||
	    !speckv_commands[index].run)
		return -ENOTTY;
	command = &speckv_commands[array_index_nospec(index, ARRAY_SIZE(speckv_commands))];
	error = speckv_read_arguments(user, command, &args);
	if (error)
		return error;
	srcu = srcu_read_lock(&ctx->card->srcu);
	error = READ_ONCE(ctx->card->gone) ? -ENODEV : command->run(ctx, &args);
	srcu_read_unlock(&ctx->card->srcu, srcu);
	if (error)
		return error;
	return copy_to_user(user, &args, command->size) ? -EFAULT : 0;
}

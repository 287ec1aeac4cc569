// SPDX-License-Identifier: GPL-2.0-only
/* Commands that the card answers at once: steps, hints, weights, telemetry; and parameters. */
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include "speckv_drv.h"

#define SPECKV_OWN_DEPTH	64U
#define SPECKV_MAX_PREFETCH_DEPTH 16
#define SPECKV_ADDRESS_HIGH	((1U << (SPECKV_ADDRESS_BITS - 64)) - 1)

/* The context's own queue, made when first needed, renewed after an error. ctx->lock held. */
static struct speckv_queue *speckv_own_queue(struct speckv_context *ctx)
{
	struct speckv_queue *queue = ctx->own;
	int error;

	lockdep_assert_held(&ctx->lock);
	if (!queue) {
		queue = speckv_queue_create(ctx, min(SPECKV_OWN_DEPTH, ctx->card->caps.max_depth),
					    -1, true);
		if (!IS_ERR(queue))
			ctx->own = queue;
		return queue;
	}
	if (READ_ONCE(queue->error)) {
		error = speckv_queue_restart(queue);
		if (error)
			return ERR_PTR(error);
	}
	return queue;
}

/* False: a signal came first. io_uring's notifications of its own work are no signals. */
static bool speckv_ask_answered(struct speckv_queue *queue, struct speckv_wait *wait)
{
	while (wait_for_completion_interruptible(&wait->done)) {
		if (task_sigpending(current)) {
			speckv_queue_forget(queue, wait);
			return try_wait_for_completion(&wait->done);
		}
		if (wait_for_completion_killable_timeout(&wait->done, SPECKV_SIGNALS_EVERY) > 0)
			return true;
	}
	return true;
}

/* Not interruptible: where the answer may not get lost. */
static int speckv_ask_wait(struct speckv_context *ctx, const struct speckv_desc *desc,
			   struct speckv_cpl *cpl, bool interruptible)
{
	struct speckv_wait wait = { .done = COMPLETION_INITIALIZER_ONSTACK(wait.done) };
	struct speckv_queue *queue;
	int error;

	if (!(ctx->card->caps.opcodes & BIT(desc->opcode)))
		return -EOPNOTSUPP;
	mutex_lock(&ctx->lock);
	queue = speckv_own_queue(ctx);
	mutex_unlock(&ctx->lock);
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	for (;;) {
		error = speckv_queue_push(queue, desc, SPECKV_SLOT_WAIT, &wait, NULL);
		if (error != -EAGAIN)
			break;
		if (speckv_queue_wait_room(queue))
			return -EINTR;
	}
	if (error)
		return error;
	speckv_queue_serve(queue, true);
	/* The watchdog answers if the card does not. */
	if (!interruptible)
		wait_for_completion(&wait.done);
	else if (!speckv_ask_answered(queue, &wait))
		return -EINTR;
	if (wait.error)
		return wait.error;
	*cpl = wait.cpl;
	return speckv_cpl_errno(speckv_cpl_code(cpl));
}

int speckv_ask(struct speckv_context *ctx, const struct speckv_desc *desc, struct speckv_cpl *cpl)
{
	return speckv_ask_wait(ctx, desc, cpl, true);
}

int speckv_step(struct speckv_context *ctx, struct speckv_step *args)
{
	struct speckv_desc desc = {
		.opcode = SPECKV_OP_STEP,
		.hint.step = cpu_to_le32(args->step),
	};
	struct speckv_cpl cpl;
	int error;

	if (args->flags)
		return -EOPNOTSUPP;
	error = speckv_ask(ctx, &desc, &cpl);
	if (error)
		return error;
	args->out_candidates = le32_to_cpu(cpl.result);
	WRITE_ONCE(ctx->card->current_step, args->step);
	speckv_advice_due(ctx, args->step);
	return 0;
}

int speckv_hint(struct speckv_context *ctx, struct speckv_hint *args)
{
	struct speckv_desc desc = {
		.opcode = SPECKV_OP_HINT,
		.hint = { .hint = args->hint, .step = cpu_to_le32(args->step) },
		.address_low = cpu_to_le64(args->address_low),
		.address_high = cpu_to_le32(args->address_high),
		.tokens = cpu_to_le16(args->tokens),
	};
	struct speckv_cpl cpl;
	int error;

	if (args->hint < SPECKV_HINT_HOT || args->hint > SPECKV_HINT_FORGET)
		return -EOPNOTSUPP;
	if (!args->tokens || args->tokens > U16_MAX || args->address_high & ~SPECKV_ADDRESS_HIGH ||
	    args->address_low >> SPECKV_ADDRESS_KIND_SHIFT & 1 ||
	    (args->address_low & U32_MAX) + args->tokens > 1ULL << SPECKV_ADDRESS_POSITION_BITS ||
	    (args->step && args->hint != SPECKV_HINT_PREFETCHABLE))
		return -EINVAL;
	error = speckv_ask(ctx, &desc, &cpl);
	if (!error)
		args->out_blocks = le32_to_cpu(cpl.result);
	return error;
}

int speckv_weights(struct speckv_context *ctx, struct speckv_weights *args)
{
	struct speckv_desc desc = {
		.opcode = SPECKV_OP_WEIGHTS,
		.weights = {
			.recency = args->recency,
			.frequency = args->frequency,
			.step_weight = args->step_weight,
			.durability = args->durability,
			.evict = args->evict,
			.prefetch = args->prefetch,
			.hysteresis = args->hysteresis,
		},
	};
	struct speckv_cpl cpl;

	if (args->flags || args->__reserved)
		return -EOPNOTSUPP;
	return speckv_ask(ctx, &desc, &cpl);
}

/* ask_lock held: the card writes to the answers' page, and one reader takes it from there. */
static int speckv_telemetry_ask(struct speckv_context *ctx, u32 report, u32 *length)
{
	struct speckv_region *region = ctx->answers;
	struct speckv_desc desc = {
		.opcode = SPECKV_OP_TELEMETRY,
		.length = cpu_to_le32(*length),
		.telemetry.report = report,
	};
	struct speckv_cpl cpl;
	int error;

	if (!region) {
		region = speckv_region_kernel(ctx);
		if (IS_ERR(region))
			return PTR_ERR(region);
		ctx->answers = region;
	}
	desc.dst_region = cpu_to_le32(region->id);
	error = speckv_ask_wait(ctx, &desc, &cpl, false);
	*length = min(le32_to_cpu(cpl.result), *length);
	return error;
}

int speckv_telemetry_read(struct speckv_context *ctx, struct speckv_telemetry_read *args)
{
	void __user *to = u64_to_user_ptr(args->buffer);
	u32 least = sizeof(struct speckv_candidate);
	u32 length = min_t(u32, args->length, SPECKV_MAX_CANDIDATES * least);
	int error;

	if (args->report > SPECKV_REPORT_PREFETCHES)
		return -EOPNOTSUPP;
	if (args->report == SPECKV_REPORT_COUNTERS)
		least = sizeof(struct speckv_telemetry);
	if (args->length < least)
		return -EINVAL;
	/* Candidates are told once: see first that they can be. */
	if (fault_in_safe_writeable(to, length))
		return -EFAULT;
	guard(mutex)(&ctx->ask_lock);
	error = speckv_telemetry_ask(ctx, args->report, &length);
	if (error)
		return error;
	if (copy_to_user(to, ctx->answers->cpu, length))
		return -EFAULT;
	args->out_length = length;
	return 0;
}

int speckv_param_set(struct speckv_context *ctx, struct speckv_param *args)
{
	switch (args->param) {
	case SPECKV_PARAM_PREFETCH_DEPTH:
		if (args->value < 1 || args->value > SPECKV_MAX_PREFETCH_DEPTH)
			return -EINVAL;
		WRITE_ONCE(ctx->prefetch_depth, args->value);
		return 0;
	case SPECKV_PARAM_SCHEME:
		if (args->value >= 64 || !(ctx->card->caps.codecs & BIT_ULL(args->value)))
			return -EINVAL;
		WRITE_ONCE(ctx->scheme, args->value);
		return 0;
	}
	return -EOPNOTSUPP;
}

int speckv_param_get(struct speckv_context *ctx, struct speckv_param *args)
{
	if (args->value)
		return -EINVAL;
	switch (args->param) {
	case SPECKV_PARAM_PREFETCH_DEPTH:
		args->value = READ_ONCE(ctx->prefetch_depth);
		return 0;
	case SPECKV_PARAM_SCHEME:
		args->value = READ_ONCE(ctx->scheme);
		return 0;
	}
	return -EOPNOTSUPP;
}

/* As many descriptors as it takes. EAGAIN: not one of them fitted. ctx->lock held. */
int speckv_prefetch_range(struct speckv_context *ctx, u32 region, u64 offset, u64 length)
{
	struct speckv_queue *queue;
	u64 begin = offset, piece;
	int error = 0;

	if (!(ctx->card->caps.opcodes & BIT(SPECKV_OP_PREFETCH)))
		return -EOPNOTSUPP;
	queue = speckv_own_queue(ctx);
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	while (length && !error) {
		struct speckv_desc desc = { .opcode = SPECKV_OP_PREFETCH };

		piece = min_t(u64, length, ctx->card->caps.max_length);
		desc.length = cpu_to_le32(piece);
		desc.src_region = cpu_to_le32(region);
		desc.src_offset = cpu_to_le64(offset);
		error = speckv_queue_push(queue, &desc, SPECKV_SLOT_DROP, NULL, NULL);
		if (!error) {
			speckv_queue_serve(queue, true);
			offset += piece;
			length -= piece;
		}
	}
	return offset == begin ? error : 0;
}

int speckv_prefetch(struct speckv_context *ctx, struct speckv_prefetch *args)
{
	struct speckv_region *region = speckv_region_get(ctx, args->region);
	int error = -EINVAL;

	if (!region)
		return -ENOENT;
	guard(mutex)(&ctx->lock);
	if (region->kind == SPECKV_REGION_CARD && args->length && args->offset < region->length &&
	    args->length <= region->length - args->offset)
		error = speckv_prefetch_range(ctx, args->region, args->offset, args->length);
	speckv_region_put(region);
	return error;
}

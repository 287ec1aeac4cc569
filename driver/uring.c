// SPDX-License-Identifier: GPL-2.0-only
/* io_uring commands: one descriptor each, in the upper half of a 128-byte entry. */
#include "speckv_drv.h"

/* What io_uring keeps for us with the command. */
struct speckv_uring {
	struct speckv_queue *queue;	/* has its id until this is answered, or is stopped */
	int result;
};

int speckv_cpl_errno(u16 code)
{
	static const int errnos[] = {
		[SPECKV_CPL_OK] = 0,
		[SPECKV_CPL_BAD_DESC] = -EINVAL,
		[SPECKV_CPL_BAD_REGION] = -EFAULT,
		[SPECKV_CPL_CORRUPTED] = -EBADMSG,
		[SPECKV_CPL_POISON] = -EBADMSG,
		[SPECKV_CPL_ABORTED] = -EIO,
		[SPECKV_CPL_UNSUPPORTED] = -EOPNOTSUPP,
		[SPECKV_CPL_NO_SPACE] = -ENOSPC,
		[SPECKV_CPL_NOT_FOUND] = -ENOENT,
		[SPECKV_CPL_BUSY] = -EBUSY,
		[SPECKV_CPL_UNENCODABLE] = -EDOM,
		[SPECKV_CPL_BUS_ERROR] = -EIO,
	};

	return code < ARRAY_SIZE(errnos) ? errnos[code] : -EIO;
}

static struct speckv_uring *speckv_uring_of(struct io_uring_cmd *cmd)
{
	BUILD_BUG_ON(sizeof(struct speckv_uring) > sizeof(cmd->pdu));
	return (struct speckv_uring *)cmd->pdu;
}

SPECKV_TASK_WORK(speckv_uring_done_work, cmd, flags)
{
	speckv_uring_done(cmd, speckv_uring_of(cmd)->result, flags);
}

/* Under queue->lock, so that a command has one answer. */
void speckv_uring_complete(struct io_uring_cmd *cmd, int result)
{
	speckv_uring_of(cmd)->result = result;
	io_uring_cmd_complete_in_task(cmd, speckv_uring_done_work);
}

/* The ring goes away. Answered already: then that answer is on its way. */
static int speckv_uring_cancel(struct speckv_context *ctx, struct io_uring_cmd *cmd,
			       unsigned int flags)
{
	struct speckv_queue *queue = NULL;
	unsigned long id;

	xa_lock(&ctx->queues);
	xa_for_each(&ctx->queues, id, queue) {
		if (queue == speckv_uring_of(cmd)->queue) {
			kref_get(&queue->ref);
			break;
		}
	}
	xa_unlock(&ctx->queues);
	if (!queue)
		return 0;
	if (speckv_queue_detach(queue, cmd))
		speckv_uring_done(cmd, -ECANCELED, flags);
	speckv_queue_put(queue);
	return 0;
}

/* The command waits for an answer that comes later. */
static int speckv_uring_leave(struct speckv_queue *queue, struct io_uring_cmd *cmd,
			      const struct speckv_desc *desc, unsigned int flags)
{
	struct speckv_ticket ticket;
	int error = speckv_queue_reserve(queue, &ticket);

	if (error)
		return error;
	speckv_uring_of(cmd)->queue = queue;
	/* Once marked, a command must be ended by io_uring_cmd_done() and not by its result. */
	speckv_uring_cancelable(cmd, flags);
	error = speckv_queue_commit(queue, &ticket, desc, SPECKV_SLOT_URING, cmd);
	if (error)
		speckv_uring_done(cmd, error, flags);
	else
		speckv_queue_serve(queue, !(flags & IO_URING_F_NONBLOCK));
	return -EIOCBQUEUED;
}

static int speckv_uring_result(const struct speckv_wait *wait)
{
	return wait->error ?: speckv_cpl_errno(speckv_cpl_code(&wait->cpl)) ?:
			      (int)le32_to_cpu(wait->cpl.result);
}

/* The command is answered here if its descriptor is short; else it goes on as any other. */
static int speckv_uring_try(struct speckv_queue *queue, struct io_uring_cmd *cmd,
			    const struct speckv_desc *desc, unsigned int flags)
{
	struct speckv_wait wait = { .done = COMPLETION_INITIALIZER_ONSTACK(wait.done) };
	struct speckv_ticket ticket;
	int error = speckv_queue_push(queue, desc, SPECKV_SLOT_WAIT, &wait, &ticket);

	if (error)
		return error;
	speckv_queue_serve(queue, !(flags & IO_URING_F_NONBLOCK));
	if (!completion_done(&wait.done)) {
		speckv_uring_of(cmd)->queue = queue;
		speckv_uring_cancelable(cmd, flags);
		if (speckv_queue_hand_on(queue, &ticket, &wait, cmd))
			return -EIOCBQUEUED;
	}
	speckv_uring_done(cmd, speckv_uring_result(&wait), flags);
	return -EIOCBQUEUED;
}

static int speckv_uring_submit(struct speckv_queue *queue, struct io_uring_cmd *cmd,
			       const struct speckv_desc *desc, unsigned int flags)
{
	int error;

	for (;;) {
		error = queue->ctx->card->engine->serve ?
			speckv_uring_try(queue, cmd, desc, flags) :
			speckv_uring_leave(queue, cmd, desc, flags);
		/* Without room io_uring comes again from a thread that may wait. */
		if (error != -EAGAIN || flags & IO_URING_F_NONBLOCK)
			return error;
		if (speckv_queue_wait_room(queue))
			return -EINTR;
	}
}

static int speckv_uring_run(struct speckv_context *ctx, struct io_uring_cmd *cmd,
			    unsigned int flags)
{
	struct speckv_submit args;
	struct speckv_queue *queue;
	int error;

	if (flags & SPECKV_URING_CANCEL)
		return speckv_uring_cancel(ctx, cmd, flags);
	if (cmd->cmd_op != SPECKV_URING_SUBMIT)
		return -ENOTTY;
	if (!(flags & IO_URING_F_SQE128))
		return -EINVAL;
	/* The entry is the program's memory: read once. */
	memcpy(&args, speckv_sqe_command(cmd), sizeof(args));
	if (args.__reserved)
		return -EOPNOTSUPP;
	queue = speckv_queue_get(ctx, args.queue);
	if (!queue)
		return -ENOENT;
	error = speckv_uring_submit(queue, cmd, &args.desc, flags);
	speckv_queue_put(queue);
	return error;
}

int speckv_uring_cmd(struct io_uring_cmd *cmd, unsigned int flags)
{
	struct speckv_context *ctx = cmd->file->private_data;
	int srcu = srcu_read_lock(&ctx->card->srcu);
	int error = READ_ONCE(ctx->card->gone) ? -ENODEV : speckv_uring_run(ctx, cmd, flags);

	srcu_read_unlock(&ctx->card->srcu, srcu);
	return error;
}

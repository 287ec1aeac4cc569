/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: what the kernel submits, what it is answered, and what goes wrong. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM speckv

#if !defined(SPECKV_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define SPECKV_TRACE_H

#include <linux/tracepoint.h>
#include "speckv_drv.h"

TRACE_EVENT(speckv_submit,
	TP_PROTO(const struct speckv_queue *queue, const struct speckv_desc *desc),
	TP_ARGS(queue, desc),
	TP_STRUCT__entry(
		__field(u32, queue)
		__field(u32, tenant)
		__field(u32, index)
		__field(u32, length)
		__field(u8, opcode)
	),
	TP_fast_assign(
		__entry->queue = queue->index;
		__entry->tenant = queue->ctx->tenant;
		__entry->index = queue->tail;
		__entry->length = le32_to_cpu(desc->length);
		__entry->opcode = desc->opcode;
	),
	TP_printk("queue=%u tenant=%u index=%u opcode=%u length=%u", __entry->queue,
		  __entry->tenant, __entry->index, __entry->opcode, __entry->length)
);

TRACE_EVENT(speckv_complete,
	TP_PROTO(const struct speckv_queue *queue, u16 code, u32 result),
	TP_ARGS(queue, code, result),
	TP_STRUCT__entry(
		__field(u32, queue)
		__field(u32, tenant)
		__field(u32, result)
		__field(u16, code)
	),
	TP_fast_assign(
		__entry->queue = queue->index;
		__entry->tenant = queue->ctx->tenant;
		__entry->result = result;
		__entry->code = code;
	),
	TP_printk("queue=%u tenant=%u code=%u result=%u", __entry->queue, __entry->tenant,
		  __entry->code, __entry->result)
);

/* The queue takes nothing any more: an errno. */
TRACE_EVENT(speckv_fault,
	TP_PROTO(const struct speckv_queue *queue, int error),
	TP_ARGS(queue, error),
	TP_STRUCT__entry(
		__field(u32, queue)
		__field(u32, tenant)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->queue = queue->index;
		__entry->tenant = queue->ctx->tenant;
		__entry->error = error;
	),
	TP_printk("queue=%u tenant=%u error=%d", __entry->queue, __entry->tenant, __entry->error)
);

#endif /* SPECKV_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>

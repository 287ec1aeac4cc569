// SPDX-License-Identifier: GPL-2.0-only
/* What one descriptor does. The order of its checks is that of docs/queue-protocol.md. */
#include "soft_desc.h"

#define SPECKV_SOFT_PIECE	(256U << 10)

/* One side of a transfer. Its region is at work, and is not cleared meanwhile. */
struct speckv_place {
	struct speckv_region *region;
	u64 offset;
	u32 length;
};

static bool speckv_place_get(struct speckv_queue *queue, u32 id, u64 offset, u32 length,
			     bool write, struct speckv_place *place)
{
	struct speckv_card *card = queue->ctx->card;
	struct speckv_region *region;

	xa_lock(&card->regions);
	region = xa_load(&card->regions, id);
	if (region && region->ctx == queue->ctx && !READ_ONCE(region->cleared) &&
	    offset <= region->length && length <= region->length - offset &&
	    (region->writable || !write)) {
		atomic_inc(&region->at_work);
		*place = (struct speckv_place){ region, offset, length };
	} else {
		region = NULL;
	}
	xa_unlock(&card->regions);
	return region;
}

/* Afterwards the region may be gone: its address is only a key here. */
static void speckv_place_put(const struct speckv_place *place)
{
	struct speckv_region *region = place->region;

	if (region && atomic_dec_and_test(&region->at_work))
		wake_up_var(&region->at_work);
}

static bool speckv_on_card(const struct speckv_place *place)
{
	return place->region && place->region->kind == SPECKV_REGION_CARD;
}

/* The next access of host memory fails if that was injected. */
static bool speckv_bus_fault(struct speckv_soft *soft, const struct speckv_place *place, u32 kind)
{
	if (likely(!READ_ONCE(soft->bus_faults)) || speckv_on_card(place) ||
	    !(READ_ONCE(soft->bus_faults) & BIT(kind)))
		return false;
	WRITE_ONCE(soft->bus_faults, READ_ONCE(soft->bus_faults) & ~BIT(kind));
	return true;
}

static u16 speckv_read_check(struct speckv_soft *soft, const struct speckv_place *from)
{
	unsigned long line;
	u64 at;

	if (speckv_bus_fault(soft, from, SPECKV_INJECT_BUS_READ))
		return SPECKV_CPL_BUS_ERROR;
	if (speckv_on_card(from) && unlikely(!xa_empty(&soft->poison))) {
		at = from->region->base + from->offset;
		line = at / 64;
		if (xa_find(&soft->poison, &line, (at + from->length - 1) / 64, XA_PRESENT))
			return SPECKV_CPL_POISON;
	}
	speckv_soft_count(soft, SPECKV_COUNTER_BYTES_READ, from->length);
	return SPECKV_CPL_OK;
}

/* Whole lines that are written are good again. */
static u16 speckv_write_check(struct speckv_soft *soft, const struct speckv_place *to)
{
	unsigned long line, end;
	void *entry;
	u64 at;

	if (speckv_bus_fault(soft, to, SPECKV_INJECT_BUS_WRITE))
		return SPECKV_CPL_BUS_ERROR;
	if (speckv_on_card(to) && unlikely(!xa_empty(&soft->poison))) {
		at = to->region->base + to->offset;
		end = (at + to->length) / 64;
		/* Not end - 1: before the first line there is none. */
		xa_for_each_start(&soft->poison, line, entry, DIV_ROUND_UP(at, 64)) {
			if (line >= end)
				break;
			xa_erase(&soft->poison, line);
		}
	}
	speckv_soft_count(soft, SPECKV_COUNTER_BYTES_WRITTEN, to->length);
	return SPECKV_CPL_OK;
}

/* A large copy lets others have the CPU in between: not every kernel preempts. */
static void speckv_copy_bytes(void *to, const void *from, u32 length)
{
	u32 piece;

	while (length) {
		piece = min(length, SPECKV_SOFT_PIECE);
		memcpy(to, from, piece);
		to += piece;
		from += piece;
		length -= piece;
		cond_resched();
	}
}

static u16 speckv_do_copy(struct speckv_soft *soft, const struct speckv_place *from,
			  struct speckv_place *to, u32 length, u32 *result)
{
	u16 code = speckv_read_check(soft, from);

	to->length = length;
	if (code == SPECKV_CPL_OK)
		code = speckv_write_check(soft, to);
	if (code != SPECKV_CPL_OK)
		return code;
	speckv_copy_bytes(to->region->cpu + to->offset, from->region->cpu + from->offset, length);
	*result = length;
	return SPECKV_CPL_OK;
}

/* The codec raw: the plain bytes, which must be exactly a layer. */
static u16 speckv_do_raw(struct speckv_soft *soft, const struct speckv_desc *desc,
			 const struct speckv_place *from, struct speckv_place *to, u32 *result)
{
	bool encodes = desc->opcode == SPECKV_OP_ENCODE;
	u64 plain = speckv_layer_bytes(desc);
	u16 code;

	if (from->length != plain) {
		code = speckv_read_check(soft, from);
		return code != SPECKV_CPL_OK ? code : SPECKV_CPL_CORRUPTED;
	}
	if (plain > le32_to_cpu(desc->codec.room)) {
		code = speckv_read_check(soft, from);
		return code != SPECKV_CPL_OK ? code : SPECKV_CPL_NO_SPACE;
	}
	code = speckv_do_copy(soft, from, to, plain, result);
	if (code == SPECKV_CPL_OK) {
		speckv_soft_count(soft, encodes ? SPECKV_COUNTER_ENCODE_IN :
				  SPECKV_COUNTER_DECODE_IN, plain);
		speckv_soft_count(soft, encodes ? SPECKV_COUNTER_ENCODE_OUT :
				  SPECKV_COUNTER_DECODE_OUT, plain);
	}
	return code;
}

static u16 speckv_do_fill(struct speckv_soft *soft, const struct speckv_desc *desc,
			  const struct speckv_place *to, u32 *result)
{
	u8 *at = to->region->cpu + to->offset;
	u16 code = speckv_write_check(soft, to);
	u32 i;

	if (code != SPECKV_CPL_OK)
		return code;
	for (i = 0; i + 8 <= to->length; i += 8) {
		memcpy(at + i, &desc->fill.pattern, 8);
		if (!(i % SPECKV_SOFT_PIECE))
			cond_resched();
	}
	memcpy(at + i, &desc->fill.pattern, to->length - i);
	*result = to->length;
	return SPECKV_CPL_OK;
}

static u16 speckv_do_telemetry(struct speckv_queue *queue, const struct speckv_desc *desc,
			       struct speckv_place *to, u32 *result)
{
	u8 bytes[SPECKV_MAX_CANDIDATES * sizeof(struct speckv_candidate)];
	bool counters = desc->telemetry.report == SPECKV_REPORT_COUNTERS;
	struct speckv_soft *soft = speckv_soft_of(queue);
	u16 code;

	if (to->length < (counters ? sizeof(struct speckv_telemetry) :
				     sizeof(struct speckv_candidate)))
		return SPECKV_CPL_NO_SPACE;
	to->length = speckv_directory_report(soft->directory, queue->ctx->tenant,
					     desc->telemetry.report, bytes,
					     min_t(u32, to->length, sizeof(bytes)));
	code = speckv_write_check(soft, to);
	if (code != SPECKV_CPL_OK)
		return code;
	memcpy(to->region->cpu + to->offset, bytes, to->length);
	*result = to->length;
	return SPECKV_CPL_OK;
}

static u16 speckv_do(struct speckv_queue *queue, const struct speckv_desc *desc,
		     struct speckv_place *from, struct speckv_place *to, u32 *result)
{
	struct speckv_soft *soft = speckv_soft_of(queue);

	switch (desc->opcode) {
	case SPECKV_OP_COPY:
		return speckv_do_copy(soft, from, to, from->length, result);
	case SPECKV_OP_FILL:
		return speckv_do_fill(soft, desc, to, result);
	case SPECKV_OP_PREFETCH:	/* there is no buffer to fill: only what is read counts */
		*result = from->length;
		return SPECKV_CPL_OK;
	case SPECKV_OP_ENCODE:
	case SPECKV_OP_DECODE:
		return speckv_do_raw(soft, desc, from, to, result);
	}
	return speckv_do_telemetry(queue, desc, to, result);
}

static bool speckv_imported(const struct speckv_place *place)
{
	return place->region && place->region->kind == SPECKV_REGION_IMPORTED;
}

/* Memory of another device's may be in that one's hands, and is the CPU's only in between. */
static bool speckv_place_begin(const struct speckv_place *place)
{
	return !speckv_imported(place) || !speckv_dmabuf_begin(place->region);
}

static void speckv_place_end(const struct speckv_place *place)
{
	if (speckv_imported(place))
		speckv_dmabuf_end(place->region);
}

static u16 speckv_carry_out(struct speckv_queue *queue, const struct speckv_desc *desc,
			    struct speckv_place *from, struct speckv_place *to, u32 *result)
{
	u16 code = SPECKV_CPL_BUS_ERROR;

	if (!speckv_place_begin(from))
		return code;
	if (speckv_place_begin(to)) {
		code = speckv_do(queue, desc, from, to, result);
		speckv_place_end(to);
	}
	speckv_place_end(from);
	return code;
}

/* Step 6, and what the directory learns from a transfer. */
static u16 speckv_named(struct speckv_queue *queue, const struct speckv_desc *desc,
			struct speckv_place *from, struct speckv_place *to, u32 *result)
{
	struct speckv_directory *directory = speckv_soft_of(queue)->directory;
	bool settles = desc->opcode == SPECKV_OP_ENCODE ||
		       (desc->opcode == SPECKV_OP_COPY && speckv_on_card(to));
	u32 tenant = queue->ctx->tenant;
	u16 code = SPECKV_CPL_OK;

	if (settles)
		code = speckv_directory_insert(directory, tenant, desc);
	if (code != SPECKV_CPL_OK)
		return code;
	code = speckv_carry_out(queue, desc, from, to, result);
	if (settles && code != SPECKV_CPL_OK)
		speckv_directory_drop(directory, tenant, desc);
	if (!settles && code == SPECKV_CPL_OK)
		speckv_directory_use(directory, tenant, desc, desc->opcode == SPECKV_OP_PREFETCH);
	return code;
}

/* Step 5: both sides, then the rest. Only the worker waits for what other devices do. */
static u16 speckv_move(struct speckv_queue *queue, const struct speckv_desc *desc, bool worker,
		       u32 *result)
{
	u8 opcode = desc->opcode;
	bool reads = opcode != SPECKV_OP_FILL && opcode != SPECKV_OP_TELEMETRY;
	bool writes = opcode != SPECKV_OP_PREFETCH;
	u32 length = le32_to_cpu(desc->length);
	u32 out = speckv_codes(opcode) ? le32_to_cpu(desc->codec.room) : length;
	struct speckv_place from = {}, to = {};
	u16 code = SPECKV_CPL_BAD_REGION;

	if ((!reads || speckv_place_get(queue, le32_to_cpu(desc->src_region),
					le64_to_cpu(desc->src_offset), length, false, &from)) &&
	    (!writes || speckv_place_get(queue, le32_to_cpu(desc->dst_region),
					 le64_to_cpu(desc->dst_offset), out, true, &to)) &&
	    (writes || speckv_on_card(&from))) {
		if (!worker && (speckv_imported(&from) || speckv_imported(&to)))
			code = SPECKV_SOFT_LATER;
		else if (!(desc->flags & SPECKV_DESC_NAMED))
			code = speckv_carry_out(queue, desc, &from, &to, result);
		else if (opcode != SPECKV_OP_COPY || speckv_on_card(&from) || speckv_on_card(&to))
			code = speckv_named(queue, desc, &from, &to, result);
	}
	if (code == SPECKV_CPL_OK)
		speckv_directory_tally(speckv_soft_of(queue)->directory, queue->ctx->tenant,
				       reads && writes ? from.length : 0, writes ? to.length : 0,
				       false);
	speckv_place_put(&from);
	speckv_place_put(&to);
	return code;
}

u16 speckv_soft_execute(struct speckv_queue *queue, const struct speckv_desc *desc, bool worker,
			u32 *result)
{
	struct speckv_directory *directory = speckv_soft_of(queue)->directory;
	u32 tenant = queue->ctx->tenant;
	u16 code = speckv_soft_check(queue->ctx->card, desc);

	if (code == SPECKV_CPL_OK) {
		switch (desc->opcode) {
		case SPECKV_OP_NOP:
		case SPECKV_OP_FENCE:	/* descriptors are carried out one after the other */
			break;
		case SPECKV_OP_STEP:
			*result = speckv_directory_step(directory, tenant,
							le32_to_cpu(desc->hint.step));
			break;
		case SPECKV_OP_HINT:
			code = speckv_directory_hint(directory, tenant, desc, result);
			break;
		case SPECKV_OP_WEIGHTS:
			speckv_directory_weights(directory, tenant, speckv_desc_weights(desc),
						 speckv_desc_thresholds(desc));
			break;
		default:
			code = speckv_move(queue, desc, worker, result);
		}
	}
	if (code != SPECKV_CPL_OK && code != SPECKV_SOFT_LATER)
		speckv_directory_tally(directory, tenant, 0, 0, true);
	return code;
}

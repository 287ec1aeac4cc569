// SPDX-License-Identifier: GPL-2.0-only
/* What one descriptor does. The order of its checks is that of docs/queue-protocol.md. */
#include <linux/overflow.h>
#include "soft.h"

#define SPECKV_SOFT_OPCODES	(SPECKV_OP_PREDICT + 1)
#define SPECKV_SOFT_MAX_LAYER	SPECKV_SOFT_MAX_LENGTH
#define SPECKV_SOFT_PIECE	(256U << 10)
#define SPECKV_SOFT_ALIGNED	64	/* offsets of coded layers and of telemetry */

struct speckv_mask {
	u64 word[sizeof(struct speckv_desc) / sizeof(u64)];
};

static const struct speckv_mask speckv_masks[SPECKV_SOFT_OPCODES] = {
	[SPECKV_OP_NOP] = { SPECKV_MASK_NOP },
	[SPECKV_OP_COPY] = { SPECKV_MASK_COPY },
	[SPECKV_OP_ENCODE] = { SPECKV_MASK_ENCODE },
	[SPECKV_OP_DECODE] = { SPECKV_MASK_DECODE },
	[SPECKV_OP_PREFETCH] = { SPECKV_MASK_PREFETCH },
	[SPECKV_OP_FILL] = { SPECKV_MASK_FILL },
	[SPECKV_OP_FENCE] = { SPECKV_MASK_FENCE },
	[SPECKV_OP_STEP] = { SPECKV_MASK_STEP },
	[SPECKV_OP_HINT] = { SPECKV_MASK_HINT },
	[SPECKV_OP_WEIGHTS] = { SPECKV_MASK_WEIGHTS },
	[SPECKV_OP_TELEMETRY] = { SPECKV_MASK_TELEMETRY },
	[SPECKV_OP_PREDICT] = { SPECKV_MASK_PREDICT },
};

static const struct speckv_mask speckv_mask_named = { SPECKV_MASK_FLAG_NAMED };

static bool speckv_codes(u8 opcode)
{
	return opcode == SPECKV_OP_ENCODE || opcode == SPECKV_OP_DECODE;
}

/* Bits that are set although nothing reads them. */
static bool speckv_stray_bits(const struct speckv_desc *desc)
{
	const __le64 *words = (const __le64 *)desc;
	u64 allowed;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(speckv_mask_named.word); i++) {
		allowed = speckv_masks[desc->opcode].word[i];
		if (desc->flags & SPECKV_DESC_NAMED)
			allowed |= speckv_mask_named.word[i];
		if (le64_to_cpu(words[i]) & ~allowed)
			return true;
	}
	return false;
}

static u64 speckv_layer_bytes(const struct speckv_desc *desc)
{
	static const u8 size[] = { [SPECKV_DTYPE_F16] = 2, [SPECKV_DTYPE_BF16] = 2,
				   [SPECKV_DTYPE_F32] = 4, [SPECKV_DTYPE_F8E4M3] = 1 };
	u64 values = (u64)le16_to_cpu(desc->codec.heads) * le16_to_cpu(desc->codec.head_dim);
	u64 sides = desc->codec.kind == SPECKV_KIND_LATENT ? 1 : 2;
	u64 bytes;

	if (check_mul_overflow(values * sides, (u64)le16_to_cpu(desc->tokens) *
			       size[desc->codec.dtype], &bytes))
		return U64_MAX;
	return bytes;
}

static bool speckv_length_good(u32 length)
{
	return length && length <= SPECKV_SOFT_MAX_LENGTH;
}

static bool speckv_codec_good(const struct speckv_desc *desc)
{
	const struct speckv_desc_codec *codec = &desc->codec;

	if (le32_to_cpu(codec->room) > SPECKV_SOFT_MAX_LENGTH || !codec->heads ||
	    !codec->head_dim || !desc->tokens || codec->dtype > SPECKV_DTYPE_F8E4M3 ||
	    codec->kind > SPECKV_KIND_INTERLEAVED ||
	    (le64_to_cpu(desc->src_offset) | le64_to_cpu(desc->dst_offset)) % SPECKV_SOFT_ALIGNED)
		return false;
	return desc->opcode == SPECKV_OP_DECODE ||
	       speckv_layer_bytes(desc) == le32_to_cpu(desc->length);
}

static bool speckv_address_good(const struct speckv_desc *desc)
{
	return !(le64_to_cpu(desc->address_low) >> SPECKV_ADDRESS_KIND_SHIFT & 1) &&
	       !(le32_to_cpu(desc->address_high) >> (SPECKV_ADDRESS_BITS - 64));
}

static bool speckv_hint_good(const struct speckv_desc *desc)
{
	u64 position = lower_32_bits(le64_to_cpu(desc->address_low));
	u16 tokens = le16_to_cpu(desc->tokens);

	return desc->hint.hint >= SPECKV_HINT_HOT && desc->hint.hint <= SPECKV_HINT_FORGET &&
	       (!desc->hint.step || desc->hint.hint == SPECKV_HINT_PREFETCHABLE) && tokens &&
	       speckv_address_good(desc) &&
	       position + tokens <= 1ULL << SPECKV_ADDRESS_POSITION_BITS;
}

static u32 speckv_desc_weights(const struct speckv_desc *desc)
{
	const struct speckv_desc_weights *w = &desc->weights;

	return w->recency | w->frequency << 8 | w->step_weight << 16 | (u32)w->durability << 24;
}

static u32 speckv_desc_thresholds(const struct speckv_desc *desc)
{
	const struct speckv_desc_weights *w = &desc->weights;

	return w->evict | w->prefetch << 8 | w->hysteresis << 16;
}

static bool speckv_values_good(const struct speckv_desc *desc)
{
	u32 length = le32_to_cpu(desc->length);

	switch (desc->opcode) {
	case SPECKV_OP_COPY:
	case SPECKV_OP_PREFETCH:
	case SPECKV_OP_FILL:
		return speckv_length_good(length);
	case SPECKV_OP_ENCODE:
	case SPECKV_OP_DECODE:
		return speckv_length_good(length) && speckv_codec_good(desc);
	case SPECKV_OP_HINT:
		return speckv_hint_good(desc);
	case SPECKV_OP_WEIGHTS:
		return speckv_weights_valid(speckv_desc_weights(desc),
					    speckv_desc_thresholds(desc));
	case SPECKV_OP_TELEMETRY:
		return speckv_length_good(length) &&
		       desc->telemetry.report <= SPECKV_REPORT_PREFETCHES &&
		       !(le64_to_cpu(desc->dst_offset) % SPECKV_SOFT_ALIGNED);
	}
	return true;
}

/* A named block starts where blocks start and is not longer than one. */
static bool speckv_block_whole(const struct speckv_desc *desc, u32 most)
{
	u32 position = lower_32_bits(le64_to_cpu(desc->address_low));
	u16 tokens = le16_to_cpu(desc->tokens);

	return speckv_address_good(desc) && !(position % most) && tokens && tokens <= most;
}

/* Steps 1 to 4: what can be said without looking at any table. */
static u16 speckv_check(const struct speckv_card *card, const struct speckv_desc *desc)
{
	const struct speckv_caps *caps = &card->caps;

	if (desc->opcode >= SPECKV_SOFT_OPCODES || !speckv_masks[desc->opcode].word[0])
		return SPECKV_CPL_BAD_DESC;
	if (!(caps->opcodes & BIT(desc->opcode)))
		return SPECKV_CPL_UNSUPPORTED;
	if (speckv_codes(desc->opcode) &&
	    (desc->codec.codec >= 64 || !(caps->codecs & BIT_ULL(desc->codec.codec))))
		return SPECKV_CPL_UNSUPPORTED;
	if (desc->opcode == SPECKV_OP_DECODE && desc->flags & SPECKV_DESC_CHECK)
		return SPECKV_CPL_UNSUPPORTED;	/* no feature crc */
	if (speckv_stray_bits(desc) || !speckv_values_good(desc))
		return SPECKV_CPL_BAD_DESC;
	if (desc->flags & SPECKV_DESC_NAMED && !speckv_block_whole(desc, caps->block_tokens))
		return SPECKV_CPL_BAD_DESC;
	if (speckv_codes(desc->opcode) && speckv_layer_bytes(desc) > SPECKV_SOFT_MAX_LAYER)
		return SPECKV_CPL_UNSUPPORTED;
	return SPECKV_CPL_OK;
}

/* One side of a transfer. Holds its region. */
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
		kref_get(&region->ref);
		*place = (struct speckv_place){ region, offset, length };
	} else {
		region = NULL;
	}
	xa_unlock(&card->regions);
	return region;
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

/* Memory of another device's may be in that one's hands, and is the CPU's only in between. */
static bool speckv_place_begin(const struct speckv_place *place)
{
	return !place->region || place->region->kind != SPECKV_REGION_IMPORTED ||
	       !speckv_dmabuf_begin(place->region);
}

static void speckv_place_end(const struct speckv_place *place)
{
	if (place->region && place->region->kind == SPECKV_REGION_IMPORTED)
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

/* Step 5: both sides, then the rest. */
static u16 speckv_move(struct speckv_queue *queue, const struct speckv_desc *desc, u32 *result)
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
		if (!(desc->flags & SPECKV_DESC_NAMED))
			code = speckv_carry_out(queue, desc, &from, &to, result);
		else if (opcode != SPECKV_OP_COPY || speckv_on_card(&from) || speckv_on_card(&to))
			code = speckv_named(queue, desc, &from, &to, result);
	}
	if (code == SPECKV_CPL_OK)
		speckv_directory_tally(speckv_soft_of(queue)->directory, queue->ctx->tenant,
				       reads && writes ? from.length : 0, writes ? to.length : 0,
				       false);
	if (from.region)
		speckv_region_put(from.region);
	if (to.region)
		speckv_region_put(to.region);
	return code;
}

u16 speckv_soft_execute(struct speckv_queue *queue, const struct speckv_desc *desc, u32 *result)
{
	struct speckv_directory *directory = speckv_soft_of(queue)->directory;
	u32 tenant = queue->ctx->tenant;
	u16 code = speckv_check(queue->ctx->card, desc);

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
			code = speckv_move(queue, desc, result);
		}
	}
	if (code != SPECKV_CPL_OK)
		speckv_directory_tally(directory, tenant, 0, 0, true);
	return code;
}

// SPDX-License-Identifier: GPL-2.0-only
/* What can be said of a descriptor by looking at it alone; docs/queue-protocol.md, Checks. */
#include <linux/overflow.h>
#include "soft_desc.h"

#define SPECKV_SOFT_OPCODES	(SPECKV_OP_PREDICT + 1)
#define SPECKV_SOFT_MAX_LAYER	SPECKV_SOFT_MAX_LENGTH
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

u64 speckv_layer_bytes(const struct speckv_desc *desc)
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
u16 speckv_soft_check(const struct speckv_card *card, const struct speckv_desc *desc)
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

bool speckv_soft_short(const struct speckv_desc *desc, bool may_sleep, u32 *bytes)
{
	u32 moves = 0;

	switch (desc->opcode) {
	case SPECKV_OP_COPY:
	case SPECKV_OP_FILL:
	case SPECKV_OP_ENCODE:
	case SPECKV_OP_DECODE:
		moves = le32_to_cpu(desc->length);
		break;
	case SPECKV_OP_STEP:
	case SPECKV_OP_HINT:
	case SPECKV_OP_WEIGHTS:
	case SPECKV_OP_TELEMETRY:
		if (!may_sleep)
			return false;
		break;
	}
	if (moves > *bytes || (desc->flags & SPECKV_DESC_NAMED && !may_sleep))
		return false;
	*bytes -= moves;
	return true;
}

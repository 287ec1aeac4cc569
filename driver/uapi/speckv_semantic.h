/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* The second half of speckv_ioctl.h, which includes it: what the card knows about blocks. */
#ifndef _UAPI_SPECKV_SEMANTIC_H
#define _UAPI_SPECKV_SEMANTIC_H

/**
 * struct speckv_step - the context's decode step
 * @flags: 0
 * @step: a step that is not later than the last changes nothing
 * @out_candidates: blocks that the scan found for eviction or prefetching
 */
struct speckv_step {
	__u32 size;
	__u32 flags;
	__u32 step;
	__u32 out_candidates;
};

#define SPECKV_IOC_STEP			_IO(SPECKV_IOC, 0x10)

/**
 * struct speckv_hint - something about the blocks of a range of tokens
 * @hint: SPECKV_HINT_*
 * @address_low: address of the first token, its kind 0
 * @address_high: its upper bits
 * @tokens: 1 to 65535. ENOENT: no block is there, or has no reference to give
 *	back. EBUSY: one that is to be forgotten has references
 * @step: of PREFETCHABLE, when the blocks will be wanted; otherwise 0
 * @out_blocks: how many it was about
 */
struct speckv_hint {
	__u32 size;
	__u32 hint;
	__aligned_u64 address_low;
	__u32 address_high;
	__u32 tokens;
	__u32 step;
	__u32 out_blocks;
};

#define SPECKV_IOC_HINT			_IO(SPECKV_IOC, 0x11)

/**
 * struct speckv_advise - the same for what lies in a range of mapped regions
 * @hint: SPECKV_HINT_HOT, _EVICTABLE or _PREFETCHABLE
 * @address: in the caller's memory, a multiple of the page size
 * @length: in bytes, rounded up to pages. EINVAL: 0, or beyond the address space.
 *	ENOMEM: not all of it is mapped regions of this context; what is mapped
 *	was advised
 * @step: as in struct speckv_hint
 */
struct speckv_advise {
	__u32 size;
	__u32 hint;
	__aligned_u64 address;
	__aligned_u64 length;
	__u32 step;
	__u32 __reserved;
};

#define SPECKV_IOC_ADVISE		_IO(SPECKV_IOC, 0x12)

/**
 * struct speckv_weights - how the context's blocks are scored
 * @flags: 0
 * @recency, @frequency, @step_weight, @durability: 0 to 255, not all 0
 * @evict, @prefetch, @hysteresis: evict is at least 1 and
 *	evict + hysteresis <= prefetch - hysteresis
 */
struct speckv_weights {
	__u32 size;
	__u32 flags;
	__u8 recency;
	__u8 frequency;
	__u8 step_weight;
	__u8 durability;
	__u8 evict;
	__u8 prefetch;
	__u8 hysteresis;
	__u8 __reserved;
};

#define SPECKV_IOC_WEIGHTS		_IO(SPECKV_IOC, 0x13)

/**
 * struct speckv_telemetry_read - what is known about the context's blocks
 * @report: SPECKV_REPORT_*
 * @buffer: where a struct speckv_telemetry or struct speckv_candidate go
 * @length: of the buffer. EINVAL: too small for one
 * @out_length: bytes written
 */
struct speckv_telemetry_read {
	__u32 size;
	__u32 report;
	__aligned_u64 buffer;
	__u32 length;
	__u32 out_length;
};

#define SPECKV_IOC_TELEMETRY		_IO(SPECKV_IOC, 0x14)

/**
 * struct speckv_param - a parameter of the context
 * @param: SPECKV_PARAM_*
 * @value: PREFETCH_DEPTH 1 to 16; SCHEME a SPECKV_CODEC_* that the card has. GET
 *	wants 0 and writes it
 */
struct speckv_param {
	__u32 size;
	__u32 param;
#define SPECKV_PARAM_PREFETCH_DEPTH	1
#define SPECKV_PARAM_SCHEME		2
	__aligned_u64 value;
};

#define SPECKV_IOC_PARAM_SET		_IO(SPECKV_IOC, 0x15)
#define SPECKV_IOC_PARAM_GET		_IO(SPECKV_IOC, 0x16)

/**
 * struct speckv_prefetch - bring card memory into the card's fast buffer
 * @region: of card memory
 * @offset, @length: the range; not empty, inside the region
 *
 * Not answered: a prefetch that is dropped costs time and nothing else. EAGAIN:
 * too many are waiting.
 */
struct speckv_prefetch {
	__u32 size;
	__u32 region;
	__aligned_u64 offset;
	__aligned_u64 length;
};

#define SPECKV_IOC_PREFETCH		_IO(SPECKV_IOC, 0x17)

#endif /* _UAPI_SPECKV_SEMANTIC_H */

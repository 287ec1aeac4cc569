/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef _UAPI_SPECKV_IOCTL_H
#define _UAPI_SPECKV_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#include "speckv_desc.h"

/**
 * DOC: The contract between programs and the driver
 *
 * Opening /dev/speckvN makes a context: a tenant of the card, with regions and
 * queues that are private to the file and freed with it. Ids are never zero.
 *
 * Every ioctl takes a structure that begins with its own size. The kernel reads
 * no more than it knows and insists that the rest is zero, so old programs run
 * on new kernels, and new programs learn what an old kernel lacks. On failure
 * nothing has happened and no out_ member was written, unless said otherwise.
 *
 *  - ENOTTY: no such ioctl
 *  - E2BIG: a member beyond what this kernel knows is not zero
 *  - EOPNOTSUPP: an unknown flag, a reserved member that is not zero, or
 *    something that this card or engine cannot do
 *  - EINVAL: a member breaks a rule stated here; a size below the first version
 *  - EFAULT: a pointer is not to memory of the caller
 *  - ENOENT: no such id in this context, no such block
 *  - ENOMEM: nothing is mapped there; no memory is left, on the host
 *  - ENOSPC: no memory is left, on the card; no free region, queue or tenant
 *  - EDQUOT: the context's or its user's quota is used up; RLIMIT_MEMLOCK
 *  - EBUSY: work in flight, or references, stand against it
 *  - EAGAIN: the ring is full; reap completions and try again
 *  - EIO: the card is in its fatal state or the queue in error; reset it
 *  - ETIMEDOUT: the card did not answer in time
 *  - EINTR: a signal came before the card's answer
 *  - ENODEV: the card has gone; only close() is left
 *
 * No ioctl waits for work: completions raise the queue's eventfd, complete the
 * io_uring command, or are looked for. STEP, HINT, ADVISE, WEIGHTS and TELEMETRY
 * wait for the answer to themselves, which takes no longer than a scan.
 *
 * Descriptors name memory by region and offset, never by address. Rings, their
 * states, and what the card checks: docs/queue-protocol.md.
 */
#define SPECKV_IOC	0xC5

/**
 * struct speckv_query - what this card and driver can do
 * @size: sizeof(struct speckv_query)
 * @out_version: of the contract, major << 16 | minor
 * @out_features: SPECKV_FEATURE_*
 * @out_codecs: bit n is set if codec n can be used
 * @out_opcodes: bit n is set if opcode n can be used
 * @out_max_depth: of a queue, in descriptors
 * @out_max_queues: of a context
 * @out_max_regions: of a context
 * @out_max_length: bytes that one descriptor may read or write
 * @out_block_tokens: tokens of a block in the directory
 * @out_memory: bytes of card memory
 * @out_free: of them, what this context can still have
 */
struct speckv_query {
	__u32 size;
	__u32 out_version;
	__aligned_u64 out_features;
	__aligned_u64 out_codecs;
	__u32 out_opcodes;
	__u32 out_max_depth;
	__u32 out_max_queues;
	__u32 out_max_regions;
	__u32 out_max_length;
	__u32 out_block_tokens;
	__aligned_u64 out_memory;
	__aligned_u64 out_free;
};

#define SPECKV_IOC_QUERY	_IO(SPECKV_IOC, 0x00)

/**
 * struct speckv_object - a region or a queue, to be destroyed or reset
 * @id: its id. REGION_DESTROY: EBUSY while a queue of the context has work in
 *	flight. QUEUE_RESET: the queue is as new; what it had not answered is
 *	answered as aborted to io_uring and by REAP, never in a mapped ring.
 */
struct speckv_object {
	__u32 size;
	__u32 id;
};

#define SPECKV_IOC_REGION_DESTROY	_IO(SPECKV_IOC, 0x01)
#define SPECKV_IOC_QUEUE_DESTROY	_IO(SPECKV_IOC, 0x02)
#define SPECKV_IOC_QUEUE_RESET		_IO(SPECKV_IOC, 0x03)
/* The engine sleeps (need_kick) and the tail was stored. EINVAL: no such word. */
#define SPECKV_IOC_QUEUE_KICK		_IO(SPECKV_IOC, 0x04)

/**
 * struct speckv_region_create - make memory nameable in descriptors
 * @flags: SPECKV_REGION_*
 * @length: a multiple of the page size, not 0
 * @user_va: with USER, where the memory lies (page-aligned); otherwise 0
 * @out_id: the region
 * @out_mmap_offset: without USER, where to mmap() it
 */
struct speckv_region_create {
	__u32 size;
	__u32 flags;
#define SPECKV_REGION_USER		(1U << 0)	/* the caller's pages, pinned */
#define SPECKV_REGION_READ_ONLY		(1U << 1)	/* the card never writes it */
	__aligned_u64 length;
	__aligned_u64 user_va;
	__u32 out_id;
	__u32 __reserved;
	__aligned_u64 out_mmap_offset;
};

#define SPECKV_IOC_REGION_CREATE	_IO(SPECKV_IOC, 0x05)

/**
 * struct speckv_region_import - make a part of a dma-buf nameable in descriptors
 * @flags: SPECKV_REGION_READ_ONLY, or 0
 * @fd: of the dma-buf; it may be closed afterwards. EINVAL: it is none, or is not open
 *	for reading, or not for writing without READ_ONLY. EOPNOTSUPP: the card cannot
 *	reach its memory
 * @out_id: the region; it cannot be mapped
 * @offset: in the dma-buf, a multiple of the page size
 * @length: a multiple of the page size, not 0. EINVAL: the dma-buf ends before
 *
 * All of the dma-buf counts in RLIMIT_MEMLOCK, for all of it stays where it is. Who uses
 * its bytes when is agreed between those who have it: the card adds no fences to it.
 */
struct speckv_region_import {
	__u32 size;
	__u32 flags;
	__s32 fd;
	__u32 out_id;
	__aligned_u64 offset;
	__aligned_u64 length;
};

#define SPECKV_IOC_REGION_IMPORT	_IO(SPECKV_IOC, 0x0A)

/**
 * struct speckv_queue_create - make a queue pair
 * @flags: 0
 * @depth: descriptors, a power of two from 2 to out_max_depth
 * @eventfd: raised when completions are there and the queue is armed, or -1
 * @out_id: the queue
 * @out_ring_offset: where to mmap() @depth descriptors, then @depth completions
 * @out_doorbell_offset: where to mmap() the doorbell page
 */
struct speckv_queue_create {
	__u32 size;
	__u32 flags;
	__u32 depth;
	__s32 eventfd;
	__u32 out_id;
	__u32 __reserved;
	__aligned_u64 out_ring_offset;
	__aligned_u64 out_doorbell_offset;
};

#define SPECKV_IOC_QUEUE_CREATE		_IO(SPECKV_IOC, 0x06)

/**
 * struct speckv_batch - descriptors in, or completions out
 * @queue: its id. EBUSY: the queue's ring is mapped
 * @entries: address of @count struct speckv_desc (SUBMIT) or speckv_cpl (REAP)
 * @count: of entries, not 0
 * @out_count: how many were taken or given; on a fault in the middle, those
 *	before it. SUBMIT: EAGAIN if none fits. REAP: may be 0
 */
struct speckv_batch {
	__u32 size;
	__u32 queue;
	__aligned_u64 entries;
	__u32 count;
	__u32 out_count;
};

#define SPECKV_IOC_SUBMIT		_IO(SPECKV_IOC, 0x07)
#define SPECKV_IOC_REAP			_IO(SPECKV_IOC, 0x08)

/* For IORING_OP_URING_CMD on a ring with IORING_SETUP_SQE128: one descriptor. */
struct speckv_submit {
	__u32 queue;
	__u32 __reserved;
	struct speckv_desc desc;
};

#define SPECKV_URING_SUBMIT		_IOW(SPECKV_IOC, 0x09, struct speckv_submit)

#include "speckv_semantic.h"

#endif /* _UAPI_SPECKV_IOCTL_H */

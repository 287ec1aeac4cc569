/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Private types. For each object who frees it, for each lock what it protects; the order of
 * locks is context->lock, card->renewal, card->lock, queue->admin, soft.turn, queue->lock.
 * docs/driver.md tells more.
 */
#ifndef SPECKV_DRV_H
#define SPECKV_DRV_H

#include <linux/cdev.h>
#include <linux/completion.h>
#include <linux/device.h>
#include <linux/dma-direction.h>
#include <linux/fs.h>
#include <linux/genalloc.h>
#include <linux/idr.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include "card_codes.h"
#include "compat.h"
#include "regs.h"
#include "ring.h"
#include "speckv_ioctl.h"
#include "engine.h"

/* Bounds of what one context, or all contexts of one user, may have; sysfs changes them. */
struct speckv_quota {
	u64 memory;
	u32 queues, regions, contexts;
};

/*
 * One card. Freed by the last put of dev: the driver's, or that of an open file. After
 * speckv_card_remove() it is gone: every entry point answers ENODEV and no engine is left.
 */
struct speckv_card {
	struct device dev;
	struct cdev cdev;
	const struct speckv_engine *engine;
	void *private;			/* the engine's; not to be used when gone */
	struct module *owner;
	struct speckv_caps caps;
	struct srcu_struct srcu;	/* entry points against removal */
	bool gone;
	u32 current_step;		/* the last that any context reached */

	struct rw_semaphore renewal;	/* the engine's tables: a change against a reset of all */
	bool handed_over;		/* renewal and lock: others reset it, and hold neither */
	wait_queue_head_t returned;

	struct mutex lock;		/* what follows */
	struct speckv_quota quota;
	struct list_head contexts;
	struct ida tenants;
	struct speckv_queue *queues[SPECKV_MAX_QUEUES];
	struct gen_pool *memory;	/* addresses begin at PAGE_SIZE: 0 is failure */

	struct xarray regions;		/* by id; its lock makes lookup and ref one */
	struct dentry *debugfs;
};

/*
 * One open file: a tenant. Freed by its release; queues and regions do not outlive it,
 * since what maps them holds the file.
 */
struct speckv_context {
	struct speckv_card *card;
	struct file *file;
	struct list_head link;		/* card->lock */
	u32 tenant;
	kuid_t owner;
	bool detached;			/* card->lock: the engine knows nothing of it */
	wait_queue_head_t wait;		/* poll */

	struct mutex lock;		/* what follows, and making and ending objects */
	struct xarray queues;		/* by id */
	atomic_t queue_count;		/* until the last mapping goes */
	u32 region_count;		/* card->lock, too */
	atomic64_t memory_used;		/* given back when the last mapping goes */
	u32 prefetch_depth, scheme;
	struct list_head advice;
	u32 advice_count;

	struct mutex ask_lock;		/* own, answer_page: one question at a time */
	struct speckv_queue *own;	/* for the commands that wait for an answer */
	struct speckv_region *answers;
	u32 step;
};

enum speckv_region_kind { SPECKV_REGION_CARD, SPECKV_REGION_PINNED, SPECKV_REGION_KERNEL,
			  SPECKV_REGION_IMPORTED };

/* Memory with a number. Freed by the last put: the id's, a mapping's, the engine's. */
struct speckv_region {
	struct kref ref;
	struct speckv_context *ctx;
	enum speckv_region_kind kind;
	u32 id;
	bool writable, accounted;
	bool cleared;			/* the engine does not know it (any more) */
	atomic_t at_work;		/* descriptors that a software engine carries out */
	u64 base;			/* offset, CARD: in card memory, IMPORTED: in dmabuf */
	u64 length;
	void *cpu;			/* KERNEL; the others: where a software engine has it */
	struct page **pages;		/* PINNED */
	unsigned long page_count;
	struct dma_buf *dmabuf;		/* IMPORTED */
	struct mm_struct *mm;		/* PINNED, IMPORTED: whose locked memory it counts as */
	unsigned long locked;		/* so many pages */
	u8 *advice;			/* CARD: the last hint for each page, or NULL */
	void *private;			/* the engine's */
};

enum speckv_slot_kind { SPECKV_SLOT_FREE, SPECKV_SLOT_RESERVED, SPECKV_SLOT_REAP,
			SPECKV_SLOT_URING, SPECKV_SLOT_WAIT, SPECKV_SLOT_DROP };

/* Someone who waits for one answer; on the waiter's stack. */
struct speckv_wait {
	struct completion done;
	struct speckv_cpl cpl;
	int error;
};

/* What the kernel has submitted under a tag of its own. */
struct speckv_slot {
	u8 kind;
	u16 tag;			/* the program's */
	union {
		struct io_uring_cmd *cmd;
		struct speckv_wait *wait;
	};
};

/* A tag that was reserved, as long as the queue is not reset. */
struct speckv_ticket {
	u32 generation;
	u16 tag;
};

enum speckv_queue_mode { SPECKV_QUEUE_UNUSED, SPECKV_QUEUE_BY_KERNEL, SPECKV_QUEUE_MAPPED };

struct speckv_soft_queue {
	struct work_struct work;
	struct mutex turn;		/* who serves the queue; what follows */
	u32 fetched, completed, armed, step;
	bool enabled;
	u8 inject;
};

struct speckv_pci_queue {
	u32 armed;			/* the kernel's own: the last value stored to arm */
};

/* Freed by the last put: the id's, a mapping's, a system call's. */
struct speckv_queue {
	struct kref ref;
	struct speckv_context *ctx;
	u32 index, depth;		/* its number in the card; its id is one more */
	bool internal;			/* the context's own: no id, no quota */
	struct speckv_desc *descs;
	struct speckv_cpl *cpls;
	void *doorbell;			/* a page of memory, or the card's */
	dma_addr_t ring_bus;
	struct eventfd_ctx *eventfd;
	union {
		struct speckv_soft_queue soft;
		struct speckv_pci_queue pci;
	};

	struct mutex admin;		/* enabling, disabling */
	struct delayed_work watchdog;	/* what the kernel submits is answered in time */
	wait_queue_head_t room;

	spinlock_t lock;		/* what follows */
	enum speckv_queue_mode mode;
	int error;			/* not 0: nothing is taken until a reset */
	u32 generation;			/* counts resets */
	u32 tail, head;			/* BY_KERNEL: submitted, answered */
	u32 watched;			/* head, as it was at watched_at and is since */
	unsigned long watched_at;	/* in jiffies */
	struct speckv_slot *slots;	/* by tag */
	u16 *free_tags;
	u32 free_count;
	struct speckv_cpl *reap;	/* a ring of answers for REAP */
	u32 reap_first, reap_count;
};

#include "speckv_fn.h"

#endif /* SPECKV_DRV_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the driver offer each other; speckv_drv.h includes it. */
#ifndef SPECKV_FN_H
#define SPECKV_FN_H

struct dma_buf_attachment;
struct sg_table;

/* main.c */
extern struct class *speckv_class;
extern struct dentry *speckv_debugfs;
extern unsigned int speckv_timeout_ms;
int speckv_minor_get(dev_t *devt);
void speckv_minor_put(dev_t devt);

/* card.c */
struct speckv_card *speckv_card_create(struct device *parent, const struct speckv_engine *engine,
				       const struct speckv_caps *caps, void *private);
int speckv_card_add(struct speckv_card *card);
/* The card answers nothing any more: everyone is woken with ENODEV, no mapping leads to it. */
void speckv_card_lose(struct speckv_card *card);
/* The same, and afterwards the engine is not called any more. */
void speckv_card_remove(struct speckv_card *card);
int speckv_card_reset(struct speckv_card *card);
/* Between the two, in one thread: all queues are in error, no table of the engine changes. */
void speckv_card_halt(struct speckv_card *card);
void speckv_card_go_on(struct speckv_card *card);
/* Others reset the card between the two, which may take locks that are outside of ours. */
void speckv_card_hand_over(struct speckv_card *card);
int speckv_card_take_back(struct speckv_card *card);
/* Reads renewal, once nobody else resets the card: up_read() ends it. */
void speckv_card_steady(struct speckv_card *card);
/* The card is halted: the engine is reset, and knows all regions again. */
int speckv_card_renew(struct speckv_card *card);
/* card->lock held, of both */
bool speckv_card_grants(const struct speckv_card *card, u32 mine, u32 all);
int speckv_card_take_queue(struct speckv_card *card, struct speckv_queue *queue);
static inline struct speckv_card *speckv_card_of(struct device *dev)
{
	return container_of(dev, struct speckv_card, dev);
}

static inline int speckv_card_wake(struct speckv_card *card)
{
	return card->engine->wake ? card->engine->wake(card) : 0;
}

static inline void speckv_card_rest(struct speckv_card *card)
{
	if (card->engine->rest)
		card->engine->rest(card);
}

/* sysfs.c, debugfs.c */
extern const struct attribute_group *speckv_card_groups[];
void speckv_debugfs_add(struct speckv_card *card);

/* context.c */
extern const struct file_operations speckv_fops;
/* card->lock held; the engine forgets the context, its programs get @error. */
void speckv_context_detach(struct speckv_context *ctx, int error);
void speckv_context_stop(struct speckv_context *ctx, int error);
void speckv_context_notify(struct speckv_context *ctx);

/* ioctl.c */
long speckv_ioctl(struct file *file, unsigned int number, unsigned long argument);

/* region.c */
int speckv_region_create(struct speckv_context *ctx, struct speckv_region_create *args);
int speckv_region_import(struct speckv_context *ctx, struct speckv_region_import *args);
/* Counts the pages as locked memory of the caller until the region is freed. */
int speckv_region_lock_pages(struct speckv_region *region, unsigned long count);
struct speckv_region *speckv_region_kernel(struct speckv_context *ctx);
/* What the id says, if it is the context's; with a reference. NULL: it is not. */
struct speckv_region *speckv_region_get(struct speckv_context *ctx, u32 id);
void speckv_region_put(struct speckv_region *region);
/* The id goes; ctx->lock held, or the context is being released. */
void speckv_region_remove(struct speckv_region *region);
/* The context's first region from *id on, which becomes its id. NULL: there is none. */
struct speckv_region *speckv_region_next(struct speckv_context *ctx, unsigned long *id);
int speckv_region_mmap(struct speckv_region *region, struct vm_area_struct *vma);
struct speckv_region *speckv_region_of_vma(struct vm_area_struct *vma);
#define SPECKV_MMAP_REGION(id)	((u64)(id) << 30)
#define SPECKV_MMAP_RING(id)	(1ULL << 42 | (u64)(id) << 30)
#define SPECKV_MMAP_DOORBELL(id) (1ULL << 43 | (u64)(id) << 30)
#define SPECKV_MMAP_ID(offset)	((u32)((offset) >> 30 & 0xfff))

/* dmabuf.c: of regions that are IMPORTED */
int speckv_dmabuf_get(struct speckv_region *region, const struct speckv_region_import *args);
void speckv_dmabuf_put(struct speckv_region *region);
/* region->cpu is where the CPU finds it, until the put; it is looked at between begin and end. */
int speckv_dmabuf_map_cpu(struct speckv_region *region);
int speckv_dmabuf_begin(struct speckv_region *region);
void speckv_dmabuf_end(struct speckv_region *region);
/* Until the detach the memory stays where the table says. */
struct dma_buf_attachment *speckv_dmabuf_attach(struct speckv_region *region, struct device *dev,
						enum dma_data_direction direction,
						struct sg_table **table);
void speckv_dmabuf_detach(struct dma_buf_attachment *attachment, struct sg_table *table,
			  enum dma_data_direction direction);

/* queue.c */
struct speckv_queue *speckv_queue_create(struct speckv_context *ctx, u32 depth, int eventfd,
					 bool internal);
struct speckv_queue *speckv_queue_get(struct speckv_context *ctx, u32 id);
void speckv_queue_put(struct speckv_queue *queue);
void speckv_queue_remove(struct speckv_queue *queue);
int speckv_queue_restart(struct speckv_queue *queue);
/* Nothing is taken from now on; what is unanswered is answered with @error. */
void speckv_queue_stop(struct speckv_queue *queue, int error);
/* The engine looks at the queue. Not 0: it was stopped, with this error. Any context. */
int speckv_queue_wake_engine(struct speckv_queue *queue);
/* Completions were written; @armed: and the program wants to know. Any context. */
void speckv_queue_event(struct speckv_queue *queue, bool armed);
/* card->lock held, nobody has the ring mapped: its memory goes before the queue does. */
void speckv_queue_free_rings(struct speckv_queue *queue);
/* The engine does not serve it any more. Any context. */
void speckv_queue_failed(struct speckv_queue *queue);
/* submit.c: a place for a descriptor, then the descriptor; or both at once. @ticket: or NULL */
int speckv_queue_reserve(struct speckv_queue *queue, struct speckv_ticket *ticket);
int speckv_queue_commit(struct speckv_queue *queue, const struct speckv_ticket *ticket,
			const struct speckv_desc *desc, enum speckv_slot_kind kind, void *who);
int speckv_queue_push(struct speckv_queue *queue, const struct speckv_desc *desc,
		      enum speckv_slot_kind kind, void *who, struct speckv_ticket *ticket);
/*
 * After one of these, or a store to a mapped ring; in a task, with no lock of the queue's: what
 * was submitted is carried out, or on its way.
 */
void speckv_queue_serve(struct speckv_queue *queue, bool may_sleep);
int speckv_queue_wait_room(struct speckv_queue *queue);
/*
 * A notification of io_uring's own ends interruptible waits like a signal, and stays until the
 * system call returns. Whoever waits on all the same looks for signals that often.
 */
#define SPECKV_SIGNALS_EVERY	msecs_to_jiffies(20)
bool speckv_queue_detach(struct speckv_queue *queue, struct io_uring_cmd *cmd);
bool speckv_queue_hand_on(struct speckv_queue *queue, const struct speckv_ticket *ticket,
			  struct speckv_wait *wait, struct io_uring_cmd *cmd);
void speckv_queue_forget(struct speckv_queue *queue, struct speckv_wait *wait);
u32 speckv_queue_reap(struct speckv_queue *queue, struct speckv_cpl *cpls, u32 count);
bool speckv_queue_readable(struct speckv_queue *queue);
int speckv_queue_mmap(struct speckv_queue *queue, struct vm_area_struct *vma, bool doorbell);

/* uring.c */
int speckv_uring_cmd(struct io_uring_cmd *cmd, unsigned int flags);
void speckv_uring_complete(struct io_uring_cmd *cmd, int result);
int speckv_cpl_errno(u16 code);

/* semantic.c: one descriptor through the context's own queue */
int speckv_ask(struct speckv_context *ctx, const struct speckv_desc *desc, struct speckv_cpl *cpl);
int speckv_step(struct speckv_context *ctx, struct speckv_step *args);
int speckv_hint(struct speckv_context *ctx, struct speckv_hint *args);
int speckv_weights(struct speckv_context *ctx, struct speckv_weights *args);
int speckv_telemetry_read(struct speckv_context *ctx, struct speckv_telemetry_read *args);
int speckv_param_set(struct speckv_context *ctx, struct speckv_param *args);
int speckv_param_get(struct speckv_context *ctx, struct speckv_param *args);
int speckv_prefetch(struct speckv_context *ctx, struct speckv_prefetch *args);
int speckv_prefetch_range(struct speckv_context *ctx, u32 region, u64 offset, u64 length);

/* advise.c */
int speckv_advise(struct speckv_context *ctx, struct speckv_advise *args);
void speckv_advice_due(struct speckv_context *ctx, u32 step);
void speckv_advice_drop(struct speckv_context *ctx, struct speckv_region *region);

/* emulate.c, pci.c: the drivers of software cards and of real ones */
int speckv_emulate_init(void);
void speckv_emulate_exit(void);
int speckv_pci_init(void);
void speckv_pci_exit(void);

#endif /* SPECKV_FN_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* A card on PCI, which one source brings up and down and the others work with. */
#ifndef SPECKV_PCI_H
#define SPECKV_PCI_H

#include <linux/io.h>
#include <linux/pci.h>
#include "speckv_drv.h"

/* The interrupt of one queue number. */
struct speckv_pci_vector {
	spinlock_t lock;		/* queue; outside of queue->lock */
	struct speckv_queue *queue;	/* while it is enabled */
	bool raised;			/* and poll() has not been told */
};

enum speckv_pci_state {
	SPECKV_PCI_BROKEN,		/* does not answer; cut off from memory */
	SPECKV_PCI_FROZEN,		/* its bus recovers from an error */
};

/* Freed with the device's other resources, after its driver has let go of the card. */
struct speckv_pci {
	struct pci_dev *pdev;
	struct speckv_card *card;
	void __iomem *regs;
	void __iomem *memory;		/* all of caps.memory */
	unsigned long state;
	unsigned long frozen_at;	/* in jiffies */
	u32 weights, thresholds;	/* as they were tuned: sleep forgets them */
	struct mutex lock;		/* registers that take one question at a time */
	struct delayed_work health;
	struct work_struct lost;
	struct speckv_pci_vector vectors[SPECKV_MAX_QUEUES];
};

static inline u32 speckv_pci_read(const struct speckv_pci *pci, u32 offset)
{
	return readl(pci->regs + offset);
}

static inline u64 speckv_pci_read64(const struct speckv_pci *pci, u32 offset)
{
	u64 low = speckv_pci_read(pci, offset);

	return low | (u64)speckv_pci_read(pci, offset + 4) << 32;
}

static inline void speckv_pci_write(struct speckv_pci *pci, u32 offset, u32 value)
{
	writel(value, pci->regs + offset);
}

static inline void speckv_pci_write64(struct speckv_pci *pci, u32 offset, u64 value)
{
	speckv_pci_write(pci, offset, lower_32_bits(value));
	speckv_pci_write(pci, offset + 4, upper_32_bits(value));
}

static inline struct speckv_pci *speckv_pci_of(struct speckv_card *card)
{
	return card->private;
}

static inline u32 speckv_pci_doorbell_reg(const struct speckv_queue *queue, u32 offset)
{
	return SPECKV_DOORBELL_WINDOW + queue->index * SPECKV_DOORBELL_STRIDE + offset;
}

/* pci.c: it does not do what it must. It reaches no memory afterwards, and is lost soon. */
void speckv_pci_give_up(struct speckv_pci *pci, const char *what);

/* pci_engine.c */
/* Until the card has taken the bit away. It is given up if it does not. */
int speckv_pci_wait(struct speckv_pci *pci, u32 offset, u32 bit, const char *what);
extern const struct speckv_engine speckv_pci_engine;
/* Everything but memory as after power-on, then enabled. */
int speckv_pci_renew(struct speckv_pci *pci);
void speckv_pci_tuned(struct speckv_pci *pci);
/* card->lock held: tells the owners of queues that are in error. */
void speckv_pci_find_errors(struct speckv_pci *pci);
irqreturn_t speckv_pci_queue_interrupt(int irq, void *data);

/* pci_memory.c: as in struct speckv_engine */
int speckv_pci_region_set(struct speckv_region *region);
void speckv_pci_region_clear(struct speckv_region *region);
int speckv_pci_rings_map(struct speckv_queue *queue, struct vm_area_struct *vma);
int speckv_pci_doorbell_map(struct speckv_queue *queue, struct vm_area_struct *vma);
int speckv_pci_memory_map(struct speckv_region *region, struct vm_area_struct *vma);
int speckv_pci_memory_clear(struct speckv_card *card, u64 base, u64 length);

#endif /* SPECKV_PCI_H */

// SPDX-License-Identifier: GPL-2.0-only
/* For debugging and tests, root only: rings, hints of pages, injected faults. */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include "speckv_drv.h"

static int rings_show(struct seq_file *file, void *unused)
{
	static const char * const modes[] = { "unused", "kernel", "mapped" };
	struct speckv_card *card = file->private;
	struct speckv_queue *queue;
	u32 i;

	guard(mutex)(&card->lock);
	for (i = 0; i < card->caps.max_queues; i++) {
		queue = card->queues[i];
		if (!queue)
			continue;
		spin_lock_irq(&queue->lock);
		seq_printf(file, "queue %u tenant %u depth %u %s%s error %d tail %u head %u reap %u\n",
			   i, queue->ctx->tenant, queue->depth, modes[queue->mode],
			   queue->internal ? " internal" : "", queue->error, queue->tail,
			   queue->head, queue->reap_count);
		spin_unlock_irq(&queue->lock);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(rings);

/* One line a region: how many pages carry which hint, waiting ranges apart. */
static int regions_show(struct seq_file *file, void *unused)
{
	struct speckv_card *card = file->private;
	struct speckv_region *region;
	unsigned long id = 0;
	u32 i, hints[4];

	guard(mutex)(&card->lock);
	for (region = xa_find(&card->regions, &id, ULONG_MAX, XA_PRESENT); region;
	     region = xa_find_after(&card->regions, &id, ULONG_MAX, XA_PRESENT)) {
		memset(hints, 0, sizeof(hints));
		xa_lock(&card->regions);
		if (xa_load(&card->regions, id) == region) {
			for (i = 0; region->advice && i < region->length >> PAGE_SHIFT; i++)
				hints[region->advice[i] & 3]++;
			seq_printf(file, "region %lu tenant %u kind %u length %llu hot %u evictable %u prefetchable %u\n",
				   id, region->ctx->tenant, region->kind, region->length,
				   hints[SPECKV_HINT_HOT], hints[SPECKV_HINT_EVICTABLE],
				   hints[SPECKV_HINT_PREFETCHABLE]);
		}
		xa_unlock(&card->regions);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(regions);

/* "KIND ARGUMENT", as the registers inject and inject_argument take them. */
static ssize_t inject_write(struct file *file, const char __user *from, size_t count,
			    loff_t *position)
{
	struct speckv_card *card = file->private_data;
	char text[48];
	u64 argument;
	u32 kind;
	int error;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, count))
		return -EFAULT;
	text[count] = 0;
	if (sscanf(text, "%u %llu", &kind, &argument) != 2)
		return -EINVAL;
	error = speckv_card_wake(card);
	if (error)
		return error;
	mutex_lock(&card->lock);
	error = card->engine->inject(card, kind, argument);
	mutex_unlock(&card->lock);
	speckv_card_rest(card);
	return error ?: count;
}

static const struct file_operations inject_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = inject_write,
	.llseek = noop_llseek,
};

/* A card that stands still while 1 was written last. */
static int hold_set(void *data, u64 value)
{
	struct speckv_card *card = data;
	int error;

	error = speckv_card_wake(card);
	if (error)
		return error;
	mutex_lock(&card->lock);
	card->engine->hold(card, value);
	mutex_unlock(&card->lock);
	speckv_card_rest(card);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(hold_fops, NULL, hold_set, "%llu\n");

/* debugfs keeps readers off what debugfs_remove() has taken away. */
void speckv_debugfs_add(struct speckv_card *card)
{
	card->debugfs = debugfs_create_dir(dev_name(&card->dev), speckv_debugfs);
	debugfs_create_file("rings", 0400, card->debugfs, card, &rings_fops);
	debugfs_create_file("regions", 0400, card->debugfs, card, &regions_fops);
	debugfs_create_file("inject", 0200, card->debugfs, card, &inject_fops);
	debugfs_create_file("hold", 0200, card->debugfs, card, &hold_fops);
}

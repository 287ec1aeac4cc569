// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that came as a dma-buf. It is attached statically: its exporter pins it, in memory of the
 * host, and moves nothing as long as the region lives. So there is no move_notify, and no exporter
 * is told that this card could reach a peer's memory.
 */
#include <linux/dma-buf.h>
#include <linux/iosys-map.h>
#include "speckv_drv.h"

/* Exporters answer what they like; programs are told what speckv_ioctl.h says. */
static int speckv_dmabuf_errno(int error)
{
	if (error == -ENOMEM)
		return error;
	return error == -EINTR || error == -ERESTARTSYS ? -EINTR : -EOPNOTSUPP;
}

static bool speckv_dmabuf_open_for(const struct dma_buf *dmabuf, bool writing)
{
	fmode_t needed = FMODE_READ | (writing ? FMODE_WRITE : 0);

	return (dmabuf->file->f_mode & needed) == needed;
}

int speckv_dmabuf_get(struct speckv_region *region, const struct speckv_region_import *args)
{
	struct dma_buf *dmabuf = dma_buf_get(args->fd);

	if (IS_ERR(dmabuf))
		return -EINVAL;
	region->dmabuf = dmabuf;
	region->base = args->offset;
	if (args->offset > dmabuf->size || args->length > dmabuf->size - args->offset ||
	    !speckv_dmabuf_open_for(dmabuf, region->writable))
		return -EINVAL;
	return speckv_region_lock_pages(region, PAGE_ALIGN(dmabuf->size) >> PAGE_SHIFT);
}

void speckv_dmabuf_put(struct speckv_region *region)
{
	struct iosys_map map;

	if (region->cpu) {
		iosys_map_set_vaddr(&map, region->cpu - region->base);
		speckv_dma_buf_vunmap(region->dmabuf, &map);
	}
	if (region->dmabuf)
		dma_buf_put(region->dmabuf);
}

int speckv_dmabuf_begin(struct speckv_region *region)
{
	return dma_buf_begin_cpu_access(region->dmabuf, DMA_BIDIRECTIONAL);
}

void speckv_dmabuf_end(struct speckv_region *region)
{
	dma_buf_end_cpu_access(region->dmabuf, DMA_BIDIRECTIONAL);
}

int speckv_dmabuf_map_cpu(struct speckv_region *region)
{
	struct iosys_map map;
	int error = speckv_dma_buf_vmap(region->dmabuf, &map);

	if (error)
		return speckv_dmabuf_errno(error);
	if (map.is_iomem) {
		speckv_dma_buf_vunmap(region->dmabuf, &map);
		return -EOPNOTSUPP;
	}
	region->cpu = map.vaddr + region->base;
	/* What its exporter does not let the CPU look at is refused now, not at a descriptor. */
	error = speckv_dmabuf_begin(region);
	if (error)
		return speckv_dmabuf_errno(error);
	speckv_dmabuf_end(region);
	return 0;
}

struct dma_buf_attachment *speckv_dmabuf_attach(struct speckv_region *region, struct device *dev,
						enum dma_data_direction direction,
						struct sg_table **table)
{
	struct dma_buf_attachment *attachment = dma_buf_attach(region->dmabuf, dev);

	if (IS_ERR(attachment))
		return ERR_PTR(speckv_dmabuf_errno(PTR_ERR(attachment)));
	*table = speckv_dma_buf_map(attachment, direction);
	if (!IS_ERR(*table))
		return attachment;
	dma_buf_detach(region->dmabuf, attachment);
	return ERR_PTR(speckv_dmabuf_errno(PTR_ERR(*table)));
}

void speckv_dmabuf_detach(struct dma_buf_attachment *attachment, struct sg_table *table,
			  enum dma_data_direction direction)
{
	speckv_dma_buf_unmap(attachment, table, direction);
	dma_buf_detach(attachment->dmabuf, attachment);
}

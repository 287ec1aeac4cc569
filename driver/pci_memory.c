// SPDX-License-Identifier: GPL-2.0-only
/* Memory between a card and programs: what it reaches of the host's, its own that they map. */
#include <linux/bitfield.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include "pci.h"

/* Host memory of one region, as the card sees it. */
struct speckv_pci_map {
	struct dma_buf_attachment *attachment;	/* whose the table is; NULL: own */
	struct sg_table own, *table;
	enum dma_data_direction direction;
	u64 skip;			/* bytes of the table before the region */
	__le64 *list;			/* of pages, where they do not lie together */
	dma_addr_t list_bus;
	size_t list_bytes;
	u64 base;
	u32 control;
};

static u32 speckv_pci_region_reg(const struct speckv_region *region, u32 offset)
{
	return SPECKV_REGION_WINDOW + region->id * SPECKV_REGION_STRIDE + offset;
}

static void speckv_pci_release(struct speckv_pci *pci, struct speckv_pci_map *map)
{
	if (map->attachment) {
		speckv_dmabuf_detach(map->attachment, map->table, map->direction);
	} else {
		dma_unmap_sgtable(&pci->pdev->dev, map->table, map->direction,
				  DMA_ATTR_SKIP_CPU_SYNC);
		sg_free_table(map->table);
	}
	kfree(map);
}

static void speckv_pci_unmap(struct speckv_pci *pci, struct speckv_pci_map *map)
{
	if (map->list)
		dma_free_coherent(&pci->pdev->dev, map->list_bytes, map->list, map->list_bus);
	speckv_pci_release(pci, map);
}

/* Goes through the pieces of a table that are of a region. */
struct speckv_pci_walk {
	u64 skip, left;
	dma_addr_t at;
};

/* How many bytes of the piece are the region's, from walk->at on. */
static u64 speckv_pci_walk(struct speckv_pci_walk *walk, struct scatterlist *piece)
{
	u64 skipped = min_t(u64, sg_dma_len(piece), walk->skip);
	u64 length = min_t(u64, sg_dma_len(piece) - skipped, walk->left);

	walk->at = sg_dma_address(piece) + skipped;
	walk->skip -= skipped;
	walk->left -= length;
	return length;
}

/* Pages as large as all pieces allow: the list is short, and the card's lookups are few. */
static int speckv_pci_list(struct speckv_pci *pci, struct speckv_pci_map *map, u64 length,
			   u32 shift)
{
	struct speckv_pci_walk walk = { map->skip, length };
	u64 at, size, page = BIT_ULL(shift);
	struct scatterlist *piece;
	u32 i, n = 0;

	if (!(pci->card->caps.features & SPECKV_FEATURE_PAGED))
		return -EOPNOTSUPP;
	map->list_bytes = DIV_ROUND_UP_ULL(length, page) * sizeof(*map->list);
	/* Of whatever size the program's region asks for: what cannot be had is no news. */
	map->list = dma_alloc_coherent(&pci->pdev->dev, map->list_bytes, &map->list_bus,
				       GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!map->list)
		return -ENOMEM;
	for_each_sgtable_dma_sg(map->table, piece, i) {
		size = speckv_pci_walk(&walk, piece);
		for (at = 0; at < size; at += page)
			map->list[n++] = cpu_to_le64(walk.at + at);
	}
	map->base = map->list_bus;
	map->control = SPECKV_REGION_CONTROL_PAGED |
		       FIELD_PREP(SPECKV_REGION_CONTROL_PAGE_SHIFT, shift);
	return 0;
}

/* An IOMMU leads to whole pages where they are. */
static bool speckv_pci_translated(struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	return domain && domain->type & __IOMMU_DOMAIN_PAGING && dev_is_dma_coherent(dev);
}

/*
 * Card and program use the memory at once: what would be copied back and forth is no good. The
 * pieces are whole pages. Behind an IOMMU dma_need_sync() says yes of all before 6.10, and where
 * CONFIG_DMA_API_DEBUG is set.
 */
static bool speckv_pci_shares(struct speckv_pci *pci, struct speckv_pci_map *map)
{
	struct scatterlist *piece;
	u32 i;

	if (speckv_pci_translated(&pci->pdev->dev))
		return true;
	for_each_sgtable_dma_sg(map->table, piece, i) {
		if (dma_need_sync(&pci->pdev->dev, sg_dma_address(piece)))
			return false;
	}
	return true;
}

/* Tables of others may be shorter than they said, and have pieces of any size. */
static int speckv_pci_describe(struct speckv_pci *pci, struct speckv_pci_map *map, u64 length)
{
	struct speckv_pci_walk walk = { map->skip, length };
	struct scatterlist *piece;
	u64 edges = 0, size;
	u32 i, pieces = 0;

	for_each_sgtable_dma_sg(map->table, piece, i) {
		size = speckv_pci_walk(&walk, piece);
		if (!size)
			continue;
		if (!pieces++)
			map->base = walk.at;
		edges |= walk.at | (walk.left ? size : 0);
	}
	if (walk.left || !PAGE_ALIGNED(edges) || !speckv_pci_shares(pci, map))
		return -EOPNOTSUPP;
	return pieces > 1 ? speckv_pci_list(pci, map, length, __ffs64(edges | BIT_ULL(30))) : 0;
}

static int speckv_pci_map_pages(struct speckv_pci *pci, struct speckv_pci_map *map,
				struct page **pages, unsigned long count)
{
	int error = sg_alloc_table_from_pages(&map->own, pages, count, 0,
					      (u64)count << PAGE_SHIFT, GFP_KERNEL_ACCOUNT);

	if (error)
		return error;
	map->table = &map->own;
	/* Nothing is copied, and a page may be in several regions: see speckv_pci_shares(). */
	error = dma_map_sgtable(&pci->pdev->dev, map->table, map->direction,
				DMA_ATTR_SKIP_CPU_SYNC);
	if (error)
		sg_free_table(map->table);
	return error;
}

static int speckv_pci_map_memory(struct speckv_pci *pci, struct speckv_pci_map *map,
				 struct speckv_region *region)
{
	struct page *page;

	switch (region->kind) {
	case SPECKV_REGION_PINNED:
		return speckv_pci_map_pages(pci, map, region->pages, region->page_count);
	case SPECKV_REGION_IMPORTED:
		map->skip = region->base;
		map->attachment = speckv_dmabuf_attach(region, &pci->pdev->dev, map->direction,
						       &map->table);
		return PTR_ERR_OR_ZERO(map->attachment);
	default:
		page = virt_to_page(region->cpu);
		return speckv_pci_map_pages(pci, map, &page, 1);
	}
}

static int speckv_pci_map(struct speckv_pci *pci, struct speckv_region *region)
{
	struct speckv_pci_map *map = kzalloc(sizeof(*map), GFP_KERNEL_ACCOUNT);
	int error;

	if (!map)
		return -ENOMEM;
	map->direction = region->writable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
	error = speckv_pci_map_memory(pci, map, region);
	if (error) {
		kfree(map);
		return error;
	}
	error = speckv_pci_describe(pci, map, region->length);
	if (error) {
		speckv_pci_release(pci, map);
		return error;
	}
	region->private = map;
	return 0;
}

/* Mapped once; set again after a reset of the card. */
int speckv_pci_region_set(struct speckv_region *region)
{
	struct speckv_pci *pci = speckv_pci_of(region->ctx->card);
	struct speckv_pci_map *map;
	u32 control = SPECKV_REGION_CONTROL_VALID | SPECKV_REGION_CONTROL_READ |
		      FIELD_PREP(SPECKV_REGION_CONTROL_TENANT, region->ctx->tenant);
	u64 base = region->base;
	int error;

	if (region->writable)
		control |= SPECKV_REGION_CONTROL_WRITE;
	if (region->kind == SPECKV_REGION_CARD) {
		control |= SPECKV_REGION_CONTROL_DEVICE;
	} else {
		error = region->private ? 0 : speckv_pci_map(pci, region);
		if (error)
			return error;
		map = region->private;
		control |= map->control;
		base = map->base;
	}
	speckv_pci_write64(pci, speckv_pci_region_reg(region, SPECKV_REGION_BASE), base);
	speckv_pci_write64(pci, speckv_pci_region_reg(region, SPECKV_REGION_LENGTH),
			   region->length);
	speckv_pci_write(pci, speckv_pci_region_reg(region, SPECKV_REGION_CONTROL), control);
	return 0;
}

void speckv_pci_region_clear(struct speckv_region *region)
{
	struct speckv_pci *pci = speckv_pci_of(region->ctx->card);

	speckv_pci_write(pci, speckv_pci_region_reg(region, SPECKV_REGION_CONTROL), 0);
	mutex_lock(&pci->lock);
	speckv_pci_write(pci, SPECKV_CSR_INVALIDATE, region->id);
	speckv_pci_wait(pci, SPECKV_CSR_INVALIDATE, SPECKV_CSR_INVALIDATE_BUSY, "invalidate");
	mutex_unlock(&pci->lock);
	if (region->private)
		speckv_pci_unmap(pci, region->private);
	region->private = NULL;
}

/* ---- What programs map ---- */

int speckv_pci_rings_map(struct speckv_queue *queue, struct vm_area_struct *vma)
{
	unsigned long offset = vma->vm_pgoff;
	int error;

	vma->vm_pgoff = 0;	/* which is where in the rings, not which rings */
	error = dma_mmap_coherent(&speckv_pci_of(queue->ctx->card)->pdev->dev, vma, queue->descs,
				  queue->ring_bus, PAGE_ALIGN(speckv_ring_bytes(queue->depth)));
	vma->vm_pgoff = offset;
	return error;
}

static int speckv_pci_map_bar(struct vm_area_struct *vma, resource_size_t at, pgprot_t protection)
{
	return io_remap_pfn_range(vma, vma->vm_start, at >> PAGE_SHIFT,
				  vma->vm_end - vma->vm_start, protection);
}

int speckv_pci_doorbell_map(struct speckv_queue *queue, struct vm_area_struct *vma)
{
	struct speckv_pci *pci = speckv_pci_of(queue->ctx->card);

	/* A larger page would lead to the neighbours' doorbells as well. */
	if (PAGE_SIZE != SPECKV_DOORBELL_STRIDE)
		return -EOPNOTSUPP;
	return speckv_pci_map_bar(vma, pci_resource_start(pci->pdev, 0) +
				  speckv_pci_doorbell_reg(queue, 0),
				  pgprot_noncached(vma->vm_page_prot));
}

int speckv_pci_memory_map(struct speckv_region *region, struct vm_area_struct *vma)
{
	struct speckv_pci *pci = speckv_pci_of(region->ctx->card);

	return speckv_pci_map_bar(vma, pci_resource_start(pci->pdev, SPECKV_PCI_MEMORY_BAR) +
				  region->base, pgprot_writecombine(vma->vm_page_prot));
}

int speckv_pci_memory_clear(struct speckv_card *card, u64 base, u64 length)
{
	struct speckv_pci *pci = speckv_pci_of(card);
	u64 piece;

	for (; length; base += piece, length -= piece) {
		piece = min_t(u64, length, SZ_1M);
		memset_io(pci->memory + base, 0, piece);
		cond_resched();
	}
	/*
	 * The read comes back after the stores have arrived: descriptors see zeroes. Without the
	 * card behind its bus they have not, and what was there may be seen when it is back.
	 */
	wmb();
	if (speckv_pci_read(pci, SPECKV_CSR_ID) != SPECKV_CONTRACT_ID || READ_ONCE(pci->state))
		return -EIO;
	return 0;
}

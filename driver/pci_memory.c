// SPDX-License-Identifier: GPL-2.0-only
/* Memory between a card and programs: pinned pages that it reaches, its own that they map. */
#include <linux/bitfield.h>
#include <linux/dma-mapping.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include "pci.h"

/* Host memory of one region, as the card sees it. */
struct speckv_pci_map {
	struct sg_table table;
	enum dma_data_direction direction;
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

static void speckv_pci_unmap(struct speckv_pci *pci, struct speckv_pci_map *map)
{
	if (map->list)
		dma_free_coherent(&pci->pdev->dev, map->list_bytes, map->list, map->list_bus);
	dma_unmap_sgtable(&pci->pdev->dev, &map->table, map->direction, 0);
	sg_free_table(&map->table);
	kfree(map);
}

/* Pages as large as all pieces allow: the list is short, and the card's lookups are few. */
static int speckv_pci_list(struct speckv_pci *pci, struct speckv_pci_map *map, u64 length)
{
	struct scatterlist *piece;
	u64 edges = 0, at, page;
	u32 i, shift, n = 0;

	if (!(pci->card->caps.features & SPECKV_FEATURE_PAGED))
		return -EOPNOTSUPP;
	for_each_sgtable_dma_sg(&map->table, piece, i) {
		edges |= sg_dma_address(piece);
		if (i + 1 < map->table.nents)
			edges |= sg_dma_len(piece);
	}
	shift = __ffs64(edges | BIT_ULL(30));
	page = BIT_ULL(shift);
	map->list_bytes = DIV_ROUND_UP_ULL(length, page) * sizeof(*map->list);
	map->list = dma_alloc_coherent(&pci->pdev->dev, map->list_bytes, &map->list_bus,
				       GFP_KERNEL_ACCOUNT);
	if (!map->list)
		return -ENOMEM;
	for_each_sgtable_dma_sg(&map->table, piece, i) {
		for (at = 0; at < sg_dma_len(piece); at += page)
			map->list[n++] = cpu_to_le64(sg_dma_address(piece) + at);
	}
	map->base = map->list_bus;
	map->control = SPECKV_REGION_CONTROL_PAGED |
		       FIELD_PREP(SPECKV_REGION_CONTROL_PAGE_SHIFT, shift);
	return 0;
}

/* Card and program use the memory at once: what would be copied back and forth is no good. */
static bool speckv_pci_shares(struct speckv_pci *pci, struct speckv_pci_map *map)
{
	struct scatterlist *piece;
	u32 i;

	for_each_sgtable_dma_sg(&map->table, piece, i) {
		if (dma_need_sync(&pci->pdev->dev, sg_dma_address(piece)))
			return false;
	}
	return true;
}

static int speckv_pci_map_pages(struct speckv_pci *pci, struct speckv_pci_map *map,
				struct page **pages, unsigned long count)
{
	u64 length = (u64)count << PAGE_SHIFT;
	int error = sg_alloc_table_from_pages(&map->table, pages, count, 0, length,
					      GFP_KERNEL_ACCOUNT);

	if (error)
		return error;
	error = dma_map_sgtable(&pci->pdev->dev, &map->table, map->direction, 0);
	if (error) {
		sg_free_table(&map->table);
		return error;
	}
	map->base = sg_dma_address(map->table.sgl);
	if (!speckv_pci_shares(pci, map))
		error = -EOPNOTSUPP;
	else if (map->table.nents > 1)
		error = speckv_pci_list(pci, map, length);
	if (!error)
		return 0;
	dma_unmap_sgtable(&pci->pdev->dev, &map->table, map->direction, 0);
	sg_free_table(&map->table);
	return error;
}

static int speckv_pci_map(struct speckv_pci *pci, struct speckv_region *region)
{
	struct speckv_pci_map *map = kzalloc(sizeof(*map), GFP_KERNEL_ACCOUNT);
	struct page *page;
	int error;

	if (!map)
		return -ENOMEM;
	map->direction = region->writable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
	if (region->kind == SPECKV_REGION_PINNED) {
		error = speckv_pci_map_pages(pci, map, region->pages, region->page_count);
	} else {
		page = virt_to_page(region->cpu);
		error = speckv_pci_map_pages(pci, map, &page, 1);
	}
	if (error) {
		kfree(map);
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

void speckv_pci_memory_clear(struct speckv_card *card, u64 base, u64 length)
{
	struct speckv_pci *pci = speckv_pci_of(card);
	u64 piece;

	for (; length; base += piece, length -= piece) {
		piece = min_t(u64, length, SZ_1M);
		memset_io(pci->memory + base, 0, piece);
		cond_resched();
	}
	/* The read comes back after the stores have arrived: descriptors see zeroes. */
	wmb();
	speckv_pci_read(pci, SPECKV_CSR_ID);
}

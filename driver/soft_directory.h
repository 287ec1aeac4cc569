/* SPDX-License-Identifier: GPL-2.0-only */
/* The directory's entries and tenants, for the two files that work on them. */
#ifndef SPECKV_SOFT_DIRECTORY_H
#define SPECKV_SOFT_DIRECTORY_H

#include "soft.h"
#include "soft_score.h"

#define SPECKV_ENTRIES	(SPECKV_MAX_DIRECTORY_ENTRIES + SPECKV_MAX_DIRECTORY_STASH)
#define SPECKV_PLACES	(SPECKV_MAX_DIRECTORY_WAYS + SPECKV_MAX_DIRECTORY_STASH)
#define SPECKV_SETS	(SPECKV_MAX_DIRECTORY_ENTRIES / SPECKV_MAX_DIRECTORY_WAYS)
#define SPECKV_SHIFT	SPECKV_CSR_BLOCK_SHIFT_RESET

/* Also what is hashed, hence little-endian and without holes. */
struct speckv_name {
	__le32 request;
	__le16 layer;
	u8 head, zero;
	__le32 page;
	__le16 tenant, zero2;
};

enum speckv_mark { SPECKV_UNMARKED, SPECKV_WAITING, SPECKV_TOLD };

struct speckv_entry {
	struct speckv_name name;
	struct speckv_use use;
	u16 tokens;		/* 0: free */
	u8 staged, victim, prefetch;
};

/* A ring of entry numbers; what they stand for is looked at when they are taken. */
struct speckv_list {
	u32 ring[SPECKV_MAX_CANDIDATES];
	u32 first, count;
};

/* Order as in struct speckv_telemetry, from hits on. */
enum speckv_tally { SPECKV_HITS, SPECKV_MISSES, SPECKV_INSERTED, SPECKV_REPLACED, SPECKV_REFUSED,
		    SPECKV_REMOVED, SPECKV_SCANS, SPECKV_VICTIMS, SPECKV_PREFETCHES,
		    SPECKV_BYTES_READ, SPECKV_BYTES_WRITTEN, SPECKV_FAILURES, SPECKV_TALLIES };

struct speckv_tenant {
	u32 step, blocks, shared;
	struct speckv_score_weights weights;
	struct speckv_list victims, prefetches;
	atomic64_t tally[SPECKV_TALLIES];
};

struct speckv_directory {
	struct speckv_soft *soft;
	struct mutex lock;		/* all of it */
	u32 weights, thresholds;	/* of a tenant that has sent none */
	struct speckv_tenant tenants[SPECKV_MAX_TENANTS];
	struct speckv_entry entries[SPECKV_ENTRIES];
};

/* Of the tenant and of the card; the numbers of both follow one another. */
static inline void speckv_tally(struct speckv_directory *directory, struct speckv_tenant *tenant,
				enum speckv_tally what)
{
	BUILD_BUG_ON(SPECKV_COUNTER_PREFETCHES - SPECKV_COUNTER_DIRECTORY_HITS !=
		     SPECKV_PREFETCHES - SPECKV_HITS);
	atomic64_inc(&tenant->tally[what]);
	speckv_soft_count(directory->soft, SPECKV_COUNTER_DIRECTORY_HITS + what, 1);
}

/* The entry is free; its tenant has one block less. directory->lock held. */
void speckv_entry_clear(struct speckv_directory *directory, struct speckv_entry *entry);

#endif /* SPECKV_SOFT_DIRECTORY_H */

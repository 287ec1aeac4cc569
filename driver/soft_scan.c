// SPDX-License-Identifier: GPL-2.0-only
/* The directory's scans, reports, and what is set for tenants: docs/queue-protocol.md, Scores. */
#include <linux/mm.h>
#include <linux/slab.h>
#include "soft_directory.h"

/* ---- Scanning and telling ---- */

static bool speckv_list_push(struct speckv_list *list, u32 number)
{
	if (list->count == SPECKV_MAX_CANDIDATES)
		return false;
	list->ring[(list->first + list->count++) % SPECKV_MAX_CANDIDATES] = number;
	return true;
}

/* Brings the marks of one entry up to date. True: it became a candidate. */
static bool speckv_entry_score(struct speckv_directory *directory, struct speckv_tenant *tenant,
			       u32 number)
{
	const struct speckv_score_weights *w = &tenant->weights;
	struct speckv_entry *entry = &directory->entries[number];
	u32 score = speckv_score(&entry->use, w, tenant->step);

	if (!speckv_below(score, w->evict + w->hysteresis, w) || entry->use.refs)
		entry->victim = SPECKV_UNMARKED;
	if (speckv_below(score, w->prefetch - w->hysteresis, w)) {
		entry->prefetch = SPECKV_UNMARKED;
		entry->staged = false;
	}
	if (entry->victim == SPECKV_UNMARKED && !entry->use.refs &&
	    speckv_below(score, w->evict, w) && speckv_list_push(&tenant->victims, number)) {
		entry->victim = SPECKV_WAITING;
		speckv_tally(directory, tenant, SPECKV_VICTIMS);
		return true;
	}
	if (entry->prefetch == SPECKV_UNMARKED && !entry->staged &&
	    !speckv_below(score, w->prefetch, w) &&
	    speckv_list_push(&tenant->prefetches, number)) {
		entry->prefetch = SPECKV_WAITING;
		speckv_tally(directory, tenant, SPECKV_PREFETCHES);
		return true;
	}
	return false;
}

u32 speckv_directory_step(struct speckv_directory *directory, u32 number, u32 step)
{
	struct speckv_tenant *tenant = &directory->tenants[number];
	u32 found = 0, left, i;

	guard(mutex)(&directory->lock);
	if (!speckv_later(step, tenant->step))
		return 0;
	tenant->step = step;
	speckv_tally(directory, tenant, SPECKV_SCANS);
	left = tenant->blocks;
	for (i = 0; i < SPECKV_ENTRIES && left; i++) {
		if (!directory->entries[i].tokens ||
		    le16_to_cpu(directory->entries[i].name.tenant) != number)
			continue;
		left--;
		found += speckv_entry_score(directory, tenant, i);
	}
	return found;
}

static u32 speckv_tell_counters(const struct speckv_tenant *tenant, struct speckv_telemetry *to)
{
	__le64 *counters = &to->hits;
	u32 i;

	BUILD_BUG_ON(offsetof(struct speckv_telemetry, failures) !=
		     offsetof(struct speckv_telemetry, hits) + SPECKV_FAILURES * sizeof(u64));
	memset(to, 0, sizeof(*to));
	to->step = cpu_to_le32(tenant->step);
	to->blocks = cpu_to_le32(tenant->blocks);
	to->shared = cpu_to_le32(tenant->shared);
	to->weights = cpu_to_le32(speckv_weights_pack(&tenant->weights));
	to->thresholds = cpu_to_le32(speckv_thresholds_pack(&tenant->weights));
	to->waiting_victims = cpu_to_le16(tenant->victims.count);
	to->waiting_prefetches = cpu_to_le16(tenant->prefetches.count);
	for (i = 0; i < SPECKV_TALLIES; i++)
		counters[i] = cpu_to_le64(atomic64_read(&tenant->tally[i]));
	return sizeof(*to);
}

static struct speckv_candidate speckv_tell(const struct speckv_tenant *tenant,
					   const struct speckv_entry *entry)
{
	u32 request = le32_to_cpu(entry->name.request);
	u64 position = (u64)le32_to_cpu(entry->name.page) << SPECKV_SHIFT;

	return (struct speckv_candidate){
		.address_low = cpu_to_le64(position |
			(u64)entry->name.head << SPECKV_ADDRESS_HEAD_SHIFT |
			(u64)le16_to_cpu(entry->name.layer) << SPECKV_ADDRESS_LAYER_SHIFT |
			(u64)request << SPECKV_ADDRESS_REQUEST_SHIFT),
		.address_high = cpu_to_le32(request >> (64 - SPECKV_ADDRESS_REQUEST_SHIFT)),
		.score = cpu_to_le32(speckv_score(&entry->use, &tenant->weights, tenant->step)),
	};
}

u32 speckv_directory_report(struct speckv_directory *directory, u32 number, u8 report, void *to,
			    u32 room)
{
	struct speckv_tenant *tenant = &directory->tenants[number];
	bool victims = report == SPECKV_REPORT_VICTIMS;
	struct speckv_list *list = victims ? &tenant->victims : &tenant->prefetches;
	struct speckv_candidate *told = to;
	struct speckv_entry *entry;
	u8 *mark;

	guard(mutex)(&directory->lock);
	if (report == SPECKV_REPORT_COUNTERS)
		return speckv_tell_counters(tenant, to);
	while (list->count && (void *)(told + 1) <= to + room) {
		entry = &directory->entries[list->ring[list->first]];
		list->first = (list->first + 1) % SPECKV_MAX_CANDIDATES;
		list->count--;
		mark = victims ? &entry->victim : &entry->prefetch;
		/* It may have been used, staged, shared or given to another block since. */
		if (!entry->tokens || le16_to_cpu(entry->name.tenant) != number ||
		    *mark != SPECKV_WAITING || (victims && entry->use.refs))
			continue;
		*mark = SPECKV_TOLD;
		*told++ = speckv_tell(tenant, entry);
	}
	return (void *)told - to;
}

/* ---- Tenants and defaults ---- */

bool speckv_weights_valid(u32 weights, u32 thresholds)
{
	struct speckv_score_weights w = speckv_weights_unpack(weights, thresholds);

	return weights && w.evict && w.evict + w.hysteresis <= w.prefetch - w.hysteresis;
}

void speckv_directory_weights(struct speckv_directory *directory, u32 tenant, u32 weights,
			      u32 thresholds)
{
	guard(mutex)(&directory->lock);
	directory->tenants[tenant].weights = speckv_weights_unpack(weights, thresholds);
}

void speckv_directory_tally(struct speckv_directory *directory, u32 tenant, u64 bytes_read,
			    u64 bytes_written, bool failed)
{
	atomic64_t *tally = directory->tenants[tenant].tally;

	atomic64_add(bytes_read, &tally[SPECKV_BYTES_READ]);
	atomic64_add(bytes_written, &tally[SPECKV_BYTES_WRITTEN]);
	atomic64_add(failed, &tally[SPECKV_FAILURES]);
}

static void speckv_tenant_renew(struct speckv_directory *directory, u32 tenant)
{
	memset(&directory->tenants[tenant], 0, sizeof(directory->tenants[tenant]));
	directory->tenants[tenant].weights =
		speckv_weights_unpack(directory->weights, directory->thresholds);
}

/* What the next program that gets this number must not see. */
void speckv_directory_clear(struct speckv_directory *directory, u32 tenant)
{
	u32 i;

	guard(mutex)(&directory->lock);
	for (i = 0; i < SPECKV_ENTRIES && directory->tenants[tenant].blocks; i++) {
		if (directory->entries[i].tokens &&
		    le16_to_cpu(directory->entries[i].name.tenant) == tenant)
			speckv_entry_clear(directory, &directory->entries[i]);
	}
	speckv_tenant_renew(directory, tenant);
}

void speckv_directory_renew(struct speckv_directory *directory)
{
	u32 i;

	guard(mutex)(&directory->lock);
	directory->weights = SPECKV_CSR_WEIGHTS_RESET;
	directory->thresholds = SPECKV_CSR_THRESHOLDS_RESET;
	memset(directory->entries, 0, sizeof(directory->entries));
	for (i = 0; i < SPECKV_MAX_TENANTS; i++)
		speckv_tenant_renew(directory, i);
}

u32 speckv_directory_tunable(struct speckv_directory *directory, u32 reg)
{
	return reg == SPECKV_CSR_WEIGHTS ? READ_ONCE(directory->weights) :
					   READ_ONCE(directory->thresholds);
}

/* A value that breaks the rule of WEIGHTS changes nothing. */
int speckv_directory_tune(struct speckv_directory *directory, u32 reg, u32 value)
{
	u32 weights, thresholds;

	guard(mutex)(&directory->lock);
	weights = reg == SPECKV_CSR_WEIGHTS ? value : directory->weights;
	thresholds = reg == SPECKV_CSR_WEIGHTS ? directory->thresholds : value;
	if (!speckv_weights_valid(weights, thresholds))
		return -EINVAL;
	directory->weights = weights;
	directory->thresholds = thresholds;
	return 0;
}

struct speckv_directory *speckv_directory_create(struct speckv_soft *soft)
{
	struct speckv_directory *directory = kvzalloc(sizeof(*directory), GFP_KERNEL);

	if (!directory)
		return NULL;
	mutex_init(&directory->lock);
	directory->soft = soft;
	speckv_directory_renew(directory);
	return directory;
}

void speckv_directory_destroy(struct speckv_directory *directory)
{
	kvfree(directory);
}

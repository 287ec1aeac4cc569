// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which blocks the card holds, by name, and what they are worth: docs/queue-protocol.md, The
 * directory. 4-way sets and a stash, so that a lookup looks at 20 entries. All of it under one
 * lock, which is the innermost.
 */
#include "soft_directory.h"

/* ---- Finding ---- */

static struct speckv_name speckv_name_of(u32 tenant, const struct speckv_desc *desc, u32 page)
{
	u64 low = le64_to_cpu(desc->address_low);
	u32 high = le32_to_cpu(desc->address_high);

	return (struct speckv_name){
		.request = cpu_to_le32((u32)(low >> SPECKV_ADDRESS_REQUEST_SHIFT) |
				       high << (64 - SPECKV_ADDRESS_REQUEST_SHIFT)),
		.layer = cpu_to_le16(low >> SPECKV_ADDRESS_LAYER_SHIFT),
		.head = low >> SPECKV_ADDRESS_HEAD_SHIFT,
		.page = cpu_to_le32(page),
		.tenant = cpu_to_le16(tenant),
	};
}

/* Of the 20 places of a set, number @i. */
static struct speckv_entry *speckv_place(struct speckv_directory *directory, u32 set, u32 i)
{
	u32 number = i < SPECKV_MAX_DIRECTORY_WAYS ? set * SPECKV_MAX_DIRECTORY_WAYS + i :
		     SPECKV_MAX_DIRECTORY_ENTRIES + i - SPECKV_MAX_DIRECTORY_WAYS;

	return &directory->entries[number];
}

static u32 speckv_set(const struct speckv_name *name)
{
	return ~speckv_crc32c(~0U, (const u8 *)name, sizeof(*name)) % SPECKV_SETS;
}

static struct speckv_entry *speckv_find(struct speckv_directory *directory,
					const struct speckv_name *name)
{
	u32 set = speckv_set(name), i;
	struct speckv_entry *entry;

	for (i = 0; i < SPECKV_PLACES; i++) {
		entry = speckv_place(directory, set, i);
		if (entry->tokens && !memcmp(&entry->name, name, sizeof(*name)))
			return entry;
	}
	return NULL;
}

/* Whether the block has one of the tokens from @from to before @end. */
static bool speckv_holds(const struct speckv_entry *entry, u64 from, u64 end)
{
	u64 first = (u64)le32_to_cpu(entry->name.page) << SPECKV_SHIFT;

	return first < end && from < first + entry->tokens;
}

/* With the fallback to request 0, which names shared prefixes. */
static struct speckv_entry *speckv_look_up(struct speckv_directory *directory,
					   struct speckv_name name, u64 from, u64 end)
{
	struct speckv_tenant *tenant = &directory->tenants[le16_to_cpu(name.tenant)];
	struct speckv_entry *entry = speckv_find(directory, &name);

	if (entry && !speckv_holds(entry, from, end))
		entry = NULL;
	if (!entry && name.request) {
		name.request = 0;
		entry = speckv_find(directory, &name);
		if (entry && !speckv_holds(entry, from, end))
			entry = NULL;
	}
	speckv_tally(directory, tenant, entry ? SPECKV_HITS : SPECKV_MISSES);
	return entry;
}

static u32 speckv_position(const struct speckv_desc *desc)
{
	return lower_32_bits(le64_to_cpu(desc->address_low));
}

/* ---- Coming and going ---- */

static struct speckv_tenant *speckv_tenant_of(struct speckv_directory *directory,
					      const struct speckv_entry *entry)
{
	return &directory->tenants[le16_to_cpu(entry->name.tenant)];
}

void speckv_entry_clear(struct speckv_directory *directory, struct speckv_entry *entry)
{
	struct speckv_tenant *tenant = speckv_tenant_of(directory, entry);

	tenant->blocks--;
	if (entry->use.refs)
		tenant->shared--;
	memset(entry, 0, sizeof(*entry));
}

static void speckv_entry_touch(struct speckv_directory *directory, struct speckv_entry *entry)
{
	speckv_use_touch(&entry->use, speckv_tenant_of(directory, entry)->step);
	entry->victim = SPECKV_UNMARKED;
}

/* A free place, else that of the tenant's own block that is worth least; NULL: neither. */
static struct speckv_entry *speckv_place_for(struct speckv_directory *directory,
					     const struct speckv_name *name)
{
	struct speckv_tenant *tenant = &directory->tenants[le16_to_cpu(name->tenant)];
	struct speckv_entry *entry, *worst = NULL;
	u32 set = speckv_set(name), least = 0, score, i;

	for (i = 0; i < SPECKV_PLACES; i++) {
		entry = speckv_place(directory, set, i);
		if (!entry->tokens)
			return entry;
		if (entry->name.tenant != name->tenant || entry->use.refs)
			continue;
		score = speckv_score(&entry->use, &tenant->weights, tenant->step);
		if (!worst || score < least) {
			worst = entry;
			least = score;
		}
	}
	if (worst) {
		speckv_tally(directory, tenant, SPECKV_REPLACED);
		speckv_entry_clear(directory, worst);
	}
	return worst;
}

u16 speckv_directory_insert(struct speckv_directory *directory, u32 number,
			    const struct speckv_desc *desc)
{
	struct speckv_name name = speckv_name_of(number, desc,
						 speckv_position(desc) >> SPECKV_SHIFT);
	struct speckv_tenant *tenant = &directory->tenants[number];
	struct speckv_entry *entry;

	guard(mutex)(&directory->lock);
	entry = speckv_find(directory, &name);
	if (!entry) {
		entry = speckv_place_for(directory, &name);
		if (!entry) {
			speckv_tally(directory, tenant, SPECKV_REFUSED);
			return SPECKV_CPL_NO_SPACE;
		}
		entry->name = name;
		entry->use.last = tenant->step;
		tenant->blocks++;
		speckv_tally(directory, tenant, SPECKV_INSERTED);
	}
	entry->tokens = le16_to_cpu(desc->tokens);
	entry->staged = false;
	speckv_entry_touch(directory, entry);
	return SPECKV_CPL_OK;
}

void speckv_directory_drop(struct speckv_directory *directory, u32 tenant,
			   const struct speckv_desc *desc)
{
	struct speckv_name name = speckv_name_of(tenant, desc,
						 speckv_position(desc) >> SPECKV_SHIFT);
	struct speckv_entry *entry;

	guard(mutex)(&directory->lock);
	entry = speckv_find(directory, &name);
	if (entry)
		speckv_entry_clear(directory, entry);
}

void speckv_directory_use(struct speckv_directory *directory, u32 tenant,
			  const struct speckv_desc *desc, bool staged)
{
	u32 position = speckv_position(desc);
	struct speckv_entry *entry;

	guard(mutex)(&directory->lock);
	entry = speckv_look_up(directory, speckv_name_of(tenant, desc, position >> SPECKV_SHIFT),
			       position, (u64)position + 1);
	if (!entry)
		return;
	speckv_entry_touch(directory, entry);
	if (staged) {
		entry->staged = true;
		entry->prefetch = SPECKV_UNMARKED;
	}
}

/* ---- Hints ---- */

static void speckv_entry_hint(struct speckv_directory *directory, struct speckv_entry *entry,
			      const struct speckv_desc *desc)
{
	struct speckv_tenant *tenant = speckv_tenant_of(directory, entry);
	struct speckv_use *use = &entry->use;

	switch (desc->hint.hint) {
	case SPECKV_HINT_HOT:
		speckv_entry_touch(directory, entry);
		use->freq = 255;
		break;
	case SPECKV_HINT_EVICTABLE:
		use->evictable = true;
		break;
	case SPECKV_HINT_PREFETCHABLE:
		use->due = le32_to_cpu(desc->hint.step);
		use->has_due = true;
		use->evictable = false;
		break;
	case SPECKV_HINT_SHARE:
		if (!use->refs)
			tenant->shared++;
		if (use->refs < SPECKV_SCORE_SATURATED)
			use->refs++;
		break;
	case SPECKV_HINT_UNSHARE:	/* at the top the count is no longer known */
		if (use->refs < SPECKV_SCORE_SATURATED && !--use->refs)
			tenant->shared--;
		break;
	case SPECKV_HINT_FORGET:
		speckv_entry_clear(directory, entry);
		speckv_tally(directory, tenant, SPECKV_REMOVED);
		break;
	}
}

/* One pass over the blocks of the range: looks whether all may be done, or does it. */
static u16 speckv_hint_pass(struct speckv_directory *directory, u32 tenant,
			    const struct speckv_desc *desc, bool look, u32 *found)
{
	u8 hint = desc->hint.hint;
	bool also_shared = hint == SPECKV_HINT_HOT || hint == SPECKV_HINT_PREFETCHABLE;
	u64 from = speckv_position(desc), end = from + le16_to_cpu(desc->tokens);
	struct speckv_entry *entry;
	struct speckv_name name;
	u16 code = SPECKV_CPL_OK;
	u64 page;

	for (page = from >> SPECKV_SHIFT; page <= (end - 1) >> SPECKV_SHIFT; page++) {
		name = speckv_name_of(tenant, desc, page);
		entry = also_shared ? speckv_look_up(directory, name, from, end) :
				      speckv_find(directory, &name);
		if (!entry || !speckv_holds(entry, from, end))
			continue;
		if (!look) {
			++*found;
			speckv_entry_hint(directory, entry, desc);
		} else if (hint == SPECKV_HINT_UNSHARE && !entry->use.refs) {
			code = SPECKV_CPL_NOT_FOUND;
		} else if (hint == SPECKV_HINT_FORGET && entry->use.refs) {
			code = SPECKV_CPL_BUSY;
		}
	}
	return code;
}

u16 speckv_directory_hint(struct speckv_directory *directory, u32 tenant,
			  const struct speckv_desc *desc, u32 *found)
{
	u16 code;

	guard(mutex)(&directory->lock);
	if (desc->hint.hint == SPECKV_HINT_UNSHARE || desc->hint.hint == SPECKV_HINT_FORGET) {
		code = speckv_hint_pass(directory, tenant, desc, true, found);
		if (code != SPECKV_CPL_OK)
			return code;
	}
	speckv_hint_pass(directory, tenant, desc, false, found);
	return *found ? SPECKV_CPL_OK : SPECKV_CPL_NOT_FOUND;
}

// SPDX-License-Identifier: GPL-2.0-only
/* What an operator reads and sets: /sys/class/speckv/speckvN. Gone before the engine is. */
#include <linux/sysfs.h>
#include "speckv_drv.h"

#define SPECKV_SHOW(name, format, value)						\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf) \
{											\
	struct speckv_card *card = speckv_card_of(dev);					\
											\
	return sysfs_emit(buf, format "\n", value);					\
}

#define SPECKV_ATTRIBUTE_RO(name, format, value)	\
	SPECKV_SHOW(name, format, value)		\
	static DEVICE_ATTR_RO(name)

SPECKV_ATTRIBUTE_RO(features, "0x%llx", card->caps.features);
SPECKV_ATTRIBUTE_RO(codecs, "0x%llx", card->caps.codecs);
SPECKV_ATTRIBUTE_RO(opcodes, "0x%x", card->caps.opcodes);
SPECKV_ATTRIBUTE_RO(memory_bytes, "%llu", card->caps.memory);
SPECKV_ATTRIBUTE_RO(memory_free, "%zu", gen_pool_avail(card->memory));
SPECKV_ATTRIBUTE_RO(current_step, "%u", READ_ONCE(card->current_step));

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct speckv_card *card = speckv_card_of(dev);
	int error = speckv_card_wake(card);
	bool fatal;

	if (error)
		return error;
	fatal = card->engine->fatal(card);
	speckv_card_rest(card);
	if (READ_ONCE(card->gone))
		return sysfs_emit(buf, "gone\n");
	return sysfs_emit(buf, "%s\n", fatal ? "fatal" : "ready");
}
static DEVICE_ATTR_RO(state);

static ssize_t version_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u.%u\n", SPECKV_CONTRACT_MAJOR, SPECKV_CONTRACT_MINOR);
}
static DEVICE_ATTR_RO(version);

static ssize_t contexts_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct speckv_card *card = speckv_card_of(dev);
	struct speckv_context *ctx;
	u32 count = 0;

	guard(mutex)(&card->lock);
	list_for_each_entry(ctx, &card->contexts, link)
		count++;
	return sysfs_emit(buf, "%u\n", count);
}
static DEVICE_ATTR_RO(contexts);

/* Names in the order of the card's counters. */
static ssize_t telemetry_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	static const char * const names[] = {
		"descriptors", "completions", "failures", "bytes_read", "bytes_written",
		"encode_in", "encode_out", "decode_in", "decode_out", "buffer_filled",
		"buffer_hits", "buffer_misses", "directory_hits", "directory_misses",
		"directory_inserted", "directory_replaced", "directory_refused",
		"directory_removed", "scans", "victims", "prefetches", "interrupts",
		"errors_logged",
	};
	struct speckv_card *card = speckv_card_of(dev);
	u64 values[SPECKV_COUNTERS];
	ssize_t length = 0;
	int error = speckv_card_wake(card);
	u32 i;

	BUILD_BUG_ON(ARRAY_SIZE(names) != SPECKV_COUNTERS);
	if (error)
		return error;
	card->engine->counters(card, values);
	speckv_card_rest(card);
	for (i = 0; i < ARRAY_SIZE(names); i++)
		length += sysfs_emit_at(buf, length, "%s %llu\n", names[i], values[i]);
	return length;
}
static DEVICE_ATTR_RO(telemetry);

static ssize_t reset_store(struct device *dev, struct device_attribute *attr, const char *buf,
			   size_t count)
{
	bool reset;
	int error = kstrtobool(buf, &reset);

	if (error || !reset)
		return -EINVAL;
	error = speckv_card_wake(speckv_card_of(dev));
	if (error)
		return error;
	error = speckv_card_reset(speckv_card_of(dev));
	speckv_card_rest(speckv_card_of(dev));
	return error ?: count;
}
static DEVICE_ATTR_WO(reset);

/* One byte of the registers weights and thresholds. */
struct speckv_tunable {
	struct device_attribute attr;
	u32 reg, shift;
};

static ssize_t speckv_tunable_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct speckv_tunable *tunable = container_of(attr, struct speckv_tunable, attr);
	struct speckv_card *card = speckv_card_of(dev);
	int error = speckv_card_wake(card);
	u32 word;

	if (error)
		return error;
	word = card->engine->tunable(card, tunable->reg);
	speckv_card_rest(card);
	return sysfs_emit(buf, "%u\n", word >> tunable->shift & 0xff);
}

static ssize_t speckv_tunable_store(struct device *dev, struct device_attribute *attr,
				    const char *buf, size_t count)
{
	struct speckv_tunable *tunable = container_of(attr, struct speckv_tunable, attr);
	struct speckv_card *card = speckv_card_of(dev);
	u32 word;
	u8 value;
	int error = kstrtou8(buf, 0, &value);

	if (error)
		return error;
	error = speckv_card_wake(card);
	if (error)
		return error;
	mutex_lock(&card->lock);
	word = card->engine->tunable(card, tunable->reg);
	word = (word & ~(0xffU << tunable->shift)) | (u32)value << tunable->shift;
	error = card->engine->tune(card, tunable->reg, word);
	mutex_unlock(&card->lock);
	speckv_card_rest(card);
	return error ?: count;
}

#define SPECKV_TUNABLE(name, r, s)							\
static struct speckv_tunable speckv_##name = {						\
	.attr = __ATTR(name, 0644, speckv_tunable_show, speckv_tunable_store),		\
	.reg = r, .shift = s,								\
}

SPECKV_TUNABLE(w_r, SPECKV_CSR_WEIGHTS, 0);
SPECKV_TUNABLE(w_f, SPECKV_CSR_WEIGHTS, 8);
SPECKV_TUNABLE(w_s, SPECKV_CSR_WEIGHTS, 16);
SPECKV_TUNABLE(w_d, SPECKV_CSR_WEIGHTS, 24);
SPECKV_TUNABLE(evict_thresh, SPECKV_CSR_THRESHOLDS, 0);
SPECKV_TUNABLE(prefetch_thresh, SPECKV_CSR_THRESHOLDS, 8);
SPECKV_TUNABLE(hysteresis, SPECKV_CSR_THRESHOLDS, 16);

/* Quotas count for what is asked for from now on. */
#define SPECKV_QUOTA(name, member, most)						\
SPECKV_SHOW(name, "%llu", (u64)READ_ONCE(card->quota.member))				\
static ssize_t name##_store(struct device *dev, struct device_attribute *attr,		\
			    const char *buf, size_t count)				\
{											\
	struct speckv_card *card = speckv_card_of(dev);					\
	u64 value;									\
	int error = kstrtou64(buf, 0, &value);						\
											\
	if (error)									\
		return error;								\
	if (value > (most))								\
		return -EINVAL;								\
	guard(mutex)(&card->lock);							\
	WRITE_ONCE(card->quota.member, value);						\
	return count;									\
}											\
static DEVICE_ATTR_RW(name)

SPECKV_QUOTA(quota_memory, memory, card->caps.memory);
SPECKV_QUOTA(quota_queues, queues, card->caps.max_queues);
SPECKV_QUOTA(quota_regions, regions, card->caps.max_regions - 1);
SPECKV_QUOTA(quota_contexts, contexts, card->caps.max_tenants);

static struct attribute *speckv_card_attrs[] = {
	&dev_attr_version.attr,
	&dev_attr_features.attr,
	&dev_attr_codecs.attr,
	&dev_attr_opcodes.attr,
	&dev_attr_memory_bytes.attr,
	&dev_attr_memory_free.attr,
	&dev_attr_current_step.attr,
	&dev_attr_state.attr,
	&dev_attr_contexts.attr,
	&dev_attr_telemetry.attr,
	&dev_attr_reset.attr,
	&speckv_w_r.attr.attr,
	&speckv_w_f.attr.attr,
	&speckv_w_s.attr.attr,
	&speckv_w_d.attr.attr,
	&speckv_evict_thresh.attr.attr,
	&speckv_prefetch_thresh.attr.attr,
	&speckv_hysteresis.attr.attr,
	&dev_attr_quota_memory.attr,
	&dev_attr_quota_queues.attr,
	&dev_attr_quota_regions.attr,
	&dev_attr_quota_contexts.attr,
	NULL
};

static const struct attribute_group speckv_card_group = { .attrs = speckv_card_attrs };
const struct attribute_group *speckv_card_groups[] = { &speckv_card_group, NULL };

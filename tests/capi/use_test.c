/* The C API from C: blocks, operations, completions, pins, tenants, sequences, keys. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { kBlocks = 32, kTokens = 16 };

/* 2 layers x K, V x 2 heads x 16 tokens x 16 channels x f16: 4,096 bytes. */
static const speckv_layout kLayout = {2, 2, 16, kTokens, SPECKV_F16, SPECKV_KV, {0, 0}};
enum { kBlockBytes = 4096, kLayerBytes = kBlockBytes / 2 };

static unsigned char memory[2 * kBlocks][kBlockBytes]; /* what is saved, what is loaded */
static speckv_key keys[kBlocks];
static speckv_segment segments[2 * kBlocks];

static unsigned char byte_of(size_t block, size_t at) {
  return (unsigned char)(block * 31 + at * 7 + at / 256);
}

static speckv_store* open_tiers(const speckv_tier_options* tiers, size_t count) {
  speckv_store_options options = {.size = sizeof options};
  speckv_store* store = NULL;
  options.layouts = &kLayout;
  options.layout_count = 1;
  options.tiers = tiers;
  options.tier_count = count;
  OK(speckv_store_open(&options, &store));
  CHECK(store != NULL);
  return store;
}

static speckv_store* open_small(const char* device) {
  speckv_tier_options tier = {.size = sizeof tier};
  tier.device = device;
  return open_tiers(&tier, 1);
}

static uint32_t prepare(speckv_store* store) {
  uint32_t region = 0;
  size_t b, i;
  OK(speckv_store_attach(store, memory, sizeof memory, &region));
  CHECK(region != 0);
  for (b = 0; b < kBlocks; ++b) {
    for (i = 0; i < kBlockBytes; ++i)
      memory[b][i] = byte_of(b, i);
    memset(memory[kBlocks + b], 0xEE, kBlockBytes);
    OK(speckv_key_from(&b, sizeof b, "salt", 4, &keys[b]));
  }
  for (b = 0; b < 2 * kBlocks; ++b) {
    segments[b].region = region;
    segments[b].offset = b * kBlockBytes;
    segments[b].length = kBlockBytes;
  }
  return region;
}

/* Blocks [0, count), from the first half of the memory, or into the second. */
static void name_blocks(speckv_block* blocks, size_t count, size_t place) {
  size_t b;
  memset(blocks, 0, count * sizeof *blocks);
  for (b = 0; b < count; ++b) {
    blocks[b].key = keys[b];
    blocks[b].segments = &segments[place + b];
    blocks[b].segment_count = 1;
    blocks[b].first_position = (uint32_t)(b * kTokens);
  }
}

static void save_all(speckv_store* store, const speckv_transfer_options* options) {
  speckv_block blocks[kBlocks];
  speckv_op* op = NULL;
  name_blocks(blocks, kBlocks, 0);
  OK(speckv_store_save(store, blocks, kBlocks, options, &op));
  OK(speckv_op_wait(op, SPECKV_FOREVER));
  speckv_op_free(op);
}

static void saved_blocks_come_back(void) {
  speckv_store* store = open_small("dram:1M");
  const uint32_t region = prepare(store);
  speckv_block blocks[kBlocks];
  speckv_status results[kBlocks];
  int8_t tiers[kBlocks];
  size_t matched = 0, erased = 0;
  uint32_t layers = 0;
  speckv_op* op = NULL;

  save_all(store, NULL);
  OK(speckv_store_match(store, keys, kBlocks, &matched));
  CHECK(matched == kBlocks);
  name_blocks(blocks, kBlocks, kBlocks);
  OK(speckv_store_load(store, blocks, kBlocks, NULL, &op));
  OK(speckv_op_wait(op, SPECKV_FOREVER));
  CHECK(speckv_op_done(op));
  OK(speckv_op_results(op, results, kBlocks));
  REFUSED(speckv_op_results(op, results, kBlocks - 1));
  OK(speckv_op_layers_ready(op, kBlocks - 1, &layers));
  CHECK(layers == 2);
  REFUSED(speckv_op_layers_ready(op, kBlocks, &layers));
  EXPECT(SPECKV_STATUS_BUSY, speckv_store_close(store));
  CHECK(strstr(speckv_last_error(), "1 ops") != NULL);
  speckv_op_free(op);
  CHECK(memcmp(memory[0], memory[kBlocks], (size_t)kBlocks * kBlockBytes) == 0);

  OK(speckv_store_erase(store, keys, 2, &erased));
  CHECK(erased == 2);
  OK(speckv_store_lookup(store, keys, kBlocks, tiers));
  CHECK(tiers[1] == SPECKV_ABSENT && tiers[2] == 0);
  OK(speckv_store_load(store, blocks, 3, NULL, &op));
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_op_wait(op, SPECKV_FOREVER));
  OK(speckv_op_results(op, results, 3));
  CHECK(results[0] == SPECKV_STATUS_NOT_FOUND && results[2] == SPECKV_STATUS_OK);
  speckv_op_free(op);
  OK(speckv_store_detach(store, region));
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_detach(store, region));
  OK(speckv_store_close(store));
}

static void a_block_may_lie_in_pieces_and_be_read_by_layers(void) {
  speckv_store* store = open_small("dram:1M");
  speckv_transfer_options options = {.size = sizeof options};
  speckv_segment pieces[3];
  speckv_block block;
  speckv_op* op = NULL;
  const uint32_t region = prepare(store);
  save_all(store, NULL);

  pieces[0].region = pieces[1].region = pieces[2].region = region;
  pieces[0].reserved = pieces[1].reserved = pieces[2].reserved = 0;
  pieces[0].offset = kBlocks * kBlockBytes + 3;
  pieces[0].length = 100;
  pieces[1].offset = kBlocks * kBlockBytes + 5000;
  pieces[1].length = 0;
  pieces[2].offset = kBlocks * kBlockBytes + 6001;
  pieces[2].length = kLayerBytes - 100;
  name_blocks(&block, 1, kBlocks);
  block.segments = pieces;
  block.segment_count = 3;
  options.first_layer = 1;
  OK(speckv_store_load(store, &block, 1, &options, &op));
  OK(speckv_op_wait(op, SPECKV_FOREVER));
  speckv_op_free(op);
  CHECK(memcmp(memory[kBlocks] + 3, memory[0] + kLayerBytes, 100) == 0);
  CHECK(memcmp((unsigned char*)memory + pieces[2].offset, memory[0] + kLayerBytes + 100,
               kLayerBytes - 100) == 0);

  options.layer_count = 2; /* [1, 3) of 2 layers: the block fails, not the call */
  OK(speckv_store_load(store, &block, 1, &options, &op));
  REFUSED(speckv_op_wait(op, SPECKV_FOREVER));
  speckv_op_free(op);
  REFUSED(speckv_store_save(store, &block, 1, &options, &op));
  OK(speckv_store_close(store));
}

static bool is_ready(void* context) {
  return atomic_load((atomic_bool*)context);
}

static void completions_tell_what_is_done(void) {
  speckv_store* store = open_small("dram:1M?throttle=nvme");
  speckv_completions* completions = NULL;
  speckv_transfer_options options = {.size = sizeof options};
  speckv_completion entry = {0, SPECKV_STATUS_INTERNAL, 0};
  speckv_block blocks[kBlocks];
  speckv_op* op = NULL;
  struct pollfd readable;
  size_t count = 9;
  (void)prepare(store);

  OK(speckv_completions_create(&completions));
  OK(speckv_completions_drain(completions, &entry, 1, &count));
  CHECK(count == 0);
  EXPECT(SPECKV_STATUS_TIMED_OUT, speckv_completions_wait(completions, 1000));
  options.completions = completions;
  options.tag = 77;
  name_blocks(blocks, kBlocks, 0);
  OK(speckv_store_save(store, blocks, kBlocks, &options, &op));
  EXPECT(SPECKV_STATUS_BUSY, speckv_completions_free(completions));
  readable.fd = speckv_completions_fd(completions);
  readable.events = POLLIN;
  CHECK(poll(&readable, 1, 60000) == 1);
  OK(speckv_completions_wait(completions, SPECKV_FOREVER));
  OK(speckv_completions_drain(completions, &entry, 1, &count));
  CHECK(count == 1 && entry.tag == 77 && entry.status == SPECKV_STATUS_OK);
  speckv_op_free(op);
  OK(speckv_completions_drain(completions, &entry, 1, &count));
  CHECK(count == 0 && poll(&readable, 1, 0) == 0);
  OK(speckv_completions_free(completions));
  OK(speckv_store_close(store));
}

static void an_operation_waits_for_its_fence_and_its_deadline(void) {
  speckv_store* store = open_small("dram:1M");
  speckv_transfer_options options = {.size = sizeof options};
  atomic_bool ready = false;
  speckv_block block;
  speckv_status result = SPECKV_STATUS_OK;
  speckv_op* op = NULL;
  (void)prepare(store);
  name_blocks(&block, 1, 0);
  options.ready = is_ready;
  options.ready_context = &ready;

  OK(speckv_store_save(store, &block, 1, &options, &op));
  EXPECT(SPECKV_STATUS_TIMED_OUT, speckv_op_wait(op, 1000));
  EXPECT(SPECKV_STATUS_BUSY, speckv_op_results(op, &result, 1));
  CHECK(!speckv_op_done(op));
  atomic_store(&ready, true);
  OK(speckv_op_wait(op, SPECKV_FOREVER));
  speckv_op_free(op);

  atomic_store(&ready, false);
  options.deadline_ns = 1000000;
  block.key = keys[1];
  OK(speckv_store_save(store, &block, 1, &options, &op));
  EXPECT(SPECKV_STATUS_TIMED_OUT, speckv_op_wait(op, SPECKV_FOREVER));
  CHECK(speckv_op_done(op));
  speckv_op_free(op);

  options.deadline_ns = 0;
  OK(speckv_store_save(store, &block, 1, &options, &op));
  OK(speckv_op_cancel(op));
  EXPECT(SPECKV_STATUS_CANCELLED, speckv_op_wait(op, SPECKV_FOREVER));
  speckv_op_free(op);
  OK(speckv_store_close(store));
}

static void pins_hold_blocks_and_hold_the_store(void) {
  speckv_store* store = open_small("dram:1M");
  speckv_tier_stats stats = {.size = sizeof stats};
  speckv_pin *pin = NULL, *kept = NULL;
  speckv_key absent = {1, 2};
  (void)prepare(store);
  save_all(store, NULL);
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_pin(store, &absent, &pin));
  CHECK(pin == NULL);
  OK(speckv_store_pin(store, &keys[0], &pin));
  OK(speckv_store_retain(store, &keys[1], &kept));
  OK(speckv_store_stats(store, 0, &stats));
  CHECK(stats.pinned >= kBlockBytes && stats.pinned < 2 * kBlockBytes);
  EXPECT(SPECKV_STATUS_BUSY, speckv_store_close(store));
  speckv_pin_free(pin);
  speckv_pin_free(kept);
  OK(speckv_store_stats(store, 0, &stats));
  CHECK(stats.pinned == 0);
  OK(speckv_store_close(store));
}

static void tenants_have_quotas_and_can_be_purged(void) {
  speckv_store* store = open_small("dram:1M");
  speckv_transfer_options options = {.size = sizeof options};
  speckv_block blocks[kBlocks];
  uint64_t bytes = 0;
  size_t erased = 0;
  speckv_op* op = NULL;
  (void)prepare(store);
  options.tenant = 65535;
  OK(speckv_store_set_quota(store, 65535, 3 * kBlockBytes));
  name_blocks(blocks, kBlocks, 0);
  OK(speckv_store_save(store, blocks, kBlocks, &options, &op));
  EXPECT(SPECKV_STATUS_NO_SPACE, speckv_op_wait(op, SPECKV_FOREVER));
  speckv_op_free(op);
  OK(speckv_store_tenant_bytes(store, 65535, &bytes));
  CHECK(bytes > 0 && bytes <= 3 * kBlockBytes);
  OK(speckv_store_purge(store, 65535, &erased));
  CHECK(erased >= 1 && erased <= 3);
  OK(speckv_store_tenant_bytes(store, 65535, &bytes));
  CHECK(bytes == 0);
  REFUSED(speckv_store_set_quota(store, 65536, 1));
  OK(speckv_store_close(store));
}

static void count_metric(void* context, const char* name, const char* label,
                         const char* label_value, double value) {
  CHECK(strlen(name) > 0 && strcmp(label, "tier") == 0);
  if (strcmp(name, "tier_blocks") == 0 && strcmp(label_value, "second") == 0)
    *(double*)context = value;
}

static void tiers_have_names_codecs_and_numbers(void) {
  speckv_tier_options tiers[2] = {{.size = sizeof tiers[0]}, {.size = sizeof tiers[0]}};
  const speckv_layer_codec special = {1, 1, "int8"};
  speckv_tier_stats stats = {.size = sizeof stats};
  speckv_store* store;
  double blocks = -1;
  tiers[0].device = "dram:64K";
  tiers[1].device = "soft:4M";
  tiers[1].name = "second";
  tiers[1].codec = "kvq4";
  tiers[1].layer_codecs = &special;
  tiers[1].layer_codec_count = 1;
  store = open_tiers(tiers, 2);
  (void)prepare(store);
  CHECK(speckv_store_tier_count(store) == 2);
  save_all(store, NULL);
  OK(speckv_store_promote(store, keys, 4));
  OK(speckv_store_report(store, count_metric, &blocks));
  OK(speckv_store_stats(store, 1, &stats));
  CHECK(blocks >= 0 && stats.capacity == 4U << 20 && stats.fenced == 0);
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_stats(store, 2, &stats));
  OK(speckv_store_set_codec(store, 1, "int8_delta_rle", 0, 0));
  OK(speckv_store_set_codec(store, 1, "hxp?bytes_per_token=100", 0, 0));
  EXPECT(SPECKV_STATUS_INVALID_ARGUMENT,
         speckv_store_set_codec(store, 1, "hxp?loss=0.36", 0, 0)); /* no profile */
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_set_codec(store, 1, "zip", 0, 0));
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_set_codec(store, 2, "raw", 0, 0));
  EXPECT(SPECKV_STATUS_INVALID_ARGUMENT,
         speckv_store_set_codec(store, 1, "raw", UINT32_MAX, 0));
  EXPECT(SPECKV_STATUS_UNSUPPORTED, speckv_store_flush(store));
  OK(speckv_store_close(store));
}

static void a_store_is_shared_by_name_and_can_be_removed(void) {
  speckv_tier_options tier = {.size = sizeof tier, .device = "dram:1M"};
  speckv_store_options options = {.size = sizeof options,
                                  .layouts = &kLayout,
                                  .layout_count = 1,
                                  .tiers = &tier,
                                  .tier_count = 1};
  speckv_store *first = NULL, *second = NULL;
  size_t matched = 0;
  char name[64];
  snprintf(name, sizeof name, "shm:/speckv-use-test-%ld", (long)getpid());
  options.name = name;
  OK(speckv_store_open(&options, &first));
  OK(speckv_store_open(&options, &second));
  (void)prepare(first);
  save_all(first, NULL);
  OK(speckv_store_match(second, keys, kBlocks, &matched));
  CHECK(matched == kBlocks);
  OK(speckv_store_close(first));
  OK(speckv_store_close(second));
  OK(speckv_store_remove(name));
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_remove(name));
}

static void write_tail(speckv_sequence* sequence, unsigned char value) {
  void* tail = NULL;
  size_t bytes = 0;
  uint32_t layer;
  for (layer = 0; layer < 2; ++layer) {
    OK(speckv_sequence_tail(sequence, layer, &tail, &bytes));
    CHECK(bytes == kLayerBytes);
    memset(tail, value + (int)layer, bytes);
  }
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_sequence_tail(sequence, 2, &tail, &bytes));
}

static void check_view(speckv_sequence* sequence, const unsigned char* values,
                       size_t blocks) {
  speckv_view* view = NULL;
  const void* bytes = NULL;
  size_t b, size = 0;
  uint32_t layer;
  OK(speckv_sequence_view(sequence, 0, 0, &view));
  CHECK(speckv_view_block_count(view) == blocks && speckv_view_first_token(view) == 0);
  CHECK(speckv_view_tokens(view) == speckv_sequence_size(sequence));
  for (b = 0; b < blocks; ++b) {
    for (layer = 0; layer < 2; ++layer) {
      OK(speckv_view_layer(view, b, layer, &bytes, &size));
      CHECK(size == kLayerBytes);
      CHECK(*(const unsigned char*)bytes == values[b] + layer);
    }
  }
  REFUSED(speckv_view_layer(view, blocks, 0, &bytes, &size));
  REFUSED(speckv_view_layer(view, 0, 2, &bytes, &size));
  EXPECT(SPECKV_STATUS_BUSY, speckv_sequence_free(sequence));
  speckv_view_free(view);
}

static void sequences_grow_fork_and_are_adopted(void) {
  speckv_store* store = open_small("dram:1M");
  speckv_sequence_options options = {.size = sizeof options};
  speckv_sequence *sequence = NULL, *fork = NULL, *heir = NULL;
  uint32_t tokens[3 * kTokens], taken = 0, i;
  const unsigned char values[3] = {10, 20, 30}, others[2] = {10, 20};
  speckv_key sealed[3];
  size_t count = 0;
  for (i = 0; i < 3 * kTokens; ++i)
    tokens[i] = i * 3;
  options.model = "a model";
  OK(speckv_sequence_create(store, &options, &sequence));
  REFUSED(speckv_sequence_seal(sequence));
  for (i = 0; i < 3; ++i) {
    OK(speckv_sequence_append(sequence, tokens + i * kTokens, 3 * kTokens - i * kTokens,
                              &taken));
    CHECK(taken == kTokens && speckv_sequence_tail_first(sequence) == i * kTokens);
    write_tail(sequence, values[i]);
    if (i < 2) OK(speckv_sequence_seal(sequence));
  }
  check_view(sequence, values, 3);
  OK(speckv_sequence_keys(sequence, sealed, 3, &count));
  CHECK(count == 2);
  OK(speckv_sequence_fork(sequence, &fork));
  OK(speckv_sequence_truncate(fork, kTokens + 3));
  CHECK(speckv_sequence_size(fork) == kTokens + 3);
  check_view(fork, others, 2);
  OK(speckv_sequence_stage(fork));
  OK(speckv_sequence_create(store, &options, &heir));
  OK(speckv_sequence_adopt(heir, tokens, 3 * kTokens, &taken));
  CHECK(taken == 2 * kTokens);
  check_view(heir, values, 2);
  OK(speckv_sequence_free(sequence));
  OK(speckv_sequence_free(fork));
  EXPECT(SPECKV_STATUS_BUSY, speckv_store_close(store));
  OK(speckv_sequence_free(heir));
  OK(speckv_store_close(store));
}

static void keys_chain_and_rewind(void) {
  const uint32_t tokens[4] = {1, 2, 3, 4};
  speckv_key_chain *chain = NULL, *other = NULL;
  speckv_key empty, first, second, again;
  OK(speckv_key_chain_create("m", &kLayout, "s", 1, &chain));
  OK(speckv_key_chain_create("m", &kLayout, "t", 1, &other));
  OK(speckv_key_chain_last(chain, &empty));
  OK(speckv_key_chain_append(chain, tokens, 2, &first));
  OK(speckv_key_chain_append(chain, tokens + 2, 2, &second));
  OK(speckv_key_chain_rewind(chain, &first));
  OK(speckv_key_chain_append(chain, tokens + 2, 2, &again));
  CHECK(memcmp(&second, &again, sizeof again) == 0);
  CHECK(memcmp(&first, &second, sizeof first) != 0);
  OK(speckv_key_chain_append(other, tokens, 2, &again));
  CHECK(memcmp(&first, &again, sizeof first) != 0);
  speckv_key_chain_free(chain);
  speckv_key_chain_free(other);
}

static void addresses_pack_into_89_bits_and_back(void) {
  speckv_address address = {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF, 0xFF, 1}, back;
  speckv_packed_address packed = {0, 0};
  size_t bit;
  OK(speckv_address_pack(&address, &packed));
  CHECK(packed.high == (1U << 25) - 1 && packed.low == UINT64_MAX);
  for (bit = 0; bit < 89; ++bit) { /* each bit is one field's, and comes back */
    packed.high = bit < 64 ? 0 : UINT64_C(1) << (bit - 64);
    packed.low = bit < 64 ? UINT64_C(1) << bit : 0;
    OK(speckv_address_unpack(&packed, &address));
    OK(speckv_address_pack(&address, &packed));
    CHECK(packed.high == (bit < 64 ? 0 : UINT64_C(1) << (bit - 64)));
    CHECK(packed.low == (bit < 64 ? UINT64_C(1) << bit : 0));
  }
  packed.high = UINT64_C(1) << 25;
  back = address;
  REFUSED(speckv_address_unpack(&packed, &address));
  CHECK(memcmp(&back, &address, sizeof back) == 0);
  address.kind = 2;
  REFUSED(speckv_address_pack(&address, &packed));
}

int main(void) {
  CHECK(speckv_version() >> 16 == 0 && speckv_version() != 0);
  CHECK(strcmp(speckv_status_name(SPECKV_STATUS_NO_SPACE), "no_space") == 0);
  RUN(saved_blocks_come_back);
  RUN(a_block_may_lie_in_pieces_and_be_read_by_layers);
  RUN(completions_tell_what_is_done);
  RUN(an_operation_waits_for_its_fence_and_its_deadline);
  RUN(pins_hold_blocks_and_hold_the_store);
  RUN(tenants_have_quotas_and_can_be_purged);
  RUN(tiers_have_names_codecs_and_numbers);
  RUN(a_store_is_shared_by_name_and_can_be_removed);
  RUN(sequences_grow_fork_and_are_adopted);
  RUN(keys_chain_and_rewind);
  RUN(addresses_pack_into_89_bits_and_back);
  return 0;
}

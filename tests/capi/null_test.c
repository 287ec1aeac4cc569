/* NULL, for every pointer of every call of cxlspeckv.h, one at a time. */
#include <string.h>

#include "check.h"

static const speckv_layout kLayout = {1, 1, 16, 16, SPECKV_F16, SPECKV_KV, {0, 0}};
enum { kBytes = 1024 };

static unsigned char memory[kBytes];
static const speckv_key kKey = {1, 2};
static speckv_store* store;

static void open_store(void) {
  speckv_tier_options tier = {.size = sizeof tier, .device = "dram:64K"};
  speckv_store_options options = {.size = sizeof options,
                                  .layouts = &kLayout,
                                  .layout_count = 1,
                                  .tiers = &tier,
                                  .tier_count = 1};
  OK(speckv_store_open(&options, &store));
}

static void what_answers_no_status_takes_null(void) {
  CHECK(speckv_op_done(NULL));
  CHECK(speckv_completions_fd(NULL) == -1);
  CHECK(speckv_store_tier_count(NULL) == 0);
  CHECK(speckv_sequence_size(NULL) == 0 && speckv_sequence_tail_first(NULL) == 0);
  CHECK(speckv_view_first_token(NULL) == 0 && speckv_view_tokens(NULL) == 0);
  CHECK(speckv_view_block_count(NULL) == 0);
  speckv_op_free(NULL);
  speckv_pin_free(NULL);
  speckv_view_free(NULL);
  speckv_key_chain_free(NULL);
  OK(speckv_store_close(NULL));
  OK(speckv_completions_free(NULL));
  OK(speckv_sequence_free(NULL));
  CHECK(strlen(speckv_last_error()) == 0);
  CHECK(strcmp(speckv_status_name((speckv_status)-1), "unknown") == 0);
  CHECK(strcmp(speckv_status_name((speckv_status)11), "unknown") == 0);
}

static void opening_refuses_null_and_nonsense(void) {
  speckv_tier_options tier = {.size = sizeof tier, .device = "dram:64K"};
  const speckv_layer_codec nameless = {0, 0, NULL};
  speckv_store_options options = {.size = sizeof options};
  speckv_store* untouched = (speckv_store*)memory;
  speckv_layout layout = kLayout;
  REFUSED(speckv_store_open(NULL, &untouched));
  REFUSED(speckv_store_open(&options, &untouched));
  options.layouts = &layout;
  options.layout_count = 1;
  REFUSED(speckv_store_open(&options, &untouched));
  options.tiers = &tier;
  options.tier_count = 1;
  REFUSED(speckv_store_open(&options, NULL));
  options.profile_bytes = 1;
  REFUSED(speckv_store_open(&options, &untouched));
  options.profile_bytes = 0;
  options.layout_count = (size_t)1 << 40;
  REFUSED(speckv_store_open(&options, &untouched));
  options.layout_count = 1;
  options.tier_count = SIZE_MAX;
  REFUSED(speckv_store_open(&options, &untouched));
  options.tier_count = 1;
  layout.dtype = 4;
  REFUSED(speckv_store_open(&options, &untouched));
  layout.dtype = SPECKV_F16;
  layout.kind = 200;
  REFUSED(speckv_store_open(&options, &untouched));
  layout.kind = SPECKV_KV;
  layout.reserved[1] = 1;
  REFUSED(speckv_store_open(&options, &untouched));
  layout.reserved[1] = 0;
  layout.tokens = 0;
  REFUSED(speckv_store_open(&options, &untouched));
  layout.tokens = UINT32_MAX;
  layout.layers = UINT32_MAX;
  REFUSED(speckv_store_open(&options, &untouched));
  layout = kLayout;
  tier.device = NULL;
  REFUSED(speckv_store_open(&options, &untouched));
  tier.device = "dram:100"; /* less than one block */
  REFUSED(speckv_store_open(&options, &untouched));
  tier.device = "dram:64K";
  tier.capacity = 65537;
  REFUSED(speckv_store_open(&options, &untouched));
  tier.capacity = 0;
  tier.admission = 2;
  REFUSED(speckv_store_open(&options, &untouched));
  tier.admission = 0;
  tier.reserved = 1;
  REFUSED(speckv_store_open(&options, &untouched));
  tier.reserved = 0;
  tier.layer_codec_count = 1;
  REFUSED(speckv_store_open(&options, &untouched));
  tier.layer_codecs = &nameless;
  REFUSED(speckv_store_open(&options, &untouched));
  tier.layer_codec_count = 0;
  tier.codec = "zip";
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_open(&options, &untouched));
  CHECK(strstr(speckv_last_error(), "kvq4") != NULL);
  tier.codec = NULL;
  tier.policy = "random";
  EXPECT(SPECKV_STATUS_NOT_FOUND, speckv_store_open(&options, &untouched));
  CHECK(untouched == (speckv_store*)memory);
}

static void stores_refuse_null(void) {
  speckv_tier_stats stats = {.size = sizeof stats};
  uint64_t bytes = 0;
  uint32_t region = 0;
  size_t count = 0;
  int8_t tier = 0;
  speckv_pin* pin = NULL;
  REFUSED(speckv_store_attach(NULL, memory, kBytes, &region));
  REFUSED(speckv_store_attach(store, NULL, kBytes, &region));
  REFUSED(speckv_store_attach(store, memory, 0, &region));
  REFUSED(speckv_store_attach(store, memory, kBytes, NULL));
  REFUSED(speckv_store_attach(store, memory, SIZE_MAX, &region));
  REFUSED(speckv_store_detach(NULL, 1));
  REFUSED(speckv_store_flush(NULL));
  REFUSED(speckv_store_remove(NULL));
  REFUSED(speckv_store_set_codec(NULL, 0, "raw", 0, 0));
  REFUSED(speckv_store_set_codec(store, 0, NULL, 0, 0));
  REFUSED(speckv_store_set_quota(NULL, 0, 1));
  REFUSED(speckv_store_tenant_bytes(NULL, 0, &bytes));
  REFUSED(speckv_store_tenant_bytes(store, 0, NULL));
  REFUSED(speckv_store_tenant_bytes(store, 65536, &bytes));
  REFUSED(speckv_store_purge(NULL, 0, &count));
  REFUSED(speckv_store_purge(store, 0, NULL));
  REFUSED(speckv_store_stats(NULL, 0, &stats));
  REFUSED(speckv_store_stats(store, 0, NULL));
  REFUSED(speckv_store_report(NULL, NULL, NULL));
  REFUSED(speckv_store_report(store, NULL, NULL));
  REFUSED(speckv_store_match(NULL, &kKey, 1, &count));
  REFUSED(speckv_store_match(store, NULL, 1, &count));
  REFUSED(speckv_store_match(store, &kKey, 1, NULL));
  REFUSED(speckv_store_match(store, &kKey, SIZE_MAX, &count));
  OK(speckv_store_match(store, NULL, 0, &count));
  REFUSED(speckv_store_lookup(NULL, &kKey, 1, &tier));
  REFUSED(speckv_store_lookup(store, NULL, 1, &tier));
  REFUSED(speckv_store_lookup(store, &kKey, 1, NULL));
  REFUSED(speckv_store_promote(NULL, &kKey, 1));
  REFUSED(speckv_store_promote(store, NULL, 1));
  REFUSED(speckv_store_erase(NULL, &kKey, 1, &count));
  REFUSED(speckv_store_erase(store, NULL, 1, &count));
  REFUSED(speckv_store_erase(store, &kKey, 1, NULL));
  REFUSED(speckv_store_pin(NULL, &kKey, &pin));
  REFUSED(speckv_store_pin(store, NULL, &pin));
  REFUSED(speckv_store_pin(store, &kKey, NULL));
  REFUSED(speckv_store_retain(NULL, &kKey, &pin));
  REFUSED(speckv_store_retain(store, NULL, &pin));
  REFUSED(speckv_store_retain(store, &kKey, NULL));
}

static void transfers_refuse_null_and_unknown_flags(void) {
  speckv_transfer_options options = {.size = sizeof options};
  speckv_completions* completions = NULL;
  speckv_completion entry;
  speckv_segment segment = {0, kBytes, 0, 0};
  speckv_block block = {kKey, &segment, 1, SPECKV_NO_POSITION, 0};
  speckv_status result = SPECKV_STATUS_OK;
  uint32_t layers = 0;
  size_t count = 0;
  speckv_op *op = NULL, *empty = NULL;
  OK(speckv_store_attach(store, memory, kBytes, &segment.region));
  REFUSED(speckv_store_save(NULL, &block, 1, NULL, &op));
  REFUSED(speckv_store_save(store, NULL, 1, NULL, &op));
  REFUSED(speckv_store_save(store, &block, 1, NULL, NULL));
  REFUSED(speckv_store_save(store, &block, SIZE_MAX, NULL, &op));
  REFUSED(speckv_store_load(NULL, &block, 1, NULL, &op));
  REFUSED(speckv_store_load(store, NULL, 1, NULL, &op));
  REFUSED(speckv_store_load(store, &block, 1, NULL, NULL));
  options.flags = 2;
  REFUSED(speckv_store_save(store, &block, 1, &options, &op));
  options.flags = SPECKV_DURABLE;
  REFUSED(speckv_store_load(store, &block, 1, &options, &op));
  options.flags = 0;
  options.tenant = 65536;
  REFUSED(speckv_store_save(store, &block, 1, &options, &op));
  segment.reserved = 1;
  REFUSED(speckv_store_save(store, &block, 1, NULL, &op));
  segment.reserved = 0;
  block.segments = NULL;
  REFUSED(speckv_store_save(store, &block, 1, NULL, &op));
  block.segments = &segment;
  block.layout = 65536;
  REFUSED(speckv_store_save(store, &block, 1, NULL, &op));
  CHECK(op == NULL);

  block.layout = 1; /* not the call's fault, but the block's */
  OK(speckv_store_save(store, &block, 1, NULL, &op));
  REFUSED(speckv_op_wait(op, SPECKV_FOREVER));
  CHECK(strstr(speckv_last_error(), "no such layout") != NULL);
  REFUSED(speckv_op_wait(NULL, 0));
  REFUSED(speckv_op_cancel(NULL));
  REFUSED(speckv_op_results(NULL, &result, 1));
  REFUSED(speckv_op_results(op, NULL, 1));
  REFUSED(speckv_op_layers_ready(NULL, 0, &layers));
  REFUSED(speckv_op_layers_ready(op, 0, NULL));
  speckv_op_free(op);
  OK(speckv_store_save(store, NULL, 0, NULL, &empty)); /* of no blocks: done */
  CHECK(speckv_op_done(empty));
  OK(speckv_op_wait(empty, 0));
  OK(speckv_op_results(empty, NULL, 0));
  speckv_op_free(empty);

  REFUSED(speckv_completions_create(NULL));
  OK(speckv_completions_create(&completions));
  REFUSED(speckv_completions_drain(NULL, &entry, 1, &count));
  REFUSED(speckv_completions_drain(completions, NULL, 1, &count));
  REFUSED(speckv_completions_drain(completions, &entry, 1, NULL));
  REFUSED(speckv_completions_wait(NULL, 0));
  OK(speckv_completions_free(completions));
  OK(speckv_store_detach(store, segment.region));
}

static void sequences_and_keys_refuse_null(void) {
  speckv_sequence_options options = {.size = sizeof options};
  const uint32_t token = 1;
  speckv_key_chain* chain = NULL;
  speckv_sequence *sequence = NULL, *fork = NULL;
  speckv_view* view = NULL;
  speckv_key key;
  speckv_address address = {0, 0, 0, 0, 0};
  speckv_packed_address packed;
  const void* bytes = NULL;
  void* tail = NULL;
  size_t size = 0;
  uint32_t number = 0;
  REFUSED(speckv_key_chain_create(NULL, &kLayout, NULL, 0, &chain));
  REFUSED(speckv_key_chain_create("m", NULL, NULL, 0, &chain));
  REFUSED(speckv_key_chain_create("m", &kLayout, NULL, 1, &chain));
  REFUSED(speckv_key_chain_create("m", &kLayout, NULL, 0, NULL));
  OK(speckv_key_chain_create("m", &kLayout, NULL, 0, &chain));
  REFUSED(speckv_key_chain_append(NULL, &token, 1, &key));
  REFUSED(speckv_key_chain_append(chain, NULL, 1, &key));
  REFUSED(speckv_key_chain_append(chain, &token, 1, NULL));
  REFUSED(speckv_key_chain_last(NULL, &key));
  REFUSED(speckv_key_chain_last(chain, NULL));
  REFUSED(speckv_key_chain_rewind(NULL, &kKey));
  REFUSED(speckv_key_chain_rewind(chain, NULL));
  speckv_key_chain_free(chain);
  REFUSED(speckv_key_from(NULL, 1, NULL, 0, &key));
  REFUSED(speckv_key_from(&token, 4, NULL, 1, &key));
  REFUSED(speckv_key_from(&token, 4, NULL, 0, NULL));

  REFUSED(speckv_sequence_create(NULL, NULL, &sequence));
  REFUSED(speckv_sequence_create(store, NULL, NULL));
  options.layout = 1;
  REFUSED(speckv_sequence_create(store, &options, &sequence));
  options.layout = 0;
  options.tenant = 65536;
  REFUSED(speckv_sequence_create(store, &options, &sequence));
  options.tenant = 0;
  options.salt_bytes = 1;
  REFUSED(speckv_sequence_create(store, &options, &sequence));
  OK(speckv_sequence_create(store, NULL, &sequence));
  REFUSED(speckv_sequence_adopt(NULL, &token, 1, &number));
  REFUSED(speckv_sequence_adopt(sequence, NULL, 1, &number));
  REFUSED(speckv_sequence_adopt(sequence, &token, 1, NULL));
  REFUSED(speckv_sequence_append(NULL, &token, 1, &number));
  REFUSED(speckv_sequence_append(sequence, NULL, 1, &number));
  REFUSED(speckv_sequence_append(sequence, &token, 1, NULL));
  REFUSED(speckv_sequence_tail(NULL, 0, &tail, &size));
  REFUSED(speckv_sequence_tail(sequence, 0, NULL, &size));
  REFUSED(speckv_sequence_tail(sequence, 0, &tail, NULL));
  REFUSED(speckv_sequence_seal(NULL));
  REFUSED(speckv_sequence_fork(NULL, &fork));
  REFUSED(speckv_sequence_fork(sequence, NULL));
  REFUSED(speckv_sequence_truncate(NULL, 0));
  REFUSED(speckv_sequence_truncate(sequence, 1));
  REFUSED(speckv_sequence_stage(NULL));
  REFUSED(speckv_sequence_keys(NULL, &key, 1, &size));
  REFUSED(speckv_sequence_keys(sequence, NULL, 1, &size));
  REFUSED(speckv_sequence_keys(sequence, &key, 1, NULL));
  REFUSED(speckv_sequence_view(NULL, 0, 0, &view));
  REFUSED(speckv_sequence_view(sequence, 0, 0, NULL));
  REFUSED(speckv_sequence_view(sequence, 1, 0, &view));
  REFUSED(speckv_view_layer(NULL, 0, 0, &bytes, &size));
  OK(speckv_sequence_view(sequence, 0, 0, &view)); /* of no tokens */
  REFUSED(speckv_view_layer(view, 0, 0, NULL, &size));
  REFUSED(speckv_view_layer(view, 0, 0, &bytes, NULL));
  REFUSED(speckv_view_layer(view, 0, 0, &bytes, &size));
  speckv_view_free(view);
  OK(speckv_sequence_free(sequence));

  REFUSED(speckv_address_pack(NULL, &packed));
  REFUSED(speckv_address_pack(&address, NULL));
  REFUSED(speckv_address_unpack(NULL, &address));
  OK(speckv_address_pack(&address, &packed));
  REFUSED(speckv_address_unpack(&packed, NULL));
}

int main(void) {
  RUN(what_answers_no_status_takes_null);
  RUN(opening_refuses_null_and_nonsense);
  open_store();
  RUN(stores_refuse_null);
  RUN(transfers_refuse_null_and_unknown_flags);
  RUN(sequences_and_keys_refuse_null);
  OK(speckv_store_close(store));
  return 0;
}

/* cxlspeckv/sequence.h -- the KV of one request, the names of blocks, and addresses (part
 * of cxlspeckv.h). */
#ifndef CXLSPECKV_SEQUENCE_H
#define CXLSPECKV_SEQUENCE_H

#include "cxlspeckv/cxlspeckv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- keys -------------------------------------------------------------------------- */

/* Names the blocks of one sequence: a key covers the model, the layout, the tenant's salt
 * and every token up to the end of its block. */
typedef struct speckv_key_chain speckv_key_chain;

/* `model` names weights and rank layout; `salt` keeps tenants apart (NULL with 0 bytes).
 */
SPECKV_API speckv_status speckv_key_chain_create(const char* model,
                                                 const speckv_layout* layout,
                                                 const void* salt, size_t salt_bytes,
                                                 speckv_key_chain** chain);
/* The key of the block that holds `tokens` after all that was appended before. */
SPECKV_API speckv_status speckv_key_chain_append(speckv_key_chain* chain,
                                                 const uint32_t* tokens, size_t count,
                                                 speckv_key* key);
/* The last key, or what names the empty sequence. */
SPECKV_API speckv_status speckv_key_chain_last(const speckv_key_chain* chain,
                                               speckv_key* key);
/* Goes on after a key that this chain, or an equal one, gave earlier. */
SPECKV_API speckv_status speckv_key_chain_rewind(speckv_key_chain* chain,
                                                 const speckv_key* key);
SPECKV_API void speckv_key_chain_free(speckv_key_chain* chain); /* NULL is fine */

/* Hashes an engine's own longer key into ours. */
SPECKV_API speckv_status speckv_key_from(const void* engine_key, size_t bytes,
                                         const void* salt, size_t salt_bytes,
                                         speckv_key* key);

/* ---- sequences --------------------------------------------------------------------- */

/* A run of sealed blocks, in whatever tier and shared with other sequences, and an open
 * tail in the fastest tier, which must be memory with the raw codec. */
typedef struct speckv_sequence speckv_sequence;
typedef struct speckv_view speckv_view;

typedef struct speckv_sequence_options {
  size_t size;
  const char* model; /* names weights and rank layout; NULL: "" */
  const void* salt;  /* the tenant's, or NULL */
  size_t salt_bytes;
  uint32_t layout; /* index */
  uint32_t tenant;
} speckv_sequence_options;

/* `options` may be NULL. */
SPECKV_API speckv_status speckv_sequence_create(speckv_store* store,
                                                const speckv_sequence_options* options,
                                                speckv_sequence** sequence);
/* BUSY: a view of it is left. NULL is fine. */
SPECKV_API speckv_status speckv_sequence_free(speckv_sequence* sequence);

/* Takes over stored blocks that hold the front of `tokens`, whole ones, and says how many
 * tokens that covers. INVALID_ARGUMENT: the sequence is not empty. */
SPECKV_API speckv_status speckv_sequence_adopt(speckv_sequence* sequence,
                                               const uint32_t* tokens, size_t count,
                                               uint32_t* adopted);
/* Makes room for tokens at the end, at most as many as the tail has left, and says how
 * many. A full tail is sealed first. NO_SPACE: everything in the fastest tier is held. */
SPECKV_API speckv_status speckv_sequence_append(speckv_sequence* sequence,
                                                const uint32_t* tokens, size_t count,
                                                uint32_t* taken);
/* Where one layer of the tail is written: K first, [head][token][channel]. Valid until
 * the next append, seal, truncate or fork. NOT_FOUND: no tail is open, or no such layer.
 */
SPECKV_API speckv_status speckv_sequence_tail(speckv_sequence* sequence, uint32_t layer,
                                              void** memory, size_t* bytes);
/* Seals a full tail now. INVALID_ARGUMENT: it is not full. */
SPECKV_API speckv_status speckv_sequence_seal(speckv_sequence* sequence);
/* A sequence with the same past; the tail is copied when either writes on. */
SPECKV_API speckv_status speckv_sequence_fork(speckv_sequence* sequence,
                                              speckv_sequence** fork);
/* Forgets tokens from `size` on. */
SPECKV_API speckv_status speckv_sequence_truncate(speckv_sequence* sequence,
                                                  uint32_t size);
/* Asks for what a view of everything would bring, and returns. BUSY: try later. */
SPECKV_API speckv_status speckv_sequence_stage(speckv_sequence* sequence);

SPECKV_API uint32_t speckv_sequence_size(const speckv_sequence* sequence); /* tokens */
/* The position of the tail's first token, which is the number of tokens sealed. */
SPECKV_API uint32_t speckv_sequence_tail_first(const speckv_sequence* sequence);
/* The first `capacity` keys of the sealed blocks; *count is how many there are. */
SPECKV_API speckv_status speckv_sequence_keys(const speckv_sequence* sequence,
                                              speckv_key* keys, size_t capacity,
                                              size_t* count);

/* Brings blocks (block_count 0: to the end, with the tail) into the fastest tier and
 * holds them there. NO_SPACE: they do not fit together. */
SPECKV_API speckv_status speckv_sequence_view(speckv_sequence* sequence,
                                              uint32_t first_block, uint32_t block_count,
                                              speckv_view** view);
SPECKV_API uint32_t speckv_view_first_token(const speckv_view* view);
SPECKV_API uint32_t speckv_view_tokens(const speckv_view* view);
SPECKV_API size_t speckv_view_block_count(const speckv_view* view);
/* The bytes of one layer of the n-th block of the view, K first. Valid while the view is.
 */
SPECKV_API speckv_status speckv_view_layer(const speckv_view* view, size_t block,
                                           uint32_t layer, const void** memory,
                                           size_t* bytes);
SPECKV_API void speckv_view_free(speckv_view* view); /* NULL is fine */

/* ---- addresses --------------------------------------------------------------------- */

/* One token's K (kind 0) or V (kind 1), and its packed form of 89 bits. */
typedef struct speckv_address {
  uint32_t request, position;
  uint16_t layer;
  uint8_t head, kind;
} speckv_address;

typedef struct speckv_packed_address {
  uint64_t high, low;
} speckv_packed_address;

/* INVALID_ARGUMENT: kind is not 0 or 1; a bit beyond the 89 is set. */
SPECKV_API speckv_status speckv_address_pack(const speckv_address* address,
                                             speckv_packed_address* packed);
SPECKV_API speckv_status speckv_address_unpack(const speckv_packed_address* packed,
                                               speckv_address* address);

#ifdef __cplusplus
}
#endif

#endif /* CXLSPECKV_SEQUENCE_H */

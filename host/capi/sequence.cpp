// cxlspeckv/sequence.h: keys, sequences and their views, addresses.
#include <algorithm>

#include "capi/capi.hpp"

using namespace speckv;
using namespace speckv::capi;

struct speckv_key_chain {
  KeyChain chain;
};

struct speckv_sequence {
  std::atomic<std::size_t>& store_users;
  Use of_store;
  BlockLayout layout;
  std::unique_ptr<Sequence> sequence{};
  std::atomic<std::size_t> users{0};
};

struct speckv_view {
  Use of_sequence;
  std::uint32_t layers;
  View view{};
};

namespace {

Status check_bytes(const void* bytes, std::size_t count, std::string_view name) {
  if (bytes == nullptr && count != 0) return null_argument(name);
  return {};
}

Status check_tokens(const speckv_sequence* sequence, const std::uint32_t* tokens,
                    std::size_t count, const void* result) {
  if (sequence == nullptr || result == nullptr)
    return null_argument("sequence or result");
  return check_array(tokens, count, "tokens");
}

}  // namespace

// ---- keys

speckv_status speckv_key_chain_create(const char* model, const speckv_layout* layout,
                                      const void* salt, size_t salt_bytes,
                                      speckv_key_chain** chain) {
  return guard([&]() -> Status {
    if (model == nullptr || layout == nullptr) return null_argument("model or layout");
    if (chain == nullptr) return null_argument("chain");
    if (Status given = check_bytes(salt, salt_bytes, "salt"); !given.ok()) return given;
    BlockLayout wanted;
    if (Status read = read_layout(*layout, wanted); !read.ok()) return read;
    *chain = new speckv_key_chain{
        KeyChain(text(model), wanted, bytes_as_text(salt, salt_bytes))};
    return {};
  });
}

speckv_status speckv_key_chain_append(speckv_key_chain* chain, const uint32_t* tokens,
                                      size_t count, speckv_key* key) {
  return guard([&]() -> Status {
    if (chain == nullptr || key == nullptr) return null_argument("chain or key");
    if (Status listed = check_array(tokens, count, "tokens"); !listed.ok()) return listed;
    *key = key_of(chain->chain.append({tokens, count}));
    return {};
  });
}

speckv_status speckv_key_chain_last(const speckv_key_chain* chain, speckv_key* key) {
  return guard([&]() -> Status {
    if (chain == nullptr || key == nullptr) return null_argument("chain or key");
    *key = key_of(chain->chain.last());
    return {};
  });
}

speckv_status speckv_key_chain_rewind(speckv_key_chain* chain, const speckv_key* key) {
  return guard([&]() -> Status {
    if (chain == nullptr || key == nullptr) return null_argument("chain or key");
    chain->chain.rewind(key_of(*key));
    return {};
  });
}

void speckv_key_chain_free(speckv_key_chain* chain) {
  delete chain;
}

speckv_status speckv_key_from(const void* engine_key, size_t bytes, const void* salt,
                              size_t salt_bytes, speckv_key* key) {
  return guard([&]() -> Status {
    if (key == nullptr) return null_argument("key");
    if (Status given = check_bytes(engine_key, bytes, "engine_key"); !given.ok())
      return given;
    if (Status given = check_bytes(salt, salt_bytes, "salt"); !given.ok()) return given;
    *key = key_of(key_from({static_cast<const std::byte*>(engine_key), bytes},
                           bytes_as_text(salt, salt_bytes)));
    return {};
  });
}

// ---- sequences

speckv_status speckv_sequence_create(speckv_store* store,
                                     const speckv_sequence_options* options,
                                     speckv_sequence** sequence) {
  return guard([&]() -> Status {
    if (store == nullptr || sequence == nullptr)
      return null_argument("store or sequence");
    speckv_sequence_options given{};
    if (Status read = read_options(options, given); !read.ok()) return read;
    if (Status salt = check_bytes(given.salt, given.salt_bytes, "salt"); !salt.ok())
      return salt;
    const auto& layouts = store->store->layouts();
    if (given.layout >= layouts.size()) return refused("the store has no such layout");
    Sequence::Options wanted;
    wanted.layout = static_cast<LayoutId>(given.layout);
    wanted.model = text(given.model);
    wanted.salt = bytes_as_text(given.salt, given.salt_bytes);
    if (Status read = read_tenant(given.tenant, wanted.tenant); !read.ok()) return read;
    auto made = std::unique_ptr<speckv_sequence>(
        new speckv_sequence{store->users, Use(store->users), layouts[given.layout]});
    auto created = Sequence::create(*store->store, wanted);
    if (!created) return created.error();
    made->sequence = *std::move(created);
    *sequence = made.release();
    return {};
  });
}

speckv_status speckv_sequence_free(speckv_sequence* sequence) {
  return guard([&]() -> Status {
    if (sequence == nullptr) return {};
    if (Status unused = check_unused(sequence->users, "views"); !unused.ok())
      return unused;
    delete sequence;
    return {};
  });
}

speckv_status speckv_sequence_adopt(speckv_sequence* sequence, const uint32_t* tokens,
                                    size_t count, uint32_t* adopted) {
  return guard([&]() -> Status {
    if (Status given = check_tokens(sequence, tokens, count, adopted); !given.ok())
      return given;
    auto covered = sequence->sequence->adopt({tokens, count});
    if (!covered) return covered.error();
    *adopted = *covered;
    return {};
  });
}

speckv_status speckv_sequence_append(speckv_sequence* sequence, const uint32_t* tokens,
                                     size_t count, uint32_t* taken) {
  return guard([&]() -> Status {
    if (Status given = check_tokens(sequence, tokens, count, taken); !given.ok())
      return given;
    auto appended = sequence->sequence->append({tokens, count});
    if (!appended) return appended.error();
    *taken = *appended;
    return {};
  });
}

speckv_status speckv_sequence_tail(speckv_sequence* sequence, uint32_t layer,
                                   void** memory, size_t* bytes) {
  return guard([&]() -> Status {
    if (sequence == nullptr) return null_argument("sequence");
    if (memory == nullptr || bytes == nullptr) return null_argument("memory or bytes");
    const MutableBytes tail = sequence->sequence->tail(layer);
    if (tail.empty()) return {Code::not_found, "no tail is open, or no such layer"};
    *memory = tail.data();
    *bytes = tail.size();
    return {};
  });
}

speckv_status speckv_sequence_seal(speckv_sequence* sequence) {
  return guard([&]() -> Status {
    if (sequence == nullptr) return null_argument("sequence");
    return sequence->sequence->seal();
  });
}

speckv_status speckv_sequence_fork(speckv_sequence* sequence, speckv_sequence** fork) {
  return guard([&]() -> Status {
    if (sequence == nullptr || fork == nullptr) return null_argument("sequence or fork");
    auto made = std::unique_ptr<speckv_sequence>(new speckv_sequence{
        sequence->store_users, Use(sequence->store_users), sequence->layout});
    auto forked = sequence->sequence->fork();
    if (!forked) return forked.error();
    made->sequence = *std::move(forked);
    *fork = made.release();
    return {};
  });
}

speckv_status speckv_sequence_truncate(speckv_sequence* sequence, uint32_t size) {
  return guard([&]() -> Status {
    if (sequence == nullptr) return null_argument("sequence");
    return sequence->sequence->truncate(size);
  });
}

speckv_status speckv_sequence_stage(speckv_sequence* sequence) {
  return guard([&]() -> Status {
    if (sequence == nullptr) return null_argument("sequence");
    return sequence->sequence->stage();
  });
}

uint32_t speckv_sequence_size(const speckv_sequence* sequence) {
  return sequence == nullptr ? 0 : sequence->sequence->size();
}

uint32_t speckv_sequence_tail_first(const speckv_sequence* sequence) {
  return sequence == nullptr ? 0 : sequence->sequence->tail_first();
}

speckv_status speckv_sequence_keys(const speckv_sequence* sequence, speckv_key* keys,
                                   size_t capacity, size_t* count) {
  return guard([&]() -> Status {
    if (sequence == nullptr || count == nullptr)
      return null_argument("sequence or count");
    if (keys == nullptr && capacity != 0) return null_argument("keys");
    const auto sealed = sequence->sequence->keys();
    const std::size_t copied = std::min(capacity, sealed.size());
    for (std::size_t i = 0; i < copied; ++i)
      keys[i] = key_of(sealed[i]);
    *count = sealed.size();
    return {};
  });
}

speckv_status speckv_sequence_view(speckv_sequence* sequence, uint32_t first_block,
                                   uint32_t block_count, speckv_view** view) {
  return guard([&]() -> Status {
    if (sequence == nullptr || view == nullptr) return null_argument("sequence or view");
    auto made = std::make_unique<speckv_view>(
        speckv_view{Use(sequence->users), sequence->layout.layers});
    auto held = sequence->sequence->view(first_block, block_count);
    if (!held) return held.error();
    made->view = *std::move(held);
    *view = made.release();
    return {};
  });
}

uint32_t speckv_view_first_token(const speckv_view* view) {
  return view == nullptr ? 0 : view->view.first_token();
}

uint32_t speckv_view_tokens(const speckv_view* view) {
  return view == nullptr ? 0 : view->view.tokens();
}

size_t speckv_view_block_count(const speckv_view* view) {
  return view == nullptr ? 0 : view->view.block_count();
}

speckv_status speckv_view_layer(const speckv_view* view, size_t block, uint32_t layer,
                                const void** memory, size_t* bytes) {
  return guard([&]() -> Status {
    if (view == nullptr) return null_argument("view");
    if (memory == nullptr || bytes == nullptr) return null_argument("memory or bytes");
    if (block >= view->view.block_count() || layer >= view->layers)
      return refused("the view has fewer blocks or layers");
    const Bytes found = view->view.layer(block, layer);
    *memory = found.data();
    *bytes = found.size();
    return {};
  });
}

void speckv_view_free(speckv_view* view) {
  delete view;
}

// ---- addresses

speckv_status speckv_address_pack(const speckv_address* address,
                                  speckv_packed_address* packed) {
  return guard([&]() -> Status {
    if (address == nullptr || packed == nullptr)
      return null_argument("address or packed");
    if (address->kind > 1) return refused("an address is of a key (0) or a value (1)");
    const PackedAddress word =
        pack({address->request, address->layer, address->head, address->position,
              static_cast<KvKind>(address->kind)});
    *packed = {word.high, word.low};
    return {};
  });
}

speckv_status speckv_address_unpack(const speckv_packed_address* packed,
                                    speckv_address* address) {
  return guard([&]() -> Status {
    if (packed == nullptr || address == nullptr)
      return null_argument("packed or address");
    const auto found = unpack({packed->high, packed->low});
    if (!found) return refused("a packed address has 89 bits");
    *address = {found->request, found->position, found->layer, found->head,
                static_cast<std::uint8_t>(found->kind)};
    return {};
  });
}

// cxlspeckv/sequence.hpp -- the tiered allocator: the KV of one request as it grows.
//
// A Sequence is a run of sealed blocks, which the store may keep in any tier and share
// with other sequences, and one open tail block in the fastest. It holds a reference to
// each of its blocks: they may move down, but they are not forgotten while it lives.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "cxlspeckv/store.hpp"

namespace speckv {

// Blocks of a sequence held in the fastest tier, plain, while the View lives: what
// attention reads. Movable; one thread. Ends before its Sequence.
class [[nodiscard]] View {
 public:
  View() noexcept;
  View(View&&) noexcept;
  View& operator=(View&&) noexcept;
  ~View();

  std::uint32_t first_token() const noexcept;
  std::uint32_t tokens() const noexcept;
  std::size_t block_count() const noexcept;
  // The bytes of one layer of the n-th block of the view, as BlockLayout orders them:
  // K [head][token][channel], then V. The tail has the full extent; tokens beyond the
  // sequence's are unspecified. REQUIRES: n < block_count(), layer < layout.layers.
  Bytes layer(std::size_t n, std::uint32_t layer) const noexcept;

 private:
  friend class Sequence;
  struct State;
  std::unique_ptr<State> state_;
};

// One thread at a time; any number of them on one store.
class Sequence {
 public:
  struct Options {
    LayoutId layout{};
    std::string_view model{};  // names weights and rank layout: part of every key
    std::string_view salt{};   // the tenant's
    TenantId tenant{};
  };

  // REQUIRES of the store: tier 0 is a memory device. unsupported otherwise.
  static Result<std::unique_ptr<Sequence>> create(BlockStore& store,
                                                  const Options& options);
  ~Sequence();

  // Adopts stored blocks that hold the front of `tokens` (whole blocks only) and returns
  // how many tokens that covers. REQUIRES: size() == 0.
  Result<std::uint32_t> adopt(std::span<const std::uint32_t> tokens);

  // Makes room for tokens at the end: sealing a full tail, opening the next. Their rows
  // are written through tail(). At most as many as the tail has left; returns how many.
  // no_space: the fastest tier is full of pinned or referenced blocks.
  Result<std::uint32_t> append(std::span<const std::uint32_t> tokens);

  // Where one layer of the open tail lies, to write rows [tail_first(), size()); K first,
  // [head][token][channel]. Valid until the next append, seal, truncate or fork.
  MutableBytes tail(std::uint32_t layer) noexcept;
  std::uint32_t tail_first() const noexcept;  // position of the tail's first token

  // Seals a full tail now (append does it when it must). invalid_argument: not full.
  Status seal();

  // A sequence with the same past. Sealed blocks are shared, the tail is copied on write.
  Result<std::unique_ptr<Sequence>> fork();

  // Forgets tokens from `size` on; reopens a sealed block if it must.
  Status truncate(std::uint32_t size);

  // Brings blocks [first, first + count) (count 0: to the end, with the tail) into the
  // fastest tier and holds them. no_space: they do not fit together.
  Result<View> view(std::uint32_t first_block = 0, std::uint32_t count = 0);

  // Asks for what view() would bring, and returns at once. busy: try later.
  Status stage() noexcept;

  std::uint32_t size() const noexcept;  // tokens
  std::span<const BlockKey> keys() const noexcept;
  std::span<const std::uint32_t> tokens() const noexcept;

 private:
  struct State;
  explicit Sequence(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace speckv

// capi/paged_memory.hpp -- mutable memory above a store: what the published calls hand
// out.
//
// A handle's bytes lie in pages. A page is resident in the handle's range of addresses,
// or stored: an immutable block that is retained in the store and erased once the page is
// written again. What the last pointer of a handle covers is *held* and stays; other
// resident pages are *idle*, and the least recently used are pushed out when the idle and
// held pages together are more than the window.
//
// Any thread. One mutex guards the tables and is never held while bytes move: a page
// whose bytes are moving is marked, and so is a handle that a call works on; whoever
// needs either waits, at most twice the device's timeout.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cxlspeckv/open_store.hpp"

#include "capi/address_space.hpp"

namespace speckv::capi {

class PagedMemory {
 public:
  static constexpr std::uint32_t kMaxDepth = 16;

  // `device` is a URI; see speckv.h for what it may leave out or say more.
  static Result<std::unique_ptr<PagedMemory>> open(std::string_view device);
  ~PagedMemory();

  // no_space: the sum of all sizes would exceed the capacity. node: -1 for none.
  Result<std::uint64_t> allocate(std::size_t bytes, int node);
  // not_found: no such handle. timed_out: a transfer on it does not end.
  Status release(std::uint64_t handle);
  Result<void*> access(std::uint64_t handle, std::uint64_t offset, std::size_t length);
  // busy: the queue is full.
  Status prefetch(std::uint32_t depth);
  void set_depth(std::uint32_t depth) noexcept { depth_ = depth; }
  Status set_codec(const Codec& codec) { return store_->set_codec(0, codec); }

 private:
  static constexpr std::size_t kPushAtOnce = 16;
  struct Allocation;
  struct Page {
    Allocation* of = nullptr;
    Page *newer = nullptr, *older = nullptr;  // while idle
    Pin stored{};                             // keeps the stored copy
    std::uint32_t version = 0;                // of that copy
    bool resident = false;
    bool moving = false;  // its bytes are on their way
    bool idle = false;
  };
  // Linked through the pages, so that no step of the way out of a page needs memory.
  class IdleList {
   public:
    void add(Page& page) noexcept;  // as the most recently used, unless it is in the list
    void remove(Page& page) noexcept;  // if it is in the list
    Page* oldest() const noexcept { return oldest_; }

   private:
    Page *newest_ = nullptr, *oldest_ = nullptr;
  };
  struct Allocation {
    std::uint64_t id = 0;
    std::uint64_t bytes = 0;
    AddressSpace::Range range{};
    std::vector<Page> pages{};
    std::uint32_t held_first = 0, held_count = 0;  // what the last pointer covers
    bool busy = false;                             // a call, or the stager, works on it
    std::uint32_t pushing = 0;                     // pages on their way out
  };
  struct Request {
    std::uint64_t handle = 0;
    std::uint32_t depth = 0;
  };
  using Lock = std::unique_lock<std::mutex>;
  using Deadline = std::chrono::steady_clock::time_point;

  PagedMemory() = default;
  Status start(const StoreConfig& config, std::uint64_t window);

  // A handle that nobody else works on until its end, when `lock` is held again.
  class Claim {
   public:
    Claim(PagedMemory& memory, Lock& lock, Allocation& a) noexcept;
    Claim(Claim&& other) noexcept
        : memory_(other.memory_),
          lock_(other.lock_),
          allocation_(std::exchange(other.allocation_, nullptr)) {}
    Claim& operator=(Claim&&) = delete;
    ~Claim();
    Allocation& operator*() const noexcept { return *allocation_; }
    void ended() noexcept { allocation_ = nullptr; }  // the handle is no more

   private:
    PagedMemory& memory_;
    Lock& lock_;
    Allocation* allocation_;
  };

  Result<Claim> claim(Lock& lock, std::uint64_t handle);
  Status hold(Lock& lock, Allocation& a, std::uint32_t first, std::uint32_t count);
  void unhold(Allocation& a);
  Status bring(Lock& lock, Allocation& a, std::uint32_t first, std::uint32_t count);
  Status load(Lock& lock, std::span<Page* const> pages);
  void make_room(Lock& lock);
  std::span<Page*> choose_victims(std::span<Page*, kPushAtOnce> room);
  bool push_out(Lock& lock, std::span<Page* const> victims);
  bool store_pages(std::span<const BlockTransfer> blocks, std::span<Pin> kept) noexcept;
  void settle(Page& page, Pin kept);
  void drop_copy(Page& page);
  void stage();
  Status stage_after(Lock& lock, Allocation& a, std::uint32_t depth);

  static std::uint32_t number_of(const Page& page) {
    return static_cast<std::uint32_t>(&page - page.of->pages.data());
  }
  std::size_t layout_of(const Page& page) const;
  std::uint64_t bytes_of(const Page& page) const { return page_ >> layout_of(page); }
  std::byte* address_of(const Page& page) const;
  // `memory` is filled in, and must live as long as the transfer is used.
  BlockTransfer transfer_of(const Page& page, Segment& memory) const;
  Deadline deadline() const { return std::chrono::steady_clock::now() + patience_; }

  std::uint64_t capacity_ = 0;
  std::uint64_t window_ = 0;
  std::uint64_t page_ = 0;  // bytes of a full page; the first layout's
  std::chrono::nanoseconds patience_{0};
  std::array<std::byte, 16>
      salt_{};  // keeps what an earlier process left in a pool apart
  std::atomic<std::uint32_t> depth_{kMaxDepth};
  std::unique_ptr<BlockStore> store_;

  std::mutex mutex_;                 // guards what follows
  std::condition_variable changed_;  // a handle or a page is free again
  std::unique_ptr<AddressSpace> space_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Allocation>> handles_;
  IdleList idle_;
  std::uint64_t resident_ = 0;  // bytes of resident pages, and of those on their way in
  std::uint64_t used_ = 0;      // the sum of all sizes
  std::deque<Request> requests_;
  std::condition_variable asked_;
  bool stopping_ = false;
  std::thread stager_;
};

}  // namespace speckv::capi

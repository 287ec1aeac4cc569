#include "capi/paged_memory.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "capi/capi.hpp"

namespace speckv::capi {
namespace {

constexpr std::size_t kQueue = 64;  // requests for staging

// For ever unique in this process, so that no handle can mean another's memory.
std::atomic<std::uint64_t> next_handle{1};
thread_local std::uint64_t last_accessed = 0;

template <class T>
void put(std::byte*& at, T value) noexcept {
  std::memcpy(at, &value, sizeof value);
  at += sizeof value;
}

}  // namespace

// ---- handles

PagedMemory::Claim::Claim(PagedMemory& memory, Lock& lock, Allocation& a) noexcept
    : memory_(memory), lock_(lock), allocation_(&a) {
  a.busy = true;
}

PagedMemory::Claim::~Claim() {
  if (allocation_ == nullptr) return;
  if (!lock_.owns_lock()) lock_.lock();
  allocation_->busy = false;
  memory_.changed_.notify_all();
}

Result<PagedMemory::Claim> PagedMemory::claim(Lock& lock, std::uint64_t handle) {
  const Deadline until = deadline();
  for (;;) {
    const auto found = handles_.find(handle);
    if (found == handles_.end()) {
      return Status(Code::not_found, "no such handle: " + std::to_string(handle));
    }
    Allocation& a = *found->second;
    if (!a.busy) return Claim(*this, lock, a);
    if (changed_.wait_until(lock, until) == std::cv_status::timeout) {
      return Status(Code::timed_out, "another call on the handle does not end");
    }
  }
}

Result<std::uint64_t> PagedMemory::allocate(std::size_t bytes, int node) {
  if (bytes == 0) return Status(Code::invalid_argument, "0 bytes cannot be allocated");
  const std::lock_guard lock(mutex_);
  if (bytes > capacity_ - used_) {
    return Status(Code::no_space, std::to_string(bytes) + " bytes asked for, " +
                                      std::to_string(capacity_ - used_) + " left of " +
                                      std::to_string(capacity_));
  }
  auto made = std::make_unique<Allocation>();
  made->id = next_handle.fetch_add(1, std::memory_order_relaxed);
  made->bytes = bytes;
  made->pages = std::vector<Page>((bytes - 1) / page_ + 1);
  for (Page& page : made->pages)
    page.of = made.get();
  // All that needs memory comes before the range is taken.
  Allocation& a = *made;
  const std::uint64_t id = a.id;
  decltype(handles_) row;
  row.emplace(id, std::move(made));
  auto entry = row.extract(id);
  handles_.reserve(handles_.size() + 1);
  auto range = space_->take(bytes, node);
  if (!range) return range.error();
  a.range = *range;
  handles_.insert(std::move(entry));
  used_ += bytes;
  return id;
}

Status PagedMemory::release(std::uint64_t handle) {
  Lock lock(mutex_);
  auto claimed = claim(lock, handle);
  if (!claimed) return claimed.error();
  Allocation& a = **claimed;
  const auto settled = [&a] { return a.pushing == 0; };
  if (!changed_.wait_until(lock, deadline(), settled)) {
    return {Code::timed_out, "a transfer on the handle does not end"};
  }
  a.held_count = 0;
  for (Page& page : a.pages) {
    idle_.remove(page);
    if (page.resident) resident_ -= bytes_of(page);
    drop_copy(page);
  }
  used_ -= a.bytes;
  space_->give_back(a.range);
  (*claimed).ended();
  handles_.erase(handle);
  changed_.notify_all();
  return {};
}

Result<void*> PagedMemory::access(std::uint64_t handle, std::uint64_t offset,
                                  std::size_t length) {
  Lock lock(mutex_);
  auto claimed = claim(lock, handle);
  if (!claimed) return claimed.error();
  Allocation& a = **claimed;
  if (length == 0 || offset > a.bytes || length > a.bytes - offset) {
    return Status(Code::invalid_argument, "the span is not inside the handle's " +
                                              std::to_string(a.bytes) + " bytes");
  }
  const auto first = static_cast<std::uint32_t>(offset / page_);
  const auto last = static_cast<std::uint32_t>((offset + length - 1) / page_);
  if (Status held = hold(lock, a, first, last - first + 1); !held.ok()) return held;
  last_accessed = handle;
  return static_cast<void*>(a.range.base + offset);
}

// ---- pages in

Status PagedMemory::hold(Lock& lock, Allocation& a, std::uint32_t first,
                         std::uint32_t count) {
  unhold(a);
  a.held_first = first;
  a.held_count = count;
  Status brought = contained_call([&] { return bring(lock, a, first, count); });
  if (!lock.owns_lock()) lock.lock();
  if (!brought.ok()) unhold(a);
  return brought;
}

void PagedMemory::unhold(Allocation& a) {
  const std::uint32_t end = a.held_first + a.held_count;
  a.held_count = 0;
  for (std::uint32_t p = a.held_first; p < end; ++p) {
    if (a.pages[p].resident && !a.pages[p].moving) idle_.add(a.pages[p]);
  }
}

Status PagedMemory::bring(Lock& lock, Allocation& a, std::uint32_t first,
                          std::uint32_t count) {
  const auto pages = std::span(a.pages).subspan(first, count);
  const auto still = [&] {
    return std::none_of(pages.begin(), pages.end(),
                        [](const Page& page) { return page.moving; });
  };
  if (!changed_.wait_until(lock, deadline(), still)) {
    return {Code::timed_out, "a page of the span is on its way for too long"};
  }
  std::vector<Page*> absent;
  for (Page& page : pages) {
    idle_.remove(page);
    if (page.resident) {
      drop_copy(page);
    } else if (page.stored) {
      absent.push_back(&page);
    } else {
      page.resident = true;  // the kernel gives zeros
      resident_ += bytes_of(page);
    }
  }
  if (Status loaded = load(lock, absent); !loaded.ok()) return loaded;
  for (Page* page : absent)
    drop_copy(*page);
  return {};
}

// Makes room for stored pages of a claimed handle and fills them.
Status PagedMemory::load(Lock& lock, std::span<Page* const> pages) {
  std::vector<Segment> memory(pages.size());
  std::vector<BlockTransfer> blocks(pages.size());
  for (std::size_t i = 0; i < pages.size(); ++i) {
    blocks[i] = transfer_of(*pages[i], memory[i]);
    pages[i]->moving = true;
    resident_ += memory[i].length;
  }
  make_room(lock);
  if (pages.empty()) return {};
  lock.unlock();
  Operation op;
  const Status status = contained_call([&] {
    op = store_->load(blocks);
    return op.wait();
  });
  lock.lock();
  for (std::size_t i = 0; i < pages.size(); ++i) {
    Page& page = *pages[i];
    page.moving = false;
    page.resident = i < op.size() && op.code(i) == Code::ok;
    if (page.resident) continue;
    resident_ -= memory[i].length;
    AddressSpace::forget(address_of(page), memory[i].length);
  }
  changed_.notify_all();
  if (status.ok()) return {};
  // A page of ours is never a miss: the device is fenced, or the page was damaged.
  Code code = status.code();
  if (code == Code::not_found)
    code = store_->stats(0).fenced ? Code::io_error : Code::corrupted;
  return contained_call([&]() -> Status {  // the pages are settled: this must not fail
    return {code, "stored pages did not come back: " + status.message()};
  });
}

// ---- pages out

// As far as idle pages and the store's room allow: what is held stays, and so does a page
// that the store has no room for.
void PagedMemory::make_room(Lock& lock) {
  for (;;) {
    std::array<Page*, kPushAtOnce> room{};
    const std::span<Page*> victims = choose_victims(room);
    if (victims.empty() || !push_out(lock, victims)) return;
  }
}

std::span<PagedMemory::Page*> PagedMemory::choose_victims(
    std::span<Page*, kPushAtOnce> room) {
  std::size_t count = 0;
  while (resident_ > window_ && count < room.size()) {
    Page* page = idle_.oldest();
    if (page == nullptr) break;
    idle_.remove(*page);
    resident_ -= bytes_of(*page);
    page->moving = true;
    ++page->of->pushing;
    room[count++] = page;
  }
  return room.first(count);
}

// Stores what is not stored yet; false if some page had to stay.
bool PagedMemory::push_out(Lock& lock, std::span<Page* const> victims) {
  std::array<Page*, kPushAtOnce> changed{};
  std::array<Segment, kPushAtOnce> memory{};
  std::array<BlockTransfer, kPushAtOnce> blocks{};
  std::array<Pin, kPushAtOnce> kept{};
  std::size_t count = 0;
  for (Page* page : victims) {
    if (page->stored) {
      settle(*page, {});
      continue;
    }
    ++page->version;
    blocks[count] = transfer_of(*page, memory[count]);
    changed[count++] = page;
  }
  if (count == 0) return true;
  lock.unlock();
  const bool all = store_pages(std::span(blocks).first(count), kept);
  lock.lock();
  for (std::size_t i = 0; i < count; ++i)
    settle(*changed[i], std::move(kept[i]));
  return all;
}

bool PagedMemory::store_pages(std::span<const BlockTransfer> blocks,
                              std::span<Pin> kept) noexcept {
  return contained_call([&]() -> Status {
           Operation op = store_->save(blocks);
           Status status = op.wait();
           for (std::size_t i = 0; i < blocks.size(); ++i) {
             if (op.code(i) != Code::ok) continue;
             if (auto pin = store_->retain(blocks[i].key); pin.ok()) {
               kept[i] = *std::move(pin);
             } else {
               status = pin.error();
             }
           }
           return status;
         })
      .ok();
}

// Ends the way out of a page: it is stored, or stays resident.
void PagedMemory::settle(Page& page, Pin kept) {
  Allocation& a = *page.of;
  if (kept) page.stored = std::move(kept);
  page.moving = false;
  page.resident = !page.stored;
  --a.pushing;
  if (page.resident) {
    resident_ += bytes_of(page);
    const std::uint32_t n = number_of(page);
    if (n < a.held_first || n - a.held_first >= a.held_count) idle_.add(page);
  } else {
    AddressSpace::forget(address_of(page), bytes_of(page));
  }
  changed_.notify_all();
}

void PagedMemory::IdleList::add(Page& page) noexcept {
  if (page.idle) return;
  page.idle = true;
  page.newer = nullptr;
  page.older = newest_;
  (newest_ != nullptr ? newest_->newer : oldest_) = &page;
  newest_ = &page;
}

void PagedMemory::IdleList::remove(Page& page) noexcept {
  if (!page.idle) return;
  page.idle = false;
  (page.newer != nullptr ? page.newer->older : newest_) = page.older;
  (page.older != nullptr ? page.older->newer : oldest_) = page.newer;
}

void PagedMemory::drop_copy(Page& page) {
  if (!page.stored) return;
  page.stored = Pin();
  Segment memory;
  const BlockKey key = transfer_of(page, memory).key;
  store_->erase({&key, 1});
}

// ---- staging

Status PagedMemory::prefetch(std::uint32_t depth) {
  const std::lock_guard lock(mutex_);
  if (requests_.size() >= kQueue) return {Code::busy, "the queue for staging is full"};
  if (!handles_.contains(last_accessed)) return {};  // nothing to go on
  requests_.push_back({last_accessed, std::min(depth, depth_.load())});
  asked_.notify_one();
  return {};
}

void PagedMemory::stage() {
  Lock lock(mutex_);
  for (;;) {
    asked_.wait(lock, [this] { return stopping_ || !requests_.empty(); });
    if (stopping_) return;
    const Request request = requests_.front();
    requests_.pop_front();
    // A hint: whatever goes wrong, access() will find it out again.
    (void)contained_call([&]() -> Status {
      auto claimed = claim(lock, request.handle);
      if (!claimed) return claimed.error();
      return stage_after(lock, **claimed, request.depth);
    });
    if (!lock.owns_lock()) lock.lock();
  }
}

Status PagedMemory::stage_after(Lock& lock, Allocation& a, std::uint32_t depth) {
  const std::uint32_t first = a.held_first + a.held_count;
  const auto end = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(a.pages.size(), std::uint64_t{first} + depth));
  std::vector<Page*> absent;
  std::uint64_t bytes = 0;
  for (std::uint32_t p = first; p < end; ++p) {
    Page& page = a.pages[p];
    if (page.resident || page.moving || !page.stored) continue;
    bytes += bytes_of(page);
    if (bytes > window_ / 2) break;  // or it would push out what it brought
    absent.push_back(&page);
  }
  if (absent.empty()) return {};
  Status loaded = load(lock, absent);
  for (Page* page : absent) {
    if (page->resident) idle_.add(*page);
  }
  return loaded;
}

// ---- where a page lies

// The smallest layout that holds what the handle has of this page.
std::size_t PagedMemory::layout_of(const Page& page) const {
  const std::uint64_t bytes = std::min(page_, page.of->bytes - number_of(page) * page_);
  std::size_t layout = 0;
  while (layout + 1 < store_->layouts().size() && (page_ >> (layout + 1)) >= bytes)
    ++layout;
  return layout;
}

std::byte* PagedMemory::address_of(const Page& page) const {
  return page.of->range.base + number_of(page) * page_;
}

BlockTransfer PagedMemory::transfer_of(const Page& page, Segment& memory) const {
  const AddressSpace::Range& range = page.of->range;
  std::array<std::byte, 16> name{};
  std::byte* at = name.data();
  put(at, page.of->id);
  put(at, number_of(page));
  put(at, page.version);
  memory = {range.region, range.offset + number_of(page) * page_, bytes_of(page)};
  return {key_from(name, bytes_as_text(salt_.data(), salt_.size())),
          std::span(&memory, 1), kNoPosition, static_cast<LayoutId>(layout_of(page))};
}

}  // namespace speckv::capi

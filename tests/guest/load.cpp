#include "load.hpp"

#include <chrono>
#include <functional>

namespace guest {
namespace {

void load_ioctl(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  speckv_queue_create queue{};
  queue.depth = 16;
  queue.eventfd = -1;
  speckv_object reset{};
  int error = call(card, SPECKV_IOC_QUEUE_CREATE, queue);
  reset.id = queue.out_id;
  while (!load.stop && error != ENODEV) {
    const speckv_desc desc = nop(1);
    speckv_cpl cpls[16];
    std::uint32_t taken = 0;
    error = submit(card, queue.out_id, &desc, 1);
    if (error != ENODEV) error = reap(card, queue.out_id, cpls, 16, &taken);
    if (error == EIO) call(card, SPECKV_IOC_QUEUE_RESET, reset);
    load.saw(error);
    load.answers += taken;
  }
}

void load_uring(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  speckv_queue_create queue{};
  queue.depth = 16;
  queue.eventfd = -1;
  call(card, SPECKV_IOC_QUEUE_CREATE, queue);
  speckv_object reset{};
  reset.id = queue.out_id;
  Uring ring(16);
  for (int result = 0; !load.stop && result != -ENODEV;) {
    for (std::uint16_t i = 0; i < 8; ++i)
      ring.push(card, queue.out_id, nop(i), i);
    ring.submit();
    for (int i = 0; i < 8; ++i) {
      std::uint64_t user = 0;
      int one = 0;
      if (!ring.wait(&user, &one)) {
        ++load.wrong;
        return;
      }
      if (one == 0) ++load.answers;
      if (one == -EIO) call(card, SPECKV_IOC_QUEUE_RESET, reset);
      load.saw(-one);
      result = one == 0 ? result : one;
    }
  }
}

void load_regions(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  std::vector<std::uint8_t> heap(8 * kPage);
  const auto page = reinterpret_cast<std::uintptr_t>(heap.data() + kPage) / kPage * kPage;
  for (int error = 0; !load.stop && error != ENODEV;) {
    speckv_region_create user{}, own{};
    user.flags = SPECKV_REGION_USER;
    user.length = own.length = 2 * kPage;
    user.user_va = page;
    error = call(card, SPECKV_IOC_REGION_CREATE, user);
    load.saw(error);
    if (error == 0) error = call(card, SPECKV_IOC_REGION_CREATE, own);
    load.saw(error);
    const Mapping seen(card.get(), own.out_mmap_offset, own.length);
    // Those that were made: the other may have been refused by a card that is being lost.
    for (const std::uint32_t id : {user.out_id, own.out_id}) {
      if (id == 0) continue;
      speckv_object args{};
      args.id = id;
      const int destroyed = call(card, SPECKV_IOC_REGION_DESTROY, args);
      load.saw(destroyed);
      if (error == 0) error = destroyed;
    }
    load.answers += error == 0 ? 1U : 0U;
  }
}

void load_steps(const char* name, Load& load) {
  const Fd card = open_card(name);
  if (!load.opened(card)) return;
  for (std::uint32_t i = 0; !load.stop; ++i) {
    const int error = step(card, i);
    load.saw(error);
    load.answers += error == 0 ? 1U : 0U;
    if (error == ENODEV) return;
  }
}

void load_opens(const char* name, Load& load) {
  while (!load.stop) {
    const Fd card = open_card(name);
    if (card.get() < 0 && errno != ENODEV && errno != ENOENT && errno != ENXIO) {
      ++load.wrong;
    }
    ++load.answers;
    speckv_queue_create queue{};
    queue.depth = 4;
    queue.eventfd = -1;
    if (card.get() >= 0) call(card, SPECKV_IOC_QUEUE_CREATE, queue);
  }
}

using Loader = void (*)(const char*, Load&);
constexpr Loader kLoaders[] = {load_ioctl, load_uring, load_regions, load_steps,
                               load_opens};

template <class Done>
void wait_until(Done done, const char* what) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!done()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << what;
    std::this_thread::yield();
  }
}

}  // namespace

int step(const Fd& card, std::uint32_t value) {
  speckv_step args{};
  args.step = value;
  return call(card, SPECKV_IOC_STEP, args);
}

void Load::saw(int error) {
  if (error == ENODEV) {
    ++gone;
  } else if (error != 0 && error != EAGAIN && error != EIO) {
    ++wrong;
    last_wrong = error;
  }
}

bool Load::opened(const Fd& card) {
  if (card.get() < 0) ++gone;
  return card.get() >= 0;
}

UnderLoad::UnderLoad(const char* card) {
  for (const Loader loader : kLoaders)
    threads_.emplace_back(loader, card, std::ref(load_));
}

UnderLoad::~UnderLoad() {
  if (!threads_.empty()) stop();
}

void UnderLoad::wait_for(std::uint32_t more) const {
  const std::uint32_t from = load_.answers;
  wait_until([&] { return load_.answers - from >= more; }, "nothing is answered");
}

void UnderLoad::wait_gone() const {
  wait_until([&] { return load_.gone != 0; }, "nobody sees that the card is gone");
}

void UnderLoad::stop() {
  load_.stop = true;
  for (std::thread& thread : threads_)
    thread.join();
  threads_.clear();
  EXPECT_EQ(load_.wrong, 0U) << std::strerror(load_.last_wrong);
}

}  // namespace guest

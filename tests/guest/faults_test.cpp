// Every allocation and every access to a program's memory that a call makes fails once,
// one after the other, until the call has none left (a kernel built with fault injection:
// debug.config). A call that failed has done nothing, and the card serves on. Whatever
// leaks, the kernel tells.
#include <cstdio>
#include <functional>
#include <vector>

#include <sys/syscall.h>

#include "dmabuf.hpp"
#include "load.hpp"

namespace guest {
namespace {

// The n-th point of failure of this thread, from begin() to end(), fails.
class Failing {
 public:
  explicit Failing(unsigned n)
      : n_(n), file_(::open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {}

  // 0 or the errno of a call, which happens under it.
  template <class Call>
  int run(Call call) {
    const std::string text = std::to_string(n_);
    if (::pwrite(file_.get(), text.data(), text.size(), 0) < 0) return errno;
    const int error = call();
    char left[16] = "";
    // Reading is a point of failure itself, and so is the write that ends it.
    const bool told = ::pread(file_.get(), left, sizeof left - 1, 0) > 0;
    left_ = told ? static_cast<unsigned>(std::atoi(left)) : 1;
    while (::pwrite(file_.get(), "0", 1, 0) != 1) {}
    return error;
  }
  bool happened() const { return left_ == 0; }
  unsigned passed() const { return n_ - left_; }  // points, if it did not happen

 private:
  unsigned n_;
  Fd file_;
  unsigned left_ = 1;
};

class Faults : public ::testing::Test {
 protected:
  static constexpr unsigned kNoEnd = 100000;

  void SetUp() override {
    const std::string debug = "/sys/kernel/debug/";
    for (const char* kind : {"failslab", "fail_page_alloc", "fail_usercopy"}) {
      ASSERT_TRUE(write_file(debug + kind + "/verbose", "0")) << kind;
    }
    for (const char* kind : {"failslab", "fail_page_alloc"}) {
      ASSERT_TRUE(write_file(debug + kind + "/ignore-gfp-wait", "N")) << kind;
    }
    ASSERT_TRUE(write_file(debug + "fail_page_alloc/min-order", "0"));
    ASSERT_TRUE(write_file(debug + "fail_page_alloc/ignore-gfp-highmem", "N"));
  }

  // The sweep over one call. body makes what the call needs and runs it under the
  // Failing; it returns what that did. `first`: where it begins; `also`: an errno that
  // the call may have besides.
  template <class Body>
  void sweep(const char* what, Body body, unsigned first = 1, int also = 0) {
    unsigned n = first;
    for (bool happened = true; happened; ++n) {
      Failing failing(n);
      const int error = body(failing);
      happened = failing.happened();
      if (happened) {
        ASSERT_TRUE(error == 0 || error == ENOMEM || error == EFAULT || error == also)
            << what << ", point " << n << ": " << std::strerror(error);
      } else {
        ASSERT_EQ(error, 0) << what << " without a failure: " << std::strerror(error);
      }
      ASSERT_LT(n, kNoEnd) << what << " has no last point of failure";
      ASSERT_FALSE(HasFailure()) << what << ", point " << n;
    }
    std::printf("FAULTS %s: %u points\n", what, n - 1 - first);
    EXPECT_GT(n, first + 1) << what << ": nothing was made to fail";
    expect_served();
  }

  static void expect_served() {
    const Fd card = open_card();
    EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, nop(3))),
              SPECKV_CPL_OK);
  }
};

int errno_of(long result) {
  return result < 0 ? errno : 0;
}

TEST_F(Faults, OpenAndClose) {
  sweep("open and close", [](Failing& failing) {
    return failing.run([] {
      const int card = ::open(kCard, O_RDWR | O_CLOEXEC);
      if (card < 0) return errno;
      ::close(card);
      return 0;
    });
  });
}

// An ioctl of a context that is new each time.
template <class T>
auto one(unsigned long number, T args) {
  return [number, args](Failing& failing) {
    const Fd card = open_card();
    T copy = args;
    return failing.run([&] { return call(card, number, copy); });
  };
}

TEST_F(Faults, CallsThatNeedNothing) {
  sweep("QUERY", one(SPECKV_IOC_QUERY, speckv_query{}));
  speckv_step step{};
  step.step = 1;
  sweep("STEP", one(SPECKV_IOC_STEP, step));
  speckv_weights weights{};
  weights.recency = 1;
  weights.evict = 1;
  weights.prefetch = 255;
  sweep("WEIGHTS", one(SPECKV_IOC_WEIGHTS, weights));
  speckv_param param{};
  param.param = SPECKV_PARAM_PREFETCH_DEPTH;
  sweep("PARAM_GET", one(SPECKV_IOC_PARAM_GET, param));
  param.value = 2;
  sweep("PARAM_SET", one(SPECKV_IOC_PARAM_SET, param));
  speckv_telemetry told{};
  speckv_telemetry_read telemetry{};
  telemetry.buffer = reinterpret_cast<std::uintptr_t>(&told);
  telemetry.length = sizeof told;
  sweep("TELEMETRY", one(SPECKV_IOC_TELEMETRY, telemetry));
}

TEST_F(Faults, Hints) {
  sweep("HINT", [](Failing& failing) {
    const Fd card = open_card();
    const std::uint32_t memory = make_region(card, kPage).out_id;
    speckv_desc block = copy(memory, 0, memory, 64, 64);
    block.flags = SPECKV_DESC_NAMED;
    block.tokens = 1;
    EXPECT_EQ(code_of(carry_out(card, make_queue(card, 8).out_id, block)), SPECKV_CPL_OK);
    speckv_hint hint{};
    hint.hint = SPECKV_HINT_HOT;
    hint.tokens = 1;
    return failing.run([&] { return call(card, SPECKV_IOC_HINT, hint); });
  });
}

TEST_F(Faults, Regions) {
  speckv_region_create own{};
  own.length = 16 * kPage;
  sweep("REGION_CREATE of card memory", one(SPECKV_IOC_REGION_CREATE, own));
  Mapping pages;
  pages.length = 64 * kPage;
  pages.at = ::mmap(nullptr, pages.length, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_TRUE(pages.good());
  speckv_region_create user{};
  user.length = pages.length;
  user.flags = SPECKV_REGION_USER;
  user.user_va = reinterpret_cast<std::uintptr_t>(pages.at);
  sweep("REGION_CREATE of pages", [&](Failing& failing) {
    // Pages that are not there yet are taken, and may be missing, inside of the call.
    ::madvise(pages.at, pages.length, MADV_DONTNEED);
    return one(SPECKV_IOC_REGION_CREATE, user)(failing);
  });
  for (const bool mine : {false, true}) {
    sweep("REGION_DESTROY", [&](Failing& failing) {
      const Fd card = open_card();
      speckv_object region{};
      region.id = make_region(card, 4 * kPage, mine ? pages.at : nullptr).out_id;
      return failing.run([&] { return call(card, SPECKV_IOC_REGION_DESTROY, region); });
    });
  }
  sweep("mmap of a region", [&](Failing& failing) {
    const Fd card = open_card();
    const speckv_region_create region = make_region(card, 16 * kPage);
    Mapping seen;
    return failing.run([&] {
      seen = Mapping(card.get(), region.out_mmap_offset, 16 * kPage);
      return seen.good() ? 0 : errno;
    });
  });
  sweep("ADVISE", [&](Failing& failing) {
    const Fd card = open_card();
    const speckv_region_create region = make_region(card, 16 * kPage);
    const Mapping seen(card.get(), region.out_mmap_offset, 16 * kPage);
    speckv_advise whole{}, middle{};
    whole.hint = middle.hint = SPECKV_HINT_PREFETCHABLE;
    whole.address = reinterpret_cast<std::uintptr_t>(seen.at);
    middle.address = whole.address + 4 * kPage;
    whole.length = 16 * kPage;
    middle.length = kPage;
    whole.step = middle.step = 1000;
    return failing.run([&] {
      const int error = call(card, SPECKV_IOC_ADVISE, whole);
      return error != 0 ? error : call(card, SPECKV_IOC_ADVISE, middle);
    });
  });
  sweep("PREFETCH", [&](Failing& failing) {
    const Fd card = open_card();
    speckv_prefetch args{};
    args.region = make_region(card, 16 * kPage).out_id;
    args.length = kPage;
    return failing.run([&] { return call(card, SPECKV_IOC_PREFETCH, args); });
  });
}

TEST_F(Faults, Imports) {
  SPECKV_NEEDS(kUdmabuf, "CONFIG_UDMABUF");
  if (!on_pci()) GTEST_SKIP() << "dma_buf_vmap() warns of an exporter that has no memory";
  const Buffer buffer = make_buffer(16 * kPage, 1);
  const speckv_region_import whole = importing(buffer.fd.get(), 0, 16 * kPage);
  sweep("REGION_IMPORT", one(SPECKV_IOC_REGION_IMPORT, whole));
  sweep("REGION_DESTROY of an import", [&](Failing& failing) {
    const Fd card = open_card();
    speckv_object region{};
    EXPECT_EQ(import_error(card, whole, &region.id), 0);
    return failing.run([&] { return call(card, SPECKV_IOC_REGION_DESTROY, region); });
  });
}

TEST_F(Faults, Queues) {
  for (const std::uint32_t depth : {8U, 1024U}) {
    const Fd event(::eventfd(0, EFD_CLOEXEC));
    speckv_queue_create queue{};
    queue.depth = depth;
    queue.eventfd = event.get();
    sweep("QUEUE_CREATE", one(SPECKV_IOC_QUEUE_CREATE, queue));
  }
  for (const auto& [what, number] : {std::pair("QUEUE_DESTROY", SPECKV_IOC_QUEUE_DESTROY),
                                     std::pair("QUEUE_RESET", SPECKV_IOC_QUEUE_RESET)}) {
    sweep(what, [number = number](Failing& failing) {
      const Fd card = open_card();
      speckv_object queue{};
      queue.id = make_queue(card, 8).out_id;
      return failing.run([&] { return call(card, number, queue); });
    });
  }
  sweep("mmap of rings and doorbell", [](Failing& failing) {
    const Fd card = open_card();
    const speckv_queue_create queue = make_queue(card, 8);
    Mapping rings, doorbell;
    const int error = failing.run([&] {
      doorbell = Mapping(card.get(), queue.out_doorbell_offset, kPage);
      if (!doorbell.good()) return errno;
      rings = Mapping(card.get(), queue.out_ring_offset, kPage);
      return rings.good() ? 0 : errno;
    });
    // A ring that could not be mapped is still the kernel's to use.
    if (!rings.good()) {
      EXPECT_EQ(code_of(carry_out(card, queue.out_id, nop(9))), SPECKV_CPL_OK);
    }
    return error;
  });
}

// A batch that fails has taken nothing; what was taken is answered.
TEST_F(Faults, SubmitAndReap) {
  sweep("SUBMIT", [](Failing& failing) {
    const Fd card = open_card();
    const std::uint32_t queue = make_queue(card, 64).out_id;
    const std::vector<speckv_desc> descs(40, nop(7));
    std::uint32_t taken = 0, reaped = 0;
    const int error =
        failing.run([&] { return submit(card, queue, descs.data(), 40, &taken); });
    for (std::uint32_t got = 0; reaped < taken; reaped += got) {
      speckv_cpl cpls[64];
      pollfd ready{card.get(), POLLIN, 0};
      EXPECT_EQ(::poll(&ready, 1, 20000), 1);
      if (reap(card, queue, cpls, 64, &got) != 0) break;
    }
    EXPECT_EQ(reaped, taken);
    return error;
  });
  sweep("poll and REAP", [](Failing& failing) {
    const Fd card = open_card();
    const std::uint32_t queue = make_queue(card, 8).out_id;
    const speckv_desc desc = nop(7);
    EXPECT_EQ(submit(card, queue, &desc, 1), 0);
    pollfd ready{card.get(), POLLIN, 0};
    std::uint32_t taken = 0;
    speckv_cpl cpl{};
    const int error = failing.run([&] {
      if (::poll(&ready, 1, 20000) < 0) return errno;
      return reap(card, queue, &cpl, 1, &taken);
    });
    return error;
  });
}

TEST_F(Faults, UringCommands) {
  sweep("a command of io_uring", [](Failing& failing) {
    const Fd card = open_card();
    const std::uint32_t queue = make_queue(card, 8).out_id;
    Uring ring(8);
    EXPECT_EQ(ring.error(), 0);
    ring.push(card, queue, nop(5), 77);
    const int error = failing.run([&] {
      const int sent = ring.submit();
      return sent < 0 ? -sent : 0;
    });
    if (error != 0)
      return error == EAGAIN ? ENOMEM : error;  // io_uring's own word for it
    std::uint64_t user = 0;
    int result = 1;
    EXPECT_TRUE(ring.wait(&user, &result));
    EXPECT_EQ(user, 77U);
    return -result;
  });
}

// Opens a file, reads it (nothing to write) or writes to it, and closes it.
int use_file(const std::string& name, const std::string& value) {
  char text[4096];
  const int file =
      ::open(name.c_str(), (value.empty() ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
  if (file < 0) return errno;
  const int error = errno_of(value.empty() ? ::read(file, text, sizeof text)
                                           : ::write(file, value.data(), value.size()));
  ::close(file);
  return error;
}

TEST_F(Faults, SysfsAndDebugfs) {
  const std::string sysfs = kSysfs, debugfs = kDebugfs;
  const std::pair<std::string, std::string> files[] = {
      {sysfs + "state", ""},        {sysfs + "telemetry", ""}, {sysfs + "contexts", ""},
      {sysfs + "quota_memory", ""}, {debugfs + "rings", ""},   {debugfs + "regions", ""},
      {sysfs + "w_r", "64"},        {sysfs + "reset", "1"}};
  for (const auto& file : files) {
    sweep(file.first.c_str(), [&](Failing& failing) {
      return failing.run([&] { return use_file(file.first, file.second); });
    });
  }
}

// The module comes and goes, with a card; runs apart, for it takes the cards away.
int insert(const char* parameters) {
  const Fd file(::open("/speckv.ko", O_RDONLY | O_CLOEXEC));
  return errno_of(::syscall(SYS_finit_module, file.get(), parameters, 0));
}

bool inserted() {
  return ::access("/sys/module/speckv", F_OK) == 0;
}

int take_out() {
  return errno_of(::syscall(SYS_delete_module, "speckv", 0));
}

const char* small_cards() {
  return "emulate=1 emulate_memory=1";  // each page of their memory is a point of failure
}

class Module : public Faults {
 protected:
  void SetUp() override {
    Faults::SetUp();
    parameters_ = on_pci() ? "" : small_cards();
    ASSERT_EQ(take_out(), 0);
  }
  void TearDown() override {
    if (!inserted()) {
      EXPECT_EQ(insert(parameters_), 0);
    }
  }
  const char* parameters_ = "";
};

// A card may be missing afterwards, never the module's way out.
TEST_F(Module, Probe) {
  ASSERT_EQ(insert(parameters_), 0);
  const Home home("speckv0");
  ASSERT_FALSE(home.driver.empty());
  const std::string bind = home.driver + "bind", bound = home.driver + home.device;
  const auto body = [&](Failing& failing) {
    EXPECT_TRUE(home.unbind());
    const int error = failing.run([&] { return use_file(bind, home.device); });
    EXPECT_EQ(::access(bound.c_str(), F_OK) == 0, error == 0);
    if (error != 0) {
      EXPECT_TRUE(home.bind());
    }
    return error;
  };
  // EBUSY is PCI's word for a range of addresses that it had no memory to reserve.
  sweep("probe", body, 1, on_pci() ? EBUSY : 0);
}

// From where the kernel has taken the module in and looks at its parameters: what it
// makes before of a module's tracepoints warns itself when it fails
// (event_define_fields()).
TEST_F(Module, InsertAndTakeOut) {
  const auto load = [](Failing& failing, const char* parameters) {
    return failing.run([&] { return insert(parameters); });
  };
  Failing none(kNoEnd);
  ASSERT_EQ(load(none, "emulate=none"), EINVAL);
  std::printf("FAULTS insmod: %u points before\n", none.passed());
  const auto body = [&](Failing& failing) {
    if (inserted()) {
      EXPECT_EQ(take_out(), 0);
    }
    return load(failing, parameters_);  // the last one stays, and has to serve
  };
  // EINVAL is the kernel's word for a folder of drivers that it could not make.
  sweep("insmod", body, none.passed() + 1, EINVAL);
}

}  // namespace
}  // namespace guest

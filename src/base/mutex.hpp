// base/mutex.hpp -- std::mutex with annotations that clang -Wthread-safety checks.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define SPECKV_ANNOTATE(x) __attribute__((x))
#else
#define SPECKV_ANNOTATE(x)
#endif
#define SPECKV_CAPABILITY(name) SPECKV_ANNOTATE(capability(name))
#define SPECKV_SCOPED SPECKV_ANNOTATE(scoped_lockable)
#define SPECKV_GUARDED_BY(lock) SPECKV_ANNOTATE(guarded_by(lock))
#define SPECKV_REQUIRES(...) SPECKV_ANNOTATE(requires_capability(__VA_ARGS__))
#define SPECKV_EXCLUDES(...) SPECKV_ANNOTATE(locks_excluded(__VA_ARGS__))
#define SPECKV_ACQUIRE(...) SPECKV_ANNOTATE(acquire_capability(__VA_ARGS__))
#define SPECKV_TRY_ACQUIRE(...) SPECKV_ANNOTATE(try_acquire_capability(__VA_ARGS__))
#define SPECKV_RELEASE(...) SPECKV_ANNOTATE(release_capability(__VA_ARGS__))
#define SPECKV_UNCHECKED SPECKV_ANNOTATE(no_thread_safety_analysis)

namespace speckv {

class SPECKV_CAPABILITY("mutex") Mutex {
 public:
  void lock() SPECKV_ACQUIRE() { mutex_.lock(); }
  void unlock() SPECKV_RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class SPECKV_SCOPED MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) SPECKV_ACQUIRE(mutex) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() SPECKV_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits on a Mutex that the caller holds.
using Condition = std::condition_variable_any;

}  // namespace speckv

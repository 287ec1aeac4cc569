// support/child.hpp -- a second process, for tests of what two of them share.
#pragma once

#include <utility>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace speckv::test {

// Forked at once, because a process that has threads may not do much more than exec in a
// child; does its work when it is told to. What the work returns is the exit status, and
// no destructor but the work's own runs.
class Child {
 public:
  // REQUIRES: this process has no threads yet.
  template <class Work>
  explicit Child(Work&& work) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      char told = 0;
      close(ends[1]);
      if (read(ends[0], &told, 1) != 1) _exit(127);
      _exit(std::forward<Work>(work)());
    }
    close(ends[0]);
    starter_ = ends[1];
  }
  ~Child() {
    start(0);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void start() { start(1); }

  // Its exit status, or -1 if it was killed; starts it if nobody has.
  int wait() {
    start();
    int status = -1;
    const pid_t ended = waitpid(std::exchange(pid_, 0), &status, 0);
    return ended > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  pid_t pid() const noexcept { return pid_; }

 private:
  void start(std::size_t bytes) {
    if (starter_ < 0) return;
    EXPECT_EQ(write(starter_, "s", bytes), static_cast<ssize_t>(bytes));
    close(std::exchange(starter_, -1));
  }

  pid_t pid_ = 0;
  int starter_ = -1;
};

}  // namespace speckv::test

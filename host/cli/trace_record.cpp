// speckvctl trace record: a command whose prefetchers are recorded.
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <nlohmann/json.hpp>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/trace.hpp"

namespace speckv::cli {
namespace {

volatile std::sig_atomic_t child = 0;

// What would end this program ends the command, whose recording is then told.
void pass_on(int signal) {
  if (child > 0) ::kill(static_cast<pid_t>(child), signal);
}

void on_signal(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  ::sigaction(signal, &action, nullptr);
}

// The words as exec takes them. They have to stay.
std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> all;
  all.reserve(words.size() + 1);
  for (std::string& word : words)
    all.push_back(word.data());
  all.push_back(nullptr);
  return all;
}

// How the command ended: its exit status, or 128 and the signal's number, as shells have
// it.
Result<int> run(std::vector<std::string> words) {
  std::vector<char*> arguments = pointers(words);
  posix_spawnattr_t attributes;
  sigset_t defaults;
  ::sigemptyset(&defaults);
  ::sigaddset(&defaults, SIGINT);
  ::sigaddset(&defaults, SIGQUIT);
  // The terminal tells the command, too.
  on_signal(SIGINT, SIG_IGN);
  on_signal(SIGQUIT, SIG_IGN);
  on_signal(SIGTERM, pass_on);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t started = 0;
  const int error = ::posix_spawnp(&started, arguments[0], nullptr, &attributes,
                                   arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return Status(
        error == ENOENT ? Code::not_found : Code::io_error,
        "cannot run " + words[0] + ": " + std::generic_category().message(error));
  }
  child = started;
  int status = 0;
  while (::waitpid(started, &status, 0) < 0 && errno == EINTR) {}
  child = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

int record_trace(const Arguments& arguments) {
  const auto refuse = [](const std::string& what) {
    return fail(Status(Code::invalid_argument, what));
  };
  if (arguments.command.empty())
    return refuse("record: -- COMMAND [WORD...], whose prefetchers are recorded");
  if (arguments.output.empty()) return refuse("record: --output FILE, to record into");
  std::error_code error;
  if (std::filesystem::exists(arguments.output, error))
    return refuse("--output: " + arguments.output + " is there already");
  const std::string path = std::filesystem::absolute(arguments.output, error).string();
  // NOLINTNEXTLINE(concurrency-mt-unsafe): this program has no other thread
  if (::setenv("CXLSPECKV_TRACE", path.c_str(), 1) != 0)
    return fail(Status(Code::no_space, "out of memory"));
  const Result<int> ended = run(arguments.command);
  if (!ended.ok()) return fail(ended.error());
  const std::string command = arguments.command.front();
  if (!std::filesystem::exists(path, error))
    return fail(Status(Code::not_found, command + " made no prefetcher by C or Python: " +
                                            "nothing was recorded"));
  Arguments whole = arguments;
  whole.trace = path;
  const auto recording = recorded(whole, whole.seed);
  if (!recording.ok()) return fail(Status(Code::not_found, recording.error().message()));
  if (arguments.json) {
    print_json("trace", {{"action", "record"},
                         {"exit_status", *ended},
                         {"requests", recording->requests.size()},
                         {"sessions", recording->sessions},
                         {"seconds", recording->seconds()}});
  }
  if (*ended == 0) return kDone;
  return fail(Status(Code::io_error, command + " ended with status " +
                                         std::to_string(*ended) + ", and was recorded"));
}

}  // namespace speckv::cli

// speckv_card: the golden model as a PCI card for QEMU's vfio-user-pci. docs/driver.md.
// speckv_rtl_card is the same with the verilated RTL (SPECKV_RTL_CARD), which has no
// faults.
#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <map>
#include <string>
#include <system_error>

#include <CLI/CLI.hpp>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#ifdef SPECKV_RTL_CARD
#include "sim/rtl/rtl_card.hpp"
#endif
#include "sim/vfio_user.hpp"

namespace speckv::sim {
namespace {

struct Options {
  std::string socket;
  std::uint64_t memory_mib = 64;
  Fault fault = Fault::none;
};

int complain(const char* what) {
  const std::string why = std::generic_category().message(errno);
  std::fprintf(stderr, "speckv_card: %s: %s\n", what, why.c_str());
  return 1;
}

PciFunction* the_function = nullptr;

// Somebody pulls the card out: SIGUSR1.
void pull_on_signal(PciFunction& function) {
  the_function = &function;
  struct sigaction action {};
  action.sa_handler = [](int) { the_function->pull(); };
  ::sigaction(SIGUSR1, &action, nullptr);
}

// The first client of a socket of that name; nobody else can come.
File accept_one(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return File();
  }
  name.copy(address.sun_path, name.size());
  const File listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto* at = reinterpret_cast<const sockaddr*>(&address);
  if (!listener.is_open() || ::bind(listener.get(), at, sizeof address) != 0 ||
      ::listen(listener.get(), 1) != 0) {
    return File();
  }
  return File(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

#ifdef SPECKV_RTL_CARD
// For guest.py, which shows such lines.
void tell_speed(const std::string& socket, std::uint64_t cycles) {
  const double seconds = static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  std::printf("NOTE %s: %llu cycles of the RTL in %.1f s of processor time\n",
              socket.substr(socket.rfind('/') + 1).c_str(),
              static_cast<unsigned long long>(cycles), seconds);
}
#endif

int serve(const Options& options) {
  const std::uint64_t bytes = options.memory_mib << 20;
  File memory(::memfd_create("speckv card", MFD_CLOEXEC));
  if (!memory.is_open() || ::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0) {
    return complain("card memory");
  }
#ifdef SPECKV_RTL_CARD
  const RtlCard* rtl = nullptr;
#endif
  const auto make = [&](MutableBytes at,
                        engine::HostPort& port) -> std::unique_ptr<Card> {
#ifdef SPECKV_RTL_CARD
    auto card = rtl_card({.budget = 2000, .mapped = true}, at, port);
    rtl = card.get();
    return card;
#else
    return options.fault == Fault::none ? golden_card(at, port)
                                        : faulty_card(options.fault, at, port);
#endif
  };
  const auto function = PciFunction::create(std::move(memory), bytes, make);
  if (!function) return complain("card memory");
  pull_on_signal(*function);
  const File client = accept_one(options.socket);
  if (!client.is_open()) return complain(options.socket.c_str());
  const bool sound = VfioUser(client, *function).serve();
#ifdef SPECKV_RTL_CARD
  tell_speed(options.socket, rtl->cycles());
#endif
  if (!sound) {
    std::fprintf(stderr, "CARD BAD what the client sent was no message\n");
    return 1;
  }
  return function->refused() == 0 ? 0 : 1;
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("A card as a vfio-user PCI device, for one client. SIGUSR1 pulls it out.");
  app.add_option("socket", options.socket, "Where the client connects: a new Unix socket")
      ->required();
  app.add_option("--memory", options.memory_mib, "MiB of card memory, a power of two")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
#ifndef SPECKV_RTL_CARD
  const std::map<std::string, Fault> faults{{"none", Fault::none},
                                            {"data", Fault::data},
                                            {"tag", Fault::tag},
                                            {"lost", Fault::lost}};
  app.add_option("--fault", options.fault, "What it does wrong, to test tests")
      ->transform(CLI::CheckedTransformer(faults));
#endif
  CLI11_PARSE(app, argc, argv);
  if ((options.memory_mib & (options.memory_mib - 1)) != 0) {
    std::fprintf(stderr, "speckv_card: --memory is a power of two\n");
    return 2;
  }
  return serve(options);
}

}  // namespace
}  // namespace speckv::sim

int main(int argc, char** argv) {
  try {
    return speckv::sim::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "speckv_card: %s\n", error.what());
    return 1;
  }
}

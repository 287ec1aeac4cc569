#include "sim/pci_function.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include <sys/eventfd.h>
#include <sys/mman.h>

namespace speckv::sim {
namespace {

constexpr std::uint64_t kWord = 4;
constexpr std::uint64_t kRefusalsTold = 10;

}  // namespace

std::unique_ptr<PciFunction> PciFunction::create(File memory, std::uint64_t memory_bytes,
                                                 const MakeCard& make_card) {
  void* at =
      ::mmap(nullptr, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) return nullptr;
  return std::unique_ptr<PciFunction>(new PciFunction(
      std::move(memory), {static_cast<std::byte*>(at), memory_bytes}, make_card));
}

PciFunction::PciFunction(File memory_file, MutableBytes memory, const MakeCard& make_card)
    : memory_file_(std::move(memory_file)),
      memory_(memory),
      card_(make_card(memory, *this)) {}

PciFunction::~PciFunction() {
  ::munmap(memory_.data(), memory_.size());
}

void PciFunction::read_registers(std::uint64_t offset, MutableBytes to) {
  if (pulled_) return std::fill(to.begin(), to.end(), std::byte{0xFF});
  while (!to.empty()) {
    const std::uint64_t within = offset % kWord;
    const std::size_t size = std::min<std::size_t>(to.size(), kWord - within);
    const std::uint32_t word =
        card_->read32(static_cast<std::uint32_t>(offset - within)) >> (8 * within);
    for (std::size_t i = 0; i < size; ++i)
      to[i] = static_cast<std::byte>(word >> (8 * i));
    to = to.subspan(size);
    offset += size;
  }
}

void PciFunction::write_registers(std::uint64_t offset, Bytes from) {
  if (pulled_ || offset % kWord != 0 || from.size() % kWord != 0) return;
  for (std::size_t at = 0; at < from.size(); at += kWord) {
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < kWord; ++i)
      word |= std::to_integer<std::uint32_t>(from[at + i]) << (8 * i);
    card_->write32(static_cast<std::uint32_t>(offset + at), word);
  }
}

void PciFunction::write_memory(std::uint64_t offset, Bytes from) {
  std::memcpy(memory_.data() + offset, from.data(), from.size());
  if (!pulled_) card_->stored(offset, from.size());
}

void PciFunction::read_config(std::size_t offset, MutableBytes to) const noexcept {
  if (pulled_) return std::fill(to.begin(), to.end(), std::byte{0xFF});
  const Bytes from = config_.read(offset, to.size());
  std::copy(from.begin(), from.end(), to.begin());
}

void PciFunction::write_config(std::size_t offset, Bytes from) {
  if (!pulled_ && config_.write(offset, from)) reset();
}

void PciFunction::route(std::uint32_t vector, File eventfd) noexcept {
  eventfds_[vector] = std::move(eventfd);
}

void PciFunction::reset() {
  if (pulled_) return;
  card_->reset();
  config_.reset();
}

MutableBytes PciFunction::view(std::uint64_t address, std::uint64_t length,
                               bool writing) noexcept {
  const MutableBytes bytes = config_.is_bus_master()
                                 ? host_memory_.view(address, length, writing)
                                 : MutableBytes{};
  if (bytes.empty() && ++refused_ <= kRefusalsTold) {
    std::fprintf(stderr, "CARD BAD %s of %llu bytes at 0x%llx is not allowed\n",
                 writing ? "write" : "read", static_cast<unsigned long long>(length),
                 static_cast<unsigned long long>(address));
  }
  return bytes;
}

void PciFunction::interrupt(std::uint32_t vector) noexcept {
  const File& eventfd = eventfds_[vector];
  if (!eventfd.is_open() || !config_.is_bus_master()) return;
  // It can only fail when 2^64 - 2 interrupts wait already.
  const int raised = ::eventfd_write(eventfd.get(), 1);
  static_cast<void>(raised);
}

}  // namespace speckv::sim

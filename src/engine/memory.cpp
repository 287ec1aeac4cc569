#include "engine/memory.hpp"

#include <algorithm>
#include <cstring>

#include "base/checksum.hpp"
#include "base/endian.hpp"

namespace speckv::engine {
namespace {

bool overlap(Bytes a, Bytes b) noexcept {
  return a.data() < b.data() + b.size() && b.data() < a.data() + a.size();
}

}  // namespace

Memory::Memory(MutableBytes device, std::uint64_t buffer_bytes, bool shared,
               HostPort& port, Counters& counters)
    : device_(device),
      shared_(shared),
      port_(port),
      counters_(counters),
      buffer_(buffer_bytes / kLine * kLine),
      tags_(buffer_bytes / kLine) {}

std::optional<Place> Memory::check(const std::vector<Region>& regions, std::uint32_t id,
                                   std::uint32_t tenant, std::uint64_t offset,
                                   std::uint64_t length, bool writing) noexcept {
  if (id == 0 || id >= regions.size()) return std::nullopt;
  const Region& region = regions[id];
  if (!region.is(region::kControlValid)) return std::nullopt;
  if (region::kControlTenant.get(region.control) != tenant) return std::nullopt;
  const std::uint64_t shift = region::kControlPageShift.get(region.control);
  if (region.is(region::kControlPaged) &&
      (shift < 12 || shift > 30 || region.base % 8 != 0))
    return std::nullopt;
  if (!region.is(writing ? region::kControlWrite : region::kControlRead)) {
    return std::nullopt;
  }
  if (length > region.length || offset > region.length - length) return std::nullopt;
  return Place{region, offset, length};
}

// ---- Pieces that lie together
// ----------------------------------------------------------

Memory::Run Memory::run(const Place& place, std::uint64_t at, bool writing) {
  return place.region.is(region::kControlDevice) ? device_run(place, at, writing)
                                                 : host_run(place, at, writing);
}

Memory::Run Memory::device_run(const Place& place, std::uint64_t at, bool writing) {
  const std::uint64_t address = place.region.base + place.offset + at;
  std::uint64_t length = place.length - at;
  // The driver wrote the entry; still, it may be wrong.
  if (!inside(address, length)) return {{}, Answer::bus_error};
  if (writing) {
    written(address, length);
    return {device_.subspan(address, length), Answer::ok};
  }
  if (lines_ != 0) {  // else the whole range lies together
    const std::uint64_t line = address / kLine, within = address % kLine;
    length = std::min(length, kLine - within);
    if (holds(line)) {
      counters_.add(Counter::buffer_hits, length);
      const std::size_t slot = line % tags_.size();
      return {MutableBytes(buffer_).subspan(slot * kLine + within, length), Answer::ok};
    }
  }
  if (poisoned(address, length)) return {{}, Answer::poison};
  counters_.add(Counter::buffer_misses, length);
  return {device_.subspan(address, length), Answer::ok};
}

Memory::Run Memory::host_run(const Place& place, std::uint64_t at, bool writing) {
  bool& fail = writing ? fail_write_ : fail_read_;
  if (fail) {
    fail = false;
    return {{}, Answer::bus_error};
  }
  std::uint64_t address = place.region.base, length = place.length - at;
  const std::uint64_t offset = place.offset + at;
  if (place.region.is(region::kControlPaged)) {
    const auto shift = region::kControlPageShift.get(place.region.control);
    const std::uint64_t entry = address + (offset >> shift) * 8;
    const MutableBytes listed = port_.view(entry, 8, false);
    if (listed.size() < 8) return {{}, Answer::bus_error};
    const std::uint64_t within = offset & ((1ULL << shift) - 1);
    address = load_le<std::uint64_t>(listed.data()) >> shift << shift | within;
    length = std::min<std::uint64_t>(length, (1ULL << shift) - within);
  } else {
    address += offset;
  }
  const MutableBytes bytes = port_.view(address, length, writing);
  if (bytes.empty()) return {{}, Answer::bus_error};
  return {bytes.first(std::min<std::uint64_t>(bytes.size(), length)), Answer::ok};
}

// ---- Whole ranges
// ------------------------------------------------------------------------

Answer Memory::read(const Place& from, MutableBytes to) {
  for (std::uint64_t at = 0; at < from.length;) {
    const Run piece = run(from, at, false);
    if (piece.answer != Answer::ok) return piece.answer;
    std::memcpy(to.data() + at, piece.bytes.data(), piece.bytes.size());
    at += piece.bytes.size();
  }
  counters_.add(Counter::bytes_read, from.length);
  return Answer::ok;
}

Answer Memory::write(const Place& to, Bytes from) {
  Place part = to;
  part.length = from.size();
  for (std::uint64_t at = 0; at < from.size();) {
    const Run piece = run(part, at, true);
    if (piece.answer != Answer::ok) return piece.answer;
    std::memcpy(piece.bytes.data(), from.data() + at, piece.bytes.size());
    at += piece.bytes.size();
  }
  counters_.add(Counter::bytes_written, from.size());
  return Answer::ok;
}

Answer Memory::copy(const Place& from, const Place& to, std::uint32_t& crc) {
  constexpr std::uint64_t kStream = 4U << 20;  // larger copies would empty the caches
  for (std::uint64_t at = 0; at < from.length;) {
    const Run source = run(from, at, false);
    if (source.answer != Answer::ok) return source.answer;
    Place part = to;
    part.length = at + source.bytes.size();
    for (std::uint64_t done = 0; done < source.bytes.size();) {
      const Run target = run(part, at + done, true);
      if (target.answer != Answer::ok) return target.answer;
      const Bytes bytes = source.bytes.subspan(done, target.bytes.size());
      if (overlap(bytes, target.bytes)) {
        std::memmove(target.bytes.data(), bytes.data(), bytes.size());
        crc = crc32c(crc, target.bytes);
      } else {
        crc = copy_crc32c(crc, target.bytes.data(), bytes, from.length >= kStream);
      }
      done += bytes.size();
    }
    at += source.bytes.size();
  }
  counters_.add(Counter::bytes_read, from.length);
  counters_.add(Counter::bytes_written, from.length);
  return Answer::ok;
}

Answer Memory::fill(const Place& to, std::uint64_t pattern) {
  std::byte bytes[8];
  store_le(bytes, pattern);
  for (std::uint64_t at = 0; at < to.length;) {
    const Run piece = run(to, at, true);
    if (piece.answer != Answer::ok) return piece.answer;
    for (std::size_t i = 0; i < piece.bytes.size(); ++i)
      piece.bytes[i] = bytes[(at + i) % 8];
    at += piece.bytes.size();
  }
  counters_.add(Counter::bytes_written, to.length);
  return Answer::ok;
}

// ---- The fast buffer
// -----------------------------------------------------------------------

Answer Memory::prefetch(const Place& from) {
  const std::uint64_t address = from.region.base + from.offset;
  if (!inside(address, from.length)) return Answer::bus_error;
  if (poisoned(address, from.length)) return Answer::poison;
  const std::uint64_t first = address / kLine, last = (address + from.length - 1) / kLine;
  // More than the buffer holds would push out its own beginning.
  for (std::uint64_t line = first; line <= last && line - first < tags_.size(); ++line) {
    const std::size_t slot = line % tags_.size();
    // A line that is not whole, or poisoned elsewhere, is read where it lies.
    if (!inside(line * kLine, kLine) || poisoned(line * kLine, kLine)) continue;
    if (holds(line)) continue;
    std::memcpy(buffer_.data() + slot * kLine, device_.data() + line * kLine, kLine);
    if (tags_[slot] == 0) ++lines_;
    tags_[slot] = line + 1;
    counters_.add(Counter::buffer_filled, kLine);
  }
  return Answer::ok;
}

// Whether a line lies in the fast buffer. A store by others, which nobody tells us of, is
// seen by its bytes.
bool Memory::holds(std::uint64_t line) const noexcept {
  const std::size_t slot = line % tags_.size();
  if (tags_[slot] != line + 1) return false;
  return !shared_ || std::memcmp(buffer_.data() + slot * kLine,
                                 device_.data() + line * kLine, kLine) == 0;
}

// A write goes to device memory; what the fast buffer has of it is no longer true, and
// poison that it covers is gone.
void Memory::written(std::uint64_t address, std::uint64_t length) noexcept {
  if (lines_ != 0) {
    const std::uint64_t first = address / kLine, last = (address + length - 1) / kLine;
    if (last - first >= tags_.size()) {
      std::fill(tags_.begin(), tags_.end(), 0);
      lines_ = 0;
    } else {
      for (std::uint64_t line = first; line <= last; ++line) {
        std::uint64_t& tag = tags_[line % tags_.size()];
        if (tag != line + 1) continue;
        tag = 0;
        --lines_;
      }
    }
  }
  for (std::size_t i = poison_count_; i > 0; --i) {
    const std::uint64_t at = poison_[i - 1] * kPoisoned;
    if (at >= address && at + kPoisoned <= address + length) {
      poison_[i - 1] = poison_[--poison_count_];
    }
  }
}

void Memory::forget() noexcept {
  std::fill(tags_.begin(), tags_.end(), 0);
  lines_ = 0;
  poison_count_ = 0;
  fail_read_ = fail_write_ = false;
}

void Memory::poison(std::uint64_t address) noexcept {
  if (!inside(address, 1) || poisoned(address, 1)) return;
  if (poison_count_ == poison_.size()) return;
  written(address, 1);  // the fast buffer must not hide it
  poison_[poison_count_++] = address / kPoisoned;
}

bool Memory::inside(std::uint64_t address, std::uint64_t length) const noexcept {
  return length <= device_.size() && address <= device_.size() - length;
}

bool Memory::poisoned(std::uint64_t address, std::uint64_t length) const noexcept {
  const auto* end = poison_.data() + poison_count_;
  return std::any_of(poison_.data(), end, [&](std::uint64_t at) {
    return at * kPoisoned < address + length && address < (at + 1) * kPoisoned;
  });
}

}  // namespace speckv::engine

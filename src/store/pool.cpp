#include "store/pool.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "cxlspeckv/guarded.hpp"
#include "cxlspeckv/inspect.hpp"

#include "base/checksum.hpp"
#include "base/endian.hpp"
#include "store/transfer.hpp"

namespace speckv {
namespace {

constexpr std::uint64_t kSuperMagic = 0x314C4F4F504B5653;  // "SVKPOOL1"
constexpr std::uint32_t kPoolVersion = 1;
constexpr std::uint64_t kTableOffset = 2 * kPoolPage;
constexpr std::uint32_t kRecordTag = 0x524B5653;  // "SVKR"

// Byte offsets in the superblock and in a record (docs/block-format.md).
namespace super {
constexpr std::size_t magic = 0, version = 8, nodes = 12, id = 16, fingerprint = 24,
                      unit = 32, units = 40, data = 48, profile = 56, crc = 60;
}
namespace record {
constexpr std::size_t high = 0, low = 8, offset = 16, units = 20, bytes = 24,
                      position = 28, generation = 32, layout = 36, tenant = 38, tag = 56,
                      crc = 60;
}

// What one record says.
struct Row {
  std::uint32_t node = 0;
  BlockKey key{};
  std::uint32_t offset = 0, units = 0, bytes = 0, position = 0, generation = 0;
  std::uint16_t layout = 0, tenant = 0;
};

bool is_blank(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

// The record's place is part of its checksum, so that a misplaced page is not believed.
std::uint32_t record_crc(const std::byte* at, std::uint32_t node) {
  std::byte place[4];
  store_le(place, node);
  return crc32c(crc32c(0, place), {at, record::crc});
}

void encode_row(const Row& row, std::byte* at) {
  std::memset(at, 0, kRecordBytes);
  store_le(at + record::high, row.key.high);
  store_le(at + record::low, row.key.low);
  store_le(at + record::offset, row.offset);
  store_le(at + record::units, row.units);
  store_le(at + record::bytes, row.bytes);
  store_le(at + record::position, row.position);
  store_le(at + record::generation, row.generation);
  store_le(at + record::layout, row.layout);
  store_le(at + record::tenant, row.tenant);
  store_le(at + record::tag, kRecordTag);
  store_le(at + record::crc, record_crc(at, row.node));
}

// Whether it is a record, of this place, whose slot lies inside the data.
bool read_row(const std::byte* at, std::uint32_t node, const TierGeometry& geometry,
              Row& row) {
  if (load_le<std::uint32_t>(at + record::tag) != kRecordTag ||
      load_le<std::uint32_t>(at + record::crc) != record_crc(at, node)) {
    return false;
  }
  row = {node,
         {load_le<std::uint64_t>(at + record::high),
          load_le<std::uint64_t>(at + record::low)},
         load_le<std::uint32_t>(at + record::offset),
         load_le<std::uint32_t>(at + record::units),
         load_le<std::uint32_t>(at + record::bytes),
         load_le<std::uint32_t>(at + record::position),
         load_le<std::uint32_t>(at + record::generation),
         load_le<std::uint16_t>(at + record::layout),
         load_le<std::uint16_t>(at + record::tenant)};
  return row.units != 0 && row.units <= geometry.units &&
         row.offset <= geometry.units - row.units &&
         row.bytes <= row.units * geometry.unit;
}

bool decode_row(const std::byte* at, std::uint32_t node, const TierGeometry& geometry,
                const std::vector<BlockLayout>& layouts, Row& row) {
  return read_row(at, node, geometry, row) && row.layout < layouts.size() &&
         row.bytes >= frame_header_bytes(layouts[row.layout].layers);
}

// Two copies, written one after the other: a crash spoils one at most.
const std::byte* sound_superblock(Bytes both) {
  for (const std::byte* at : {both.data(), both.data() + kPoolPage}) {
    if (load_le<std::uint64_t>(at + super::magic) == kSuperMagic &&
        load_le<std::uint32_t>(at + super::crc) == crc32c(0, {at, super::crc})) {
      return at;
    }
  }
  return nullptr;
}

// What the superblock says, if it fits the device; units == 0 if not.
TierGeometry geometry_of(const std::byte* at, std::uint64_t capacity) {
  TierGeometry g;
  g.unit = load_le<std::uint64_t>(at + super::unit);
  g.nodes = load_le<std::uint32_t>(at + super::nodes);
  g.table_offset = kTableOffset;
  g.data_offset = load_le<std::uint64_t>(at + super::data);
  const auto units = load_le<std::uint64_t>(at + super::units);
  if (g.unit == 0 || units > std::numeric_limits<std::uint32_t>::max() / 2 ||
      g.data_offset < kTableOffset + std::uint64_t{g.nodes} * kRecordBytes ||
      g.data_offset > capacity || units > (capacity - g.data_offset) / g.unit) {
    return g;
  }
  g.units = static_cast<std::uint32_t>(units);
  return g;
}

Result<PoolInfo> inspect(Device& device) {
  constexpr RegionId kInspecting{0xFFFFFF02};
  const std::string where = "pool " + device.info().name + ": ";
  const std::uint64_t capacity = device.info().capacity;
  TierCounters counters;
  auto opened = SyncIo::open(device, kInspecting, 1 << 20, counters);
  if (!opened) return opened.error();
  SyncIo& io = **opened;
  if (capacity < kTableOffset)
    return Status(Code::corrupted, where + "too small for one");
  if (const Code code = io.read(0, kTableOffset); code != Code::ok) {
    return Status(code, where + "cannot read its superblock");
  }
  const std::byte* at = sound_superblock(io.buffer());
  if (at == nullptr) return Status(Code::corrupted, where + "there is none");
  if (load_le<std::uint32_t>(at + super::version) != kPoolVersion) {
    return Status(Code::corrupted, where + "made by another version");
  }
  const TierGeometry g = geometry_of(at, capacity);
  if (g.units == 0) return Status(Code::corrupted, where + "truncated");
  PoolInfo info;
  info.id = load_le<std::uint64_t>(at + super::id);
  info.layouts = load_le<std::uint64_t>(at + super::fingerprint);
  info.profile = load_le<std::uint32_t>(at + super::profile);
  info.capacity = g.units * g.unit;
  const std::uint64_t table = align_up(g.nodes * kRecordBytes, kPoolPage);
  for (std::uint64_t done = 0; done < table; done += io.buffer().size()) {
    const auto part = static_cast<std::size_t>(
        std::min<std::uint64_t>(io.buffer().size(), table - done));
    if (const Code code = io.read(g.table_offset + done, part); code != Code::ok) {
      return Status(code, where + "cannot read its record table");
    }
    for (std::size_t i = 0; i < part; i += kRecordBytes) {
      const std::byte* const bytes = io.buffer().data() + i;
      Row row;
      if (is_blank({bytes, kRecordBytes})) continue;
      if (!read_row(bytes, static_cast<std::uint32_t>((done + i) / kRecordBytes), g,
                    row)) {
        ++info.damaged;
        continue;
      }
      ++info.blocks;
      info.used += row.units * g.unit;
      info.frame_bytes += row.bytes;
      info.commits = std::max(info.commits, row.generation);
    }
  }
  return info;
}

}  // namespace

Result<PoolInfo> inspect_pool(Device& device) {
  return guarded([&] { return inspect(device); });
}

TierGeometry plan_pool(std::uint64_t capacity, std::uint64_t unit,
                       std::uint64_t min_frame) {
  TierGeometry g;
  g.unit = unit;
  const std::uint64_t slots = capacity / std::max(unit, min_frame);
  // Every block may be followed by a free extent with a record of its own; a quarter more
  // than blocks is plenty in practice, and running out only wastes the ends of extents.
  const std::uint64_t nodes =
      align_up(std::min<std::uint64_t>(slots + slots / 4 + 2, 1U << 30), kRecordsPerPage);
  g.nodes = static_cast<std::uint32_t>(nodes);
  g.table_offset = kTableOffset;
  g.data_offset = align_up(kTableOffset + nodes * kRecordBytes,
                           std::max<std::uint64_t>(unit, kPoolPage));
  if (capacity > g.data_offset) {
    g.units = static_cast<std::uint32_t>(
        std::min<std::uint64_t>((capacity - g.data_offset) / unit,
                                std::numeric_limits<std::uint32_t>::max() / 2));
  }
  return g;
}

MutableBytes aligned_buffer(std::vector<std::byte>& storage, std::size_t bytes,
                            std::size_t alignment) {
  storage.resize(bytes + alignment);
  const auto address = reinterpret_cast<std::uintptr_t>(storage.data());
  return MutableBytes(storage).subspan(align_up(address, alignment) - address, bytes);
}

// ---- SyncIo

Result<std::unique_ptr<SyncIo>> SyncIo::open(Device& device, RegionId region,
                                             std::size_t bytes, TierCounters& counters) {
  auto io = std::unique_ptr<SyncIo>(new SyncIo(device, region, counters));
  io->buffer_ = aligned_buffer(io->storage_, bytes, 4096);
  if (Status attached = device.attach(region, io->buffer_); !attached.ok())
    return attached;
  auto queue = guarded([&device] { return device.open_queue(1); });
  if (!queue) {
    (void)device.detach(region);
    return queue.error();
  }
  io->queue_ = *std::move(queue);
  return io;
}

SyncIo::~SyncIo() {
  if (queue_ == nullptr) return;  // open() failed, and let go of the region
  queue_.reset();
  (void)device_.detach(region_);
}

Code SyncIo::run(const Transfer& transfer) {
  if (queue_->submit({&transfer, 1}) != 1) return Code::busy;
  const auto give_up = steady_clock().now() + device_.info().timeout;
  for (Completion done; steady_clock().now() < give_up;) {
    if (queue_->poll({&done, 1}) == 1) return done.code;
    queue_->wait(std::chrono::milliseconds(100));
  }
  return Code::timed_out;
}

Code SyncIo::read(std::uint64_t offset, std::size_t bytes) {
  counters_.bytes_read.fetch_add(bytes, std::memory_order_relaxed);
  return run({Transfer::Op::read, offset, {region_, 0, bytes}, 0});
}
Code SyncIo::write(std::uint64_t offset, std::size_t bytes) {
  counters_.bytes_written.fetch_add(bytes, std::memory_order_relaxed);
  return run({Transfer::Op::write, offset, {region_, 0, bytes}, 0});
}
Code SyncIo::flush() {
  return run({Transfer::Op::flush, 0, {region_, 0, 0}, 0});
}

// ---- Pool

Result<std::unique_ptr<Pool>> Pool::open(TierState& tier, const PoolPurpose& purpose,
                                         std::uint64_t seed, SyncIo& io) {
  auto pool = std::unique_ptr<Pool>(new Pool(tier));
  const std::string where = "pool " + tier.device->info().name + ": ";
  if (const Code code = io.read(0, kTableOffset); code != Code::ok) {
    return Status(code, where + "cannot read its superblock");
  }
  if (is_blank(io.buffer().first(kTableOffset))) {
    if (Status formatted = pool->format(purpose, seed, io); !formatted.ok()) {
      return Status(formatted.code(), where + formatted.message());
    }
    return pool;
  }
  const std::byte* at = sound_superblock(io.buffer());
  if (at == nullptr) {
    return Status(Code::corrupted, where + "holds something else, which is left alone");
  }
  if (load_le<std::uint32_t>(at + super::version) != kPoolVersion) {
    return Status(Code::corrupted, where + "made by another version");
  }
  if (load_le<std::uint64_t>(at + super::fingerprint) != purpose.layouts) {
    return Status(Code::corrupted, where + "made for other block layouts");
  }
  const TierGeometry& g = tier.geometry;
  if (load_le<std::uint64_t>(at + super::unit) != g.unit ||
      load_le<std::uint64_t>(at + super::units) != g.units ||
      load_le<std::uint32_t>(at + super::nodes) != g.nodes ||
      load_le<std::uint64_t>(at + super::data) != g.data_offset) {
    return Status(Code::corrupted, where + "made with another capacity, or truncated");
  }
  pool->id_ = load_le<std::uint64_t>(at + super::id);
  const auto profile = load_le<std::uint32_t>(at + super::profile);
  if (profile == purpose.profile) return pool;
  if (profile != 0) {
    return Status(Code::invalid_argument,
                  where + "made with a model profile that is not this store's");
  }
  if (Status adopted = pool->write_superblock(purpose, io); !adopted.ok()) {
    return Status(adopted.code(), where + adopted.message());
  }
  return pool;
}

Status Pool::format(const PoolPurpose& purpose, std::uint64_t seed, SyncIo& io) {
  const TierGeometry& g = tier_.geometry;
  const MutableBytes buffer = io.buffer();
  std::memset(buffer.data(), 0, buffer.size());
  // A file's table reads as zeros anyway; a block device's may hold anything.
  for (std::uint64_t at = g.table_offset; at < g.data_offset; at += buffer.size()) {
    const auto part = static_cast<std::size_t>(
        std::min<std::uint64_t>(buffer.size(), g.data_offset - at));
    if (const Code code = io.write(at, part); code != Code::ok) {
      return {code, "cannot write its record table"};
    }
  }
  if (io.flush() != Code::ok) return {Code::io_error, "cannot flush its record table"};
  id_ = seed | 1;
  return write_superblock(purpose, io);
}

Status Pool::write_superblock(const PoolPurpose& purpose, SyncIo& io) {
  const TierGeometry& g = tier_.geometry;
  std::byte* const at = io.buffer().data();
  std::memset(at, 0, kPoolPage);
  store_le(at + super::magic, kSuperMagic);
  store_le(at + super::version, kPoolVersion);
  store_le(at + super::nodes, g.nodes);
  store_le(at + super::id, id_);
  store_le(at + super::fingerprint, purpose.layouts);
  store_le(at + super::unit, g.unit);
  store_le(at + super::units, std::uint64_t{g.units});
  store_le(at + super::data, g.data_offset);
  store_le(at + super::profile, purpose.profile);
  store_le(at + super::crc, crc32c(0, {at, super::crc}));
  for (std::uint64_t copy = 0; copy < kTableOffset; copy += kPoolPage) {
    if (io.write(copy, kPoolPage) != Code::ok || io.flush() != Code::ok) {
      return {Code::io_error, "cannot write its superblock"};
    }
  }
  return {};
}

Status Pool::recover(BlockTable& table, const std::vector<BlockLayout>& layouts,
                     SyncIo& io) {
  const TierGeometry& g = tier_.geometry;
  std::vector<Row> rows;
  const std::uint64_t table_bytes = align_up(g.nodes * kRecordBytes, kPoolPage);
  for (std::uint64_t done = 0; done < table_bytes; done += io.buffer().size()) {
    const auto part = static_cast<std::size_t>(
        std::min<std::uint64_t>(io.buffer().size(), table_bytes - done));
    if (const Code code = io.read(g.table_offset + done, part); code != Code::ok) {
      return {code,
              "pool " + tier_.device->info().name + ": cannot read its record table"};
    }
    for (std::size_t at = 0; at < part; at += kRecordBytes) {
      const auto node = static_cast<std::uint32_t>((done + at) / kRecordBytes);
      const std::byte* const bytes = io.buffer().data() + at;
      Row row;
      if (node >= g.nodes || is_blank({bytes, kRecordBytes})) continue;
      if (decode_row(bytes, node, g, layouts, row)) {
        rows.push_back(row);
      } else {
        reject(node);
      }
    }
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return a.generation != b.generation ? a.generation < b.generation : a.node < b.node;
  });
  const std::uint32_t last = rows.empty() ? 0 : rows.back().generation;
  std::unordered_map<BlockKey, std::uint32_t> newest;
  for (const Row& row : rows)
    newest[row.key] = row.node;

  const std::uint32_t t = tier_.number;
  for (const Row& row : rows) {
    bool sound = newest[row.key] == row.node;
    const std::uint64_t frame = align_up(row.bytes, g.unit);
    const std::uint64_t at = g.data_offset + std::uint64_t{row.offset} * g.unit;
    if (sound && row.generation == last) {  // the crash may have come before its flush
      Code code = frame <= io.buffer().size() ? io.read(at, frame) : Code::corrupted;
      if (code == Code::ok)
        code = verify_frame(layouts[row.layout], row.key, io.buffer().first(row.bytes));
      // Not looked at is not damaged: nothing is given up for want of memory.
      if (code == Code::no_space) return {code, "out of memory"};
      sound = code == Code::ok;
    }
    if (!sound) {
      reject(row.node);
      continue;
    }
    Index::Shard shard(table.index(), row.key);
    std::uint32_t e = shard.find(row.key);
    if (e == kNone) e = shard.insert(row.key, row.layout, row.tenant, row.position);
    if (e == kNone) {  // the index holds fewer blocks than it did
      reject(row.node);
      continue;
    }
    const TierLock lock(tier_);
    Node& node = tier_.extents().claim(row.node);
    node.offset = row.offset;
    node.units = row.units;
    node.frame_bytes = row.bytes;
    node.entry = e;
    node.generation = row.generation;
    node.tenant = row.tenant;
    node.owner.store(0);
    node.state.store(NodeState::resident);
    table.mapping().entry(e).slots[t].store(row.node + 1);
    table.mapping().tenant(row.tenant).used.fetch_add(row.units * g.unit);
    ++recovered_;
  }
  {
    const TierLock lock(tier_);
    tier_.rebuild();
    tier_.header().generation = last + 1;
    for (const Row& row : rows) {
      if (tier_.node(row.node).state.load() == NodeState::resident) {
        tier_.policy().touched(Slot{row.node});
      }
    }
  }
  // Overlapping records cannot both be right: rebuild() took their slots away.
  for (const Row& row : rows) {
    Index::Shard shard(table.index(), row.key);
    const std::uint32_t e = shard.find(row.key);
    if (e == kNone || tier_.node(row.node).state.load() == NodeState::resident) continue;
    Entry& entry = table.mapping().entry(e);
    if (entry.slots[t].load() != row.node + 1) continue;
    entry.slots[t].store(0);
    table.mapping().tenant(row.tenant).used.fetch_sub(row.units * g.unit);
    --recovered_;
    reject(row.node);
    bool elsewhere = false;
    for (const auto& slot : entry.slots)
      elsewhere |= slot.load() != 0;
    if (!elsewhere) shard.remove(e);
  }
  return clear_rejected(table, io);
}

void Pool::reject(std::uint32_t node) {
  ++damaged_;
  rejected_.insert(node / kRecordsPerPage);
}

// A record that was not believed must not be there when its slot is used again: it might
// be believed then. And what was found may have been in the device's cache only, of which
// the next commit's number would say that it was flushed.
Status Pool::clear_rejected(const BlockTable& table, SyncIo& io) {
  for (const std::uint32_t page : rejected_) {
    {
      const TierLock lock(tier_);
      encode_page(table, page, io.buffer());
    }
    const std::uint64_t at = tier_.geometry.table_offset + page * kPoolPage;
    if (const Code code = io.write(at, kPoolPage); code != Code::ok) {
      return {code, "pool " + tier_.device->info().name + ": cannot repair its records"};
    }
  }
  rejected_.clear();
  if (const Code code = io.flush(); code != Code::ok) {
    return {code, "pool " + tier_.device->info().name + ": cannot flush its records"};
  }
  return {};
}

void Pool::encode_page(const BlockTable& table, std::uint32_t page,
                       MutableBytes out) const {
  std::memset(out.data(), 0, kPoolPage);
  for (std::uint32_t i = 0; i < kRecordsPerPage; ++i) {
    const std::uint32_t n = page * kRecordsPerPage + i;
    if (n >= tier_.geometry.nodes) return;
    Node& node = tier_.node(n);
    if (node.state.load() != NodeState::resident) continue;
    if (node.generation == 0) node.generation = tier_.header().generation;
    const Entry& entry = table.mapping().entry(node.entry);
    encode_row({n, entry.key, node.offset, node.units, node.frame_bytes,
                entry.first_position, node.generation, entry.layout, node.tenant},
               out.data() + i * kRecordBytes);
  }
}

}  // namespace speckv

// A codec on a card: a layer is copied to where the card reaches it, becomes an ENCODE or
// a DECODE, and is copied back. Nothing that the card answers is believed beyond what can
// be seen here.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "cxlspeckv/guarded.hpp"

#include "device/card_coder.hpp"
#include "device/os.hpp"
#include "device/uri.hpp"
#include "engine/coded_checksum.hpp"

namespace speckv {

using namespace engine;

namespace {

constexpr std::size_t kPage = 4096;
// How often a queue whose completion does not come is asked for its state.
constexpr std::chrono::milliseconds kLook{100};

// A card and a frame number codecs alike, and data types and kinds of block as
// BlockLayout.
static_assert(static_cast<int>(CodecId::int8) == codec::kInt8 &&
              static_cast<int>(CodecId::int8_delta_rle) == codec::kInt8DeltaRle &&
              static_cast<int>(CodecId::kvq4) == codec::kKvq4);

}  // namespace

using Coder = CardCodec::Coder;

Result<std::unique_ptr<Coder>> Coder::start(std::unique_ptr<CardPort> port,
                                            std::chrono::nanoseconds timeout) {
  std::unique_ptr<Coder> coder(new Coder(std::move(port), timeout));
  if (Status ready = coder->set_up(); !ready.ok()) return ready;
  return coder;
}

Status Coder::set_up() {
  storage_.resize(2 * kRoom + kPage);
  void* at = storage_.data();
  std::size_t left = storage_.size();
  auto* pages = static_cast<std::byte*>(std::align(kPage, 2 * kRoom, at, left));
  from_ = {pages, kRoom};
  to_ = {pages + kRoom, kRoom};
  auto region = port_->add_region({pages, 2 * kRoom});
  if (!region.ok()) return region.error();
  region_ = *region;
  auto queue = port_->open_queue(2);
  if (!queue.ok()) {
    port_->drop_region(region_.number);
    return queue.error();
  }
  queue_ = *std::move(queue);
  return {};
}

Coder::~Coder() {
  if (queue_ == nullptr) return;
  queue_.reset();  // so that nothing names the region any more
  port_->drop_region(region_.number);
}

bool Coder::checks() const noexcept {
  return (port_->features() & feature::kCrc) != 0;
}

Descriptor Coder::describe(Opcode opcode, CodecId codec, const BlockLayout& layout,
                           std::size_t length, std::size_t room) noexcept {
  Descriptor d;
  d.opcode = static_cast<std::uint8_t>(opcode);
  d.codec = static_cast<std::uint8_t>(codec);
  d.dtype = static_cast<std::uint8_t>(layout.dtype);
  d.kind = static_cast<std::uint8_t>(layout.kind);
  d.heads = static_cast<std::uint16_t>(layout.kv_heads);
  d.head_dim = static_cast<std::uint16_t>(layout.head_dim);
  d.tokens = static_cast<std::uint16_t>(layout.tokens);
  d.length = static_cast<std::uint32_t>(length);
  d.room = static_cast<std::uint32_t>(room);
  d.src_region = d.dst_region = region_.number;
  d.src_offset = region_.first;
  d.dst_offset = region_.first + kRoom;
  return d;
}

std::optional<CompletionEntry> Coder::await() {
  const auto deadline = deadline_after(timeout_);
  while (queue_->health() == CardQueue::Health::good && !queue_->lost()) {
    if (const auto entry = queue_->ring().take()) return entry;
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) break;
    if (!queue_->ring().arm()) continue;
    queue_->await(std::min<std::chrono::nanoseconds>(left, kLook));
    if (!queue_->ring().ready()) queue_->look();
  }
  return std::nullopt;
}

std::optional<CompletionEntry> Coder::carry_out(Descriptor& d) {
  const auto good = [&] {
    return queue_->health() == CardQueue::Health::good && !queue_->lost();
  };
  if (!good() && (!queue_->restart() || !good())) return std::nullopt;
  d.tag = ++tag_;
  queue_->ring().push(d);
  ++stats_.descriptors;
  if (queue_->ring().publish()) queue_->kick();
  const auto entry = await();
  if (!entry || entry->tag != d.tag) {
    // It does not answer, or not to this. Stopped, it lets go of the memory.
    (void)queue_->restart();
    return std::nullopt;
  }
  const auto answer = static_cast<Answer>(completion::kStatusCode.get(entry->status));
  if (answer != Answer::ok || entry->result > d.room) return std::nullopt;
  return entry;
}

std::optional<std::size_t> Coder::encode(CodecId codec, const BlockLayout& layout,
                                         Bytes plain, MutableBytes to) {
  if (plain.size() > kRoom || to.size() > kRoom) return std::nullopt;
  const std::lock_guard lock(turn_);
  std::copy(plain.begin(), plain.end(), from_.begin());
  Descriptor d = describe(Opcode::encode, codec, layout, plain.size(), to.size());
  const auto done = carry_out(d);
  if (!done || done->result == 0) return std::nullopt;
  // Checked where they end up: the card could write to its room again.
  const MutableBytes coded = to.first(done->result);
  std::copy_n(to_.begin(), coded.size(), coded.begin());
  if (checks() && coded_checksum(coded) != done->crc) return std::nullopt;
  stats_.encode_in += plain.size();
  stats_.encode_out += coded.size();
  return coded.size();
}

bool Coder::decode(CodecId codec, const BlockLayout& layout, Bytes coded,
                   MutableBytes plain) {
  if (plain.size() > kRoom || coded.size() > kRoom || coded.empty()) return false;
  const std::lock_guard lock(turn_);
  std::copy(coded.begin(), coded.end(), from_.begin());
  Descriptor d = describe(Opcode::decode, codec, layout, coded.size(), plain.size());
  if (checks()) {
    d.flags = flag::kCheck;
    d.crc = coded_checksum(coded);
  }
  const auto done = carry_out(d);
  if (!done || done->result != plain.size()) return false;
  std::copy_n(to_.begin(), plain.size(), plain.begin());
  stats_.decode_in += coded.size();
  stats_.decode_out += plain.size();
  return true;
}

void Coder::done_on_host() {
  const std::lock_guard lock(turn_);
  ++stats_.on_host;
}

CardCodecStats Coder::stats() {
  const std::lock_guard lock(turn_);
  return stats_;
}

namespace {

Result<std::unique_ptr<CardPort>> open_port(const DeviceUri& uri) {
  if (uri.scheme == Scheme::cxl) return open_driver_port(uri);
  auto card = open_soft_card(uri);
  if (!card.ok()) return card.error();
  return std::move(card->port);
}

Result<std::unique_ptr<CardCodec>> open_codec(std::string_view name, CodecId id) {
  auto uri = parse_uri(name == "soft:" ? "soft:1M" : name);
  if (!uri.ok()) return uri.error();
  const bool card = uri->scheme == Scheme::cxl, soft = uri->scheme == Scheme::soft;
  if ((!card && !soft) || uri->throttle || (card && uri->size != 0)) {
    return Status(
        Code::invalid_argument,
        "codec on \"" + uri->text +
            "\": soft: and cxl:/dev/speckvN have one; without size and throttle");
  }
  const Codec* host = find_codec(id);
  if (host == nullptr) return Status(Code::not_found, "no codec has that number");
  auto port = open_port(*uri);
  if (!port.ok()) return port.error();
  const auto bit = static_cast<unsigned>(id);
  if (bit > 63 || ((*port)->codecs() >> bit & 1) == 0) {
    return Status(Code::unsupported,
                  uri->text + ": this card has no " + std::string(host->name()));
  }
  auto coder = Coder::start(*std::move(port), uri->timeout);
  if (!coder.ok()) return coder.error();
  return std::make_unique<CardCodec>(*host, *std::move(coder));
}

}  // namespace

Result<std::unique_ptr<CardCodec>> CardCodec::open(std::string_view uri, CodecId codec) {
  return guarded([&] { return open_codec(uri, codec); });
}

CardCodec::CardCodec(const Codec& host, std::unique_ptr<Coder> coder) noexcept
    : host_(host), coder_(std::move(coder)) {}
CardCodec::~CardCodec() = default;

CardCodecStats CardCodec::stats() const noexcept {
  return coder_->stats();
}
CodecId CardCodec::id() const noexcept {
  return host_.id();
}
std::string_view CardCodec::name() const noexcept {
  return host_.name();
}
bool CardCodec::supports(const BlockLayout& layout) const noexcept {
  return host_.supports(layout);
}
std::uint64_t CardCodec::max_layer_bytes(const BlockLayout& layout) const noexcept {
  return host_.max_layer_bytes(layout);
}

Result<std::size_t> CardCodec::encode(const LayerContext& context, Bytes plain,
                                      MutableBytes out) const noexcept {
  const std::uint64_t most = host_.max_layer_bytes(context.layout);
  const auto used = coder_->encode(id(), context.layout, plain, out.first(most));
  if (used) return *used;
  coder_->done_on_host();
  return host_.encode(context, plain, out);
}

Code CardCodec::decode(const LayerContext& context, Bytes encoded,
                       MutableBytes plain) const noexcept {
  if (coder_->decode(id(), context.layout, encoded, plain)) return Code::ok;
  coder_->done_on_host();
  return host_.decode(context, encoded, plain);
}

}  // namespace speckv

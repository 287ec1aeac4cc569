// device/card_coder.hpp -- ENCODE and DECODE of a card, one layer at a time.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <vector>

#include "cxlspeckv/card_codec.hpp"

#include "device/card_port.hpp"

namespace speckv {

// Any thread.
class CardCodec::Coder {
 public:
  // A layer, and one coded, are at most so long.
  static constexpr std::size_t kRoom = 1U << 20;

  static Result<std::unique_ptr<Coder>> start(std::unique_ptr<CardPort> port,
                                              std::chrono::nanoseconds timeout);
  ~Coder();

  // Bytes written to `to`; nothing: the card did not do it.
  std::optional<std::size_t> encode(CodecId codec, const BlockLayout& layout, Bytes plain,
                                    MutableBytes to);
  bool decode(CodecId codec, const BlockLayout& layout, Bytes coded, MutableBytes plain);

  void done_on_host();
  CardCodecStats stats();

 private:
  explicit Coder(std::unique_ptr<CardPort> port, std::chrono::nanoseconds timeout)
      : port_(std::move(port)), timeout_(timeout) {}
  Status set_up();
  bool checks() const noexcept;
  engine::Descriptor describe(engine::Opcode opcode, CodecId codec,
                              const BlockLayout& layout, std::size_t length,
                              std::size_t room) noexcept;
  // The completion of a descriptor that went well, and wrote no more than it may.
  std::optional<engine::CompletionEntry> carry_out(engine::Descriptor& descriptor);
  std::optional<engine::CompletionEntry> await();

  const std::unique_ptr<CardPort> port_;
  const std::chrono::nanoseconds timeout_;
  std::vector<std::byte> storage_{};
  MutableBytes from_{}, to_{};  // of storage_: what the card reads, and writes
  CardPort::Region region_{};
  std::mutex turn_;  // guards what follows, and the two
  std::unique_ptr<CardQueue> queue_{};
  std::uint16_t tag_ = 0;
  CardCodecStats stats_{};
};

}  // namespace speckv

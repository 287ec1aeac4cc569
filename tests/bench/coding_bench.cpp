// Encoding and decoding from memory to memory against memcpy of the same blocks.
//
// One thread; the plain side, the encoded side and memcpy's target are each larger than
// any cache (the plain ones 1 GiB), and layers are coded as a store codes large blocks:
// decoded values bypass the caches. Ratios are medians of interleaved pairs, in bytes of
// plain data. Codecs that search while they encode are timed on 16 MiB of that, and
// decode copies of the result.
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cxlspeckv/codec.hpp"

#include "bench/report.hpp"
#include "codec/kernels.hpp"
#include "support/blocks.hpp"

namespace speckv::bench {
namespace {

constexpr std::size_t kSide = 1ULL << 30;
constexpr int kPairs = 5;

constexpr BlockLayout layout_of(DType dtype) {
  return {.layers = 1, .kv_heads = 8, .head_dim = 128, .tokens = 64, .dtype = dtype};
}

// Memory that starts on a cache line, every page of it touched.
class Side {
 public:
  explicit Side(std::size_t bytes) : storage_(bytes + 64) {
    const auto at = reinterpret_cast<std::uintptr_t>(storage_.data());
    memory = MutableBytes(storage_).subspan(64 - at % 64, bytes);
  }
  MutableBytes memory;

 private:
  std::vector<std::byte> storage_;
};

class Bench {
 public:
  Bench(const Codec& codec, DType dtype, bool searches, MutableBytes from,
        MutableBytes to)
      : codec_(codec),
        layout_(layout_of(dtype)),
        size_(layout_.layer_bytes()),
        slot_(codec.max_layer_bytes(layout_)),
        from_(from),
        to_(to),
        encoded_(searches ? kDistinct : kSide / size_),
        coded_(kSide / size_ * slot_),
        used_(kSide / size_) {
    for (std::size_t i = 0; i < blocks(); ++i) {
      if (i < kDistinct) {
        const auto plain = test::make_block(layout_, test::Fill::offset, i);
        std::memcpy(from_.data() + i * size_, plain.data(), size_);
      } else {
        std::memcpy(from_.data() + i * size_, from_.data() + i % kDistinct * size_,
                    size_);
      }
    }
  }

  double copy() {
    return seconds_of([&] {
      for (std::size_t i = 0; i < blocks(); ++i)
        std::memcpy(to_.data() + i * size_, from_.data() + i * size_, size_);
    });
  }
  // Of all blocks, as far as a part of them tells.
  double encode() {
    const double seconds = seconds_of([&] {
      for (std::size_t i = 0; i < encoded_; ++i) {
        const auto used =
            codec_.encode({layout_}, from_.subspan(i * size_, size_), slot(i));
        if (!used) give_up();
        used_[i] = *used;
      }
    });
    return seconds * static_cast<double>(blocks()) / static_cast<double>(encoded_);
  }
  void fill() {
    for (std::size_t i = encoded_; i < blocks(); ++i) {
      used_[i] = used_[i % encoded_];
      std::memcpy(slot(i).data(), slot(i % encoded_).data(), used_[i]);
    }
  }
  double decode() {
    LayerContext context{layout_};
    context.stream = true;
    return seconds_of([&] {
      for (std::size_t i = 0; i < blocks(); ++i) {
        if (codec_.decode(context, slot(i).first(used_[i]),
                          to_.subspan(i * size_, size_)) != Code::ok)
          give_up();
      }
    });
  }

 private:
  static constexpr std::size_t kDistinct = 64;
  std::size_t blocks() const { return kSide / size_; }
  MutableBytes slot(std::size_t i) const {
    return coded_.memory.subspan(i * slot_, slot_);
  }
  [[noreturn]] static void give_up() {
    std::fprintf(stderr, "a block could not be coded\n");
    std::exit(1);
  }

  const Codec& codec_;
  const BlockLayout layout_;
  const std::size_t size_, slot_;
  MutableBytes from_, to_;
  const std::size_t encoded_;  // blocks that encode() encodes
  Side coded_;
  std::vector<std::size_t> used_;
};

}  // namespace
}  // namespace speckv::bench

int main(int argc, char** argv) {
  using namespace speckv;
  using namespace speckv::bench;
  Report report(argc, argv);
  Side from(kSide), to(kSide);
  std::printf("kernel: %s\n", std::string(codec_kernel().name).c_str());
  const std::pair<const char*, bool> kCodecs[] = {{"kvq4", false},
                                                  {"int8", false},
                                                  {"rt43", true},
                                                  {"hx4096", true},
                                                  {"lossless", true}};
  for (const auto& [name, searches] : kCodecs) {
    for (const DType dtype : {DType::f16, DType::bf16}) {
      Bench bench(*find_codec(name), dtype, searches, from.memory, to.memory);
      (void)bench.encode();  // touches the pages
      bench.fill();
      (void)bench.copy();
      std::vector<double> encoded, decoded;
      for (int pair = 0; pair < kPairs; ++pair) {
        const double before = bench.copy();
        const double encoding = bench.encode();
        const double between = bench.copy();
        const double decoding = bench.decode();
        const double after = bench.copy();
        encoded.push_back((before + between) / 2 / encoding);
        decoded.push_back((between + after) / 2 / decoding);
      }
      const std::string what =
          std::string(name) + (dtype == DType::f16 ? "_f16" : "_bf16");
      const std::string base = "memcpy of the same blocks, 1 GiB a side, one thread";
      report.add(what + "_encode", median(encoded), "ratio", base);
      report.add(what + "_decode", median(decoded), "ratio", base);
    }
  }
  return report.finish();
}

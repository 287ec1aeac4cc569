// Encoding and decoding from memory to memory against memcpy of the same blocks.
//
// One thread; the plain side, the encoded side and memcpy's target are each larger than
// any cache (the plain ones 1 GiB), and layers are coded as a store codes large blocks:
// decoded values bypass the caches. Ratios are medians of interleaved pairs, in bytes of
// plain data. Codecs that search while they encode are timed on 16 MiB of that, and
// decode copies of the result. General compressors, where their libraries are, take the
// same blocks, one by one.
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#if SPECKV_WITH_LZ4
#include <lz4.h>
#endif
#if SPECKV_WITH_ZSTD
#include <zstd.h>
#endif

#include "cxlspeckv/codec.hpp"

#include "bench/report.hpp"
#include "codec/kernels.hpp"
#include "support/blocks.hpp"
#include "support/profiles.hpp"

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
        profile_(test::random_profile(layout_, 1)),
        from_(from),
        to_(to),
        encoded_(searches ? kDistinct : kSide / size_),
        coded_(kSide / size_ * slot_),
        used_(kSide / size_) {
    for (std::size_t i = 0; i < blocks(); ++i) {
      if (i < kDistinct) {
        // Means are what a profile of the model would tell; this one is of none.
        const bool means = !codec.name().starts_with("hxp");
        const auto plain =
            test::make_block(layout_, means ? test::Fill::offset : test::Fill::normal, i);
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
            codec_.encode(context(i), from_.subspan(i * size_, size_), slot(i));
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
    return seconds_of([&] {
      for (std::size_t i = 0; i < blocks(); ++i) {
        LayerContext at = context(i);
        at.stream = true;
        if (codec_.decode(at, slot(i).first(used_[i]), to_.subspan(i * size_, size_)) !=
            Code::ok)
          give_up();
      }
    });
  }

 private:
  static constexpr std::size_t kDistinct = 64;
  std::size_t blocks() const { return kSide / size_; }
  // For hxp; all others ask for nothing but the layout. Copies stand where they stood.
  LayerContext context(std::size_t i) const {
    const auto position = static_cast<std::uint32_t>(i % encoded_ * layout_.tokens);
    return {layout_, 0, position, profile_};
  }
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
  const std::vector<std::byte> profile_;
  MutableBytes from_, to_;
  const std::size_t encoded_;  // blocks that encode() encodes
  Side coded_;
  std::vector<std::size_t> used_;
};

// A general compressor: bytes written, 0 for a failure.
struct Compressor {
  const char* name;
  std::size_t (*bound)(std::size_t);
  std::size_t (*compress)(Bytes, MutableBytes);
  std::size_t (*decompress)(Bytes, MutableBytes);
};
#if SPECKV_WITH_LZ4
char* chars(const std::byte* bytes) {  // lz4 has no other type for bytes
  return const_cast<char*>(reinterpret_cast<const char*>(bytes));
}
#endif
const Compressor kCompressors[] = {
#if SPECKV_WITH_LZ4
    {"lz4",
     [](std::size_t n) {
       return static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(n)));
     },
     [](Bytes from, MutableBytes to) {
       return static_cast<std::size_t>(LZ4_compress_default(
           chars(from.data()), chars(to.data()), static_cast<int>(from.size()),
           static_cast<int>(to.size())));
     },
     [](Bytes from, MutableBytes to) {
       return static_cast<std::size_t>(LZ4_decompress_safe(
           chars(from.data()), chars(to.data()), static_cast<int>(from.size()),
           static_cast<int>(to.size())));
     }},
#endif
#if SPECKV_WITH_ZSTD
    {"zstd1", [](std::size_t n) { return ZSTD_compressBound(n); },
     [](Bytes from, MutableBytes to) {
       const std::size_t used =
           ZSTD_compress(to.data(), to.size(), from.data(), from.size(), 1);
       return ZSTD_isError(used) != 0 ? 0 : used;
     },
     [](Bytes from, MutableBytes to) {
       const std::size_t used =
           ZSTD_decompress(to.data(), to.size(), from.data(), from.size());
       return ZSTD_isError(used) != 0 ? 0 : used;
     }},
#endif
    {nullptr, nullptr, nullptr, nullptr}};

// `lossless` and the general compressors on the same blocks, in turns: how much smaller,
// and how much faster than the compressor `lossless` is.
void compare(Report& report, DType dtype) {
  constexpr std::size_t kBlocks = 64;
  const BlockLayout layout = layout_of(dtype);
  const Codec& codec = *find_codec("lossless");
  const std::size_t size = layout.layer_bytes();
  std::vector<std::vector<std::byte>> plain, ours, theirs;
  std::vector<std::byte> back(size);
  std::vector<std::size_t> used(kBlocks);
  for (std::size_t i = 0; i < kBlocks; ++i) {
    plain.push_back(test::make_block(layout, test::Fill::normal, i));
    ours.emplace_back(codec.max_layer_bytes(layout));
  }
  const auto encode = [&] {
    for (std::size_t i = 0; i < kBlocks; ++i)
      ours[i].resize(*codec.encode({layout}, plain[i], ours[i]));
  };
  const auto again = [&] {
    for (auto& block : ours)
      block.resize(codec.max_layer_bytes(layout));
    return seconds_of(encode);
  };
  const auto decode = [&] {
    for (std::size_t i = 0; i < kBlocks; ++i) {
      if (codec.decode({layout}, ours[i], back) != Code::ok) std::exit(1);
    }
  };
  const std::string of = dtype == DType::f16 ? "_f16" : "_bf16";
  const auto ratio = [&](const auto& sizes) {
    double bytes = 0;
    for (const auto& each : sizes)
      bytes += static_cast<double>(each);
    return static_cast<double>(kBlocks * size) / bytes;
  };
  (void)again();
  for (std::size_t i = 0; i < kBlocks; ++i)
    used[i] = ours[i].size();
  report.add("lossless" + of + "_ratio", ratio(used), "ratio", "plain bytes");
  for (const Compressor* other = kCompressors; other->name != nullptr; ++other) {
    theirs.assign(kBlocks, std::vector<std::byte>(other->bound(size)));
    std::vector<double> encoding, decoding;
    for (int pair = 0; pair < kPairs; ++pair) {
      const double compressing = seconds_of([&] {
        for (std::size_t i = 0; i < kBlocks; ++i)
          used[i] = other->compress(plain[i], theirs[i]);
      });
      encoding.push_back(compressing / again());
      const double decompressing = seconds_of([&] {
        for (std::size_t i = 0; i < kBlocks; ++i) {
          if (other->decompress(Bytes(theirs[i]).first(used[i]), back) != size)
            std::exit(1);
        }
      });
      decoding.push_back(decompressing / seconds_of(decode));
    }
    const std::string name = other->name;
    report.add(name + of + "_ratio", ratio(used), "ratio", "plain bytes");
    report.add("lossless" + of + "_encode_over_" + name, median(encoding), "ratio",
               name + " on the same blocks, 16 MiB of bell curves, one thread");
    report.add("lossless" + of + "_decode_over_" + name, median(decoding), "ratio",
               name + " on the same blocks");
  }
}

}  // namespace
}  // namespace speckv::bench

int main(int argc, char** argv) {
  using namespace speckv;
  using namespace speckv::bench;
  Report report(argc, argv);
  Side from(kSide), to(kSide);
  std::printf("kernel: %s\n", std::string(codec_kernel().name).c_str());
  const std::pair<const char*, bool> kCodecs[] = {{"kvq4", false},   {"int8", false},
                                                  {"rt43", true},    {"hx4096", true},
                                                  {"hxp4096", true}, {"lossless", true}};
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
  for (const DType dtype : {DType::f16, DType::bf16})
    compare(report, dtype);
#if !SPECKV_WITH_ZSTD
  report.skip("lossless_f16_decode_over_zstd1", "libzstd is not installed");
#endif
  return report.finish();
}

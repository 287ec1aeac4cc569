// Every codec kernel gives the bits of the definition: for data of every temper, for
// bytes that no encoder wrote, and whatever floating-point mode the calling thread is in.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "codec/builtin.hpp"
#include "codec/kernels.hpp"
#include "support/blocks.hpp"
#include "support/codec_promise.hpp"
#include "support/profiles.hpp"
#include "support/sample.hpp"

namespace speckv {
namespace {

using test::Fill;
using Block = std::vector<std::byte>;
using Kind = BlockLayout::Kind;

const BlockLayout kLayouts[] = {
    {1, 2, 128, 64, DType::f16, Kind::kv},
    {1, 2, 128, 64, DType::bf16, Kind::kv},
    {1, 3, 64, 16, DType::f16, Kind::interleaved},
    {1, 3, 64, 19, DType::bf16, Kind::interleaved},
    {1, 1, 80, 33, DType::f16, Kind::kv},
    {1, 1, 112, 17, DType::bf16, Kind::kv},
    {1, 1, 16, 17, DType::f16, Kind::kv},
    {1, 1, 256, 40, DType::bf16, Kind::kv},
    {1, 1, 576, 16, DType::f16, Kind::latent},
    {1, 1, 512, 20, DType::bf16, Kind::latent},
    {1, 5, 80, 18, DType::f16, Kind::kv},  // hx: more units than are decoded at once
    {1, 2, 7, 5, DType::f16, Kind::kv},    // int8 only, and all tail
    {1, 1, 100, 3, DType::bf16, Kind::latent},
    {1, 2, 300, 6, DType::f16, Kind::kv},  // more channels than lossless takes at once
    {1, 2, 80, 17, DType::f32, Kind::kv},  // lossless only
    {1, 1, 64, 16, DType::f8e4m3, Kind::kv},
};

// Puts the kernel in use, and the old choice back.
class Using {
 public:
  explicit Using(std::string_view name) : usable_(set_codec_kernel(name)) {}
  ~Using() { set_codec_kernel(""); }
  Using(const Using&) = delete;
  Using& operator=(const Using&) = delete;
  bool usable() const { return usable_; }

 private:
  bool usable_;
};

// Puts the thread in one of the four rounding modes, with all that flushes small numbers.
class StrangeFloats {
 public:
  explicit StrangeFloats(std::uint32_t rounding) : before_(mode()) {
    set_mode((before_ & ~(3U << kRoundingAt)) | rounding << kRoundingAt | kFlush);
  }
  ~StrangeFloats() { set_mode(before_); }
  StrangeFloats(const StrangeFloats&) = delete;
  StrangeFloats& operator=(const StrangeFloats&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr std::uint32_t kRoundingAt = 13, kFlush = 0x8040;  // FTZ, DAZ
  static std::uint32_t mode() {
    return _mm_getcsr();
  }
  static void set_mode(std::uint32_t mode) {
    _mm_setcsr(mode);
  }
#elif defined(__aarch64__)
  static constexpr std::uint32_t kRoundingAt = 22, kFlush = 0x07080000;  // FZ16 to AHP
  static std::uint32_t mode() {
    std::uint64_t fpcr = 0;
    asm volatile("mrs %0, fpcr" : "=r"(fpcr));
    return static_cast<std::uint32_t>(fpcr);
  }
  static void set_mode(std::uint32_t mode) {
    asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{mode}) : "memory");
  }
#endif
  std::uint32_t before_;
};

// What an encoder made of a block: empty if it refused.
Block encoded(const Codec& codec, const LayerContext& context, const Block& plain) {
  Block out(codec.max_layer_bytes(context.layout), std::byte{0x5A});
  const auto used = codec.encode(context, plain, out);
  out.resize(used ? *used : 0);
  return out;
}

// The decoded block, or empty; one that starts on a cache line, so that it can be
// streamed.
Block decoded(const Codec& codec, LayerContext context, const Block& bytes,
              bool stream = false) {
  const std::uint64_t size = context.layout.layer_bytes();
  Block memory(size + 64, std::byte{0x5A});
  const std::size_t gap = 64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64;
  const MutableBytes plain = MutableBytes(memory).subspan(gap, size);
  context.stream = stream;
  if (codec.decode(context, bytes, plain) != Code::ok) return {};
  return {plain.begin(), plain.end()};
}

// 16-bit values with any bits; or near one magnitude; or a mix of the two.
Block wild_block(const BlockLayout& layout, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Block plain(layout.layer_bytes());
  const std::uint32_t infinity = test::format_of(layout.dtype).infinity();
  const auto center = static_cast<std::uint32_t>(random() % infinity);
  const std::uint64_t spread = 1ULL << (random() % 12);
  const std::uint64_t mix = random() % 3;
  for (std::size_t i = 0; i < plain.size(); i += 2) {
    auto bits = static_cast<std::uint32_t>(random() % infinity);
    if (mix == 0 || (mix == 1 && random() % 16 != 0))
      bits = std::min<std::uint32_t>(
          center + static_cast<std::uint32_t>(random() % spread), infinity - 1);
    if (random() % 64 == 0) bits = static_cast<std::uint32_t>(random() % 3);
    bits |= (random() & 1) != 0 ? 0x8000U : 0U;
    const auto value = static_cast<std::uint16_t>(bits);
    std::memcpy(plain.data() + i, &value, 2);
  }
  return plain;
}

// Codecs whose inner loops exist for each kernel; of rt two, which have all rates, of hx
// and hxp the smallest and the largest slots.
bool has_kernels(CodecId id) {
  switch (id) {
    case CodecId::int8:
    case CodecId::int8_delta_rle:
    case CodecId::kvq4:
    case CodecId::lossless:
    case CodecId::rt44:
    case CodecId::rt32:
    case CodecId::hx5120:
    case CodecId::hx3072:
    case CodecId::hxp5120:
    case CodecId::hxp3360:
      return true;
    default:
      return false;
  }
}
// Of random blocks; searching a trellis takes a while.
std::uint64_t rounds(const Codec& codec, std::uint64_t most) {
  return test::sampled(test::is_bounded(codec) ? most : most / 20);
}

struct Case {
  std::size_t kernel, layout;
};

class CodecKernelConformance : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!kernel().usable()) GTEST_SKIP() << "this machine cannot run " << kernel().name;
    if (takes_profiles()) profile_ = test::random_profile(layout(), 1);
  }
  bool takes_profiles() const {
    return hxp_codecs()[0]->supports(layout()) && layout().kind != Kind::latent;
  }
  // What hxp wants to know.
  LayerContext context() const { return {layout(), 0, position_, profile_}; }
  const CodecKernel& kernel() const { return codec_kernels()[GetParam().kernel]; }
  const BlockLayout& layout() const { return kLayouts[GetParam().layout]; }

  std::vector<const Codec*> codecs() const {
    std::vector<const Codec*> some;
    for (const Codec* codec : builtin_codecs()) {
      if (has_kernels(codec->id()) && codec->supports(layout())) some.push_back(codec);
    }
    return some;
  }

  // The same answers from the definition and from the kernel.
  void compare_encoding(const Codec& codec, const Block& plain, const std::string& what) {
    const Block expected = by("scalar", [&] { return encoded(codec, context(), plain); });
    const Block got = by(kernel().name, [&] { return encoded(codec, context(), plain); });
    ASSERT_TRUE(got == expected) << codec.name() << " encodes " << what << " otherwise";
    if (!expected.empty()) compare_decoding(codec, expected, what);
  }
  void compare_decoding(const Codec& codec, const Block& bytes, const std::string& what) {
    const Block expected = by("scalar", [&] { return decoded(codec, context(), bytes); });
    const Block got = by(kernel().name, [&] { return decoded(codec, context(), bytes); });
    ASSERT_TRUE(got == expected) << codec.name() << " decodes " << what << " otherwise";
    const Block streamed =
        by(kernel().name, [&] { return decoded(codec, context(), bytes, true); });
    ASSERT_TRUE(streamed == expected) << codec.name() << " streams " << what;
  }
  template <class Work>
  static Block by(std::string_view name, Work&& work) {
    const Using kernel(name);
    return kernel.usable() ? work() : Block{std::byte{1}};
  }

  std::uint32_t position_ = 1000;
  Block profile_;
};

TEST_P(CodecKernelConformance, data_of_every_temper) {
  for (const Codec* codec : codecs()) {
    for (const Fill fill : test::kFills) {
      for (std::uint64_t seed = 1;
           seed <= test::sampled(test::is_bounded(*codec) ? 4 : 1); ++seed)
        compare_encoding(*codec, test::make_block(layout(), fill, seed),
                         "fill " + std::to_string(static_cast<int>(fill)));
    }
  }
}

TEST_P(CodecKernelConformance, any_finite_numbers_and_now_and_then_one_that_is_not) {
  for (const Codec* codec : codecs()) {
    for (std::uint64_t seed = 0; seed < rounds(*codec, 300); ++seed) {
      Block plain = wild_block(layout(), seed);
      if (seed % 10 == 9) {  // a NaN or an infinity somewhere
        std::mt19937_64 random(seed);
        const auto bad =
            static_cast<std::uint16_t>(test::format_of(layout().dtype).infinity() |
                                       (random() % 4) | (random() % 2) << 15);
        std::memcpy(plain.data() + random() % (plain.size() / 2) * 2, &bad, 2);
      }
      compare_encoding(*codec, plain, "wild block " + std::to_string(seed));
    }
  }
}

TEST_P(CodecKernelConformance, bytes_that_no_encoder_wrote) {
  for (const Codec* codec : codecs()) {
    const Block sound =
        encoded(*codec, context(), test::make_block(layout(), Fill::normal, 1));
    for (std::uint64_t seed = 0; seed < rounds(*codec, 200); ++seed) {
      std::mt19937_64 random(seed);
      Block bytes = sound;
      const std::uint64_t changes = 1 + random() % 64;
      for (std::uint64_t i = 0; i < changes; ++i)
        bytes[random() % bytes.size()] = static_cast<std::byte>(random());
      compare_decoding(*codec, bytes, "mutant " + std::to_string(seed));
    }
  }
}

TEST_P(CodecKernelConformance, whatever_the_rounding_and_denormal_mode) {
  for (std::uint32_t rounding = 0; rounding < 4; ++rounding) {
    for (const Codec* codec : codecs()) {
      for (std::uint64_t seed = 1000; seed < 1000 + rounds(*codec, 30); ++seed) {
        const Block plain = wild_block(layout(), seed);
        const Block expected =
            by("scalar", [&] { return encoded(*codec, context(), plain); });
        const Block restored =
            by("scalar", [&] { return decoded(*codec, context(), expected); });
        Block got, back;
        {
          const Using kernel(this->kernel().name);
          const StrangeFloats strange(rounding);
          got = encoded(*codec, context(), plain);
          back = decoded(*codec, context(), expected);
        }
        ASSERT_TRUE(got == expected) << codec->name() << " encodes by its mode";
        ASSERT_TRUE(back == restored) << codec->name() << " decodes by its mode";
      }
    }
  }
}

TEST_P(CodecKernelConformance, any_profile_behind_a_right_header_and_any_position) {
  if (!takes_profiles()) return;
  const Block sound = profile_;
  for (std::uint64_t seed = 0; seed < test::sampled(24); ++seed) {
    std::mt19937_64 random(seed);
    position_ = seed % 4 == 0 ? kNoPosition - 300 : static_cast<std::uint32_t>(random());
    profile_ = sound;
    if (seed % 3 != 0) {
      ProfileShape shape = test::shape_for(layout());  // some that do not turn in vectors
      shape.pairs -= static_cast<std::uint32_t>(random() % (shape.pairs + 1));
      profile_ = *test::write_parts(shape, test::random_parts(shape, seed));
    }
    if (seed % 2 == 1) {  // any bits, all over or here and there
      const std::uint64_t every = seed % 4 == 1 ? 1 : 50;
      for (std::size_t at = ModelProfile::kHead; at < profile_.size(); ++at) {
        if (random() % every == 0) profile_[at] = static_cast<std::byte>(random());
      }
    }
    const Block plain = seed % 8 < 5 ? test::make_block(layout(), Fill::offset, seed)
                                     : wild_block(layout(), seed);
    for (const Codec* codec : hxp_codecs())
      compare_encoding(*codec, plain, "profile " + std::to_string(seed));
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (std::size_t k = 0; k < codec_kernels().size(); ++k) {
    for (std::size_t l = 0; l < std::size(kLayouts); ++l)
      all.push_back({k, l});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Every, CodecKernelConformance, ::testing::ValuesIn(cases()),
                         [](const auto& c) {
                           return std::string(codec_kernels()[c.param.kernel].name) +
                                  "_" + std::to_string(c.param.layout);
                         });

}  // namespace
}  // namespace speckv

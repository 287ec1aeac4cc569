// rt by its definition, whatever the instruction set.
#include "codec/rt_decode.hpp"

namespace speckv {
namespace {

// Apart, so that each is compiled for what it depends on only.
template <class F>
bool prepare(const RtShape& shape, const std::byte* plain, rt::Work& work) noexcept {
  return rt::prepare_unit<F>(shape, plain, work);
}
template <std::uint32_t rate>
void write(const RtShape& shape, const rt::Work& work, std::byte* unit) noexcept {
  rt::write_unit<rate>(shape, work, unit);
}
template <class F, std::uint32_t rate>
bool encode(const RtShape& shape, const std::byte* plain, std::byte* unit) noexcept {
  rt::Work work;
  if (!prepare<F>(shape, plain, work)) return false;
  write<rate>(shape, work, unit);
  return true;
}
template <class F, std::uint32_t rate>
bool decode(const RtShape& shape, Bytes unit, std::byte* plain,
            bool /*stream*/) noexcept {
  return rt::decode_unit<F, rate>(shape, unit, plain);
}

template <class F>
constexpr RtLoops kLoops{{encode<F, 2>, encode<F, 3>, encode<F, 4>},
                         {decode<F, 2>, decode<F, 3>, decode<F, 4>}};

}  // namespace

namespace codec_detail {
const RtLoops kRtScalarF16 = kLoops<number::F16>, kRtScalarBf16 = kLoops<number::Bf16>;
}  // namespace codec_detail

}  // namespace speckv

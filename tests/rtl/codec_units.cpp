#include "rtl/codec_units.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

namespace speckv::rtl {
namespace {

using Bytes8 = std::vector<std::uint8_t>;

std::uint64_t padded(std::uint64_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// A layer of one head: of latent rows, or of K (and V, which is left at zero).
BlockLayout layout_of(const Shape& s) {
  return {1,
          1,
          s.channels,
          s.tokens,
          s.bf16 ? DType::bf16 : DType::f16,
          s.keys ? BlockLayout::Kind::kv : BlockLayout::Kind::latent};
}

const Codec& codec_of(const Shape& s) {
  return *find_codec(s.int8 ? CodecId::int8 : CodecId::kvq4);
}

std::uint64_t groups_of(const Shape& s) {
  if (s.keys) return s.channels;
  return s.int8 || s.channels <= 256 ? s.tokens
                                     : std::uint64_t{s.tokens} * s.channels / 64;
}

std::uint64_t encoded_bytes(const Shape& s) {
  const std::uint64_t parameters = padded(groups_of(s) * (s.int8 ? 2 : 4));
  return parameters + padded(s.int8 ? s.values() : s.values() / 2);
}

// The plain layer that holds the unit.
std::vector<std::byte> layer_of(const Shape& s, const Bytes8& plain) {
  std::vector<std::byte> layer(layout_of(s).layer_bytes());
  for (std::size_t i = 0; i < 2 * s.values(); ++i)
    layer[i] = static_cast<std::byte>(plain[i]);
  return layer;
}

// false: the library refuses the values.
bool encode(const Shape& s, const Bytes8& plain, Bytes8& encoded) {
  const BlockLayout layout = layout_of(s);
  std::vector<std::byte> out(codec_of(s).max_layer_bytes(layout));
  const bool ok = codec_of(s).encode({layout}, layer_of(s, plain), out).ok();
  encoded.assign(encoded_bytes(s), 0);
  for (std::size_t i = 0; ok && i < encoded.size(); ++i)
    encoded[i] = std::to_integer<std::uint8_t>(out[i]);
  return ok;
}

bool decode(const Shape& s, const Bytes8& encoded, Bytes8& plain) {
  const BlockLayout layout = layout_of(s);
  std::vector<std::byte> in(codec_of(s).max_layer_bytes(layout)),
      out(layout.layer_bytes());
  const std::vector<std::byte> nothing(layout.layer_bytes());
  if (s.keys && !codec_of(s).encode({layout}, nothing, in).ok()) return false;
  for (std::size_t i = 0; i < encoded.size(); ++i)
    in[i] = static_cast<std::byte>(encoded[i]);
  const bool ok = codec_of(s).decode({layout}, in, out) == Code::ok;
  plain.assign(padded(2 * s.values()), 0);
  for (std::size_t i = 0; ok && i < 2 * s.values(); ++i)
    plain[i] = std::to_integer<std::uint8_t>(out[i]);
  return ok;
}

void put(Bytes8& bytes, std::size_t at, std::uint64_t value) {
  bytes[at] = static_cast<std::uint8_t>(value);
  bytes[at + 1] = static_cast<std::uint8_t>(value >> 8);
}

// Parameters that a decoder accepts, most of them such as no encoder writes: all
// products.
void put_any_parameters(Random& random, const Shape& s, Bytes8& encoded) {
  const std::uint64_t infinity = s.bf16 ? 0x7f80 : 0x7c00;
  for (std::uint64_t g = 0; g < groups_of(s); ++g) {
    put(encoded, g * (s.int8 ? 2 : 4), 1 + random() % (infinity - 1));
    if (!s.int8) put(encoded, 4 * g + 2, random() % (2 * 8176 + 1) - 8176);
  }
}

Bytes8 make_plain(Random& random, const Shape& s) {
  const DType dtype = s.bf16 ? DType::bf16 : DType::f16;
  Bytes8 plain(padded(2 * s.values()));
  // Usually one temper a unit; else another one every few values.
  const bool mixed = random() % 4 == 0;
  test::Fill fill = test::kFills[random() % std::size(test::kFills)];
  for (std::uint64_t i = 0; i < s.values(); ++i) {
    if (mixed && random() % 16 == 0)
      fill = test::kFills[random() % std::size(test::kFills)];
    const std::uint16_t bits = test::make_value(dtype, fill, random, i, s.channels);
    put(plain, 2 * i, bits);
  }
  return plain;
}

}  // namespace

std::string Shape::text() const {
  std::ostringstream text;
  text << (int8   ? "int8"
           : keys ? "kvq4 keys"
                  : "kvq4 values")
       << (bf16 ? " bf16 " : " f16 ") << tokens << " x " << channels;
  return text.str();
}

Shape any_shape(Random& random, bool int8, std::uint64_t values) {
  Shape s;
  s.int8 = int8;
  s.bf16 = random() % 2 == 0;
  const auto below = [&](std::uint64_t n) {
    return static_cast<std::uint32_t>(random() % n);
  };
  do {
    if (int8) {
      constexpr std::uint32_t kUsual[] = {64, 128, 80, 96, 32, 256, 576, 1};
      s.channels = random() % 2 == 0 ? kUsual[below(8)] : 1 + below(300);
      s.tokens = random() % 8 == 0 ? 1 + below(2000) : 1 + below(70);
    } else {
      s.keys = random() % 2 == 0;
      s.channels = random() % 3 != 0 ? 16 * (1 + below(16)) : 64 * (1 + below(16));
      s.tokens = random() % 4 == 0 ? 16 + below(241) : 16 + below(48);
    }
  } while (s.values() > values);
  return s;
}

Unit unit_to_encode(Random& random, const Shape& shape) {
  Unit unit{shape, make_plain(random, shape), {}, false};
  if (random() % 16 == 0) {
    const std::uint16_t infinity = shape.bf16 ? 0x7f80 : 0x7c00;
    const std::uint64_t fraction = random() % 2 == 0 ? 0 : random() % 128;
    put(unit.plain, 2 * (random() % shape.values()),
        infinity | random() % 2 << 15 | fraction);
  }
  unit.bad = !encode(shape, unit.plain, unit.encoded);
  // What follows the last value in its beat is not the unit's.
  for (std::size_t i = 2 * shape.values(); i < unit.plain.size(); ++i)
    unit.plain[i] = static_cast<std::uint8_t>(random());
  return unit;
}

Unit unit_to_decode(Random& random, const Shape& shape) {
  Unit unit{shape, make_plain(random, shape), {}, false};
  encode(shape, unit.plain, unit.encoded);
  switch (random() % 8) {
    case 0:  // one byte, anywhere: parameters, values, padding
      unit.encoded[random() % unit.encoded.size()] = static_cast<std::uint8_t>(random());
      break;
    case 1:  // a parameter
      unit.encoded[random() % (unit.encoded.size() < 128 ? 2 : 128)] =
          static_cast<std::uint8_t>(random());
      break;
    case 2:
      put_any_parameters(random, shape, unit.encoded);
      break;
    default:
      break;
  }
  unit.bad = !decode(shape, unit.encoded, unit.plain);
  return unit;
}

std::vector<Unit> golden_units(const std::string& name, bool decode) {
  std::ifstream file(std::string(SPECKV_TEST_VECTORS) + "/codec_" + name + ".txt");
  std::vector<Unit> units;
  std::map<std::string, Bytes8> part;
  Shape shape;
  std::uint32_t heads = 0;
  std::string line, word, kind, into;
  const auto finish = [&] {
    if (part["encoded"].empty()) return;
    const Bytes8& plain = part[decode ? "decoded" : "plain"];
    std::size_t plain_at = 0, encoded_at = 0;
    for (std::uint32_t u = 0; u < heads * (kind == "latent" ? 1 : 2); ++u) {
      Unit unit{shape, {}, {}, false};
      unit.shape.keys = !shape.int8 && kind != "latent" && u < heads;
      unit.plain.assign(padded(2 * shape.values()), 0);
      std::copy_n(plain.begin() + static_cast<std::ptrdiff_t>(plain_at),
                  2 * shape.values(), unit.plain.begin());
      unit.encoded.resize(encoded_bytes(unit.shape));
      std::copy_n(part["encoded"].begin() + static_cast<std::ptrdiff_t>(encoded_at),
                  unit.encoded.size(), unit.encoded.begin());
      plain_at += 2 * shape.values();
      encoded_at += unit.encoded.size();
      units.push_back(std::move(unit));
    }
    part.clear();
  };
  while (std::getline(file, line)) {
    std::istringstream words(line);
    if (!(words >> word) || word[0] == '#') continue;
    if (word == "case") {
      finish();
      into.clear();
    } else if (word == "layout") {
      shape = {name == "int8", false, false, 0, 0};
      while (words >> word) {
        const std::string value = word.substr(word.find('=') + 1);
        if (word.starts_with("heads="))
          heads = static_cast<std::uint32_t>(std::stoul(value));
        if (word.starts_with("dim="))
          shape.channels = static_cast<std::uint32_t>(std::stoul(value));
        if (word.starts_with("tokens="))
          shape.tokens = static_cast<std::uint32_t>(std::stoul(value));
        if (word.starts_with("dtype=")) shape.bf16 = value == "bf16";
        if (word.starts_with("kind=")) kind = value;
      }
    } else if (word == "plain" || word == "encoded" || word == "decoded") {
      into = word;
    } else if (!into.empty()) {
      for (std::size_t i = 0; i < word.size(); i += 2)
        part[into].push_back(
            static_cast<std::uint8_t>(std::stoul(word.substr(i, 2), nullptr, 16)));
    }
  }
  finish();
  return units;
}

}  // namespace speckv::rtl

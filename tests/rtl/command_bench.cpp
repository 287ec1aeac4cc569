#include "rtl/command_bench.hpp"

#include "base/endian.hpp"

namespace speckv::rtl {
namespace {

// What goes to the target; nothing if the layer cannot be coded.
std::optional<std::vector<std::byte>> output(const Job& job, Bytes source) {
  const Codec& codec = *find_codec(job.int8 ? CodecId::int8 : CodecId::kvq4);
  std::vector<std::byte> out;
  switch (job.kind) {
    case Job::fill:
      for (std::uint64_t i = 0; i < job.target.bytes; ++i)
        out.push_back(static_cast<std::byte>(job.pattern >> i % 8 * 8));
      return out;
    case Job::encode: {
      EXPECT_EQ(source.size(), job.layout.layer_bytes());
      out.resize(codec.max_layer_bytes(job.layout));
      const auto used = codec.encode({job.layout}, source, out);
      if (!used.ok()) return std::nullopt;
      out.resize(*used);
      return out;
    }
    case Job::decode:
      EXPECT_EQ(source.size(), codec.max_layer_bytes(job.layout));
      out.resize(job.layout.layer_bytes());
      if (codec.decode({job.layout}, source, out) != Code::ok) return std::nullopt;
      return out;
    default:
      out.assign(source.begin(), source.end());
      return out;
  }
}

}  // namespace

std::optional<std::uint64_t> Memories::page(const Pages& pages,
                                            std::uint64_t number) const {
  const std::uint64_t at = pages.list + 8 * number - kLists;
  if (at > kListBytes - 8) return std::nullopt;
  return load_le<std::uint64_t>(lists.data() + at) >> pages.shift << pages.shift;
}

std::vector<Range> Memories::pieces(const Range& range, const Pages& pages) const {
  if (!pages.there) return {range};
  std::vector<Range> all;
  const std::uint64_t size = 1ULL << pages.shift;
  for (std::uint64_t done = 0; done < range.bytes;) {
    const std::uint64_t at = range.first + done, within = at % size;
    const std::uint64_t bytes = std::min(size - within, range.bytes - done);
    const auto base = page(pages, at / size);
    all.push_back({false, base ? *base + within : kLists - kHost, bytes});
    done += bytes;
  }
  return all;
}

Done carry_out(const Job& job, Memories& memories) {
  Done done;
  std::vector<std::byte> source;
  if (job.kind != Job::fill) {
    for (const Range& piece : memories.pieces(job.source, job.source_pages)) {
      const MutableBytes bytes = memories.at(piece);
      done.read_error = done.read_error || bytes.empty();
      source.insert(source.end(), bytes.begin(), bytes.end());
    }
    if (done.read_error) return done;
    done.crc = crc32c(0, source);
  }
  if (job.kind == Job::check || job.kind == Job::stage) return done;
  const bool codes = job.kind == Job::encode || job.kind == Job::decode;
  if (codes) {
    EXPECT_EQ(job.unit_bytes, job.layout.tokens * job.layout.head_dim * 2);
  }
  const auto out = output(job, source);
  done.bad = !out;
  if (done.bad) return done;
  if (job.kind == Job::encode) done.crc = crc32c(0, *out);
  if (job.nowhere && codes) return done;
  EXPECT_FALSE(job.nowhere);
  EXPECT_EQ(out->size(), job.target.bytes);
  const auto pieces = memories.pieces(job.target, job.target_pages);
  for (const Range& piece : pieces)
    done.write_error = done.write_error || memories.at(piece).empty();
  if (done.write_error) return done;
  auto from = out->begin();
  for (const Range& piece : pieces) {
    const MutableBytes to = memories.at(piece);
    std::copy_n(from, to.size(), to.begin());
    from += static_cast<std::ptrdiff_t>(to.size());
  }
  done.written = pieces;
  return done;
}

}  // namespace speckv::rtl

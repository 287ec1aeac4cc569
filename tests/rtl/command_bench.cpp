#include "rtl/command_bench.hpp"

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

Done carry_out(const Job& job, Memories& memories) {
  Done done;
  Bytes source;
  if (job.kind != Job::fill) {
    source = memories.at(job.source);
    done.read_error = source.empty();
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
  const MutableBytes to = memories.at(job.target);
  done.write_error = to.size() != out->size();
  if (done.write_error) return done;
  std::copy(out->begin(), out->end(), to.begin());
  done.written = job.target;
  return done;
}

}  // namespace speckv::rtl
